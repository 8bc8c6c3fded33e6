"""An undecided gate goes on in a second run, from the results file of the first."""

from __future__ import annotations

from typing import Any

import pytest
from user_runs import recorded

from pytest_k8snet.verdict import judge

# How busy the machine is says nothing of the shaped links. The budget ends the first run early.
PLAN = "first=3 last=40 seconds=1 omit=0 span=0 outlier=0 warmup=0 steal=1 idle=0"
GATES = """
import pytest

# More certainty than can be had within the budget.
@pytest.mark.k8snet_plan("alpha=0.0001")
def test_undecided(bandwidth, node_pair, k8snet):
    # As like as two measurements can be that are not the same one.
    back = k8snet.node_pair(nodes=(node_pair.server.node, node_pair.client.node))
    assert bandwidth(node_pair) / bandwidth(back) >= 1.0

@pytest.mark.k8snet_plan("last=3 budget=100")
def test_decided(bandwidth, node_pair):
    assert bandwidth(node_pair) / bandwidth(node_pair, reverse=True) >= 0.1
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    """The verdicts of both runs, by their test."""
    folder = tmp_path_factory.mktemp("resumed")
    (folder / "test_gates.py").write_text(GATES, encoding="utf-8")
    plan = f"--k8snet-plan={PLAN} budget=7"
    found = []
    for more in ((), ("--k8snet-resume=first.jsonl",)):
        _, records = recorded(folder, "gates", plan, *more)
        verdicts = [record for record in records if record["kind"] == "verdict"]
        found.append({record["test"].split("::")[1]: record for record in verdicts})
        (folder / "gates.jsonl").replace(folder / "first.jsonl")
    return found


def test_the_second_run_adds_pairs_to_those_of_the_first(
    runs: list[dict[str, dict[str, Any]]],
) -> None:
    first, second = (run["test_undecided"] for run in runs)
    assert "the time budget of 7 s is spent" in first["reason"]
    assert second["values"][: len(first["values"])] == first["values"]
    assert len(second["values"]) > len(first["values"])
    assert second["watched_seconds"] > first["watched_seconds"]
    assert judge(second).to_record() == {name: second[name] for name in judge(second).to_record()}


def test_what_was_decided_stands_and_is_not_measured_again(
    runs: list[dict[str, dict[str, Any]]],
) -> None:
    first, second = (run["test_decided"] for run in runs)
    assert first["state"] == "pass"
    assert second["values"] == first["values"]
    assert second["samples"] == first["samples"]
