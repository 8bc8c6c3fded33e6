"""Trouble on request: every fault that a lab can be asked for, and what it does.

The config map ``kube-system/k8snet-lab-faults`` holds faults by name, and always says what is still
to come: an entry that counts goes down, and to delete one ends its fault. The API server asks
:class:`ApiFaults` about each request, Calico's controllers ask :class:`CalicoFaults` what to do to
nodes.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import IPv4Network

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.request import Target
from pytest_k8snet.lab.api.resources import CALICO_V3
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.dataplane.felix import (
    IPIP_DEVICE,
    PROTO_BIRD,
    VXLAN_DEVICE,
    Datastore,
    NodeState,
)

#: The config map.
NAMESPACE, NAME = "kube-system", "k8snet-lab-faults"

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
        "kube-proxy-lag",
        "SECONDS",
        "nodes follow a change of Services one after the other; the last one this much later",
    ),
    ("pod-start-delay", "SECONDS", "each pod's sandbox takes this much longer"),
    ("namespace-end-delay", "SECONDS", "a namespace that is empty stays this much longer"),
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
        "Felix takes at least this long to restart when a tunnel family appears or goes: its "
        "devices and routes change only then, and new pods get the old MTU meanwhile",
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
        "kernel-lacks",
        "FAMILY[:NODE],...",
        "the kernel of the node (of all nodes) has no vxlan or no ipip driver: Felix gets "
        "`operation not supported`, says so in calico-node's log, and tries again for ever",
    ),
    (
        "path-not-taken",
        "NODE,...",
        "what the node sends takes the other way than its routes say: direct to its own subnet "
        "instead of tunnelled, or tunnelled (where there is a tunnel) instead of direct",
    ),
    (
        "foreign-overlay-on",
        "NODE,...",
        "what these would send direct goes into another CNI's VXLAN device, flannel.1",
    ),
    (
        "fabric-drops",
        "PATH,...",
        "the network between the nodes drops what takes this path: vxlan (its UDP port), ipip (IP "
        "protocol 4) or direct (bare pod addresses), while routes and devices are right",
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


def _asked_for(store: Store) -> Object:
    """The data of the config map: every fault that is asked for at this moment."""
    try:
        return dict(dig(store.get("configmaps", NAME, NAMESPACE), "data", {}))
    except StatusError:
        return {}


def calico_api_server_is_down(store: Store) -> bool:
    """Whether the aggregated Calico API server is cut off from kube-apiserver."""
    return store.calico.api_shape == "B" and "calico-apiserver-down" in _asked_for(store)


def delay_seconds(store: Store, fault: str) -> float:
    """How long a component is asked to take: a fault whose value is a number of seconds."""
    return _number(_asked_for(store), fault)


class Cut(Exception):  # noqa: N818 -- not an error of ours: the connection is to break off
    """The connection is to be cut without an answer."""


class CutOff(Exception):  # noqa: N818 -- the aggregator's answer, which is no Status object
    """The server behind this API group cannot be reached."""


class ApiFaults:
    """What the API server is asked to do wrong.

    Requests for the config map itself are never disturbed, so that trouble can be ended.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def delay_seconds(self) -> float:
        """How long every answer is to be delayed."""
        return _number(_asked_for(self._store), "api-delay")

    def cut_off_groups(self) -> frozenset[str]:
        """The API groups whose server cannot be reached."""
        return frozenset({CALICO_V3} if calico_api_server_is_down(self._store) else ())

    def allows(self, verb: str, resource: str) -> bool:
        """Whether the rules of access allow a verb on a resource (``pods``, ``pods/exec``)."""
        for rule in str(_asked_for(self._store).get("forbid", "")).split(","):
            denied_verb, _, denied_resource = rule.strip().partition(":")
            if denied_verb in ("*", verb) and denied_resource in ("*", resource):
                return False
        return True

    def check(self, target: Target) -> None:
        """Let a request pass, or not.

        Raises:
            StatusError: the error that was asked for.
            Cut: the connection is to be cut.
            CutOff: the server behind the request's API group cannot be reached.
        """
        if target.resource.key == "configmaps" and target.name == NAME:
            return
        if target.resource.group in self.cut_off_groups():
            raise CutOff
        if self._take("api-reset", target):
            raise Cut
        code = int(self._take("api-error", target) or 0)
        if code == 401:
            raise status.unauthorized()
        if code:
            raise StatusError(
                code,
                status.REASONS.get(code, ""),
                f"the lab was asked for this error by the config map {NAMESPACE}/{NAME}",
                retry_after_seconds=1 if code in (429, 503) else None,
            )

    def takes_exec_stream(self) -> bool:
        """Whether this exec stream is one of those to be cut."""
        return bool(self._take("exec-drop", None))

    def _take(self, fault: str, target: Target | None) -> str:
        """Use up one count of a fault; what it says (the code, or ``1``), or empty."""
        text = str(_asked_for(self._store).get(fault, ""))
        if not text:
            return ""
        parts = text.split(":")
        code = parts.pop(0) if fault == "api-error" else "1"
        count = int(parts[0]) if parts and parts[0].isdigit() else 1
        rule = tuple(parts[1:3])
        if target is not None and rule and rule != target.rule:
            return ""
        left = ":".join([*([code] if fault == "api-error" else []), str(count - 1), *rule])

        def count_down(config_map: Object) -> None:
            if count > 1:
                config_map["data"][fault] = left
            else:
                del config_map["data"][fault]

        self._store.mutate("configmaps", NAME, NAMESPACE, count_down)
        return code


@dataclass(frozen=True, slots=True, kw_only=True)
class CalicoFaults:
    """What nodes and the operator are asked to do wrong; the defaults are nothing."""

    felix_restart_gap_seconds: float = 0.0
    slow_convergence_seconds: float = 0.0
    wrong_mtu_bytes: int | None = None
    routes_missing_on: frozenset[str] = field(default_factory=frozenset)
    stale_route_on: frozenset[str] = field(default_factory=frozenset)
    one_direction: frozenset[str] = field(default_factory=frozenset)
    device_missing_on: frozenset[str] = field(default_factory=frozenset)
    kernel_lacks: frozenset[str] = field(default_factory=frozenset)
    path_not_taken: frozenset[str] = field(default_factory=frozenset)
    foreign_overlay_on: frozenset[str] = field(default_factory=frozenset)
    fabric_drops: frozenset[str] = field(default_factory=frozenset)
    operator_delay_seconds: float = 0.0
    operator_degraded: str = ""

    @classmethod
    def asked_for(cls, store: Store) -> CalicoFaults:
        """Those that are asked for at this moment."""
        return cls.read(_asked_for(store))

    @classmethod
    def read(cls, data: Mapping[str, str]) -> CalicoFaults:
        """Read the config map's data; what is not of ours, or cannot be read, is passed over."""
        return cls(
            felix_restart_gap_seconds=_number(data, "felix-restart-gap"),
            slow_convergence_seconds=_number(data, "slow-convergence"),
            wrong_mtu_bytes=int(_number(data, "wrong-mtu")) or None,
            operator_delay_seconds=_number(data, "operator-delay"),
            operator_degraded=data.get("operator-degraded", ""),
            **{name: _names(data, name.replace("_", "-")) for name in _OF_NAMES},
        )

    def lacking(self, node: str) -> frozenset[str]:
        """The tunnels that a node's kernel has no driver for."""
        return frozenset(
            one for one in ("vxlan", "ipip") if {one, f"{one}:{node}"} & self.kernel_lacks
        )

    def spoil(self, state: NodeState, node: str, data: Datastore) -> NodeState:
        """What is left of a node's desired state under these faults."""
        lacking = self.lacking(node)
        if node in self.device_missing_on:
            lacking = frozenset(("vxlan", "ipip"))
        if "vxlan" in lacking:
            state = replace(state, vxlan=None, vteps=frozenset())
            state = _without_routes(state, devices={VXLAN_DEVICE})
        if "ipip" in lacking:
            state = _without_routes(replace(state, ipip=None), devices={IPIP_DEVICE})
        if node in self.routes_missing_on:
            kept = frozenset(route for route in state.routes if route.blackhole)
            state = replace(state, routes=kept)
        host = data.host(node)
        if node in self.foreign_overlay_on and host is not None:
            state = _without_routes(state, devices={host.wire, host.device})
        cut_off = {
            block.cidr
            for block in data.blocks
            if block.node != node and block.node in self.one_direction
        }
        if cut_off:
            state = _without_routes(state, destinations=cut_off)
        return state

    def convergence_delays(self, nodes: list[str]) -> dict[str, float]:
        """How long each node waits before it follows a change, in seconds."""
        last = max(1, len(nodes) - 1)
        return {
            node: self.slow_convergence_seconds * index / last for index, node in enumerate(nodes)
        }


#: Those whose value is a list of names.
_OF_NAMES = [one.name for one in fields(CalicoFaults) if one.default_factory is frozenset]


def during_restart(old: NodeState, new: NodeState) -> NodeState:
    """What a node holds while its Felix restarts: old devices, what stays, and BIRD's routes."""
    birds = {route for route in new.routes if route.protocol == PROTO_BIRD}
    return replace(old, routes=(old.routes & new.routes) | birds)


def _without_routes(
    state: NodeState,
    *,
    devices: set[str] | None = None,
    destinations: set[IPv4Network] | None = None,
) -> NodeState:
    kept = frozenset(
        route
        for route in state.routes
        if route.device not in (devices or ()) and route.destination not in (destinations or ())
    )
    return replace(state, routes=kept)


def _number(data: Mapping[str, str], name: str) -> float:
    """The number that an entry gives; 0 for what is no finite number."""
    try:
        found = float(data.get(name, "0"))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0


def _names(data: Mapping[str, str], name: str) -> frozenset[str]:
    words = data.get(name, "").split(",")
    return frozenset(word.strip() for word in words if word.strip())


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Break a connection off, as a lost network would; one that is closed already is fine."""
    if isinstance(transport, asyncio.WriteTransport):
        # Early Python 3.11, as Debian 12 has it, says so of TLS that has been closed before.
        with contextlib.suppress(AttributeError):
            transport.abort()
