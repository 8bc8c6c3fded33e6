"""A shell whose tools are recordings: what gates make of samples, whatever this machine does.

That real tools print what the recordings have is ``tests/unit/tools/test_tools_live.py``'s, and
that gates run them is ``tests/e2e``'s.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_k8snet.cluster.exec import Completed

DATA = Path(__file__).parents[2] / "data"
#: What samples of one path differ by.
SPREAD = (1.0, 0.98, 1.01, 0.99, 1.02)
IDLE = "cpu  0 0 0 0 0 0 0 0 0 0\ncpu  0 0 0 9 0 0 0 0 0 0\n"
#: A second of TCP as fast as it goes, where no bit rate was asked for.
UNLIMITED_BITS_PER_SECOND = 1e9


@dataclass(frozen=True, kw_only=True)
class RecordedTools:
    """A shell in which iperf3, curl and ping print what they were recorded to print.

    Attributes:
        segment_bytes: the MSS that iperf3 tells of; None leaves the recorded one.
        stats: what ``/proc/stat`` tells first; later, and by default, the CPU is idle.
        answered: whether the ping of this number is answered.
        connect_seconds: what curl tells as the connection time of the request of this number.
    """

    segment_bytes: int | None = None
    stats: list[str] = field(default_factory=list)
    answered: Callable[[int], bool] = lambda number: True
    connect_seconds: Callable[[int], float] = lambda number: 0.000124
    _spread: Iterator[float] = field(default_factory=lambda: itertools.cycle(SPREAD))

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        words = list(argv)
        if "/proc/stat" in words:
            said = self.stats.pop(0) if self.stats else IDLE
        elif "k8snet-schedule" in words:
            said = self._schedule(words)
        elif "curl" in words:
            said = self._curl(words)
        elif "ping" in words:
            said = self._ping(words)
        elif "-c" in words and "iperf3" in words:
            said = self._iperf3(words)
        else:
            assert "iperf3-server" in words, words
            said = ""
        return Completed(argv=tuple(argv), exit_code=0, stdout=said, stderr="", seconds=1.0)

    def _iperf3(self, words: list[str]) -> str:
        kind = "udp" if "-u" in words else "tcp"
        kind += "-reverse" if "-R" in words else "-bidir" if "--bidir" in words else ""
        told = json.loads((DATA / f"iperf3/3.12-{kind}.json").read_text(encoding="utf-8"))
        told["start"]["test_start"]["duration"] = int(words[words.index("-t") + 1])
        rate = float(words[words.index("-b") + 1]) if "-b" in words else UNLIMITED_BITS_PER_SECOND
        rate *= next(self._spread)
        for name, total in told["end"].items():
            if name.startswith("sum"):
                total["bytes"] = int(rate * total["seconds"] / 8)
                total["bits_per_second"] = rate
        if self.segment_bytes is not None:
            told["start"]["tcp_mss_default"] = self.segment_bytes
        return json.dumps(told)

    def _curl(self, words: list[str]) -> str:
        url, _, numbers = words[-1].rpartition("#[1-")
        spread, requests = next(self._spread), int(numbers.removesuffix("]"))
        lines = []
        for number in range(requests):
            row = _request(url, self.connect_seconds(number + 1))
            row |= {"time_total": row["time_total"] / spread, "urlnum": number}
            lines.append(json.dumps(row))
        return "\n".join(lines) + "\n"

    def _schedule(self, words: list[str]) -> str:
        due = words[words.index("k8snet-schedule") + 1].split(" ")
        names = words[words.index("-w") + 1].replace("%{", "").replace("}", "").split(" ")
        lines = []
        for number in range(1, len(due) + 1):
            row = _request(words[-1], self.connect_seconds(number))
            told = [f"{row[name]:.6f}" if "time" in name else str(row[name]) for name in names]
            lines.append(" ".join([str(number), "0", "0", *told]))
        return "\n".join(lines) + "\n"

    def _ping(self, words: list[str]) -> str:
        recorded = (DATA / "ping/iputils-20221126-ok.txt").read_text(encoding="utf-8")
        head, answer = recorded.splitlines()[:2]
        sent = int(words[words.index("-c") + 1])
        numbers = [number for number in range(1, sent + 1) if self.answered(number)]
        lines = [answer.replace("icmp_seq=1", f"icmp_seq={number}") for number in numbers]
        summary = recorded[recorded.index("\n---") :]
        summary = summary.replace("5 packets transmitted, 5", f"{sent} packets transmitted, 5")
        summary = summary.replace("5 received", f"{len(numbers)} received")
        return "\n".join([head, *lines, summary])


def _request(url: str, connect_seconds: float) -> dict[str, Any]:
    """Return what curl was recorded to tell of a request that was answered, or by an HTTP 503."""
    kind = "503" if url.endswith("/busy") else "ok"
    text = (DATA / f"curl/7.88-{kind}.txt").read_text(encoding="utf-8")
    row: dict[str, Any] = json.loads(text)
    return row | {"url": url, "time_connect": connect_seconds}
