"""The two things that are asked of rtnetlink: which gateway a packet takes, and tell me of changes.

Sockets belong to the network namespace of the thread that opens them, for good.
"""

from __future__ import annotations

import socket
import struct

_NETLINK_ROUTE = 0
_GROUP_IPV4_ROUTE = 1 << 6
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST = 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MARK = 1, 4, 5, 16
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


def open_query() -> socket.socket:
    """A socket to ask for routes."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)


def open_route_events() -> socket.socket:
    """A non-blocking socket that becomes readable when an IPv4 route changes."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
    events.bind((0, _GROUP_IPV4_ROUTE))
    events.setblocking(False)
    return events


def gateway(
    query: socket.socket, destination: bytes, interface: int, *, mark: int = 0
) -> bytes | None:
    """The gateway of the route that a packet to this address takes through an interface.

    Args:
        query: a socket of ``open_query``.
        destination: 4 bytes.
        interface: the interface's index.
        mark: of the packet; 0 for none.

    Returns:
        4 bytes; None when there is no such route or it leads elsewhere.
    """
    query.send(route_request(destination, mark))
    found, hop = route_answer(query.recv(65536))
    return hop if found == interface else None


def route_request(destination: bytes, mark: int = 0) -> bytes:
    """The RTM_GETROUTE message for one address, and the packet's mark if it has one. Pure."""
    body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(destination), _RTA_DST) + destination
    if mark:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, _RTA_MARK) + struct.pack("=I", mark)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def route_answer(message: bytes) -> tuple[int | None, bytes | None]:
    """Interface index and gateway in the kernel's answer; None for what it does not say. Pure."""
    length, kind, *_ = _HEADER.unpack_from(message)
    if kind != _RTM_NEWROUTE:
        return None, None
    position, end = _HEADER.size + _ROUTE.size, min(length, len(message))
    interface = hop = None
    while position + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(message, position)
        if size < _ATTRIBUTE.size:
            break
        value = message[position + _ATTRIBUTE.size : position + size]
        if name == _RTA_OIF:
            (interface,) = struct.unpack("=I", value)
        elif name == _RTA_GATEWAY:
            hop = value
        position += (size + 3) & ~3
    return interface, hop
