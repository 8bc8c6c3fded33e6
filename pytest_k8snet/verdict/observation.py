"""One turn of an arm, what came of it, and the arm itself: where measuring and judging meet.

Judging knows a measurement only by this: a label, and a callable that takes one sample when asked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What is asked of an arm: one sample, on a fresh connection.

    Attributes:
        number: which pair (or round) this is, from 0; a retake has the same number.
        attempt: 0, or how many times this pair was discarded before.
        arm: 0 for the numerator (or the only arm), 1 for the baseline.
        warmup: the sample will be left out.
        seconds: length of a bandwidth sample after the omitted start.
        omit_seconds: start to be left out of a bandwidth sample.
        requests: how many requests a latency sample holds; 0 for bandwidth.
        requests_per_second: rate of their schedule.
        seed: for whatever the sample draws at random (port, jitter); differs between turns.
    """

    number: int
    attempt: int
    arm: int
    warmup: bool
    seconds: int
    omit_seconds: int
    requests: int
    requests_per_second: float
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What came of a turn.

    Attributes:
        figures: by name (``bandwidth``, ``connect``, ...), in base units: one value for a
            connection, one per scheduled request for latency. A request that got no complete
            answer, or was never sent, is ``math.inf``.
        sample_id: under which the sample is recorded.
        beside: the ids of further samples that belong to the turn and gave no figure of it.
        discard: why the sample may not count, or empty. A cause that was seen apart from the
            figures, such as CPU steal or a restarted pod; never the figure itself.
        alike: circumstances, by name, that must be the same in both arms of a pair.
        near: figures of circumstances, by name, each with how far the arms' may lie apart; where
            the arms allow for different distances, the larger one counts.
        detail: the measurer's own sample, for :attr:`Arm.describe` and the hints.
    """

    figures: Mapping[str, Sequence[float]]
    sample_id: str = ""
    beside: tuple[str, ...] = ()
    discard: str = ""
    alike: Mapping[str, str] = field(default_factory=dict)
    near: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    detail: object = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One thing that can be measured, and how.

    Attributes:
        label: how it is called in claims, e.g. ``pod-pod``.
        take: takes one sample, now.
        context: what else to say about it, e.g. ``VXLAN-Always, node1 -> node2``.
        scene: name of the scene, for the record.
        mode: name of the Calico mode, for the record.
        placement: how the two nodes lie, to find the like in an earlier run.
        describe: sums up what samples had beside their figures (``retransmits 0.01 %``).
    """

    label: str
    take: Callable[[Turn], Observation]
    context: str = ""
    scene: str = ""
    mode: str | None = None
    placement: str = ""
    describe: Callable[[Sequence[Observation]], str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Discard:
    """Why a pair was left out and taken again: one cause, of one arm.

    Attributes:
        samples: the ids of the whole pair's samples, none of which counts.
    """

    number: int
    attempt: int
    label: str
    cause: str
    samples: tuple[str, ...] = ()
