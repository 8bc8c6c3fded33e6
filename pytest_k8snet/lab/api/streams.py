"""The kubelet as the API server sees it: it runs commands in containers and keeps their output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol


class ExecutableNotFound(Exception):  # noqa: N818 -- the OCI runtime's own words
    """The container has no such program; nothing was started.

    Args:
        executable: the name that was looked for.
    """

    def __init__(self, executable: str) -> None:
        super().__init__(f'exec: "{executable}": executable file not found in $PATH')
        self.executable = executable


class RunningProcess(Protocol):
    """A command that runs in a container."""

    stdin: asyncio.StreamWriter | None
    stdout: asyncio.StreamReader
    #: None when there is a terminal: then everything comes through ``stdout``.
    stderr: asyncio.StreamReader | None

    async def wait(self) -> int:
        """Its exit status; 128 + n after signal n."""

    def kill(self) -> None:
        """End it at once."""

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size."""


class ContainerRuntime(Protocol):
    """What the kubelets offer to the API server."""

    async def exec(
        self,
        namespace: str,
        pod: str,
        container: str,
        argv: list[str],
        *,
        stdin: bool,
        tty: bool,
    ) -> RunningProcess:
        """Start a command in a container; ``container`` is never empty.

        Raises:
            StatusError: the container does not run, as a kubelet would say it.
            ExecutableNotFound: the container has no such program.
        """

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        follow: bool,
        tail_lines: int | None,
        timestamps: bool,
        previous: bool,
    ) -> AsyncIterator[bytes]:
        """The container's output; with ``follow`` until it ends."""
