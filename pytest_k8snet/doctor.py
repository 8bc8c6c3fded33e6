"""What a cluster is, which modes its pairs can have, what that would change, what is missing."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from itertools import islice
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import V1, ApiGroup, Installation, owners_of
from pytest_k8snet.calico.kernel import TUNNEL_FAMILIES, Shell, support_argv
from pytest_k8snet.calico.modes import STUDY_ORDER, CalicoMode, families_of
from pytest_k8snet.change.addresses import masquerade
from pytest_k8snet.change.decision import ChangeSettings, Decision, Strategy, decide
from pytest_k8snet.change.journal import JournalStore
from pytest_k8snet.change.lease import STATE_NAMESPACE, current_holder
from pytest_k8snet.change.pools import plan_pools
from pytest_k8snet.change.readiness import LONGEST_WINDOW_SECONDS, SHORTEST_WINDOW_SECONDS
from pytest_k8snet.change.session import IN_PLACE_SECONDS
from pytest_k8snet.cluster import access
from pytest_k8snet.cluster.access import LEVELS, Level
from pytest_k8snet.cluster.nodes import Node, choose_nodes
from pytest_k8snet.errors import ApiError, K8sNetError, ModeUnavailableError, NodesError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_WINDOW = (
    "once it has stayed good for twice the time that it took, "
    f"{SHORTEST_WINDOW_SECONDS:g} s to {LONGEST_WINDOW_SECONDS:g} s "
    "(pytest -o k8snet_stability=SECONDS sets another window)"
)
#: How many lines of one kind are told one by one.
_MOST_LINES = 10
_Modes: TypeAlias = Mapping[CalicoMode, Mapping[Strategy, Decision | str]]
_STRATEGIES: tuple[Strategy, ...] = ("none", "dedicated", "in-place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found; nothing was changed.

    Attributes:
        usable: whether a run can measure here at all, in at least one mode.
        verdict: the same in one line, with how many modes or with the reason why not.
        modes: for each mode and each ``--k8snet-change`` how it would be had, or why not.
        fixtures: for each fixture why it would not work; empty where it would.
        sections: title and lines of each part.
    """

    usable: bool
    verdict: str
    modes: _Modes
    fixtures: Mapping[str, str]
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def text(self) -> str:
        """Return all of it, for a terminal; the verdict is the last line."""
        blocks = [
            "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in self.sections
        ]
        return "\n\n".join([*blocks, self.verdict])

    def to_json(self) -> dict[str, object]:
        """Return all of it, for programs."""
        return {
            "usable": self.usable,
            "verdict": self.verdict,
            "modes": {
                str(mode): {
                    strategy: {
                        "possible": isinstance(answer, Decision),
                        "pool": answer.pool.name
                        if isinstance(answer, Decision) and answer.pool
                        else None,
                        "reason": "" if isinstance(answer, Decision) else answer,
                    }
                    for strategy, answer in answers.items()
                }
                for mode, answers in self.modes.items()
            },
            "fixtures": {
                name: {"works": not reason, "reason": reason}
                for name, reason in self.fixtures.items()
            },
            "sections": {title: list(lines) for title, lines in self.sections},
        }


def examine(api: Api, *, namespace: str | None = None) -> Examination:
    """Examine a cluster for runs with pods in a namespace, or in one of their own. Changes nothing.

    Raises:
        ConnectError: the API server does not answer.
        UnauthorizedError: the credentials are not accepted.
    """
    installation = inspect(api)
    group = installation.group or V1
    report = access.check(
        api,
        namespace=namespace,
        state_namespace=STATE_NAMESPACE,
        calico_group=_name(group),
        stored_group=_name(V1 if installation.shape == "B" else group),
        nodes=installation.nodes,
    )
    nodes = [node for node in report.nodes if node.usable]
    modes = {
        mode: {strategy: _attempt(installation, strategy, mode, nodes) for strategy in _STRATEGIES}
        for mode in STUDY_ORDER
    }
    counts = {strategy: _count(modes, report, strategy) for strategy in _STRATEGIES}
    possible = any(isinstance(one, Decision) for row in modes.values() for one in row.values())
    state, free = _state(api)
    reasons = [
        *report.problems,
        *(f"missing: {one}" for one in report.missing("measure")),
        *([] if possible else ["no mode can be had: see Modes"]),
        *([] if free else state),
    ]
    fixtures = _fixtures(report, nodes, counts)
    return Examination(
        usable=not reasons,
        verdict=_verdict(reasons, counts),
        modes=modes,
        fixtures=fixtures,
        sections=(
            ("Cluster", tuple(report.lines())),
            ("Calico", tuple(_calico(installation))),
            ("Pairs", tuple(_pairs(nodes))),
            ("Modes", tuple(_mode_table(modes))),
            ("Fixtures", tuple(_fixture_lines(fixtures))),
            (
                "What pytest --k8snet-change=dedicated would do",
                tuple(_wrapped(_plan_dedicated(installation, modes, nodes))),
            ),
            (
                "What pytest --k8snet-change=in-place:POOL would do",
                tuple(_wrapped(_plan_in_place(modes))),
            ),
            ("When a mode counts as entered", tuple(_wrapped([_WINDOW]))),
            ("Permissions", tuple(_permissions(report))),
            ("Other runs", tuple(state)),
        ),
    )


def _name(group: ApiGroup) -> str:
    return group.partition("/")[0]


def _calico(installation: Installation) -> Iterator[str]:
    if installation.shape is None:
        yield "none that the API shows"
        return
    yield (
        f"{installation.version_text or 'unknown version'}, {installation.install} install, "
        f"backend {installation.backend}, IPAM {installation.ipam}, "
        f"dataplane {installation.shown(installation.dataplane, 'iptables')}"
    )
    if not installation.routes_prove:
        yield (
            "routes prove nothing on this dataplane: with -o k8snet_wire_proof=true captures on "
            "the wire prove paths"
        )
    yield f"API shape {installation.shape}: pools are written through {installation.group}"
    mtu = installation.mtu_source
    yield f"pod MTU {'derived from the host and what is enabled' if mtu == 'auto' else mtu}"
    unread = any(topic.startswith("IPPools") for topic in installation.unknown)
    enabled = "unknown" if unread else ", ".join(sorted(installation.encapsulations()))
    yield f"enabled: {enabled or 'no encapsulation'}"
    for pool in installation.pools:
        owner = "the operator's" if installation.operator_reverts(pool) else "nobody reconciles it"
        owner = "who reconciles it is unknown" if installation.owner_unknown else owner
        kept = installation.operator_owners if owner == "the operator's" else owners_of(pool.raw)
        marks = [owner, *(f"kept by {one}" for one in kept)]
        marks += ["disabled"] if pool.disabled else []
        yield f"pool {pool.name} {pool.cidr} {pool.mode} ({', '.join(marks)})"
    for peer in installation.bgp.peers_outside:
        yield f"BGP with a router outside the cluster: {peer}"
    if not installation.v3_reachable and not unread:
        yield "the Calico API server does not answer: pools were read from their CRDs"
    if installation.operator_degraded:
        yield f"the operator's pools are degraded: {installation.operator_degraded}"
    for topic, reason in sorted(installation.unknown.items()):
        yield f"unknown: {topic}: {reason}"


def _pairs(nodes: Sequence[Node]) -> Iterator[str]:
    for wanted in ("same-subnet", "cross-subnet"):
        try:
            client, server = choose_nodes(nodes, wanted)
        except NodesError as exc:
            yield f"{wanted:<13} none: {exc.problem}"
        else:
            yield f"{wanted:<13} {client.name} -> {server.name}"
    yield from _most(
        f"{one.name} has a /32 prefix, so CrossSubnet modes encapsulate all that it sends"
        for one in nodes
        if one.interface is not None and one.interface.network.prefixlen == 32
    )
    yield from _most(
        f"{one.name} and {other.name} have prefixes that differ: CrossSubnet modes encapsulate in "
        "one direction only"
        for one, other in _half_beside(nodes)
    )


def _half_beside(nodes: Sequence[Node]) -> Iterator[tuple[Node, Node]]:
    """Return the pairs of which one alone sees the other in its subnet, without trying all."""
    by_network: dict[IPv4Network, list[Node]] = {}
    for node in nodes:
        if node.interface is not None:
            by_network.setdefault(node.interface.network, []).append(node)
    lengths = {network.prefixlen for network in by_network}
    for narrow, inside in by_network.items():
        for length in lengths:
            if length >= narrow.prefixlen:
                continue
            for one in by_network.get(narrow.supernet(new_prefix=length), ()):
                yield from ((other, one) for other in inside if not other.same_subnet(one))


def _most(lines: Iterable[str]) -> Iterator[str]:
    """Return the first lines, and how many more there are."""
    told = list(lines)
    yield from told[:_MOST_LINES]
    if len(told) > _MOST_LINES:
        yield f"and {len(told) - _MOST_LINES:,} more like this"


def _mode_table(modes: _Modes) -> Iterator[str]:
    notes: list[str] = []
    rows = [["mode", "same subnet", "between subnets", "in pool", "dedicated", "in-place"]]
    for mode, answers in modes.items():
        row = [str(mode), mode.path(same_subnet=True), mode.path(same_subnet=False)]
        for strategy, answer in answers.items():
            if isinstance(answer, Decision):
                row.append(answer.pool.name if strategy == "none" and answer.pool else "yes")
            elif strategy == "none":
                row.append("-")
            else:
                if answer not in notes:
                    notes.append(answer)
                row.append(f"no ({notes.index(answer) + 1})")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    for number, note in enumerate(notes, 1):
        yield from _wrapped([f"({number}) {note}"])


def _count(
    modes: _Modes,
    report: access.Report,
    strategy: Strategy,
) -> int:
    """In how many modes a run with this ``--k8snet-change`` could measure."""
    if strategy != "none" and report.missing(strategy):
        return 0
    return sum(isinstance(answers[strategy], Decision) for answers in modes.values())


def _verdict(reasons: Sequence[str], counts: Mapping[Strategy, int]) -> str:
    if reasons:
        more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
        return f"No run can measure here: {reasons[0]}{more}"
    of = len(STUDY_ORDER)
    return (
        f"A run can measure here, in {counts['none']} of {of} modes as it is, in "
        f"{counts['dedicated']} with --k8snet-change=dedicated, in {counts['in-place']} in place"
    )


def _fixtures(
    report: access.Report, nodes: Sequence[Node], counts: Mapping[Strategy, int]
) -> dict[str, str]:
    """Why each fixture would not work here; empty where it would."""

    def pair(wanted: Literal["any", "cross-subnet"]) -> str:
        try:
            choose_nodes(nodes, wanted)
        except NodesError as exc:
            return exc.problem
        return ""

    def lacking(level: Level) -> str:
        missing = report.missing(level)
        return f"missing: {', '.join(missing)}" if missing else ""

    measure = lacking("measure")
    two = measure or pair("any")
    one = measure or ("" if nodes else "no node is usable")
    modes = "" if any(counts.values()) else "no mode can be had: see Modes"
    changes = "" if counts["dedicated"] or counts["in-place"] else "nothing may be changed here"
    return {
        **dict.fromkeys(("pod_pair", "node_pair", "pod_to_node", "node_to_pod"), two),
        "same_node_pair": one,
        "cross_subnet_pair": measure or pair("cross-subnet"),
        **dict.fromkeys(("pod", "node"), one),
        "outside": "" if shutil.which("curl") else "no curl here: see --k8snet-outside",
        "web_service": one or lacking("service"),
        "calico_mode": two or modes,
        "switch_cost": two or changes,
    }


def _fixture_lines(fixtures: Mapping[str, str]) -> Iterator[str]:
    """Those that work on one line, each other with its reason."""
    works = ", ".join(name for name, reason in fixtures.items() if not reason)
    yield from _wrapped([f"these work: {works}" if works else "none works"])
    for name, reason in fixtures.items():
        if reason:
            yield from _wrapped([f"{name}: {reason}"])


def _attempt(
    installation: Installation,
    strategy: Strategy,
    mode: CalicoMode,
    nodes: Sequence[Node],
) -> Decision | str:
    """How a mode would be had; or in words why it cannot be."""
    pools = (one for one in installation.pools if one.offers_pod_addresses and not one.run_id)
    # The first that a run could flip, if there is one.
    pool = next((one.name for one in pools), "") if strategy == "in-place" else ""
    settings = ChangeSettings(strategy=strategy, pool=pool)
    try:
        return decide(installation, settings, mode=mode, nodes=nodes)
    except ModeUnavailableError as exc:
        return f"{exc.problem}: {exc.found}. {exc.remedy}" if exc.found else exc.problem


def _decisions(modes: _Modes, strategy: Strategy) -> dict[CalicoMode, Decision]:
    return {
        mode: decision
        for mode, answers in modes.items()
        if isinstance(decision := answers[strategy], Decision)
    }


def _plan_dedicated(
    installation: Installation, modes: _Modes, nodes: Sequence[Node]
) -> Iterator[str]:
    """What a run with pools of its own would do."""
    group = installation.group
    if group is None or len(nodes) < 2:
        yield "nothing: there is nothing to do it on"
        return
    decisions = _decisions(modes, "dedicated")
    try:
        pools = plan_pools(
            installation,
            group=group,
            modes=decisions,
            nodes=nodes,
            every_node=installation.nodes,
            run_id="RUN",
            within=ChangeSettings().cidr,
        )
    except ModeUnavailableError as exc:
        yield f"{exc.problem}: {exc.found}. {exc.remedy}"
        return
    cidrs = (str(pool["spec"]["cidr"]) for pool in pools.values())
    yield from filter(None, (masquerade(installation, cidr) for cidr in islice(cidrs, 1)))
    for pool in pools.values():
        yield f"create IPPool {pool['metadata']['name']} {pool['spec']['cidr']}, deleted at the end"
    # One note is said of all modes that it concerns.
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    restarts = families_of(decisions) - installation.families()
    yield "existing pools are not touched" + (
        "; Felix restarts again at the end" if restarts else ""
    )


def _plan_in_place(modes: _Modes) -> Iterator[str]:
    """What a run that flips the first pool that can be flipped would do."""
    decisions = _decisions(modes, "in-place")
    decision = next(iter(decisions.values()), None)
    if decision is None or decision.pool is None:
        yield "nothing: see above"
        return
    where = (
        "the encapsulation of its entry in the operator's Installation"
        if decision.writer == "installation"
        else f"both mode fields of the pool, through {decision.group}"
    )
    yield (
        "try each mode in a pool of the run's own first, with a pod on each node that the change "
        "would hit; a mode in which payload does not arrive there is refused"
    )
    yield f"on pool {decision.pool.name}: write {where}, and the original back at the end"
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    yield (
        "connections through the pool may stall at each switch; where the mode does not come "
        f"within {IN_PLACE_SECONDS:g} s, the original is put back at once"
    )


def _wrapped(texts: Iterable[str]) -> Iterator[str]:
    """Lines that fit a terminal."""
    for text in texts:
        yield from textwrap.wrap(text, 92, subsequent_indent="    ", break_on_hyphens=False)


def kernel_lines(shells: Mapping[str, Shell]) -> Iterator[str]:
    """Say of each node which tunnels its kernel has drivers of, as far as it tells.

    Args:
        shells: what runs a command on a node, by the node's name.
    """
    for node, shell in shells.items():
        found: dict[str, list[str]] = {}
        for family in TUNNEL_FAMILIES:
            try:
                said = shell(support_argv(family)).stdout.strip()
            except K8sNetError:
                said = "unknown"
            found.setdefault(said, []).append(family.upper())
        told = [
            f"{words} {' and '.join(found[said])}"
            for said, words in (
                ("some", "has"),
                ("unknown", "does not tell whether it has"),
                ("none", "has not loaded"),
            )
            if said in found
        ]
        if "none" in found:
            told[-1] += " (`modprobe --dry-run` on the node tells whether it could)"
        yield f"kernel     {node} {', '.join(told)}"


def _permissions(report: access.Report) -> Iterator[str]:
    for level in LEVELS:
        missing = report.missing(level)
        yield f"{level:<10} {'all granted' if not missing else 'missing: ' + ', '.join(missing)}"
    if absent := report.missing_optional():
        yield f"optional   missing: {', '.join(absent)}"


def _state(api: Api) -> tuple[list[str], bool]:
    try:
        holder = current_holder(api)
        journal = JournalStore(api).read()
    except ApiError as exc:
        return [f"unknown: {exc.problem}"], True
    except K8sNetError as exc:
        return [exc.problem, f"to do: {exc.remedy}"], False
    if journal is not None:
        said = f"{journal.owner} has changed this cluster since {journal.time}"
        if holder is not None and holder.alive is not False:
            return [f"{said}, and may be at work: Lease of {holder.identity}"], False
        return [f"{said} and is gone", "to do: k8snet restore"], False
    if holder is not None:
        return [f"{holder.identity} holds this cluster"], False
    return ["none"], True
