from __future__ import annotations

from typing import Any

from pytest_k8snet.report.terminal import warnings_of_passes


def test_a_passed_gates_warning_is_told_at_the_end_with_its_claim() -> None:
    warning = "two groups: 8 and 12 of 20 pairs lie apart"
    verdict: dict[str, Any] = {
        "kind": "verdict",
        "claim": "pod-pod / node-node >= 0.95",
        "warnings": [warning],
    }
    records: list[dict[str, Any]] = [
        {"kind": "run"},
        {**verdict, "state": "pass"},
        {**verdict, "state": "fail"},
        {"kind": "verdict", "claim": "of another version", "state": "pass"},
    ]
    assert warnings_of_passes(records) == [f"pod-pod / node-node >= 0.95: {warning}"]
