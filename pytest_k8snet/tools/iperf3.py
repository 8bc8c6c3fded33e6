"""From iperf3's output to a result, or to the error that says why there is none. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from types import MappingProxyType
from typing import Any, Literal, TypedDict

from pytest_k8snet.errors import Iperf3Error, K8sNetError, SettingsError, quote
from pytest_k8snet.tools.common import (
    Section,
    printable,
    start_failure,
    under_timeout,
    was_killed,
)
from pytest_k8snet.tools.iperf3_errors import (
    BadOption,
    CutOff,
    Empty,
    Garbage,
    Interrupted,
    NoData,
    PortInUse,
    ServerNotReady,
    TooOld,
    Truncated,
    error_of,
    messages_on_stderr,
)
from pytest_k8snet.tools.tool import Column, Measured, Output, Payload, ServedTool
from pytest_k8snet.units import BitRate, Ratio, Seconds

#: Fits every encapsulation that Calico has on a 1280-byte path or more, so nothing fragments.
_UDP_LENGTH_BYTES = 1200
#: iperf3's own default for UDP, made visible in the command.
_UDP_BITRATE = BitRate(1e6)
#: A blocked UDP test says so only after 30 to 32 seconds.
_UDP_BUDGET_SECONDS = 40.0
_TCP_BUDGET_SECONDS = 15.0


class Iperf3Keywords(TypedDict, total=False):
    """The options of ``pair.iperf3``, as :class:`Iperf3Options` explains them."""

    seconds: int
    omit_seconds: int
    streams: int
    reverse: bool
    bidirectional: bool
    udp: bool
    bitrate: BitRate | None
    length_bytes: int | None
    window_bytes: int | None
    congestion: str | None
    mss_bytes: int | None
    interval_seconds: float
    dscp: int | str | None
    ipv6: bool | None
    connect_timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Options:
    """One iperf3 client run.

    Attributes:
        server: address or name to connect to.
        port: the server's port.
        seconds: measured time, in whole seconds.
        omit_seconds: time before it that does not count (TCP slow start), in whole seconds.
        streams: parallel connections (``-P``).
        reverse: the server sends (``-R``); then there are no RTT figures.
        bidirectional: both ends send at once (``--bidir``).
        udp: datagrams instead of TCP.
        bitrate: target **per stream**, as iperf3's ``-b``; with ``reverse`` it limits the server.
            None means unlimited for TCP and iperf3's own 1 Mbit/s for UDP.
        length_bytes: payload of one write, and of one datagram; UDP takes 1200 by itself.
        window_bytes: socket buffers (``-w``).
        congestion: TCP congestion control on both ends, e.g. ``cubic``.
        mss_bytes: TCP maximum segment size (``-M``).
        interval_seconds: length of one interval of the series; 0 means none.
        dscp: 0 to 63, or a name such as ``EF``.
        ipv6: only IPv6 (True), only IPv4 (False), or what the name gives (None).
        connect_timeout_seconds: for the control connection.

    Raises:
        SettingsError: a value that iperf3 cannot take, or two that exclude each other.
    """

    server: str
    port: int = 5201
    seconds: int = 10
    omit_seconds: int = 1
    streams: int = 1
    reverse: bool = False
    bidirectional: bool = False
    udp: bool = False
    bitrate: BitRate | None = None
    length_bytes: int | None = None
    window_bytes: int | None = None
    congestion: str | None = None
    mss_bytes: int | None = None
    interval_seconds: float = 1.0
    dscp: int | str | None = None
    ipv6: bool | None = None
    connect_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        _check(
            re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.:%_-]*|::[0-9A-Fa-f:.]*", self.server),
            f"no address or name of a server: {self.server!r}",
        )
        _check_whole("port", self.port, 1, 65535)
        _check_whole("seconds", self.seconds, 1, 86400)
        # 3.17 and older refuse more.
        _check_whole("omit_seconds", self.omit_seconds, 0, 60)
        _check_whole("streams", self.streams, 1, 128)
        _check_whole("length_bytes", self.length_bytes, 16, 65507 if self.udp else 1 << 20)
        _check_whole("window_bytes", self.window_bytes, 1, 512 << 20)
        _check_whole("mss_bytes", self.mss_bytes, 88, 9216)
        _check(
            not (self.reverse and self.bidirectional),
            "reverse and bidirectional exclude each other",
            "bidirectional measures both directions at once",
        )
        _check(
            not (self.udp and (self.congestion or self.mss_bytes)),
            "congestion and mss_bytes are TCP's; udp has neither",
        )
        _check(
            self.bitrate is None or (isinstance(self.bitrate, BitRate) and self.bitrate > 0),
            f"no bit rate: bitrate={self.bitrate!r}",
            "give it a unit, as in 100 * Mbit",
        )
        _check(
            self.congestion is None or re.fullmatch(r"[a-z][a-z0-9_-]*", self.congestion),
            f"no congestion control: {self.congestion!r}",
            "name one of net.ipv4.tcp_available_congestion_control, e.g. cubic",
        )
        _check(
            self.interval_seconds == 0 or 0.1 <= self.interval_seconds <= 60,
            f"interval_seconds={self.interval_seconds!r} is not 0 or from 0.1 to 60",
        )
        if isinstance(self.dscp, str):
            _check(re.fullmatch(r"[A-Za-z]+[0-9]*", self.dscp), f"no DSCP: {self.dscp!r}")
        else:
            _check_whole("dscp", self.dscp, 0, 63)
        _check(
            0.1 <= self.connect_timeout_seconds <= 600,
            f"connect_timeout_seconds={self.connect_timeout_seconds!r} is not from 0.1 to 600",
        )

    @property
    def timeout_seconds(self) -> float:
        """The longest that a sound run can take, in seconds; ``timeout`` ends it then."""
        budget = _UDP_BUDGET_SECONDS if self.udp else _TCP_BUDGET_SECONDS
        return self.seconds + self.omit_seconds + self.connect_timeout_seconds + budget

    @property
    def wire_bitrate(self) -> BitRate | None:
        """What ``-b`` is given; None leaves TCP unlimited."""
        return self.bitrate if self.bitrate is not None or not self.udp else _UDP_BITRATE

    @property
    def wire_length_bytes(self) -> int | None:
        """What ``-l`` is given.

        iperf3's UDP default is the path's MSS, which differs by mode and would fragment where
        the two ends see different MTUs.
        """
        if self.length_bytes is not None or not self.udp:
            return self.length_bytes
        return _UDP_LENGTH_BYTES


class Iperf3(ServedTool[Iperf3Options, "Iperf3Result"]):
    """iperf3 between a client and a one-off server: bandwidth, and what it cost."""

    name = "iperf3"
    title = "Bandwidth"
    rate = Column(
        heading="bandwidth", source="bandwidth_bits_per_second", statistic="mean", unit="bit/s"
    )
    columns = (
        rate,
        Column(heading="retransmits", source="retransmit_ratio", statistic="mean", unit="ratio"),
        Column(heading="RTT", source="rtt_mean_seconds", statistic="mean", unit="seconds"),
        Column(heading="MSS", source="mss_bytes", statistic="minimum", unit="bytes"),
    )
    usual_words = MappingProxyType(
        {"-c": 1, "-p": 1, "-t": 1, "-i": 1, "-O": 1, "--connect-timeout": 1, "-J": 0, "--json": 0}
    )

    def argv(self, options: Iperf3Options) -> tuple[str, ...]:
        """Return the client's command line."""
        return client_argv(options)

    def usual_seconds(self, options: Iperf3Options) -> float:
        """Return the measured time and what comes before it."""
        return options.seconds + options.omit_seconds

    def limit_seconds(self, options: Iperf3Options) -> float:
        """Return the time limit of the client's command line."""
        return options.timeout_seconds

    def parse(self, output: Output, options: Iperf3Options) -> Iperf3Result:
        """Read the client's output."""
        return parse(
            output.stdout, expected=options, stderr=output.stderr, exit_code=output.exit_code
        )

    def measured(self, result: Iperf3Result) -> Measured:
        """Return figures, and the series of intervals."""
        return Measured(
            figures=result.figures(), series=result.series(), seconds=float(result.seconds)
        )

    def payload(self, result: Iperf3Result) -> Payload:
        """Return what arrived during the measured time."""
        return Payload(
            to_server_bytes=result.to_server_bytes,
            to_client_bytes=result.to_client_bytes,
            mss_bytes=result.mss_bytes,
        )

    def server_argv(self, port: int) -> tuple[str, ...]:
        """Start a server for one test."""
        return server_argv(port)

    def check_server(self, output: Output, port: int) -> None:
        """Judge how the server's start ended."""
        check_server(output.stdout, output.stderr, output.exit_code, port=port)

    def at_port(self, options: Iperf3Options, port: int) -> Iperf3Options:
        """Return the options with the server's port."""
        return replace(options, port=port)


def _check(
    sound: object, problem: str, remedy: str = "see Iperf3Options for what it can be"
) -> None:
    if not sound:
        raise SettingsError(f"iperf3 cannot be run like this: {problem}", remedy=remedy)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _check(False, f"{name}={value!r} is no whole number from {low} to {high}")


# -- The command lines of iperf3's two ends, and what the server's start left to read -------------

#: What the script below exits with when something listens on the port already (EADDRINUSE).
_EXIT_IN_USE = 98
_EXIT_NOT_LISTENING = 99
#: What a probe may take; a path that swallows large packets would keep it for ever.
_PROBE_SECONDS = 5

# A bare connect would use up a one-off server, so readiness is read from the kernel's table:
# state 0A is LISTEN, and the kernel lists listening sockets first, which keeps this quick on
# a node with thousands of connections. Shell built-ins only: images may have no grep or ss.
_SERVER_SCRIPT = """
port=$1 idle=$2
hex=$(printf '%04X' "$port")
listening() {
    for table in /proc/net/tcp6 /proc/net/tcp; do
        [ -r "$table" ] || continue
        while read -r slot address peer state rest; do
            [ "$slot" = sl ] && continue
            [ "$state" = 0A ] || break
            [ "${address##*:}" = "$hex" ] && return 0
        done < "$table"
    done
    return 1
}
command -v iperf3 > /dev/null || { echo "iperf3: not found" >&2; exit 127; }
if listening; then echo "port $port is in use" >&2; exit 98; fi
iperf3 -s -1 -D -p "$port" --idle-timeout "$idle" < /dev/null || exit
tries=0
until listening; do
    tries=$((tries + 1))
    [ "$tries" -gt 200 ] && { echo "nothing listens on port $port" >&2; exit 99; }
    sleep 0.01 2> /dev/null || sleep 1
done
"""


def client_argv(options: Iperf3Options) -> tuple[str, ...]:
    """The client's command line, under a time limit of its own."""
    argv = ["iperf3", "-c", options.server, "-p", str(options.port), "-J"]
    argv += ["-t", str(options.seconds), "-i", f"{options.interval_seconds:g}"]
    argv += ["--connect-timeout", f"{options.connect_timeout_seconds * 1000:.0f}"]
    if options.omit_seconds:
        argv += ["-O", str(options.omit_seconds)]
    if options.streams > 1:
        argv += ["-P", str(options.streams)]
    if options.reverse:
        argv.append("-R")
    if options.bidirectional:
        argv.append("--bidir")
    if options.udp:
        argv.append("-u")
    if options.wire_bitrate is not None:
        argv += ["-b", f"{float(options.wire_bitrate):.0f}"]
    if options.wire_length_bytes is not None:
        argv += ["-l", str(options.wire_length_bytes)]
    if options.window_bytes is not None:
        argv += ["-w", str(options.window_bytes)]
    if options.congestion is not None:
        argv += ["-C", options.congestion]
    if options.mss_bytes is not None:
        argv += ["-M", str(options.mss_bytes)]
    if options.dscp is not None:
        argv += ["--dscp", str(options.dscp)]
    if options.ipv6 is not None:
        argv.append("-6" if options.ipv6 else "-4")
    return under_timeout(options.timeout_seconds, *argv)


def probe_argv(server: str, port: int) -> tuple[str, ...]:
    """A client that sends 4 MiB and ends: does TCP payload, in full segments, get through?

    Read its output with ``parse``; the figure itself says nothing.
    """
    argv = ["iperf3", "-c", server, "-p", str(port), "-J", "-n", "4M", "-i", "0.1"]
    return under_timeout(_PROBE_SECONDS, *argv, "--connect-timeout", "2000")


def server_argv(port: int, idle_timeout_seconds: int = 60) -> tuple[str, ...]:
    """Start a server for one test; it listens when the command returns.

    It leaves by itself after the test, or after ``idle_timeout_seconds`` without a client.
    Read the command's outcome with :func:`check_server`.
    """
    if not 1 <= port <= 65535 or idle_timeout_seconds < 1:
        raise SettingsError(
            "iperf3's server cannot be run like this: "
            f"port={port!r}, idle_timeout_seconds={idle_timeout_seconds!r}",
            remedy="give a port from 1 to 65535 and a time of at least one second",
        )
    return ("sh", "-c", _SERVER_SCRIPT, "iperf3-server", str(port), str(idle_timeout_seconds))


def check_server(stdout: str, stderr: str, exit_code: int | None, *, port: int) -> None:
    """Judge the outcome of :func:`server_argv`.

    Raises:
        PortInUse: something listens on the port already; another port may do.
        ServerNotReady: the server was started, but does not listen.
        BadOption: this iperf3 does not know an option that the server needs.
        ToolMissingError: there is no iperf3.
    """
    if exit_code == 0:
        return
    missing = start_failure("iperf3", stderr, exit_code)
    if missing is not None:
        raise missing
    raise _server_error(stdout, stderr, exit_code, port)


def _server_error(stdout: str, stderr: str, exit_code: int | None, port: int) -> Iperf3Error:
    said = (stderr.strip() or stdout.strip())[:1000]
    found = said or f"exit status {exit_code}, and no word"
    if exit_code == _EXIT_IN_USE:
        return PortInUse(
            f"port {port} is in use where the iperf3 server should listen",
            found=found,
            remedy="choose another port, or end what listens on this one",
        )
    if exit_code == _EXIT_NOT_LISTENING:
        return ServerNotReady(
            f"the iperf3 server did not begin to listen on port {port}",
            found=found,
            remedy="run `iperf3 -s -1 -p PORT` by hand in the same place to see why",
        )
    error = error_of(messages_on_stderr(stderr) or [found])
    if isinstance(error, (PortInUse, BadOption)):
        return error
    return ServerNotReady(
        f"the iperf3 server could not be started on port {port}",
        found=found,
        remedy="run `iperf3 -s -1 -p PORT` by hand in the same place to see why",
    )


# -- From what iperf3 printed to one document: plain -J, --json-stream, or the reason for neither

#: 3.9 prints these twice in a bidirectional test; later versions name the second like this.
_SUMS = frozenset({"sum", "sum_sent", "sum_received"})
_REVERSE = "_bidir_reverse"
#: Holds every value of a repeated ``error`` key: 3.22 gives the server's and the client's.
_ERRORS = "error (all)"
#: A decoder that fails this close to the end has met a cut, not garbage.
_CUT_DISTANCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process ended, besides what it printed on stdout."""

    stderr: str = ""
    exit_code: int | None = None

    @property
    def note(self) -> str:
        """One phrase on the exit status where it says something."""
        if was_killed(self.exit_code):
            return f"stopped from outside, exit status {self.exit_code}"
        return ""


def read_document(text: str, ending: Ending) -> dict[str, Any]:
    """Read iperf3's one document: ``start``, ``intervals``, ``end``.

    Raises:
        Iperf3Error: there is none, or it speaks of an error.
        ToolMissingError: iperf3 is not installed.
    """
    parts = _decode(text, ending)
    said = [message for part in parts for message in _errors_in(part)]
    said += messages_on_stderr(ending.stderr)
    if said:
        raise error_of(said, note=ending.note)
    return _one(parts, ending)


def _decode(text: str, ending: Ending) -> list[dict[str, Any]]:
    text = text.strip()
    if not text.startswith("{"):
        raise _no_document(text, ending)
    decoder = json.JSONDecoder(object_pairs_hook=_keep_repeated)
    parts: list[dict[str, Any]] = []
    position = 0
    while position < len(text):
        try:
            part, position = decoder.raw_decode(text, position)
        # RecursionError: nested too deeply; ValueError: also a number of too many digits.
        except (ValueError, RecursionError) as exc:
            raise _undecodable(text, exc, ending) from None
        if not isinstance(part, dict):
            raise _garbage("a JSON value that is no object", text)
        parts.append(part)
        while position < len(text) and text[position].isspace():
            position += 1
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


def _one(parts: list[dict[str, Any]], ending: Ending) -> dict[str, Any]:
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
        raise cut_off("its event stream has no end event", ending)
    return {
        "start": next((data for name, data in events if name == "start"), None),
        "intervals": [data for name, data in events if name == "interval"],
        "end": next(data for name, data in events if name == "end"),
    }


def _no_document(text: str, ending: Ending) -> K8sNetError:
    missing = start_failure("iperf3", ending.stderr, ending.exit_code)
    if missing is not None:
        return missing
    said = messages_on_stderr(ending.stderr)
    if text.startswith(("Usage:", "iperf3: ")) and not said:
        said = messages_on_stderr(text) or [text.split("\n", 1)[0]]
    if said:
        return error_of(said, note=ending.note)
    if text:
        return _garbage("text that is no JSON", text)
    if was_killed(ending.exit_code):
        return Interrupted(
            "iperf3 was stopped before it printed anything",
            found=ending.note,
            remedy="it most often hangs on a server that accepts connections and does not "
            "answer: check that the server's process runs, and the path's MTU",
        )
    status = "" if ending.exit_code is None else f", exit status {ending.exit_code}"
    return Empty(
        "iperf3 printed nothing",
        found=ending.stderr.strip() or f"empty stdout and stderr{status}",
        remedy="a server prints nothing when its idle timeout ends it; a client that was "
        "killed prints nothing either",
    )


def _undecodable(text: str, exc: Exception, ending: Ending) -> K8sNetError:
    said = messages_on_stderr(ending.stderr)
    if said:
        return error_of(said, note=ending.note)
    if "\nUsage: iperf3" in text:
        return BadOption("iperf3 printed its usage", found=text, remedy="check the options")
    if isinstance(exc, json.JSONDecodeError) and (
        exc.pos >= len(text) - _CUT_DISTANCE or exc.msg.startswith("Unterminated string")
    ):
        return cut_off("the JSON ends in the middle", ending, tail=text[-120:])
    return _garbage(f"JSON that cannot be read ({exc or type(exc).__name__})", text)


def cut_off(how: str, ending: Ending, *, tail: str = "") -> K8sNetError:
    """Make the error for output that stops before its end."""
    found = "; ".join(part for part in (how, ending.note) if part)
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


# -- What one iperf3 run measured: typed, with units, and with the raw output kept ----------------


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


# -- Reads the sums, streams and intervals of iperf3's JSON into typed figures. Pure --------------


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


# -- From iperf3's output to a result, or to the error that says why there is none. Pure ----------

#: A test may end this much earlier than asked: clocks, and the last interval's remainder.
_ENOUGH = 0.95


def parse(
    text: str,
    *,
    expected: Iperf3Options | None = None,
    stderr: str = "",
    exit_code: int | None = None,
    command: Sequence[str] = (),
) -> Iperf3Result:
    """Read the output of one iperf3 client run (``-J`` or ``--json-stream``), 3.9 and later.

    The exit status is no judge: 3.12 ends with 0 on a refused connection, 3.22 on a signal.

    Args:
        text: stdout.
        expected: what was asked for; without it, the document's own test parameters count.
        stderr: 3.9 says there what later versions say in the JSON.
        exit_code: tells a run that was stopped at its time limit.
        command: the exact command; taken from ``expected`` where that is given.

    Raises:
        Iperf3Error: there is no figure; the subclass and the text say what happened.
        ToolMissingError: iperf3 is not installed where it was to run.
    """
    ending = Ending(stderr=stderr, exit_code=exit_code)
    document = Section(read_document(text, ending), "", _not_iperf3)
    start, end = document.section("start"), document.section("end")
    if not end:
        raise cut_off("the test has a beginning and no end", ending)
    test = start.section("test_start")
    direction = _direction(test, end)
    version = _version(start.text("version"))
    protocol = (test.text("protocol") or ("UDP" if "sum" in end else "TCP")).upper()
    if expected is not None:
        _check_same_test(expected, test, protocol, direction)
    mss = start.count("tcp_mss") or start.count("tcp_mss_default") or None
    cpu = end.section("cpu_utilization_percent")
    result = Iperf3Result(
        flow=read_flow(end, direction, protocol=protocol, mss_bytes=mss, version=version),
        opposite=(
            read_flow(end, "opposite", protocol=protocol, mss_bytes=mss, version=version)
            if direction == "bidirectional"
            else None
        ),
        protocol=protocol,
        direction=direction,
        version=version,
        mss_bytes=mss,
        sender_congestion=end.text("sender_tcp_congestion"),
        receiver_congestion=end.text("receiver_tcp_congestion"),
        cpu_host_percent=cpu.number("host_total"),
        cpu_remote_percent=cpu.number("remote_total"),
        streams=read_streams(end, reverse=direction == "reverse"),
        intervals=read_intervals(document),
        raw=text,
        command=client_argv(expected) if expected is not None else tuple(command),
    )
    _check_data(result, start)
    _check_duration(result, expected, test)
    return result


def _direction(test: Section, end: Section) -> Direction:
    if test.flag("bidir") or "sum_received_bidir_reverse" in end:
        return "bidirectional"
    return "reverse" if test.flag("reverse") else "forward"


def _version(text: str | None) -> tuple[int, ...]:
    match = re.search(r"\b(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text or "", re.ASCII)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _check_same_test(
    expected: Iperf3Options, test: Section, protocol: str, direction: Direction
) -> None:
    asked: Direction = (
        "bidirectional" if expected.bidirectional else "reverse" if expected.reverse else "forward"
    )
    pairs = {
        "protocol": ("UDP" if expected.udp else "TCP", protocol),
        "direction": (asked, direction),
        "streams": (expected.streams, test.count("num_streams")),
        "seconds": (expected.seconds, test.count("duration")),
    }
    wrong = [
        f"{name} {found}, asked for {wanted}"
        for name, (wanted, found) in pairs.items()
        if found is not None and found != wanted
    ]
    if wrong:
        raise Garbage(
            "iperf3's output is that of another test",
            found="; ".join(wrong),
            remedy="give parse() the options that this output was made with",
        )


def _check_data(result: Iperf3Result, start: Section) -> None:
    for flow, name in ((result.flow, "first"), (result.opposite, "reverse")):
        if flow is None or flow.bytes_received > 0:
            continue
        if "accepted_connection" in start:
            raise Garbage(
                "this is the output of an iperf3 server that sent: it cannot tell what arrived",
                found="sum_received has 0 bytes",
                remedy="parse the client's output",
            )
        raise _no_data(result, flow, name)


def _no_data(result: Iperf3Result, flow: Flow, name: str) -> Iperf3Error:
    where = f" in the {name} direction" if result.opposite is not None else ""
    found = f"0 bytes received in {flow.seconds}{where}"
    if result.protocol == "UDP":
        if flow.packets_sent:
            found += f", {flow.packets_sent} datagrams sent: loss 100 %"
        return NoData(
            "iperf3 connected, but not one datagram arrived",
            found=found,
            remedy="check NetworkPolicies and firewalls for UDP, and whether datagrams of this "
            "size fit the path MTU (length_bytes)",
        )
    if flow.retransmits:
        found += f", {flow.retransmits} retransmits"
    mss = "" if result.mss_bytes is None else f" (the connection's MSS is {result.mss_bytes} bytes)"
    return NoData(
        "iperf3 connected, but not one byte of payload arrived",
        found=found,
        remedy="small packets pass and full ones do not: compare the pods' MTU with the path MTU, "
        f"tunnel header included{mss}",
    )


def _check_duration(result: Iperf3Result, expected: Iperf3Options | None, test: Section) -> None:
    asked = expected.seconds if expected is not None else test.number("duration") or 0
    flows = [flow for flow in (result.flow, result.opposite) if flow is not None]
    shortest = min(flow.seconds for flow in flows)
    if float(shortest) < asked * _ENOUGH:
        raise Truncated(
            "the iperf3 test ended too early",
            found=f"{float(shortest):.2f} s measured, {asked:g} s asked for",
            remedy="look for what ended it: a limit of the server, a signal, a lost connection",
        )


def _not_iperf3(problem: str) -> Garbage:
    return Garbage(
        "iperf3's JSON is not as iperf3 writes it",
        found=problem,
        remedy="check that this is the unchanged output of iperf3 -J; "
        "if it is, report it with its version",
    )
