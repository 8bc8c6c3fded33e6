"""Whether a limit lies so near to what an earlier run saw that a gate will often not decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.verdict.observation import Arm
from pytest_k8snet.verdict.power import too_close
from pytest_k8snet.verdict.question import Finding, Mean

if TYPE_CHECKING:
    from pytest_k8snet.verdict.unpaired import Reference
    from pytest_k8snet.verdict.verdict import Claim


def nearness_note(
    claim: Claim, arms: Sequence[Arm], finding: Finding | None, earlier: Reference | None
) -> str:
    """Say that a ratio's limit lies within one pair's spread of the earlier run's, or nothing.

    Args:
        claim: what is asserted now.
        arms: of the ratio, the numerator first.
        finding: of now, whose spread counts.
        earlier: the run to compare with, if there is one.
    """
    question = claim.question
    if earlier is None or finding is None or finding.spread is None:
        return ""
    if not (isinstance(question, Mean) and question.paired and question.figure == "bandwidth"):
        return ""
    if any(_is_variant(arm) for arm in arms):
        return ""
    try:
        above, below = (_centre(earlier.values_of(arm, "bandwidth")) for arm in arms)
    except (ResultsError, ValueError):
        return ""  # the earlier run does not have the ratio
    ratio = math.exp(above - below)
    if not too_close(ratio, claim.limit, finding.spread):
        return ""
    return (
        f"note: the ratio was {ratio:.3f} in {earlier.source}, and one pair varies by "
        f"{finding.spread:.1%}: the limit {claim.limit:g} lies within that, so this gate takes "
        "many pairs or stays undecided; set it further off"
    )


def _is_variant(arm: Arm) -> bool:
    """Tell whether options (streams, UDP, ...) set an arm apart: earlier runs do not keep them."""
    rest = arm.label.removeprefix(arm.scene)
    return rest not in ("", f" [{arm.mode}]", f" ({arm.context})")


def _centre(values: Sequence[float]) -> float:
    if not values:
        raise ValueError("no values")
    return math.fsum(map(math.log, values)) / len(values)
