"""The command lines of iperf3's two ends, and what the server's start left to read."""

from __future__ import annotations

from pytest_k8snet.errors import Iperf3Error, SettingsError
from pytest_k8snet.tools.iperf3.errors import (
    BadOption,
    PortInUse,
    ServerNotReady,
    error_of,
    messages_on_stderr,
)
from pytest_k8snet.tools.iperf3.options import Iperf3Options
from pytest_k8snet.tools.process import missing_program, under_timeout

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


def check_server(stdout: str, stderr: str, exit_code: int, *, port: int) -> None:
    """Judge the outcome of :func:`server_argv`.

    Raises:
        PortInUse: something listens on the port already; another port may do.
        ServerNotReady: the server was started, but does not listen.
        BadOption: this iperf3 does not know an option that the server needs.
        ToolMissingError: there is no iperf3.
    """
    if exit_code == 0:
        return
    missing = missing_program("iperf3", stderr, exit_code)
    if missing is not None:
        raise missing
    raise _server_error(stdout, stderr, exit_code, port)


def _server_error(stdout: str, stderr: str, exit_code: int, port: int) -> Iperf3Error:
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
