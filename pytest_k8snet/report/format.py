"""Figures and sentences as text, and foreign text made safe to look at. Pure."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    ChangedObject,
    Estimate,
    FinishedTest,
    GateResult,
    Summary,
    distortions,
)
from pytest_k8snet.report.records import words
from pytest_k8snet.units import BitRate, Seconds

#: Shown where there is no figure.
NONE = "\u2013"
#: A real minus sign is as wide as a digit.
_MINUS = "\u2212"

_BIT_UNITS = ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s"))
_TIME_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))

RELATIONS = {">=": "≥", "<=": "≤", ">": ">", "<": "<"}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit that a whole table or axis is drawn in."""

    scale: float
    name: str

    def number(self, value: float | None) -> str:
        """Return the figure without its unit."""
        return NONE if value is None else significant(value / self.scale)

    def text(self, value: float | None) -> str:
        """Return the figure with its unit."""
        return NONE if value is None else f"{self.number(value)} {self.name}".rstrip()


MILLISECONDS = Unit(1e-3, "ms")


def bit_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these bit rates is at least 1."""
    return _unit(_BIT_UNITS, values)


def time_unit(values: Iterable[float]) -> Unit:
    """Return the unit in which the largest of these durations is at least 1."""
    return _unit(_TIME_UNITS, values)


def unit_of(symbol: str, values: Iterable[float]) -> Unit:
    """Return the unit for figures whose base unit is ``bit/s``, ``s`` or nothing."""
    if symbol == "bit/s":
        return bit_unit(values)
    if symbol == "s":
        return time_unit(values)
    return Unit(1.0, symbol)


def _unit(table: tuple[tuple[float, str], ...], values: Iterable[float]) -> Unit:
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    for scale, name in table:
        if largest >= scale:
            return Unit(scale, name)
    return Unit(*table[-1]) if largest else Unit(*table[0])


def significant(value: float) -> str:
    """Return three significant digits, never in scientific notation."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    decimals = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.9995 else 3
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def in_unit(value: float | None, symbol: str) -> str:
    """Return a figure in its own best unit (of ``bit/s``, ``s``), or a ratio."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return f"{value} {symbol}".strip()
    if symbol == "bit/s":
        return str(BitRate(value))
    if symbol == "s":
        return str(Seconds(value)).replace("us", "µs")
    return f"{ratio_text(value)} {symbol}".strip()


def ratio_text(value: float | None) -> str:
    """Return a ratio with three decimals."""
    return NONE if value is None else f"{value:.3f}".replace("-", _MINUS)


def percent(share: float | None, *, signed: bool = False) -> str:
    """Return a share as per cent: -0.618 is 61.8 % with a minus sign."""
    if share is None or not math.isfinite(share):
        return NONE
    value = share * 100
    decimals = 1 if 0.05 <= abs(value) < 1000 else 3 if value and abs(value) < 0.05 else 0
    return f"{value:{'+' if signed else ''}.{decimals}f} %".replace("-", _MINUS)


def estimate_text(estimate: Estimate | None) -> str:
    """Return a ratio with its interval: ``0.997 [0.990, 1.004]``."""
    if estimate is None:
        return NONE
    return f"{ratio_text(estimate.value)} {interval_text(estimate, ratio_text)}".strip()


def interval_text(estimate: Estimate | None, number: Callable[[float | None], str]) -> str:
    """Return ``[2.83, 2.87]``; empty where there is no interval.

    Args:
        estimate: with the interval.
        number: writes one of its ends.
    """
    if estimate is None or estimate.low is None or estimate.high is None:
        return ""
    return f"[{number(estimate.low)}, {number(estimate.high)}]"


def duration(seconds: float | None) -> str:
    """Return a wall time: ``0.4 s``, ``42 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def counted(count: int, one: str, many: str = "") -> str:
    """Return ``1 sample``, ``2 samples``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def moment(time: object) -> str:
    """Return a record's time for a reader: ``2026-11-23 01:02:03 UTC``."""
    text = str(time or "")
    date, t, clock = text.partition("T")
    if not t:
        return text or NONE
    return f"{date} {clock.rstrip('Z').split('.')[0]} UTC"


# -- Sentences that HTML, Markdown and terminal share ---------------------------------------------
#
# They may contain foreign names: each drawing makes them safe in its own way.


OUTCOME_WORDS: Mapping[str, str] = {
    "passed": "Passed",
    "failed": "Not passed",
    "inconclusive": "Inconclusive",
    "cut": "Cut off before its end",
    "empty": "Nothing was tested",
}
_COUNT_ORDER = ("failed", "error", "inconclusive", "passed", "skipped")


def counts_text(summary: Summary) -> str:
    """Return ``1 failed, 2 inconclusive, 10 passed, 3 skipped``."""
    found = [
        counted(summary.counts[outcome], "error")
        if outcome == "error"
        else f"{summary.counts[outcome]:,} {outcome}"
        for outcome in _COUNT_ORDER
        if summary.counts.get(outcome)
    ]
    return ", ".join(found) or "no test finished"


def first_trouble(summary: Summary) -> FinishedTest | None:
    """Return the first test that did not do what it should; None where all did."""
    return next(
        (test for test in summary.tests if test.outcome in ("failed", "error", "inconclusive")),
        None,
    )


def claim_text(gate: GateResult) -> str:
    """Return ``pod-pod / node-node >= 0.90: 0.344 [0.336, 0.353], limit 0.900 (VXLAN-Always)``."""
    where = f" [{gate.key.mode}]" if gate.key.mode else ""
    return f"{gate.claim}{where}: measured {measured_figure(gate)}"


def measured_figure(gate: GateResult) -> str:
    """Return a verdict's estimate with its interval."""
    estimate, interval = figure_texts(gate)
    return f"{estimate} {interval}".strip()


def figure_texts(gate: GateResult) -> tuple[str, str]:
    """Return a verdict's estimate, and its interval in the same unit (empty where it has none)."""
    if gate.estimate is None:
        return "no figure", ""
    unit = unit_of(gate.unit, [gate.estimate])
    number = unit.number if gate.unit else ratio_text
    estimate = unit.text(gate.estimate) if gate.unit else ratio_text(gate.estimate)
    if gate.low is None and gate.high is None:
        return estimate, ""
    return estimate, f"[{number(gate.low)}, {number(gate.high)}]"


def limit_text(gate: GateResult) -> str:
    """Return ``≥ 0.900``, ``≤ 5 ms``."""
    if gate.limit is None:
        return "none"
    relation = RELATIONS.get(gate.relation, gate.relation)
    return f"{relation} {in_unit(gate.limit, gate.unit)}".strip()


def margin_text(gate: GateResult) -> str:
    """Return the margin, positive on the good side."""
    return percent(gate.margin, signed=True)


def pass_notes(gate: GateResult) -> list[str]:
    """Return what a gate that passed warns of, and what its samples cannot show.

    A gate that failed or stayed undecided says so itself; one that passed would keep it to itself.
    """
    if gate.state not in ("pass", "monitor"):
        return []
    warnings = [words(one) for one in gate.record.get("warnings") or ()]
    unseen = words(gate.record.get("unseen"))
    return [*warnings, unseen] if unseen and gate.record.get("found") == "pass" else warnings


def compared_text(summary: Summary) -> str:
    """Return what the figures are compared with."""
    bases = _baselines(summary)
    limits = sorted({limit_text(gate) for gate in summary.gates if gate.limit is not None})
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
    """Return node-node by placement, over all modes: no mode changes the path between nodes."""
    values: dict[str, list[float]] = {}
    for one in summary.rates:
        if one.key.scene == BASELINE_SCENE and one.rate is not None:
            name = replace(one.key, mode="", scene="").row_text.lstrip(", ")
            values.setdefault(name, []).extend(one.rate.values)
    return [
        f"{name} {_range(found)} ({counted(len(found), 'sample')})".lstrip()
        for name, found in values.items()
        if found
    ]


def _range(values: Sequence[float]) -> str:
    """Return ``284 to 287 Mbit/s``; one figure where both ends read the same."""
    unit = unit_of("bit/s", values)
    low, high = unit.number(min(values)), unit.text(max(values))
    return high if high.startswith(f"{low} ") else f"{low} to {high}"


def measured_text(summary: Summary) -> str:
    """Return how it was measured."""
    tools = [
        f"{counted(count, 'sample')} by {tool}"
        for tool, count in sorted(summary.counted.items(), reverse=True)
    ]
    if not tools:
        return "nothing"
    found = ", ".join(tools)
    if summary.gates:
        found += f"; {counted(len(summary.gates), 'verdict')}"
        found += f", {counted(summary.discarded, 'sample')} discarded" if summary.discarded else ""
    plan = summary.run.get("plan") if summary.gates else None
    if isinstance(plan, dict) and plan:
        found += "; plan " + " ".join(f"{name}={value}" for name, value in plan.items())
    elif isinstance(plan, str) and plan:
        found += f"; plan {plan}"
    return found


def changed_text(summary: Summary) -> str:
    """Return what the run changed in the cluster."""
    if not summary.changes:
        # Without any fact of it, no cluster was reached.
        return "nothing but its own pods" if summary.facts is not None else "nothing"
    shown = [_first_change(change) for change in summary.changes[:3]]
    more = len(summary.changes) - len(shown)
    return "; ".join(shown) + (f"; {more} more, see the list" if more else "")


def _first_change(change: ChangedObject) -> str:
    # In place, one pool goes through all the modes.
    more = sum(one["state"] == "applied" for one in change.records) - 1
    return (change.what or change.object) + (
        f", then {counted(more, 'more change')} of it" if more > 0 else ""
    )


def restored_text(summary: Summary) -> str:
    """Return whether it was put back."""
    if summary.restored is None:
        return "there was nothing to put back"
    if summary.restored:
        return f"yes, all of it ({counted(len(summary.changes), 'object')})"
    left = [change.object for change in summary.changes if change.state != "restored"]
    names = ", ".join(left[:4]) + (f" and {len(left) - 4} more" if len(left) > 4 else "")
    return f"NO: {names or 'the run says so'}. Run: k8snet restore"


def cost_text(summary: Summary) -> str:
    """Return what the changes cost two pods not under test; empty where none was watched."""
    if not summary.switches:
        return ""
    known = [one for one in summary.switches if one.longest_gap_seconds is not None]
    cut_off = [one.what for one in summary.switches if not one.recovered]
    unknown = len(summary.switches) - len(known) - len(cut_off)
    found = [f"NOT RECOVERED after {what}" for what in cut_off]
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


def distorted_text(summary: Summary) -> str:
    """Return what admission did to the run's pods that changes figures; empty where nothing."""
    found = [one for sample in summary.samples for one in distortions(sample)]
    return "; ".join(dict.fromkeys(found))


def path_text(summary: Summary) -> str:
    """Return how many figures are proven to have taken the path that their mode promises."""
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


# -- Foreign text made safe to look at -----------------------------------------------------------
#
# Names, error texts and tool output come from a cluster. Whoever can name a pod must not be able
# to colour the reader's terminal, reverse the reading order, or hide a word.

#: Longest piece of foreign text shown in running text, in characters.
TEXT_LIMIT = 1200
#: Longest name (pod, node, test id) shown, in characters.
NAME_LIMIT = 240

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Fillers that have no ink although Unicode counts them as letters or symbols.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: object, limit: int | None = TEXT_LIMIT) -> str:
    r"""Show control characters, bidi marks and other hidden characters, and cut what is too long.

    New lines and tabs stay. An escape character becomes the four characters ``\x1b``, a
    right-to-left override ``\u202e``: ASCII, so that every font and every terminal has it.

    Args:
        text: anything; its ``str`` is shown.
        limit: most characters to show; None for all.
    """
    whole = text if isinstance(text, str) else str(text)
    left = 0
    if limit is not None and len(whole) > limit:
        left = len(whole) - limit
        whole = whole[:limit]
    if not (whole.isascii() and whole.isprintable()):
        whole = "".join(map(_shown, whole.replace("\r\n", "\n")))
    return f"{whole} … ({left:,} more characters)" if left else whole


def visible_line(text: object, limit: int | None = NAME_LIMIT) -> str:
    """Show text in one line: new lines and tabs are shown as signs, too."""
    return visible(text, limit).replace("\n", "\\n").replace("\t", "\\t")


def _shown(char: str) -> str:
    if char in "\n\t":
        return char
    if char.isprintable() and char not in _BLANKS:
        return char
    if unicodedata.category(char) in _HIDDEN or char in _BLANKS:
        code = ord(char)
        width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
        return f"\\{letter}{code:0{width}x}"
    # What is left are spaces of unusual width.
    return " "


def columns(text: str) -> int:
    """Return how many columns a text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Return a text filled with spaces to a number of terminal columns."""
    fill = " " * max(0, width - columns(text))
    return fill + text if right else text + fill


def clipped(text: str, width: int) -> str:
    """Return a text cut to a number of terminal columns, with an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    kept = ""
    used = 0
    for char in text:
        step = columns(char)
        if used + step > width - 1:
            break
        kept += char
        used += step
    return kept + "…"


def squeezed(text: str, width: int) -> str:
    """Return a text cut in its middle: of a claim, both what it is about and its limit stay."""
    if columns(text) <= width:
        return text
    tail = ""
    for char in reversed(text):
        if columns(char + tail) > (width - 1) // 2:
            break
        tail = char + tail
    return clipped(text, width - columns(tail)) + tail
