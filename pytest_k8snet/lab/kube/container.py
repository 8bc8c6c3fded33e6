"""One run of one container: a process of the host's in namespaces of its own.

The main process is pid 1 of the container's pid namespace: when it ends, whatever was started in
the container ends too. The network namespace is the pod's, or with ``hostNetwork`` the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_k8snet.lab.api.streams import ExecutableNotFound
from pytest_k8snet.lab.kube.images import DEFAULT_PATH
from pytest_k8snet.lab.kube.logs import LogBuffer

# Arguments: the new hostname, the working directory, how many pairs of mounts follow, the pairs,
# the command. Reports on its standard input, a socket: first its pid as the lab sees it, then an
# empty line when all is set up, or the error.
_SET_UP = """
read -r pid rest < /proc/self/stat
echo "$pid" >&0
exec 3>&1 4>&2 >&0 2>&1
set -e
hostname=$1 directory=$2 mounts=$3
shift 3
while [ "$mounts" -gt 0 ]; do
    mount --bind "$1" "$2"
    shift 2
    mounts=$((mounts - 1))
done
mount -t proc proc /proc
hostname "$hostname"
cd "$directory"
echo
exec 0< /dev/null 1>&3 2>&4 3>&- 4>&-
exec "$@"
"""

_NSENTER = shutil.which("nsenter") or "nsenter"
_UNSHARE = shutil.which("unshare") or "unshare"


class ContainerError(Exception):
    """The container cannot be started; the text is the container runtime's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything there is to know about a container before it is started.

    Attributes:
        argv: the program and its arguments.
        privileges: the command prefix that takes privileges away.
        environment: the whole environment.
        directory: the working directory.
        hostname: of the container's UTS namespace.
        network: the file of its network namespace.
        mounts: what is bound where: (source, target), in order.
    """

    argv: tuple[str, ...]
    privileges: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    hostname: str
    network: Path
    mounts: tuple[tuple[str, str], ...]

    def command(self) -> list[str]:
        """The argv that starts it."""
        pairs = [path for pair in self.mounts for path in pair]
        return [
            *(_NSENTER, f"--net={self.network}"),
            *(_UNSHARE, "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
            *("sh", "-c", _SET_UP, "sh", self.hostname, self.directory, str(len(self.mounts))),
            *(*pairs, *self.privileges, *self.argv),
        ]


def find_executable(name: str, *, path: str, root: Path = Path("/")) -> str | None:
    """Where a container whose files begin at ``root`` finds a program, or None."""
    places = [name] if "/" in name else [f"{entry}/{name}" for entry in path.split(":")]
    for place in places:
        seen = root / place.lstrip("/")
        if seen.is_file() and os.access(seen, os.X_OK):
            return place
    return None


class Container:
    """A container that runs, or has run.

    Attributes:
        id: as a container runtime would number it.
        pid: of its main process, as the lab sees it.
        log: its output.
    """

    def __init__(self, plan: Plan, process: asyncio.subprocess.Process, pid: int) -> None:
        self.plan = plan
        self.id = secrets.token_hex(32)
        self.pid = pid
        self.log = LogBuffer()
        self._process = process
        assert process.stdout is not None
        assert process.stderr is not None
        self._filling = asyncio.create_task(self.log.fill(process.stdout, process.stderr))

    @classmethod
    async def start(cls, plan: Plan) -> Container:
        """Start it and wait until its program runs.

        Raises:
            ContainerError: it cannot be set up, or there is no such program.
        """
        path = plan.environment.get("PATH", DEFAULT_PATH)
        if find_executable(plan.argv[0], path=path) is None:
            raise ContainerError(not_found_text(plan.argv[0]))
        try:
            process, ours = await _begin(plan)
        except (OSError, ValueError) as exc:
            # Words that are too long or have a NUL in them, or a machine that is full.
            raise ContainerError(_refusal(plan.argv[0], _reason(exc))) from None
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            pid = int(await reader.readline() or b"0")
            problem = (await reader.readline()).decode(errors="replace").strip()
        finally:
            writer.close()
        container = cls(plan, process, pid)
        if problem or not pid:
            await container.wait()
            raise ContainerError(problem or "the container's set-up was killed")
        return container

    async def wait(self) -> int:
        """The exit status of the main process; 128 + n after signal n."""
        status = await self._process.wait()
        # Its pid namespace is gone, so its output has an end.
        await asyncio.shield(self._filling)
        return status if status >= 0 else 128 - status

    @property
    def running(self) -> bool:
        """Whether the main process has not ended yet."""
        return self._process.returncode is None

    def signal(self, number: int) -> None:
        """Send a signal to the main process."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def stop(self, grace_seconds: float) -> None:
        """SIGTERM, and SIGKILL when it still runs after the grace period."""
        if grace_seconds > 0 and self.running:
            self.signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._process.wait()), grace_seconds)
        self.signal(signal.SIGKILL)
        await self.wait()

    def enter(self, argv: Sequence[str], *, tty: bool = False) -> list[str]:
        """The argv that runs a command in this container, with its privileges.

        Raises:
            ExecutableNotFound: the container has no such program.
        """
        path = self.plan.environment.get("PATH", DEFAULT_PATH)
        if find_executable(argv[0], path=path, root=Path(f"/proc/{self.pid}/root")) is None:
            raise ExecutableNotFound(argv[0])
        terminal = ["setsid", "--ctty"] if tty else []
        return [
            *(_NSENTER, f"--target={self.pid}", "--mount", "--uts", "--ipc", "--net", "--pid"),
            *("--wd", "--", *terminal, *self.plan.privileges, *argv),
        ]

    async def execute(self, argv: Sequence[str], *, output: bool) -> tuple[int, bytes]:
        """Run a command in this container to its end, or until the caller gives up.

        Args:
            argv: the command.
            output: whether what it writes is wanted; then whatever it leaves behind is waited for.

        Returns:
            Its exit status, and what it wrote.

        Raises:
            ExecutableNotFound: the container has no such program.
            ContainerError: the system cannot start it.
        """
        stdout = asyncio.subprocess.PIPE if output else asyncio.subprocess.DEVNULL
        try:
            process = await asyncio.create_subprocess_exec(
                *self.enter(argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=asyncio.subprocess.STDOUT,
                env=self.plan.environment,
                # What enters the namespaces forks: to end the command is to end the group.
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            raise ContainerError(_reason(exc)) from None
        try:
            text, _ = await process.communicate()
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        assert process.returncode is not None
        return process.returncode, text or b""


async def _begin(plan: Plan) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start the container's process; it reports through the socket."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *plan.command(),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": DEFAULT_PATH, **plan.environment},
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def _reason(exc: OSError | ValueError) -> str:
    """The system's own words, without the name of the helper that it could not start."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def not_found_text(executable: str) -> str:
    """What a container runtime says about a program that is not there."""
    reason = (
        f"stat {executable}: no such file or directory"
        if "/" in executable
        else "executable file not found in $PATH"
    )
    return _refusal(executable, reason)


def _refusal(executable: str, reason: str) -> str:
    return (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
        "runc create failed: unable to start container process: "
        f'exec: "{executable}": {reason}: unknown'
    )
