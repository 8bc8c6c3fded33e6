"""Every test with its outcome, time and reason."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.format import duration
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import Summary, Tested
from pytest_k8snet.report.sections.parts import (
    code,
    fold,
    name,
    outcome_mark,
    paragraph,
    preformatted,
    row_head,
    table,
)

#: More tests than this are folded away, except those that did not pass.
_TESTS_OPEN = 40


def tests_section(summary: Summary) -> list[Markup]:
    """Every test with its outcome and reason; what did not pass comes first and open."""
    bad = [test for test in summary.tests if test.outcome not in ("passed", "skipped")]
    good = [test for test in summary.tests if test.outcome in ("passed", "skipped")]
    found = []
    if bad:
        found.append(_tests_table("Tests that did not pass", bad))
    if good:
        rest = _tests_table("Tests that passed or were skipped", good)
        found.append(
            rest
            if len(good) <= _TESTS_OPEN
            else fold(f"{len(good):,} tests that passed or were skipped", rest)
        )
    return found or [paragraph("No test finished.")]


def _tests_table(caption: str, tests: Sequence[Tested]) -> Markup:
    return table(
        caption,
        ["Outcome", "Test", ("Took", "num"), "Reason"],
        [
            element(
                "tr",
                element("td", outcome_mark(test.outcome)),
                row_head(code(test.name)),
                element("td", duration(test.seconds), class_="k-num"),
                element("td", _reason(test)),
            )
            for test in tests
        ],
        class_="k-tests",
    )


def _reason(test: Tested) -> Markup | None:
    reason = test.reason.strip()
    if not reason:
        return None
    if "\n" not in reason and len(reason) < 200:
        return name(reason)
    head = reason.partition("\n")[0]
    return fold(name(head, 160), preformatted(reason, 4000))
