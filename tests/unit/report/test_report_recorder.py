from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from study_records import Study, study

from pytest_k8snet.errors import ResultsError
from pytest_k8snet.report.documents import RawBudget, render_test
from pytest_k8snet.report.hooks import finish, properties
from pytest_k8snet.report.recorder import Progress, Recorder, current_test, new_run_id
from pytest_k8snet.report.records import read


def content(record: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in record.items() if name not in ("run", "time", "schema")}


def test_a_record_is_completed_and_on_disk_before_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    recorder = Recorder(path, "k8snet-abc123")
    recorder.add({"kind": "run", "tool_version": "0"})
    made = recorder.record("sample", tool="iperf3", scene="pod-pod")
    assert json.loads(path.read_text().splitlines()[-1]) == made
    assert (made["schema"], made["run"], made["id"]) == (1, "k8snet-abc123", "s0001")
    assert made["time"].endswith("Z")
    assert made["test"] == current_test()
    assert "test_a_record_is_completed" in made["test"]
    recorder.close()
    recorder.close()


def test_a_record_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ResultsError) as caught:
        Recorder(None, "r").add({"kind": "test", "test": "t", "outcome": "fine"})
    assert "outcome 'fine' is none of" in caught.value.found


def test_what_was_taken_is_not_taken_again() -> None:
    recorder = Recorder(None, "r")
    recorder.record("sample", tool="curl", scene="a")
    assert [one["scene"] for one in recorder.take()] == ["a"]
    recorder.record("sample", tool="curl", scene="b")
    assert [one["scene"] for one in recorder.take()] == ["b"]
    assert recorder.take() == []


def test_the_end_says_counts_and_whether_all_was_put_back_and_writes_the_summary(
    tmp_path: Path,
) -> None:
    recorder = Recorder(tmp_path / "r.jsonl", "k8snet-abc123", summary_path=tmp_path / "s.md")
    for record in study()[:-1]:
        recorder.add(content(record))
    finish(recorder, 1)
    finish(recorder, 1)
    end = read(tmp_path / "r.jsonl").records[-1]
    assert end["kind"] == "end"
    assert end["restored"] is True
    assert end["counts"] == {
        "passed": 4,
        "failed": 1,
        "inconclusive": 1,
        "error": 1,
        "skipped": 1,
    }
    summary = (tmp_path / "s.md").read_text(encoding="utf-8")
    assert summary.startswith("## Not passed — CHG-1234")


def test_a_summary_that_cannot_be_written_is_an_error_of_ours(tmp_path: Path) -> None:
    recorder = Recorder(None, "r", summary_path=tmp_path / "none" / "s.md")
    with pytest.raises(ResultsError, match="cannot be written"):
        finish(recorder, 0)


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(50)}) == 50
    assert new_run_id().startswith("k8snet-")


def test_properties_are_named_by_what_lasts_from_run_to_run() -> None:
    made = Study()
    udp = ["iperf3", "-c", "198.18.0.9", "-p", "20001", "-J", "-t", "5", "-u", "-b", "10000000"]
    for mbit in (10, 8):
        made.iperf3("t", "pod-pod", "Never", command=udp, figures={"bandwidth": mbit, "mss": None})
    made.iperf3("t", "pod-pod", "Never", warmup=True)
    made.iperf3("t", "node-node", None, nodes=("node1", "node3"))
    made.curl("t", "outside-loadbalancer")
    made.verdict("t", "pass", context="Never, node1 -> node2")
    found = dict(properties(made.records))
    udp_name = "k8snet.iperf3.pod-pod.same-subnet.Never.UDP, 10 Mbit/s.node1 -> node2"
    assert found[f"{udp_name}.bandwidth"] == 9
    assert [name for name in found if "pod-pod." in name] == [f"{udp_name}.bandwidth"]
    assert found["k8snet.iperf3.node-node.same-subnet.node1 -> node3.mss_bytes"] == 1448
    assert found["k8snet.curl.outside-loadbalancer.node1.requests"] == 10
    verdict = "k8snet.verdict.pod-pod / node-node >= 0.90 (Never, node1 -> node2)"
    assert found[verdict] == "pass"


def test_an_extra_holds_figures_and_raw_output_until_its_share_is_spent() -> None:
    made = Study()
    made.iperf3("t", "pod-pod", "Never", gbit=1)
    made.verdict("t", "pass", estimate=0.95, low=0.92, high=0.98)
    share = RawBudget(40, 300_000)
    first = render_test(made.records, share)
    assert "95.0 % [92.0, 98.0], limit ≥ 90 %" in first
    assert "tcp_mss_default" in first
    share.take("x" * 400_000)
    while share.take("x" * 400_000) is not None:
        pass
    assert 'href="#k8snet-s0001"' in render_test(made.records, share)
    assert render_test([], share) == ""


def test_a_budget_cuts_long_outputs_and_ends() -> None:
    budget = RawBudget(samples=10, total=40_000)
    shown = budget.take("x" * 10_000)
    assert shown is not None
    assert shown.endswith("… (6,000 more characters in the results file)")
    for _ in range(9):
        budget.take("x" * 10_000)
    assert budget.take("x") is None


class Terminal(io.StringIO):
    """A terminal that keeps what was drawn on it."""

    def screen(self) -> str:
        """What a reader sees: each return starts the line anew."""
        line: list[str] = []
        for part in self.getvalue().split("\r"):
            line[: len(part)] = part
        return "".join(line).rstrip()


def test_progress_says_what_is_measured_how_long_and_how_far(
    pytestconfig: pytest.Config,
) -> None:
    terminal = Terminal()
    progress = Progress(pytestconfig, terminal)
    progress.test_finished(5)
    progress.start("pod-pod node1 -> node2 [VXLAN-Always]", 10)
    progress.update("3 of at most 20 pairs: ratio [0.336, 0.353] >= 0.90")
    seen = terminal.screen()
    progress.finish()
    assert seen.startswith("  pod-pod node1 -> node2 [VXLAN-Always] · 10 s left · 3 of at most 20")
    assert terminal.screen() == ""
    assert "\x1b" not in terminal.getvalue()
    progress.close()


def test_progress_shows_no_control_characters_of_a_pods_name(pytestconfig: pytest.Config) -> None:
    terminal = Terminal()
    progress = Progress(pytestconfig, terminal)
    progress.start("\x1b[2Jpod\n", 1)
    assert terminal.screen().startswith("  \\x1b[2Jpod\\n · 1 s left")
    progress.close()


def test_progress_is_quiet_where_there_is_no_terminal(
    pytestconfig: pytest.Config, capfd: pytest.CaptureFixture[str]
) -> None:
    progress = Progress(pytestconfig)
    progress.start("x", 1)
    progress.update(note="y")
    progress.finish()
    progress.close()
    assert capfd.readouterr() == ("", "")


def test_a_terminal_that_went_away_ends_no_measurement(pytestconfig: pytest.Config) -> None:
    terminal = Terminal()
    progress = Progress(pytestconfig, terminal)
    terminal.close()
    progress.start("x", 1)
    progress.finish()
    progress.close()
