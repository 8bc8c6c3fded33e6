"""What was changed in the cluster, and put back; and what that cost others."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_k8snet.report.format import NONE, duration, in_unit, moment
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import Changed, Summary, Switched
from pytest_k8snet.report.sections.parts import (
    code,
    fold,
    name,
    paragraph,
    preformatted,
    row_head,
    state_mark,
    table,
)

#: Longest original or new state of an object that is shown, in characters.
_OBJECT_LIMIT = 6000


def changes_section(summary: Summary) -> list[Markup]:
    """Every object that was changed, with times."""
    if not summary.changes:
        return [paragraph("Nothing was changed; the run made and deleted its own pods only.")]
    return [
        table(
            "Changes in the cluster, in the order they were made",
            ["Object", "What", "Applied", "Put back", ("Took", "num"), "Before and after"],
            [_change_row(change) for change in summary.changes],
            class_="k-changes",
        ),
        *_costs(summary.switches),
    ]


def _costs(switches: Sequence[Switched]) -> list[Markup]:
    if not switches:
        return []
    return [
        table(
            "What the changes cost two pods that are not under test, which asked for a small page "
            "ten times a second",
            ["Switch", ("Requests", "num"), ("Lost", "num"), ("Longest gap", "num"), "Watched"],
            [_cost_row(one) for one in switches],
        )
    ]


def _cost_row(one: Switched) -> Markup:
    return element(
        "tr",
        row_head(name(one.what)),
        element("td", NONE if one.requests is None else f"{one.requests:,}", class_="k-num"),
        element("td", NONE if one.lost is None else f"{one.lost:,}", class_="k-num"),
        element("td", in_unit(one.longest_gap_seconds, "s"), class_="k-num"),
        element("td", name(f"not known: {one.error}") if one.error else duration(one.seconds)),
    )


def _change_row(change: Changed) -> Markup:
    if change.state == "restored":
        back = state_mark("pass", moment(change.restored))
    elif change.state == "failed":
        back = state_mark("fail", "failed")
    else:
        back = state_mark("fail", "NOT put back")
    return element(
        "tr",
        row_head(code(change.object)),
        element("td", name(change.what)),
        element("td", moment(change.applied)),
        element("td", back),
        element("td", duration(change.seconds), class_="k-num"),
        element("td", [_state_fold(change)]),
    )


def _state_fold(change: Changed) -> Markup | None:
    shown = [
        f"{record['state']} {moment(record.get('time'))}\n"
        f"before: {_json(record.get('before'))}\nafter: {_json(record.get('after'))}"
        for record in change.records
        if record.get("before") is not None or record.get("after") is not None
    ]
    return fold("show", preformatted("\n\n".join(shown), _OBJECT_LIMIT)) if shown else None


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) if value is not None else "(none)"
