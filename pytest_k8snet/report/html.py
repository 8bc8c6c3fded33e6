"""The HTML report: one static document (or a part of pytest-html's), a function of records.

No script, nothing fetched, nothing from the clock: the same records give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from pytest_k8snet.report.charts import bandwidth_chart, has_limit, latency_chart
from pytest_k8snet.report.markup import Markup, element, join
from pytest_k8snet.report.model import Summary
from pytest_k8snet.report.records import Record
from pytest_k8snet.report.sections.banner import banner, overview
from pytest_k8snet.report.sections.before import baseline_section
from pytest_k8snet.report.sections.changes import changes_section
from pytest_k8snet.report.sections.environment import environment_section
from pytest_k8snet.report.sections.latency import latency_table
from pytest_k8snet.report.sections.mesh import mesh_table
from pytest_k8snet.report.sections.parts import figure_box, fold, paragraph, section
from pytest_k8snet.report.sections.samples import samples_section
from pytest_k8snet.report.sections.study import ceilings_note, retransmit_note, study_table
from pytest_k8snet.report.sections.tests import tests_section
from pytest_k8snet.report.sections.verdicts import verdict_table
from pytest_k8snet.report.summary import PHASES, summarise

_READING = (
    "PASS and FAIL are decided: the whole interval lies on one side of the limit. INCONCLUSIVE is "
    "neither: the interval holds the limit, and the plan was spent. A gate's interval is valid at "
    "whichever look it stopped. Intervals of figures that no gate judged are plain 95 % intervals "
    "of the mean. A ratio is to node-node: the same two nodes without pods. A path is proven when "
    "routes and byte counters on both nodes show it."
)


def render_page(records: Sequence[Record]) -> str:
    """A whole HTML document.

    Args:
        records: one run's records, as a results file holds them.
    """
    summary = summarise(records)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", overview(summary)),
        _style(),
    )
    body = element("body", element("main", _document(summary, level=1), class_="k8snet k-page"))
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


def render_fragment(records: Sequence[Record]) -> str:
    """The same as a part of another page (pytest-html's), with its style sheet."""
    summary = summarise(records)
    hosted = Markup(_file("hosted.css"))
    content = element("main", _document(summary, level=2), class_="k8snet k-hosted")
    return join(_style(), element("style", hosted), content)


def _document(summary: Summary, level: int) -> Markup:
    below = level + 1
    return join(
        banner(summary, level),
        section("gates", "Gates", below, verdict_table(summary)) if summary.judged else None,
        _bandwidth(summary, below),
        _latency(summary, below),
        section("before", "Before and now", below, baseline_section(summary))
        if summary.baseline is not None
        else None,
        section("changes", "What was changed and put back", below, changes_section(summary)),
        section("tests", "Tests", below, tests_section(summary)),
        section("environment", "Environment", below, environment_section(summary)),
        section("samples", "Every sample", below, samples_section(summary))
        if summary.samples
        else None,
        section("reading", "How to read this", below, paragraph(_READING)),
    )


def _bandwidth(summary: Summary, level: int) -> Markup | None:
    if not summary.bandwidth:
        return None
    return section(
        "bandwidth",
        "Bandwidth",
        level,
        study_table(summary.bandwidth),
        figure_box(
            "Goodput by mode.",
            bandwidth_chart(summary.bandwidth),
            "Bar: mean; bracket: its interval; grey line and band: node-node and its interval. "
            + ceilings_note(summary.bandwidth),
        ),
        [mesh_table(mesh) for mesh in summary.meshes],
        retransmit_note(summary.bandwidth),
    )


def _latency(summary: Summary, level: int) -> Markup | None:
    if not summary.latency:
        return None
    charts = {
        phase: figure_box(
            f"time_{phase}:",
            latency_chart(summary.latency, phase),
            "share of requests answered within a time; dashed and labelled: limits.",
        )
        for phase in PHASES
    }
    # What a gate judged is what the reader looks for; without any, the whole time.
    judged = [phase for phase in PHASES if has_limit(summary.latency, phase)] or ["total"]
    others = [phase for phase in PHASES if phase not in judged and charts[phase]]
    names = " and ".join(f"time_{phase}" for phase in others)
    return section(
        "latency",
        "Latency",
        level,
        latency_table(summary.latency),
        [charts[phase] for phase in judged],
        fold(f"Charts of {names}", [charts[phase] for phase in others]) if others else None,
    )


def _style() -> Markup:
    return element("style", Markup(_file("style.css")))


@lru_cache
def _file(name: str) -> str:
    return files("pytest_k8snet.report").joinpath(name).read_text(encoding="utf-8")
