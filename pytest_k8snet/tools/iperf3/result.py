"""What one iperf3 run measured: typed, with units, and with the raw output kept."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pytest_k8snet.units import BitRate, Ratio, Seconds

Direction = Literal["forward", "reverse", "bidirectional"]

#: A last interval shorter than this part of the longest one is the remainder of a clock tick.
_SLIVER = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What went in one direction, all streams together.

    None always means "this run cannot tell", never zero.

    Attributes:
        bandwidth: payload that arrived, per second (``sum_received``).
        sent_bandwidth: payload that was handed to the sender's kernel, per second.
        bytes_received: payload that arrived.
        bytes_sent: payload that was handed to the sender's kernel.
        seconds: the receiver's measured time.
        retransmits: TCP segments that the sender sent again.
        retransmit_ratio: of the segments sent, estimated as ``bytes_sent / mss_bytes``.
        packets_sent: UDP datagrams.
        lost_ratio: UDP datagrams that were sent and did not arrive, of those sent. Counted from
            both ends, so that lost datagrams at the end of the test count as well.
        jitter: of UDP, smoothed as RFC 3550 has it.
        out_of_order: UDP datagrams; known only where the client is the receiver.
        rtt_min: the smallest of TCP's smoothed round-trip times, read once per interval under
            load: it includes queueing, and is no latency of the idle path.
        rtt_mean: their mean.
        rtt_max: their maximum.
    """

    bandwidth: BitRate
    bytes_received: int
    seconds: Seconds
    sent_bandwidth: BitRate | None = None
    bytes_sent: int | None = None
    retransmits: int | None = None
    retransmit_ratio: Ratio | None = None
    packets_sent: int | None = None
    lost_ratio: Ratio | None = None
    jitter: Seconds | None = None
    out_of_order: int | None = None
    rtt_min: Seconds | None = None
    rtt_mean: Seconds | None = None
    rtt_max: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Stream:
    """One of the parallel connections.

    Attributes:
        from_client: whether the client sends on it.
        bandwidth: payload that arrived, per second.
    """

    from_client: bool
    bandwidth: BitRate
    sent_bandwidth: BitRate | None = None
    retransmits: int | None = None
    rtt_mean: Seconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Interval:
    """One slice of the measured time, as the client saw it.

    Attributes:
        start: since the measured time began.
        bandwidth: all streams of the (first) direction; what the client sent, unless reverse.
        reverse_bandwidth: of the other direction, in a bidirectional test.
        rtt: mean over the streams, where the client sends TCP.
        cwnd_bytes: congestion windows of all streams together, where the client sends TCP.
    """

    start: Seconds
    end: Seconds
    bandwidth: BitRate
    reverse_bandwidth: BitRate | None = None
    retransmits: int | None = None
    rtt: Seconds | None = None
    cwnd_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Iperf3Result:
    """One iperf3 run.

    The figures of its (first) direction are also found on the result itself, under the names
    that :class:`Flow` explains: ``result.bandwidth`` is ``result.flow.bandwidth``.

    Attributes:
        flow: client to server, or server to client in a reverse test.
        opposite: server to client, in a bidirectional test.
        protocol: ``TCP``, ``UDP`` or ``SCTP``.
        version: of the iperf3 that printed this, e.g. ``(3, 12)``; empty where it did not say.
        mss_bytes: TCP maximum segment size of the connection.
        sender_congestion: TCP congestion control of the sending end.
        receiver_congestion: TCP congestion control of the receiving end.
        cpu_host_percent: of the client's process; over 100 means more than one core.
        cpu_remote_percent: of the server's process.
        intervals: without the omitted ones, each once.
        raw: what iperf3 printed.
        command: the exact command, where it is known.
    """

    flow: Flow
    opposite: Flow | None = None
    protocol: str
    direction: Direction
    version: tuple[int, ...] = ()
    mss_bytes: int | None = None
    sender_congestion: str | None = None
    receiver_congestion: str | None = None
    cpu_host_percent: float | None = None
    cpu_remote_percent: float | None = None
    streams: tuple[Iperf3Stream, ...] = ()
    intervals: tuple[Iperf3Interval, ...] = ()
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def bandwidth(self) -> BitRate:
        """Payload that arrived, per second."""
        return self.flow.bandwidth

    @property
    def sent_bandwidth(self) -> BitRate | None:
        """Payload handed to the sender's kernel, per second."""
        return self.flow.sent_bandwidth

    @property
    def reverse_bandwidth(self) -> BitRate | None:
        """Payload that arrived at the client, per second, in a bidirectional test."""
        return None if self.opposite is None else self.opposite.bandwidth

    @property
    def seconds(self) -> Seconds:
        """The receiver's measured time."""
        return self.flow.seconds

    @property
    def retransmits(self) -> int | None:
        """TCP segments sent again."""
        return self.flow.retransmits

    @property
    def retransmit_ratio(self) -> Ratio | None:
        """TCP segments sent again, of those sent (estimated from the MSS)."""
        return self.flow.retransmit_ratio

    @property
    def lost_ratio(self) -> Ratio | None:
        """UDP datagrams lost, of those sent."""
        return self.flow.lost_ratio

    @property
    def jitter(self) -> Seconds | None:
        """UDP's smoothed jitter."""
        return self.flow.jitter

    @property
    def out_of_order(self) -> int | None:
        """UDP datagrams that came late; known only in a reverse test."""
        return self.flow.out_of_order

    @property
    def rtt_min(self) -> Seconds | None:
        """The smallest smoothed round-trip time under load."""
        return self.flow.rtt_min

    @property
    def rtt_mean(self) -> Seconds | None:
        """The mean smoothed round-trip time under load."""
        return self.flow.rtt_mean

    @property
    def rtt_max(self) -> Seconds | None:
        """The largest smoothed round-trip time under load."""
        return self.flow.rtt_max

    @property
    def to_server_bytes(self) -> int:
        """Payload that arrived at the server during the measured time."""
        return 0 if self.direction == "reverse" else self.flow.bytes_received

    @property
    def to_client_bytes(self) -> int:
        """Payload that arrived at the client during the measured time."""
        if self.direction == "reverse":
            return self.flow.bytes_received
        return 0 if self.opposite is None else self.opposite.bytes_received

    @property
    def cpu_receiver_percent(self) -> float | None:
        """Of the process that receives the (first) direction; over 100 means more than one core."""
        return self.cpu_host_percent if self.direction == "reverse" else self.cpu_remote_percent

    def figures(self) -> dict[str, float]:
        """Every known figure under a name with its unit, as plain numbers for a record."""
        named: dict[str, float | None] = {
            "bandwidth_bits_per_second": self.bandwidth,
            "sent_bandwidth_bits_per_second": self.sent_bandwidth,
            "reverse_bandwidth_bits_per_second": self.reverse_bandwidth,
            "retransmits": self.retransmits,
            "retransmit_ratio": self.retransmit_ratio,
            "lost_ratio": self.lost_ratio,
            "jitter_seconds": self.jitter,
            "out_of_order": self.out_of_order,
            "rtt_min_seconds": self.rtt_min,
            "rtt_mean_seconds": self.rtt_mean,
            "rtt_max_seconds": self.rtt_max,
            "mss_bytes": self.mss_bytes,
            "cpu_host_percent": self.cpu_host_percent,
            "cpu_remote_percent": self.cpu_remote_percent,
            "seconds": self.seconds,
            "streams": len(self.streams) or None,
        }
        if self.opposite is not None:
            named["reverse_retransmits"] = self.opposite.retransmits
            named["reverse_lost_ratio"] = self.opposite.lost_ratio
            named["reverse_jitter_seconds"] = self.opposite.jitter
        return {name: _plain(value) for name, value in named.items() if value is not None}

    def series(self) -> dict[str, list[float]]:
        """The intervals as one plain list per figure that every interval has."""
        longest = max((one.end - one.start for one in self.intervals), default=Seconds(0))
        whole = [one for one in self.intervals if one.end - one.start >= longest * _SLIVER]
        columns: dict[str, list[float | None]] = {
            "bandwidth_bits_per_second": [one.bandwidth for one in whole],
            "reverse_bandwidth_bits_per_second": [one.reverse_bandwidth for one in whole],
            "retransmits": [one.retransmits for one in whole],
            "rtt_seconds": [one.rtt for one in whole],
            "cwnd_bytes": [one.cwnd_bytes for one in whole],
        }
        return {
            name: known
            for name, values in columns.items()
            if (known := [_plain(value) for value in values if value is not None])
            and len(known) == len(values)
        }

    def __repr__(self) -> str:
        parts = [f"{self.protocol} {self.direction}", str(self.bandwidth)]
        if self.reverse_bandwidth is not None:
            parts[-1] += f" / {self.reverse_bandwidth} back"
        if self.retransmits is not None:
            parts.append(f"{self.retransmits} retransmit{'s' if self.retransmits != 1 else ''}")
        if self.lost_ratio is not None:
            parts.append(f"lost {self.lost_ratio}")
        return f"Iperf3Result({', '.join(parts)}, {self.seconds})"


def _plain(value: float) -> float:
    """A number without its unit: json writes subclasses of float by their repr in some paths."""
    return value if type(value) is int else float(value)
