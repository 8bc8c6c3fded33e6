"""What several sections are made of: headed tables, state marks, folds, definition lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_k8snet.report.format import NAME_LIMIT, NONE, in_unit, unit_of, visible_line
from pytest_k8snet.report.markup import Markup, element, join, text
from pytest_k8snet.report.model import TEST_WORDS, WORDS, Estimate

#: A sign beside the word: no state is told by colour alone.
SIGNS = {"pass": "✓", "fail": "✗", "error": "✗", "inconclusive": "?", "monitor": "○", "": ""}
PATH_SIGNS = {"proven": "✓", "contradicted": "✗", "missing": "?"}
_OUTCOME_STATES = {"passed": "pass", "failed": "fail", "skipped": "monitor"}


def section(name: str, title: str, level: int, *contents: object) -> Markup:
    """One section with its heading; ``name`` is its anchor."""
    return element(
        "section",
        element(f"h{level}", title, id=f"k8snet-{name}"),
        contents,
        aria_labelledby=f"k8snet-{name}",
        class_=f"k-section k-{name}",
    )


def name(foreign: object, limit: int = NAME_LIMIT) -> Markup:
    """A foreign name in one line, isolated from the reading order around it."""
    return element("bdi", visible_line(foreign, limit))


def code(foreign: object, limit: int = NAME_LIMIT) -> Markup:
    """A foreign name in a fixed-width face."""
    return element("code", element("bdi", visible_line(foreign, limit)))


def state_mark(state: str, word: str | None = None) -> Markup:
    """A verdict as sign and word."""
    return element(
        "span",
        f"{SIGNS.get(state, '')} {WORDS.get(state, state) if word is None else word}".strip(),
        class_=f"k-state k-is-{state or 'none'}",
    )


def outcome_mark(outcome: str) -> Markup:
    """A test's outcome as sign and word."""
    return state_mark(_OUTCOME_STATES.get(outcome, outcome), outcome)


def tests_mark(outcome: str) -> Markup | None:
    """What became of the tests that took a figure which no gate judged."""
    word = TEST_WORDS.get(outcome)
    return state_mark(outcome, word) if word else None


def path_mark(state: str) -> Markup:
    """A path proof's state as sign and words."""
    if not state:
        return Markup("")
    return element(
        "span", f"{PATH_SIGNS.get(state, '')} path {state}", class_=f"k-path k-path-{state}"
    )


def table(
    caption: str,
    headings: Sequence[str | tuple[str, str]],
    rows: Iterable[object],
    *,
    class_: str = "",
) -> Markup:
    """A table in a frame that scrolls sideways where the window is narrow.

    Args:
        caption: what it holds; read out by screen readers and shown above it.
        headings: column headings, each with a class where it has one (``num``).
        rows: ``tr`` elements.
        class_: a class of the table.
    """
    cells = [
        element("th", heading, scope="col")
        if isinstance(heading, str)
        else element("th", heading[0], scope="col", class_=f"k-{heading[1]}")
        for heading in headings
    ]
    return scrolling(
        caption,
        element(
            "table",
            element("caption", element("span", caption)),
            element("thead", element("tr", cells)),
            element("tbody", rows),
            class_=f"k-table {class_}".strip(),
        ),
    )


def scrolling(label: str, *contents: object) -> Markup:
    """A frame that scrolls sideways, also by keyboard."""
    return element(
        "div", contents, class_="k-scroll", role="region", aria_label=label, tabindex="0"
    )


def number_cell(shown: object) -> Markup:
    """A table's cell that holds a figure, aligned on its last digit."""
    return element("td", shown, class_="k-num")


def row_head(*contents: object) -> Markup:
    """The heading of a table's row."""
    return element("th", contents, scope="row")


def fold(summary: object, *contents: object, class_: str | None = None) -> Markup:
    """Contents that open on a click; print and script-free viewers can open it as well."""
    return element("details", element("summary", summary), contents, class_=class_)


def facts(pairs: Iterable[tuple[str, object]]) -> Markup:
    """Terms and what they are."""
    return element(
        "dl",
        [
            element("div", element("dt", term), element("dd", description))
            for term, description in pairs
        ],
        class_="k-facts",
    )


def figure_box(caption: str, drawing: Markup, note: object = None) -> Markup:
    """A chart with its caption; nothing where there is no drawing."""
    if not drawing:
        return Markup("")
    return element(
        "figure",
        element("figcaption", element("strong", caption), " ", note),
        element(
            "div",
            drawing,
            class_="k-scroll",
            role="region",
            aria_label=f"chart: {caption}",
            tabindex="0",
        ),
    )


def estimate_text(estimate: Estimate | None, symbol: str) -> str:
    """``2.85 Gbit/s [2.83, 2.87]``: the interval in the figure's own unit."""
    if estimate is None:
        return NONE
    if estimate.low is None or estimate.high is None:
        return in_unit(estimate.value, symbol)
    unit = unit_of(symbol, [estimate.value])
    if symbol:
        return f"{unit.text(estimate.value)} {interval_text(estimate, unit.scale)}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"


def interval_text(estimate: Estimate, scale: float) -> str:
    """``[2.83, 2.87]`` in a unit; empty where there is no interval."""
    if estimate.low is None or estimate.high is None:
        return ""
    unit = unit_of("", [])
    return f"[{unit.number(estimate.low / scale)}, {unit.number(estimate.high / scale)}]"


def lines(*contents: object) -> Markup:
    """Each content on a line of its own; empty ones take none."""
    return join(
        [element("div", content) for content in contents if content is not None and content != ""]
    )


def paragraph(*contents: object, class_: str | None = None) -> Markup:
    """A paragraph."""
    return element("p", contents, class_=class_)


def preformatted(foreign: str, limit: int | None = None) -> Markup:
    """Foreign text with its own line breaks."""
    return element("pre", text(foreign, limit), tabindex="0")
