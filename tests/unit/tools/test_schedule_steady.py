"""A steady exchange: the client for real, against a server that stalls when it is told to."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pytest_k8snet.errors import CurlError
from pytest_k8snet.tools.schedule import SteadyExchange, start_argv, stop_argv
from pytest_k8snet.tools.schedule import parse_steady as parse

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: apt-get install curl"
)
EXCHANGE = SteadyExchange(url="http://10.0.0.1:8080/?$(reboot)", name="test", give_up_seconds=0.5)


def test_the_scripts_are_constant_and_data_are_arguments() -> None:
    other = SteadyExchange(url="http://b/", name="other")
    for made in (start_argv, stop_argv):
        one = made(EXCHANGE)
        assert one[:3] == ("timeout", "-k", "2")
        assert one[4:7] == made(other)[4:7]
    assert start_argv(EXCHANGE)[7] == start_argv(other)[7]
    assert start_argv(EXCHANGE)[-1] == EXCHANGE.url
    assert stop_argv(EXCHANGE)[-1] == "/tmp/k8snet-steady-test"


def test_every_request_is_an_attempt_in_the_order_they_were_due() -> None:
    first, second, third = parse("3 0 0 204 0.5\n1 20 0 200 0.002\n2 0 28 000 0.5\nend 3", EXCHANGE)
    assert first.answered_seconds == pytest.approx(first.due_seconds + 0.022)
    assert second.answered_seconds is None
    assert third.answered_seconds == pytest.approx(third.due_seconds + 0.5)
    assert 0 < first.due_seconds < second.due_seconds < third.due_seconds < 0.4


def test_an_answer_that_is_an_error_is_a_lost_request() -> None:
    assert [one.answered_seconds for one in parse("1 0 0 503 0.002\nend 1", EXCHANGE)] == [None]


def test_a_request_of_which_nothing_is_written_is_lost() -> None:
    one, two = parse("2 0 0 200 0.002\nend 2", EXCHANGE)
    assert one.answered_seconds is None
    assert two.answered_seconds is not None


def test_a_curl_that_was_killed_lost_its_request() -> None:
    assert parse("1 0 137 \nend 1", EXCHANGE)[0].answered_seconds is None


def test_the_pattern_of_instants_goes_on_lap_by_lap() -> None:
    due = [one.due_seconds for one in parse("end 250", EXCHANGE)]
    assert due[100] == pytest.approx(due[0] + 10)
    assert due[249] == pytest.approx(due[49] + 20)
    assert max(b - a for a, b in itertools.pairwise(due)) <= 0.2


@pytest.mark.parametrize("text", ["", "1 0 0 200 0.002", "1 0 0 200 0.002\nend "])
def test_output_without_its_end_is_an_error(text: str) -> None:
    with pytest.raises(CurlError, match="did not come to its end"):
        parse(text, EXCHANGE)


@pytest.mark.parametrize("line", ["gossip", "3 0 0 200 0.002", "0 0 0 200 0.002"])
def test_a_foreign_line_is_an_error(line: str) -> None:
    with pytest.raises(CurlError) as caught:
        parse(f"{line}\nend 2", EXCHANGE)
    assert caught.value.found == line


class Server(ThreadingHTTPServer):
    """Answers while ``open`` is set; counts whom it has heard."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.heard = 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.heard += 1
        self.server.open.wait()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.open.set()
        running.shutdown()


@needs_curl
def test_it_runs_by_itself_until_it_is_stopped_and_leaves_nothing(server: Server) -> None:
    exchange = SteadyExchange(
        url=f"http://127.0.0.1:{server.server_port}/",
        name=f"test-{server.server_port}",
        per_second=50,
        give_up_seconds=0.4,
        tail_seconds=0.2,
    )

    def heard(count: int) -> None:
        deadline = time.monotonic() + 20
        while server.heard < count:
            assert time.monotonic() < deadline, "the client has stopped asking"
            time.sleep(0.01)

    subprocess.run(start_argv(exchange), check=True, timeout=10)
    try:
        heard(10)
        server.open.clear()
        # Longer than a request waits for its answer: the first ones are lost, and it asks on.
        heard(server.heard + 40)
        server.open.set()
        heard(server.heard + 5)
    finally:
        server.open.set()
        done = subprocess.run(
            stop_argv(exchange), check=True, timeout=20, capture_output=True, text=True
        )
    attempts = parse(done.stdout, exchange)
    lost = [index for index, one in enumerate(attempts) if one.answered_seconds is None]
    answered = [index for index, one in enumerate(attempts) if one.answered_seconds is not None]
    # A busy machine may lose another one at any time: it answered before the stall and after it.
    assert answered[0] < lost[0] < lost[-1]
    assert lost[0] < answered[-1]
    assert not list(Path("/tmp").glob(f"*{exchange.name}*"))


@needs_curl
@pytest.mark.parametrize("recovers", [True, False])
def test_it_goes_on_until_answers_come_again_or_its_patience_ends(
    server: Server, recovers: bool
) -> None:
    exchange = SteadyExchange(
        url=f"http://127.0.0.1:{server.server_port}/",
        name=f"test-{server.server_port}",
        per_second=20,
        give_up_seconds=0.4,
        tail_seconds=0.2,
        longest_tail_seconds=20.0 if recovers else 1.5,
    )
    server.open.clear()
    subprocess.run(start_argv(exchange), check=True, timeout=10)
    # It is stopped in the middle of an outage of a second.
    opening = threading.Timer(1.0, server.open.set)
    if recovers:
        opening.start()
    done = subprocess.run(
        stop_argv(exchange), check=True, timeout=30, capture_output=True, text=True
    )
    opening.cancel()
    attempts = parse(done.stdout, exchange)
    answered = [index for index, one in enumerate(attempts) if one.answered_seconds is not None]
    # It goes on for 1.5 s if nobody answers, and else not for all of its 20 s; how many requests
    # that is, and which of them are lost, is a busy machine's.
    assert len(attempts) > 5
    assert bool(answered) is recovers
    assert len(attempts) < 350
