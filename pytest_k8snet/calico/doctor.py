"""What a cluster is, which modes its pairs can have, what that would change, what is missing."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_k8snet.calico.convergence import LONGEST_WINDOW_SECONDS, SHORTEST_WINDOW_SECONDS
from pytest_k8snet.calico.decision import Decision, Strategy, decide
from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.calico.installation import V1, ApiGroup, Installation
from pytest_k8snet.calico.journal import JournalStore
from pytest_k8snet.calico.lease import STATE_NAMESPACE, current_holder
from pytest_k8snet.calico.modes import STUDY_ORDER, CalicoMode, families_of
from pytest_k8snet.calico.pools import plan_pools
from pytest_k8snet.calico.session import ChangeSettings
from pytest_k8snet.cluster import rbac
from pytest_k8snet.cluster.nodes import Node, choose_nodes, placement
from pytest_k8snet.cluster.rbac import LEVELS
from pytest_k8snet.errors import ApiError, K8sNetError, ModeUnavailableError, NodesError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_WINDOW = (
    "once it has stayed good for twice the time that it took, "
    f"{SHORTEST_WINDOW_SECONDS:g} s to {LONGEST_WINDOW_SECONDS:g} s "
    "(pytest -o k8snet_stability=SECONDS sets another window)"
)
_STRATEGIES: tuple[Strategy, ...] = ("none", "dedicated", "in-place")


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What was found; nothing was changed.

    Attributes:
        usable: whether a run can measure here at all, in at least one mode.
        sections: title and lines of each part.
    """

    usable: bool
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def text(self) -> str:
        """All of it, for a terminal."""
        blocks = [
            "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in self.sections
        ]
        return "\n\n".join(blocks)


def examine(api: Api, *, namespace: str | None = None) -> Examination:
    """Examine a cluster. Changes nothing.

    Args:
        api: the connection.
        namespace: an existing namespace for the run's pods; None stands for one that it makes.

    Raises:
        ConnectError: the API server does not answer.
        UnauthorizedError: the credentials are not accepted.
    """
    installation = inspect(api)
    group = installation.group or V1
    report = rbac.check(
        api,
        namespace=namespace,
        state_namespace=STATE_NAMESPACE,
        calico_group=_name(group),
        stored_group=_name(V1 if installation.shape == "B" else group),
    )
    nodes = [node for node in report.nodes if node.usable]
    table, possible = _modes(installation, nodes)
    state, free = _state(api)
    return Examination(
        usable=possible and free and not report.problems and not report.missing("measure"),
        sections=(
            ("Cluster", tuple(report.lines())),
            ("Calico", tuple(_calico(installation))),
            ("Pairs", tuple(_pairs(nodes))),
            ("Modes", tuple(table)),
            (
                "What pytest --k8snet-change=dedicated would do",
                tuple(_wrapped(_plan_dedicated(installation, nodes))),
            ),
            (
                "What pytest --k8snet-change=in-place:POOL would do",
                tuple(_wrapped(_plan_in_place(installation, nodes))),
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
        f"backend {installation.backend}, dataplane {installation.dataplane}"
    )
    if not installation.routes_prove:
        yield (
            "routes prove nothing on this dataplane: with -o k8snet_wire_proof=true captures on "
            "the wire prove paths"
        )
    yield f"API shape {installation.shape}: pools are written through {installation.group}"
    mtu = installation.mtu_source
    yield f"pod MTU {'derived from the host and what is enabled' if mtu == 'auto' else mtu}"
    yield f"enabled: {', '.join(sorted(installation.encapsulations())) or 'no encapsulation'}"
    for pool in installation.pools:
        owner = "the operator's" if installation.operator_reverts(pool) else "nobody reconciles it"
        marks = [owner, *(["disabled"] if pool.disabled else [])]
        yield f"pool {pool.name} {pool.cidr} {pool.mode} ({', '.join(marks)})"
    if not installation.v3_reachable:
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
    for index, one in enumerate(nodes):
        if one.interface is not None and one.interface.network.prefixlen == 32:
            yield (
                f"{one.name} has a /32 prefix, so CrossSubnet modes encapsulate all that it sends"
            )
        for other in nodes[index + 1 :]:
            if placement(one, other) and one.same_subnet(other) != other.same_subnet(one):
                yield (
                    f"{one.name} and {other.name} have prefixes that differ: CrossSubnet modes "
                    "encapsulate in one direction only"
                )


def _modes(installation: Installation, nodes: Sequence[Node]) -> tuple[list[str], bool]:
    notes: list[str] = []
    rows = [["mode", "same subnet", "between subnets", "in pool", "dedicated", "in-place"]]
    possible = False
    for mode in STUDY_ORDER:
        row = [str(mode), mode.path(same_subnet=True), mode.path(same_subnet=False)]
        for strategy in _STRATEGIES:
            answer = _attempt(installation, strategy, mode, nodes)
            if isinstance(answer, Decision):
                row.append(answer.pool.name if strategy == "none" and answer.pool else "yes")
                possible = True
            elif strategy == "none":
                row.append("-")
            else:
                if answer not in notes:
                    notes.append(answer)
                row.append(f"no ({notes.index(answer) + 1})")
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    for number, note in enumerate(notes, 1):
        lines += _wrapped([f"({number}) {note}"])
    return lines, possible


def _attempt(
    installation: Installation,
    strategy: Strategy,
    mode: CalicoMode,
    nodes: Sequence[Node],
) -> Decision | str:
    """How a mode would be had; or in words why it cannot be."""
    pool = _editable_pool(installation) if strategy == "in-place" else ""
    try:
        return decide(installation, strategy=strategy, mode=mode, nodes=nodes, pool_name=pool)
    except ModeUnavailableError as exc:
        return f"{exc.problem}: {exc.found}. {exc.remedy}" if exc.found else exc.problem


def _editable_pool(installation: Installation) -> str:
    """The name of the first pool that a run could flip; empty if there is none."""
    for pool in installation.pools:
        if pool.offers_pod_addresses and not pool.run_id:
            return pool.name
    return ""


def _decisions(
    installation: Installation, strategy: Strategy, nodes: Sequence[Node]
) -> dict[CalicoMode, Decision]:
    return {
        mode: decision
        for mode in STUDY_ORDER
        if isinstance(decision := _attempt(installation, strategy, mode, nodes), Decision)
    }


def _plan_dedicated(installation: Installation, nodes: Sequence[Node]) -> Iterator[str]:
    """What a run with pools of its own would do."""
    group = installation.group
    if group is None or len(nodes) < 2:
        yield "nothing: there is nothing to do it on"
        return
    decisions = _decisions(installation, "dedicated", nodes)
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
    for pool in pools.values():
        yield f"create IPPool {pool['metadata']['name']} {pool['spec']['cidr']}, deleted at the end"
    # One note is said of all modes that it concerns.
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    restarts = families_of(decisions) - installation.families()
    yield "existing pools are not touched" + (
        "; Felix restarts again at the end" if restarts else ""
    )


def _plan_in_place(installation: Installation, nodes: Sequence[Node]) -> Iterator[str]:
    """What a run that flips the first pool that can be flipped would do."""
    decisions = (
        {} if not _editable_pool(installation) else _decisions(installation, "in-place", nodes)
    )
    decision = next(iter(decisions.values()), None)
    if decision is None or decision.pool is None:
        yield "nothing: see above"
        return
    where = (
        "the encapsulation of its entry in the operator's Installation"
        if decision.writer == "installation"
        else f"both mode fields of the pool, through {decision.group}"
    )
    yield f"on pool {decision.pool.name}: write {where}, and the original back at the end"
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    yield "connections through the pool may stall at each switch"


def _wrapped(texts: Iterable[str]) -> Iterator[str]:
    """Lines that fit a terminal."""
    for text in texts:
        yield from textwrap.wrap(text, 92, subsequent_indent="    ", break_on_hyphens=False)


def _permissions(report: rbac.Report) -> Iterator[str]:
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
