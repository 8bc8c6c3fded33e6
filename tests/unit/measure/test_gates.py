"""Gates over recorded tools: what is asked of them, and what becomes of what they tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest
from notebook import Notebook, service_url
from recorded_tools import RecordedTools

from pytest_k8snet import Mbit, ms, second
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.pods import Pod
from pytest_k8snet.errors import ExecError, PodError, SettingsError
from pytest_k8snet.measure.endpoints import Endpoint, Pair, PodShell, Sample, UrlPair
from pytest_k8snet.measure.gates import Gates
from pytest_k8snet.measure.sampler import Sampler
from pytest_k8snet.report.summary import with_discards
from pytest_k8snet.tools import variant_of
from pytest_k8snet.verdict import Plan, judge

pytest_plugins = ["loopback"]

URL = "http://127.0.0.1:8080/"
QUICK = Plan(
    first=3,
    last=3,
    seconds=1,
    omit_seconds=0,
    span_seconds=0,
    outlier=0,
    warmup_pairs=0,
    seed=1,
)


@pytest.fixture
def node(node: Endpoint) -> Endpoint:
    """A node whose tools are recordings: how fast this machine is must not decide a test."""
    return replace(node, shell=RecordedTools())


def test_a_paced_udp_ratio_is_measured_in_pairs(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    pod = gates.bandwidth(pair, udp=True, bitrate=5 * Mbit)
    node = gates.bandwidth(pair, udp=True, bitrate=10 * Mbit)
    verdict = pod / node <= 0.6
    assert verdict
    assert verdict.estimate == pytest.approx(0.5, abs=0.02)
    samples = [record for record in observer.records if record["kind"] == "sample"]
    assert len(samples) == 2 * len(verdict.evidence.rounds) == 6
    (record,) = [record for record in observer.records if record["kind"] == "verdict"]
    assert sorted(name for ids in record["samples"] for name in ids) == sorted(
        sample["id"] for sample in samples
    )
    assert record["mode"] == "VXLAN-Always"
    assert record["context"] == "VXLAN-Always, node1 -> node1"
    assert record["labels"] == ["node-node (UDP, 5 Mbit/s)", "node-node (UDP, 10 Mbit/s)"]
    assert record["baseline"] == "node-node (UDP, 10 Mbit/s)"
    assert (record["tool"], record["variant"]) == ("iperf3", "UDP, 5 Mbit/s")
    assert record["notes"][0].startswith("lost ")
    assert judge(record).to_record() == verdict.to_record()


def test_both_directions_are_measured_and_the_slower_counts(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    bandwidth = gates.bandwidth(pair, both_directions=True, bitrate=30 * Mbit)
    assert 28 * Mbit <= bandwidth <= 32 * Mbit
    samples = [record for record in observer.records if record["kind"] == "sample"]
    assert ["-R" in sample["command"] for sample in samples] == [False, True] * 3
    (low, high) = bandwidth.verdicts
    assert low.claim.subject == "bandwidth of node-node (30 Mbit/s, slower direction)"
    chosen = [min(samples[i : i + 2], key=_figure)["id"] for i in (0, 2, 4)]
    assert [ids[0] for ids in high.evidence.samples] == chosen


def test_what_samples_have_beside_the_bandwidth_is_judged_too(
    pair: Pair, observer: Notebook
) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    datagrams = gates.bandwidth(pair, udp=True, bitrate=30 * Mbit)
    assert datagrams.loss <= 0.01
    assert datagrams.jitter <= 1 * ms
    stream = gates.bandwidth(pair, bitrate=30 * Mbit)
    assert stream.retransmit_ratio <= 0.01
    assert stream.rtt <= 1 * ms
    verdicts = [one for one in observer.records if one["kind"] == "verdict"]
    assert [one["quantity"] for one in verdicts] == ["loss", "jitter", "retransmit ratio", "rtt"]
    # The second claim on each is settled by the first one's samples.
    assert verdicts[0]["samples"] == verdicts[1]["samples"]
    assert verdicts[2]["samples"] == verdicts[3]["samples"]


def test_both_directions_at_once_are_summed(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    verdict = gates.bandwidth(pair, duplex=True, bitrate=30 * Mbit) >= 55 * Mbit
    assert verdict
    samples = [one for one in observer.records if one["kind"] == "sample" and not one["warmup"]]
    assert all("--bidir" in one["command"] for one in samples)
    assert verdict.estimate == pytest.approx(60 * Mbit, rel=0.02)
    with pytest.raises(SettingsError, match="both_directions and duplex exclude each other"):
        gates.bandwidth(pair, duplex=True, both_directions=True)


# -- Sums of what is measured at once --------------------------------------------------------------


@dataclass(frozen=True)
class Staggered:
    """A sampler whose clients ended one after the other, this many seconds apart."""

    sampler: Sampler
    lag_seconds: float

    def sample(self, *args: Any, **options: Any) -> Sample[Any]:
        return self.sampler.sample(*args, **options)

    def at_once(self, *args: Any, **options: Any) -> list[Sample[Any]]:
        taken = self.sampler.at_once(*args, **options)
        return [replace(one, ended=99 + i * self.lag_seconds) for i, one in enumerate(taken)]


def pairs_of(pair: Pair, count: int, lag_seconds: float = 0.0) -> list[Pair]:
    """Pairs between different ends, measured by one sampler."""
    assert isinstance(pair.sampler, Sampler)
    sampler = Staggered(pair.sampler, lag_seconds)
    names = [f"node{number}" for number in range(2, 2 + count)]
    ends = [replace(pair.server, name=name, node=name) for name in names]
    return [replace(pair, server=end, sampler=sampler) for end in ends]


def test_bandwidths_that_are_added_up_are_measured_at_once(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    parts = [
        gates.bandwidth(one, bitrate=rate * Mbit)
        for one, rate in zip(pairs_of(pair, 3), (20, 30, 50), strict=True)
    ]
    total: Any = sum(parts)
    verdict = total >= 50 * Mbit
    assert verdict
    gates.claims.require_asked()
    assert verdict.estimate == pytest.approx(100 * Mbit, rel=0.02)
    samples = [one for one in observer.records if one["kind"] == "sample"]
    assert len(samples) == 9
    scenes = ["node-node"] * 3
    assert all(sample["at_once"] == scenes for sample in samples)
    assert variant_of(samples[0]) == "20 Mbit/s, part of node-node + node-node + node-node"
    (record,) = [one for one in observer.records if one["kind"] == "verdict"]
    assert record["scene"] == "node-node + node-node + node-node"
    assert record["variant"] == "20 Mbit/s + 30 Mbit/s + 50 Mbit/s"
    assert record["context"] == "VXLAN-Always, " + " + ".join(
        f"node1 -> node{n}" for n in (2, 3, 4)
    )
    assert judge(record).to_record() == verdict.to_record()


def test_a_sum_is_divided_by_a_rate_and_by_another_sum(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    a, b, c = (gates.bandwidth(one, bitrate=30 * Mbit) for one in pairs_of(pair, 3))
    of_rate = (a + b) / (100 * Mbit) >= 0.4
    assert of_rate.estimate == pytest.approx(0.6, rel=0.02)
    of_sum = (a + b) / c >= 1.5
    assert of_sum.estimate == pytest.approx(2.0, rel=0.03)
    assert (of_rate, of_sum.claim.baseline) == (of_rate, "node-node (30 Mbit/s) node1 -> node4")


@pytest.mark.parametrize(("lag_seconds", "discarded"), [(0.3, 0), (1.5, 2)])
def test_tests_that_hardly_ran_at_once_are_no_sum(
    pair: Pair, observer: Notebook, lag_seconds: float, discarded: int
) -> None:
    # The recording lasts for 2 s: with less than a second together there is nothing to add up.
    gates = Gates(observer=observer, plan=QUICK)
    a, b = (gates.bandwidth(one) for one in pairs_of(pair, 2, lag_seconds))
    verdict = a + b >= 50 * Mbit
    assert len(verdict.evidence.discards) == discarded
    if discarded:
        assert "the tests ran at once for 0.5 of 1 s only" in verdict.text
    else:
        # 18.5 and 16.9 Gbit/s in its two seconds: the first one's second and the other's first.
        first, second = 18.515, 16.864
        mean = (first * 1.000142 + second * 1.000461) / 2.000603
        late = (first * 0.700142 + second * 1.000461) / 1.700603
        early = (first * 1.000142 + second * 0.700461) / 1.700603
        (one, other), *_ = [tuple(_figure(s) for s in _samples(observer)[:2])]
        expected = one * late / mean + other * early / mean
        assert verdict.evidence.rounds[0][0][0] == pytest.approx(expected, rel=1e-3)


def test_what_is_no_sum_is_refused(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    one, other = pairs_of(pair, 2)
    a, b = gates.bandwidth(one), gates.bandwidth(other)
    with pytest.raises(SettingsError, match="cannot be added to itself") as caught:
        a + gates.bandwidth(one)
    assert "streams=2" in caught.value.remedy
    with pytest.raises(SettingsError, match="measures one after the other"):
        a + gates.bandwidth(other, both_directions=True)
    with pytest.raises(SettingsError, match="in different modes is of none of them: IPIP-Always, "):
        a + gates.bandwidth(replace(other, mode=CalicoMode.IPIP_ALWAYS))
    with pytest.raises(SettingsError, match="have different plans"):
        a + gates.bandwidth(other, plan="last=9")
    with pytest.raises(SettingsError, match="a sum of bandwidths has no rtt of its own"):
        _ = (a + b).rtt
    latency = gates.latency(pair)
    for wrong in (lambda: latency.rtt.p95 + latency.rtt.p50, lambda: a + 5, lambda: 5 + a):
        with pytest.raises(TypeError, match="only bandwidths are added up, measured at once"):
            wrong()
    assert observer.records == []


def test_a_part_that_fails_is_told_when_the_others_have_ended(
    pair: Pair, observer: Notebook
) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    one, other = pairs_of(pair, 2)

    def broken(argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        if "-c" in argv and "iperf3" in argv:
            raise ExecError("the exec broke off")
        return RecordedTools()(argv, timeout_seconds=timeout_seconds)

    one = replace(one, client=replace(one.client, shell=broken))
    with pytest.raises(ExecError, match="the exec broke off"):
        assert gates.bandwidth(one) + gates.bandwidth(other) >= 50 * Mbit
    assert [bool(sample["error"]) for sample in observer.records] == [True, False]


def _samples(observer: Notebook) -> list[dict[str, Any]]:
    return [dict(one) for one in observer.records if one["kind"] == "sample"]


def test_what_discards_a_turn_discards_the_samples_of_both_directions(
    pair: Pair, observer: Notebook
) -> None:
    answers = iter(["", "calico-node of node1 restarted"])
    gates = Gates(observer=observer, plan=QUICK, watch=lambda: next(answers, ""))
    assert gates.bandwidth(pair, both_directions=True, bitrate=30 * Mbit) >= 1 * Mbit
    samples = [record for record in observer.records if record["kind"] == "sample"]
    (record,) = [record for record in observer.records if record["kind"] == "verdict"]
    (discard,) = record["discarded"]
    assert sorted(discard["samples"]) == [sample["id"] for sample in samples[:2]]
    shown = [sample.get("discarded") for sample in with_discards(samples, [record])]
    assert shown == ["calico-node of node1 restarted"] * 2 + [None] * 6


def _figure(sample: dict[str, Any]) -> float:
    return float(sample["figures"]["bandwidth_bits_per_second"])


def test_arms_with_too_different_segments_are_no_pair(pair: Pair, observer: Notebook) -> None:
    # Another loopback address stands for another machine.
    far = replace(pair, server=replace(pair.server, address="127.0.0.2"))
    small = replace(
        far, client=replace(far.client, name="small", shell=RecordedTools(segment_bytes=1200))
    )
    gates = Gates(observer=observer, plan=QUICK)
    verdict = gates.bandwidth(small) / gates.bandwidth(far) <= 100
    assert verdict.state == "inconclusive"
    assert "the arms differ too much in TCP segment size (MSS, bytes): 1" in verdict.text


@pytest.mark.parametrize(("kind", "alike"), [("pod", True), ("node", False)])
def test_pods_may_have_segments_smaller_by_any_header(
    pair: Pair, observer: Notebook, kind: Literal["pod", "node"], alike: bool
) -> None:
    far = replace(pair, server=replace(pair.server, address="127.0.0.2"))
    arms = [
        replace(
            far,
            client=replace(
                far.client, name=f"{size}", kind=kind, shell=RecordedTools(segment_bytes=size)
            ),
        )
        # VXLAN over IPv6 takes 70 bytes of every pod's MTU.
        for size in (1200, 1270)
    ]
    gates = Gates(observer=observer, plan=QUICK)
    verdict = gates.bandwidth(arms[0]) / gates.bandwidth(arms[1]) <= 100
    assert ("the arms differ too much" not in verdict.text) is alike


def test_a_gate_asks_between_rounds_what_befell_the_cluster(pair: Pair, observer: Notebook) -> None:
    answers = iter(["", "", "calico-node of node1 restarted"])
    gates = Gates(observer=observer, plan=QUICK, watch=lambda: next(answers, ""))
    verdict = gates.bandwidth(pair, bitrate=30 * Mbit) >= 1 * Mbit
    causes = [discard.cause for discard in verdict.evidence.discards]
    assert causes == ["calico-node of node1 restarted"]


def test_reverse_beside_both_directions_is_refused(pair: Pair, observer: Notebook) -> None:
    with pytest.raises(SettingsError, match="reverse and both_directions exclude each other"):
        Gates(observer=observer, plan=QUICK).bandwidth(pair, reverse=True, both_directions=True)


def test_an_option_that_a_gate_does_not_have_is_told_with_those_it_has(
    pair: Pair, observer: Notebook
) -> None:
    with pytest.raises(SettingsError) as caught:
        Gates(observer=observer, plan=QUICK).bandwidth(pair, stream=4)  # type: ignore[arg-type]
    assert str(caught.value) == (
        "bandwidth has no option 'stream'\n"
        "  found: near to it: streams\n"
        "  to do: take one of: bitrate, both_directions, duplex, plan, reverse, streams, udp"
    )


def test_options_and_directions_are_part_of_the_name(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    assert repr(gates.bandwidth(pair)) == "bandwidth of node-node"
    assert repr(gates.bandwidth(pair, streams=4, reverse=True)) == (
        "bandwidth of node-node (4 streams, reverse)"
    )


def test_latency_counts_requests_on_a_schedule(node: Endpoint, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    latency = gates.latency(node, URL, plan="rate=40 requests=100")
    verdict = latency.total.p50 <= 0.9 * ms
    assert verdict
    assert latency.connect.p50 <= 0.2 * ms
    samples = [record for record in observer.records if record["kind"] == "sample"]
    assert len(samples) >= 5
    assert {sample["figures"]["requests"] for sample in samples} == {20}
    assert "schedule kept to" in verdict.text
    assert verdict.claim.scene.startswith("node-127.0.0.1")


def test_refused_answers_exceed_every_limit(node: Endpoint, observer: Notebook) -> None:
    plan = QUICK.with_changes(requests=30, requests_per_second=40)
    latency = Gates(observer=observer, plan=plan).latency(node, f"{URL}busy")
    verdict = latency.total.p90 <= 2 * second
    assert not verdict
    assert "total p90 no good answer" in verdict.text
    assert re.search(r", 30 without a good answer, ", verdict.text)
    assert re.search(r"   (\d+) of 30 answered HTTP 503, schedule kept to", verdict.text)


def test_pings_between_a_pair_are_judged_by_their_percentiles(
    pair: Pair, observer: Notebook
) -> None:
    plan = QUICK.with_changes(requests=100, requests_per_second=200)
    latency = Gates(observer=observer, plan=plan).latency(pair, size_bytes=1000)
    verdict = latency.rtt.p50 <= 0.1 * ms
    assert verdict
    assert verdict.claim.subject == "rtt p50 of node-node (1000 bytes)"
    assert re.search(r"0 of \d+ pings lost", verdict.text)
    samples = [record for record in observer.records if record["kind"] == "sample"]
    assert {sample["tool"] for sample in samples} == {"ping"}
    assert all("-s 1000" in " ".join(sample["command"]) for sample in samples)
    (record,) = [record for record in observer.records if record["kind"] == "verdict"]
    assert record["scene"] == "node-node"
    assert judge(record).to_record() == verdict.to_record()


def test_new_connections_per_second_are_counted(node: Endpoint, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    verdict = gates.connections(node, URL) >= 1000
    assert verdict
    # One after the other, in 0.82 ms each.
    assert verdict.estimate == pytest.approx(1220, rel=0.02)
    (record,) = [record for record in observer.records if record["kind"] == "verdict"]
    assert record["quantity"] == "new connections per second"
    assert judge(record).to_record() == verdict.to_record()
    taken = [one for one in observer.records if one["kind"] == "sample" and not one["warmup"]]
    assert len(taken) == record["n"]
    ratio = (
        gates.connections(node, URL)
        / gates.connections(node, URL.replace("127.0.0.1", "localhost"))
        >= 0.9
    )
    assert ratio
    assert ratio.claim.subject.startswith("new connections per second of node-")


def test_a_lost_ping_exceeds_every_limit(pair: Pair, observer: Notebook) -> None:
    plan = QUICK.with_changes(requests=100, requests_per_second=200)
    lossy = replace(
        pair,
        client=replace(pair.client, shell=RecordedTools(answered=lambda number: number % 2 == 1)),
    )
    verdict = Gates(observer=observer, plan=plan).latency(lossy).rtt.p90 <= 1 * second
    assert not verdict
    assert re.search(r"(\d+) of (\d+) pings lost", verdict.text)


def test_latency_needs_a_url_or_a_pair(node: Endpoint, pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    with pytest.raises(SettingsError, match="latency of node node1 needs a URL to request"):
        gates.latency(node)  # type: ignore[call-overload]
    with pytest.raises(SettingsError, match="ping has no option 'size'") as caught:
        gates.latency(pair, size=3)  # type: ignore[call-overload]
    assert caught.value.remedy == "take one of: size_bytes, wait_seconds"


@pytest.mark.parametrize(
    ("phase", "url", "found"),
    [
        ("tls", "http://web.example/", "http://web.example/ is not https"),
        ("dns", "http://10.96.0.20:8080/", "nothing is looked up for http://10.96.0.20:8080/"),
        ("dns", "https://[fd00::1%25eth0]/", "nothing is looked up for https://[fd00::1%25eth0]/"),
        ("rtt", "http://web.example/", "it is ping's, between the two ends of a pair"),
    ],
)
def test_a_phase_that_a_request_does_not_have_is_refused_before_anything_is_sent(
    node: Endpoint, observer: Notebook, phase: str, url: str, found: str
) -> None:
    latency = Gates(observer=observer, plan=QUICK).latency(node, url)
    with pytest.raises(SettingsError) as caught:
        assert getattr(latency, phase).p50 <= 5 * ms
    assert f"has no {phase} time to judge" in caught.value.problem
    assert caught.value.found == found
    assert observer.records == []


def test_pings_have_a_round_trip_time_alone(pair: Pair, observer: Notebook) -> None:
    with pytest.raises(SettingsError, match="node-node has no connect time to judge"):
        assert Gates(observer=observer, plan=QUICK).latency(pair).connect.p50 <= 5 * ms
    assert observer.records == []


def test_a_gate_on_udp_needs_a_bit_rate(pair: Pair, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    with pytest.raises(SettingsError) as caught:
        gates.bandwidth(pair, udp=True)
    assert str(caught.value) == (
        "a gate on UDP needs a bit rate: what arrives is at most what is sent\n"
        "  to do: write bandwidth(pair, udp=True, bitrate=100 * Mbit)"
    )


def timeless(every: int) -> RecordedTools:
    """Tools whose curl tells 0 for the connection time of every so many new connections."""
    return RecordedTools(connect_seconds=lambda number: 0.0 if number % every == 0 else 0.001)


def test_connect_times_of_0_are_in_no_verdict(node: Endpoint, observer: Notebook) -> None:
    gates = Gates(observer=observer, plan=QUICK.with_changes(requests=60, requests_per_second=40))
    some = gates.latency(replace(node, shell=timeless(every=20)), URL)
    verdict = some.connect.p50 <= 2 * second
    assert 0 not in [value for arms in verdict.evidence.rounds for value in arms[0]]
    assert verdict.evidence.discards == ()
    all_of_them = gates.latency(replace(node, shell=timeless(every=1)), URL)
    verdict = all_of_them.connect.p50 <= 2 * second
    assert verdict.state == "inconclusive"
    assert re.search("curl told no connect time for .* of .* requests", verdict.text)


def test_settings_that_cannot_work_are_refused_before_anything_is_sent(
    node: Endpoint, observer: Notebook
) -> None:
    gates = Gates(observer=observer, plan=QUICK)
    with pytest.raises(SettingsError, match="no URL: 'somewhere'"):
        gates.latency(node, "somewhere")
    with pytest.raises(SettingsError, match="the schedule could have 2000 requests under way"):
        gates.latency(node, "http://10.96.0.20/", plan="rate=1000")
    with pytest.raises(SettingsError, match="the plan's last cannot be 'x'"):
        gates.latency(node, "http://10.96.0.20/", plan="last=x")
    assert observer.records == []


def test_latency_to_anywhere_is_told_with_the_mode_of_its_pod(
    node: Endpoint, observer: Notebook
) -> None:
    mode = CalicoMode.parse("IPIP-Always")
    pod = replace(node, kind="pod", name="client", mode=mode)
    latency = Gates(observer=observer, plan=QUICK).latency(pod, URL, plan="rate=40 requests=100")
    verdict = latency.total.p50 <= 2 * second
    pod.curl(URL, requests=1)
    node.curl(URL, requests=1)
    # The URL leads no one knows where: only the pod is in the mode.
    assert verdict.claim.mode is None
    assert "(client in IPIP-Always)" in verdict.claim.subject
    assert verdict.text.splitlines()[0].endswith("  (node1)")
    *of_pod, of_node = [r["pods_in"] for r in observer.records if r["kind"] == "sample"]
    assert set(of_pod) == {"client in IPIP-Always"}
    assert of_node is None


def limited_by_admission(pair: Pair) -> Pair:
    """The pair with a client whose pod got a CPU limit that nobody asked for."""
    limited = ("its CPU is limited to 200m by a LimitRange",)
    pod = Pod(
        namespace="x",
        name="p",
        node="n",
        address="",
        host_network=False,
        distorted_by=limited,
        altered=("image: mirror.example/i instead of i",),
    )
    api: Any = None  # nothing may be run
    return replace(pair, client=replace(pair.client, shell=PodShell(api, pod)))


def test_a_gate_on_pods_that_admission_has_altered_is_refused(pair: Pair) -> None:
    gates = Gates(observer=Notebook(), plan=QUICK)
    altered = limited_by_admission(pair)
    distorting = ("web pods: container istio-proxy runs beside it",)
    web = service_url("http://x/", "clusterip", distorted_by=distorting)
    makers = (
        lambda: gates.bandwidth(altered),
        lambda: gates.latency(altered),
        lambda: gates.latency(altered.client, "http://x/"),
        lambda: gates.latency(pair.client, web),
    )
    for make in makers:
        with pytest.raises(PodError, match="would judge what admission has done") as caught:
            make()
        assert "k8snet_pod_limits=cpu=4" in caught.value.remedy
    assert caught.value.found == "web pods: container istio-proxy runs beside it"
    assert altered.facts()["distorted_by"] == [
        f"{pair.client}: its CPU is limited to 200m by a LimitRange"
    ]
    assert altered.facts()["altered"] == [f"{pair.client}: image: mirror.example/i instead of i"]


@pytest.mark.parametrize(
    ("way", "marked"), [("clusterip", True), ("dns", True), ("nodeport", False)]
)
def test_requests_that_are_masqueraded_are_marked_and_judged_all_the_same(
    pair: Pair, way: str, marked: bool
) -> None:
    client = replace(pair.client, masqueraded="198.18.0.2 lies outside of clusterCIDR")
    requests = UrlPair(client=client, url=service_url("http://x/", way))
    said = [f"{client}: 198.18.0.2 lies outside of clusterCIDR"] if marked else []
    assert requests.facts()["distorted_by"] == said
    assert requests.distorted_by == ()
