"""Every kind of installation: modes are entered, proven, and taken back to the byte.

And said to be, in the terminal, the page, the Markdown summary and the results file, all of which
know an object by one name, for doing and for undoing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
from calico_run import POOL, objects, opened, played

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.errors import ModeUnavailableError
from pytest_k8snet.lab.spec import CalicoSpec
from pytest_k8snet.report.documents import markdown, render_page
from pytest_k8snet.report.hooks import finish
from pytest_k8snet.report.recorder import Recorder
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import text_report

#: Every pool begins in VXLAN-CrossSubnet.
KINDS = {
    "manifest-A": CalicoSpec(vxlan_mode="CrossSubnet"),
    "manifest-B": CalicoSpec(vxlan_mode="CrossSubnet", api_shape="B"),
    "manifest-C": CalicoSpec(vxlan_mode="CrossSubnet", api_shape="C", version="v3.32.1"),
    # The operator without a Calico API server: it complains, and the pool is written beside it.
    "operator-A": CalicoSpec(vxlan_mode="CrossSubnet", install="operator"),
    "operator-B": CalicoSpec(vxlan_mode="CrossSubnet", install="operator", api_shape="B"),
    "operator-C": CalicoSpec(
        vxlan_mode="CrossSubnet", install="operator", api_shape="C", version="v3.32.1"
    ),
    # It makes its pool once, and reverts nothing.
    "operator-3.27": CalicoSpec(
        vxlan_mode="CrossSubnet", install="operator", api_shape="B", version="v3.27.4"
    ),
    # No BIRD: Felix programs IPIP, and nobody Never.
    "vxlan-3.33": CalicoSpec(vxlan_mode="CrossSubnet", backend="vxlan", version="v3.33.0"),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def api(kind: str) -> Generator[Api]:
    with played(KINDS[kind]) as (_, connected):
        yield connected


@pytest.mark.parametrize("strategy", ["dedicated", "in-place"])
def test_modes_are_entered_proven_and_taken_back(
    api: Api, kind: str, strategy: Strategy, tmp_path: Path
) -> None:
    before = objects(api)
    with opened(api, strategy) as run:
        if kind == "vxlan-3.33":
            with pytest.raises(ModeUnavailableError, match="Never has no routes here: BGP is dis"):
                run.session.enter(CalicoMode.NEVER)
            assert run.changes == []
        for mode in (CalicoMode.VXLAN_ALWAYS, CalicoMode.IPIP_ALWAYS):
            pods = run.pods(run.session.enter(mode), "node1", "node2")
            run.session.converge(mode, *map(run.end, pods))
            proof = run.sample(mode, *pods)
            assert (proof.state, proof.expected) == ("proven", mode.path(same_subnet=True)), proof
            if strategy == "in-place":
                run.workspace.delete_pods(pods)
        assert {change["state"] for change in run.changes} == {"applied"}
    assert objects(api) == before
    assert not [line for line in told(run.changes, tmp_path) if "yes, all of it" not in line]


def told(changes: Sequence[dict[str, Any]], folder: Path) -> list[str]:
    """What each report of a run with these changes says of their being put back."""
    results, summary = folder / "results.jsonl", folder / "summary.md"
    recorder = Recorder(results, "k8snet-matrix", summary_path=summary)
    for change in changes:
        recorder.record("change", **change)
    finish(recorder, exit_status=0)
    end = json.loads(results.read_text(encoding="utf-8").splitlines()[-1])
    assert (end["kind"], end["restored"]) == ("end", True), changes
    (line,) = (one for one in text_report(summarise(recorder.records)) if "put back" in one)
    texts = (markdown(recorder.records), summary.read_text("utf-8"), render_page(recorder.records))
    return [line, *texts]


CRD = "/apis/crd.projectcalico.org/v1"


@pytest.fixture(scope="module")
def without_bgp() -> Generator[Api]:
    """A cluster of v3.31 without BGP, whose Felix programs no routes but VXLAN's as yet."""
    with played(CalicoSpec(vxlan_mode="CrossSubnet", backend="vxlan")) as (_, api):
        yield api


def test_felix_programs_ipip_without_bird_as_soon_as_it_is_told_to(without_bgp: Api) -> None:
    mode, api = CalicoMode.IPIP_ALWAYS, without_bgp
    with opened(api, "dedicated") as run:
        with pytest.raises(ModeUnavailableError, match="IPIP-Always has no routes here") as no:
            run.session.enter(mode)
        assert "programClusterRoutes unset" in no.value.found
    api.patch(f"{CRD}/felixconfigurations/default", {"spec": {"programClusterRoutes": "Enabled"}})
    before = objects(api)
    with opened(api, "dedicated") as run:
        pods = run.pods(run.session.enter(mode), "node1", "node2")
        run.session.converge(mode, *map(run.end, pods))
        assert run.sample(mode, *pods).state == "proven"
    assert objects(api) == before


def test_an_overlay_that_would_take_the_direct_routes_of_the_cluster_is_refused(
    without_bgp: Api,
) -> None:
    mode, api = CalicoMode.NEVER, without_bgp
    api.patch(f"{CRD}/felixconfigurations/default", {"spec": {"programClusterRoutes": "Enabled"}})
    api.patch(f"{CRD}/ippools/{POOL}", {"spec": dict(mode.pool_fields)})
    before = objects(api)
    with opened(api, "dedicated") as run:
        for overlay in (CalicoMode.VXLAN_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET):
            with pytest.raises(ModeUnavailableError) as no:
                run.session.enter(overlay)
            assert no.value.problem == (
                f"{overlay} would take the routes from pools that are not under test: "
                f"{POOL} (Never)"
            )
        pods = run.pods(run.session.enter(mode), "node1", "node2")
        run.session.converge(mode, *map(run.end, pods))
        assert run.sample(mode, *pods).state == "proven"
        # What it is spared: the routes between the cluster's own pods go with the first overlay.
        way = ["ip", "-o", "route", "get", pods[1].address]
        assert "via 192.168.0.12" in run.run(run.host("node1"), way).stdout
        spec = {"cidr": "10.77.0.0/24", **CalicoMode.VXLAN_ALWAYS.pool_fields}
        kind = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool"}
        api.create(f"{CRD}/ippools", {**kind, "metadata": {"name": "overlay"}, "spec": spec})
        deadline = time.monotonic() + 10
        while "via 192.168.0.12" in run.run(run.host("node1"), way).stdout:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        api.delete(f"{CRD}/ippools/overlay")
    assert objects(api) == before
