"""What leaves a run as a document: HTML and Markdown from the templates, CSV and OpenMetrics.

No script, nothing fetched, nothing from the clock: the same records give the same bytes. Every
text in the templates goes through :func:`_finalize` and Jinja2's autoescape.
"""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from importlib.resources import files
from statistics import fmean
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from pytest_k8snet.report import answer, charts, format, model, sentences, tables
from pytest_k8snet.report import records as fields
from pytest_k8snet.report.format import NAME_LIMIT, visible, visible_line
from pytest_k8snet.report.model import (
    ChangedObject,
    GateResult,
    Key,
    Mesh,
    Summary,
    ToolResults,
    flat,
    key_of,
    values_of,
)
from pytest_k8snet.report.records import (
    OUTCOMES,
    VERDICT_STATES,
    Record,
    mapping,
    numbers,
    objects,
    words,
)
from pytest_k8snet.report.summary import counting_samples, summarise

#: All raw outputs of one report together, in characters.
_RAW_TOTAL = 1_400_000
#: Most that one sample may take of it, and what each gets at least while it lasts.
_RAW_MOST, _RAW_LEAST = 40_000, 4_000
#: Most samples drawn one by one; the results file has the others.
MOST_ROWS = 600
_FEWEST_ROWS = 3
#: More nodes than this make no readable table; the results file has them all.
_MOST_NODES = 12
#: Shades of a mesh; a figure tells the same as its shade.
_SHADES = 6
#: What Markdown (also GitHub's and GitLab's) could take for markup, a mention or a reference.
_SPECIAL = re.compile(r"([\\`*{}\[\]|~$@]|(?<!\w)_|_(?!\w)|:(?=//)|#(?=\w)|(?<=\bwww)\.)")


def render_page(records: Sequence[Record]) -> str:
    """Return a whole HTML document.

    Args:
        records: one run's records, as a results file holds them.
    """
    return _html("report.html.j2", summary=summarise(records), level=1)


def render_fragment(records: Sequence[Record]) -> str:
    """Return the same as a part of another page (pytest-html's), with its style sheet."""
    return _html("report.html.j2", summary=summarise(records), level=2)


def render_test(records: Sequence[Record], budget: RawBudget) -> str:
    """Return the figures of one test as HTML, for its row in pytest-html; empty without any.

    Args:
        records: those made while the test ran.
        budget: what raw outputs may take of the page; shared by its tests.
    """
    summary = summarise(records)
    if not summary.samples and not summary.gates:
        return ""
    return _html("test.html.j2", summary=summary, budget=budget)


def render_trend(
    *, title: str, parts: Sequence[tuple[str, Markup, tables.Table]], note: str = ""
) -> str:
    """Return a page of several runs: for each part its title, a chart and a table."""
    return _html("trend.html.j2", title=title, parts=parts, note=note)


def markdown(records: Sequence[Record]) -> str:
    """Return the summary of one run for a ticket's text field (``--k8snet-summary``)."""
    summary = summarise(records)
    trouble = answer.worst_trouble(summary)
    told = trouble.reason if trouble is not None else "\n".join(answer.reason_lines(summary))
    reason = visible(told.strip(), 900)
    # A fence longer than any run of backticks in the text cannot be closed by it.
    longest = max((len(run) for run in re.findall(r"`+", reason)), default=0)
    template = _environment(autoescape=False).get_template("summary.md.j2")
    return template.render(
        summary=summary,
        ticket=mapping(summary.run.get("ticket")),
        trouble=trouble,
        reason=Markup(reason),
        fence=Markup("`" * max(3, longest + 1)),
        run=f"{words(summary.run.get('run'))} by {who(summary)}, {format.moment(summary.begun)}",
        drawn=[table.narrow() for table in _tables(summary)],
    )


def _tables(summary: Summary) -> list[tables.Table]:
    """Return the tables that have room outside of HTML, too."""
    promised = [tables.promises_table(summary.promises)] if summary.promises else []
    before = [tables.comparisons_table(summary.comparisons)] if summary.comparisons else []
    return [*(tables.tool_tables(results)[0] for results in summary.tools), *promised, *before]


def escaped(foreign: object, limit: int = 600) -> str:
    """Return foreign text in one line that Markdown shows as it is."""
    shown = visible_line(foreign, limit)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", shown)


def overview(summary: Summary) -> str:
    """Return one line for a title or a mail's subject."""
    ticket = mapping(summary.run.get("ticket")).get("id")
    start = f"{ticket}: " if ticket else ""
    tests = format.counted(len(summary.tests), "test")
    return f"{start}{answer.title_text(summary)} ({tests})"


class RawBudget:
    """Shares out what a report can hold, so that it opens at once however much was measured.

    Args:
        samples: how many will ask for a share.
        total: what all may take together, in characters.
    """

    def __init__(self, samples: int, total: int = _RAW_TOTAL) -> None:
        self._left = total
        self._share = min(_RAW_MOST, max(_RAW_LEAST, total // max(1, samples)))

    def take(self, raw: str) -> str | None:
        """Return what is shown of one output; None where the budget is spent."""
        if self._left <= 0:
            return None
        shown = raw.strip()
        left_out = len(shown) - self._share
        if left_out > 0:
            shown = f"{shown[: self._share]} … ({left_out:,} more characters in the results file)"
        self._left -= len(shown)
        return shown


# -- How templates write text ---------------------------------------------------------------------


def _html(template: str, **context: Any) -> str:
    return _environment(autoescape=True).get_template(template).render(**context)


@lru_cache
def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("pytest_k8snet.report"),
        autoescape=autoescape,
        finalize=_finalize if autoescape else _finalize_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"charts": charts, "fields": fields, "model": model}
    environment.globals |= {"tables": tables, "text": format, "say": sentences}
    environment.globals |= {"answer": answer, "show": sys.modules[__name__]}
    environment.filters |= {"line": _line, "cut": _cut, "heading": _heading, "num": num}
    return environment


def _finalize(value: object) -> object:
    """Make foreign text visible; Jinja2 escapes what comes out, unless it is markup already."""
    if value is None:
        return ""
    return value if isinstance(value, Markup) else visible(value)


def _finalize_markdown(value: object) -> str:
    return str(value) if isinstance(value, Markup) else escaped(value)


def _line(foreign: object, limit: int = NAME_LIMIT) -> Markup:
    """Show foreign text in one line."""
    return escape(visible_line(foreign, limit))


def _cut(foreign: object, limit: int | None = None) -> Markup:
    """Show foreign text with its line breaks, up to another length than usual."""
    return escape(visible(foreign, limit))


def _heading(text: str) -> str:
    """Begin a heading with a capital, if it is ordinary words and no name of anything."""
    plain = len(text) > 1 and re.fullmatch("[a-z ]+", text)
    return text.capitalize() if plain else text


def style(name: str) -> Markup:
    """Return a style sheet of this package."""
    return Markup(files("pytest_k8snet.report").joinpath(name).read_text(encoding="utf-8"))


# -- What templates show, where it takes more than a look -----------------------------------------


def who(summary: Summary) -> str:
    """Return by whom and where the run was started."""
    return f"{summary.run.get('user') or '?'} on {summary.run.get('host') or '?'}"


def ceilings_note(results: ToolResults) -> str:
    """Return what the other marks of the chart mean, as far as it has any."""
    rates = [one for one in results.measurements if one.rate is not None]
    judged = all(one.state for one in rates if one.key.scene != model.BASELINE_SCENE)
    blue = "" if judged else "; blue dot: nothing was decided on it"
    ticks = any(one.rate is not None and one.rate.ceiling is not None for one in rates)
    tick = "; grey tick: what headers leave at most (noise can pass it)" if ticks else ""
    return f"{blue}{tick}."


def beside_charts(summary: Summary) -> str:
    """Return the promises that no chart of a rate draws; empty where there is no such chart."""
    drawn = [
        gate
        for results in summary.tools
        if results.rate
        for gate in charts.drawn_promises(results.measurements)
    ]
    left = [one for one in summary.promises if all(one is not gate for gate in drawn)]
    return sentences.beside_chart_text(left) if drawn else ""


def counts_are_those_of_promises(summary: Summary) -> bool:
    """Return whether each test made one promise, so that to count both says nothing more."""
    outcomes = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
    promised = Counter(outcomes.get(one.state, "") for one in summary.promises)
    return promised == Counter(summary.counts) and not summary.coverage.unfinished


def curves_by_telling(results: ToolResults) -> tuple[list[str], list[str]]:
    """Return the distributions to draw at once, and those to fold away.

    What a gate judged is what the reader looks for; without any, the most telling one.
    """
    known = [
        source
        for source in results.curves
        if any(values_of(one.samples, source) for one in results.measurements)
    ]
    gated = [source for source in known if charts.has_limit(results, source)] or known[:1]
    return gated, [source for source in known if source not in gated]


def states_text(change: ChangedObject) -> str:
    """Return an object before and after each change of it, as far as that was recorded."""
    return "\n\n".join(
        f"{record['state']} {format.moment(record.get('time'))}\n"
        f"before: {_json(record.get('before'))}\nafter: {_json(record.get('after'))}"
        for record in change.records
        if record.get("before") is not None or record.get("after") is not None
    )


def _json(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) if value is not None else "(none)"


def shade(mesh: Mesh, client: str, server: str) -> int:
    """Return how dark a cell of a mesh is: the darker, the further below the best."""
    value = mesh.figures[client, server]
    between = [value for (one, other), value in mesh.figures.items() if one != other]
    low, high = min(between), max(between)
    # Differences of a few per cent are noise: they stay unshaded.
    span = max(high - low, high * 0.2)
    share = min(max((high - value) / span, 0.0), 1.0) if client != server and span else 0.0
    return round(share * (_SHADES - 1))


def shown_samples(samples: Sequence[Record], total: int) -> Sequence[Record]:
    """Return the samples of a row that are drawn: all, or the row's part of ``MOST_ROWS``."""
    if total <= MOST_ROWS:
        return samples
    most = max(_FEWEST_ROWS, MOST_ROWS * len(samples) // total)
    # What went wrong comes first; the order of time is kept.
    wrong = [index for index, one in enumerate(samples) if one.get("error")][:most]
    chosen = sorted({*wrong, *range(most - len(wrong))})
    return [samples[index] for index in chosen[:most]]


def clock(sample: Record) -> str:
    """Return the time of day at which a sample began."""
    begun = words(sample.get("started") or sample.get("time"))
    return begun.partition("T")[2].partition(".")[0].removesuffix("Z")


def anchor(sample: Record) -> str:
    """Return a sample's id in the document; empty where its own is no word."""
    identity = words(sample.get("id"))
    return f"k8snet-{identity}" if identity.isascii() and identity.isalnum() else ""


def how_decided(gate: GateResult) -> str:
    """Return a verdict's plan, seed and the causes of discards, in words."""
    plan, seed = gate.record.get("plan"), gate.record.get("seed")
    causes = [str(one.get("cause")) for one in objects(gate.record.get("discarded"))]
    parts = [
        "plan " + ", ".join(f"{key} {value}" for key, value in mapping(plan).items())
        if isinstance(plan, dict)
        else "",
        f"order from seed {seed}" if seed is not None else "",
        "discarded: " + ", ".join(causes) if causes else "",
    ]
    return "; ".join(part for part in parts if part)


def node_tables(summary: Summary) -> list[tuple[str, Sequence[str], Mapping[str, Any]]]:
    """Return the facts of nodes: caption, facts, and per node their values; offload flags last.

    One column per node: facts are many and long, nodes under test are few.
    """
    nodes = objects(mapping(summary.facts).get("nodes"))
    more = f" (the first {_MOST_NODES} of {len(nodes)})" if len(nodes) > _MOST_NODES else ""
    by_node = {words(node.get("name")): flat(node) for node in nodes[:_MOST_NODES]}
    keys = dict.fromkeys(key for node in by_node.values() for key in node if key != "name")
    flags = [key for key in keys if ".offload." in key]
    rest = [key for key in keys if key not in flags]
    found: list[tuple[str, Sequence[str], Mapping[str, Any]]] = []
    if nodes:
        found.append((f"Nodes{more}", rest, by_node))
    if flags:
        found.append((f"Offload flags of NICs and tunnels{more}", flags, by_node))
    return found


def num(heading: str) -> tables.Column:
    """Return the heading of a column of figures."""
    return tables.Column(heading=heading, numeric=True)


# -- Figures for other programs: with the names and base units that they have in records ----------

#: How a figure's name ends, and the unit that it then has.
_UNITS = {
    "_bits_per_second": "bit/s",
    "_seconds": "s",
    "_bytes": "byte",
    "_ratio": "ratio",
    "_percent": "percent",
}
_COLUMNS = (
    *("run", "time", "test", "sample", "tool", "scene", "placement", "mode", "variant"),
    *("client", "server", "url", "name", "value", "unit"),
)


def csv_text(records: Sequence[Record]) -> str:
    """Return one line per figure, below a line of column names (RFC 4180, UTF-8)."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(_COLUMNS)
    for sample in counting_samples(records):
        key = key_of(sample)
        head = [
            *(sample["run"], sample["time"], sample.get("test"), sample["id"]),
            *(key.tool, key.scene, key.placement, key.mode, key.variant),
            *(_node(sample.get("client")), _node(sample.get("server")), sample.get("url")),
        ]
        for name, value in numbers(sample.get("figures")):
            lines.writerow([_harmless(cell) for cell in head] + [name, value, _unit(name)])
    return out.getvalue()


def openmetrics_text(records: Sequence[Record]) -> str:
    """Return the newest state as gauges: means of repeated samples, outcomes, verdicts.

    Labels are what lasts from run to run. Nodes, runs and samples are none, so that a series goes
    on when the next run chooses another pair of nodes.
    """
    families: dict[str, list[tuple[dict[str, str], float]]] = {}

    def add(name: str, labels: dict[str, str], value: float) -> None:
        families.setdefault(f"k8snet_{name}", []).append((labels, value))

    groups: dict[Key, list[Record]] = {}
    for sample in counting_samples(records):
        groups.setdefault(key_of(sample), []).append(sample)
    for key, samples in groups.items():
        labels = {
            "scene": key.scene,
            "placement": key.placement,
            "mode": key.mode,
            "variant": key.variant,
        }
        add(f"{key.tool}_samples", labels, len(samples))
        values: dict[str, list[float]] = {}
        for sample in samples:
            for name, value in numbers(sample.get("figures")):
                values.setdefault(name, []).append(value)
        for name, found in values.items():
            add(f"{key.tool}_{name}", labels, fmean(found))

    verdicts = [one for one in records if one["kind"] == "verdict"]
    for state in VERDICT_STATES:
        add("verdicts", {"state": state}, sum(one["state"] == state for one in verdicts))
    tests = [one for one in records if one["kind"] == "test"]
    for outcome in OUTCOMES:
        add("tests", {"outcome": outcome}, sum(one["outcome"] == outcome for one in tests))
    if records:
        began = datetime.fromisoformat(records[0]["time"])
        add("run_timestamp_seconds", {}, began.timestamp())
    add("run_complete", {}, any(one["kind"] == "end" for one in records))
    return "".join(_family(name, series) for name, series in families.items()) + "# EOF\n"


def _family(name: str, series: Sequence[tuple[dict[str, str], float]]) -> str:
    lines = [f"# TYPE {name} gauge\n"]
    for labels, value in series:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{f'{{{shown}}}' if shown else ''} {float(value)!r}\n")
    return "".join(lines)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if f"_{name}".endswith(end)), "")


def _node(end: Any) -> str:
    """Return the node that an end of a sample is on, or its name where it is on none."""
    return words(mapping(end).get("node") or mapping(end).get("name"))


def _harmless(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula: names come from the cluster."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
