"""Commands in containers: the WebSocket of the Python client, and a bare one for the details."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlencode

import pytest
import websocket

from .local_server import TOKEN, ApiServer

STDIN, STDOUT, STDERR, STATUS, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"


@pytest.fixture
def pod(api: ApiServer) -> ApiServer:
    api.start_pod("web")
    return api


def exec_url(api: ApiServer, argv: Sequence[str], *, pod: str = "web", **flags: str) -> str:
    flags = {"stdout": "true", "stderr": "true"} | flags
    query = urlencode([*(("command", word) for word in argv), *flags.items()])
    return f"wss://127.0.0.1:{api.port}/api/v1/namespaces/default/pods/{pod}/exec?{query}"


@contextmanager
def connected(
    api: ApiServer, argv: Sequence[str], *, protocol: str = V5, **flags: str
) -> Iterator[websocket.WebSocket]:
    socket = websocket.create_connection(
        exec_url(api, argv, **flags),
        header=[f"Authorization: Bearer {TOKEN}"],
        subprotocols=[protocol],
        sslopt={"context": api.client_tls()},
        timeout=20,
    )
    try:
        assert socket.getsubprotocol() == protocol
        yield socket
    finally:
        socket.close()
        # After the server has closed, close() alone leaves the descriptor open.
        socket.shutdown()


def collect(socket: websocket.WebSocket) -> dict[int, bytes]:
    """Everything that comes, by channel, until the server closes."""
    channels: dict[int, bytes] = {}
    while True:
        opcode, data = socket.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return channels
        channels[data[0]] = channels.get(data[0], b"") + data[1:]


def first(socket: websocket.WebSocket) -> bytes:
    """The first message that says something: a channel opens with an empty one."""
    while len(data := bytes(socket.recv_data()[1])) < 2:
        pass
    return data


def run(api: ApiServer, argv: Sequence[str], **options: str) -> dict[int, bytes]:
    with connected(api, argv, **options) as socket:
        return collect(socket)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until something holds that another process or thread brings about."""
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_channel_that_was_not_asked_for_stays_silent(pod: ApiServer) -> None:
    channels = run(pod, ["sh", "-c", "echo out; echo err >&2"], stderr="false")
    assert STDERR not in channels
    assert channels[STDOUT] == b"out\n"


@pytest.mark.parametrize("as_text", [False, True])
def test_standard_input_ends_when_its_channel_is_closed(pod: ApiServer, as_text: bool) -> None:
    with connected(pod, ["cat"], stdin="true") as socket:
        # The Python client sends text frames for str, binary frames for bytes.
        if as_text:
            socket.send(chr(STDIN) + "grüße")
        else:
            socket.send_binary(bytes([STDIN]) + "grüße".encode())
        socket.send_binary(bytes([CLOSE, STDIN]))
        channels = collect(socket)
    assert channels[STDOUT].decode() == "grüße"
    assert json.loads(channels[STATUS])["status"] == "Success"


def test_input_to_a_command_that_reads_none_does_no_harm(pod: ApiServer) -> None:
    with connected(pod, ["true"], stdin="true") as socket:
        for _ in range(20):
            socket.send_binary(bytes([STDIN]) + b"x" * 10_000)
        channels = collect(socket)
    assert json.loads(channels[STATUS])["status"] == "Success"


def test_large_output_arrives_whole(pod: ApiServer) -> None:
    channels = run(pod, ["sh", "-c", "head -c 5000000 /dev/zero; echo end >&2"])
    assert len(channels[STDOUT]) == 5_000_000
    assert channels[STDERR] == b"end\n"


def test_a_terminal_learns_its_size(pod: ApiServer) -> None:
    with connected(pod, ["cat"], stdin="true", stderr="false", tty="true") as socket:
        size = json.dumps({"Width": 132, "Height": 50}).encode()
        socket.send_binary(bytes([RESIZE]) + size)
        socket.send_binary(bytes([CLOSE, STDIN]))
        collect(socket)
    assert pod.runtime.started[0].size == (132, 50)


def test_a_command_outlives_its_client(pod: ApiServer) -> None:
    with connected(pod, ["sh", "-c", "echo ready; sleep 60"]) as socket:
        assert first(socket) == bytes([STDOUT]) + b"ready\n"
    process = pod.runtime.started[0]
    assert pod.request("GET", "/healthz").code == 200
    assert not process.ended
    os.kill(process.pid, 0)


def test_a_command_without_a_client_is_not_held_up_by_its_output(pod: ApiServer) -> None:
    with connected(pod, ["sh", "-c", "echo ready; head -c 3000000 /dev/zero"]) as socket:
        assert first(socket).startswith(bytes([STDOUT]) + b"ready\n")
    eventually(lambda: pod.runtime.started[0].ended)


def test_closing_the_server_ends_the_commands(pod: ApiServer) -> None:
    with connected(pod, ["sh", "-c", "echo ready; exec sleep 60"]) as socket:
        assert first(socket) == bytes([STDOUT]) + b"ready\n"
        asyncio.run_coroutine_threadsafe(pod.server.close(), pod.loop).result(10)
    eventually(lambda: pod.runtime.started[0].ended)


def test_a_stream_lasts_until_everyone_has_closed_the_output(pod: ApiServer) -> None:
    with connected(pod, ["sh", "-c", "sleep 60 & echo $!"]) as socket:
        child = int(first(socket)[1:])
        eventually(lambda: pod.runtime.started[0].ended)
        # The command itself has ended, but its child holds the output.
        os.kill(child, signal.SIGKILL)
        channels = collect(socket)
    assert json.loads(channels[STATUS])["status"] == "Success"


def test_a_dropped_stream_has_output_but_no_status(pod: ApiServer) -> None:
    pod.set_faults(exec_drop="1")
    seen = b""
    with (  # noqa: PT012 -- what came before the break is part of the claim
        pytest.raises((websocket.WebSocketConnectionClosedException, OSError)),
        connected(pod, ["echo", "hello"]) as socket,
    ):
        while True:
            opcode, data = socket.recv_data()
            assert opcode != websocket.ABNF.OPCODE_CLOSE
            assert data[0] == STDOUT
            seen += data[1:]
    assert seen == b"hello\n"
    assert json.loads(run(pod, ["true"])[STATUS])["status"] == "Success"


def test_many_commands_run_side_by_side(pod: ApiServer) -> None:
    sockets = [connected(pod, ["sh", "-c", f"cat; echo {n}"], stdin="true") for n in range(10)]
    opened = [socket.__enter__() for socket in sockets]
    eventually(lambda: len(pod.runtime.started) == 10)
    for number, socket in reversed(list(enumerate(opened))):
        socket.send_binary(bytes([CLOSE, STDIN]))
        assert collect(socket)[STDOUT] == f"{number}\n".encode()
    for context in sockets:
        context.__exit__(None, None, None)


# -- logs ------------------------------------------------------------------------------------------

LOG = "/api/v1/namespaces/default/pods/web/log"


def test_logs_are_plain_text(pod: ApiServer) -> None:
    pod.runtime.lines = [b"one\n", b"two\n", b"three\n"]
    answer = pod.request("GET", LOG)
    assert (answer.code, answer.text) == (200, "one\ntwo\nthree\n")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert pod.request("GET", f"{LOG}?tailLines=1").text == "three\n"
    assert pod.request("GET", f"{LOG}?limitBytes=6").text == "one\ntw"


def test_logs_since_a_time(pod: ApiServer) -> None:
    pod.runtime.lines = [b"one\n", b"two words\n", b"three\n"]
    since = f"{LOG}?sinceTime=2026-01-01T00:00:01Z"
    assert pod.request("GET", since).text == "two words\nthree\n"
    assert pod.request("GET", f"{since}&timestamps=true").text == (
        "2026-01-01T00:00:01.5Z two words\n2026-01-01T00:00:02.5Z three\n"
    )
    assert pod.request("GET", f"{LOG}?sinceSeconds=5").text == ""
    assert pod.request("GET", f"{LOG}?sinceTime=yesterday").code == 400


def test_followed_logs_go_on_until_the_container_ends(pod: ApiServer) -> None:
    pod.runtime.lines = [b"one\n"]
    pod.loop.call_soon_threadsafe(pod.loop.call_later, 0.1, pod.runtime.more.set)
    assert pod.request("GET", f"{LOG}?follow=true").text == "one\nthe end\n"
