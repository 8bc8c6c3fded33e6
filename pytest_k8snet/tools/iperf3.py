"""iperf3: its options, the command lines of its two ends, and what the client's output says. Pure.

The figures are read in ``iperf3_result``, errors are told apart in ``iperf3_errors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypedDict

from pytest_k8snet.errors import Iperf3Error, ToolError
from pytest_k8snet.tools.iperf3_errors import (
    BadOption,
    Garbage,
    NoData,
    PortInUse,
    ServerNotReady,
    Truncated,
    error_of,
)
from pytest_k8snet.tools.iperf3_result import (
    Direction,
    Flow,
    Iperf3Result,
    cut_off,
    messages_on_stderr,
    not_iperf3,
    read_document,
    read_flow,
    read_intervals,
    read_streams,
)
from pytest_k8snet.tools.tool import (
    Check,
    Column,
    Measured,
    Output,
    Payload,
    Section,
    ServedTool,
    option_words,
    start_failure,
    under_timeout,
    words_of,
)
from pytest_k8snet.units import BitRate

#: Fits every encapsulation that Calico has on a 1280-byte path or more, so nothing fragments;
#: iperf3's own default is the path's MSS, which differs by mode.
_UDP_LENGTH_BYTES = 1200
#: iperf3's own default for UDP, made visible in the command.
_UDP_BITRATE = BitRate(1e6)
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
#: A blocked UDP test says so only after 30 to 32 seconds.
_UDP_BUDGET_SECONDS = 40.0
_TCP_BUDGET_SECONDS = 15.0
_check = Check("iperf3")


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
        _check.whole("port", self.port, 1, 65535)
        _check.whole("seconds", self.seconds, 1, 86400)
        # 3.17 and older refuse more.
        _check.whole("omit_seconds", self.omit_seconds, 0, 60)
        _check.whole("streams", self.streams, 1, 128)
        _check.whole(
            "length_bytes", self.length_bytes, 16, 65507 if self.udp else 1 << 20, or_none=True
        )
        _check.whole("window_bytes", self.window_bytes, 1, 512 << 20, or_none=True)
        _check.whole("mss_bytes", self.mss_bytes, 88, 9216, or_none=True)
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
            _check.whole("dscp", self.dscp, 0, 63, or_none=True)
        _check.within("connect_timeout_seconds", self.connect_timeout_seconds, 0.1, 600)

    @property
    def timeout_seconds(self) -> float:
        """The longest that a sound run can take, in seconds; ``timeout`` ends it then."""
        budget = _UDP_BUDGET_SECONDS if self.udp else _TCP_BUDGET_SECONDS
        return self.seconds + self.omit_seconds + self.connect_timeout_seconds + budget


# -- The command lines of iperf3's two ends, and what the server's start left to read -------------

#: What the script below exits with when something listens on the port already (EADDRINUSE).
_EXIT_IN_USE = 98
_EXIT_NOT_LISTENING = 99
#: A server without a client leaves after this time.
_IDLE_SECONDS = 60
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


#: Options that make a test another one, in the order in which they are said, and how.
_SAID: Mapping[str, str] = MappingProxyType(
    {
        "-u": "UDP",
        "-P": "{} streams",
        "-b": "{}",
        "-R": "reverse",
        "--bidir": "both directions at once",
        "-l": "{}-byte messages",
        "-w": "window of {} bytes",
        "-C": "congestion {}",
        "-M": "MSS {}",
        "--dscp": "DSCP {}",
        "-4": "IPv4 only",
        "-6": "IPv6 only",
    }
)
#: Options that say where, for how long, and how it is told; and how many values follow each.
_NOT_SAID = MappingProxyType(
    {"-c": 1, "-p": 1, "-t": 1, "-i": 1, "-O": 1, "--connect-timeout": 1, "-J": 0, "--json": 0}
    | {"--get-server-output": 0}
)
_VALUED = frozenset(
    {option for option, said in _SAID.items() if "{}" in said}
    | {option for option, count in _NOT_SAID.items() if count}
)


class Iperf3(ServedTool[Iperf3Options, Iperf3Result]):
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

    def argv(self, options: Iperf3Options) -> tuple[str, ...]:
        """Return the client's command line, under a time limit of its own."""
        rate, length = options.bitrate, options.length_bytes
        if options.udp:
            rate = _UDP_BITRATE if rate is None else rate
            length = _UDP_LENGTH_BYTES if length is None else length
        words = {
            "-c": options.server,
            "-p": options.port,
            "-J": True,
            # It says as whom the server saw the client.
            "--get-server-output": True,
            "-t": options.seconds,
            "-i": f"{options.interval_seconds:g}",
            "--connect-timeout": f"{options.connect_timeout_seconds * 1000:.0f}",
            "-O": options.omit_seconds or None,
            "-P": options.streams if options.streams > 1 else None,
            "-R": options.reverse,
            "--bidir": options.bidirectional,
            "-u": options.udp,
            "-b": None if rate is None else f"{float(rate):.0f}",
            "-l": length,
            "-w": options.window_bytes,
            "-C": options.congestion,
            "-M": options.mss_bytes,
            "--dscp": options.dscp,
            "-6": options.ipv6 is True,
            "-4": options.ipv6 is False,
        }
        return under_timeout(options.timeout_seconds, "iperf3", *option_words(words))

    def variant(self, command: Sequence[str]) -> str:
        """Return what sets a test apart from one TCP stream, client to server, as fast as it goes.

        ``UDP, 4 streams, 10 Mbit/s each, reverse``.
        """
        words = words_of(command, self.name, _VALUED)
        values = {option: words.value(option) or "" for option in words.options}
        if "-b" in values:
            values["-b"] = _exact_rate(values["-b"]) + (" each" if "-P" in values else "")
        if "-u" in values and values.get("-l") == str(_UDP_LENGTH_BYTES):
            del values["-l"]
        parts = [said.format(values[option]) for option, said in _SAID.items() if option in values]
        # Of an option that this version does not know, nobody can say that it changes nothing.
        parts += [
            f"{option} {value}".strip()
            for option, value in values.items()
            if option not in _SAID and option not in _NOT_SAID
        ]
        return ", ".join([*parts, *words.rest])

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
            client_address=result.client_address,
        )

    def server_argv(self, port: int) -> tuple[str, ...]:
        """Return the command that starts a server for one test; it listens when that ends.

        The server leaves by itself after the test, or after a minute without a client.

        Raises:
            SettingsError: the port is none.
        """
        Check("iperf3's server")(
            1 <= port <= 65535, f"port={port!r}", "give a port from 1 to 65535"
        )
        return ("sh", "-c", _SERVER_SCRIPT, "iperf3-server", str(port), str(_IDLE_SECONDS))

    def check_server(self, output: Output, port: int) -> None:
        """Judge how the server's start ended.

        Raises:
            PortInUse: something listens on the port already; another port may do.
            ServerNotReady: the server was started, but does not listen.
            BadOption: this iperf3 does not know an option that the server needs.
            ToolMissingError: there is no iperf3.
        """
        if output.exit_code == 0:
            return
        failure = start_failure("iperf3", output.stderr, output.exit_code)
        raise failure or _server_error(output, port)

    def at_port(self, options: Iperf3Options, port: int) -> Iperf3Options:
        """Return the options with the server's port."""
        return replace(options, port=port)


def _exact_rate(bits: str) -> str:
    """Write what ``-b`` was given with its unit, without dropping a digit."""
    try:
        rate = float(bits)
    except ValueError:
        return bits
    scale, prefix = next((one for one in _PREFIXES if rate >= one[0]), (1.0, ""))
    return f"{rate / scale:.12g} {prefix}bit/s"


def probe_argv(server: str, port: int) -> tuple[str, ...]:
    """Return the command of a client that sends 4 MiB: does TCP payload, in full segments, pass?

    Read its output with ``parse``; the figure itself says nothing.
    """
    argv = ["iperf3", "-c", server, "-p", str(port), "-J", "-n", "4M", "-i", "0.1"]
    argv.append("--get-server-output")
    return under_timeout(_PROBE_SECONDS, *argv, "--connect-timeout", "2000")


def _server_error(output: Output, port: int) -> ToolError:
    said = (output.stderr.strip() or output.stdout.strip())[:1000]
    found = said or f"exit status {output.exit_code}, and no word"
    if output.exit_code == _EXIT_IN_USE:
        return PortInUse(
            f"port {port} is in use where the iperf3 server should listen",
            found=found,
            remedy="choose another port, or end what listens on this one",
        )
    problem = f"the iperf3 server did not begin to listen on port {port}"
    if output.exit_code != _EXIT_NOT_LISTENING:
        error = error_of(messages_on_stderr(output.stderr) or [found])
        if isinstance(error, (PortInUse, BadOption)):
            return error
        problem = f"the iperf3 server could not be started on port {port}"
    return ServerNotReady(
        problem,
        found=found,
        remedy="run `iperf3 -s -1 -p PORT` by hand in the same place to see why",
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
) -> Iperf3Result:
    """Read the output of one iperf3 client run (``-J`` or ``--json-stream``), 3.9 and later.

    The exit status is no judge: 3.12 ends with 0 on a refused connection, 3.22 on a signal.

    Args:
        text: stdout.
        expected: what was asked for; without it, the document's own test parameters count.
        stderr: 3.9 says there what later versions say in the JSON.
        exit_code: tells a run that was stopped at its time limit.

    Raises:
        Iperf3Error: there is no figure; the subclass and the text say what happened.
        ToolMissingError: iperf3 is not installed where it was to run.
    """
    output = Output(stdout=text, stderr=stderr, exit_code=exit_code)
    document = Section(read_document(output), "", not_iperf3)
    start, end = document.section("start"), document.section("end")
    if not end:
        raise cut_off("the test has a beginning and no end", output)
    test = start.section("test_start")
    direction = _direction(test, end)
    version = _version(start.text("version"))
    protocol = (test.text("protocol") or ("UDP" if "sum" in end else "TCP")).upper()
    if expected is not None:
        _check_same_test(expected, test, protocol, direction)
    mss = start.count("tcp_mss") or start.count("tcp_mss_default") or None
    cpu = end.section("cpu_utilization_percent")
    reading = partial(read_flow, end, protocol=protocol, mss_bytes=mss, version=version)
    result = Iperf3Result(
        **reading(direction).figures_by_name(),
        opposite=reading("opposite") if direction == "bidirectional" else None,
        protocol=protocol,
        direction=direction,
        version=version,
        mss_bytes=mss,
        client_address=_client_address(document),
        sender_congestion=end.text("sender_tcp_congestion"),
        receiver_congestion=end.text("receiver_tcp_congestion"),
        cpu_host_percent=cpu.number("host_total"),
        cpu_remote_percent=cpu.number("remote_total"),
        streams=read_streams(end, reverse=direction == "reverse"),
        intervals=read_intervals(document),
        raw=text,
        command=Iperf3().argv(expected) if expected is not None else (),
    )
    _check_data(result, start)
    _check_duration(result, expected, test)
    return result


def _client_address(document: Section) -> str:
    """As whom the server saw the client, by its own output: in JSON if it printed that."""
    accepted = (
        document.section("server_output_json").section("start").section("accepted_connection")
    )
    said = re.search(
        r"^Accepted connection from (\S+), port ", document.text("server_output_text") or "", re.M
    )
    address = accepted.text("host") or (said[1] if said else "")
    return address.removeprefix("::ffff:")


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
    for flow, name in ((result, "first"), (result.opposite, "reverse")):
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
    flows = [flow for flow in (result, result.opposite) if flow is not None]
    shortest = min(flow.seconds for flow in flows)
    if float(shortest) < asked * _ENOUGH:
        raise Truncated(
            "the iperf3 test ended too early",
            found=f"{float(shortest):.2f} s measured, {asked:g} s asked for",
            remedy="look for what ended it: a limit of the server, a signal, a lost connection",
        )
