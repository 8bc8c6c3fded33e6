"""A Service is measured once it answers its client several times in a row; curl runs for real."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_k8snet.cluster.services import ServiceUrl
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure.answering import GOOD_ANSWERS, await_answers
from pytest_k8snet.measure.endpoints import Pair, UrlPair

pytest_plugins = ["loopback"]


class Lagging(BaseHTTPRequestHandler):
    """Cuts off some requests before it answers, as a Service does that is half programmed."""

    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        if self.seen in (1, 2, 5):
            self.connection.close()
            return
        self.send_response(404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    Lagging.seen = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Lagging)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def at(pair: Pair, url: str, *, own: bool = True) -> UrlPair:
    return UrlPair(client=pair.client, url=ServiceUrl(url, "clusterip", own=own))


def test_good_answers_in_a_row_are_waited_for(pair: Pair, port: int) -> None:
    await_answers(at(pair, f"http://127.0.0.1:{port}/"))
    # Two bad, two good, one bad: then the row begins.
    assert Lagging.seen == 5 + GOOD_ANSWERS


def test_a_service_of_the_runs_own_that_does_not_answer_is_an_error(pair: Pair) -> None:
    with pytest.raises(ClusterError, match=r"does not answer .* after 1 s, though") as caught:
        await_answers(at(pair, "http://127.0.0.1:9/"), limit_seconds=1)
    assert "requests without an answer; curl: (7)" in caught.value.found
    assert "kube-proxy" in caught.value.remedy


def test_one_of_somebody_elses_is_measured_as_it_is(pair: Pair) -> None:
    await_answers(at(pair, "http://127.0.0.1:9/", own=False), limit_seconds=1)


def test_a_plain_url_is_no_service(pair: Pair) -> None:
    began = time.monotonic()
    await_answers(replace(at(pair, "x"), url="http://127.0.0.1:9/"))
    assert time.monotonic() - began < 0.5
