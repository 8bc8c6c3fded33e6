"""Whether the nodes under test are ready for a mode: before there are pods, and for a pair of them.

Nodes without a host-network pod, and dataplanes that forward beside the kernel's routes, give no
mismatch by their kernels: there the API is all that can be asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from ipaddress import IPv4Network
from itertools import permutations
from types import MappingProxyType
from typing import TYPE_CHECKING

from pytest_k8snet.calico.installation import (
    V1,
    V3,
    ApiGroup,
    Installation,
    IPPool,
    calico_path,
    ipv4_network,
)
from pytest_k8snet.calico.kernel import (
    NO_HOST_POD,
    TUNNEL_ANNOTATIONS,
    MissingDevice,
    NodeState,
    Prober,
    Question,
    device_mismatches,
    route_mismatches,
    support_argv,
    vxlan_peer_mismatches,
)
from pytest_k8snet.calico.modes import CalicoMode, Family, families_of
from pytest_k8snet.calico.path import (
    PathSnapshot,
    direction_mismatches,
    directions_of,
)
from pytest_k8snet.causes import Cause, Evidence, causes_of
from pytest_k8snet.change.pools import pool_mismatches
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.errors import (
    ExecError,
    ForbiddenError,
    K8sNetError,
    NotConvergedError,
    NotFoundError,
    ToolMissingError,
    ToolNotRunnableError,
)
from pytest_k8snet.tools.tool import Payload

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.nodes import Node


class NodeReadiness:
    """Looks at the nodes under test.

    Attributes:
        seen: these nodes as they were last read, by name: calico-node annotates them anew when
            pools come and go.
    """

    def __init__(self, api: Api, *, nodes: Sequence[Node], prober: Prober) -> None:
        self._api = api
        self._nodes = {node.name: node for node in nodes}
        self._prober = prober
        self.seen: dict[str, Node] = dict(self._nodes)

    def readable(self) -> list[str]:
        """Return the names of the nodes whose kernels can be read."""
        return list(self._prober.ask(dict.fromkeys(self._nodes, Question())).states)

    def mismatches(
        self,
        installation: Installation,
        modes: Collection[CalicoMode],
        *,
        pool: IPPool | None = None,
        group: ApiGroup | None = None,
        blocks: Mapping[str, IPv4Network] = MappingProxyType({}),
    ) -> list[str]:
        """Return what is still missing for pods to be made in these modes.

        Args:
            installation: with the pools as they shall be.
            modes: the modes that were just written.
            pool: the pool that is flipped in place.
            group: the group to read it through; None: it is known to be in this mode.
            blocks: its blocks, as of :meth:`blocks`; their routes are looked at, too.
        """
        if pool is not None and group is not None:
            wrong = pool_mismatches(self._api, group, pool.name, pool.mode)
            if wrong:
                return wrong
        required, allowed = families_of(modes), installation.families()
        # Host-local IPAM: it stays whatever the pools do (``node/pkg/allocateip/allocateip.go``,
        # v3.28: with K8sUsePodCIDR it is the first address of the node's range).
        static = installation.ipam == "HostLocal"
        mismatches = list(self._annotation_mismatches(required, allowed, static=static))
        # An address that stands for a block: its route is the block's, whether a pod has it or not.
        probed = {name: str(block[-1]) for name, block in blocks.items()}
        answers = self._prober.ask(
            {
                name: Question(destinations=tuple(probed[one] for one in probed if one != name))
                for name in self._nodes
            }
        )
        mismatches += _unreadable(answers.missing)
        states = [
            NodeState(node=self._nodes[name], kernel=state)
            for name, state in answers.states.items()
        ]
        flow_based = not installation.routes_prove
        for one in states:
            mismatches += device_mismatches(
                one, required=required, allowed=allowed, flow_based=flow_based
            )
        if flow_based:
            return mismatches
        for sender, receiver in permutations(states, 2):
            if "vxlan" in required:
                mismatches += vxlan_peer_mismatches(sender, receiver)
            address = probed.get(receiver.node.name)
            if address is not None and pool is not None:
                path = pool.mode.path(sender.node.same_subnet(receiver.node))
                mismatches += route_mismatches(path, address, sender, receiver, installation.nodes)
        return mismatches

    def look_closer(self, mismatches: Sequence[str]) -> list[str]:
        """Ask the nodes that lack a tunnel's device whether their kernels have such tunnels."""
        lacking = [one for one in mismatches if isinstance(one, MissingDevice)]
        commands = {one.node: support_argv(one.family) for one in lacking}
        without = {
            node
            for node, said in self._prober.each(commands).items()
            if not isinstance(said, K8sNetError) and said.stdout.strip() == "none"
        }
        return [
            Evidence(f"{one}: its kernel supports no {one.family.upper()}", Cause.NO_KERNEL_SUPPORT)
            if isinstance(one, MissingDevice) and one.node in without
            else one
            for one in mismatches
        ]

    def _annotation_mismatches(
        self, required: Collection[Family], allowed: Collection[Family], *, static: bool
    ) -> Iterator[str]:
        # Only these: it is asked at every look, and a cluster may have thousands.
        hostnames = {node.hostname for node in self._nodes.values()}
        self.seen = {node.name: node for node in list_nodes(self._api, hostnames=hostnames)}
        for node in self.seen.values():
            for family, annotation in TUNNEL_ANNOTATIONS.items():
                address = node.annotations.get(annotation)
                if family in required and not address:
                    text = f"{node.name} has no {family.upper()} tunnel address yet"
                    yield Evidence(text, Cause.NO_TUNNEL_ADDRESS)
                elif address and family not in allowed and not static:
                    yield f"{node.name} still has {family.upper()} address {address}"

    def blocks(self, installation: Installation, pool: IPPool) -> dict[str, IPv4Network]:
        """Return one block of a pool per node under test, as far as the API shows them.

        A mode moves none of them, so once is enough.
        """
        group = V3 if installation.shape == "C" else V1
        try:
            blocks = self._api.list(calico_path(group, "ipamblocks"))
        except (ForbiddenError, NotFoundError):
            return {}
        found: dict[str, IPv4Network] = {}
        for block in blocks:
            spec = block.get("spec") or {}
            network = ipv4_network(spec.get("cidr"))
            node = str(spec.get("affinity") or "").removeprefix("host:")
            if node in self._nodes and network is not None and network.subnet_of(pool.cidr):
                found.setdefault(node, network)
        return found


def pair_mismatches(snapshot: PathSnapshot, installation: Installation) -> list[str]:
    """Return what keeps a pair's packets from the promised path, in both directions."""
    if snapshot.missing or not installation.routes_prove:
        return _unreadable(snapshot.missing)
    return [
        mismatch
        for direction in directions_of(snapshot, Payload(), installation.pools)
        for mismatch in direction_mismatches(direction, snapshot, installation.nodes)
    ]


def _unreadable(missing: Mapping[str, str]) -> list[str]:
    return [f"{node}: {why}" for node, why in missing.items() if why != NO_HOST_POD]


# -- Waiting until a check has no mismatch, and goes on having none for a while --------------------

#: How often the state is looked at: at first nearly at once, later once a second, in seconds.
_FIRST_PAUSE_SECONDS = 0.03
_LONGEST_PAUSE_SECONDS = 1.0
_BACKOFF = 1.4
#: Bounds of the window in which a state must stay good, in seconds.
SHORTEST_WINDOW_SECONDS = 0.25
LONGEST_WINDOW_SECONDS = 10.0
#: For how long evidence that waiting changes nothing must have been the only one, in seconds: nodes
#: of a recorded cluster (v3.33) had done everything within four.
HOPELESS_SECONDS = 20.0
#: How often it is looked at more closely meanwhile, in seconds.
_CLOSER_SECONDS = 5.0


def wait_until_good(
    check: Callable[[], Sequence[str]],
    *,
    what: str,
    timeout_seconds: float,
    stability_seconds: float | None = None,
    otherwise: Cause = Cause.CALICO_NODE,
    look_closer: Callable[[Sequence[str]], Sequence[str]] = lambda wrong: wrong,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until ``check`` returns no mismatch, and none for a window after that.

    Felix may restart a second time right after the first, so being good once proves nothing. The
    window is in proportion to what the cluster took: twice the time until the state was first
    good, within bounds. A fast dataplane is not held up by what a slow one needs.

    Args:
        check: looks at the state; returns what is still wrong, in words.
        what: what is waited for, for the message.
        timeout_seconds: for all of it.
        stability_seconds: the window, if it is to be another.
        otherwise: what a time-out points to where the mismatches tell nothing.
        look_closer: asks more about mismatches that stay, and returns them with what they point to.
        clock: tells the time in seconds.
        sleep: waits.

    Raises:
        NotConvergedError: names what was expected and what was found last, and the cause that it
            points to. Before the time-out where waiting longer would change nothing.
    """
    begun = clock()
    pause = _FIRST_PAUSE_SECONDS
    good_since: float | None = None
    relapses = 0
    hopeless_since: float | None = None
    closer_at = begun + _CLOSER_SECONDS
    while True:
        # A state counts from when it was asked for: how long the answer takes is no matter of it.
        asked = clock()
        mismatches = _mismatches(check)
        now = clock()
        if mismatches:
            relapses += good_since is not None
            good_since = None
        elif good_since is None:
            good_since = asked
            pause = _FIRST_PAUSE_SECONDS
        if good_since is not None:
            window = (
                min(
                    LONGEST_WINDOW_SECONDS,
                    max(SHORTEST_WINDOW_SECONDS, 2 * (good_since - begun)),
                )
                if stability_seconds is None
                else stability_seconds
            )
            if now - good_since >= window:
                return
        # A state that is good is not cut short in its window; one that is bad is.
        late = now - begun > timeout_seconds
        if mismatches and (late or now >= closer_at):
            mismatches = look_closer(mismatches)
            closer_at = clock() + _CLOSER_SECONDS
            hopeless_since = (hopeless_since or now) if _hopeless(mismatches) else None
        elif not mismatches:
            hopeless_since = None
        hopeless = hopeless_since is not None and now - hopeless_since >= HOPELESS_SECONDS
        if mismatches and (late or hopeless):
            raise NotConvergedError(
                f"{what}: not there after {timeout_seconds if late else now - begun:.3g} s",
                found="\n".join(mismatches),
                remedy=(*causes_of(mismatches), otherwise)[0].remedy,
            )
        if relapses and now - begun > 2 * timeout_seconds:
            raise NotConvergedError(
                f"{what}: it was there, but did not stay",
                found=f"good and bad again {relapses} times in {now - begun:.0f} s",
                remedy=otherwise.remedy,
            )
        sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * _BACKOFF)


def _hopeless(mismatches: Sequence[str]) -> bool:
    """Whether nothing is wrong that waiting could still change."""
    known = causes_of(mismatches)
    told = all(isinstance(one, Evidence) for one in mismatches)
    # Routes follow devices.
    return (
        told
        and any(one.final for one in known)
        and all(one.final or one is Cause.NO_ROUTE for one in known)
    )


def _mismatches(check: Callable[[], Sequence[str]]) -> Sequence[str]:
    try:
        return check()
    except (ToolMissingError, ToolNotRunnableError):
        raise
    except (ExecError, ServerBusyError) as exc:
        # The way to a node, or to the Calico API server, whose pods are on the overlay themselves,
        # may be cut for the moment that the dataplane changes.
        return [f"{exc.problem}: {exc.found}" if exc.found else exc.problem]
