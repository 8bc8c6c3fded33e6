from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from study_records import Record, study

from pytest_k8snet.cli import TROUBLE, main
from pytest_k8snet.errors import ResultsError, SettingsError
from pytest_k8snet.report.judge import reevaluate
from pytest_k8snet.verdict import Arm, Bandwidth, Judging, Observation, Plan, SampleRequest


def results_of_a_gate(
    path: Path, ratio: float = 0.344, limit: float = 0.90, mode: str = "Never"
) -> Path:
    """A results file with one verdict that the gate itself made from simulated samples."""
    names = itertools.count(1)
    made: list[Record] = []

    def arm(scene: str, mean: float) -> Arm:
        def take(turn: SampleRequest) -> Observation:
            # The order of the arms is drawn anew in each run, the figures are not.
            figure = mean * random.Random(f"{scene} {turn.number}").gauss(1, 0.01)
            return Observation(figures={"bandwidth": (figure,)}, sample_id=f"s{next(names):04d}")

        return Arm(label=scene, take=take, scene=scene, mode=mode)

    plan = Plan(span_seconds=0, outlier=0)
    terms = Judging(plan=plan, recorder=lambda verdict: made.append(verdict.to_record()))
    pods = Bandwidth(arm("pod-pod", ratio * 2.85e9), terms)
    nodes = Bandwidth(arm("node-node", 2.85e9), terms)
    assert (pods / nodes >= limit).finding is not None
    records = [study()[0], *({**study()[0], **record} for record in made)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_the_recorded_limit_gives_the_recorded_verdict(tmp_path: Path) -> None:
    found = reevaluate(results_of_a_gate(tmp_path / "r.jsonl"))
    assert not found.passed
    assert found.differing == ()
    assert "FAIL" in found.text()
    assert "pod-pod / node-node >= 0.90" in found.text()


@pytest.mark.parametrize(
    ("ratio", "state", "status"),
    [(0.95, "pass", 0), (0.344, "fail", 1), (0.90, "inconclusive", 1)],
)
def test_only_a_file_whose_gates_all_pass_ends_the_command_with_0(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    ratio: float,
    state: str,
    status: int,
) -> None:
    path = results_of_a_gate(tmp_path / "r.jsonl", ratio)
    (verdict,) = [one for one in reevaluate(path).records if one["kind"] == "verdict"]
    assert verdict["state"] == state
    assert reevaluate(path).passed is (status == 0)
    assert main(["judge", str(path)]) == status
    assert capsys.readouterr().out.splitlines()[-1] == reevaluate(path).text().splitlines()[-1]


def test_programs_get_the_verdicts_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = results_of_a_gate(tmp_path / "results.jsonl")
    assert main(["judge", "-o", "json", str(path)]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["passed"] is False
    assert answer["differing"] == []
    (verdict,) = answer["verdicts"]
    assert (verdict["state"], verdict["limit"], verdict["mode"]) == ("fail", 0.90, "Never")
    assert "values" not in verdict


def test_the_same_file_gives_the_same_text(tmp_path: Path) -> None:
    path = results_of_a_gate(tmp_path / "r.jsonl")
    assert reevaluate(path).text() == reevaluate(path).text()


def test_another_limit_gives_another_verdict_and_is_said(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text('"pod-pod / node-node" = 0.30\n')
    found = reevaluate(results_of_a_gate(tmp_path / "r.jsonl"), limits)
    assert found.passed
    assert "judged against other limits: 1" in found.text()
    assert "fail, now pass" in found.text()


def test_a_limit_can_be_for_one_mode_only(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text('"pod-pod / node-node" = 0.99\n[Never]\n"pod-pod / node-node" = 0.30\n')
    with pytest.raises(SettingsError) as caught:
        reevaluate(results_of_a_gate(tmp_path / "r.jsonl"), limits)
    assert caught.value.problem == "the limits file names what the results file does not have"
    limits.write_text('[Never]\n"pod-pod / node-node" = 0.30\n')
    assert reevaluate(tmp_path / "r.jsonl", limits).passed


def test_a_limit_can_be_for_one_pair_of_nodes(tmp_path: Path) -> None:
    path = results_of_a_gate(tmp_path / "r.jsonl")
    path.write_text(path.read_text().replace('"context": ""', '"context": "Never, a -> b"'))
    limits = tmp_path / "limits.toml"
    limits.write_text('"pod-pod / node-node (Never, a -> b)" = 0.30\n')
    assert reevaluate(path, limits).passed
    limits.write_text('"pod-pod / node-node (Never, a -> c)" = 0.30\n')
    with pytest.raises(SettingsError, match="names what the results file does not have"):
        reevaluate(path, limits)


def test_a_misspelt_claim_is_an_error_that_lists_the_claims(tmp_path: Path) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text('"pod-pot / node-node" = 0.30\n')
    with pytest.raises(SettingsError) as caught:
        reevaluate(results_of_a_gate(tmp_path / "r.jsonl"), limits)
    assert caught.value.found == "pod-pot / node-node"
    assert "pod-pod / node-node" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"pod-pod / node-node" = "5ms"', "wanted a number"),
        ('"pod-pod / node-node" = true', "wanted a number"),
        ("pod-pod = ", "Invalid value"),
    ],
)
def test_a_limit_that_cannot_be_read_says_why(tmp_path: Path, text: str, found: str) -> None:
    limits = tmp_path / "limits.toml"
    limits.write_text(text)
    with pytest.raises(SettingsError) as caught:
        reevaluate(results_of_a_gate(tmp_path / "r.jsonl"), limits)
    assert found in caught.value.found


def test_a_file_without_verdicts_is_an_error_and_never_a_pass(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(study()[0]) + "\n")
    with pytest.raises(ResultsError, match="holds no verdict to repeat") as caught:
        reevaluate(path)
    assert "0 samples: its tests compared figures themselves" in caught.value.found
    assert main(["judge", str(path)]) == TROUBLE


def test_a_run_that_was_cut_off_says_that_verdicts_may_be_missing(tmp_path: Path) -> None:
    path = results_of_a_gate(tmp_path / "r.jsonl")
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["kind"] != "end"]
    path.write_text("\n".join(kept) + "\n")
    assert "cut off before its end: later gates have no verdict here" in reevaluate(path).text()


def test_a_verdict_without_its_values_cannot_be_judged_again(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in study()))
    with pytest.raises(ResultsError, match="a verdict record cannot be judged again"):
        reevaluate(path)


def test_a_reader_that_stops_early_gets_no_traceback(tmp_path: Path) -> None:
    path = results_of_a_gate(tmp_path / "r.jsonl")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pytest_k8snet.cli", "judge", str(path)],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_what_a_gate_records_fits_the_schema(tmp_path: Path) -> None:
    path = Path(__file__).parents[3] / "docs" / "results.schema.json"
    validator = Draft202012Validator(json.loads(path.read_text("utf-8")))
    for line in results_of_a_gate(tmp_path / "r.jsonl").read_text().splitlines():
        assert [error.message for error in validator.iter_errors(json.loads(line))] == []
