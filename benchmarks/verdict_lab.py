"""Verdicts on the lab, where the truth is known: from headers, and from a server that stalls.

``python -m benchmarks verdict_lab`` takes ten verdicts on bandwidth; ``python -m
benchmarks.verdict_lab 20`` takes forty, in about fifteen minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from benchmarks.cluster import Silence, lab_run
from benchmarks.figure import Figure
from benchmarks.goodput import ceiling
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.measure.endpoints import Endpoint
from pytest_k8snet.measure.gates import Gates
from pytest_k8snet.measure.run import Run
from pytest_k8snet.units import Mbit, ms
from pytest_k8snet.verdict import Plan, Verdict

#: Verdicts for floors below the truth, and as many above it.
VERDICTS = 5
MARGIN = 0.02
MOST_PAIRS = 6

STALL_SECONDS, PERIOD_SECONDS = 0.58, 4.0
LIMIT = 100 * ms

# Answers at once, but holds what arrives in the first part of each period until that has passed.
SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
stall, period = map(float, sys.argv[2:])
class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        into = time.monotonic() % period
        if into < stall:
            time.sleep(stall - into)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words):
        pass
ThreadingHTTPServer.request_queue_size = 128
ThreadingHTTPServer(("", int(sys.argv[1])), Answer).serve_forever()
"""
PORT = 19080


def figures(verdicts: int = VERDICTS) -> Iterator[Figure]:
    """Floors near a ratio known from headers, and percentiles of a stalling server."""
    # Slow links, so that it is they who decide and not this machine.
    with lab_run(rate=100 * Mbit) as run:
        yield from _floors(run, verdicts)
        yield from _stall(run)


def _gates() -> Gates:
    # The lab's links have a rate of their own: what the machine's hypervisor takes does not show.
    return Gates(
        observer=Silence(),
        plan=Plan(
            seconds=1, omit_seconds=1, span_seconds=0, outlier=0, most_steal=1.0, least_idle=0.0
        ),
    )


def _floors(run: Run, verdicts: int) -> Iterator[Figure]:
    mode = CalicoMode.VXLAN_ALWAYS
    pods, nodes = run.pod_pair(mode), run.node_pair(mode)
    sizes = [pair.iperf3(seconds=1).mss_bytes for pair in (pods, nodes)]
    assert sizes[0] is not None
    assert sizes[1] is not None
    truth = ceiling(pods, mode, sizes[0]) / ceiling(nodes, mode, sizes[1])
    gates = _gates()
    for word, floor in (("pass", truth * (1 - MARGIN)), ("fail", truth * (1 + MARGIN))):
        found = [gates.bandwidth(pods) / gates.bandwidth(nodes) >= floor for _ in range(verdicts)]
        right = sum(verdict.state == word for verdict in found)
        pairs = max(_pairs(verdict) for verdict in found)
        yield Figure(
            name=f"floor {floor:.4f}, true ratio {truth:.4f}: verdict {word}",
            measured=f"{right}/{verdicts}, in at most {pairs} pairs",
            promised=f"all, in {MOST_PAIRS} or fewer",
            holds=right == verdicts and pairs <= MOST_PAIRS,
        )


def _pairs(verdict: Verdict) -> int:
    return verdict.finding.n if verdict.finding is not None else 0


def _stall(run: Run) -> Iterator[Figure]:
    client, server = run.pod(), run.node(run.nodes[-1].name)
    url = f"http://{server.address}:{PORT}/"
    _serve(server, client, url)
    # A request that arrives at a random instant exceeds the limit with this probability.
    share = (STALL_SECONDS - float(LIMIT)) / PERIOD_SECONDS
    # Rounds of about one period each; all percentiles are judged from the same requests.
    latency = _gates().latency(client, url, plan="requests=2000 rate=25 span=0")
    loop = sorted(request.total for request in client.curl(url, requests=1000).requests)
    for percent in (50, 80, 95, 99):
        kept = share <= 1 - percent / 100
        verdict = latency.total.percentile(percent) <= LIMIT
        by_loop = loop[int(len(loop) * percent / 100)]
        yield Figure(
            name=f"p{percent} <= {LIMIT} of a server that stalls {share:.1%} of the time beyond it",
            measured=f"{verdict.state} (a closed loop says {by_loop})",
            promised="pass" if kept else "fail",
            holds=verdict.state == ("pass" if kept else "fail"),
        )


def _serve(server: Endpoint, client: Endpoint, url: str) -> None:
    """Start the server, and wait until it answers."""
    words = ["timeout", "600", "python3", "-c", SERVER]
    words += [str(PORT), str(STALL_SECONDS), str(PERIOD_SECONDS)]
    server.run(["sh", "-c", '"$@" >/dev/null 2>&1 </dev/null &', "sh", *words])
    deadline = time.monotonic() + 20
    while client.curl(url, requests=1).failed:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the stalling server does not answer at {url}")


if __name__ == "__main__":
    for figure in figures(int(sys.argv[1]) if len(sys.argv) > 1 else VERDICTS):
        print(figure, flush=True)
