"""A Service is measured once it answers its client several times in a row; curl runs for real."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from notebook import service_url

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.errors import ClusterError
from pytest_k8snet.measure.answering import GOOD_ANSWERS, await_answers
from pytest_k8snet.measure.endpoints import LocalShell, Pair, UrlPair

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


def at(pair: Pair, url: str, way: str = "clusterip", **facts: Any) -> UrlPair:
    return UrlPair(client=pair.client, url=service_url(url, way, **{"own": True} | facts))


def test_good_answers_in_a_row_are_waited_for(pair: Pair, port: int) -> None:
    await_answers(at(pair, f"http://127.0.0.1:{port}/"))
    # Two bad, two good, one bad: then the row begins.
    assert Lagging.seen == 5 + GOOD_ANSWERS


@pytest.mark.parametrize(
    ("way", "ready", "cause"),
    [
        ("clusterip", True, Cause.KUBE_PROXY),
        ("nodeport", None, Cause.KUBE_PROXY),
        ("loadbalancer", True, Cause.BALANCER_REFUSES),
        ("clusterip", False, Cause.PODS_NOT_READY),
    ],
)
def test_a_service_of_the_runs_own_that_does_not_answer_is_an_error(
    pair: Pair, way: str, ready: bool | None, cause: Cause
) -> None:
    with pytest.raises(ClusterError, match=r"does not answer .* after 1 s") as caught:
        await_answers(at(pair, "http://127.0.0.1:9/", way, ready=ready), limit_seconds=1)
    assert "requests without an answer; curl: (7)" in caught.value.found
    assert caught.value.remedy == cause.remedy


RESOLVER = "nameserver 10.96.0.10\nsearch x.svc.corp.internal svc.corp.internal corp.internal\n"


@pytest.mark.parametrize(
    ("printed", "way", "cause"),
    [
        (f"0 3 6 curl: (6) Could not resolve host: web\n{RESOLVER}", "dns", Cause.OTHER_DOMAIN),
        (
            "0 3 6 curl: (6) Could not resolve host: web\nsearch svc.cluster.local example.org",
            "dns",
            Cause.UNKNOWN_NAME,
        ),
        ("0 3 6 curl: (6) Could not resolve host\nnameserver 9.9.9.9", "dns", Cause.UNKNOWN_NAME),
        ("0 3 28 curl: (28) Resolving timed out after 2000 ms", "dns", Cause.DNS_SILENT),
        ("0 3 28 curl: (28) Connection timed out after 2001 ms", "clusterip", Cause.DROPPED),
        ("0 3 52 curl: (52) Empty reply from server", "clusterip", Cause.BROKEN_ANSWERS),
    ],
)
def test_what_curl_says_tells_the_cause_and_a_wrong_domain_is_not_waited_for(
    pair: Pair, printed: str, way: str, cause: Cause
) -> None:
    asked: list[str] = []

    def shell(argv: Sequence[str], **_: object) -> Completed:
        asked.append(argv[-1])
        return Completed(argv=tuple(argv), exit_code=0, stdout=printed, stderr="", seconds=0.0)

    client = replace(pair.client, shell=shell)
    with pytest.raises(ClusterError) as caught:
        await_answers(at(replace(pair, client=client), "http://web/", way))
    assert caught.value.remedy == cause.remedy
    assert asked == (["8"] if cause is Cause.OTHER_DOMAIN else ["8", "22"])


def test_a_client_without_curl_is_the_samples_trouble_and_is_not_waited_for(
    pair: Pair, tmp_path: Path
) -> None:
    for program in ("sh", "date", "sleep"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    began = time.monotonic()
    client = replace(pair.client, shell=LocalShell(("env", f"PATH={tmp_path}")))
    await_answers(at(replace(pair, client=client), "http://127.0.0.1:9/"))
    assert time.monotonic() - began < 5


def test_one_of_somebody_elses_is_measured_as_it_is(pair: Pair) -> None:
    await_answers(at(pair, "http://127.0.0.1:9/", own=False), limit_seconds=1)


def test_a_plain_url_is_no_service(pair: Pair) -> None:
    began = time.monotonic()
    await_answers(replace(at(pair, "x"), url="http://127.0.0.1:9/"))
    assert time.monotonic() - began < 5
