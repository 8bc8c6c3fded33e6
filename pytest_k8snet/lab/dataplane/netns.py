"""Named network namespaces: files under /run/netns, as ``ip netns`` keeps them.

The mount namespace must be private to the lab, with a writable /run/netns: then the kernel
takes every namespace away with the lab's last process, whatever kills it.

Work inside a namespace runs in threads of an executor of our own, each of which enters the
namespace first. A child process that such a thread starts is born in the namespace, which saves
the start of an ``nsenter`` per command.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import namespaces

#: Where the names live.
DIRECTORY = Path("/run/netns")

#: The Debian package of each program that the dataplane runs.
PACKAGES = {
    "ip": "iproute2",
    "bridge": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
}

_P = ParamSpec("_P")
_T = TypeVar("_T")

# Programming 50 nodes is mostly waiting for short child processes; more threads gain nothing.
_executor = ThreadPoolExecutor(max_workers=8, thread_name_prefix="netns")


class DataplaneError(LabError):
    """A command that should have changed a namespace of the lab failed."""


def path(name: str) -> Path:
    """The file that stands for the namespace."""
    return DIRECTORY / name


def enter(name: str) -> list[str]:
    """The words to put before a command so that it runs in the namespace."""
    return ["nsenter", f"--net={path(name)}"]


def exists(name: str) -> bool:
    """Whether the namespace is there."""
    return path(name).exists()


async def run(name: str, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call a blocking function in a thread that has entered the namespace.

    Raises:
        DataplaneError: there is no such namespace.
    """
    return await _in_thread(_entered, name, functools.partial(function, *args, **kwargs))


async def create(name: str, *, sysctls: Mapping[str, str] | None = None) -> None:
    """Make a namespace with ``lo`` up.

    Args:
        name: its name; must be new.
        sysctls: paths below ``/proc/sys/net`` and their values, set before any device exists.

    Raises:
        DataplaneError: the kernel refused; nothing is left behind.
    """
    await _in_thread(_create, name, dict(sysctls or {}))


async def delete(name: str) -> None:
    """Take the name away; the kernel drops the namespace with its last process. Missing is fine."""
    await _in_thread(_delete, name)


async def batch(name: str, lines: Sequence[str], tool: str = "ip") -> None:
    """Run many ``ip``, ``bridge`` or ``tc`` commands in the namespace by one process.

    Every line is tried even when one fails, with one exception: ``ip`` ends at the first ``neigh``
    that fails, so those belong at the end.

    Args:
        name: the namespace.
        lines: commands without the tool's own name, such as ``link set lo up``.
        tool: ``ip``, ``bridge`` or ``tc``.

    Raises:
        DataplaneError: at least one line failed; it names each with the kernel's answer, or, where
            the tool ended half-way, those that it may be.
    """
    if lines:
        await run(name, batch_here, lines, tool)


async def output(name: str, argv: Sequence[str], *, text: str = "") -> str:
    """Run one command in the namespace and return its standard output.

    Raises:
        DataplaneError: the command is missing or failed.
    """
    return await run(name, output_here, argv, text=text)


def batch_here(lines: Sequence[str], tool: str = "ip") -> None:
    """Like ``batch``, in the namespace of the calling thread."""
    if not lines:
        return
    finished = _execute([tool, "-force", "-batch", "-"], "\n".join(lines) + "\n")
    if finished.returncode != 0:
        raise DataplaneError(
            f"{tool} could not program a network namespace of the lab",
            found=_with_commands(finished.stderr, lines),
        )


def output_here(argv: Sequence[str], *, text: str = "") -> str:
    """Like ``output``, in the namespace of the calling thread."""
    finished = _execute(argv, text)
    if finished.returncode != 0:
        raise DataplaneError(
            f"{' '.join(argv)} failed in a network namespace of the lab", found=finished.stderr
        )
    return finished.stdout


def _execute(argv: Sequence[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise DataplaneError(
            f"the lab needs the program {argv[0]}, which this machine does not have",
            remedy=f"apt-get install {PACKAGES.get(argv[0], argv[0])}",
        ) from None


def _with_commands(stderr: str, lines: Sequence[str]) -> str:
    """Replace the tool's ``Command failed -:7`` by the command itself."""
    shown, told, ended_early = [], 0, True
    for line in stderr.splitlines():
        before, mark, number = line.partition("Command failed -:")
        ended_early = not mark
        if mark and number.isdigit() and int(number) <= len(lines):
            told = int(number)
            line = f"{before}{lines[told - 1]}"
        shown.append(line)
    if ended_early:
        shown += ["the batch ended there, at one of:", *lines[told:]]
    return "\n".join(shown)


async def _in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    call = functools.partial(function, *args, **kwargs)
    running = asyncio.get_running_loop().run_in_executor(_executor, call)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        # A thread cannot be stopped half-way. Who is cancelled while a namespace is being made
        # deletes it next, and must find it made.
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()
        raise


def _entered(name: str, call: Callable[[], _T]) -> _T:
    try:
        namespaces.enter_network(path(name))
    except FileNotFoundError:
        raise DataplaneError(f"the lab has no network namespace named {name}") from None
    return call()


def _create(name: str, sysctls: dict[str, str]) -> None:
    target = path(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch(mode=0o444, exist_ok=False)
        namespaces.unshare_network()
        namespaces.bind_mount("/proc/thread-self/ns/net", target)
        namespaces.set_interface_up("lo")
        namespaces.write_sysctls(sysctls)
    except FileExistsError:
        raise DataplaneError(f"the lab already has a network namespace named {name}") from None
    except OSError as error:
        # Else the name would be taken for whoever tries again.
        _delete(name)
        raise DataplaneError(
            f"cannot make the network namespace {name}",
            found=str(error),
            remedy="the lab needs root, or unprivileged user namespaces "
            "(sysctl kernel.unprivileged_userns_clone=1, "
            "kernel.apparmor_restrict_unprivileged_userns=0)",
        ) from error


def _delete(name: str) -> None:
    target = path(name)
    if target.exists():
        try:
            namespaces.unmount(target)
        except OSError as error:
            # No mount: whoever made the name did not come so far.
            if error.errno != errno.EINVAL:
                raise
        target.unlink()
