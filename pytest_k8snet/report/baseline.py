"""An earlier run to compare with: its figures, its facts, and what differs from now.

Two runs are not paired: minutes or days lie between them, and whatever changed meanwhile is in
the ratio. So gates compare with several earlier runs, which show how much runs differ anyway. The
report draws the first, with Welch's interval for two separate groups, and says so. A figure that an
earlier run does not have is an error, never a pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.model import Difference, Key
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.records import Record, read
from pytest_k8snet.report.summary import comparable, differences_between, summarise, thinned
from pytest_k8snet.verdict import Arm


class Baseline:
    """The earlier run.

    Args:
        source: what to call it, usually the file's name.
        records: its records.
        others: further earlier runs, for gates.
    """

    def __init__(
        self, source: str, records: Sequence[Record], others: Sequence[Baseline] = ()
    ) -> None:
        self.others = tuple(others)
        self.name = source
        self.source: str = ", ".join((source, *(one.source for one in self.others)))
        summary = summarise(records)
        self.run = str(summary.run.get("run", ""))
        self.time = summary.begun
        self.facts = summary.facts
        self._figures = comparable(summary.tools)

    def __repr__(self) -> str:
        """Short: pytest prints it with the arguments of each failed test."""
        return f"Baseline({self.source}, run {self.run})"

    @classmethod
    def load(cls, path: Path, *more: Path) -> Baseline:
        """Read the newest run of each results file.

        Raises:
            ResultsError: a file cannot be used, holds no figure, or the same run as another.
        """
        results = read(path)
        others = [cls.load(one) for one in more]
        found = cls(path.name, results.records, others)
        runs = [one.run for one in (found, *others)]
        if len(set(runs)) < len(runs):
            raise ResultsError(
                "the baseline files hold the same run more than once",
                found=f"{found.source}: runs {', '.join(runs)}",
                remedy="give the results files of different runs",
            )
        if not found._figures:
            raise ResultsError(
                f"the baseline {path} holds no figure",
                found=f"{len(results.records)} records of run {results.runs[-1]}, no usable sample",
                remedy="give the results file of a run that measured something",
            )
        return found

    def values_of(self, arm: Arm, figure: str) -> tuple[tuple[float, ...], ...]:
        """Return what each earlier run measured of what a gate measures now, one value per sample.

        Args:
            arm: what is measured now.
            figure: ``bandwidth``, in bit/s, or the median of durations, in seconds, as the table
                of before and now names it: ``median total``.

        Raises:
            ResultsError: an earlier run has none; names those it has.
        """
        return tuple(one._values_of(arm, figure) for one in (self, *self.others))

    def _values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        wanted = Key(arm.scene, arm.placement, arm.mode or "", arm.tool, arm.variant)
        for (key, quantity, _), values in self._figures.items():
            if (key, quantity) == (wanted, figure):
                return values
        raise ResultsError(
            f"the baseline {self.name} has no {figure} of {wanted.text}",
            found="it has "
            + "; ".join(f"{quantity} of {key.text}" for key, quantity, _ in self._figures),
            remedy="measure it before the change as well, or do not compare it",
        )

    def differences(self, facts: Mapping[str, Any] | None) -> tuple[Difference, ...]:
        """Return what is not as it was: cluster and node facts, then and now."""
        if facts is None or self.facts is None:
            return ()
        return differences_between(self.facts, dict(facts))

    def to_record(self, facts: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the content of the "baseline" record, so that a report needs no second file.

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
                    "tool": key.tool,
                    "variant": key.variant,
                    "quantity": quantity,
                    "unit": unit,
                    "count": len(values),
                    "values": thinned(values),
                }
                for (key, quantity, unit), values in self._figures.items()
            ],
            "differences": [
                {"fact": one.fact, "before": one.before, "now": one.now}
                for one in self.differences(facts)
            ],
        }


def attach(recorder: Recorder, *paths: Path) -> Baseline:
    """Load the earlier runs for the run being recorded, and put it into that run's records.

    Args:
        recorder: the run's; its facts are compared with those of the earlier run.
        paths: the earlier runs' results files; the report draws the first.

    Raises:
        ResultsError: the file cannot be used.
    """
    baseline = Baseline.load(*paths)
    facts = [record for record in recorder.records if record["kind"] == "facts"]
    recorder.add(baseline.to_record(facts[-1] if facts else None))
    return baseline
