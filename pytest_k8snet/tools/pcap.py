"""Capture files as tcpdump writes them (pcap): their packets, with or without encapsulation. Pure.

What Calico puts on the wire is told apart: an IPv4 packet by itself, in VXLAN (RFC 7348), or in
another IPv4 packet (IPIP, RFC 2003). All else in a file is passed over.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from pytest_k8snet.errors import ToolError

#: What an IPv4 packet is carried in.
Carrier = Literal["bare", "vxlan", "ipip"]

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
        carrier: ``bare`` for a packet of its own.
        outer_source: the sending end of the tunnel; empty for a bare packet.
        outer_destination: the receiving end of the tunnel; empty for a bare packet.
        source: the packet's own source.
        destination: the packet's own destination.
        payload_bytes: what the segment carries, without any header.
    """

    carrier: Carrier
    outer_source: str = ""
    outer_destination: str = ""
    source: str
    destination: str
    source_port: int
    destination_port: int
    payload_bytes: int


def packets(capture: bytes, *, vxlan_port: int = VXLAN_PORT) -> list[Packet]:
    """The TCP segments of a capture file, in order.

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
    """What was captured of each frame, and how long it was on the wire."""
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
        return _segment(frame, at, length, "bare", "", "")
    if protocol == _IPIP:
        return _segment(frame, body, length, "ipip", source, destination)
    if protocol == _UDP and _uint16(frame, body + 2) == vxlan_port:
        inner, kind = _ethernet(frame, body + _UDP_BYTES + _VXLAN_BYTES)
        if kind == _IPV4:
            return _segment(frame, inner, length, "vxlan", source, destination)
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
