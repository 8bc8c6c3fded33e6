"""The HTTP server of the lab's ``agnhost`` and ``nginx`` pods: small, quick and steady.

Runs as a program of its own (``python -I -S webserver.py PORT``). What curl measures against it
should be the network, so it does next to nothing: one thread, no logging, answers made beforehand.

Answers ``/`` (a short text), ``/hostname``, ``/healthz``, and any path with ``?bytes=N`` by a body
of N bytes. Anything else is 404.
"""

import os
import selectors
import signal
import socket
import sys
from typing import Any

_HEADERS_END = b"\r\n\r\n"
_LONGEST_REQUEST_BYTES = 65536
_LARGEST_BODY_BYTES = 1 << 30
_PIECE = b"k8snet\n" * 9362


def respond(request: bytes, hostname: str) -> tuple[bytes, int, bool]:
    """What to send for one request.

    Args:
        request: its line and headers.
        hostname: what ``/hostname`` answers.

    Returns:
        the head with a short body, how many bytes of filling follow, and whether the connection
        is to stay open.
    """
    line, _, headers = request.partition(b"\r\n")
    parts = line.split()
    if len(parts) != 3 or not parts[2].startswith(b"HTTP/1."):
        return _head("400 Bad Request", b"bad request\n", keep=False), 0, False
    method, target, version = parts
    lower = headers.lower()
    keep = b"connection: close" not in lower
    if version == b"HTTP/1.0":
        keep = b"connection: keep-alive" in lower
    if method not in (b"GET", b"HEAD"):
        return _head("405 Method Not Allowed", b"only GET and HEAD\n", keep=False), 0, False
    path, _, query = target.partition(b"?")
    status, body, filling = "200 OK", b"", 0
    if query.startswith(b"bytes="):
        number = query[6:].partition(b"&")[0]
        if not number.isdigit() or int(number) > _LARGEST_BODY_BYTES:
            status, body = "400 Bad Request", b"bytes= wants a number up to 1073741824\n"
        else:
            filling = int(number)
    elif path == b"/":
        body = b"k8snet lab\n"
    elif path == b"/hostname":
        body = hostname.encode()
    elif path == b"/healthz":
        body = b"ok\n"
    else:
        status, body = "404 Not Found", b"not found\n"
    head = _head(status, body, keep=keep, filling=filling)
    if method == b"HEAD":
        return head[: len(head) - len(body)], 0, keep
    return head, filling, keep


def _head(status: str, body: bytes, *, keep: bool, filling: int = 0) -> bytes:
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\n"
        f"Content-Length: {len(body) + filling}\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode() + body


class Connection:
    """One client: what has come, and what has still to go."""

    def __init__(self, connection: socket.socket, hostname: str) -> None:
        self.socket = connection
        self._hostname = hostname
        self._received = b""
        self._to_send = b""
        self._filling = 0
        self._keep = True

    @property
    def sending(self) -> bool:
        """Whether there is something left to send."""
        return bool(self._to_send or self._filling)

    def read(self) -> bool:
        """Take what has come; whether the connection stays open."""
        data = self.socket.recv(_LONGEST_REQUEST_BYTES)
        self._received += data
        if not data or len(self._received) > _LONGEST_REQUEST_BYTES:
            return False
        return self._answer()

    def _answer(self) -> bool:
        while not self.sending and self._keep:
            request, end, rest = self._received.partition(_HEADERS_END)
            if not end:
                return True
            self._received = rest
            self._to_send, self._filling, self._keep = respond(request, self._hostname)
            if not self._push():
                return True
        return self._keep

    def _push(self) -> bool:
        """Send as much as goes; whether that was all."""
        while self.sending:
            if not self._to_send:
                self._to_send = _PIECE[: self._filling]
                self._filling -= len(self._to_send)
            try:
                sent = self.socket.send(self._to_send)
            except BlockingIOError:
                return False
            self._to_send = self._to_send[sent:]
        return True

    def write(self) -> bool:
        """Go on sending; whether the connection stays open."""
        return not self._push() or self._answer()


def serve(port: int, address: str = "") -> None:
    """Answer for ever."""
    hostname = socket.gethostname()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(1024)
    listener.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, events in selector.select():
            if key.data is None:
                _accept(listener, selector, hostname)
            else:
                _serve_one(key.data, events, selector)


def _accept(listener: socket.socket, selector: Any, hostname: str) -> None:
    try:
        made, _ = listener.accept()
    except OSError:
        return
    made.setblocking(False)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(made, selectors.EVENT_READ, Connection(made, hostname))


def _serve_one(connection: Connection, events: int, selector: Any) -> None:
    try:
        stays = connection.write() if events & selectors.EVENT_WRITE else connection.read()
        over = not stays and not connection.sending
    except BlockingIOError:
        return
    except OSError:
        over = True
    if over:
        selector.unregister(connection.socket)
        connection.socket.close()
        return
    wanted = selectors.EVENT_WRITE if connection.sending else selectors.EVENT_READ
    selector.modify(connection.socket, wanted, connection)


if __name__ == "__main__":
    # As pid 1 of its container it would ignore what it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    serve(int(sys.argv[1]))
