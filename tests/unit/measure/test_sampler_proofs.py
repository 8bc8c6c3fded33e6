"""What becomes of a sample whose path is judged, and what is quiet while it runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from notebook import Notebook, service_url

from pytest_k8snet import Mbit
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import PathProof
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.pods import Pod
from pytest_k8snet.cluster.services import ServiceUrl
from pytest_k8snet.errors import ClusterError, PathError, ToolError
from pytest_k8snet.measure.endpoints import Endpoint, LocalShell, Pair, UrlPair
from pytest_k8snet.measure.sampler import Sampler
from pytest_k8snet.tools.curl import CurlOptions
from pytest_k8snet.tools.schedule import Schedule, ScheduledCurl

pytest_plugins = ["loopback"]

SHORT: dict[str, Any] = {"seconds": 1, "omit_seconds": 0, "bitrate": 10 * Mbit}


@dataclass
class Judge:
    """Stands for a prover and its watch: loopback has no path that a kernel could tell of."""

    proof: PathProof
    events: list[str] = field(default_factory=list)

    def watch(self, pair: Pair, probe: object) -> Judge:
        self.events.append("before")
        return self

    def judge(self, result: object) -> PathProof:
        self.events.append("after")
        return self.proof


def judged_by(sampler: Sampler, state: Any, text: str) -> Judge:
    judge = Judge(PathProof(state=state, text=text, expected="ipip"))
    sampler.prover = judge  # type: ignore[assignment]
    return judge


def test_a_sample_on_another_path_is_an_error_that_keeps_its_figure(
    pair: Pair, sampler: Sampler, observer: Notebook
) -> None:
    lie = "tunl0 of node1 sent no packet of this direction during the sample"
    judged_by(sampler, "contradicted", lie)
    with pytest.raises(PathError) as caught:
        pair.iperf3(**SHORT)
    assert caught.value.found == lie
    assert caught.value.during == f"iperf3 {pair.label}"
    (record,) = observer.records
    assert (record["error"], record["path"]["state"]) == (lie, "contradicted")
    assert record["figures"]["bandwidth_bits_per_second"] > 0


@pytest.mark.parametrize("state", ["proven", "missing"])
def test_a_sample_whose_path_is_proven_or_unknown_is_no_error(
    pair: Pair, sampler: Sampler, observer: Notebook, state: str
) -> None:
    judged_by(sampler, state, "node2: no host-network pod on this node")
    pair.iperf3(**SHORT)
    (record,) = observer.records
    assert (record["error"], record["path"]["state"]) == (None, state)


@dataclass(frozen=True)
class Listened:
    """A shell on this machine that says when a client runs, and for how long it may."""

    events: list[str]

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        self.events.append(f"runs for {timeout_seconds:g} s")
        return LocalShell()(argv, timeout_seconds=timeout_seconds)


@pytest.fixture
def quiet(sampler: Sampler) -> list[str]:
    """What the sampler does, as it happens."""
    events = judged_by(sampler, "proven", "").events

    @contextmanager
    def quiet_period(seconds: float) -> Iterator[None]:
        events.append(f"quiet for {seconds:g} s")
        yield
        events.append("over")

    sampler.quiet_period = quiet_period
    return events


def test_a_sample_runs_in_a_quiet_period_between_two_looks_at_its_path(
    pair: Pair, sampler: Sampler, quiet: list[str]
) -> None:
    replace(pair, client=replace(pair.client, shell=Listened(quiet))).iperf3(**SHORT)
    before, silent, runs, over, after = quiet
    assert (before, over, after) == ("before", "over", "after")
    assert silent.removeprefix("quiet ") == runs.removeprefix("runs ")


@pytest.mark.parametrize("scheduled", [False, True])
def test_requests_are_made_in_a_quiet_period(
    node: Endpoint, url: str, sampler: Sampler, quiet: list[str], scheduled: bool
) -> None:
    client = replace(node, shell=Listened(quiet))
    wanted = CurlOptions(url=url, requests=3, max_time_seconds=2)
    if scheduled:
        schedule = Schedule.jittered(wanted, 40, seed=1)
        sampler.sample(ScheduledCurl(), UrlPair(client=client, url=url), schedule)
    else:
        client.curl(url, requests=3)
    silent, runs, over = quiet
    assert over == "over"
    assert silent.removeprefix("quiet ") == runs.removeprefix("runs ")


def test_a_refused_connection_names_what_may_have_kept_it(
    pair: Pair, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A policy that rejects looks to the client as a server that does not listen.
    monkeypatch.setattr(sampler, "_start_server", lambda tool, server: 1)
    asked: list[str] = []

    def suspects(endpoints: Sequence[Endpoint], url: str) -> str:
        asked.extend(endpoint.name for endpoint in endpoints)
        return "policies that may stand in the way: NetworkPolicy tests/default-deny (Ingress)"

    sampler.suspects = suspects
    with pytest.raises(ToolError) as caught:
        pair.iperf3(**SHORT)
    assert asked == [pair.client.name, pair.server.name]
    assert caught.value.found.endswith("NetworkPolicy tests/default-deny (Ingress)")


def test_a_service_that_does_not_answer_names_what_may_have_kept_it(
    node: Endpoint, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(pair: UrlPair) -> None:
        raise ClusterError("it does not answer", found="6 requests without an answer")

    # What it waits for takes 30 s.
    monkeypatch.setattr("pytest_k8snet.measure.sampler.await_answers", silent)
    sampler.suspects = lambda ends, url: f"policies before {url}"
    with pytest.raises(ClusterError) as caught:
        node.curl(service_url("http://10.96.7.7/", "clusterip", own=True))
    assert caught.value.found == "6 requests without an answer\npolicies before http://10.96.7.7/"


@pytest.fixture
def in_a_mode(node: Endpoint, url: str) -> tuple[Endpoint, ServiceUrl]:
    """A pod in a mode, and a Service whose only pod is in it as well."""
    mode = CalicoMode.IPIP_ALWAYS
    replica = Pod(namespace="x", name="web", node="node1", address="127.0.0.1", host_network=False)
    pod = replace(node, kind="pod", name="client", mode=mode, pool="own")
    return pod, service_url(url, "clusterip", replica=replica, served_in=str(mode))


def test_requests_to_the_only_pod_of_a_mode_are_proven(
    in_a_mode: tuple[Endpoint, ServiceUrl], sampler: Sampler, observer: Notebook
) -> None:
    pod, service = in_a_mode
    judge = judged_by(sampler, "proven", "ipip")
    assert not pod.curl(service, requests=2).failed
    (record,) = observer.records
    assert (record["mode"], record["pods_in"]) == ("IPIP-Always", None)
    assert (record["path"]["state"], judge.events) == ("proven", ["before", "after"])


def test_requests_that_translation_led_elsewhere_are_not_labelled_as_the_mode(
    in_a_mode: tuple[Endpoint, ServiceUrl], sampler: Sampler, observer: Notebook
) -> None:
    pod, service = in_a_mode
    judged_by(sampler, "contradicted", "tunl0 of node1 received no packet")
    assert not pod.curl(service, requests=2).failed
    (record,) = observer.records
    assert (record["mode"], record["pods_in"]) == (None, "pods in IPIP-Always")
    assert (record["error"], record["path"]["state"]) == (None, "missing")
    assert record["path"]["text"].endswith("than the mode's: tunl0 of node1 received no packet")


def test_requests_whose_way_is_in_no_mode_say_what_their_pods_are_in(
    in_a_mode: tuple[Endpoint, ServiceUrl],
    node: Endpoint,
    url: str,
    sampler: Sampler,
    observer: Notebook,
) -> None:
    pod, service = in_a_mode
    judge = judged_by(sampler, "proven", "ipip")
    other = replace(pod, mode=CalicoMode.NEVER)
    hidden = replace(pod, masqueraded="kube-proxy masquerades it")
    for client, target in ((node, service), (pod, url), (other, service), (node, url)):
        client.curl(target, requests=1)
    hidden.curl(service, requests=1)
    assert [(one["mode"], one["pods_in"]) for one in observer.records] == [
        (None, "served in IPIP-Always"),
        (None, "client in IPIP-Always"),
        (None, "client in Never, served in IPIP-Always"),
        (None, None),
        (None, "client in IPIP-Always, served in IPIP-Always"),
    ]
    assert {one["path"]["state"] for one in observer.records} == {"not applicable"}
    assert judge.events == []


def test_an_answer_that_never_came_proves_no_path(
    in_a_mode: tuple[Endpoint, ServiceUrl], sampler: Sampler, observer: Notebook
) -> None:
    pod, service = in_a_mode
    judged_by(sampler, "proven", "ipip")
    busy = ServiceUrl(f"{service}busy", "dns", service.service)
    assert pod.curl(busy, requests=2).failed
    assert observer.records[0]["path"]["state"] == "missing"
