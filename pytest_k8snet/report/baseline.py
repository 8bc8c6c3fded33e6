"""An earlier run to compare with: its figures, its facts, and what differs from now.

Two runs are not paired: minutes or days lie between them, and whatever changed meanwhile is in
the ratio. So the interval is Welch's for two separate groups, wider than a gate's paired one, and
the report says so. A figure that the earlier run does not have is an error, never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.model import Difference, Estimate, Key, ratio_of_means
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.records import Record, read
from pytest_k8snet.report.summary import (
    BANDWIDTH,
    QUANTITIES,
    differences_between,
    figures_of,
    summarise,
    thinned,
)
from pytest_k8snet.verdict import Arm

#: Fewer values than this have no spread that an interval could rest on.
_FEWEST = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BaselineFigure:
    """One figure of the earlier run.

    Attributes:
        values: one per sample: its goodput in bit/s, or the median of its requests in seconds.
        unit: ``bit/s`` or ``s``.
    """

    key: Key
    quantity: str
    unit: str
    values: tuple[float, ...]

    def ratio(self, now: Sequence[float]) -> Estimate:
        """Figures of now relative to then: ratio of geometric means, Welch's 95 % interval.

        Raises:
            ResultsError: too few figures, or one that is not positive.
        """
        found = ratio_of_means(now, self.values)
        if found is None or found.low is None:
            raise ResultsError(
                f"{self.key.text}: no honest interval can be given for {self.quantity}",
                found=f"{len(self.values)} before and {len(now)} now; all must be above zero",
                remedy=f"take at least {_FEWEST} samples in each of the two runs",
            )
        return found


class Baseline:
    """The earlier run.

    Args:
        source: what to call it, usually the file's name.
        records: its records.
    """

    def __init__(self, source: str, records: Sequence[Record]) -> None:
        self.source = source
        summary = summarise(records)
        self.run = str(summary.run.get("run", ""))
        self.time = summary.begun
        self.facts = summary.facts
        self._figures = figures_of(summary.bandwidth, summary.latency)

    def __repr__(self) -> str:
        """Short: pytest prints it with the arguments of each failed test."""
        return f"Baseline({self.source}, run {self.run})"

    @classmethod
    def load(cls, path: Path) -> Baseline:
        """Read the newest run of a results file.

        Raises:
            ResultsError: the file cannot be used, or holds no figure.
        """
        results = read(path)
        found = cls(path.name, results.records)
        if not found._figures:
            raise ResultsError(
                f"the baseline {path} holds no figure",
                found=f"{len(results.records)} records of run {results.runs[-1]}, no usable sample",
                remedy="give the results file of a run that measured something",
            )
        return found

    def figure(
        self, scene: str, *, placement: str = "", mode: str | None = None, quantity: str = BANDWIDTH
    ) -> BaselineFigure:
        """One figure of the earlier run.

        Args:
            scene: as in the tables, e.g. ``pod-pod``.
            placement: ``same-subnet`` ...; empty where the scene has none.
            mode: the Calico mode; None where the figure has none.
            quantity: ``bandwidth``, or ``median connect time``, ``median starttransfer time``,
                ``median total time``.

        Raises:
            ResultsError: the earlier run has no such figure; names those it has.
        """
        key = Key(scene, placement, mode or "")
        values = self._figures.get((key, quantity))
        if not values:
            raise ResultsError(
                f"the baseline {self.source} has no {quantity} of {key.text}",
                found="it has " + "; ".join(f"{q} of {k.text}" for k, q in self._figures),
                remedy="measure it before the change as well, or do not compare it",
            )
        return BaselineFigure(
            key=key, quantity=quantity, unit=QUANTITIES.get(quantity, ""), values=values
        )

    def values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        """The values of what a gate measures now: ``bandwidth(pod_pair) / baseline``.

        Raises:
            ResultsError: the earlier run has none.
        """
        found = self.figure(arm.scene, placement=arm.placement, mode=arm.mode, quantity=figure)
        return found.values

    def differences(self, facts: Mapping[str, Any] | None) -> tuple[Difference, ...]:
        """What is not as it was: cluster and node facts, then and now."""
        if facts is None or self.facts is None:
            return ()
        return differences_between(self.facts, dict(facts))

    def to_record(self, facts: Mapping[str, Any] | None) -> dict[str, Any]:
        """The content of the "baseline" record, so that a report needs no second file.

        Args:
            facts: the "facts" record of this run, phase "before".
        """
        return {
            "kind": "baseline",
            "source": self.source,
            "baseline_run": self.run,
            "baseline_time": self.time,
            "figures": [
                {
                    "scene": key.scene,
                    "placement": key.placement,
                    "mode": key.mode or None,
                    "quantity": quantity,
                    "unit": QUANTITIES.get(quantity, ""),
                    "count": len(values),
                    "values": thinned(values),
                }
                for (key, quantity), values in self._figures.items()
            ],
            "differences": [
                {"fact": one.fact, "before": one.before, "now": one.now}
                for one in self.differences(facts)
            ],
        }


def attach(recorder: Recorder, path: Path) -> Baseline:
    """Load the earlier run for the run being recorded, and put it into that run's records.

    Args:
        recorder: the run's; its facts are compared with those of the earlier run.
        path: the earlier run's results file.

    Raises:
        ResultsError: the file cannot be used.
    """
    baseline = Baseline.load(path)
    facts = [record for record in recorder.records if record["kind"] == "facts"]
    recorder.add(baseline.to_record(facts[-1] if facts else None))
    return baseline
