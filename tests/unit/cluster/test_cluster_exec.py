"""Exec: channels, exit statuses, deadlines and streams that end badly, over real WebSockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from scripted_server import Script, ScriptedServer, failure, status, success

from pytest_k8snet.cluster.api import Api, connect
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.cluster.exec import in_short
from pytest_k8snet.errors import (
    ConnectError,
    ConnectionLostError,
    ExecError,
    ExecTimeoutError,
    ForbiddenError,
    PodError,
    ToolMissingError,
    UnauthorizedError,
)

pytest_plugins = ["scripted_server_fixtures"]

POD = "/api/v1/namespaces/x/pods/a"


@pytest.fixture
def api(server: ScriptedServer, api: Api) -> Api:
    server.on(f"GET {POD}", {"metadata": {"name": "a"}, "status": {"phase": "Running"}})
    return api


async def greet(stream: web.WebSocketResponse, argv: list[str]) -> None:
    await stream.send_bytes(b"\x01out ")
    await stream.send_bytes(b"\x02err")
    await stream.send_bytes(b"\x01" + " ".join(argv).encode())
    await stream.send_bytes(success())


def test_output_channels_stay_apart(server: ScriptedServer, api: Api) -> None:
    server.script = greet
    done = api.exec("x", "a", ["echo", "a b", "c=d&e"])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "out echo a b c=d&e", "err")
    assert done.argv == ("echo", "a b", "c=d&e")
    assert 0 < done.seconds < 10
    assert server.seen[0].endswith("&container=k8snet&stdout=true&stderr=true")


def test_another_container_can_be_named(server: ScriptedServer, api: Api) -> None:
    server.script = greet
    api.exec("x", "a", ["true"], container="sidecar")
    assert "&container=sidecar&" in server.seen[0]


@pytest.mark.parametrize("code", [1, 124, 137])
def test_an_exit_status_is_a_result_and_not_an_error(
    server: ScriptedServer, api: Api, code: int
) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(b"\x02no route")
        await stream.send_bytes(failure(code))

    server.script = script
    done = api.exec("x", "a", ["ping"])
    assert (done.exit_code, done.stderr) == (code, "no route")


def test_a_character_split_over_two_frames_survives(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(b"\x01\xc2")
        await stream.send_bytes(b"\x01\xb5s\xff")
        await stream.send_bytes(success())

    server.script = script
    assert api.exec("x", "a", ["units"]).stdout == "µs\ufffd"


def test_an_old_server_is_fine(server: ScriptedServer, api: Api) -> None:
    server.script, server.protocols = greet, ("v4.channel.k8s.io",)
    assert api.exec("x", "a", ["id"]).exit_code == 0


def test_two_megabytes_arrive_whole(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        for _ in range(64):
            await stream.send_bytes(b"\x01" + b"x" * 32_768)
        await stream.send_bytes(success())

    server.script = script
    assert len(api.exec("x", "a", ["seq"]).stdout) == 2_097_152


def test_a_deadline_carries_what_came_until_then(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(b"\x01half")
        await stream.send_bytes(b"\x02warning")
        await stream.receive()

    server.script = script
    with pytest.raises(ExecTimeoutError) as caught:
        api.exec("x", "a", ["sleep", "9"], timeout_seconds=0.5)
    assert caught.value.problem == '"sleep 9" in pod x/a was still running after 0.5 s'
    assert (caught.value.stdout, caught.value.stderr) == ("half", "warning")


def test_half_a_frame_and_silence_do_not_hang(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        # A binary frame that announces 100 bytes and brings five.
        await stream.send_bytes(b"\x01whole ")
        transport = stream._req.transport  # type: ignore[union-attr]
        transport.write(b"\x82\x64\x01half")  # type: ignore[union-attr]
        await stream.receive()

    server.script = script
    began = time.monotonic()
    with pytest.raises(ExecTimeoutError) as caught:
        api.exec("x", "a", ["iperf3"], timeout_seconds=0.5)
    assert time.monotonic() - began < 5
    assert caught.value.stdout == "whole "


def test_a_server_that_never_closes_does_not_delay_a_finished_command(
    server: ScriptedServer, api: Api
) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(success())
        await stream.receive()

    server.script = script
    done = api.exec("x", "a", ["true"], timeout_seconds=60)
    assert done.exit_code == 0
    assert done.seconds < 30


def test_a_dropped_stream_is_an_error_with_the_output_so_far(
    server: ScriptedServer, api: Api
) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(b"\x01interval 3")
        await asyncio.sleep(0)
        stream._req.transport.abort()  # type: ignore[union-attr]

    server.script = script
    with pytest.raises(ConnectionLostError, match=r"broke off after .* without an exit") as caught:
        api.exec("x", "a", ["iperf3", "-c", "10.0.0.1"])
    assert '"iperf3 -c 10.0.0.1" in pod x/a' in caught.value.problem
    assert len([seen for seen in server.seen if "/exec" in seen]) == 1


def test_a_polite_close_without_a_status_is_an_error_too(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        await stream.send_bytes(b"\x01looks complete")

    server.script = script
    with pytest.raises(ConnectionLostError) as caught:
        api.exec("x", "a", ["iperf3"])
    assert caught.value.found == "the server closed the stream; output so far: looks complete"


def test_a_pod_that_was_evicted_meanwhile_is_named_as_the_cause(
    server: ScriptedServer, api: Api
) -> None:
    async def script(_stream: web.WebSocketResponse, _argv: list[str]) -> None:
        return

    server.script = script
    server.on(
        f"GET {POD}",
        {
            "metadata": {"name": "a"},
            "status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"},
        },
    )
    with pytest.raises(PodError) as caught:
        api.exec("x", "a", ["iperf3"])
    assert caught.value.problem == ("pod x/a does not run: phase Failed, Evicted low on memory")


def test_a_missing_program_is_told_apart(server: ScriptedServer, api: Api) -> None:
    message = 'OCI runtime exec failed: exec: "iperf3": executable file not found in $PATH: unknown'

    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        body = {"status": "Failure", "reason": "InternalError", "message": message}
        await stream.send_bytes(b"\x03" + json.dumps(body).encode())

    server.script = script
    with pytest.raises(ToolMissingError) as caught:
        api.exec("x", "a", ["iperf3", "--version"])
    assert caught.value.problem == 'pod x/a has no program "iperf3"'
    assert caught.value.found == message


def test_a_runtime_failure_without_an_exit_status(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        body = {"status": "Failure", "message": "container is paused", "details": {"causes": None}}
        await stream.send_bytes(b"\x03" + json.dumps(body).encode())

    server.script = script
    with pytest.raises(ExecError, match="could not run") as caught:
        api.exec("x", "a", ["true"])
    assert caught.value.found == "container is paused"


def test_a_missing_permission_names_the_subresource(server: ScriptedServer, api: Api) -> None:
    message = 'pods "a" is forbidden: User "jane" cannot create resource "pods/exec" in API group'
    server.on(f"GET {POD}/exec", status(403, "Forbidden", message))
    with pytest.raises(ForbiddenError) as caught:
        api.exec("x", "a", ["true"])
    assert caught.value.problem == 'user "jane" may not create pods/exec in namespace "x"'
    assert "kubectl auth can-i create pods --subresource=exec -n x" in caught.value.remedy


def test_refused_handshakes_are_proper_errors(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {POD}/exec", status(404, "NotFound", 'pods "a" not found'))
    server.on(f"GET {POD}", status(404, "NotFound", 'pods "a" not found'))
    with pytest.raises(PodError, match="pod x/a is gone"):
        api.exec("x", "a", ["true"])
    server.token = "other"
    with pytest.raises(UnauthorizedError):
        api.exec("x", "a", ["true"])


GATEWAY = "something between takes the Upgrade header out of the request"
PAGE = "this looks like a login or portal page"
FOREIGN = "the answer is no Kubernetes object"


@pytest.mark.parametrize(
    ("answer", "found", "remedy"),
    [
        (
            status(400, "BadRequest", "Upgrade request required"),
            "HTTP 400 Bad Request to the upgrade request: Upgrade request required",
            GATEWAY,
        ),
        (
            status(400, "BadRequest", "unable to upgrade: missing upgrade headers in request"),
            "HTTP 400 Bad Request to the upgrade request: unable to upgrade: missing upgrade "
            "headers in request",
            GATEWAY,
        ),
        (
            web.Response(status=400, text="<html>400 Bad request</html>"),
            "HTTP 400 Bad Request to the upgrade request: <html>400 Bad request</html>",
            GATEWAY,
        ),
        (
            web.Response(status=403, text="WebSockets are blocked by policy 17"),
            "HTTP 403 Forbidden to the upgrade request: WebSockets are blocked by policy 17",
            FOREIGN,
        ),
        (web.Response(status=404), "HTTP 404 Not Found to the upgrade request", FOREIGN),
        (
            web.Response(text="<html>Please log in</html>", content_type="text/html"),
            "HTTP 200 OK to the upgrade request: <html>Please log in</html>",
            PAGE,
        ),
        (
            web.Response(status=302, headers={"Location": "https://login.corp/?to=k8s"}),
            "HTTP 302 Found to the upgrade request, to https://login.corp/?to=k8s",
            PAGE,
        ),
    ],
)
def test_what_refuses_an_upgrade_is_told_as_what_it_is(
    server: ScriptedServer, api: Api, answer: web.Response, found: str, remedy: str
) -> None:
    server.on(f"GET {POD}/exec", answer)
    with pytest.raises(ConnectError) as caught:
        api.exec("x", "a", ["true"])
    assert caught.value.problem == f"{server.url} does not speak WebSocket"
    assert caught.value.found == found
    assert caught.value.remedy.startswith(remedy)
    assert len([seen for seen in server.seen if "/exec" in seen]) == 1


def test_credentials_do_not_follow_a_redirection(server: ScriptedServer, api: Api) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.settimeout(0)
        target = f"ws://127.0.0.1:{elsewhere.getsockname()[1]}/"
        server.on(f"GET {POD}/exec", web.Response(status=307, headers={"Location": target}))
        with pytest.raises(ConnectError, match="does not speak WebSocket"):
            api.exec("x", "a", ["true"], timeout_seconds=2)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


@pytest.mark.parametrize("code", [502, 504])
def test_a_load_balancer_without_a_server_is_no_refusal_of_the_user(
    server: ScriptedServer, api: Api, code: int
) -> None:
    server.on(f"GET {POD}/exec", web.Response(status=code, text="no server is available"))
    with pytest.raises(
        ServerBusyError, match=rf"could not get pods/exec .* \(HTTP {code}"
    ) as caught:
        api.exec("x", "a", ["true"])
    assert caught.value.found == "no server is available"
    assert caught.value.remedy.startswith("the answer is no Kubernetes object: a load balancer")


@pytest.mark.parametrize("code", [500, 503])
def test_a_handshake_is_repeated_while_the_kubelet_is_away(
    server: ScriptedServer, api: Api, code: int
) -> None:
    server.script = greet
    away = status(code, "InternalError", "error dialing backend: connection refused")

    async def exec_now(request: web.BaseRequest) -> web.StreamResponse:
        assert server.script is not None
        return await server._exec(request, server.script)

    server.on(f"GET {POD}/exec", away, away, exec_now)
    assert api.exec("x", "a", ["true"]).exit_code == 0


def test_a_busy_api_server_is_asked_again_though_it_says_so_in_plain_text(
    server: ScriptedServer, api: Api
) -> None:
    # apiserver/pkg/server/filters/maxinflight.go, Kubernetes 1.34: tooManyRequests.
    server.script = greet
    busy = web.Response(status=429, text="Too many requests, please try again later.")

    async def exec_now(request: web.BaseRequest) -> web.StreamResponse:
        assert server.script is not None
        return await server._exec(request, server.script)

    server.on(f"GET {POD}/exec", busy, exec_now)
    assert api.exec("x", "a", ["true"]).exit_code == 0


def test_an_internal_error_of_the_kubelet_is_not_repeated(server: ScriptedServer, api: Api) -> None:
    server.on(f"GET {POD}/exec", status(500, "InternalError", 'container not found ("main")'))
    with pytest.raises(ServerBusyError, match="could not get pods/exec") as caught:
        api.exec("x", "a", ["true"], container="main")
    assert caught.value.found == 'container not found ("main")'
    assert len([seen for seen in server.seen if "/exec" in seen]) == 1


def test_threads_may_exec_and_read_at_once(server: ScriptedServer, api: Api) -> None:
    server.script = greet
    wrong: list[object] = []

    def work(thread: int) -> None:
        for i in range(20):
            word = f"{thread}-{i}"
            done = api.exec("x", "a", [word])
            phase = api.get(POD)["status"]["phase"]
            if done.stdout != f"out {word}" or done.stderr != "err" or phase != "Running":
                wrong.append(done)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len([seen for seen in server.seen if "/exec" in seen]) == 160


def test_the_handshake_offers_protocols_and_no_origin(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        assert stream.ws_protocol == "v5.channel.k8s.io"
        await stream.send_bytes(success())

    server.script = script
    assert api.exec("x", "a", ["true"]).exit_code == 0
    assert server.headers["sec-websocket-protocol"] == "v5.channel.k8s.io,v4.channel.k8s.io"
    assert "origin" not in server.headers


def test_a_ping_of_the_server_is_answered(server: ScriptedServer, api: Api) -> None:
    async def script(stream: web.WebSocketResponse, _argv: list[str]) -> None:
        stream._autoping = False
        await stream.ping(b"there?")
        answer = await stream.receive(timeout=5)
        assert answer.type is WSMsgType.PONG
        await stream.send_bytes(success())

    server.script = script
    assert api.exec("x", "a", ["true"]).exit_code == 0


def test_a_script_is_left_out_of_a_message() -> None:
    script = "port=$1\niperf3 -s -1 -D -p $port"
    assert (
        in_short(["sh", "-c", script, "iperf3-server", "20001"]) == "sh -c ... iperf3-server 20001"
    )
    assert in_short(["curl", "-o", "x" * 200, "http://a/"]) == "curl -o ... http://a/"
    assert in_short(["word"] * 100) == "word " * 32 + " ..."


# -- Kept alive ------------------------------------------------------------------------------------

IDLE_SECONDS = 0.6


@contextmanager
def idle_cutter(port: int) -> Generator[int]:
    """A load balancer that cuts a connection when one of its directions is silent for too long."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        source.settimeout(IDLE_SECONDS)
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def serve(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join(10)

    def accept(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(client,), daemon=True))
                threads[-1].start()

    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, args=(listener,), daemon=True)
        acceptor.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        acceptor.join(10)
    for thread in threads:
        thread.join(10)


@asynccontextmanager
async def answering_pings(stream: web.WebSocketResponse) -> AsyncGenerator[None]:
    """Read as an API server does, which answers pings by the way."""
    reading = asyncio.create_task(stream.receive())
    yield
    reading.cancel()


async def silent(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    """A command that says nothing for longer than the load balancer allows, as iperf3 does."""
    async with answering_pings(stream):
        await asyncio.sleep(3 * IDLE_SECONDS)
        await stream.send_bytes(b"\x01figures")
    await stream.send_bytes(success())


async def talking(stream: web.WebSocketResponse, _argv: list[str]) -> None:
    """A command that writes all the time, so that only the client's direction is silent."""
    async with answering_pings(stream):
        for _ in range(12):
            await stream.send_bytes(b"\x01.")
            await asyncio.sleep(IDLE_SECONDS / 4)
    await stream.send_bytes(success())


@pytest.mark.parametrize(("script", "output"), [(silent, "figures"), (talking, "." * 12)])
def test_pings_keep_an_exec_alive_behind_an_idle_limit(
    server: ScriptedServer, tmp_path: Path, script: Script, output: str
) -> None:
    server.script = script
    server.on(f"GET {POD}", {"metadata": {"name": "a"}, "status": {"phase": "Running"}})
    with idle_cutter(server.port) as port:
        path = server.kubeconfig(tmp_path, cluster={"server": f"https://127.0.0.1:{port}"})
        with closing(connect(kubeconfig=path, ping_seconds=IDLE_SECONDS / 4)) as kept:
            assert kept.exec("x", "a", ["iperf3"]).stdout == output
        # The limit is one: without pings the connection is cut.
        with (
            closing(connect(kubeconfig=path, ping_seconds=60)) as cut,
            pytest.raises(ConnectionLostError, match="broke off") as caught,
        ):
            cut.exec("x", "a", ["iperf3"])
        assert "a load balancer in front of the API server cut the connection" in (
            caught.value.remedy
        )


def test_a_server_that_never_answers_a_ping_may_take_its_time(
    server: ScriptedServer, tmp_path: Path
) -> None:
    async def deaf(stream: web.WebSocketResponse, argv: list[str]) -> None:
        stream._autoping = False
        for _ in range(3):
            assert (await stream.receive(timeout=10)).type is WSMsgType.PING
        await stream.send_bytes(success())

    server.script = deaf
    path = server.kubeconfig(tmp_path)
    with closing(connect(kubeconfig=path, ping_seconds=0.05)) as api:
        assert api.exec("x", "a", ["true"]).exit_code == 0
