"""Exec: channels, exit statuses, deadlines and streams that end badly, over real WebSockets."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from aiohttp import WSMsgType, web
from scripted_server import ScriptedServer, failure, status, success

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.cluster.exec import in_short
from pytest_k8snet.errors import (
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
