"""A warning where samples seem to come from two states, such as a fast and a slow queue."""

from __future__ import annotations

from collections.abc import Sequence

#: With fewer values the gap rule would raise more false alarms than it is worth.
FEWEST_VALUES = 8


def two_modes(values: Sequence[float]) -> tuple[int, int] | None:
    """Return the sizes of the lower and upper group, or None when there is one group.

    Two groups: at least eight values, and a gap wider than half their whole range with two or more
    values on each side.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n < FEWEST_VALUES:
        return None
    half_range = (ordered[-1] - ordered[0]) / 2
    for below in range(2, n - 1):
        if ordered[below] - ordered[below - 1] > half_range > 0:
            return below, n - below
    return None
