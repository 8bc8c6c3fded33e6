"""How a program ended, as far as every tool shares it: not found, or killed at its time limit."""

from __future__ import annotations

import re

from pytest_k8snet.errors import ToolMissingError

#: ``timeout`` itself (124), SIGKILL and SIGTERM as a shell (128 + n) and as Python (-n) count them.
_KILLED = frozenset({124, 128 + 9, 128 + 15, -9, -15})

#: What shells, env and timeout (coreutils and busybox) say of a program that is not there.
_NOT_FOUND = re.compile(
    r"(?:not found|no such file or directory|can't execute|failed to run command)", re.IGNORECASE
)


def was_killed(exit_code: int | None) -> bool:
    """Whether a program was stopped from outside, most often by its time limit."""
    return exit_code in _KILLED


def under_timeout(seconds: float, *argv: str) -> tuple[str, ...]:
    """Let ``timeout`` end a command: closing an exec's stream does not end what it started.

    Two seconds after SIGTERM comes SIGKILL. Coreutils and busybox both have it.
    """
    return ("timeout", "-k", "2", f"{seconds:g}", *argv)


def missing_program(program: str, stderr: str, exit_code: int | None) -> ToolMissingError | None:
    """Tell whether a command failed because its program is not installed there."""
    if exit_code != 127 and not (exit_code == 126 and _NOT_FOUND.search(stderr)):
        return None
    return ToolMissingError(
        f"there is no {program} where the command ran",
        found=stderr or f"exit status {exit_code}",
        remedy=f"use an image that has {program} (and timeout): -o k8snet_image=...; outside the "
        "cluster, install it",
    )
