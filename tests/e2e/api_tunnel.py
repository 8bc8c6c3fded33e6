"""A way to the API server that can be closed, as a VPN is, and that keeps a log."""

from __future__ import annotations

import socket
import threading
import time

import yaml

from pytest_k8snet.lab import LabProcess


class Tunnel:
    """A way to the API server.

    Attributes:
        port: of the near end, on 127.0.0.1.
        passed: when it carried something in either direction, by ``time.time()``, and how many
            bytes.
    """

    def __init__(self, server: str) -> None:
        host, port = server.removeprefix("https://").split(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets = [self._listener]
        self.passed: list[tuple[float, int]] = []
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def kubeconfig(self, lab: LabProcess) -> str:
        """A lab's kubeconfig that leads through here."""
        config = yaml.safe_load(lab.kubeconfig.read_text(encoding="utf-8"))
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        return str(yaml.safe_dump(config))

    def close(self) -> None:
        """Cut all connections, and refuse new ones."""
        self._cut(*self._sockets)
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                return
            self._sockets += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                self.passed.append((time.time(), len(data)))
                other.sendall(data)
        except OSError:
            pass
        self._cut(one, other)

    def _cut(self, *sockets: socket.socket) -> None:
        for one in sockets:
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
