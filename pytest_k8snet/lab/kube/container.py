"""A pod's sandbox and the containers in it: processes of the host's in namespaces of their own.

The main process of a container is pid 1 of its pid namespace: when it ends, whatever was started in
the container ends too. The network namespace is the pod's, or with ``hostNetwork`` the node's.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import secrets
import shutil
import signal
import socket
import struct
import termios
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.apiserver.exec import ExecutableNotFound, LogOptions
from pytest_k8snet.lab.calico.ipam import Cni
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.underlay import endpoint_sysctls, node_namespace
from pytest_k8snet.lab.kube import podspec
from pytest_k8snet.lab.kube.podspec import DEFAULT_PATH, Plan
from pytest_k8snet.lab.spec import LabSpec, NodeSpec

#: Where the pods' files are: in the lab's own tmpfs.
PODS = Path("/run/k8snet/pods")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """Where the containers of one pod run.

    Attributes:
        network: the file of the network namespace.
        address: of the pod; with ``hostNetwork`` its node's.
        hostname: what its containers call themselves.
        directory: the pod's files.
    """

    network: Path
    address: str
    hostname: str
    directory: Path


def _directory(pod: Object) -> Path:
    return PODS / str(pod["metadata"]["uid"])


def _network_name(pod: Object) -> str:
    return f"pod-{pod['metadata']['uid']}"


async def make_sandbox(pod: Object, *, spec: LabSpec, node: NodeSpec, cni: Cni) -> Sandbox:
    """Make the namespace and the files.

    Raises:
        CniError: the pod gets no address; nothing is left behind.
        DataplaneError: the kernel refuses the namespace.
        StatusError: its node or its namespace is gone.
        OSError: its files cannot be written.
    """
    directory, own = _directory(pod), not dig(pod, "spec.hostNetwork")
    if own:
        name = _network_name(pod)
        hostname = dig(pod, "spec.hostname") or pod["metadata"]["name"]
        own_sysctls = podspec.sysctls(pod, any_user=namespaces.may_become_any_user())
        await netns.create(name, sysctls={**endpoint_sysctls(spec), **own_sysctls})
    else:
        name, hostname = node_namespace(node.name), node.name
    try:
        address = (await cni.add(pod, name)).address if own else str(node.internal_ip)
        _write_files(pod, spec, directory, hostname, address)
    except BaseException:
        await asyncio.shield(remove_sandbox(pod, cni=cni))
        raise
    return Sandbox(
        network=netns.path(name), address=address, hostname=hostname, directory=directory
    )


def _write_files(pod: Object, spec: LabSpec, directory: Path, hostname: str, address: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts").write_text(podspec.hosts(pod, hostname, address))
    resolver = podspec.resolv_conf(pod, spec)
    if resolver is not None:
        (directory / "resolv.conf").write_text(resolver)
    containers = [*dig(pod, "spec.initContainers", []), *dig(pod, "spec.containers", [])]
    shared = [f"tmp/{container['name']}" for container in containers]
    shared += [
        f"volumes/{volume['name']}"
        for volume in dig(pod, "spec.volumes", [])
        if volume.get("emptyDir") is not None
    ]
    for name in shared:
        path = directory / name
        path.mkdir(parents=True, exist_ok=True)
        # Whoever the container runs as may write; mkdir's own mode is cut by the umask.
        path.chmod(0o1777)


async def remove_sandbox(pod: Object, *, cni: Cni) -> None:
    """Give the address back and remove the namespace; what is not there is fine."""
    try:
        if not dig(pod, "spec.hostNetwork"):
            await cni.delete(pod)
    finally:
        await netns.delete(_network_name(pod))
        shutil.rmtree(_directory(pod), ignore_errors=True)


# -- Containers ------------------------------------------------------------------------------------

# Arguments: the new hostname, the working directory, whether the socket stays the standard input,
# how many pairs of mounts follow, the pairs, the command. Reports on its standard input, a socket:
# first its pid as the lab sees it, then an empty line when all is set up, or the error.
_SET_UP = """
read -r pid rest < /proc/self/stat
echo "$pid" >&0
exec 3>&1 4>&2 >&0 2>&1
set -e
hostname=$1 directory=$2 stdin=$3 mounts=$4
shift 4
mount -t proc proc /proc
while [ "$mounts" -gt 0 ]; do
    mount --bind "$1" "$2"
    shift 2
    mounts=$((mounts - 1))
done
hostname "$hostname"
cd "$directory"
echo
exec 1>&3 2>&4 3>&- 4>&-
[ "$stdin" = yes ] || exec 0< /dev/null
exec "$@"
"""

_NSENTER = shutil.which("nsenter") or "nsenter"
_UNSHARE = shutil.which("unshare") or "unshare"


class ContainerError(Exception):
    """The container cannot be started; the text is the container runtime's."""


class Container:
    """A container that runs, or has run.

    Attributes:
        id: as a container runtime would number it.
        pid: of its main process, as the lab sees it.
        log: its output.
        stdin: leads to its standard input, where that is kept open.
    """

    def __init__(
        self,
        plan: Plan,
        process: asyncio.subprocess.Process,
        pid: int,
        stdin: asyncio.StreamWriter | None,
    ) -> None:
        self.plan = plan
        self.stdin = stdin
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
            if not plan.stdin:
                writer.close()
        container = cls(plan, process, pid, writer if plan.stdin else None)
        if problem or not pid:
            writer.close()
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
        path, root = self.plan.environment.get("PATH", DEFAULT_PATH), Path(f"/proc/{self.pid}/root")
        if find_executable(argv[0], path=path, root=root) is None:
            there = "/" in argv[0] and (root / argv[0].lstrip("/")).exists()
            raise ExecutableNotFound(argv[0], "permission denied" if there else _absent(argv[0]))
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


async def pre_stop(spec: Object, container: Container, grace_seconds: float) -> float:
    """Run the hook, within the grace period; what is left of that, in seconds.

    A hook that fails, or is of another kind than ``exec`` and ``sleep``, delays nothing, and none
    outlasts the container.
    """
    hook = dig(spec, "lifecycle.preStop", {})
    if grace_seconds <= 0 or not hook or not container.running:
        return grace_seconds
    begun = time.monotonic()
    waits = [asyncio.ensure_future(one) for one in (_run_hook(hook, container), container.wait())]
    try:
        await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    # A kubelet leaves at least two seconds for the signal itself.
    return max(2.0, grace_seconds - (time.monotonic() - begun))


async def _run_hook(hook: Object, container: Container) -> None:
    if "sleep" in hook:
        await asyncio.sleep(float(hook["sleep"]["seconds"]))
    elif "exec" in hook:
        await container.execute(hook["exec"]["command"], output=False)


async def _begin(plan: Plan) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start the container's process; it reports through the socket."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *_command(plan),
                stdin=theirs.fileno(),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={"PATH": DEFAULT_PATH, **plan.environment},
            )
    except BaseException:
        ours.close()
        raise
    return process, ours


def _command(plan: Plan) -> list[str]:
    """The argv that starts a container."""
    pairs = [path for pair in plan.mounts for path in pair]
    return [
        *(_NSENTER, f"--net={plan.network}"),
        *(_UNSHARE, "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"),
        *("sh", "-c", _SET_UP, "sh", plan.hostname, plan.directory),
        *("yes" if plan.stdin else "no", str(len(plan.mounts))),
        *(*pairs, *plan.privileges, *plan.argv),
    ]


def _reason(exc: OSError | ValueError) -> str:
    """The system's own words, without the name of the helper that it could not start."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)


def not_found_text(executable: str) -> str:
    """What a container runtime says about a program that is not there."""
    return _refusal(executable, _absent(executable))


def _absent(executable: str) -> str:
    if "/" in executable:
        return f"stat {executable}: no such file or directory"
    return "executable file not found in $PATH"


def _refusal(executable: str, reason: str) -> str:
    return (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
        "runc create failed: unable to start container process: "
        f'exec: "{executable}": {reason}: unknown'
    )


def find_executable(name: str, *, path: str, root: Path = Path("/")) -> str | None:
    """Where a container whose files begin at ``root`` finds a program, or None."""
    places = [name] if "/" in name else [f"{entry}/{name}" for entry in path.split(":")]
    for place in places:
        seen = root / place.lstrip("/")
        if seen.is_file() and os.access(seen, os.X_OK):
            return place
    return None


# -- What ``kubectl exec`` runs --------------------------------------------------------------------

# Enough for a fast writer to get ahead of the client, in bytes.
_BUFFER_BYTES = 1 << 18


class Execution:
    """A running command; what the API server calls a RunningProcess."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        *,
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader | None,
        terminal: int | None = None,
    ) -> None:
        self._process = process
        self._terminal = terminal
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr

    async def wait(self) -> int:
        """Its exit status; 128 + n after signal n."""
        status = await self._process.wait()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        return status if status >= 0 else 128 - status

    def kill(self) -> None:
        """Let go of it.

        As with a real kubelet the command itself goes on, until it writes to nobody.
        """
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its size."""
        if self._terminal is not None:
            size = struct.pack("HHHH", rows, columns, 0, 0)
            fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, size)


async def run_with_pipes(
    argv: Sequence[str], environment: Mapping[str, str], *, stdin: bool
) -> Execution:
    """Start a command with three pipes, or with an empty standard input."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        limit=_BUFFER_BYTES,
    )
    assert process.stdout is not None
    return Execution(process, stdin=process.stdin, stdout=process.stdout, stderr=process.stderr)


async def run_with_terminal(argv: Sequence[str], environment: Mapping[str, str]) -> Execution:
    """Start a command on a new terminal; all that it writes comes through ``stdout``."""
    ours, theirs = pty.openpty()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm", **environment}
        )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
    await loop.connect_read_pipe(lambda: _TerminalProtocol(reader), os.fdopen(os.dup(ours), "rb"))
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(ours), "wb")
    )
    writer = asyncio.StreamWriter(transport, protocol, None, loop)
    return Execution(process, stdin=writer, stdout=reader, stderr=None, terminal=ours)


class Attachment:
    """What runs in a container; what the API server calls a RunningProcess.

    Its output comes through ``stdout``, from now on, as the container's log has it. Its standard
    input ends with that of the first client who ends his own, as with ``stdinOnce``.
    """

    def __init__(self, container: Container) -> None:
        self.stdin: asyncio.StreamWriter | None = container.stdin
        self.stdout = asyncio.StreamReader()
        self.stderr: asyncio.StreamReader | None = None
        self._container = container
        self._following = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        async for line in self._container.log.read(LogOptions(follow=True, tail_lines=0)):
            self.stdout.feed_data(line)
        self.stdout.feed_eof()

    async def wait(self) -> int:
        """The container's exit status."""
        return await self._container.wait()

    def kill(self) -> None:
        """Let go of it; the container goes on."""
        self._following.cancel()

    def resize(self, columns: int, rows: int) -> None:
        """Do nothing: a container of the lab has no terminal."""


async def connect(network: Path, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a port of the loopback of a network namespace.

    Raises:
        OSError: nobody listens there.
    """
    made = await netns.run(network.name, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
    except BaseException:
        made.close()
        raise
    return await asyncio.open_connection(sock=made)


class _TerminalProtocol(asyncio.StreamReaderProtocol):
    """A terminal says EIO, not end of file, when its last user has gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(None if isinstance(exc, OSError) else exc)


# -- What ``kubectl logs`` reads -------------------------------------------------------------------

#: How many bytes of one container's output are kept.
CAPACITY_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16


class LogBuffer:
    """The output of one run of a container, both streams in the order they came."""

    def __init__(self, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._lines: deque[tuple[str, bytes]] = deque()
        self._free = capacity_bytes
        self._first = 0
        self._closed = False
        self._news = asyncio.Event()

    async def fill(self, *streams: asyncio.StreamReader) -> None:
        """Read the streams to their ends, then close."""
        try:
            await asyncio.gather(*(self._read(stream) for stream in streams))
        finally:
            self.close()

    async def _read(self, stream: asyncio.StreamReader) -> None:
        pending = b""
        while piece := await stream.read(_PIECE_BYTES):
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                self.append(line + b"\n")
            if len(pending) > _PIECE_BYTES:
                self.append(pending)
                pending = b""
        if pending:
            self.append(pending)

    def append(self, line: bytes) -> None:
        """Add a line; the oldest ones make room for it."""
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self._lines.append((now, line))
        self._free -= len(line)
        while self._free < 0 and len(self._lines) > 1:
            self._free += len(self._lines.popleft()[1])
            self._first += 1
        self._wake()

    def close(self) -> None:
        """There will be no more: whoever follows comes to the end."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """The lines kept, as far as they are wanted."""
        position = self._first
        if options.tail_lines is not None:
            position += max(0, len(self._lines) - options.tail_lines)
        while True:
            # All of one instant: while a line is on its way to the reader, more may come.
            lines = list(self._lines)[max(0, position - self._first) :]
            position = self._first + len(self._lines)
            news, closed = self._news, self._closed
            for stamp, line in lines:
                yield b"%s %s" % (stamp.encode(), line) if options.timestamps else line
            if closed or not options.follow:
                return
            await news.wait()
