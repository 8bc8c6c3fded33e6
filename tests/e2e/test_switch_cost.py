"""The cost of a switch, as a user's test asks for it: what it did to two pods not under test."""

from __future__ import annotations

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from calico_run import POOL
from user_runs import fault, finished, message, nothing_left, start

from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.lab import CalicoSpec, LabProcess, LabSpec, study_nodes
from pytest_k8snet.lab import start as start_lab

GENTLE = """
from pytest_k8snet import second

def test_switch_is_gentle(calico_mode, switch_cost):
    assert switch_cost.lost == 0 and switch_cost.longest_gap <= 2 * second
"""
IN_PLACE = (
    f"--k8snet-change=in-place:{POOL}",
    *("-o", "k8snet_fabric_routes_pods=true"),
    # What is tried before is no part of what a switch costs.
    *("-o", "k8snet_prove_first=false"),
)
WATCHING = "k8snet/role in (disruption,web-disruption)"


@pytest.fixture(scope="module")
def api(lab: LabProcess) -> Api:
    return connect(kubeconfig=lab.kubeconfig)


@pytest.fixture
def folder(lab: LabProcess, tmp_path: Path) -> Path:
    """Where a user's tests are; its ini file names the lab and a results file."""
    (tmp_path / "pytest.ini").write_text(
        f"[pytest]\nk8snet_kubeconfig = {lab.kubeconfig}\nk8snet_results = r.jsonl\n"
    )
    (tmp_path / "test_cost.py").write_text(GENTLE)
    return tmp_path


def switches(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "r.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "switch"]


def test_pools_of_its_own_are_made_once_and_cost_others_nothing(folder: Path, api: Api) -> None:
    with nothing_left(api):
        output = finished(
            folder,
            *("--k8snet-change=dedicated", "--k8snet-modes=Never,VXLAN-Always,IPIP-Always"),
            "--k8snet-summary=s.md",
        )
    assert "3 passed" in output, output
    made, back = switches(folder)
    assert (made["what"], made["mode"]) == ("making the run's own pools", "Never")
    assert (back["what"], back["mode"]) == ("putting everything back", None)
    for one in (made, back):
        assert (one["lost"], one["error"]) == (0, None)
        assert one["requests"] >= 10
        assert one["longest_gap_seconds"] > 0
    told = r"0 of \d+ requests lost in 2 switches, longest gap [\d.]+ m?s \((making|putting) "
    assert re.search(f"  cost      {told}", output)
    assert re.search(rf"\*\*Switch cost:\*\* {told}", (folder / "s.md").read_text())


def test_a_gap_in_forwarding_is_what_the_switch_cost(folder: Path, api: Api) -> None:
    (folder / "test_cost.py").write_text(GENTLE + LIVES)
    with nothing_left(api), fault(api, felix_restart_gap="1"):
        output = finished(folder, *IN_PLACE, "--k8snet-modes=Never,VXLAN-Always", "-rs")
    # The lab's pool is in mode Never, but VXLAN is visited first: two switches, and one back.
    assert "1 failed, 3 passed" in output, output
    assert "put back  yes, all of it (1 object)" in output
    costs = {one["mode"]: one for one in switches(folder)}
    cost, mode = costs["VXLAN-Always"], "VXLAN-Always"
    assert 0.7 <= cost["longest_gap_seconds"] <= 6
    assert cost["lost"] >= 1
    told = f"SwitchCost(entering {mode}: {cost['lost']} of {cost['requests']} requests lost, "
    said = message(output, f"test_switch_is_gentle[{mode}]")
    assert f"E       assert ({cost['lost']} == 0" in said
    assert f"where {cost['lost']} = {told}" in said
    # On the way back BIRD waits for nobody, as on the recorded cluster.
    assert costs["Never"]["longest_gap_seconds"] < cost["longest_gap_seconds"]


#: The two pods are made once: deleting the pods of one mode leaves them, as it does a user's.
LIVES = f"""
WATCHING = {WATCHING!r}
seen = set()

def test_the_watching_pods_live_on(calico_mode, pod_pair, k8snet):
    pods = k8snet.api.list("/api/v1/pods", labels=WATCHING)
    seen.add(frozenset(pod["metadata"]["uid"] for pod in pods))
    assert [len(uids) for uids in seen] == [2]
    assert len({{pod["spec"]["nodeName"] for pod in pods}}) == 2
    assert all(
        pod["metadata"]["annotations"]["cni.projectcalico.org/ipv4pools"]
        == '["default-ipv4-ippool"]'
        for pod in pods
    )
"""


def test_an_undisturbed_switch_costs_nothing_and_is_watched_for_the_window_that_is_set(
    folder: Path, api: Api
) -> None:
    window = ("-o", "k8snet_stability=2500ms")
    output = finished(folder, *IN_PLACE, "--k8snet-modes=VXLAN-Always", *window)
    assert "1 passed" in output, output
    entered = switches(folder)[0]
    assert (entered["what"], entered["lost"]) == ("entering VXLAN-Always", 0)
    # A second more, after the window.
    assert entered["seconds"] >= 3.5


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            ("--k8snet-change=none",),
            "found: --k8snet-change=none: a pool of the cluster is in this mode",
        ),
        (IN_PLACE, f"found: pool {POOL} was in this mode before the run"),
    ],
)
def test_where_nothing_was_switched_there_is_no_cost_to_pass_with(
    folder: Path, change: tuple[str, ...], why: str
) -> None:
    output = finished(folder, *change, "--k8snet-modes=Never", "-rs", COLUMNS="400")
    assert "1 skipped" in output, output
    assert "nothing was switched to get to Never" in output
    assert why in output
    assert switches(folder) == []


def test_a_run_whose_tests_do_not_ask_watches_only_where_the_ini_file_says_so(
    folder: Path, api: Api
) -> None:
    (folder / "test_cost.py").write_text(
        "def test_dynamic(calico_mode, request): request.getfixturevalue('switch_cost')"
    )
    words = ("--k8snet-change=dedicated", "--k8snet-modes=VXLAN-Always")
    output = finished(folder, *words)
    assert "SettingsError: what a switch costs was not watched" in output
    assert switches(folder) == []
    output = finished(folder, *words, "-o", "k8snet_disruption=true")
    assert "1 passed" in output
    assert [one["what"] for one in switches(folder)] == [
        "making the run's own pools",
        "putting everything back",
    ]


def test_trouble_with_the_watching_pods_is_told_to_who_asks_and_to_nobody_else(
    folder: Path, api: Api
) -> None:
    (folder / "test_cost.py").write_text(
        GENTLE + "def test_other(calico_mode, pod_pair): pod_pair.iperf3(seconds=1)"
    )
    with nothing_left(api):
        output = finished(
            folder,
            *("--k8snet-change=dedicated", "--k8snet-modes=VXLAN-Always"),
            *("-o", "k8snet_web_image=registry.invalid/web:1"),
        )
    assert "Rehearsal: Not passed (1 error, 1 passed)" in output, output
    said = message(output, "test_switch_is_gentle[VXLAN-Always]")
    assert "PodError: " in said
    assert "registry.invalid/web:1" in said
    (record,) = switches(folder)
    assert "registry.invalid/web:1" in record["error"]
    assert [record[name] for name in ("requests", "lost", "longest_gap_seconds")] == [None] * 3
    assert "  cost      NOT KNOWN for 1 of 1 switch" in output


def test_an_interrupt_during_a_watched_switch_puts_back_without_watching(
    folder: Path, api: Api
) -> None:
    with nothing_left(api), fault(api, slow_convergence="20"):
        run = start(folder, *IN_PLACE, "--k8snet-modes=VXLAN-Always")
        try:
            deadline = time.monotonic() + 60
            pool = f"/apis/crd.projectcalico.org/v1/ippools/{POOL}"
            while api.get(pool)["spec"].get("vxlanMode") != "Always":
                assert run.poll() is None, run.stdout and run.stdout.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert len(api.list("/api/v1/pods", labels=WATCHING)) == 2
            run.send_signal(signal.SIGINT)
            output = run.communicate(timeout=30)[0]
        finally:
            if run.poll() is None:
                run.kill()
            run.communicate()
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    assert "  put back  yes, all of it (1 object)" in output
    assert "KeyboardInterrupt" in output
    assert switches(folder) == []


def test_a_way_back_that_cuts_others_off_is_no_success_of_a_gentle_way_there(
    folder: Path,
) -> None:
    # Leaving VXLAN costs nothing; where it appears, all routes between nodes go for about 3 s:
    # recorded of a real cluster, tests/data/real.
    calico = CalicoSpec(vxlan_mode="Always")
    with start_lab(LabSpec(nodes=study_nodes(), calico=calico, timing="recorded")) as recorded:
        api = connect(kubeconfig=recorded.kubeconfig)
        words = ("--k8snet-modes=Never", f"--kubeconfig={recorded.kubeconfig}")
        with nothing_left(api):
            output = finished(folder, *IN_PLACE, *words)
    entered, back = switches(folder)
    assert "1 passed" in output, output
    assert (entered["lost"], back["recovered"]) == (0, True)
    assert back["lost"] >= 5
    assert 2.5 <= back["longest_gap_seconds"] <= 6
    assert "Putting everything back cost other pods more than the changes" in output
    assert "put back  yes, all of it" in output
    assert "Not passed" in output
