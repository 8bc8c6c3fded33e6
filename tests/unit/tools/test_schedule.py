from __future__ import annotations

import itertools
import math
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_k8snet.errors import SettingsError, ToolMissingError
from pytest_k8snet.tools.curl import CurlOptions
from pytest_k8snet.tools.curl_errors import BadUrl, CutOff, Garbage, MissingOutput
from pytest_k8snet.tools.schedule import Schedule, ScheduledCurl, ScheduledSamples
from pytest_k8snet.tools.tool import Output
from pytest_k8snet.units import Seconds

needs_curl = pytest.mark.skipif(
    shutil.which("curl") is None, reason="needs curl: apt-get install curl"
)
URL = "http://10.96.0.20/"


argv = ScheduledCurl().argv


def parse(
    text: str, wanted: Schedule, *, stderr: str = "", exit_code: int | None = None
) -> ScheduledSamples:
    output = Output(stdout=text, stderr=stderr, exit_code=exit_code)
    return ScheduledCurl().parse(output, wanted)


def schedule(requests: int = 3, *, url: str = URL, per_second: float = 20.0) -> Schedule:
    options = CurlOptions(url=url, requests=requests, max_time_seconds=1)
    return Schedule.jittered(options, per_second, seed=7)


def test_each_slot_has_one_request_at_a_random_instant() -> None:
    due = schedule(40).due_seconds
    assert [math.floor((at - 0.05) * 20 + 1e-9) for at in due] == list(range(40))
    gaps = {round(b - a, 4) for a, b in itertools.pairwise(due)}
    assert len(gaps) > 30
    assert due == schedule(40).due_seconds


def test_a_rate_that_would_swamp_the_client_is_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        Schedule.jittered(CurlOptions(url=URL, max_time_seconds=10), 50, seed=1)
    assert str(caught.value) == (
        "the schedule could have 500 requests under way at once\n"
        "  found: 50 requests per second, each given 10 s\n"
        "  to do: keep rate x max_time_seconds at or below 100"
    )


def test_the_script_is_constant_and_data_are_arguments() -> None:
    one = argv(schedule(2, url="http://a/?$(reboot)"))
    other = argv(schedule(9))
    assert one[:3] == ("timeout", "-k", "2")
    assert one[4:6] == ("sh", "-c")
    assert one[6] == other[6]
    assert one[-1] == "http://a/?$(reboot)"
    assert one[8].split() == [str(round(at * 1000)) for at in schedule(2).due_seconds]


def test_slots_are_read_in_whatever_order_they_ended() -> None:
    text = (
        "3 12 0 200 1 0.000030 0.000730 0.000000 0.000800 0.001900 0.002000 51840 10.96.0.20\n"
        "1 0 28 000 1 0.000030 0.000730 0.000000 0.000800 0.000000 1.000000 51841 10.96.0.20\n"
    )
    samples = parse(text, schedule(3))
    assert samples.values("connect") == [math.inf, None, pytest.approx(0.0007)]
    assert samples.values("first_byte") == [math.inf, None, pytest.approx(0.0011)]
    assert samples.values("total") == [math.inf, None, 0.002]
    # Of an address nothing is looked up.
    assert samples.values("dns") == [math.inf, None, None]
    assert samples.missed == 1
    assert samples.latest == Seconds(0.012)
    first = samples.slots[0].request
    assert first is not None
    assert first.failure == "timed out"
    assert samples.samples().figures()["failed"] == 1


def test_a_slot_that_started_too_late_was_missed() -> None:
    text = "1 400 0 200 1 0 0.0007 0 0.0008 0.0019 0.0020 51840 10.96.0.20"
    samples = parse(text, schedule(1))
    assert samples.missed == 1
    assert samples.values("total") == [None]


def test_what_curl_told_no_time_for_is_unknown() -> None:
    text = "1 0 0 200 1 0.0001 0 0 0.0008 0.0019 0.0020 51840 10.96.0.20"
    samples = parse(text, schedule(1))
    assert (samples.values("connect"), samples.values("tls")) == ([None], [None])
    assert samples.values("total") == [0.002]
    assert samples.missed == 0


def test_times_without_an_address_of_the_peer_are_read() -> None:
    samples = parse("1 0 7 000 0 0 0 0 0 0 0.0001 0 ", schedule(1))
    assert samples.values("total") == [math.inf]
    assert samples.missed == 0


@pytest.mark.parametrize(
    ("text", "exit_code", "error", "problem"),
    [
        ("", 0, MissingOutput, "curl printed no measurement"),
        ("", 124, CutOff, "curl's output is cut off after 0 of 3 requests"),
        ("1 0 3 000 0 0 0 0 0 0 0 0 ", 0, BadUrl, "curl does not accept the URL"),
        ("1 0 127 ", 0, ToolMissingError, "there is no curl where the command ran"),
        ("busy", 0, Garbage, "line 1 of curl's output is no measurement"),
        ("9 0 0 200 1 0 0 0 0 0 0 0 ", 0, Garbage, "line 1 of curl's output is no measurement"),
        ("1 0 137 ", 0, MissingOutput, "curl printed no measurement"),
    ],
)
def test_unusable_output_is_named(
    text: str, exit_code: int, error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        parse(text, schedule(3), exit_code=exit_code)


class Stalling(ThreadingHTTPServer):
    """Answers at once, but holds what arrives in the first part of each period."""

    daemon_threads = True
    request_queue_size = 256
    stall_seconds = 0.0
    period_seconds = 1.0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Stalling)
        into = time.monotonic() % self.server.period_seconds
        if into < self.server.stall_seconds:
            time.sleep(self.server.stall_seconds - into)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Stalling]:
    with Stalling() as stalling:
        threading.Thread(target=stalling.serve_forever, daemon=True).start()
        yield stalling
        stalling.shutdown()


def run(wanted: Schedule) -> ScheduledSamples:
    done = subprocess.run(argv(wanted), capture_output=True, text=True, timeout=60, check=False)
    return parse(done.stdout, wanted, stderr=done.stderr, exit_code=done.returncode)


@needs_curl
def test_the_script_makes_every_request_on_its_own_connection(server: Stalling) -> None:
    samples = run(schedule(10, url=server.url))
    assert len(samples.slots) == 10
    ports = [slot.request.local_port for slot in samples.slots if slot.request]
    assert len(set(ports)) == 10
    assert all(slot.answered or slot.missed for slot in samples.slots)


@needs_curl
def test_a_stall_does_not_keep_later_requests_from_starting(server: Stalling) -> None:
    # Every request waits for the end of its period: a loop could make one per period, and so 2.
    server.stall_seconds = server.period_seconds = 0.8
    samples = run(schedule(30, url=server.url))
    waiting = [value for value in samples.values("total") if (value or 0) > 0.05]
    assert len(waiting) > 5


@needs_curl
def test_nobody_listening_is_a_failed_request_and_no_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    samples = run(schedule(2, url=f"http://127.0.0.1:{port}/"))
    # Those that a busy machine did not make in time say nothing.
    assert set(samples.values("total")) <= {math.inf, None}
    failures = {slot.request.failure for slot in samples.slots if slot.request is not None}
    assert failures == {"could not connect (refused, rejected or no route)"}


def test_a_missing_curl_is_named() -> None:
    wanted = schedule(1)
    words = [word if word != "curl" else "no-such-curl" for word in argv(wanted)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    with pytest.raises(ToolMissingError, match="there is no curl where the command ran"):
        parse(done.stdout, wanted, stderr=done.stderr, exit_code=done.returncode)
