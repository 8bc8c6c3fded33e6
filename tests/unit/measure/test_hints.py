from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_k8snet import Mbit, ms
from pytest_k8snet.calico.modes import ratio_ceiling
from pytest_k8snet.measure.endpoints import Sample
from pytest_k8snet.measure.hints import hints
from pytest_k8snet.tools.host import Device, Machine
from pytest_k8snet.tools.iperf3_result import Iperf3Result, Iperf3Stream
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict import (
    Arm,
    Bandwidth,
    Judging,
    Latency,
    Observation,
    PairedRatio,
    Plan,
    SampleRequest,
    Verdict,
)

ON = {"tx-checksum-ip-generic": True}
NIC = Device(name="eth0", driver="mlx5_core", mtu_bytes=1500)
#: A node on which nothing is known to be wrong.
SOUND = Machine(
    kernel="6.1.0-21-amd64",
    nic=NIC,
    tunnels={
        "vxlan.calico": Device(name="vxlan.calico", offload=ON),
        "tunl0": Device(name="tunl0", offload=ON),
    },
)


def machine(kernel: str = SOUND.kernel, **nic: Any) -> Machine:
    return replace(SOUND, kernel=kernel, nic=replace(NIC, **nic))


def result(rate: float, **changes: Any) -> Iperf3Result:
    stream = Iperf3Stream(from_client=True, bandwidth=BitRate(rate))
    values = {"mss_bytes": 1398, "version": (3, 12), "streams": (stream,), **changes}
    return Iperf3Result(
        bandwidth=BitRate(rate),
        bytes_received=1,
        seconds=Seconds(1),
        protocol="TCP",
        direction="forward",
        **values,
    )


def arm(
    rate: float,
    *,
    scene: str = "pod-pod",
    path: str | None = "vxlan",
    nodes: tuple[str, str] = ("node1", "node2"),
    mode: str | None = None,
    placement: str = "same-subnet",
    **changes: Any,
) -> Arm:
    record = {
        "scene": scene,
        "mode": mode,
        "placement": placement,
        "client": {"node": nodes[0]},
        "server": {"node": nodes[1]},
        "path": {"expected": path, "route": [{"expected": path}]} if path else None,
    }
    sample = Sample(result=result(rate, **changes), record=record)

    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (rate,)}, detail=sample)

    return Arm(label=scene, take=take)


def node_arm(rate: float = 1e9, **changes: Any) -> Arm:
    return arm(rate, scene="node-node", path="direct", **{"mss_bytes": 1448, **changes})


def judging(*machines: Machine) -> Judging:
    known = dict(zip(("node1", "node2"), machines, strict=False))

    def told(verdict: Verdict, arms: Sequence[Sequence[Observation]]) -> list[str]:
        return hints(verdict, arms, known.get)

    return Judging(plan=Plan(seed=1, warmup_pairs=0, span_seconds=0, outlier=0), hints=told)


def ratio(pod: Arm, *machines: Machine, node: Arm | None = None) -> PairedRatio:
    terms = judging(*machines)
    return Bandwidth(pod, terms) / Bandwidth(node or node_arm(), terms)


def hints_of(pod: Arm, *machines: Machine, limit: float = 0.9) -> tuple[str, ...]:
    verdict = ratio(pod, *machines) >= limit
    assert verdict.state == "fail"
    return verdict.evidence.hints


def test_slow_checksums_of_a_new_kernel_are_named_with_the_nodes() -> None:
    new = machine("6.12.1-amd64")
    said = hints_of(arm(0.344e9), new, new)
    assert said == (
        "node1, node2: vxlan.calico tx-checksum-ip-generic is on, kernel 6.12.1-amd64: see "
        "projectcalico/calico#11435 (ethtool -K vxlan.calico tx-checksum-ip-generic off)",
    )
    assert hints_of(arm(0.344e9), SOUND, new)[0].startswith("node2: vxlan.calico")
    assert hints_of(arm(0.344e9), SOUND, SOUND) == ()


def test_a_flag_that_is_off_or_unknown_points_to_nothing() -> None:
    off = replace(machine("6.12.1"), tunnels={"vxlan.calico": Device(name="vxlan.calico")})
    assert hints_of(arm(0.3e9), off, off) == ()
    assert hints_of(arm(0.3e9), replace(off, tunnels={}), Machine()) == ()
    assert hints_of(arm(0.3e9)) == ()


@pytest.mark.parametrize(
    ("path", "device", "issue"), [("vxlan", "vxlan.calico", "3145"), ("ipip", "tunl0", "7807")]
)
def test_wrong_checksums_of_an_old_kernel_are_named(path: str, device: str, issue: str) -> None:
    old = machine("5.4.0")
    assert hints_of(arm(0.3e9, path=path), old, SOUND) == (
        f"node1: {device} tx-checksum-ip-generic is on, kernel 5.4.0: below 5.7, masqueraded "
        f"packets leave it with wrong checksums, see projectcalico/calico#{issue} "
        f"(ethtool -K {device} tx-checksum-ip-generic off)",
    )


@pytest.mark.parametrize(("path", "issue"), [("vxlan", "4727 and #9433"), ("ipip", "4384")])
def test_a_vmxnet3_that_segments_tunnels_is_named(path: str, issue: str) -> None:
    nic: dict[str, Any] = {"driver": "vmxnet3", "offload": {"tx-udp_tnl-segmentation": True}}
    assert hints_of(arm(0.3e9, path=path), machine(**nic), SOUND) == (
        "node1: eth0 is a vmxnet3 with tx-udp_tnl-segmentation on: see "
        f"projectcalico/calico#{issue} "
        "(ethtool -K eth0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off)",
    )
    assert hints_of(arm(0.3e9, path=path), machine(**{**nic, "driver": "ena"}), SOUND) == ()
    assert hints_of(arm(0.3e9, path="direct"), machine(**nic), machine("6.12.1")) == ()


def test_segmentation_of_ipip_by_an_old_kernel_is_named() -> None:
    nic = {"offload": {"tx-ipxip4-segmentation": True}}
    old = replace(machine("4.18.0-240.el8", **nic), tunnels={})
    assert hints_of(arm(0.3e9, path="ipip"), old, SOUND) == (
        "node1: eth0 tx-ipxip4-segmentation is on, kernel 4.18.0-240.el8: see "
        "projectcalico/calico#4384 (ethtool -K eth0 tx-ipxip4-segmentation off)",
    )
    assert hints_of(arm(0.3e9, path="ipip"), machine("6.1.0", **nic), SOUND) == ()
    assert hints_of(arm(0.3e9), old, SOUND) == ()


def test_without_a_proof_the_mode_says_which_tunnel_was_taken() -> None:
    new = machine("6.12.1")
    for mode, placement, hinted in (
        ("VXLAN-Always", "same-subnet", True),
        ("VXLAN-CrossSubnet", "same-subnet", False),
        ("VXLAN-CrossSubnet", "cross-subnet", True),
        ("Never", "cross-subnet", False),
    ):
        pod = arm(0.3e9, path=None, mode=mode, placement=placement)
        assert bool(hints_of(pod, new)) is hinted, (mode, placement)


def test_a_ratio_at_what_headers_leave_has_no_other_cause() -> None:
    new = machine("6.12.1")
    ceiling = ratio_ceiling(1398, "vxlan", 1448)
    (said,) = hints_of(arm(0.96e9), new, new, limit=1.05)
    assert said == (
        f"note: headers leave at most {float(ceiling):.3f} of the baseline's bandwidth (VXLAN, "
        "segments of 1398 bytes), so a wire that is full cannot reach this limit"
    )
    assert f"{float(ceiling):.3f}" == "0.965"
    assert hints_of(arm(0.92e9), new, limit=0.96) == ()
    assert len(hints_of(arm(0.91e9), new, limit=0.96)) == 1


def test_a_share_of_pairs_above_what_headers_leave_is_out_of_reach() -> None:
    terms = Plan(seed=1, warmup_pairs=0, span_seconds=0, last=29)
    known = judging(SOUND)
    pod = Bandwidth(arm(0.96e9), replace(known, plan=terms))
    pairs = pod / Bandwidth(node_arm(), replace(known, plan=terms))
    verdict = pairs.share(above=0.99) >= 0.9
    assert verdict.state == "fail"
    assert verdict.evidence.hints[0].startswith("note: headers leave at most 0.965")


def test_the_ceiling_needs_a_wire_between_the_nodes() -> None:
    terms = judging()
    near = node_arm(nodes=("node1", "node1"))
    verdict = Bandwidth(arm(0.5e9), terms) / Bandwidth(near, terms) >= 0.98
    assert verdict.evidence.hints == ()
    udp = Bandwidth(arm(0.5e9, mss_bytes=None), terms) / Bandwidth(node_arm(), terms) >= 0.98
    assert udp.evidence.hints == ()


def test_many_streams_of_an_old_iperf3_share_a_thread() -> None:
    four = result(1).streams * 4
    assert hints_of(arm(0.3e9, streams=four)) == (
        "iperf3 3.12 sends all 4 streams from one thread: 3.16 and later have one for each",
    )
    assert hints_of(arm(0.3e9, streams=four, version=(3, 16))) == ()


def test_a_receiver_without_cpu_left_is_named() -> None:
    assert hints_of(arm(0.3e9, cpu_remote_percent=97.0, cpu_host_percent=5.0)) == (
        "the receiver's iperf3 used 97 % of a core: its CPU may set the figure, and not the "
        "network",
    )
    assert hints_of(arm(0.3e9, cpu_remote_percent=89.0, cpu_host_percent=99.0)) == ()
    four = result(1).streams * 4
    assert hints_of(arm(0.3e9, cpu_remote_percent=97.0, streams=four, version=(3, 16))) == ()
    assert len(hints_of(arm(0.3e9, cpu_remote_percent=380.0, streams=four, version=(3, 16)))) == 1


def test_pods_with_a_needlessly_small_mtu_are_named() -> None:
    assert hints_of(arm(0.3e9, mss_bytes=1348), SOUND, SOUND) == (
        "TCP segments carry 1348 bytes where the nodes' MTU of 1500 leaves 1398 (VXLAN): the "
        "pods' MTU is smaller than it has to be",
    )
    # WireGuard's share may be set aside for all pods.
    assert hints_of(arm(0.3e9, mss_bytes=1388), SOUND, SOUND) == ()
    assert hints_of(arm(0.3e9, mss_bytes=1348), SOUND) == ()


def test_the_arm_that_was_too_slow_is_looked_at() -> None:
    new = machine("6.12.1")
    terms = judging(new, new)
    pod, node = Bandwidth(arm(0.3e9), terms), Bandwidth(node_arm(), terms)
    slow_baseline = node / pod <= 1.1
    assert slow_baseline.state == "fail"
    assert len(slow_baseline.evidence.hints) == 1
    # Too fast is nobody's known trouble.
    assert (pod / node <= 0.1).evidence.hints == ()
    assert (pod <= 10 * Mbit).evidence.hints == ()
    assert len((pod >= 900 * Mbit).evidence.hints) == 1
    assert (pod >= 100 * Mbit).evidence.hints == ()


def slow_latency(turn: SampleRequest) -> Observation:
    record = {"scene": "node-clusterip", "client": {"node": "node1"}, "server": None}
    sample = Sample(result=object(), record=record)
    return Observation(figures={"connect": [1.0] * turn.requests}, detail=sample)


def test_stalls_of_requests_point_to_wrong_checksums_only() -> None:
    def said(told: Machine) -> tuple[str, ...]:
        latency = Latency(Arm(label="node1 -> web", take=slow_latency), judging(told))
        return (latency.connect.p95 <= 5 * ms).evidence.hints

    assert said(machine("6.12.1")) == ()
    vxlan, ipip = said(machine("5.4.0"))
    assert "projectcalico/calico#3145" in vxlan
    assert "projectcalico/calico#7807" in ipip


def test_an_undecided_ratio_has_hints_too() -> None:
    rates = iter([0.5e9, 1.5e9] * 10)
    sample = arm(1e9).take
    noisy: Callable[[SampleRequest], Observation] = lambda turn: replace(  # noqa: E731
        sample(turn), figures={"bandwidth": (next(rates),)}
    )
    new = machine("6.12.1")
    verdict = ratio(Arm(label="pod-pod", take=noisy), new) >= 0.87
    assert verdict.state == "inconclusive"
    assert "projectcalico/calico#11435" in verdict.text


def test_without_samples_nothing_is_said() -> None:
    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"bandwidth": (1.0,)}, discard="steal")

    terms = judging(machine("6.12.1"))
    verdict = Bandwidth(Arm(label="a", take=take), terms) >= 1 * Mbit
    assert verdict.state == "inconclusive"
    assert verdict.evidence.hints == ()


def requests_sample(**record: Any) -> Arm:
    """Slow requests of a client on node1, to wherever a Service leads, or between two nodes."""
    sample: Sample[Any] = Sample(
        result=object(), record={"scene": "pod-x", "client": {"node": "node1"}, **record}
    )

    def take(turn: SampleRequest) -> Observation:
        return Observation(figures={"total": (1.0,) * turn.requests}, detail=sample)

    return Arm(label="pod", take=take)


def test_requests_are_told_of_wrong_checksums_on_the_clients_node_and_pings_are_not() -> None:
    old = machine("5.4.0-200-generic")
    slow = Latency(requests_sample(server=None), judging(old)).total.p50 <= 1 * ms
    assert slow.state == "fail"
    assert any("wrong checksums" in hint for hint in slow.evidence.hints)
    pings = requests_sample(server={"node": "node2"})
    assert (Latency(pings, judging(old)).total.p50 <= 1 * ms).evidence.hints == ()
