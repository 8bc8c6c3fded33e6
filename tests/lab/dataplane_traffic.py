"""Small real traffic between namespaces, and what it looks like on the wire."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import TracebackType
from typing import Self

from pytest_k8snet.lab.dataplane import netns

REPLY_BYTES = 100_000
_TIMEOUT_SECONDS = 3
_ETH_P_ALL = 3
_PACKET_OUTGOING = 4


@dataclass(frozen=True)
class Reply:
    """What a client got: whom the server took it for, which server answered, or why not."""

    peer: str = ""
    server: str = ""
    mss: int = 0
    error: str = ""


@contextlib.asynccontextmanager
async def serve(namespace: str) -> AsyncIterator[int]:
    """A TCP server in a namespace that tells each client's address, its own, and sends much."""
    listener = await netns.run(namespace, _listen)
    thread = threading.Thread(target=_accept, args=(listener,), daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


def _listen() -> socket.socket:
    return socket.create_server(("0.0.0.0", 0))


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            connection, (peer, _) = listener.accept()
        except OSError:
            return
        with connection, contextlib.suppress(OSError):
            connection.settimeout(_TIMEOUT_SECONDS)
            own = connection.getsockname()[0]
            connection.sendall(f"{peer} {own} ".encode().ljust(REPLY_BYTES))
            connection.recv(1)


async def fetch(namespace: str, address: IPv4Address, port: int) -> Reply:
    """Ask a server, from a namespace."""
    return await netns.run(namespace, _fetch, str(address), port)


def _fetch(address: str, port: int) -> Reply:
    try:
        with socket.create_connection((address, port), _TIMEOUT_SECONDS) as connection:
            data = b""
            while len(data) < REPLY_BYTES:
                piece = connection.recv(65536)
                if not piece:
                    return Reply(error="the connection broke off")
                data += piece
            mss = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except OSError as error:
        return Reply(error=type(error).__name__)
    peer, server, *_ = data.decode().split()
    return Reply(peer=peer, server=server, mss=mss)


class Sniffer:
    """Counts kinds of packets on ``eth0`` of the namespace it is made in."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.bind(("eth0", _ETH_P_ALL))
        self._socket.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def seen(self) -> dict[str, int]:
        """How many IPv4 packets of each kind there were, sent and received."""
        kinds: Counter[str] = Counter()
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, address = self._socket.recvfrom(65535)
                if packet[:1] == b"\x45":
                    way = "out" if address[2] == _PACKET_OUTGOING else "in"
                    kinds[f"{way} {_kind(packet)}"] += 1
        return dict(kinds)


def _kind(packet: bytes) -> str:
    source, destination = (socket.inet_ntoa(packet[start : start + 4]) for start in (12, 16))
    ends = f"{source} > {destination}"
    if packet[9] == socket.IPPROTO_UDP:
        (port,) = struct.unpack("!H", packet[22:24])
        return f"udp/{port} {ends}"
    if packet[9] == socket.IPPROTO_IPIP:
        dont_fragment = "DF" if packet[6] & 0x40 else ""
        return f"ipip {ends} {dont_fragment}".rstrip()
    return f"{'tcp' if packet[9] == socket.IPPROTO_TCP else packet[9]} {ends}"
