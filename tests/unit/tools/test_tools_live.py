"""The command lines run for real, on loopback: what is built here is what the tools take."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from pytest_k8snet import Mbit
from pytest_k8snet.tools import curl, curl_errors, iperf3, iperf3_errors
from pytest_k8snet.tools.tool import Output

needs_iperf3 = pytest.mark.skipif(
    shutil.which("iperf3") is None, reason="needs iperf3: apt-get install iperf3"
)
needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: apt-get install curl"
)


def run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def start_server(port: int) -> None:
    check_server(run(iperf3.Iperf3().server_argv(port)), port)


def check_server(done: subprocess.CompletedProcess[str], port: int) -> None:
    output = Output(stdout=done.stdout, stderr=done.stderr, exit_code=done.returncode)
    iperf3.Iperf3().check_server(output, port)


@pytest.fixture
def port() -> Iterator[int]:
    """A free port; a server that a test left on it is used up by a bare connection."""
    with socket.create_server(("", 0)) as free:
        number: int = free.getsockname()[1]
    yield number
    with suppress(OSError):
        socket.create_connection(("127.0.0.1", number), timeout=1).close()


@needs_iperf3
def test_a_server_listens_when_its_command_returns(port: int) -> None:
    start_server(port)
    socket.create_connection(("127.0.0.1", port), timeout=1).close()


@needs_iperf3
def test_a_port_in_use_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(iperf3_errors.PortInUse) as caught:
            start_server(port)
    assert caught.value.problem == f"port {port} is in use where the iperf3 server should listen"


@needs_iperf3
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"streams": 2, "bidirectional": True, "dscp": "EF", "interval_seconds": 0.5},
        {"reverse": True, "mss_bytes": 1200, "window_bytes": 131072, "ipv6": False},
        {"udp": True, "bitrate": 5 * Mbit},
    ],
    ids=["plain", "bidirectional", "reverse", "udp"],
)
def test_iperf3_takes_the_options_and_gives_figures(port: int, options: dict[str, object]) -> None:
    start_server(port)
    wanted = iperf3.Iperf3Options(
        server="127.0.0.1",
        port=port,
        seconds=1,
        omit_seconds=0,
        **options,  # type: ignore[arg-type]
    )
    done = run(iperf3.Iperf3().argv(wanted))
    result = iperf3.parse(
        done.stdout, expected=wanted, stderr=done.stderr, exit_code=done.returncode
    )
    assert result.bandwidth > 0
    assert result.protocol == ("UDP" if wanted.udp else "TCP")
    assert len(result.streams) == wanted.streams * (2 if wanted.bidirectional else 1)


@needs_iperf3
def test_iperf3_without_a_server_is_refused(port: int) -> None:
    wanted = iperf3.Iperf3Options(server="127.0.0.1", port=port, seconds=1)
    done = run(iperf3.Iperf3().argv(wanted))
    with pytest.raises(iperf3_errors.Refused):
        iperf3.parse(done.stdout, expected=wanted, stderr=done.stderr, exit_code=done.returncode)


def test_a_missing_iperf3_is_told_as_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    # An empty PATH for the command is how an image without iperf3 looks to the script.
    argv = iperf3.Iperf3().server_argv(20001)
    shell = shutil.which("sh")
    assert shell is not None
    monkeypatch.setenv("PATH", "/nonexistent")
    done = run([shell, *argv[1:]])
    with pytest.raises(Exception, match="there is no iperf3 where the command ran"):
        check_server(done, 20001)


class Answers(BaseHTTPRequestHandler):
    """Answers every request, and remembers what was asked for on which connection."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[list[tuple[str, int]]] = []

    def do_GET(self) -> None:
        self.seen.append((self.path, self.client_address[1]))
        self.send_response(503 if self.path == "/busy" else 200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"abc")

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def web() -> Iterator[str]:
    Answers.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def ask(options: curl.CurlOptions) -> curl.CurlSamples:
    done = run(curl.Curl().argv(options))
    return curl.parse(
        done.stdout,
        expected_requests=options.requests,
        stderr=done.stderr,
        exit_code=done.returncode,
    )


@needs_curl
def test_each_request_has_a_connection_of_its_own_and_the_same_path(web: str) -> None:
    samples = ask(curl.CurlOptions(url=f"{web}/a[1]{{b,c}}?q=\\[x]#part", requests=5))
    assert not samples.failed
    assert len(samples.connect) == 5
    assert {path for path, _ in Answers.seen} == {"/a[1]{b,c}?q=\\[x]"}
    assert len({port for _, port in Answers.seen}) == 5


@needs_curl
def test_errors_of_the_server_are_counted(web: str) -> None:
    samples = ask(curl.CurlOptions(url=f"{web}/busy", requests=3))
    assert samples.failure_counts == {"HTTP 503": 3}


@needs_curl
def test_a_proxy_of_the_environment_is_not_measured(
    web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert not ask(curl.CurlOptions(url=web, requests=1)).failed


@needs_curl
def test_a_closed_port_fails_every_request(port: int) -> None:
    samples = ask(curl.CurlOptions(url=f"http://127.0.0.1:{port}/", requests=2))
    assert len(samples.failed) == 2
    with pytest.raises(curl_errors.AllFailed, match="2 of 2 requests failed"):
        _ = samples.connect.mean
