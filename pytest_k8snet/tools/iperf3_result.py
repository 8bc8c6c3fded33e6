"""What one iperf3 run measured, and how it is read from iperf3's JSON. Pure.

Where a figure comes from: :func:`read_flow` takes what both protocols have from iperf3's sums,
``_tcp_figures`` and ``_udp_figures`` what each has of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from statistics import fmean
from typing import Any, Literal

from pytest_k8snet.errors import Iperf3Error, K8sNetError, quote
from pytest_k8snet.tools.iperf3_errors import (
    BadOption,
    CutOff,
    Empty,
    Garbage,
    Interrupted,
    TooOld,
    error_of,
)
from pytest_k8snet.tools.tool import (
    UNREADABLE,
    Output,
    Section,
    as_written_by,
    printable,
    start_failure,
)
from pytest_k8snet.units import BitRate, Ratio, Seconds

Direction = Literal["forward", "reverse", "bidirectional"]

#: The figures that a record gets: their names there, and the attributes of a result.
_RECORDED = {
    "bandwidth_bits_per_second": "bandwidth",
    "sent_bandwidth_bits_per_second": "sent_bandwidth",
    "reverse_bandwidth_bits_per_second": "reverse_bandwidth",
    "retransmits": "retransmits",
    "retransmit_ratio": "retransmit_ratio",
    "lost_ratio": "lost_ratio",
    "jitter_seconds": "jitter",
    "out_of_order": "out_of_order",
    "rtt_min_seconds": "rtt_min",
    "rtt_mean_seconds": "rtt_mean",
    "rtt_max_seconds": "rtt_max",
    "mss_bytes": "mss_bytes",
    "cpu_host_percent": "cpu_host_percent",
    "cpu_remote_percent": "cpu_remote_percent",
    "seconds": "seconds",
}
#: A last interval shorter than this part of the longest one is the remainder of a clock tick.
_SLIVER = 0.1
_MICROSECOND = 1e-6
#: iperf3 keeps differences of counts in 32 bits without a sign, so that less than nothing is huge.
_WRAP = 1 << 32
#: How far two shares of datagrams may lie apart and be the same: a lost tail is in one alone.
_SAME_SHARE = 0.01
#: 3.9 prints these twice in a bidirectional test; later versions name the second like this.
_SUMS = frozenset({"sum", "sum_sent", "sum_received"})
_REVERSE = "_bidir_reverse"
#: Holds every value of a repeated ``error`` key: 3.22 gives the server's and the client's.
_ERRORS = "error (all)"
#: A JSON object begins a line, or follows another.
_BEGIN = re.compile(r"(?:^|(?<=\}))[ \t]*(?=\{)", re.MULTILINE)
#: A decoder that fails this close to the end has met a cut, not garbage.
_CUT_DISTANCE = 16


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
        retransmit_ratio: of the segments sent, estimated as ``bytes_sent / mss_bytes``; a count
            that makes it more than 1 is none.
        packets_sent: UDP datagrams.
        lost_ratio: UDP payload that was sent and did not arrive, of what was sent; all datagrams
            are of one size. By the bytes of both ends: so those lost at the end of the test count
            as well, and those of the omitted start do not, which 3.12 has in its count of lost
            datagrams; a newer client does not know an older server's.
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

    def figures_by_name(self) -> dict[str, Any]:
        """Return the attributes above, for a result that has them as its own."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Stream:
    """One of the parallel connections.

    Attributes:
        from_client: whether the client sends on it.
        bandwidth: payload that arrived, per second; of parallel UDP streams it is known only where
            their counts of lost datagrams agree with the bytes that arrived.
    """

    from_client: bool
    bandwidth: BitRate | None
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
class Iperf3Result(Flow):
    """What one iperf3 run measured.

    It is the flow of its (first) direction, client to server, or server to client in a reverse
    test: ``bandwidth``, ``retransmits``, ``lost_ratio`` and the like are those of :class:`Flow`.

    Attributes:
        opposite: server to client, in a bidirectional test.
        protocol: ``TCP``, ``UDP`` or ``SCTP``.
        version: of the iperf3 that printed this, e.g. ``(3, 12)``; empty where it did not say.
        mss_bytes: TCP maximum segment size of the connection.
        client_address: by which the server saw the client; empty where it did not say.
        sender_congestion: TCP congestion control of the sending end.
        receiver_congestion: TCP congestion control of the receiving end.
        cpu_host_percent: of the client's process; over 100 means more than one core.
        cpu_remote_percent: of the server's process.
        intervals: without the omitted ones, each once.
        raw: what iperf3 printed.
        command: the exact command, where it is known.
    """

    opposite: Flow | None = None
    protocol: str
    direction: Direction
    version: tuple[int, ...] = ()
    mss_bytes: int | None = None
    client_address: str = ""
    sender_congestion: str | None = None
    receiver_congestion: str | None = None
    cpu_host_percent: float | None = None
    cpu_remote_percent: float | None = None
    streams: tuple[Iperf3Stream, ...] = ()
    intervals: tuple[Iperf3Interval, ...] = ()
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def reverse_bandwidth(self) -> BitRate | None:
        """Payload that arrived at the client, per second, in a bidirectional test."""
        return None if self.opposite is None else self.opposite.bandwidth

    @property
    def to_server_bytes(self) -> int:
        """Payload that arrived at the server during the measured time."""
        return 0 if self.direction == "reverse" else self.bytes_received

    @property
    def to_client_bytes(self) -> int:
        """Payload that arrived at the client during the measured time."""
        if self.direction == "reverse":
            return self.bytes_received
        return 0 if self.opposite is None else self.opposite.bytes_received

    @property
    def cpu_receiver_percent(self) -> float | None:
        """Of the process that receives the (first) direction; over 100 means more than one core."""
        return self.cpu_host_percent if self.direction == "reverse" else self.cpu_remote_percent

    def figures(self) -> dict[str, float]:
        """Return every known figure under a name with its unit, as plain numbers for a record."""
        named = {name: getattr(self, attribute) for name, attribute in _RECORDED.items()}
        named["streams"] = len(self.streams) or None
        if self.opposite is not None:
            named["reverse_retransmits"] = self.opposite.retransmits
            named["reverse_lost_ratio"] = self.opposite.lost_ratio
            named["reverse_jitter_seconds"] = self.opposite.jitter
        return {name: _plain(value) for name, value in named.items() if value is not None}

    def series(self) -> dict[str, list[float]]:
        """Return the intervals as one plain list per figure that every interval has."""
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
    """Take a number's unit off: json writes subclasses of float by their repr in some paths."""
    return value if type(value) is int else float(value)


# -- From iperf3's sums, streams and intervals to figures -----------------------------------------


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
        return _udp_figures(flow, sent, received, streams, direction)
    return _tcp_figures(flow, sent, streams, mss_bytes)


def _tcp_figures(
    flow: Flow, sent: Section, streams: Sequence[Section], mss_bytes: int | None
) -> Flow:
    """Add TCP's own: retransmits of the sender, round-trip times of its streams."""
    retransmits = _retransmits(sent, *(item.section("sender") for item in streams))
    ratio = None
    if retransmits is not None and flow.bytes_sent and mss_bytes:
        ratio = Ratio(retransmits / max(1.0, flow.bytes_sent / mss_bytes))
        if ratio > 1:
            retransmits = ratio = None
    minimum, mean, maximum = (
        [rtt for item in streams if (rtt := _round_trip(item.section("sender"), key)) is not None]
        for key in ("min_rtt", "mean_rtt", "max_rtt")
    )
    return replace(
        flow,
        retransmits=retransmits,
        retransmit_ratio=ratio,
        rtt_min=Seconds(min(minimum)) if minimum else None,
        rtt_mean=Seconds(fmean(mean)) if mean else None,
        rtt_max=Seconds(max(maximum)) if maximum else None,
    )


def _udp_figures(
    flow: Flow, sent: Section, received: Section, streams: Iterable[Section], direction: str
) -> Flow:
    """Add UDP's own: datagrams sent, lost and out of order, jitter."""
    lost = None
    if flow.bytes_sent:
        # The two ends' measured times begin a little apart: slightly more can have arrived.
        lost = Ratio(max(0.0, 1 - flow.bytes_received / flow.bytes_sent))
    jitter_ms = received.number("jitter_ms")
    return replace(
        flow,
        packets_sent=sent.count("packets") or None,
        lost_ratio=lost,
        jitter=Seconds(jitter_ms / 1000) if jitter_ms is not None and flow.bytes_received else None,
        out_of_order=_out_of_order(streams, direction),
    )


def _out_of_order(streams: Iterable[Section], direction: str) -> int | None:
    # The server does not send its count to the client, which then prints 0.
    if direction not in ("reverse", "opposite"):
        return None
    counts = [_count(item.section("udp"), "out_of_order") for item in streams]
    known = [count for count in counts if count is not None]
    return sum(known) if known and len(known) == len(counts) else None


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


def _count(section: Section, key: str) -> int | None:
    """Return a count; None where it is less than nothing, written as 32 bits without a sign."""
    count = section.count(key)
    return None if count is None or count % _WRAP >= _WRAP // 2 else count


def _retransmits(total: Section, *parts: Section) -> int | None:
    """Return a count of retransmits; None where it, or what it is the sum of, cannot be one."""
    known = [_count(one, "retransmits") for one in parts if "retransmits" in one]
    return None if None in known else _count(total, "retransmits")


def _round_trip(section: Section, key: str) -> float | None:
    """Return seconds; None for 0, which means that the stream's sender did not measure it."""
    microseconds = section.number(key)
    known = microseconds is not None and 0 < microseconds < _WRAP // 2
    return microseconds * _MICROSECOND if microseconds is not None and known else None


def read_streams(end: Section, *, reverse: bool) -> tuple[Iperf3Stream, ...]:
    """Read each connection's own figures; ``reverse``: the server sends on all of them."""
    streams = list(end.sections("streams"))
    counted = _losses_are_counted(end, [item.section("udp") for item in streams])
    return tuple(_stream(item, reverse, counted) for item in streams)


def _losses_are_counted(end: Section, streams: Sequence[Section]) -> bool:
    """Return whether the datagrams that streams tell as arrived are the bytes that arrived."""
    sent_bytes = sum(one.number("bytes") or 0 for one in streams)
    sent = sum(_count(one, "packets") or 0 for one in streams)
    lost = sum(_count(one, "lost_packets") or 0 for one in streams)
    received = [end.section("sum_received" + suffix).number("bytes") for suffix in ("", _REVERSE)]
    arrived = sum(value or 0 for value in received) / sent_bytes if sent_bytes else 0.0
    return sent > 0 and abs((sent - lost) / sent - arrived) <= _SAME_SHARE


def _stream(item: Section, reverse: bool, losses_are_counted: bool) -> Iperf3Stream:
    udp = item.section("udp")
    if udp:
        sent = BitRate(udp.required_number("bits_per_second"))
        packets, lost = udp.count("packets") or 0, udp.count("lost_packets") or 0
        share = max(0, packets - lost) / packets if packets else 0.0
        return Iperf3Stream(
            from_client=not reverse and udp.flag("sender"),
            bandwidth=sent * share if losses_are_counted else None,
            sent_bandwidth=sent,
        )
    sender, receiver = item.section("sender"), item.section("receiver")
    rate = sender.number("bits_per_second")
    rtt = _round_trip(sender, "mean_rtt")
    return Iperf3Stream(
        from_client=not reverse and sender.flag("sender"),
        bandwidth=BitRate(receiver.required_number("bits_per_second")),
        sent_bandwidth=None if rate is None else BitRate(rate),
        retransmits=_retransmits(sender),
        rtt_mean=Seconds(rtt) if rtt is not None else None,
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
    rtts = [rtt for one in mine if (rtt := _round_trip(one, "rtt"))]
    windows = [window for one in mine if (window := one.count("snd_cwnd"))]
    return Iperf3Interval(
        start=Seconds(total.required_number("start")),
        end=Seconds(total.required_number("end")),
        bandwidth=BitRate(total.required_number("bits_per_second")),
        reverse_bandwidth=None if back is None else BitRate(back),
        retransmits=_retransmits(total, *mine),
        rtt=Seconds(fmean(rtts)) if rtts else None,
        cwnd_bytes=sum(windows) if windows else None,
    )


not_iperf3 = as_written_by("iperf3", Garbage, "iperf3 -J")


# -- From what iperf3 printed to one document: plain -J, --json-stream, or why there is none -------


def read_document(output: Output) -> dict[str, Any]:
    """Read iperf3's one document: ``start``, ``intervals``, ``end``.

    Raises:
        Iperf3Error: there is none, or it speaks of an error.
        ToolMissingError: iperf3 is not installed.
    """
    parts = _decode(output)
    said = [message for part in parts for message in _errors_in(part)]
    said += messages_on_stderr(output.stderr)
    if said:
        raise error_of(said, note=output.killed)
    return _one(parts, output)


_STDERR_MESSAGE = re.compile(
    r"^iperf3: (?:error - |(?=interrupt|parameter error|unrecognized|invalid|option ))(.+)$",
    re.MULTILINE,
)


def messages_on_stderr(stderr: str) -> list[str]:
    """Return the errors that iperf3 wrote to stderr, without its warnings and hints."""
    found = [match.strip() for match in _STDERR_MESSAGE.findall(stderr)]
    if not found and re.search(r"^Usage: iperf3", stderr, re.MULTILINE):
        return ["Usage: " + stderr.split("Usage: ", 1)[1].split("\n", 1)[0]]
    return found


def _decode(output: Output) -> list[dict[str, Any]]:
    """Return the JSON objects in iperf3's output.

    Lines of text before, between and behind them (a warning, a shell's own words) are passed over,
    unless they are iperf3's word of an error.
    """
    text = output.stdout
    decoder = json.JSONDecoder(object_pairs_hook=_keep_repeated)
    parts: list[dict[str, Any]] = []
    beside: list[str] = []
    position, length = 0, len(text)
    while position < length:
        begin = _BEGIN.search(text, position)
        beside.append(text[position : begin.start() if begin else length])
        if begin is None:
            break
        try:
            part, position = decoder.raw_decode(text, begin.end())
        except UNREADABLE as exc:
            raise _undecodable(output, exc) from None
        parts.append(part)
    if not parts:
        raise _no_document(output)
    if said := messages_on_stderr("\n".join(beside)):
        raise error_of(said, note=output.killed)
    return parts


def _keep_repeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key == "error":
            merged.setdefault(_ERRORS, []).append(value)
        elif key in merged and key in _SUMS:
            merged[key + _REVERSE] = value
        else:
            merged[key] = value
    return merged


def _errors_in(part: dict[str, Any]) -> list[str]:
    errors = list(part.get(_ERRORS, ()))
    if part.get("event") == "error":
        errors.append(part.get("data"))
    return [printable(error) if isinstance(error, str) else repr(error) for error in errors]


def _one(parts: list[dict[str, Any]], output: Output) -> dict[str, Any]:
    documents = [part for part in parts if "event" not in part]
    if len(documents) == 1:
        return documents[0]
    if documents:
        raise Garbage(
            f"{len(documents)} iperf3 documents in a row where one was expected",
            found="the output of a server that served several tests, or of several runs",
            remedy="parse each run's output by itself",
        )
    events = [(part["event"], part.get("data")) for part in parts]
    if not any(name == "end" for name, _ in events):
        raise cut_off("its event stream has no end event", output)
    return {
        "start": next((data for name, data in events if name == "start"), None),
        "intervals": [data for name, data in events if name == "interval"],
        "end": next(data for name, data in events if name == "end"),
    }


def _no_document(output: Output) -> K8sNetError:
    missing = start_failure("iperf3", output.stderr, output.exit_code)
    if missing is not None:
        return missing
    text, said = output.stdout.strip(), messages_on_stderr(output.stderr)
    if text.startswith(("Usage:", "iperf3: ")) and not said:
        said = messages_on_stderr(text) or [text.split("\n", 1)[0]]
    if said:
        return error_of(said, note=output.killed)
    if text:
        return _garbage("text that is no JSON", text)
    if output.killed:
        return Interrupted(
            "iperf3 was stopped before it printed anything",
            found=output.killed,
            remedy="it most often hangs on a server that accepts connections and does not "
            "answer: check that the server's process runs, and the path's MTU",
        )
    status = "" if output.exit_code is None else f", exit status {output.exit_code}"
    return Empty(
        "iperf3 printed nothing",
        found=output.stderr.strip() or f"empty stdout and stderr{status}",
        remedy="a server prints nothing when its idle timeout ends it; a client that was "
        "killed prints nothing either",
    )


def _undecodable(output: Output, exc: Exception) -> K8sNetError:
    text = output.stdout
    if said := messages_on_stderr(output.stderr):
        return error_of(said, note=output.killed)
    if "\nUsage: iperf3" in text:
        return BadOption("iperf3 printed its usage", found=text, remedy="check the options")
    if isinstance(exc, json.JSONDecodeError) and (
        exc.pos >= len(text) - _CUT_DISTANCE or exc.msg.startswith("Unterminated string")
    ):
        return cut_off("the JSON ends in the middle", output, tail=text[-120:])
    return _garbage(f"JSON that cannot be read ({exc or type(exc).__name__})", text)


def cut_off(how: str, output: Output, *, tail: str = "") -> K8sNetError:
    """Make the error for output that stops before its end."""
    found = "; ".join(filter(None, (how, output.killed)))
    if tail:
        found += f"; it ends with: {tail}"
    return CutOff(
        "iperf3's output is cut off",
        found=found,
        remedy="the process or the connection to it was ended early: look for an eviction, "
        "an out-of-memory kill or a time limit",
    )


def _garbage(what: str, text: str) -> Garbage:
    return Garbage(
        f"iperf3's output is {what}",
        found=quote(printable(text), 300),
        remedy="something else wrote to stdout (a wrapper, a shell profile), or this is not "
        "the output of iperf3 -J",
    )
