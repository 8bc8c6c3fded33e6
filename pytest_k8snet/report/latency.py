"""curl samples -> the rows of the latency table."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_k8snet.report.cells import Outcome
from pytest_k8snet.report.fields import failed, figure, grouped, mapping, reals, usable, words
from pytest_k8snet.report.intervals import quantile
from pytest_k8snet.report.judged import of_cell
from pytest_k8snet.report.model import Judged, LatencyRow, Phase
from pytest_k8snet.report.record import Record

#: curl's times, as its manual names them, in the order in which they pass.
PHASES = ("connect", "starttransfer", "total")


def latency_rows(
    samples: Sequence[Record], verdicts: Sequence[Judged], outcome: Outcome
) -> tuple[LatencyRow, ...]:
    """All rows in the study's order."""
    rows = []
    for key, group in grouped(samples).items():
        good = [sample for sample in group if usable(sample)]
        rows.append(
            LatencyRow(
                key=key,
                requests=sum(int(figure(one, "requests") or 0) for one in good),
                failed=sum(int(figure(one, "failed") or 0) for one in good),
                phases={name: _phase(good, name) for name in PHASES},
                judged=of_cell(verdicts, key),
                outcome=outcome(key, group),
                errors=sum(map(failed, group)),
                url=next((words(one["url"]) for one in group if one.get("url")), ""),
                samples=tuple(group),
            )
        )
    return tuple(rows)


def _phase(group: Sequence[Record], name: str) -> Phase:
    """One time over all requests: from the requests themselves where the records hold them."""
    values: list[float] = []
    for sample in group:
        values += reals(mapping(sample.get("distribution")).get(f"{name}_seconds"))
    values.sort()
    if values:
        return Phase(
            mean=_weighted(group, f"{name}_mean_seconds"),
            median=quantile(values, 0.5),
            p95=quantile(values, 0.95),
            ordered=tuple(values),
        )
    alone = group[0] if len(group) == 1 else {}
    return Phase(
        mean=_weighted(group, f"{name}_mean_seconds"),
        # Percentiles of several samples cannot be averaged; they are left out, not invented.
        median=figure(alone, f"{name}_median_seconds"),
        p95=figure(alone, f"{name}_p95_seconds"),
    )


def _weighted(group: Sequence[Record], name: str) -> float | None:
    """The mean over all answered requests of several samples."""
    total = weight = 0.0
    for sample in group:
        value = figure(sample, name)
        answered = (figure(sample, "requests") or 0) - (figure(sample, "failed") or 0)
        if value is not None and answered > 0:
            total += value * answered
            weight += answered
    return total / weight if weight else None
