"""Arms that draw their figures from a model of a cluster, for tests and benchmarks of verdicts.

The model: ln(figure) = mean of the arm + drift with every slot + noise of the connection. The
noise may be normal, heavy-tailed (t with 5 degrees of freedom) or autocorrelated between slots.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator

from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    Judging,
    Observation,
    PairedRatio,
    Plan,
    SampleRequest,
)

#: Standard deviation of one arm's noise, such that a pair's ratio has 4 %.
ARM_SD = 0.04 / math.sqrt(2)
#: Autocorrelation between neighbouring slots, where it is asked for.
CORRELATION = 0.3


class SimulatedCluster:
    """Two arms with a known ratio; time passes by one slot with every sample."""

    def __init__(
        self, rng: random.Random, *, ratio: float, noise: str = "normal", drift: float = 0.0
    ) -> None:
        self._rng = rng
        self._means = (math.log(2.85e9 * ratio), math.log(2.85e9))
        self._drift = drift
        self._noise = noise
        self._slot = 0
        self._common = 0.0
        self.turns: list[SampleRequest] = []

    def _draw(self) -> float:
        if self._noise == "heavy":
            # Student's t with 5 degrees of freedom, scaled to the same variance.
            chi = math.sqrt(sum(self._rng.gauss(0, 1) ** 2 for _ in range(5)) / 5)
            return ARM_SD * self._rng.gauss(0, 1) / chi / math.sqrt(5 / 3)
        if self._noise == "autocorrelated":
            fresh = self._rng.gauss(0, ARM_SD * math.sqrt(1 - CORRELATION**2))
            self._common = CORRELATION * self._common + fresh
            return self._common
        return self._rng.gauss(0, ARM_SD)

    def _take(self, turn: SampleRequest) -> Observation:
        self.turns.append(turn)
        value = self._means[turn.arm] + self._drift * self._slot + self._draw()
        self._slot += 1
        return Observation(figures={"bandwidth": (math.exp(value),)})

    def ratio(self, plan: Plan) -> PairedRatio:
        """Return the lazy ratio of the two arms."""
        judging = Judging(plan=plan)
        pod = Bandwidth(Arm(label="pod-pod", take=self._take), judging)
        return pod / Bandwidth(Arm(label="node-node", take=self._take), judging)


def scripted(*values: float, discards: dict[int, str] | None = None) -> Arm:
    """Return an arm that gives these bandwidths in turn (the last for ever).

    ``discards`` gives the causes of the samples to be discarded, by their place in the script.
    """
    source: Iterator[tuple[int, float]] = zip(
        itertools.count(), itertools.chain(values, itertools.repeat(values[-1])), strict=False
    )

    def take(turn: SampleRequest) -> Observation:
        place, value = next(source)
        return Observation(
            figures={"bandwidth": (value,)},
            sample_id=f"s{place:04}",
            discard=(discards or {}).get(place, ""),
        )

    return Arm(label="scripted", take=take)
