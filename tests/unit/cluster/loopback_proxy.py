"""Proxies on loopback that note what they were asked for: HTTP CONNECT, by TLS too, and SOCKS 5."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """A proxy while it runs.

    Attributes:
        port: its port on 127.0.0.1.
        asked: each target that it was asked for, e.g. ``127.0.0.1:6443``.
        logins: the user and password that came with each, as the protocol writes them.
        refuses: the status line with which it answers every CONNECT.
        resolves: names that it knows, and the address that each stands for.
    """

    port: int = 0
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    refuses: str = ""
    resolves: dict[str, str] = field(default_factory=dict)

    def connect(self, client: socket.socket) -> socket.socket | None:
        """HTTP CONNECT: read the request, and answer it."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        first, *headers = head.decode().splitlines()
        self.asked.append(first.split()[1])
        self.logins += [
            line.partition(":")[2].strip()
            for line in headers
            if line.lower().startswith("proxy-authorization:")
        ]
        if self.refuses:
            client.sendall(f"HTTP/1.1 {self.refuses}\r\ncontent-length: 0\r\n\r\n".encode())
            return None
        host, _, port = self.asked[-1].rpartition(":")
        server = socket.create_connection((self.resolves.get(host, host), int(port)))
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return server

    def socks(self, client: socket.socket) -> socket.socket | None:
        """SOCKS 5 (RFC 1928) with and without a password (RFC 1929)."""
        methods = client.recv(client.recv(2)[1])
        if 2 in methods:
            client.sendall(b"\x05\x02")
            client.recv(1)
            user = client.recv(client.recv(1)[0]).decode()
            self.logins.append(f"{user}:{client.recv(client.recv(1)[0]).decode()}")
            client.sendall(b"\x01\x00")
        else:
            client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        host = (
            client.recv(client.recv(1)[0]).decode()
            if kind == 3
            else socket.inet_ntoa(client.recv(4))
        )
        (port,) = struct.unpack(">H", client.recv(2))
        self.asked.append(f"{host}:{port}")
        server = socket.create_connection((self.resolves.get(host, host), port))
        client.sendall(b"\x05\x00\x00\x01" + bytes(6))
        return server


@contextmanager
def running_proxy(kind: str = "http", *, tls: ssl.SSLContext | None = None) -> Generator[Proxy]:
    """Run a proxy: ``http`` or ``socks``; with ``tls``, clients speak TLS to it."""
    proxy = Proxy()
    threads: list[threading.Thread] = []

    def copy(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(client)
            if tls is not None:
                client = stack.enter_context(tls.wrap_socket(client, server_side=True))
            server = proxy.socks(client) if kind == "socks" else proxy.connect(client)
            if server is not None:
                stack.enter_context(server)
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)
                back.join(10)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]
        acceptor = threading.Thread(target=accept, args=(listener,), daemon=True)
        acceptor.start()
        yield proxy
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(10)
    for thread in threads:
        thread.join(10)
