"""What tcpdump recorded on a lab node's network interface, in each of the three shapes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

import pytest
from recorded import DATA

from pytest_k8snet.tools.capture import CaptureFileError, packets

HEADER = 24


def recorded(name: str) -> bytes:
    return (DATA / "pcap" / f"{name}.pcap").read_bytes()


def rewritten(
    capture: bytes,
    *,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    link_type: int = 1,
    frame: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """The same capture as another machine or option of tcpdump would have written it."""
    made = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link_type)
    at = HEADER
    while at < len(capture):
        seconds, fraction, kept, length = struct.unpack_from("<IIII", capture, at)
        body = frame(capture[at + 16 : at + 16 + kept])
        made += struct.pack(f"{order}IIII", seconds, fraction, len(body), length) + body
        at += 16 + kept
    return made


def test_an_unencapsulated_packet_has_no_outer_addresses() -> None:
    found = packets(recorded("direct"))
    assert {(one.carrier, one.outer_source, one.outer_destination) for one in found} == {
        ("none", "", "")
    }
    assert [one.payload_bytes for one in found[:6]] == [0, 0, 0, 37, 0, 1]
    first = found[0]
    assert (first.source, first.destination) == ("198.18.1.0", "198.18.1.16")
    assert (first.source_port, first.destination_port) == (60584, 25271)


@pytest.mark.parametrize(
    ("carrier", "client", "server", "port"),
    [
        ("vxlan", "198.18.0.1", "198.18.0.17", 25273),
        ("ipip", "198.18.2.1", "198.18.2.17", 25275),
    ],
)
def test_a_tunnelled_packet_has_both_pairs_of_addresses(
    carrier: str, client: str, server: str, port: int
) -> None:
    found = packets(recorded(carrier))
    assert len(found) == 40
    assert {one.carrier for one in found} == {carrier}
    there = [one for one in found if one.destination_port == port]
    back = [one for one in found if one.source_port == port]
    assert len(there) + len(back) == 40
    for ways, outer, inner in (
        (there, ("192.168.0.11", "192.168.0.12"), (client, server)),
        (back, ("192.168.0.12", "192.168.0.11"), (server, client)),
    ):
        assert {(one.outer_source, one.outer_destination) for one in ways} == {outer}
        assert {(one.source, one.destination) for one in ways} == {inner}
    assert {one.vni for one in found} == ({4096} if carrier == "vxlan" else {None})
    # The client's cookie, and the server's first answer to it.
    assert next(one.payload_bytes for one in there if one.payload_bytes) == 37
    assert next(one.payload_bytes for one in back if one.payload_bytes) == 1


@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D], ids=["us", "ns"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little", "big"])
@pytest.mark.parametrize("name", ["direct", "vxlan", "ipip"])
def test_byte_order_and_clock_of_the_writer_do_not_matter(
    name: str, order: str, magic: int
) -> None:
    capture = recorded(name)
    assert packets(rewritten(capture, order=order, magic=magic)) == packets(capture)


@pytest.mark.parametrize("tags", [["8100"], ["88a8", "8100"]], ids=["one", "two"])
@pytest.mark.parametrize("name", ["direct", "vxlan", "ipip"])
def test_vlan_tags_are_passed_over(name: str, tags: list[str]) -> None:
    inserted = b"".join(bytes.fromhex(f"{tag}0064") for tag in tags)
    capture = recorded(name)
    tagged = rewritten(capture, frame=lambda frame: frame[:12] + inserted + frame[12:])
    assert packets(tagged) == packets(capture)


def test_vxlan_is_what_the_port_says() -> None:
    capture = recorded("vxlan")
    assert packets(capture, vxlan_port=8472) == []
    moved = rewritten(capture, frame=lambda frame: frame[:36] + b"\x21\x18" + frame[38:])
    assert packets(moved, vxlan_port=8472) == packets(capture)


def test_other_protocols_fragments_and_short_captures_are_no_packets() -> None:
    capture = recorded("direct")
    for change in (
        lambda frame: frame[:12] + b"\x08\x06" + frame[14:],  # ARP
        lambda frame: frame[:12] + b"\x86\xdd" + frame[14:],  # IPv6
        lambda frame: frame[:20] + b"\x00\x05" + frame[22:],  # a later fragment
        lambda frame: frame[:23] + b"\x01" + frame[24:],  # ICMP
        lambda frame: frame[:40],
    ):
        assert packets(rewritten(capture, frame=change)) == []
    assert packets(capture[:HEADER]) == []


def test_merged_segments_without_a_length_are_as_long_as_the_frame() -> None:
    capture = recorded("direct")
    unsized = rewritten(capture, frame=lambda frame: frame[:16] + b"\0\0" + frame[18:])
    sizes = [(one.payload_bytes, replace(one, payload_bytes=0)) for one in packets(capture)]
    assert [(one.payload_bytes, replace(one, payload_bytes=0)) for one in packets(unsized)] == sizes


def test_a_capture_cut_anywhere_is_whole_packets_or_an_error() -> None:
    capture = recorded("ipip")[:900]
    whole = [HEADER]
    while whole[-1] + 16 <= len(capture):
        whole.append(whole[-1] + 16 + struct.unpack_from("<I", capture, whole[-1] + 8)[0])
    for length in range(len(capture)):
        if length in whole:
            assert len(packets(capture[:length])) == whole.index(length)
            continue
        with pytest.raises(CaptureFileError) as caught:
            packets(capture[:length])
        assert "cut off" in caught.value.problem


def test_what_is_no_capture_is_said_with_its_first_bytes() -> None:
    with pytest.raises(CaptureFileError) as caught:
        packets(b"\x0a\x0d\x0d\x0a" + bytes(60))
    assert str(caught.value) == (
        "this is no capture file in pcap format\n"
        "  found: it begins with 0a 0d 0d 0a\n"
        "  to do: capture by `tcpdump -w`"
    )


def test_a_device_without_ethernet_headers_is_refused() -> None:
    with pytest.raises(CaptureFileError, match="packets cannot be read") as caught:
        packets(rewritten(recorded("direct"), link_type=113))
    assert caught.value.found == "link type 113"
