"""The kubelet as the API server sees it: it runs commands in containers and keeps their output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aiohttp import web

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import dig
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target, integer, is_true

#: How long the headers of a log wait for the kubelet to refuse.
_REFUSAL_SECONDS = 0.05


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
        """The container's output; with ``follow`` until it ends.

        With ``timestamps`` each chunk is one line, and begins with its time and a space.
        """


def container_of(store: Store, target: Target, wanted: str) -> str:
    """The container that a request means: the one named, or the only one there is.

    Raises:
        StatusError: 404, no such pod; 400, no such container, a choice not made, or no node yet.
    """
    pod = store.get(target.resource, target.name, target.namespace)
    listed = [
        str(container["name"])
        for group in ("containers", "initContainers")
        for container in dig(pod, f"spec.{group}", [])
    ]
    if not wanted:
        if len(dig(pod, "spec.containers", [])) > 1:
            raise status.bad_request(
                f"a container name must be specified for pod {target.name},"
                f" choose one of: [{' '.join(listed)}]"
            )
        wanted = listed[0]
    if wanted not in listed:
        raise status.bad_request(f"container {wanted} is not valid for pod {target.name}")
    if not dig(pod, "spec.nodeName"):
        raise status.bad_request(f"pod {target.name} does not have a host assigned")
    return wanted


def _since(query: Mapping[str, str]) -> datetime | None:
    """The time from which on lines are wanted.

    Raises:
        StatusError: 400, it is not a time.
    """
    seconds, moment = integer(query, "sinceSeconds"), query.get("sinceTime", "")
    if seconds is not None:
        return datetime.now(UTC) - timedelta(seconds=seconds)
    if not moment:
        return None
    try:
        return datetime.fromisoformat(moment.replace("Z", "+00:00"))
    except ValueError:
        raise status.bad_request(f"sinceTime: cannot parse {moment!r} as a time") from None


async def _newer(
    lines: AsyncIterator[bytes], since: datetime, *, timestamps: bool
) -> AsyncIterator[bytes]:
    async for line in lines:
        moment, _, text = line.partition(b" ")
        if datetime.fromisoformat(moment.decode().replace("Z", "+00:00")) >= since:
            yield line if timestamps else text


async def send_logs(
    request: web.Request, store: Store, runtime: ContainerRuntime, target: Target
) -> web.StreamResponse:
    """Stream a container's output as plain text.

    Raises:
        StatusError: the request, or the kubelet, refuses.
    """
    query = request.query
    limit, since = integer(query, "limitBytes"), _since(query)
    timestamps = is_true(query.get("timestamps"))
    chunks = runtime.logs(
        target.namespace,
        target.name,
        container_of(store, target, query.get("container", "")),
        follow=is_true(query.get("follow")),
        tail_lines=integer(query, "tailLines"),
        timestamps=timestamps or since is not None,
        previous=is_true(query.get("previous")),
    )
    if since is not None:
        chunks = _newer(chunks, since, timestamps=timestamps)
    # A refusal comes before the first chunk; but a silent container must not hold up the headers.
    first = asyncio.ensure_future(anext(chunks, None))
    await asyncio.wait({first}, timeout=_REFUSAL_SECONDS)
    if first.done():
        first.result()
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        chunk = await first
        while chunk is not None and (limit is None or limit > 0):
            if limit is not None:
                chunk, limit = chunk[:limit], limit - len(chunk)
            await response.write(chunk)
            chunk = await anext(chunks, None)
    finally:
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    return response
