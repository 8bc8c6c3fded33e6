"""Liveness: which process made something in a cluster, and whether it still lives.

A run that is killed leaves objects behind. Whoever finds them on the same machine can tell that
their maker is gone, and need not wait for it; from anywhere else that cannot be known.
"""

from __future__ import annotations

import os
from pathlib import Path

#: The annotation by which an object names the process that made it.
PROCESS_ANNOTATION = "k8snet/process"
_PROC = Path("/proc")


def this_process() -> str:
    """Name the running process: the machine's boot, the PID namespace, process id, start time."""
    pid = os.getpid()
    return f"{_machine()}/{pid}/{_start_time(pid)}"


def is_alive(process: str) -> bool | None:
    """Tell whether a process lives, if it ran on this very machine; None if that is unknown.

    Args:
        process: what :func:`this_process` said in it.
    """
    place, _, started = process.rpartition("/")
    machine, _, pid = place.rpartition("/")
    if not machine or machine != _machine() or not pid.isdigit():
        return None
    found = _start_time(int(pid))
    return None if found is None else found == started


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Return the start time of a live process in clock ticks; empty for none, or a zombie.

    None if there is such a process, but this user may not look at it.
    """
    try:
        stat = (_PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        # Others' processes can be hidden (hidepid=2); a signal tells them from none at all.
        return None if _exists(pid) else ""
    # The name in parentheses may hold spaces; what follows it is regular.
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
