"""Figures of a results file for other programs: CSV for spreadsheets, OpenMetrics for Prometheus.

Reads records only. Figures keep the names and base units that they have in records. What counts
here is what counts in the report: no warm-up, no sample that failed, none that a gate discarded.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import datetime
from statistics import fmean
from typing import Any

from pytest_k8snet.report.model import Key, key_of
from pytest_k8snet.report.records import OUTCOMES, VERDICT_STATES, Record

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
    for sample in _counting(records):
        key = key_of(sample)
        head = [
            *(sample["run"], sample["time"], sample.get("test"), sample["id"]),
            *(key.tool, key.scene, key.placement, key.mode, key.variant),
            *(_node(sample.get("client")), _node(sample.get("server")), sample.get("url")),
        ]
        for name, value in _figures(sample):
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
    for sample in _counting(records):
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
            for name, value in _figures(sample):
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


def _counting(records: Sequence[Record]) -> Iterator[Record]:
    """Return the samples that count."""
    discarded = {
        sample
        for record in records
        if record["kind"] == "verdict"
        for entry in record.get("discarded") or ()
        for sample in entry.get("samples") or ()
    }
    for record in records:
        if record["kind"] != "sample" or record.get("warmup") or record.get("error"):
            continue
        if record["id"] not in discarded:
            yield record


def _figures(sample: Record) -> Iterator[tuple[str, float]]:
    for name, value in (sample.get("figures") or {}).items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if f"_{name}".endswith(end)), "")


def _node(end: Any) -> str:
    """Return the node that an end of a sample is on, or its name where it is on none."""
    if not isinstance(end, dict):
        return ""
    return str(end.get("node") or end.get("name") or "")


def _harmless(cell: object) -> str:
    """Return a cell that no spreadsheet takes for a formula: names come from the cluster."""
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
