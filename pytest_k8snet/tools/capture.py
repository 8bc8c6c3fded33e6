"""tcpdump in a pod: what to capture, how to start and end it, and what it wrote. Pure.

It runs in the background between two commands, so that traffic can be sent meanwhile. Each
capture has a name of its own, by which the second command finds it.
"""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from pytest_k8snet.errors import ToolError, quote
from pytest_k8snet.tools.tool import start_failure

#: What an IPv4 packet is carried in: nothing, VXLAN (RFC 7348), or another IPv4 packet (IPIP, RFC
#: 2003). All else in a file is passed over.
Carrier = Literal["none", "vxlan", "ipip"]

#: Linux's VXLAN devices had 8472 before IANA gave it a port; Calico uses IANA's.
VXLAN_PORT = 4789

_MICROSECONDS, _NANOSECONDS = 0xA1B2C3D4, 0xA1B23C4D
_ETHERNET = 1
_IPV4 = 0x0800
_VLAN_TAGS = frozenset({0x8100, 0x88A8})
_IPIP, _TCP, _UDP = 4, 6, 17
_FILE_HEADER_BYTES, _RECORD_HEADER_BYTES = 24, 16
_ETHERNET_BYTES, _VXLAN_BYTES, _UDP_BYTES = 14, 8, 8


class CaptureFileError(ToolError):
    """Not a capture file, or one that was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A TCP segment that went over a wire, and what it was carried in.

    Attributes:
        carrier: the tunnel that the packet is in; ``none`` for an unencapsulated one.
        outer_source: the sending end of the tunnel; empty for an unencapsulated one.
        outer_destination: the receiving end of the tunnel; empty for an unencapsulated one.
        vni: the network identifier of a VXLAN; None for others.
        source: the packet's own source.
        destination: the packet's own destination.
        payload_bytes: what the segment carries, without any header.
    """

    carrier: Carrier
    outer_source: str = ""
    outer_destination: str = ""
    vni: int | None = None
    source: str
    destination: str
    source_port: int
    destination_port: int
    payload_bytes: int


def packets(capture: bytes, *, vxlan_port: int = VXLAN_PORT) -> list[Packet]:
    """Return the TCP segments of a capture file, in order.

    Segments whose headers were not captured in full, fragments, and other protocols are passed
    over.

    Args:
        capture: the file.
        vxlan_port: the UDP port whose datagrams are VXLAN.

    Raises:
        CaptureFileError: it is no capture file, is cut off, or is of a device whose packets
            cannot be read.
    """
    order = _byte_order(capture)
    found = (_packet(frame, length, vxlan_port) for frame, length in _frames(capture, order))
    return [packet for packet in found if packet is not None]


def _byte_order(capture: bytes) -> str:
    if len(capture) < _FILE_HEADER_BYTES:
        raise CaptureFileError(
            "a capture file was cut off in its header",
            found=f"{len(capture)} of {_FILE_HEADER_BYTES} bytes",
            remedy="capture again",
        )
    for order in "<>":
        magic, *_, link_type = struct.unpack_from(f"{order}IHHiIII", capture)
        if magic in (_MICROSECONDS, _NANOSECONDS):
            # The upper bits tell of a frame check sequence.
            link_type &= 0x0FFFFFFF
            break
    else:
        raise CaptureFileError(
            "this is no capture file in pcap format",
            found=f"it begins with {capture[:4].hex(' ')}",
            remedy="capture by `tcpdump -w`",
        )
    if link_type != _ETHERNET:
        raise CaptureFileError(
            "a capture is of a device whose packets cannot be read",
            found=f"link type {link_type}",
            remedy="capture on an Ethernet device",
        )
    return order


def _frames(capture: bytes, order: str) -> Iterator[tuple[bytes, int]]:
    """Yield what was captured of each frame, and how long it was on the wire."""
    at = _FILE_HEADER_BYTES
    while at < len(capture):
        body = at + _RECORD_HEADER_BYTES
        kept, length = (
            struct.unpack_from(f"{order}II", capture, at + 8) if body <= len(capture) else (0, 0)
        )
        if not kept or body + kept > len(capture):
            raise CaptureFileError(
                "a capture file was cut off in the middle of a packet",
                found=f"{len(capture)} bytes, and the packet at byte {at} goes on",
                remedy="capture again",
            )
        yield capture[body : body + kept], length
        at = body + kept


def _packet(frame: bytes, length: int, vxlan_port: int) -> Packet | None:
    try:
        at, kind = _ethernet(frame)
        return _outer(frame, at, length, vxlan_port) if kind == _IPV4 else None
    except (struct.error, IndexError):
        return None  # headers longer than what was captured of it


def _ethernet(frame: bytes, begin: int = 0) -> tuple[int, int]:
    """Where the header of the network protocol begins, and its EtherType."""
    at = begin + _ETHERNET_BYTES
    kind = _uint16(frame, at - 2)
    while kind in _VLAN_TAGS:
        kind = _uint16(frame, at + 2)
        at += 4
    return at, kind


def _outer(frame: bytes, at: int, length: int, vxlan_port: int) -> Packet | None:
    header = _ipv4(frame, at)
    if header is None:
        return None
    source, destination, protocol, body = header
    if protocol == _TCP:
        return _segment(frame, at, length, "none", "", "")
    if protocol == _IPIP:
        return _segment(frame, body, length, "ipip", source, destination)
    if protocol == _UDP and _uint16(frame, body + 2) == vxlan_port:
        inner, kind = _ethernet(frame, body + _UDP_BYTES + _VXLAN_BYTES)
        if kind != _IPV4:
            return None
        segment = _segment(frame, inner, length, "vxlan", source, destination)
        vni = int.from_bytes(frame[body + _UDP_BYTES + 4 : body + _UDP_BYTES + 7])
        return replace(segment, vni=vni) if segment is not None else None
    return None


def _segment(
    frame: bytes, at: int, length: int, carrier: Carrier, outer_source: str, outer_destination: str
) -> Packet | None:
    header = _ipv4(frame, at)
    if header is None or header[2] != _TCP:
        return None
    source, destination, _, tcp = header
    # Segments that were merged beyond 64 KiB say 0; the wire's length is then all there is.
    end = at + _uint16(frame, at + 2) if _uint16(frame, at + 2) else length
    return Packet(
        carrier=carrier,
        outer_source=outer_source,
        outer_destination=outer_destination,
        source=source,
        destination=destination,
        source_port=_uint16(frame, tcp),
        destination_port=_uint16(frame, tcp + 2),
        payload_bytes=end - tcp - (frame[tcp + 12] >> 4) * 4,
    )


def _ipv4(frame: bytes, at: int) -> tuple[str, str, int, int] | None:
    """Source, destination, protocol and where the body begins; None for what is not whole."""
    if frame[at] >> 4 != 4 or _uint16(frame, at + 6) & 0x1FFF:
        return None
    source, destination = struct.unpack_from(">II", frame, at + 12)
    body = at + (frame[at] & 0x0F) * 4
    return str(IPv4Address(source)), str(IPv4Address(destination)), frame[at + 9], body


def _uint16(frame: bytes, at: int) -> int:
    return int(struct.unpack_from(">H", frame, at)[0])


# -- tcpdump in a pod ------------------------------------------------------------------------------

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
    """Return the filter of one server's TCP port, unencapsulated, in VXLAN and in IPIP.

    Other traffic through the same tunnels does not match, so it cannot fill the capture.

    Args:
        server: the server's address.
        port: its TCP port.
        vxlan_port: the UDP port of VXLAN.
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

    Args:
        name: of this capture, by which it is ended.
        device: the network device to listen on.
        filter_text: see :func:`filter_of`.
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
    missing = start_failure("tcpdump", stderr, exit_code)
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

    Args:
        stdout: the capture file, in base64.
        stderr: tcpdump's own words.
        exit_code: of the command.
        vxlan_port: the UDP port of VXLAN.

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
