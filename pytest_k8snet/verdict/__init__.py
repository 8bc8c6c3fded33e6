"""Verdicts that may gate a change: statistics, plans, and the objects a test compares.

Pure: knows neither pytest nor a cluster. Measuring hands in an :class:`Arm` whose ``take`` takes
one sample; a test writes ``assert bandwidth / baseline >= 0.90``; the comparison takes samples
until the verdict is certain.
"""

from __future__ import annotations

from pytest_k8snet.verdict.claims import Claims
from pytest_k8snet.verdict.gate import (
    NEW_CONNECTIONS,
    Bandwidth,
    Connections,
    Latency,
    PairedRatio,
    PairShare,
    Percentile,
    Phase,
)
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.sampling import Arm, Observation, SampleRequest
from pytest_k8snet.verdict.settle import EarlierVerdicts, Judging, Progress
from pytest_k8snet.verdict.verdict import Verdict, judge

__all__ = [
    "NEW_CONNECTIONS",
    "Arm",
    "Bandwidth",
    "Claims",
    "Connections",
    "EarlierVerdicts",
    "Judging",
    "Latency",
    "Observation",
    "PairShare",
    "PairedRatio",
    "Percentile",
    "Phase",
    "Plan",
    "Progress",
    "SampleRequest",
    "Verdict",
    "judge",
]
