"""Verdicts that may gate a change: statistics, plans, and the objects a test compares.

Pure: knows neither pytest nor a cluster. Measuring hands in an :class:`Arm` whose ``take`` takes
one sample; a test writes ``assert bandwidth / baseline >= 0.90``, and then:

    gate        the comparison makes a claim of a question, a relation and a limit
    settle      takes rounds until the claim is decided, or the plan is spent
    sampling    a round is one sample of each arm, in an order that is drawn
    questions   what is asked of the rounds' values: the interval at a look, and what it shows
    verdict     claim, evidence and plan in, verdict out: in the run, and offline from its record
    claims      which gates a test has made and asked, so that none passes unasked
    plan        how much is measured at most, and at what risk
"""

from __future__ import annotations

from pytest_k8snet.verdict.claims import Claims
from pytest_k8snet.verdict.gate import (
    Bandwidth,
    Connections,
    Latency,
    PairedRatio,
    PairShare,
    Percentile,
    Phase,
)
from pytest_k8snet.verdict.plan import Plan
from pytest_k8snet.verdict.questions import NEW_CONNECTIONS
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
