"""Every trouble that a lab can be asked for, by name, and how its numbers are read. Pure.

What they do is done in ``api.faults`` and ``calico.faults``.
"""

from __future__ import annotations

import math

#: Of the API server. Name, form of the value, and what it does.
API_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        "forbid",
        "VERB:RESOURCE,...",
        "requests like create:pods, patch:ippools.crd.projectcalico.org or create:pods/exec get "
        "403 for as long as the entry stands; * is any verb or resource",
    ),
    (
        "api-error",
        "CODE:COUNT[:VERB:RESOURCE]",
        "answers the next COUNT requests (of that kind) with CODE; the entry counts down",
    ),
    (
        "api-reset",
        "COUNT[:VERB:RESOURCE]",
        "cuts the connection of the next COUNT requests (of that kind) unanswered",
    ),
    ("api-delay", "SECONDS", "delays every answer by this much"),
    (
        "exec-drop",
        "COUNT",
        "cuts the next COUNT exec streams when the command ends, before its status",
    ),
    (
        "calico-apiserver-down",
        "true",
        "with API shape B, projectcalico.org/v3 gets 503 from kube-apiserver's aggregator, as when "
        "the pods' network is broken; crd.projectcalico.org/v1 goes on",
    ),
)

#: Of Calico, and of the operator. Name, form of the value, and what it does.
CALICO_FAULTS: tuple[tuple[str, str, str], ...] = (
    (
        "felix-restart-gap",
        "SECONDS",
        "when a tunnel family appears or disappears, every route that has to change is missing "
        "for this long, as while Felix restarts; new pods get the old MTU meanwhile",
    ),
    (
        "slow-convergence",
        "SECONDS",
        "nodes follow a change one after the other; the last one this much later than the first",
    ),
    ("routes-missing-on", "NODE,...", "the node has no routes to the other nodes' blocks"),
    (
        "stale-route-on",
        "NODE,...",
        "the node keeps the routes and devices that it has, whatever changes",
    ),
    (
        "one-direction",
        "NODE,...",
        "the other nodes have no routes to this node's blocks: it can send but gets no answer",
    ),
    ("wrong-mtu", "BYTES", "new pods get this MTU, whatever the tunnels need"),
    (
        "device-missing-on",
        "NODE,...",
        "the node has no vxlan.calico and no address on tunl0, and no routes through either",
    ),
    (
        "path-not-taken",
        "NODE,...",
        "what the node sends takes the other way than its routes say: direct to its own subnet "
        "instead of tunnelled, or tunnelled (where there is a tunnel) instead of direct",
    ),
    (
        "operator-delay",
        "SECONDS",
        "the operator notices edits of its Installation and of its pools this much later",
    ),
    (
        "operator-degraded",
        "REASON",
        "TigeraStatus ippools says Degraded with this message, and the operator rules no pools",
    ),
)

NAMES = frozenset(name for name, _, _ in (*API_FAULTS, *CALICO_FAULTS))


def number(text: str) -> float:
    """The number that an entry gives; 0 for what is no finite number."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
