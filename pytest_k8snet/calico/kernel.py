"""One node's network state as its kernel tells it: links, counters, routes, neighbours, FDB.

Read by one command in a host-network pod, without privileges; parsed here. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_k8snet.calico.modes import Path
from pytest_k8snet.errors import ConnectError, K8sNetError, ToolError
from pytest_k8snet.tools import ip
from pytest_k8snet.tools.ip import Link

if TYPE_CHECKING:
    from pytest_k8snet.cluster.exec import Completed


#: The devices of the tunnelled paths; Calico gives them these names everywhere.
TUNNEL_DEVICES: dict[Path, str] = {"vxlan": "vxlan.calico", "ipip": "tunl0"}

# Everything in one exec, as each one costs a round trip. Arguments: the address of a pod on this
# node, or "-", and the destinations. A route is looked up as the kernel would forward a packet
# from that pod, because policy rules may tell it apart from the node's own packets.
_SCRIPT = """\
section() { printf '\\036%s\\n' "$*"; }
pod=$1; shift
section links; ip -j -s -d address show || exit
section neighbours; ip -j neighbour show dev vxlan.calico 2>/dev/null
section fdb; bridge -j fdb show dev vxlan.calico 2>/dev/null
device=
if [ "$pod" != - ]; then
  section "route $pod"; ip -j route get "$pod" 2>&1
  device=$(ip -o route get "$pod" | sed -n 's/^[^ ]* dev \\([^ ]*\\) .*/\\1/p')
fi
for destination; do
  section "route $destination"; ip -j route get "$destination" 2>&1
  if [ -n "$device" ]; then
    section "forward $destination"; ip -j route get "$destination" from "$pod" iif "$device" 2>&1
  fi
done
exit 0
"""


def argv(*, pod_address: str | None, destinations: Sequence[str]) -> list[str]:
    """The command that prints a node's state.

    Args:
        pod_address: a pod on the node whose packets are of interest; None for the node's own.
        destinations: addresses whose routes are of interest.
    """
    return ["sh", "-c", _SCRIPT, "k8snet", pod_address or "-", *dict.fromkeys(destinations)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The kernel's answer to where a packet would go; ``error`` if it has no way."""

    destination: str
    device: str = ""
    gateway: str = ""
    source: str = ""
    error: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"{self.destination}: {self.error}"
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{self.destination}{via} dev {self.device}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelState:
    """What one node's kernel said at one moment."""

    node: str
    links: Mapping[str, Link]
    #: The node's own packets, by destination.
    routes: Mapping[str, Route]
    #: Packets forwarded for the pod that was asked for, by destination.
    forwarded: Mapping[str, Route]
    #: On ``vxlan.calico``: tunnel address -> MAC.
    neighbours: Mapping[str, str]
    #: On ``vxlan.calico``: MAC -> node address; None if the image has no ``bridge`` command.
    fdb: Mapping[str, str] | None

    def route(self, destination: str) -> Route:
        """Where a packet to this destination goes: as forwarded for the pod, if that was asked."""
        known = self.forwarded.get(destination) or self.routes.get(destination)
        return known or Route(destination=destination, error="not asked")

    def link_of(self, address: str) -> Link | None:
        """The device that owns an address, e.g. the NIC of the node's own."""
        return next((link for link in self.links.values() if address in hosts(link)), None)


def hosts(link: Link) -> list[str]:
    """A device's IPv4 addresses without their prefix lengths."""
    return [one.partition("/")[0] for one in link.addresses if ":" not in one]


def parse(node: str, stdout: str, *, stderr: str = "", exit_code: int | None = None) -> KernelState:
    """Read what the command of :func:`argv` printed.

    Raises:
        ToolError: the output cannot be read.
        ToolMissingError: the image has no ``ip``.
    """
    sections = dict(_sections(stdout))
    links = ip.parse_links(sections.get("links", ""), stderr=stderr, exit_code=exit_code)
    return KernelState(
        node=node,
        links=links,
        routes=_routes(sections, "route "),
        forwarded=_routes(sections, "forward "),
        neighbours=dict(_pairs(sections.get("neighbours", ""), "dst", "lladdr")),
        fdb=(
            dict(_pairs(sections["fdb"], "mac", "dst"))
            if sections.get("fdb", "").startswith("[")
            else None
        ),
    )


def _sections(stdout: str) -> list[tuple[str, str]]:
    pieces = stdout.split("\x1e")[1:]
    return [(head.strip(), body.strip()) for head, _, body in (p.partition("\n") for p in pieces)]


def _routes(sections: Mapping[str, str], prefix: str) -> dict[str, Route]:
    return {
        name.removeprefix(prefix): _route(name.removeprefix(prefix), body)
        for name, body in sections.items()
        if name.startswith(prefix)
    }


def _route(destination: str, body: str) -> Route:
    try:
        found = ip.parse_route(body, destination)
    except ToolError as exc:
        return Route(destination=destination, error=exc.found or exc.problem)
    return Route(
        destination=destination,
        device=found.device,
        gateway=found.gateway,
        source=found.source,
    )


def _pairs(body: str, key: str, value: str) -> Iterator[tuple[str, str]]:
    try:
        entries = json.loads(body)
    except ValueError:
        return  # the device does not exist, or the image has no such command
    for entry in entries:
        if key in entry and value in entry:
            yield str(entry[key]), str(entry[value])


# -- Reads the kernel state of nodes through shells in host-network pods, several at a time -------

#: Runs a command in a host-network pod on one node.
Shell = Callable[[Sequence[str]], "Completed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of one node: the routes to destinations, as for a pod's packets if given."""

    destinations: tuple[str, ...] = ()
    pod_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The states of the nodes that answered, and why the others didn't."""

    states: Mapping[str, KernelState] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)


class Prober:
    """Asks nodes for their state.

    Args:
        shells: per node name; a node without one cannot be asked.
    """

    def __init__(self, shells: Mapping[str, Shell]) -> None:
        self._shells = shells
        self._pool = ThreadPoolExecutor(max_workers=8, thread_name_prefix="k8snet-probe")

    def can_ask(self, node: str) -> bool:
        """Whether there is a shell on a node."""
        return node in self._shells

    def ask(self, questions: Mapping[str, Question]) -> Answers:
        """Ask several nodes at once; a node that can't be read is in ``missing``.

        Raises:
            ConnectError: the API server does not answer, so no node can be asked.
        """
        done = self.each(
            {
                node: argv(pod_address=one.pod_address, destinations=one.destinations)
                for node, one in questions.items()
                if node in self._shells
            }
        )
        states: dict[str, KernelState] = {}
        missing = {
            node: "no host-network pod on this node, so its kernel was not read"
            for node in questions
            if node not in self._shells
        }
        for node, told in done.items():
            try:
                states[node] = _state(node, told)
            except K8sNetError as exc:
                missing[node] = f"{exc.problem}: {exc.found}" if exc.found else exc.problem
        return Answers(states=states, missing=missing)

    def each(self, commands: Mapping[str, Sequence[str]]) -> dict[str, Completed | K8sNetError]:
        """Run a command on each of several nodes at once; what could not be run is its error.

        Raises:
            ConnectError: the API server does not answer.
        """
        futures = {
            node: self._pool.submit(self._shells[node], argv) for node, argv in commands.items()
        }
        done: dict[str, Completed | K8sNetError] = {}
        for node, future in futures.items():
            try:
                done[node] = future.result()
            except ConnectError:
                raise
            except K8sNetError as exc:
                done[node] = exc
        return done

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _state(node: str, told: Completed | K8sNetError) -> KernelState:
    if isinstance(told, K8sNetError):
        raise told
    return parse(node, told.stdout, stderr=told.stderr, exit_code=told.exit_code)
