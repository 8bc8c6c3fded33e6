"""What each strategy would do to a cluster, in words, and how long it would take."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_k8snet.calico.decision import Decision, Strategy, decide
from pytest_k8snet.calico.dedicated import plan_pools
from pytest_k8snet.calico.forecast import FELIX_RESTART, OPERATOR, entering, walk
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.modes import STUDY_ORDER, CalicoMode
from pytest_k8snet.calico.session import ChangeSettings
from pytest_k8snet.errors import ModeUnavailableError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node


def attempt(
    installation: Installation,
    strategy: Strategy,
    mode: CalicoMode,
    nodes: Sequence[Node],
    pool: str,
) -> Decision | str:
    """How a mode would be had; or in words why it cannot be."""
    try:
        return decide(installation, strategy=strategy, mode=mode, nodes=nodes, pool_name=pool)
    except ModeUnavailableError as exc:
        return f"{exc.problem}: {exc.found}. {exc.remedy}" if exc.found else exc.problem


def editable_pool(installation: Installation) -> str:
    """The name of the first pool that a run could flip; empty if there is none."""
    for pool in installation.pools:
        if pool.offers_pod_addresses and not pool.run_id:
            return pool.name
    return ""


def wrapped(text: str) -> list[str]:
    """Lines that fit a terminal."""
    return textwrap.wrap(text, 92, subsequent_indent="    ", break_on_hyphens=False)


def if_dedicated(installation: Installation, nodes: Sequence[Node]) -> tuple[str, ...]:
    """What a run with pools of its own would do, line by line."""
    return tuple(line for text in _dedicated_told(installation, nodes) for line in wrapped(text))


def _dedicated_told(installation: Installation, nodes: Sequence[Node]) -> Iterator[str]:
    group = installation.group
    if group is None or len(nodes) < 2:
        yield "nothing: there is nothing to do it on"
        return
    decisions = {
        mode: decision
        for mode in STUDY_ORDER
        if isinstance(
            decision := attempt(installation, "dedicated", mode, nodes, ""),
            Decision,
        )
    }
    modes = list(decisions)
    try:
        pools = plan_pools(
            installation,
            group=group,
            modes=modes,
            nodes=nodes,
            every_node=installation.nodes,
            run_id="RUN",
            within=ChangeSettings().cidr,
        )
    except ModeUnavailableError as exc:
        yield f"{exc.problem}: {exc.found}. {exc.remedy}"
        return
    for pool in pools:
        yield f"create IPPool {pool['metadata']['name']} {pool['spec']['cidr']}, deleted at the end"
    # One note is said of all modes that it concerns.
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    restarts = bool({mode.family for mode in modes} - {"none"} - installation.families())
    span = entering(restarts=restarts, by_operator=False, stability_seconds=None)
    again = ", and Felix restarts again at the end" if restarts else ""
    yield f"takes {span} at the start{_why(restarts, False)}; existing pools are not touched{again}"


def if_in_place(installation: Installation, nodes: Sequence[Node]) -> tuple[str, ...]:
    """What a run that flips the first pool that can be flipped would do, line by line."""
    return tuple(line for text in _in_place_told(installation, nodes) for line in wrapped(text))


def _in_place_told(installation: Installation, nodes: Sequence[Node]) -> Iterator[str]:
    pool = installation.pool(editable_pool(installation))
    answers = {
        mode: attempt(installation, "in-place", mode, nodes, pool.name if pool else "")
        for mode in CalicoMode
    }
    decisions = {mode: one for mode, one in answers.items() if isinstance(one, Decision)}
    if pool is None or not decisions:
        yield "nothing: see above"
        return
    decision = next(iter(decisions.values()))
    by_operator = decision.writer == "installation"
    where = (
        "the encapsulation of its entry in the operator's Installation"
        if by_operator
        else f"both mode fields of the pool, through {decision.group}"
    )
    yield f"on pool {pool.name}: write {where}, and the original back at the end"
    yield from dict.fromkeys(note for one in decisions.values() for note in one.notes)
    tour = walk(installation, pool, decisions, by_operator=by_operator, stability_seconds=None)
    each = [
        entering(restarts=restarts, by_operator=by_operator, stability_seconds=None)
        for restarts in (True, False)
    ]
    yield (
        f"a switch takes {each[0]} where the family changes{_why(True, by_operator)}, else "
        f"{each[1]}; connections through the pool may stall meanwhile"
    )
    yield (
        f"through all {len(decisions)} modes and back: {tour.switches} switches, "
        f"{tour.restarts} of them with a restart of Felix, {tour.span} in all"
    )


def _why(restarts: bool, by_operator: bool) -> str:
    causes = [f"Felix restarts in {FELIX_RESTART}"] if restarts else []
    if by_operator:
        causes.append(f"the operator follows in {OPERATOR}")
    return f" ({', '.join(causes)})" if causes else ""
