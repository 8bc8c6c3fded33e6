"""The DNS server of the lab's ``coredns`` pods: A records from a file, over UDP and TCP.

Runs as a program of its own (``python -I -S dnsserver.py``), so that its answers do not wait for
anything else the lab does, and imports next to nothing, so that it is up in milliseconds.
"""

import json
import os
import selectors
import signal
import socket
import struct
from typing import Any

ZONE_FILE = "/run/k8snet/zone.json"
PORT = 53
TTL_SECONDS = 5

_HEADER = struct.Struct(">6H")
_ANSWER = struct.Struct(">3HIH4s")
_RESPONSE, _AUTHORITATIVE, _RECURSION_DESIRED = 0x8000, 0x0400, 0x0100
_FORMAT_ERROR, _NAME_ERROR, _NOT_IMPLEMENTED, _REFUSED = 1, 3, 4, 5
_TYPE_A, _TYPE_ANY, _CLASS_IN = 1, 255, 1
# A pointer to the question's name, which begins right after the header.
_QUESTION_NAME = 0xC00C
_LONGEST_UDP_BYTES = 512


def answer(request: bytes, domain: str, names: dict[str, list[str]], *, limit: int) -> bytes | None:
    """The response to one request, or None when it deserves none.

    Args:
        request: the message.
        domain: of the cluster; names outside it are refused.
        names: lower-case names and their addresses.
        limit: the longest response in bytes; a longer one is cut and marked as truncated.
    """
    if len(request) < _HEADER.size:
        return None
    number, flags, questions, *_ = _HEADER.unpack_from(request)
    if flags & _RESPONSE:
        return None
    reply = _RESPONSE | _AUTHORITATIVE | (flags & _RECURSION_DESIRED)
    if flags & 0x7800:
        return _HEADER.pack(number, reply | _NOT_IMPLEMENTED, 0, 0, 0, 0)
    try:
        name, end = _name(request, _HEADER.size)
        kind, family = struct.unpack_from(">2H", request, end)
    except (IndexError, struct.error, UnicodeDecodeError):
        return _HEADER.pack(number, reply | _FORMAT_ERROR, 0, 0, 0, 0)
    if questions != 1:
        return _HEADER.pack(number, reply | _FORMAT_ERROR, 0, 0, 0, 0)
    question = request[_HEADER.size : end + 4]
    addresses = names.get(name)
    if addresses is None:
        inside = name == domain or name.endswith("." + domain)
        # An empty name on the way to another one exists as well.
        known = inside and any(other.endswith("." + name) for other in names)
        code = 0 if known else _NAME_ERROR if inside else _REFUSED
        return _HEADER.pack(number, reply | code, 1, 0, 0, 0) + question
    if family != _CLASS_IN or kind not in (_TYPE_A, _TYPE_ANY):
        addresses = []
    answers = [
        _ANSWER.pack(_QUESTION_NAME, _TYPE_A, _CLASS_IN, TTL_SECONDS, 4, socket.inet_aton(address))
        for address in addresses
    ]
    room = (limit - _HEADER.size - len(question)) // _ANSWER.size
    if len(answers) > room:
        answers, reply = answers[:room], reply | 0x0200
    header = _HEADER.pack(number, reply, 1, len(answers), 0, 0)
    return header + question + b"".join(answers)


def _name(message: bytes, position: int) -> tuple[str, int]:
    labels = []
    while length := message[position]:
        if length > 63:
            raise IndexError("a question's name is not compressed")
        labels.append(message[position + 1 : position + 1 + length].decode("ascii"))
        position += 1 + length
    return ".".join(labels).lower(), position + 1


class Zone:
    """The file of names, read again whenever it has changed."""

    def __init__(self, path: str = ZONE_FILE) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self.domain = ""
        self.names: dict[str, list[str]] = {}

    def refresh(self) -> None:
        """Read it when it is not the one read before."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            return
        if (found.st_ino, found.st_mtime_ns) != self._seen:
            with open(self._path) as file:
                content = json.load(file)
            self.domain, self.names = content["domain"], content["names"]
            self._seen = (found.st_ino, found.st_mtime_ns)

    def answer(self, request: bytes, *, limit: int = 65535) -> bytes | None:
        """The response to one request."""
        self.refresh()
        return answer(request, self.domain, self.names, limit=limit)


def serve(zone: Zone, address: str = "", port: int = PORT) -> None:
    """Answer for ever."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind((address, port))
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(128)
    selector = selectors.DefaultSelector()
    selector.register(datagrams, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    pending: dict[Any, bytes] = {}
    while True:
        for key, _ in selector.select():
            ready: Any = key.fileobj
            if ready is datagrams:
                request, client = datagrams.recvfrom(4096)
                response = zone.answer(request, limit=_LONGEST_UDP_BYTES)
                if response is not None:
                    datagrams.sendto(response, client)
            elif ready is listener:
                connection, _ = listener.accept()
                pending[connection] = b""
                selector.register(connection, selectors.EVENT_READ)
            elif not _talk(ready, pending, zone):
                selector.unregister(ready)
                del pending[ready]
                ready.close()


def _talk(connection: socket.socket, pending: dict[Any, bytes], zone: Zone) -> bool:
    """Answer what has come over one connection; whether it stays open."""
    try:
        data = connection.recv(4096)
        buffer = pending[connection] + data
        while len(buffer) >= 2 and len(buffer) >= 2 + int.from_bytes(buffer[:2], "big"):
            end = 2 + int.from_bytes(buffer[:2], "big")
            response = zone.answer(buffer[2:end])
            buffer = buffer[end:]
            if response is not None:
                connection.sendall(len(response).to_bytes(2, "big") + response)
        pending[connection] = buffer
    except OSError:
        return False
    return bool(data)


if __name__ == "__main__":
    # As pid 1 of its container it would ignore what it does not handle.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    serve(Zone())
