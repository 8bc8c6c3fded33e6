"""Readiness and liveness: the kubelet's questions to a container, asked from its node."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.apiserver.exec import ExecutableNotFound
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.kube.container import Container, ContainerError

# A kubelet asks once a period; a lab is wanted at once, so readiness is asked for often at first.
_EAGER_SECONDS = (0.01, 0.02, 0.04, *[0.08] * 50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a probe goes.

    Attributes:
        container: the container that is asked.
        ports: its named ports.
        address: of the pod.
        network: the name of its node's network namespace.
    """

    container: Container
    ports: dict[str, int]
    address: str
    network: str


async def watch(
    probe: Object,
    target: Target,
    report: Callable[[bool, str], Awaitable[None]],
    *,
    eagerly: bool,
) -> None:
    """Ask for ever.

    Args:
        probe: the Probe object.
        target: whom to ask.
        report: called after each answer with the verdict that the thresholds make of all answers
            so far, and what was wrong with this one.
        eagerly: begin by asking often until it answers well once; nothing of that is reported.
    """
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    if eagerly:
        for pause in _EAGER_SECONDS:
            if await _ask(probe, target) is None:
                break
            await asyncio.sleep(pause)
    verdict = not eagerly
    well = ill = 0
    while True:
        text = await _ask(probe, target)
        well, ill = (well + 1, 0) if text is None else (0, ill + 1)
        if well >= (probe.get("successThreshold") or 1):
            verdict = True
        elif ill >= (probe.get("failureThreshold") or 3):
            verdict = False
        await report(verdict, text or "")
        await asyncio.sleep(float(probe.get("periodSeconds") or 10))


class _ProbeFailure(Exception):  # noqa: N818 -- the kubelet's word
    """The container did not answer as it should."""


async def passes(probe: Object, target: Target) -> bool:
    """Ask a startup probe until it answers well, or has failed too often."""
    await asyncio.sleep(probe.get("initialDelaySeconds") or 0)
    for _ in range(probe.get("failureThreshold") or 3):
        if await _ask(probe, target) is None:
            return True
        await asyncio.sleep(float(probe.get("periodSeconds") or 10))
    return False


async def _ask(probe: Object, target: Target) -> str | None:
    """None when all is well, otherwise what is wrong."""
    try:
        async with asyncio.timeout(float(probe.get("timeoutSeconds") or 1)):
            if "exec" in probe:
                await _run(probe["exec"]["command"], target)
            elif "httpGet" in probe:
                await _get(probe["httpGet"], target)
            elif "tcpSocket" in probe:
                port = _port(probe["tcpSocket"], target)
                (await _connect(target, port)).close()
    except _ProbeFailure as failure:
        return str(failure)
    except OSError as exc:
        return _unreached(probe, target, exc)
    return None


def _unreached(probe: Object, target: Target, error: OSError) -> str:
    """What a kubelet says of a container that did not answer, or not in time."""
    late = isinstance(error, TimeoutError)
    if "exec" in probe:
        command = " ".join(probe["exec"]["command"])
        after = f"timed out after {probe.get('timeoutSeconds') or 1}s"
        return f'command timed out: "{command}" {after}'
    question = probe.get("httpGet") or probe["tcpSocket"]
    place = f"{target.address}:{_port(question, target)}"
    reason = "i/o timeout" if late else f"connect: {os.strerror(error.errno or 0).lower()}"
    dialled = f"dial tcp {place}: {reason}"
    if "httpGet" not in probe:
        return dialled
    if late:
        dialled = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
    return f'Get "http://{place}{question.get("path") or "/"}": {dialled}'


async def _run(argv: list[str], target: Target) -> None:
    try:
        status, output = await target.container.execute(argv, output=True)
    except (ExecutableNotFound, ContainerError) as exc:
        raise _ProbeFailure(str(exc)) from None
    if status:
        raise _ProbeFailure(output.decode(errors="replace").strip())


async def _get(question: Object, target: Target) -> None:
    port = _port(question, target)
    path = question.get("path") or "/"
    headers = {header["name"]: header["value"] for header in question.get("httpHeaders") or []}
    headers = {"Host": f"{target.address}:{port}", "User-Agent": "kube-probe/1.34", **headers}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    reader, writer = await asyncio.open_connection(sock=await _connect(target, port))
    try:
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        status = (await reader.readline()).split()
    finally:
        writer.close()
    if len(status) < 2 or not b"200" <= status[1] < b"400":
        code = status[1].decode(errors="replace") if len(status) > 1 else "no answer"
        raise _ProbeFailure(f"HTTP probe failed with statuscode: {code}")


async def _connect(target: Target, port: int) -> socket.socket:
    connection = await netns.run(target.network, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (target.address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _port(question: Object, target: Target) -> int:
    port = question["port"]
    if isinstance(port, str) and not port.isdigit():
        if port not in target.ports:
            raise _ProbeFailure(f'strconv.Atoi: parsing "{port}": invalid syntax')
        return target.ports[port]
    return int(port)


def named_ports(container: Object) -> dict[str, int]:
    """The container's ports that have names."""
    return {
        port["name"]: int(port["containerPort"])
        for port in dig(container, "ports", [])
        if port.get("name")
    }
