"""Runs a scenario of the dataplane in namespaces of its own, in a process tree that dies with us.

As a program: ``python dataplane_sandbox.py MODULE FUNCTION [JSON]`` enters new namespaces, calls
the coroutine function with the JSON's members as keywords, and prints what it returns as JSON.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def run(
    module: str,
    function: str,
    *,
    privileged: bool = True,
    timeout_seconds: float = 120,
    **arguments: Any,
) -> Any:
    """Call ``tests/lab/MODULE.py``'s coroutine function in a sandbox and return its result.

    Args:
        module: name of the module beside this one.
        function: name of the coroutine function.
        privileged: False makes it an ordinary user's, without any capability.
        timeout_seconds: how long it may take.
        arguments: keyword arguments, JSON-safe.
    """
    argv = [sys.executable, __file__, module, function, json.dumps(arguments)]
    if not privileged:
        argv = ["unshare", "--user", "--map-user=1000", "--map-group=1000", *argv]
    finished = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    assert finished.returncode == 0, f"{' '.join(argv)}\n{finished.stdout}\n{finished.stderr}"
    return json.loads(finished.stdout.splitlines()[-1])


def _die_with_parent(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def _main(module: str, function: str, arguments: str) -> int:
    from pytest_k8snet.lab import namespaces

    _die_with_parent(os.getppid())
    namespaces.unshare_all()
    child = os.fork()
    if child == 0:
        # In the new pid namespace the parent has no number.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        status = 1
        try:
            namespaces.furnish()
            # iperf3 keeps its streams' buffers in TMPDIR, and the host's disk is read-only now.
            # Not over /tmp: this very checkout may lie there.
            scratch = Path("/run/scratch")
            scratch.mkdir()
            os.environ["TMPDIR"] = str(scratch)
            scenario = getattr(importlib.import_module(module), function)
            result = asyncio.run(scenario(**json.loads(arguments)))
            sys.stdout.write(json.dumps(result) + "\n")
            sys.stdout.flush()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(_main(*sys.argv[1:]))
