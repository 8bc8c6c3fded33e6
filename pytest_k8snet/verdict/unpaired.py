"""A bandwidth relative to that of an earlier run, as an object that measures when compared."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from pytest_k8snet.verdict.engine import Judging
from pytest_k8snet.verdict.lazy import Comparable
from pytest_k8snet.verdict.observation import Arm
from pytest_k8snet.verdict.question import Question
from pytest_k8snet.verdict.sampler import Sampler
from pytest_k8snet.verdict.unpaired_question import Unpaired


@runtime_checkable
class Reference(Protocol):
    """An earlier run that a measurement can be divided by."""

    @property
    def source(self) -> str:
        """What to call it."""

    def values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        """Its values of what an arm measures now, in base units.

        Raises:
            ResultsError: it has none.
        """


class UnpairedRatio(Comparable):
    """A measurement relative to an earlier run; compares with plain numbers."""

    _example = "assert bandwidth(pods) / baseline >= 0.95"

    def __init__(self, arm: Arm, judging: Judging, reference: Reference) -> None:
        super().__init__(Sampler((arm,), judging.plan, judging.clock, judging.watch), judging)
        self._source = reference.source
        self._question_asked = Unpaired(
            figure="bandwidth", before=reference.values_of(arm, "bandwidth")
        )

    def _question(self) -> Question:
        return self._question_asked

    def _subject(self) -> str:
        return f"{self._sampler.arms[0].label} / baseline run"

    def _baseline(self) -> str:
        return f"baseline run {self._source}"
