"""The distribution of a tool's durations: its statistics, for tests and for records."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from pytest_k8snet.errors import SettingsError, ToolError
from pytest_k8snet.units import Seconds

#: What a record gets of each distribution.
_RECORDED = ("mean", "median", "p90", "p95", "p99", "minimum", "maximum")


class NoValue(ToolError):  # noqa: N818 -- named as the errors of the tools are
    """A statistic was asked for that these requests cannot give."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distribution:
    """The durations of one kind over all requests that count, in the order they were made.

    A statistic of an empty distribution raises instead of giving 0 or NaN, because either would
    pass for a figure.

    Attributes:
        name: what took so long, e.g. ``connect`` or ``rtt``.
        values: one per request that counts.
        why_empty: makes the error for a statistic of no values, from the name.
    """

    name: str
    values: tuple[Seconds, ...]
    why_empty: Callable[[str], ToolError] = field(compare=False)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Seconds]:
        return iter(self.values)

    @property
    def mean(self) -> Seconds:
        """The arithmetic mean; one retransmitted SYN (1 s) in 100 requests moves it by 10 ms."""
        return Seconds(statistics.fmean(self._known()))

    @property
    def median(self) -> Seconds:
        """The middle value, or the mean of the two middle ones."""
        return Seconds(statistics.median(map(float, self._known())))

    @property
    def minimum(self) -> Seconds:
        """The shortest."""
        return min(self._known())

    @property
    def maximum(self) -> Seconds:
        """The longest."""
        return max(self._known())

    @property
    def stdev(self) -> Seconds:
        """The sample standard deviation (n - 1); needs two values."""
        values = self._known()
        if len(values) < 2:
            raise NoValue(
                f"the standard deviation of {self.name} needs at least two values",
                found="one successful request",
                remedy="make more requests",
            )
        return Seconds(statistics.stdev(map(float, values)))

    @property
    def p90(self) -> Seconds:
        """The 90th percentile by nearest rank."""
        return self.percentile(90)

    @property
    def p95(self) -> Seconds:
        """The 95th percentile by nearest rank."""
        return self.percentile(95)

    @property
    def p99(self) -> Seconds:
        """The 99th percentile by nearest rank; under 100 values it is their maximum."""
        return self.percentile(99)

    def percentile(self, q: float) -> Seconds:
        """The q-th percentile by nearest rank: of n sorted values, number ``ceil(q / 100 * n)``.

        It is always one of the measured values, never an interpolation between two.

        Raises:
            SettingsError: q is not above 0 and at most 100.
            ToolError: there is no value.
        """
        if not 0 < q <= 100:
            raise SettingsError(
                f"there is no {q!r}th percentile",
                remedy="ask for more than 0 and at most 100, e.g. percentile(99.9)",
            )
        values = sorted(self._known())
        # q * n first: 0.95 * 20 is a little more than 19 in binary, and would give rank 20.
        return values[max(1, math.ceil(q * len(values) / 100)) - 1]

    def figures(self) -> dict[str, float]:
        """Return its statistics in seconds under names for a record, as plain numbers."""
        return {
            f"{self.name}_{statistic}_seconds": float(getattr(self, statistic))
            for statistic in _RECORDED
        }

    def distribution(self) -> dict[str, list[float]]:
        """Return its values in seconds under its name for a record, as plain numbers."""
        return {f"{self.name}_seconds": [float(one) for one in self.values]}

    def _known(self) -> tuple[Seconds, ...]:
        if not self.values:
            raise self.why_empty(self.name)
        return self.values

    def __repr__(self) -> str:
        if not self.values:
            return f"Distribution({self.name}: no values)"
        return (
            f"Distribution({self.name}: n={len(self)}, median {self.median}, p95 {self.p95}, "
            f"max {self.maximum})"
        )
