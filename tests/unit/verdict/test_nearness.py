"""The note on a limit that lies within one pair's spread of an earlier run's ratio."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulated_cluster import scripted

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Plan, Verdict, judge

# Pairs of about 0.96, which vary by about 4 %.
POD = scripted(0.92e9, 1.00e9, 0.96e9, 0.92e9, 1.00e9, 0.96e9)


class Earlier:
    """An earlier run that has a ratio of 0.96, if anything."""

    source = "before.jsonl"

    def __init__(self, scenes: dict[str, tuple[float, ...]]) -> None:
        self._scenes = scenes

    def values_of(self, arm: Arm, figure: str) -> tuple[float, ...]:
        if arm.scene not in self._scenes:
            raise ResultsError(f"no {figure} of {arm.scene}")
        return self._scenes[arm.scene]


BEFORE = Earlier({"pod-pod": (0.95e9, 0.97e9), "node-node": (1e9, 1e9)})


def verdict(limit: float, earlier: Earlier | None = BEFORE, label: str = "pod-pod") -> Verdict:
    plan = Plan(seed=1, warmup_pairs=0, last=6, first=3)
    terms = Judging(plan=plan, earlier=earlier)
    pod = replace(POD, label=label, scene="pod-pod")
    node = replace(scripted(1e9), label="node-node", scene="node-node")
    return Bandwidth(pod, terms) / Bandwidth(node, terms) >= limit


def test_a_limit_within_the_spread_is_noted_and_the_note_is_kept() -> None:
    near = verdict(0.95)
    assert "\n  note: the ratio was 0.960 in before.jsonl, and one pair varies by " in near.text
    assert "the limit 0.95 lies within that" in near.text
    assert judge(near.to_record()) == near


@pytest.mark.parametrize(
    ("limit", "earlier", "label"),
    [
        (0.80, BEFORE, "pod-pod"),
        (0.95, None, "pod-pod"),
        (0.95, Earlier({}), "pod-pod"),
        (0.95, BEFORE, "pod-pod (8 streams)"),
    ],
    ids=["a limit far off", "no earlier run", "an earlier run without it", "other options"],
)
def test_otherwise_there_is_no_note(limit: float, earlier: Earlier | None, label: str) -> None:
    assert "note:" not in verdict(limit, earlier, label).text
