"""The first screen: did it pass, by how much, compared with what, measured how, changed what."""

from __future__ import annotations

from pytest_k8snet.report.format import (
    OUTCOME_WORDS,
    changed_text,
    claim_text,
    compared_text,
    cost_text,
    counted,
    counts_text,
    duration,
    first_trouble,
    in_unit,
    measured_text,
    moment,
    path_text,
    percent,
    restored_text,
)
from pytest_k8snet.report.markup import Markup, element, text
from pytest_k8snet.report.model import BASELINE_SCENE, STATES, Judged, Summary, Tested
from pytest_k8snet.report.sections.parts import code, facts, name, paragraph

__all__ = ["banner"]

_SIGNS = {"passed": "✓", "failed": "✗", "inconclusive": "?", "cut": "…", "empty": "○"}


def banner(summary: Summary, level: int) -> Markup:
    """The verdict banner and the facts a reader decides by."""
    trouble = first_trouble(summary)
    return element(
        "header",
        element(
            "div",
            element(
                f"h{level}",
                element("span", _SIGNS[summary.outcome], class_="k-sign", aria_hidden="true"),
                " ",
                OUTCOME_WORDS[summary.outcome],
            ),
            paragraph(counts_text(summary), class_="k-counts"),
            _trouble(trouble) if trouble is not None else None,
            class_=f"k-banner k-out-{summary.outcome}",
        ),
        facts(_glance(summary)),
        class_="k-top",
    )


def _trouble(test: Tested) -> Markup:
    head, _, rest = test.reason.strip().partition("\n")
    return element(
        "div",
        paragraph(element("strong", f"First: {test.outcome}"), " ", code(test.name)),
        element("pre", text(head + ("\n" + rest if rest else ""), 900), tabindex="0"),
        class_="k-first",
    )


def _glance(summary: Summary) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    ticket = summary.run.get("ticket")
    if isinstance(ticket, dict) and ticket.get("id"):
        title = ticket.get("title")
        found.append(
            ("Change", [element("strong", name(ticket["id"])), " ", name(title) if title else ""])
        )
    found.append(("By how much", _margins(summary)))
    found.append(("Compared with", compared_text(summary)))
    found.append(("Measured", measured_text(summary)))
    found.append(("Changed in the cluster", changed_text(summary)))
    if cost := cost_text(summary):
        found.append(("Switch cost", cost))
    back = restored_text(summary)
    state = {True: "pass", False: "fail", None: "none"}[summary.restored]
    found.append(("Put back", element("span", back, class_=f"k-is-{state}")))
    found.append(("Proof of path", path_text(summary)))
    who = f"{summary.run.get('user') or '?'} on {summary.run.get('host') or '?'}"
    took = f", {duration(summary.seconds)}" if summary.seconds is not None else ""
    found.append(("Run", [name(who), f", {moment(summary.begun)}{took}"]))
    return found


def _margins(summary: Summary) -> object:
    if not summary.judged:
        cells = [
            cell
            for cell in summary.bandwidth
            if cell.ratio is not None and cell.key.scene != BASELINE_SCENE
        ]
        if not cells:
            return "no gate judged a figure; the tests compared figures themselves"
        lowest = min(cells, key=lambda cell: cell.ratio.value if cell.ratio else 0.0)
        assert lowest.ratio is not None
        return [
            "lowest ratio to node-node: ",
            element("strong", in_unit(lowest.ratio.value, "")),
            f" ({lowest.key.text}); no gate judged it",
        ]
    return [element("div", _margin_line(one)) for one in _telling(summary)]


def _telling(summary: Summary) -> list[Judged]:
    """The worst verdicts of each bad state, or else the one that passed most narrowly."""
    ordered = sorted(
        summary.judged,
        key=lambda one: (STATES.index(one.state), one.margin if one.margin is not None else 0.0),
    )
    worst = [one for one in ordered if one.state in ("fail", "inconclusive")]
    return worst[:3] or [one for one in ordered if one.state == "pass"][:1] or ordered[:1]


def _margin_line(one: Judged) -> list[object]:
    if one.margin is None:
        margin = ""
    elif one.margin < 0:
        margin = f"{percent(-one.margin)} beyond the limit"
    else:
        margin = f"{percent(one.margin)} within the limit"
    word = {"pass": "closest pass: ", "monitor": "monitor: "}.get(one.state, f"{one.state}: ")
    return [
        word,
        element("strong", margin),
        f" \u2014 {claim_text(one)}" if margin else claim_text(one),
    ]


def overview(summary: Summary) -> str:
    """One line for a title or a mail's subject."""
    ticket = summary.run.get("ticket")
    ticket_id = ticket.get("id") if isinstance(ticket, dict) else None
    start = f"{ticket_id}: " if ticket_id else ""
    return f"{start}{OUTCOME_WORDS[summary.outcome]} ({counted(len(summary.tests), 'test')})"
