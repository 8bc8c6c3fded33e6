"""tcpdump in a pod: what to capture, how to start and end it, and what it wrote. Pure.

It runs in the background between two commands, so that traffic can be sent meanwhile. Each
capture has a name of its own, by which the second command finds it.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from ipaddress import IPv4Address

from pytest_k8snet.errors import ToolError, quote
from pytest_k8snet.tools.pcap import VXLAN_PORT, CaptureFileError, Packet, packets
from pytest_k8snet.tools.process import missing_program

#: The capabilities that it needs: to capture, and to stay root, from which many builds switch to
#: a user of their own, who could then not be told to end.
CAPABILITIES = ("NET_RAW", "SETGID", "SETUID")

#: Enough for the headers of a segment in VXLAN, with VLAN tags and options.
_SNAPSHOT_BYTES = 160
_MOST_PACKETS = 200
#: A capture that nobody ends, because the run was killed, ends by itself.
_LIFETIME_SECONDS = 60

# Without --immediate-mode the kernel would hold packets back for up to a second.
_START_SCRIPT = """
file=$1 device=$2 lifetime=$3 most=$4 snapshot=$5 filter=$6
command -v tcpdump > /dev/null || { echo "tcpdump: not found" >&2; exit 127; }
timeout -k 2 "$lifetime" tcpdump -i "$device" -Z root -n -p -U --immediate-mode \
    -s "$snapshot" -c "$most" -w - "$filter" > "$file.pcap" 2> "$file.log" < /dev/null &
process=$!
tries=0
while :; do
    case $(cat "$file.log") in *"listening on"*) break ;; esac
    tries=$((tries + 1))
    if [ "$tries" -gt 500 ] || ! kill -0 "$process" 2> /dev/null; then
        kill "$process" 2> /dev/null
        cat "$file.log" >&2
        rm -f "$file.pcap" "$file.log"
        exit 1
    fi
    sleep 0.01 2> /dev/null || sleep 1
done
echo "$process" > "$file.pid"
"""

_STOP_SCRIPT = """
file=$1
process=$(cat "$file.pid") || exit
kill "$process" 2> /dev/null
tries=0
while kill -0 "$process" 2> /dev/null; do
    tries=$((tries + 1))
    [ "$tries" -gt 500 ] && { echo "tcpdump does not end" >&2; exit 1; }
    sleep 0.01 2> /dev/null || sleep 1
done
cat "$file.log" >&2
base64 < "$file.pcap"
code=$?
rm -f "$file.pcap" "$file.log" "$file.pid"
exit $code
"""

_DROPPED = re.compile(r"^(\d+) packets? dropped by (?:kernel|interface)", re.MULTILINE)
_CAPTURED = re.compile(r"^(\d+) packets? captured", re.MULTILINE)
_NOT_PERMITTED = re.compile(r"permission|not permitted|couldn't change to", re.IGNORECASE)


class CaptureError(ToolError):
    """tcpdump could not capture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """What tcpdump saw.

    Attributes:
        packets: the TCP segments, with what they were carried in.
        dropped: how many more there were that it could not keep up with.
    """

    packets: tuple[Packet, ...]
    dropped: int = 0


def filter_of(server: IPv4Address, port: int, *, vxlan_port: int = VXLAN_PORT) -> str:
    """What to capture: one server's TCP port, bare, in VXLAN and in IPIP.

    Other traffic through the same tunnels does not match, so it cannot fill the capture.
    """
    address = int(server)

    def carried(header: str, at: int) -> str:
        # Inner IPv4 without options, as all ordinary packets are: source at 12, destination at
        # 16, then the ports.
        source, destination, ports = at + 12, at + 16, at + 20
        return (
            f"(({header}[{source}:4]={address} and {header}[{ports}:2]={port}) or "
            f"({header}[{destination}:4]={address} and {header}[{ports + 2}:2]={port}))"
        )

    return (
        f"(tcp port {port} and host {server}) or "
        f"(udp dst port {vxlan_port} and {carried('udp', 30)}) or "
        f"(ip proto 4 and {carried('ip', 20)})"
    )


def start_argv(name: str, device: str, filter_text: str) -> tuple[str, ...]:
    """Start a capture; it is listening when the command returns.

    Read the command's outcome with :func:`check_start`.
    """
    numbers = (str(_LIFETIME_SECONDS), str(_MOST_PACKETS), str(_SNAPSHOT_BYTES))
    return ("sh", "-c", _START_SCRIPT, "tcpdump-start", _path(name), device, *numbers, filter_text)


def stop_argv(name: str) -> tuple[str, ...]:
    """End a capture and print what it saw; read it with :func:`parse`."""
    return ("sh", "-c", _STOP_SCRIPT, "tcpdump-stop", _path(name))


def _path(name: str) -> str:
    # In the pod, where /tmp is a volume of its own.
    return f"/tmp/k8snet-capture-{name}"


def check_start(stderr: str, exit_code: int) -> None:
    """Judge the outcome of :func:`start_argv`.

    Raises:
        ToolMissingError: there is no tcpdump.
        CaptureError: it may not capture, or could not.
    """
    if exit_code == 0:
        return
    missing = missing_program("tcpdump", stderr, exit_code)
    if missing is not None:
        raise missing
    if _NOT_PERMITTED.search(stderr):
        raise CaptureError(
            "tcpdump may not capture on the node",
            found=stderr,
            remedy=f"host-network pods need root and the capabilities {', '.join(CAPABILITIES)}: "
            "see whether a policy takes them away",
        )
    raise CaptureError(
        "tcpdump could not be started",
        found=stderr or f"exit status {exit_code}, and no word",
        remedy="run it by hand in the same place to see why",
    )


def parse(stdout: str, stderr: str, exit_code: int, *, vxlan_port: int = VXLAN_PORT) -> Capture:
    """Read what the command of :func:`stop_argv` printed.

    Raises:
        CaptureError: there is no capture, or tcpdump did not end as it should.
        CaptureFileError: it is no capture file, or cut off.
    """
    if exit_code != 0 or not _CAPTURED.search(stderr):
        raise CaptureError(
            "tcpdump did not come to its end",
            found=stderr or f"exit status {exit_code}, and no word",
            remedy="see whether the pod was short of memory or time",
        )
    try:
        file = binascii.a2b_base64(stdout)
    except binascii.Error as exc:
        raise CaptureFileError(
            "a capture did not arrive whole",
            found=f"{exc}: {quote(stdout, 80)}",
            remedy="capture again",
        ) from None
    return Capture(
        packets=tuple(packets(file, vxlan_port=vxlan_port)),
        dropped=sum(int(count) for count in _DROPPED.findall(stderr)),
    )
