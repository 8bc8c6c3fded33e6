"""Segments that follow each other become one packet; everything else passes as it is."""

from __future__ import annotations

import struct
from itertools import chain

from pytest_k8snet.lab.dataplane.coalesce import NO_OFFLOAD, coalesce

ACK, PSH, SYN = 0x10, 0x08, 0x02


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def segment(
    sequence: int,
    payload: bytes = b"x" * 100,
    *,
    port: int = 1000,
    flags: int = ACK,
    timestamp: int = 7,
    fragment: int = 0x4000,
) -> bytes:
    """An IPv4 packet with a TCP segment that has a timestamp option."""
    options = struct.pack("!BBBBII", 1, 1, 8, 10, timestamp, 3)
    tcp = struct.pack("!HHIIBBHHH", port, 80, sequence, 55, 8 << 4, flags, 500, 0xABCD, 0)
    length = 20 + len(tcp) + len(options) + len(payload)
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 1, fragment, 64, 6, 0) + addresses
    header = header[:10] + struct.pack("!H", ~checksum(header) & 0xFFFF) + header[12:]
    return header + tcp + options + payload


def joined(buffers: object) -> bytes:
    return b"".join(buffers)  # type: ignore[arg-type]


def test_nothing_becomes_nothing() -> None:
    assert coalesce([]) == []


def test_segments_in_a_row_become_one_packet() -> None:
    found = coalesce([segment(1000), segment(1100), segment(1200, b"y" * 40)])
    assert len(found) == 1
    data = joined(found[0])
    flags, kind, header, size, start, offset = struct.unpack("=BBHHHH", data[:10])
    # Checksum still to be computed, TCP over IPv4 in segments of 100 bytes behind 52 of headers.
    assert (flags, kind, header, size, start, offset) == (1, 1, 52, 100, 20, 16)
    packet = data[10:]
    assert packet[52:] == b"x" * 200 + b"y" * 40
    assert struct.unpack("!H", packet[2:4]) == (52 + 240,)
    assert checksum(packet[:20]) == 0xFFFF


def test_the_tcp_checksum_of_a_joined_packet_is_that_of_its_pseudo_header() -> None:
    packet = joined(coalesce([segment(1000), segment(1100)])[0])[10:]
    pseudo = packet[12:20] + struct.pack("!HH", 6, len(packet) - 20)
    assert struct.unpack("!H", packet[36:38]) == (checksum(pseudo),)


def test_a_lone_segment_passes_unchanged() -> None:
    assert joined(coalesce([segment(1000)])[0]) == NO_OFFLOAD + segment(1000)


def test_a_gap_starts_a_new_packet() -> None:
    assert len(coalesce([segment(1000), segment(1200)])) == 2


def test_a_longer_segment_than_the_first_starts_a_new_packet() -> None:
    assert len(coalesce([segment(1000), segment(1100, b"x" * 101)])) == 2


def test_nothing_is_joined_behind_a_short_segment() -> None:
    assert len(coalesce([segment(1000), segment(1100, b"x" * 50), segment(1150)])) == 2


def test_other_options_start_a_new_packet() -> None:
    assert len(coalesce([segment(1000), segment(1100, timestamp=8)])) == 2


def test_connections_are_joined_apart() -> None:
    packets = [segment(1000), segment(5000, port=2), segment(1100), segment(5100, port=2)]
    first, second = map(joined, coalesce(packets))
    assert (len(first), len(second)) == (10 + 252, 10 + 252)
    assert first[10 + 20 : 10 + 22] == struct.pack("!H", 1000)


def test_push_and_syn_pass_by_themselves_and_in_order() -> None:
    packets = [segment(1000), segment(1100, flags=ACK | PSH), segment(1200), segment(0, flags=SYN)]
    found = [joined(buffers)[10:] for buffers in coalesce(packets)]
    assert found == packets


def test_fragments_other_protocols_and_rubbish_pass_by_themselves() -> None:
    udp = bytearray(segment(1000))
    udp[9] = 17
    packets = [
        segment(1000, fragment=0x2000),
        segment(1100, fragment=0x2000),
        bytes(udp),
        bytes(udp),
        b"",
        b"\x60" + bytes(60),
        segment(1000, b""),
        segment(1000, b""),
    ]
    assert [joined(buffers)[10:] for buffers in coalesce(packets)] == packets


def test_no_packet_outgrows_the_ip_length_field() -> None:
    packets = [segment(1000 + 1400 * index, b"z" * 1400) for index in range(64)]
    found = coalesce(packets)
    assert len(found) == 2
    assert all(len(joined(buffers)) < 65536 for buffers in found)
    assert b"".join(chain.from_iterable(entry[2:] for entry in found)) == b"z" * 1400 * 64
