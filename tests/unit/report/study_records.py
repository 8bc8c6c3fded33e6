"""Records as a run of the hand-made study would leave them: every state, every kind.

A pure function of its arguments, so that tests can compare what is drawn byte by byte.
"""

from __future__ import annotations

import json
import random
from typing import Any

RUN = "k8snet-5tudy1"
Record = dict[str, Any]

#: Mean goodput of the study's scenes by mode, in Gbit/s.
GBIT = {
    ("node-node", None): 2.85,
    ("pod-pod", "Never"): 2.75,
    ("pod-pod", "VXLAN-CrossSubnet"): 2.71,
    ("pod-pod", "VXLAN-Always"): 0.98,
    ("pod-pod", "IPIP-CrossSubnet"): 2.73,
    ("pod-pod", "IPIP-Always"): 1.23,
    ("pod-node", "Never"): 2.78,
    ("pod-node", "VXLAN-Always"): 2.67,
    ("pod-node", "IPIP-Always"): 2.70,
    ("same-node", "Never"): 21.4,
}
FLOOR = {"Never": 0.90, "VXLAN-Always": 0.90, "IPIP-Always": 0.42}
MEAN_MS = {"node-clusterip": 2.541, "pod-dns": 3.914, "outside-loadbalancer": 31.8}


class Study:
    """Writes the records one after the other, with a clock of its own."""

    def __init__(self, seed: int = 7) -> None:
        self.records: list[Record] = []
        self._random = random.Random(seed)
        self._clock = 0.0
        self._count = 0

    def add(self, kind: str, **content: Any) -> Record:
        """One record, a little later than the one before."""
        self._clock += 0.25
        record = {"schema": 1, "kind": kind, "run": RUN, "time": self._time(), **content}
        self.records.append(record)
        return record

    def _time(self) -> str:
        minutes, seconds = divmod(self._clock, 60)
        return f"2026-11-23T01:{int(minutes) % 60:02d}:{seconds:06.3f}Z"

    def begin(self, **changes: Any) -> None:
        """Run and facts."""
        self.add(
            "run",
            **{
                "tool_version": "0.1.0",
                "command_line": ["--kubeconfig=prod.yaml", "--k8snet-change=dedicated"],
                "settings": {
                    "change": {"value": "dedicated", "origin": "--k8snet-change"},
                    "lab": {"value": "False", "origin": "default"},
                },
                "user": "alice",
                "host": "bastion",
                "ticket": {"id": "CHG-1234", "title": "Calico 3.28, new NIC firmware"},
                "plan": {"first": 4, "last": 20, "seconds": 5, "alpha": 0.05},
                **changes,
            },
        )
        self.facts("before")

    def facts(self, phase: str, kernel: str = "6.1.0-21-amd64") -> None:
        """The three nodes of the study."""
        self.add(
            "facts",
            phase=phase,
            cluster={
                "server": "https://192.168.0.10:6443",
                "kubernetes_version": "v1.29.4",
                "calico_version": "v3.28.0",
                "install": "operator",
                "dataplane": "iptables",
                "backend": "bird",
            },
            nodes=[
                {
                    "name": name,
                    "internal_ip": f"192.168.0.{10 + index}",
                    "subnet": "192.168.0.0/24",
                    "kernel": kernel if name == "node2" else "6.1.0-21-amd64",
                    "load_1_minute": 0.42 if phase == "before" else 3.1,
                    "nic": {
                        "name": "eth0",
                        "driver": "vmxnet3",
                        "mtu_bytes": 1500,
                        "speed_bits_per_second": 10e9,
                        "offload": {"tcp-segmentation-offload": "on"},
                    },
                }
                for index, name in enumerate(["master", "node1", "node2"])
            ],
        )

    def switch(
        self, what: str, mode: str | None, *, lost: int = 0, gap: float = 0.004, error: str = ""
    ) -> None:
        """What a change cost pods not under test; not known where there is an error."""
        self.add(
            "switch",
            what=what,
            mode=mode,
            requests=None if error else 41,
            lost=None if error else lost,
            longest_gap_seconds=None if error else gap,
            seconds=None if error else 4.1,
            error=error or None,
        )

    def iperf3(
        self,
        test: str,
        scene: str,
        mode: str | None,
        *,
        gbit: float | None = None,
        nodes: tuple[str, str] = ("node1", "node2"),
        placement: str = "same-subnet",
        path: str | Record | None = "proven",
        seconds: int = 5,
        **changes: Any,
    ) -> str:
        """One iperf3 sample; returns its id."""
        mean = (gbit or GBIT[scene, mode]) * 1e9
        mean *= self._random.gauss(1, 0.008)
        series = [mean * self._random.gauss(1, 0.015) for _ in range(seconds)]
        tunnel = {"VXLAN-Always": "vxlan", "IPIP-Always": "ipip"}.get(mode or "", "direct")
        expected = tunnel if scene == "pod-pod" else "direct"
        kinds = ("pod", "pod") if scene == "same-node" else tuple(scene.split("-"))
        self._count += 1
        identity = f"s{self._count:04d}"
        mss = 1448 if scene == "node-node" else 1398
        retransmits = self._random.randrange(60)
        self._clock += seconds
        record: Record = {
            "id": identity,
            "test": test,
            "scene": scene,
            "placement": "same-node" if scene == "same-node" else placement,
            "mode": mode,
            "tool": "iperf3",
            "client": self._end(kinds[0], nodes[0], 4),
            "server": self._end(kinds[1], nodes[1], 9),
            "url": None,
            "label": f"{scene} {nodes[0]} -> {nodes[1]}" + (f" [{mode}]" if mode else ""),
            "started": self._time(),
            "seconds": float(seconds),
            "figures": {
                "bandwidth_bits_per_second": mean,
                "retransmits": retransmits,
                "retransmit_ratio": retransmits * mss * 8 / (mean * seconds),
                "rtt_mean_seconds": 0.00042,
                "mss_bytes": mss,
            },
            "series": {"bandwidth_bits_per_second": series},
            "path": path
            if not isinstance(path, str)
            else {
                "state": path,
                "text": f"{expected}: 1,802,113,024 bytes payload, route by eth0, "
                "tunnel device 1,861,240,011 bytes",
                "expected": expected,
                "route": [{"dst": "198.18.0.9", "dev": "vxlan.calico"}],
                "counters": {"vxlan.calico": {"tx_bytes": 1861240011}},
                "mtu": {"pod": 1450, "tunnel": 1450, "nic": 1500},
                "wire": [
                    {"moment": "once", "sightings": [{"node": "node1", "packets": 71}]},
                ],
            },
            "command": ["iperf3", "-c", "198.18.0.9", "-p", "20001", "-t", str(seconds), "-J"],
            "raw": iperf3_json(series, mss),
            "warmup": False,
            "error": None,
        }
        self.add("sample", **record | changes)
        return identity

    def _end(self, kind: str, node: str, last: int) -> Record:
        name = f"k8snet-{kind}-{node}" if kind == "pod" else node
        address = f"198.18.0.{last}" if kind == "pod" else f"192.168.0.{10 + last % 3}"
        return {"kind": kind, "name": name, "node": node, "address": address}

    def curl(self, test: str, scene: str, *, requests: int = 10, failed: int = 0) -> str:
        """One curl sample of several requests; returns its id."""
        mean = MEAN_MS[scene] / 1e3
        total = sorted(mean * self._random.lognormvariate(-0.05, 0.3) for _ in range(requests))
        connect = [value * 0.3 for value in total]
        start = [value * 0.95 for value in total]
        self._count += 1
        identity = f"s{self._count:04d}"
        self._clock += 1
        kind = scene.partition("-")[0]
        figures: Record = {"requests": requests + failed, "failed": failed}
        for name, values in (
            ("time_connect", connect),
            ("time_starttransfer", start),
            ("total", total),
        ):
            figures[f"{name}_mean_seconds"] = sum(values) / len(values)
            figures[f"{name}_median_seconds"] = values[len(values) // 2]
            figures[f"{name}_p95_seconds"] = values[int(len(values) * 0.95)]
        self.add(
            "sample",
            id=identity,
            test=test,
            scene=scene,
            placement="",
            mode=None,
            tool="curl",
            client={"kind": kind, "name": kind, "node": "node1", "address": ""},
            server=None,
            url="http://10.96.113.7:8080/" if kind == "node" else "http://web.k8snet.svc:8080/",
            label=f"{kind} -> web",
            seconds=0.4,
            figures=figures,
            distribution={
                "namelookup_seconds": [value * 0.1 for value in total],
                "time_connect_seconds": connect,
                "time_starttransfer_seconds": start,
                "total_seconds": total,
                "tcp_seconds": [value * 0.2 for value in total],
                "ttfb_seconds": [value * 0.65 for value in total],
            },
            path=None,
            command=["curl", "-sS", "http://10.96.113.7:8080/#[1-10]"],
            raw="\n".join(f'{{"http_code":200,"time_total":{value:.6f}}}' for value in total),
            error=None,
        )
        return identity

    def verdict(self, test: str, state: str, **content: Any) -> None:
        """One verdict."""
        mode = content.pop("mode", None)
        default: Record = {
            "test": test,
            "claim": "pod-pod / node-node >= 0.90",
            "quantity": "bandwidth ratio",
            "unit": "",
            "mode": mode,
            "scene": "pod-pod",
            "baseline": "node-node",
            "state": state,
            "relation": ">=",
            "limit": 0.90,
            "margin": None,
            "n": 4,
            "discarded": [],
            "plan": {"first": 4, "last": 20, "seconds": 5, "alpha": 0.05},
            "seed": 20261123,
            "samples": [],
        }
        self.add("verdict", **default | content)

    def test(self, name: str, outcome: str, reason: str = "", phase: str = "call") -> None:
        """One test's end."""
        self.add("test", test=name, outcome=outcome, phase=phase, seconds=21.5, reason=reason)

    def pairs(self, test: str, scene: str, mode: str, count: int = 4) -> list[list[str]]:
        """Interleaved samples of a scene and of its baseline."""
        return [
            [self.iperf3(test, scene, mode), self.iperf3(test, "node-node", None)]
            for _ in range(count)
        ]

    def end(self, exit_status: int = 1, restored: bool | None = True) -> None:
        """The last record."""
        self.add("end", exit_status=exit_status, counts={}, restored=restored, seconds=402.0)


def iperf3_json(series: list[float], mss: int) -> str:
    """Output shaped and spaced as iperf3 writes it."""
    intervals = [
        {
            "streams": [
                {
                    "socket": 5,
                    "start": float(index),
                    "end": index + 1.000123,
                    "seconds": 1.000123,
                    "bytes": int(rate / 8),
                    "bits_per_second": rate,
                    "retransmits": 3,
                    "snd_cwnd": 1431552,
                    "rtt": 420,
                    "omitted": False,
                    "sender": True,
                }
            ],
            "sum": {
                "start": float(index),
                "end": index + 1.000123,
                "seconds": 1.000123,
                "bytes": int(rate / 8),
                "bits_per_second": rate,
                "retransmits": 3,
                "omitted": False,
                "sender": True,
            },
        }
        for index, rate in enumerate(series)
    ]
    received = {"bytes": int(sum(series) / 8), "bits_per_second": sum(series) / len(series)}
    document = {
        "start": {
            "connected": [{"socket": 5, "local_host": "198.18.0.4", "remote_host": "198.18.0.9"}],
            "version": "iperf 3.16",
            "tcp_mss_default": mss,
            "test_start": {"protocol": "TCP", "num_streams": 1, "duration": len(series)},
        },
        "intervals": intervals,
        "end": {
            "sum_received": received,
            "sum_sent": received,
            "cpu_utilization_percent": {"host_total": 12.251, "remote_total": 96.72},
        },
    }
    return json.dumps(document, indent="\t")


def study() -> list[Record]:
    """The whole run: passed, failed, inconclusive, error, monitor, skipped; all put back."""
    made = Study()
    made.begin()
    for mode in ("Never", "VXLAN-Always", "IPIP-Always", "VXLAN-CrossSubnet", "IPIP-CrossSubnet"):
        pool = f"ippools/k8snet-{mode.lower()}"
        spec = {"cidr": "198.18.0.0/24", "vxlanMode": "Always", "ipipMode": "Never"}
        made.add(
            "change",
            what=f"created IPPool k8snet-{mode.lower()}",
            object=pool,
            state="applied",
            before=None,
            after=spec,
            seconds=0.4,
        )
    made.switch("making the run's own pools", "Never", lost=3, gap=0.62)
    _bandwidth(made)
    _latency(made)
    _plain(made)
    for mode in ("IPIP-CrossSubnet", "VXLAN-CrossSubnet", "IPIP-Always", "VXLAN-Always", "Never"):
        made.add(
            "change",
            what=f"deleted IPPool k8snet-{mode.lower()}",
            object=f"ippools/k8snet-{mode.lower()}",
            state="restored",
            before=None,
            after=None,
            seconds=0.2,
        )
    made.switch("putting everything back", None)
    made.facts("after")
    made.end()
    return made.records


def _bandwidth(made: Study) -> None:
    for mode, low, value, high, limit, state in (
        ("Never", 0.951, 0.965, 0.979, 0.90, "pass"),
        ("VXLAN-Always", 0.336, 0.344, 0.353, 0.90, "fail"),
        ("IPIP-Always", 0.409, 0.432, 0.456, 0.42, "inconclusive"),
    ):
        name = f"acceptance/test_study.py::test_overlay_gate[{mode}]"
        pairs = made.pairs(name, "pod-pod", mode, 12 if state == "inconclusive" else 4)
        word = state.upper()
        text = (
            f"{word}: pod-pod / node-node >= {limit:.2f}  (pool mode {mode}, node1 -> node2)\n"
            f"  ratio {value:.3f}, interval [{low:.3f}, {high:.3f}] (5 % risk each side), "
            f"{len(pairs)} pairs x 5 s, 0 discarded"
        )
        made.verdict(
            name,
            state,
            mode=mode,
            claim=f"pod-pod / node-node >= {limit:.2f}",
            estimate=value,
            low=low,
            high=high,
            limit=limit,
            n=len(pairs),
            samples=pairs,
            text=text,
            discarded=[{"cause": "retransmission storm on node2"}] if state == "pass" else [],
        )
        outcome = {"pass": "passed", "fail": "failed"}.get(state, state)
        made.test(name, outcome, "" if state == "pass" else f"assert {text}")


def _latency(made: Study) -> None:
    name = "acceptance/test_study.py::test_cluster_ip_gate"
    ids = [made.curl(name, "node-clusterip", requests=100) for _ in range(2)]
    made.verdict(
        name,
        "pass",
        claim="node -> ClusterIP: connect p95 <= 5 ms",
        quantity="connect p95",
        unit="s",
        scene="node-clusterip",
        baseline=None,
        relation="<=",
        limit=0.005,
        estimate=0.00121,
        low=0.00108,
        high=0.00142,
        n=200,
        samples=[ids],
        text="PASS: connect p95 <= 5 ms: 0 of 200 above",
    )
    made.test(name, "passed")
    name = "acceptance/test_study.py::test_dns_and_outside"
    for scene in ("pod-dns", "outside-loadbalancer"):
        made.curl(name, scene, failed=1 if scene == "pod-dns" else 0)
    made.verdict(
        name,
        "monitor",
        claim="pod -> service name: total p95 <= 10 ms",
        quantity="total p95",
        unit="s",
        scene="pod-dns",
        baseline=None,
        relation="<=",
        limit=0.010,
        estimate=0.0061,
        low=None,
        high=None,
        n=10,
        samples=[],
        text="monitor only: 10 requests decide nothing",
    )
    made.test(name, "passed")


def _plain(made: Study) -> None:
    name = "acceptance/test_study.py::test_mixed_pairs"
    for mode in ("Never", "VXLAN-Always", "IPIP-Always"):
        for _ in range(2):
            made.iperf3(name, "pod-node", mode)
    made.iperf3(name, "same-node", "Never", nodes=("node1", "node1"))
    made.test(name, "passed")
    name = "acceptance/test_study.py::test_cross_subnet_modes"
    for mode in ("VXLAN-CrossSubnet", "IPIP-CrossSubnet"):
        made.iperf3(name, "pod-pod", mode, path="missing")
    made.iperf3(
        name,
        "pod-pod",
        "IPIP-CrossSubnet",
        figures=None,
        series=None,
        path=None,
        error="iperf3 could not connect\n  found: connection refused\n  to do: check the policy",
    )
    made.test(name, "error", "Iperf3Error: iperf3 could not connect\n  found: connection refused")
    made.test(
        "acceptance/test_study.py::test_far[Never]",
        "skipped",
        "no two nodes lie in different subnets",
        "setup",
    )


def with_mesh() -> list[Record]:
    """A mesh of three nodes, one link of which is slow; every gate passed."""
    made = Study(11)
    made.begin()
    name = "acceptance/test_mesh.py::test_no_slow_link"
    nodes = ("master", "node1", "node2")
    for client in nodes:
        for server in nodes:
            if client != server:
                slow = (client, server) == ("node2", "master")
                made.iperf3(name, "node-node", None, nodes=(client, server))
                made.iperf3(
                    name, "pod-pod", "Never", nodes=(client, server), gbit=1.9 if slow else 2.75
                )
    made.test(name, "passed")
    made.end(exit_status=0, restored=None)
    return made.records


def with_baseline() -> list[Record]:
    """The study again after a change of kernel, compared with the run before it."""
    from pytest_k8snet.report.runs import Baseline

    earlier = study()
    records = study()
    later = Study(99)
    later.begin()
    later.records.pop()
    later.facts("before", kernel="6.12.1-amd64")
    content = Baseline("before.jsonl", earlier).to_record(later.records[-1])
    later.add(**content)
    _bandwidth(later)
    _latency(later)
    _plain(later)
    later.end(restored=None)
    assert len(records) == len(earlier)
    return later.records
