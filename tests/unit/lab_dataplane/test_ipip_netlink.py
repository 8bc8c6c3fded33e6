"""The two messages of rtnetlink that the forwarder speaks."""

from __future__ import annotations

import struct

from pytest_k8snet.lab.dataplane.ipip import route_answer, route_request


def answer(kind: int, attributes: bytes) -> bytes:
    body = struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 254, 12, 0, 1, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_the_request_asks_for_one_address() -> None:
    assert route_request(bytes([10, 1, 2, 3])) == (
        struct.pack("=IHHII", 36, 26, 1, 1, 0)
        + struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 0, 0, 0, 0, 0)
        + struct.pack("=HH4B", 8, 1, 10, 1, 2, 3)
    )


def test_the_request_names_the_packets_mark() -> None:
    assert route_request(bytes([10, 1, 2, 3]), 0x40000000) == (
        struct.pack("=IHHII", 44, 26, 1, 1, 0)
        + struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 0, 0, 0, 0, 0)
        + struct.pack("=HH4B", 8, 1, 10, 1, 2, 3)
        + struct.pack("=HHI", 8, 16, 0x40000000)
    )


def test_interface_and_gateway_are_read_from_the_answer() -> None:
    attributes = (
        struct.pack("=HH4B", 8, 1, 10, 1, 2, 3)
        + struct.pack("=HHI", 8, 4, 7)
        # An attribute of five bytes is padded to eight.
        + struct.pack("=HH5B3x", 9, 99, 1, 2, 3, 4, 5)
        + struct.pack("=HH4B", 8, 5, 192, 168, 0, 12)
    )
    assert route_answer(answer(24, attributes)) == (7, bytes([192, 168, 0, 12]))


def test_a_route_without_gateway_says_so() -> None:
    assert route_answer(answer(24, struct.pack("=HHI", 8, 4, 7))) == (7, None)


def test_an_error_message_is_no_route() -> None:
    assert route_answer(answer(2, b"")) == (None, None)


def test_a_broken_attribute_ends_the_reading() -> None:
    assert route_answer(answer(24, bytes(8))) == (None, None)
