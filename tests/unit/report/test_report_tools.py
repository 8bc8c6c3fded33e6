"""Reports draw whatever tools there are: a made-up one, and one that only a newer version knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import pytest
from study_records import Record, Study, study

from pytest_k8snet.report import summary
from pytest_k8snet.report.documents import RawBudget, markdown, render_page, render_test
from pytest_k8snet.report.format import NONE
from pytest_k8snet.report.hooks import properties
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report
from pytest_k8snet.tools import TOOLS
from pytest_k8snet.tools.tool import Column, Measured, Output, Tool

PAGE_LOAD = "acceptance/test_fetch.py::test_pages"


class Fetch(Tool[Any, Any]):
    """Loads pages: it has figures, a distribution and what gates call it."""

    name = "fetch"
    title = "Page loads by fetch in ms"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(heading="pages", source="pages", statistic="sum", unit="count"),
        Column(heading="incomplete", source="incomplete_ratio", statistic="mean", unit="ratio"),
        Column(heading="load median", source="load_seconds", statistic="median", unit="seconds"),
        Column(heading="load p99", source="load_seconds", statistic="p99", unit="seconds"),
    )
    curves = MappingProxyType({"load_seconds": "load"})

    def argv(self, options: object) -> tuple[str, ...]:
        raise NotImplementedError

    def variant(self, command: Sequence[str]) -> str:
        return ""

    def usual_seconds(self, options: object) -> float:
        raise NotImplementedError

    def limit_seconds(self, options: object) -> float:
        raise NotImplementedError

    def parse(self, output: Output, options: object) -> object:
        raise NotImplementedError

    def measured(self, result: object) -> Measured:
        raise NotImplementedError


class Blast(Fetch):
    """Measures a rate, with samples second by second."""

    name = "blast"
    title = "Throughput by blast"
    rate = Column(
        heading="throughput", source="sent_bits_per_second", statistic="mean", unit="bit/s"
    )
    columns = (
        rate,
        Column(heading="queue", source="queue_seconds", statistic="mean", unit="seconds"),
    )
    curves = MappingProxyType({})


@pytest.fixture
def more_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    # The registry is a constant of this version; the report reads it in one place.
    monkeypatch.setattr(summary, "TOOLS", {**TOOLS, "fetch": Fetch(), "blast": Blast()})


def add(made: Study, tool: str, scene: str, mode: str | None, **content: Any) -> Record:
    number = sum(one["kind"] == "sample" for one in made.records) + 1
    return made.add(
        "sample",
        **{
            "id": f"x{number:04d}",
            "test": PAGE_LOAD,
            "tool": tool,
            "scene": scene,
            "placement": "same-subnet",
            "mode": mode,
            "label": f"{scene} node1 -> node2",
            "client": {"kind": "pod", "name": "client", "node": "node1", "address": "10.0.0.1"},
            "server": {"kind": "pod", "name": "server", "node": "node2", "address": "10.0.0.2"},
            "command": [tool, "10.0.0.2"],
            "raw": f"{tool} says much",
            "path": {"state": "proven", "text": "through vxlan.calico", "expected": "vxlan"},
            "error": None,
            **content,
        },
    )


def fetch_run() -> list[Record]:
    """Pages loaded in two modes; a gate on them in one of the two."""
    made = Study()
    made.begin()
    for mode in ("Never", "VXLAN-Always"):
        ids = [
            add(
                *(made, "fetch", "pod-pod", mode),
                figures={"pages": 20, "incomplete_ratio": 0.05},
                distribution={"load_seconds": [0.001 * (10 + index) for index in range(20)]},
            )["id"]
            for _ in range(2)
        ]
    made.verdict(
        *(PAGE_LOAD, "fail"),
        claim="load p99 of pod-pod <= 20 ms",
        quantity="load p99",
        unit="s",
        mode="VXLAN-Always",
        baseline=None,
        relation="<=",
        limit=0.02,
        estimate=0.029,
        n=40,
        samples=[[name] for name in ids],
    )
    # Bandwidth of the same pods in the same modes: a gate on pages is none on it.
    made.iperf3(PAGE_LOAD, "pod-pod", "VXLAN-Always")
    made.test(PAGE_LOAD, "failed", "load p99 of pod-pod <= 20 ms")
    made.end()
    return made.records


@pytest.mark.usefixtures("more_tools")
def test_a_tool_that_reports_have_never_seen_is_in_the_terminals_table() -> None:
    lines = text_report(summarise(fetch_run()), 120)
    at = lines.index("Page loads by fetch in ms")
    assert lines[at + 1].split("  ")[0] == "scene"
    assert re.sub(" {2,}", "|", lines[at + 1]) == (
        "scene|pages|incomplete|load median|load p99|verdict"
    )
    assert re.sub(" {2,}", "|", lines[at + 3]) == (
        "pod-pod, same-subnet [Never]|40|5.0 %|19.0|29.0|in a failed test"
    )
    assert re.sub(" {2,}", "|", lines[at + 4]) == (
        "pod-pod, same-subnet [VXLAN-Always]|40|5.0 %|19.0|29.0|FAIL load p99 29.0 ms ≤ 20 ms"
    )
    start = next(at for at, line in enumerate(lines) if line.startswith("Bandwidth in"))
    assert "FAIL" not in "".join(lines[start : lines.index("", start)])
    assert "4 samples by fetch" in "\n".join(lines)


@pytest.mark.usefixtures("more_tools")
def test_a_tool_that_reports_have_never_seen_is_in_markdown() -> None:
    drawn = markdown(fetch_run())
    assert "### Page loads by fetch in ms\n" in drawn
    assert "| pod-pod, same-subnet \\[VXLAN-Always\\] | 40 | 5.0 % | 19.0 | 29.0 | FAIL " in drawn


@pytest.mark.usefixtures("more_tools")
def test_a_tool_that_reports_have_never_seen_has_section_chart_and_sample_rows_in_html() -> None:
    page = render_page(fetch_run())
    section = page[page.index('id="k8snet-fetch"') : page.index('id="k8snet-changes"')]
    assert ">Page loads by fetch in ms</h2>" in section
    assert 'id="chart-fetch-load-t"' in section
    assert "load p99 20 ms" in section
    samples = page[page.index('id="k8snet-samples"') :]
    assert samples.count("fetch says much") == 4
    assert "<code><bdi>fetch 10.0.0.2</bdi></code>" in samples
    assert '<th scope="col" class="k-num">Load p99</th>' not in samples
    assert '<th scope="col" class="k-num">load p99</th>' in samples
    assert samples.count('<td class="k-num">29.0</td>') == 4


@pytest.mark.usefixtures("more_tools")
def test_a_tool_that_reports_have_never_seen_is_with_its_tests_in_pytest_html_and_junit() -> None:
    taken = [one for one in fetch_run() if one["kind"] in ("sample", "verdict")]
    extra = render_test(taken, RawBudget(10))
    assert "Samples by fetch" in extra
    assert extra.count('<td class="k-num">29.0</td>') == 4
    assert "fetch says much" in extra
    assert ("k8snet.fetch.pod-pod.same-subnet.Never.node1 -> node2.pages", 20.0) in properties(
        taken
    )


@pytest.mark.usefixtures("more_tools")
def test_any_tool_that_measures_a_rate_is_drawn_by_mode_with_its_ratio_and_its_seconds() -> None:
    made = Study()
    made.begin()
    for scene, mode, rate in (("node-node", None, 2e8), ("pod-pod", "IPIP-Always", 1e8)):
        for _ in range(2):
            figures = {"sent_bits_per_second": rate, "queue_seconds": 0.004}
            series = {"sent_bits_per_second": [rate, rate * 1.1]}
            add(made, "blast", scene, mode, figures=figures, series=series)
    made.end(0)
    lines = text_report(summarise(made.records), 120)
    assert lines[0] == ("Throughput by blast in Mbit/s: mean, and its ratio to node-node")
    assert lines[3].split() == ["node-node,", "same-subnet", "200", NONE]
    assert lines[4].split() == ["pod-pod,", "same-subnet", NONE, "100", "(50.0", "%)"]
    page = render_page(made.records)
    assert 'id="chart-blast-t"' in page
    assert "pod-pod, same-subnet [IPIP-Always] 50.0 %, 100 Mbit/s" in page
    assert page.count('aria-label="2 seconds, lowest ') == 4
    assert '<th scope="col" class="k-num">queue, ms</th>' in page


def test_a_tool_of_a_newer_version_is_shown_by_its_figures() -> None:
    records = fetch_run()
    lines = text_report(summarise(records), 120)
    at = lines.index("fetch, a tool that this version does not know")
    assert re.sub(" {2,}", "|", lines[at + 1]) == "scene|pages|incomplete_ratio|verdict"
    assert re.sub(" {2,}", "|", lines[at + 3]) == (
        "pod-pod, same-subnet [Never]|20|5.0 %|in a failed test"
    )
    page = render_page(records)
    assert page.count("fetch says much") == 4
    assert "fetch, a tool that this version does not know</h2>" in page
    assert "fetch, a tool that this version does not know" in markdown(records)


def test_a_tool_without_figures_is_no_reason_to_draw_nothing() -> None:
    records = study()
    sample = next(one for one in records if one["kind"] == "sample")
    sample |= {"tool": "<b>new</b>", "figures": None, "series": None, "error": "no route"}
    page = render_page(records)
    assert "&lt;b&gt;new&lt;/b&gt;, a tool that this version does not know" in page
    assert "<b>new" not in page
    assert "no route" in page
