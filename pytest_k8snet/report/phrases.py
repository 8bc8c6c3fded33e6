"""The sentences that HTML, Markdown and terminal share: one run, told the same way everywhere.

Pure. They may contain foreign names: each drawing makes them safe in its own way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_k8snet.report.figures import (
    RELATIONS,
    counted,
    in_unit,
    percent,
    ratio,
    unit_of,
)
from pytest_k8snet.report.model import BASELINE_SCENE, Changed, Judged, Summary, Tested

OUTCOME_WORDS: Mapping[str, str] = {
    "passed": "Passed",
    "failed": "Not passed",
    "inconclusive": "Inconclusive",
    "cut": "Cut off before its end",
    "empty": "Nothing was tested",
}
_COUNT_ORDER = ("failed", "error", "inconclusive", "passed", "skipped")


def counts_text(summary: Summary) -> str:
    """``1 failed, 2 inconclusive, 10 passed, 3 skipped``."""
    found = [
        counted(summary.counts[outcome], "error")
        if outcome == "error"
        else f"{summary.counts[outcome]:,} {outcome}"
        for outcome in _COUNT_ORDER
        if summary.counts.get(outcome)
    ]
    return ", ".join(found) or "no test finished"


def first_trouble(summary: Summary) -> Tested | None:
    """The first test that did not do what it should; None where all did."""
    return next(
        (test for test in summary.tests if test.outcome in ("failed", "error", "inconclusive")),
        None,
    )


def claim_text(one: Judged) -> str:
    """``pod-pod / node-node >= 0.90: 0.344 [0.336, 0.353], limit 0.900 (VXLAN-Always)``."""
    where = f" [{one.key.mode}]" if one.key.mode else ""
    return f"{one.claim}{where}: measured {measured_figure(one)}"


def measured_figure(one: Judged) -> str:
    """A verdict's estimate with its interval."""
    estimate, interval = figure_texts(one)
    return f"{estimate} {interval}".strip()


def figure_texts(one: Judged) -> tuple[str, str]:
    """A verdict's estimate, and its interval in the same unit (empty where it has none)."""
    if one.estimate is None:
        return "no figure", ""
    unit = unit_of(one.unit, [one.estimate])
    number = unit.number if one.unit else ratio
    estimate = unit.text(one.estimate) if one.unit else ratio(one.estimate)
    if one.low is None and one.high is None:
        return estimate, ""
    return estimate, f"[{number(one.low)}, {number(one.high)}]"


def limit_text(one: Judged) -> str:
    """``≥ 0.900``, ``≤ 5 ms``."""
    if one.limit is None:
        return "none"
    relation = RELATIONS.get(one.relation, one.relation)
    return f"{relation} {in_unit(one.limit, one.unit)}".strip()


def margin_text(one: Judged) -> str:
    """The margin, positive on the good side."""
    return percent(one.margin, signed=True)


def compared_text(summary: Summary) -> str:
    """What the figures are compared with."""
    bases = _baselines(summary)
    limits = sorted({limit_text(one) for one in summary.judged if one.limit is not None})
    found = []
    if bases:
        found.append("node-node on the same nodes: " + ", ".join(bases))
    if limits:
        many = f"; {len(limits) - 6} more" if len(limits) > 6 else ""
        found.append("limits " + ", ".join(limits[:6]) + many)
    if summary.baseline is not None:
        found.append(f"baseline run {summary.baseline.get('source')}")
    return "; ".join(found) or "nothing: the tests hold their own limits"


def _baselines(summary: Summary) -> list[str]:
    """node-node by placement, over all modes: no mode changes the path between nodes."""
    values: dict[str, list[float]] = {}
    for cell in summary.bandwidth:
        if cell.key.scene == BASELINE_SCENE:
            values.setdefault(cell.key.placement, []).extend(cell.values)
    return [
        f"{name} {_range(found)} ({counted(len(found), 'sample')})".lstrip()
        for name, found in values.items()
        if found
    ]


def _range(values: Sequence[float]) -> str:
    """``284 to 287 Mbit/s``; one figure where both ends read the same."""
    unit = unit_of("bit/s", values)
    low, high = unit.number(min(values)), unit.text(max(values))
    return high if high.startswith(f"{low} ") else f"{low} to {high}"


def measured_text(summary: Summary) -> str:
    """How it was measured."""
    tools = [
        f"{counted(count, 'sample')} by {tool}"
        for tool, count in sorted(summary.tools.items(), reverse=True)
    ]
    if not tools:
        return "nothing"
    found = ", ".join(tools)
    if summary.judged:
        found += f"; {counted(len(summary.judged), 'verdict')}"
        found += f", {counted(summary.discarded, 'sample')} discarded" if summary.discarded else ""
    plan = summary.run.get("plan") if summary.judged else None
    if isinstance(plan, dict) and plan:
        found += "; plan " + " ".join(f"{name}={value}" for name, value in plan.items())
    elif isinstance(plan, str) and plan:
        found += f"; plan {plan}"
    return found


def changed_text(summary: Summary) -> str:
    """What the run changed in the cluster."""
    if not summary.changes:
        # Without any fact of it, no cluster was reached.
        return "nothing but its own pods" if summary.facts is not None else "nothing"
    shown = [_first_and_more(change) for change in summary.changes[:3]]
    more = len(summary.changes) - len(shown)
    return "; ".join(shown) + (f"; {more} more, see the list" if more else "")


def _first_and_more(change: Changed) -> str:
    # In place, one pool goes through all the modes.
    more = sum(one["state"] == "applied" for one in change.records) - 1
    return (change.what or change.object) + (
        f", then {counted(more, 'more change')} of it" if more > 0 else ""
    )


def restored_text(summary: Summary) -> str:
    """Whether it was put back."""
    if summary.restored is None:
        return "there was nothing to put back"
    if summary.restored:
        return f"yes, all of it ({counted(len(summary.changes), 'object')})"
    left = [change.object for change in summary.changes if change.state != "restored"]
    names = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    return f"NO: {names or 'the run says so'}. Run: k8snet restore"


def cost_text(summary: Summary) -> str:
    """What the changes cost two pods that are not under test; empty where none was watched."""
    if not summary.switches:
        return ""
    known = [one for one in summary.switches if one.longest_gap_seconds is not None]
    unknown = len(summary.switches) - len(known)
    found = []
    if known:
        lost = sum(one.lost or 0 for one in known)
        requests = sum(one.requests or 0 for one in known)
        worst = max(known, key=lambda one: one.longest_gap_seconds or 0.0)
        over = f" in {counted(len(known), 'switch', 'switches')}" if len(known) > 1 else ""
        found.append(f"{lost:,} of {counted(requests, 'request')} lost{over}")
        found.append(f"longest gap {in_unit(worst.longest_gap_seconds, 's')} ({worst.what})")
    if unknown:
        found.append(
            f"NOT KNOWN for {unknown} of {counted(len(summary.switches), 'switch', 'switches')}"
        )
    return ", ".join(found)


def path_text(summary: Summary) -> str:
    """How many figures are proven to have taken the path that their mode promises."""
    tally = summary.path
    total = tally.proven + tally.contradicted + tally.missing
    if not total:
        return "no sample crossed a path that could be proven"
    parts = [f"proven for {tally.proven:,} of {counted(total, 'sample')}"]
    if tally.contradicted:
        # One disagreement here; the sample's own error has them all.
        first, *others = tally.text.splitlines() or [""]
        more = f" (and {len(others)} more)" if others else ""
        parts.append(f"CONTRADICTED for {tally.contradicted:,}: {first}{more}")
    if tally.missing:
        parts.append(f"missing for {tally.missing:,}")
    return "; ".join(parts)
