"""Reads the sums, streams and intervals of iperf3's JSON into typed figures. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from statistics import fmean

from pytest_k8snet.errors import Iperf3Error
from pytest_k8snet.tools.fields import Section
from pytest_k8snet.tools.iperf3.errors import Garbage, TooOld
from pytest_k8snet.tools.iperf3.result import Flow, Iperf3Interval, Iperf3Stream
from pytest_k8snet.units import BitRate, Ratio, Seconds

_MICROSECOND = 1e-6


def read_flow(
    end: Section,
    direction: str,
    *,
    protocol: str,
    mss_bytes: int | None,
    version: tuple[int, ...],
) -> Flow:
    """Read one direction's sums.

    Args:
        end: the document's ``end``.
        direction: ``forward``, ``reverse`` or ``bidirectional`` for the test's (first) direction;
            ``opposite`` for the other one of a bidirectional test.
        protocol: ``TCP``, ``UDP`` or ``SCTP``.
        mss_bytes: for the estimate of segments sent.
        version: of iperf3, for messages.

    Raises:
        TooOld: this version does not tell the receiver's figures of a UDP test.
        Garbage: the sums are missing.
    """
    suffix = "_bidir_reverse" if direction == "opposite" else ""
    sent, received = end.section("sum_sent" + suffix), end.section("sum_received" + suffix)
    if not received:
        raise _no_sums(end, received.path, protocol, version)
    bytes_received = int(received.required_number("bytes"))
    # A server's own output, and a client whose peer is gone, have 0 for "not told".
    bytes_sent = int(sent.number("bytes") or 0) or None
    sent_rate = sent.number("bits_per_second")
    flow = Flow(
        bandwidth=BitRate(received.required_number("bits_per_second")),
        bytes_received=bytes_received,
        seconds=Seconds(received.required_number("seconds")),
        bytes_sent=bytes_sent,
        sent_bandwidth=BitRate(sent_rate) if bytes_sent and sent_rate is not None else None,
    )
    streams = [item for item in end.sections("streams") if _is_on(item, direction)]
    if protocol == "UDP":
        return _with_datagrams(flow, sent, received, streams, direction)
    retransmits = sent.count("retransmits")
    minimum = _round_trips(streams, "min_rtt")
    mean = _round_trips(streams, "mean_rtt")
    maximum = _round_trips(streams, "max_rtt")
    return replace(
        flow,
        retransmits=retransmits,
        retransmit_ratio=_retransmit_ratio(retransmits, bytes_sent, mss_bytes),
        rtt_min=Seconds(min(minimum)) if minimum else None,
        rtt_mean=Seconds(fmean(mean)) if mean else None,
        rtt_max=Seconds(max(maximum)) if maximum else None,
    )


def _no_sums(end: Section, path: str, protocol: str, version: tuple[int, ...]) -> Iperf3Error:
    if protocol == "UDP" and "sum" in end:
        name = ".".join(map(str, version)) or "of an unknown version"
        return TooOld(
            f"iperf3 {name} does not tell what arrived in a UDP test",
            found="its one sum has the sender's bit rate, and 0 % loss where everything is lost",
            remedy="use iperf3 3.12 or later for UDP, e.g. in an image of Debian 12 or later",
        )
    return Garbage(
        "iperf3's output has no sums",
        found=f"{path} is missing",
        remedy="check that this is the unchanged output of an iperf3 client run with -J",
    )


def _is_on(item: Section, direction: str) -> bool:
    """Whether one of ``end.streams`` belongs to a direction."""
    if direction in ("forward", "reverse"):
        return True
    end = item.section("udp") or item.section("sender")
    return end.flag("sender") == (direction == "bidirectional")


def _retransmit_ratio(
    retransmits: int | None, bytes_sent: int | None, mss_bytes: int | None
) -> Ratio | None:
    if retransmits is None or not bytes_sent or not mss_bytes:
        return None
    return Ratio(retransmits / max(1.0, bytes_sent / mss_bytes))


def _round_trips(streams: Iterable[Section], key: str) -> list[float]:
    """One figure per stream in seconds; 0 means that the stream's sender did not measure it."""
    values = [item.section("sender").number(key) for item in streams]
    return [value * _MICROSECOND for value in values if value]


def _with_datagrams(
    flow: Flow, sent: Section, received: Section, streams: Iterable[Section], direction: str
) -> Flow:
    packets_sent = sent.count("packets") or None
    arrived = None
    highest = received.count("packets")
    if highest is not None:
        # The receiver's "packets" is the highest number it saw, so a lost tail is not in "lost".
        arrived = max(0, highest - (received.count("lost_packets") or 0))
    base = packets_sent or highest
    lost = None if arrived is None or not base else Ratio(min(1.0, max(0.0, 1 - arrived / base)))
    jitter_ms = received.number("jitter_ms")
    return replace(
        flow,
        packets_sent=packets_sent,
        lost_ratio=lost,
        jitter=Seconds(jitter_ms / 1000) if jitter_ms is not None and arrived else None,
        out_of_order=_out_of_order(streams, direction),
    )


def _out_of_order(streams: Iterable[Section], direction: str) -> int | None:
    # The server does not send its count to the client, which then prints 0.
    if direction not in ("reverse", "opposite"):
        return None
    counts = [item.section("udp").count("out_of_order") for item in streams]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


def read_streams(end: Section, *, reverse: bool) -> tuple[Iperf3Stream, ...]:
    """Read each connection's own figures; ``reverse``: the server sends on all of them."""
    return tuple(_stream(item, reverse) for item in end.sections("streams"))


def _stream(item: Section, reverse: bool) -> Iperf3Stream:
    udp = item.section("udp")
    if udp:
        sent = BitRate(udp.required_number("bits_per_second"))
        packets, lost = udp.count("packets") or 0, udp.count("lost_packets") or 0
        share = max(0, packets - lost) / packets if packets else 0.0
        return Iperf3Stream(
            from_client=not reverse and udp.flag("sender"),
            bandwidth=sent * share,
            sent_bandwidth=sent,
        )
    sender, receiver = item.section("sender"), item.section("receiver")
    rate = sender.number("bits_per_second")
    rtt = sender.number("mean_rtt")
    return Iperf3Stream(
        from_client=not reverse and sender.flag("sender"),
        bandwidth=BitRate(receiver.required_number("bits_per_second")),
        sent_bandwidth=None if rate is None else BitRate(rate),
        retransmits=sender.count("retransmits"),
        rtt_mean=Seconds(rtt * _MICROSECOND) if rtt else None,
    )


def read_intervals(document: Section) -> tuple[Iperf3Interval, ...]:
    """Read the intervals, without the omitted ones.

    A run whose server was killed prints its last interval twice; it is read once.
    """
    intervals: dict[tuple[float, float], Iperf3Interval] = {}
    for item in document.sections("intervals"):
        total = item.section("sum")
        if total and not total.flag("omitted"):
            interval = _interval(item, total)
            intervals[float(interval.start), float(interval.end)] = interval
    return tuple(intervals.values())


def _interval(item: Section, total: Section) -> Iperf3Interval:
    back = item.section("sum_bidir_reverse").number("bits_per_second")
    mine = [one for one in item.sections("streams") if one.flag("sender") == total.flag("sender")]
    rtts = [rtt for one in mine if (rtt := one.number("rtt"))]
    windows = [window for one in mine if (window := one.count("snd_cwnd"))]
    return Iperf3Interval(
        start=Seconds(total.required_number("start")),
        end=Seconds(total.required_number("end")),
        bandwidth=BitRate(total.required_number("bits_per_second")),
        reverse_bandwidth=None if back is None else BitRate(back),
        retransmits=total.count("retransmits"),
        rtt=Seconds(fmean(rtts) * _MICROSECOND) if rtts else None,
        cwnd_bytes=sum(windows) if windows else None,
    )
