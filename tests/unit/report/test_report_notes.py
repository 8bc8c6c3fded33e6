from __future__ import annotations

from typing import Any

from pytest_k8snet.report.terminal import limits_too_near


def test_a_passed_gates_note_is_told_at_the_end_with_its_claim() -> None:
    note = "note: the ratio was 0.960 in before.jsonl"
    verdict: dict[str, Any] = {
        "kind": "verdict",
        "claim": "pod-pod / node-node >= 0.95",
        "hints": ["x", note],
    }
    records: list[dict[str, Any]] = [
        {"kind": "run"},
        {**verdict, "state": "pass"},
        {**verdict, "state": "fail"},
        {"kind": "verdict", "claim": "of another version", "state": "pass"},
    ]
    assert limits_too_near(records) == [f"pod-pod / node-node >= 0.95: {note}"]
