"""The host-side process of a lab: takes the API's port, makes the namespaces, waits for the end.

Three processes in a row, each killed by the kernel when the one before it ends::

    launcher (host's namespaces) -> keeper -> pid 1 of the namespaces -> the lab itself

It speaks one line of JSON each way. On standard input comes the request; as long as that pipe
stays open the lab lives, so the lab ends with whoever started it, however that one ended. On
standard output goes either what the lab became or a LabError's parts.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import select
import shutil
import signal
import socket
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.spec import LabSpec

Message = dict[str, Any]


class _Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP came."""


def main() -> int:
    """Read the request, run the lab to its end; the exit status is 0 when it was asked to end."""
    with open(0, "rb", buffering=0, closefd=False) as caller:
        request = pickle.load(caller)
    directory = Path(request["directory"])
    try:
        extend_path()
        check()
        with _listen(request["port"]) as listener:
            spec: LabSpec = request["spec"]
            reports, sender = os.pipe()
            keeper = os.fork()
            if keeper == 0:
                os.close(reports)
                _keep(spec, listener, sender)
        os.close(sender)
        return _attend(keeper, reports, directory)
    except LabError as error:
        _write_line(1, error_message(error))
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def error_message(error: LabError) -> Message:
    """A LabError as the parts it is made of."""
    parts = {"problem": error.problem, "found": error.found, "remedy": error.remedy}
    return {"error": parts}


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as exc:
        listener.close()
        raise LabError(
            f"the lab's API cannot have port {port}",
            found=f"127.0.0.1:{port}: {os.strerror(exc.errno or 0)}",
            remedy="end what listens there, or give another --port (0 takes any free one)",
        ) from None
    listener.listen(128)
    listener.setblocking(False)
    return listener


def _keep(spec: LabSpec, listener: socket.socket, sender: int) -> NoReturn:
    """Make the namespaces, fork their pid 1, and wait for it."""
    parent = os.getppid()
    status = 1
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(status)
        namespaces.unshare_all()
        alive, held = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(held)
            _live(spec, listener, sender, alive)
        _write_line(sender, {"pid": child})
        for descriptor in (sender, listener.fileno()):
            os.close(descriptor)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    except LabError as error:
        _write_line(sender, error_message(error))
    finally:
        os._exit(status & 0xFF)


def _live(spec: LabSpec, listener: socket.socket, sender: int, alive: int) -> NoReturn:
    """Pid 1 of the lab's namespaces, and the lab as its child."""
    status = 1
    try:
        namespaces.die_with_parent(signal.SIGKILL)
        # The keeper may have died before the line above: then its end of this pipe is closed.
        if select.select([alive], [], [], 0)[0]:
            os._exit(status)
        os.close(alive)
        if lab := os.fork():
            for descriptor in (sender, listener.fileno()):
                os.close(descriptor)
            _reap(lab)
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        namespaces.furnish()
        from pytest_k8snet.lab.lab import run

        run(spec, listener, lambda message: _write_line(sender, message))
        status = 0
    except LabError as error:
        _write_line(sender, error_message(error))
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _reap(lab: int) -> NoReturn:
    """Take up the end of every process whose parent has gone, until the lab has ended.

    A command in a container outlives the exec that was cut off. Its end, where nobody takes it up,
    keeps the container's pid namespace from going, and so the pod, for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pid, status = os.wait()
        if pid == lab:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _attend(keeper: int, reports: int, directory: Path) -> int:
    """Pass on what the lab reports, until it ends or has to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    lab, failed = 0, True
    try:
        for message in _messages(reports):
            if "pid" in message:
                lab = message["pid"]
            elif "kubeconfig" in message:
                path = directory / "kubeconfig"
                _write_private(path, message.pop("kubeconfig"))
                _write_line(1, {**message, "kubeconfig": str(path), "pid": lab})
            else:
                _write_line(1, message)
        failed = not _is_closed(0)
    except (_Stopped, BrokenPipeError):
        failed = False
    finally:
        # The lab first: when the keeper has reaped it, its whole pid namespace is gone.
        for pid in filter(None, (lab, 0 if lab else keeper)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        os.waitpid(keeper, 0)
    return int(failed)


def _stop(number: int, frame: object) -> NoReturn:
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise _Stopped


def _messages(reports: int) -> Iterator[Message]:
    """The lab's reports, until it has ended or standard input is closed."""
    pending = b""
    poller = select.poll()
    poller.register(reports, select.POLLIN)
    poller.register(0, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poller.poll()}
        if reports in ready:
            data = os.read(reports, 65536)
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            yield from map(json.loads, lines)
        elif not os.read(0, 65536):
            return


def _is_closed(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, 0)
    return bool(poller.poll(0))


def _write_private(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)


def _write_line(descriptor: int, message: Message) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(descriptor, data) :]


# -- What the machine must have: programs, and the Python packages of the extra --------------------

#: Program -> the Debian (and Ubuntu) package that has it.
PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "iperf3": "iperf3",
    "curl": "curl",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "hostname": "hostname",
}
#: What the lab imports beyond the plugin's own dependencies.
MODULES = ("aiohttp", "cryptography", "jsonpatch", "yaml")

# Debian keeps ip and nft where an ordinary user's PATH does not look.
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def extend_path() -> None:
    """Make this process and its children find the system's programs as root's PATH would."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    missing = [entry for entry in _SYSTEM_DIRECTORIES if entry not in path]
    os.environ["PATH"] = os.pathsep.join([*path, *missing])


def check() -> None:
    """Look for every program and package at once.

    Raises:
        LabError: one error that names all that is missing, and how to get it.
    """
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        packages = sorted({PROGRAMS[name] for name in programs})
        raise LabError(
            "the lab needs programs that this machine does not have",
            found="missing: " + ", ".join(f"{name} ({PROGRAMS[name]})" for name in programs),
            remedy=f"apt-get install {' '.join(packages)}",
        )
    modules = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if modules:
        raise LabError(
            "the lab needs Python packages that are not installed",
            found="missing: " + ", ".join(modules),
            remedy="pip install 'pytest-k8snet[lab]'",
        )
