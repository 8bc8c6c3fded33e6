"""What the plugin adds to the tools that it runs: figures, wall time, exec round trips."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator

from benchmarks.cluster import lab_run
from benchmarks.figure import Figure
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.measure.endpoints import Endpoint, Pair
from pytest_k8snet.measure.run import Run
from pytest_k8snet.tools import iperf3
from pytest_k8snet.tools.tool import Payload
from pytest_k8snet.units import Mbit, ms

PAIRS = 4
EXECS = 50
PROOFS = 30
REQUESTS = 1000


def figures() -> Iterator[Figure]:
    """Against the same tool by hand in the same namespaces, in turns (A B B A)."""
    with lab_run() as run:
        yield from _iperf3(run.pod_pair())
        yield _proof(run)
        yield _exec(run.pod())
        yield from _curl(run.pod(), str(run.web_service.cluster_ip_url))


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def _iperf3(pair: Pair) -> Iterator[Figure]:
    by_plugin: list[tuple[float, float]] = []
    by_hand: list[tuple[float, float]] = []
    pair.iperf3(seconds=1, omit_seconds=0)
    for turn in range(PAIRS):
        arms = [(by_plugin, _plugin_sample), (by_hand, _hand_sample)]
        for figures, sample in arms if turn % 2 == 0 else reversed(arms):
            figures.append(sample(pair))
    rates = [statistics.fmean(rate for rate, _ in arm) for arm in (by_plugin, by_hand)]
    yield Figure(
        name="iperf3 bandwidth, plugin / by hand",
        measured=f"{rates[0] / rates[1]:.4f} ({rates[0] / float(Mbit):.1f} Mbit/s)",
        promised="1 +- 0.02",
        holds=abs(rates[0] / rates[1] - 1) <= 0.02,
    )
    added = statistics.median(wall for _, wall in by_plugin) - statistics.median(
        wall for _, wall in by_hand
    )
    yield Figure(
        name="wall time added per 1 s sample (server, proof, API)",
        measured=f"{added:.3f} s",
        promised="<= 0.2 s",
        holds=added <= 0.2,
    )


def _plugin_sample(pair: Pair) -> tuple[float, float]:
    begun = time.perf_counter()
    result = pair.iperf3(seconds=1, omit_seconds=0)
    return float(result.bandwidth), time.perf_counter() - begun


def _hand_sample(pair: Pair) -> tuple[float, float]:
    """The client as typed at a prompt in the pod; its wall time is taken there as well."""
    port = 19000
    pair.server.run(iperf3.Iperf3().server_argv(port))
    script = (
        "begun=$(date +%s.%N); "
        f"iperf3 -c {pair.server.address} -p {port} -J -t 1; "
        'echo "@ $begun $(date +%s.%N)"'
    )
    output = pair.client.run(["sh", "-c", script]).stdout
    document, _, times = output.rpartition("@")
    begun, ended = map(float, times.split())
    rate = json.loads(document)["end"]["sum_received"]["bits_per_second"]
    return float(rate), ended - begun


def _proof(run: Run) -> Figure:
    """What both looks at a pair's nodes and the judgement take, each sample anew."""
    pair, prover = run.pod_pair(CalicoMode.VXLAN_ALWAYS), run.sampler.prover
    assert prover is not None

    def look() -> None:
        assert prover is not None
        prover.watch(pair, run.sampler.probe).judge(Payload())

    look()
    median = statistics.median(_timed(look) for _ in range(PROOFS))
    return Figure(
        name=f"proof of path per sample, median of {PROOFS} (4 execs, none during a sample)",
        measured=f"{median:.3f} s",
        promised="<= 0.15 s",
        holds=median <= 0.15,
    )


def _exec(endpoint: Endpoint) -> Figure:
    endpoint.run(["true"])
    median = statistics.median(_timed(lambda: endpoint.run(["true"])) for _ in range(EXECS))
    return Figure(
        name=f"exec round trip on the lab, median of {EXECS}",
        measured=f"{median / float(ms):.1f} ms",
        promised="<= 40 ms",
        holds=median <= 0.040,
    )


def _curl(endpoint: Endpoint, url: str) -> Iterator[Figure]:
    """Against the loop that people type, and against curl's own repetition in one process."""
    form = "%{time_connect} %{time_starttransfer} %{time_total}\\n"
    options = f"-s -o /dev/null -H 'Connection: close' -w '{form}'"
    loop = f"for i in $(seq {REQUESTS}); do curl {options} '{url}'; done"
    one = f"curl {options} '{url}#[1-{REQUESTS}]'"
    walls: dict[str, list[float]] = {"plugin": [], "loop": [], "one": []}
    arms: list[tuple[str, Callable[[], object]]] = [
        ("plugin", lambda: endpoint.curl(url, requests=REQUESTS)),
        ("loop", lambda: endpoint.run(["sh", "-c", loop], timeout_seconds=120)),
        ("one", lambda: endpoint.run(["sh", "-c", one], timeout_seconds=120)),
    ]
    for turn in range(4):
        for name, action in arms if turn % 2 == 0 else reversed(arms):
            walls[name].append(_timed(action))
    plugin, by_loop, by_one = (statistics.median(walls[name]) for name, _ in arms)
    yield Figure(
        name=f"{REQUESTS} curl requests, plugin / shell loop by hand, wall time",
        measured=f"{plugin / by_loop:.3f} ({plugin:.2f} s)",
        promised="<= 1.1",
        holds=plugin <= 1.1 * by_loop,
    )
    yield Figure(
        name=f"{REQUESTS} curl requests, plugin / one curl process by hand, wall time",
        measured=f"{plugin / by_one:.3f}",
        promised="(no promise: every field kept)",
        holds=True,
    )
