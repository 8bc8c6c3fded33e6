"""A running lab as the host sees it: started, used through its kubeconfig, closed.

Standard library only: this is what pytest's process imports.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.spec import LabSpec

_LAST_LINES = 15
_END_SECONDS = 10.0


class LabProcess:
    """A lab that is up and answering. Made by :func:`start`; a context manager.

    Attributes:
        kubeconfig: the file that lets kubectl and the plugin in; mode 0600, gone with the lab.
        outside_prefix: what to put before a command to run it on the client outside the cluster.
        ipip: ``kernel``, ``tun`` (a forwarder in user space), or ``unavailable: <why>``.
        pid: the lab's own process, as numbered on the host.
        server: the URL of the API.
    """

    def __init__(self, child: subprocess.Popen[bytes], log: IO[bytes], ready: dict[str, Any]):
        self._child = child
        self._log = log
        self.kubeconfig = Path(ready["kubeconfig"])
        self.ipip = str(ready["ipip"])
        self.pid = int(ready["pid"])
        self.server = str(ready["server"])
        self.outside_prefix = _outside_prefix(self.pid)

    def alive(self) -> bool:
        """Whether the lab still runs."""
        return self._child.poll() is None

    def wait(self) -> None:
        """Wait until the lab has ended."""
        self._child.wait()

    def check(self) -> None:
        """Do nothing while the lab runs.

        Raises:
            LabError: it has died; with the last lines that it wrote.
        """
        if not self.alive():
            raise _death(self._child, self._log, "the lab has died during the run")

    def close(self) -> None:
        """End the lab; when this returns, its processes and namespaces are gone."""
        _end(self._child)
        self._log.close()
        # Gone already, unless the launcher was killed.
        shutil.rmtree(self.kubeconfig.parent, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def start(spec: LabSpec, *, port: int = 0, timeout_seconds: float = 30) -> LabProcess:
    """Start a lab and wait until it answers.

    Args:
        spec: what the lab consists of.
        port: of the API on 127.0.0.1; 0 takes any free one.
        timeout_seconds: how long it may take to come up.

    Raises:
        LabError: this is no Linux, programs or packages are missing, namespaces are forbidden,
            the port is taken, or it did not come up in time.
    """
    if sys.platform != "linux":
        raise LabError(
            "the lab needs Linux: its nodes are network namespaces",
            found=f"this is {sys.platform}",
            remedy="start it in a Linux machine or container; clusters can be measured from here",
        )
    directory = tempfile.mkdtemp(prefix="k8snet-lab-")
    log = tempfile.TemporaryFile()  # noqa: SIM115 -- lives as long as the LabProcess
    child = subprocess.Popen(
        [sys.executable, "-m", "pytest_k8snet.lab"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        # Ctrl-C at the terminal is for the tests: their teardown still needs the lab.
        start_new_session=True,
    )
    try:
        request = {"spec": spec, "port": port, "directory": directory}
        _send(child, request)
        ready = _receive(child, log, timeout_seconds)
        return LabProcess(child, log, ready)
    except BaseException:
        _end(child)
        log.close()
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _send(child: subprocess.Popen[bytes], request: dict[str, Any]) -> None:
    assert child.stdin is not None
    # A child that is dead already tells its story on standard error.
    with contextlib.suppress(BrokenPipeError):
        pickle.dump(request, child.stdin)
        child.stdin.flush()


def _receive(
    child: subprocess.Popen[bytes], log: IO[bytes], timeout_seconds: float
) -> dict[str, Any]:
    """The lab's one line: what it became."""
    assert child.stdout is not None
    deadline = time.monotonic() + timeout_seconds
    data = b""
    while not data.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([child.stdout], [], [], left)[0]:
            raise LabError(
                f"the lab did not come up within {timeout_seconds:g} s",
                found=_last_lines(log),
                remedy="try fewer nodes, or when the machine is less busy",
            )
        piece = os.read(child.stdout.fileno(), 65536)
        if not piece:
            raise _death(child, log, "the lab died while it started")
        data += piece
    message: dict[str, Any] = json.loads(data)
    if "error" in message:
        raise LabError(**message["error"])
    return message


def _end(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    try:
        # Its standard input is closed: it ends by itself, and removes its directory.
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _death(child: subprocess.Popen[bytes], log: IO[bytes], problem: str) -> LabError:
    status = child.wait(_END_SECONDS)
    found = f"exit status {status}; it wrote:\n{_last_lines(log)}"
    return LabError(problem, found=found, remedy="start it again; if it dies again, report this")


def _last_lines(log: IO[bytes]) -> str:
    # The lab writes through the same file offset: it must not be moved.
    size = os.fstat(log.fileno()).st_size
    lines = os.pread(log.fileno(), size, 0).decode(errors="replace").splitlines()[-_LAST_LINES:]
    return "\n".join(lines) or "nothing on standard error"


def _outside_prefix(pid: int) -> tuple[str, ...]:
    """A command prefix that enters the outside client's network, from the host."""
    nsenter = shutil.which("nsenter") or "nsenter"
    network = f"--net=/proc/{pid}/root/run/netns/outside"
    if os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user"):
        return (nsenter, network)
    # The owner of a user namespace may enter it, and only from within may then enter the others.
    return (nsenter, f"--user=/proc/{pid}/ns/user", "--preserve-credentials", network)
