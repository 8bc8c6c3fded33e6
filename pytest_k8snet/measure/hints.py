"""Known causes of slow pod networks that the facts of a gate point to. Pure.

A hint is said only of what is no pass, and only where the samples and the nodes' own facts support
it: it names what was seen, where it is known from, and what to try.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from pytest_k8snet.calico.kernel import TUNNEL_DEVICES
from pytest_k8snet.calico.modes import (
    ENCAPSULATION_BYTES,
    ETHERNET_WIRE_BYTES,
    OVERHEAD_BYTES,
    CalicoMode,
    Path,
    mss_bytes,
    ratio_ceiling,
)
from pytest_k8snet.measure.endpoints import Sample
from pytest_k8snet.tools.host import Machine
from pytest_k8snet.tools.iperf3_result import Iperf3Result
from pytest_k8snet.verdict import NEW_CONNECTIONS, Observation, Verdict
from pytest_k8snet.verdict.questions import Share

#: Returns what is known of a node, or None.
MachineOf = Callable[[str], "Machine | None"]

_ISSUE = "projectcalico/calico#"
#: The first kernel that checksums what is masqueraded and then encapsulated as it should.
_SOUND_CHECKSUMS = (5, 7)
#: The first kernel on which checksumming in software through vxlan.calico is known to be slow.
_SLOW_CHECKSUMS = (6, 12)
#: The first iperf3 with a thread for each stream.
_THREADED_IPERF3 = (3, 16)
#: An iperf3 that uses this much of its cores, in percent, has no more to give.
_CPU_BOUND_PERCENT = 90.0
#: A ratio this near to what headers leave has no other cause to look for.
_AT_CEILING = 0.95


def hints(
    verdict: Verdict, arms: Sequence[Sequence[Observation]], machine_of: MachineOf
) -> list[str]:
    """Return the hints for a verdict that is no pass.

    Args:
        verdict: what was claimed, and found.
        arms: the observations of each arm.
        machine_of: the facts of a node by its name.
    """
    slow = _slow_arm(verdict, len(arms))
    if slow is None:
        return []
    samples: list[Sample[Any]] = [
        one.detail for one in arms[slow] if isinstance(one.detail, Sample)
    ]
    if not samples:
        return []
    nodes = _nodes(samples[0])
    machines = {node: known for node in nodes if (known := machine_of(node)) is not None}
    if samples[0].record.get("server") is None:
        # Which nodes the requests went to is not known; the client's packets are encapsulated.
        return _by_node(machines, lambda machine: _checksums(machine, ("vxlan", "ipip")))
    if not isinstance(samples[0].result, Iperf3Result):
        # None of what slows bandwidth down is known to slow pings.
        return []
    path = _path(samples[0])
    found: list[str] = []
    ceiling = _ceiling(samples[0], arms) if slow == 0 else None
    question, finding = verdict.claim.question, verdict.finding
    shares = isinstance(question, Share)
    # None may have been found, and where shares are counted it is none.
    ratio = 0.0 if finding is None or shares else finding.interval.estimate
    if ceiling is None or ratio < _AT_CEILING * ceiling:
        found += _by_node(machines, lambda machine: _troubles(machine, path))
        found += _small_segments(samples[0], machines, path)
    found += _at_work([sample.result for sample in samples])
    limit = question.threshold if isinstance(question, Share) else verdict.claim.limit
    if ceiling is not None and limit > ceiling:
        found.append(
            f"note: headers leave at most {ceiling:.3f} of the baseline's bandwidth "
            f"({_PATH_WORDS[path]}, segments of {samples[0].result.mss_bytes} bytes), so a wire "
            "that is full cannot reach this limit"
        )
    return found


_PATH_WORDS: dict[Path, str] = {"direct": "no tunnel", "vxlan": "VXLAN", "ipip": "IPIP"}


def _slow_arm(verdict: Verdict, arms: int) -> int | None:
    """Return which arm was slower than claimed; None where it was the other way round."""
    question = verdict.claim.question
    more = verdict.claim.relation in (">=", ">")
    if isinstance(question, Share):
        more = more == question.above
    numerator_slow = more == (question.figure in ("bandwidth", NEW_CONNECTIONS))
    if numerator_slow:
        return 0
    return 1 if arms == 2 else None


def _nodes(sample: Sample[Any]) -> list[str]:
    ends = (sample.record.get("client"), sample.record.get("server"))
    return list(dict.fromkeys(end["node"] for end in ends if end and end.get("node")))


def _path(sample: Sample[Any]) -> Path:
    """Return the tunnel of either direction, as it was proven, or else as the mode promises."""
    record = sample.record
    proof = record.get("path")
    if proof:
        expected = [proof.get("expected"), *(one.get("expected") for one in proof.get("route", ()))]
        return next((path for path in TUNNEL_DEVICES if path in expected), "direct")
    if record.get("mode") and "pod" in str(record.get("scene")):
        return CalicoMode.parse(record["mode"]).path(record.get("placement") == "same-subnet")
    return "direct"


def _by_node(machines: dict[str, Machine], rows: Callable[[Machine], Iterable[str]]) -> list[str]:
    """Return each hint once, with the nodes that it holds for."""
    nodes: dict[str, list[str]] = {}
    for node, machine in machines.items():
        for text in rows(machine):
            nodes.setdefault(text, []).append(node)
    return [f"{', '.join(names)}: {text}" for text, names in nodes.items()]


def _troubles(machine: Machine, path: Path) -> Iterator[str]:
    if path == "direct":
        return
    yield from _checksums(machine, (path,))
    kernel, device = machine.kernel_version, TUNNEL_DEVICES[path]
    tunnel, nic = machine.tunnels.get(device), machine.nic
    generic = tunnel is not None and tunnel.offload.get("tx-checksum-ip-generic", False)
    if path == "vxlan" and generic and kernel is not None and kernel >= _SLOW_CHECKSUMS:
        yield (
            f"{device} tx-checksum-ip-generic is on, kernel {machine.kernel}: see {_ISSUE}11435 "
            f"(ethtool -K {device} tx-checksum-ip-generic off)"
        )
    if nic is None:
        return
    if nic.driver == "vmxnet3" and nic.offload.get("tx-udp_tnl-segmentation", False):
        issues = "4727 and #9433" if path == "vxlan" else "4384"
        yield (
            f"{nic.name} is a vmxnet3 with tx-udp_tnl-segmentation on: see {_ISSUE}{issues} "
            f"(ethtool -K {nic.name} tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off)"
        )
    old = kernel is not None and kernel < _SOUND_CHECKSUMS
    if path == "ipip" and old and nic.offload.get("tx-ipxip4-segmentation", False):
        yield (
            f"{nic.name} tx-ipxip4-segmentation is on, kernel {machine.kernel}: see {_ISSUE}4384 "
            f"(ethtool -K {nic.name} tx-ipxip4-segmentation off)"
        )


def _checksums(machine: Machine, paths: Sequence[Path]) -> Iterator[str]:
    kernel = machine.kernel_version
    if kernel is None or kernel >= _SOUND_CHECKSUMS:
        return
    for path in paths:
        device = machine.tunnels.get(TUNNEL_DEVICES[path])
        if device is not None and device.offload.get("tx-checksum-ip-generic", False):
            issue = "3145" if path == "vxlan" else "7807"
            yield (
                f"{device.name} tx-checksum-ip-generic is on, kernel {machine.kernel}: below 5.7, "
                f"masqueraded packets leave it with wrong checksums, see {_ISSUE}{issue} "
                f"(ethtool -K {device.name} tx-checksum-ip-generic off)"
            )


def _small_segments(
    sample: Sample[Iperf3Result], machines: dict[str, Machine], path: Path
) -> Iterator[str]:
    """Say that the pods' MTU wastes part of what the nodes' NICs carry."""
    mss = sample.result.mss_bytes
    mtus = [one.nic.mtu_bytes for one in machines.values() if one.nic and one.nic.mtu_bytes]
    if mss is None or len(mtus) < 2 or "pod" not in str(sample.record.get("scene")):
        return
    # The MTU of pods makes room for every tunnel of the cluster, not only for theirs.
    if mss < mss_bytes(min(mtus) - max(ENCAPSULATION_BYTES.values())):
        yield (
            f"TCP segments carry {mss} bytes where the nodes' MTU of {min(mtus)} leaves "
            f"{mss_bytes(min(mtus) - OVERHEAD_BYTES[path])} ({_PATH_WORDS[path]}): the pods' MTU "
            "is smaller than it has to be"
        )


def _at_work(results: Sequence[Iperf3Result]) -> Iterator[str]:
    streams, version = len(results[0].streams), results[0].version
    threaded = version >= _THREADED_IPERF3
    if streams > 1 and version and not threaded:
        yield (
            f"iperf3 {'.'.join(map(str, version))} sends all {streams} streams from one thread: "
            "3.16 and later have one for each"
        )
    loads = [one.cpu_receiver_percent for one in results if one.cpu_receiver_percent is not None]
    cores = max(1, streams) if threaded else 1
    mean = sum(loads) / len(loads) if loads else 0.0
    if mean >= _CPU_BOUND_PERCENT * cores:
        yield (
            f"the receiver's iperf3 used {mean:.0f} % of a core: its CPU may set the figure, and "
            "not the network"
        )


def _ceiling(numerator: Sample[Any], arms: Sequence[Sequence[Observation]]) -> float | None:
    """Return the largest ratio that headers leave on a full wire; None where it is not known."""
    seen = (one.detail for one in arms[1]) if len(arms) == 2 else ()
    baseline = next((one for one in seen if isinstance(one, Sample)), None)
    if baseline is None or _path(baseline) != "direct" or len(_nodes(baseline)) < 2:
        return None
    mine, base = numerator.result.mss_bytes, baseline.result.mss_bytes
    if mine is None or base is None:
        return None
    return ratio_ceiling(mine, _path(numerator), base, link_bytes=ETHERNET_WIRE_BYTES)
