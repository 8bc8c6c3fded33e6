"""ping: ICMP echo requests at a fixed interval, their round-trip times, and how many were lost.

The pings of iputils, busybox and GNU inetutils are understood. Requests are sent when they are due,
whatever became of those before, so a stall is seen in full. Pure: command line out, figures in.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypedDict

from pytest_k8snet.errors import ToolError, quote
from pytest_k8snet.tools.tool import (
    Check,
    Column,
    Distribution,
    Kind,
    Measured,
    Output,
    Payload,
    Tool,
    kind_of,
    printable,
    start_failure,
    under_timeout,
    words_of,
)
from pytest_k8snet.units import Ratio, Seconds

#: The payload of an echo request where nobody says otherwise: what every ping takes by itself.
_SIZE_BYTES = 56
#: Options of the command line that a value follows.
_VALUED = frozenset({"-c", "-i", "-s", "-W"})
_check = Check("ping")

# ruff: noqa: N818 -- the base class carries the word Error, and the module name says whose they are


class PingError(ToolError):
    """ping gave no usable figure."""


class NotPermitted(PingError):
    """ping may open no socket for ICMP where it ran."""


class Unreachable(PingError):
    """The kernel has no way to the address, or it cannot be resolved."""


class BadOption(PingError):
    """This ping does not know or accept an option."""


class CutOff(PingError):
    """ping was stopped before it came to its statistics."""


class Garbage(PingError):
    """The output is not what ping prints."""


class AllLost(PingError):
    """A round-trip time was asked for, and no request was answered."""


class EchoKeywords(TypedDict, total=False):
    """What makes one request what it is, as :class:`PingOptions` explains it."""

    size_bytes: int
    wait_seconds: int


class PingKeywords(EchoKeywords, total=False):
    """The options of ``pair.ping``, as :class:`PingOptions` explains them."""

    count: int
    interval_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PingOptions:
    """One run of ping.

    Attributes:
        address: the IP address to ping.
        count: how many echo requests.
        interval_seconds: from one to the next; without root, iputils allows 0.002 and more (0.2
            before 2021), inetutils 0.2 and more.
        size_bytes: payload of each, without the ICMP header of 8 bytes; more than the path MTU
            leaves goes in fragments.
        wait_seconds: how long the last requests may take to be answered.

    Raises:
        SettingsError: a value that ping cannot take.
    """

    address: str
    count: int = 20
    interval_seconds: float = 0.2
    size_bytes: int = _SIZE_BYTES
    wait_seconds: int = 2

    def __post_init__(self) -> None:
        _check(
            re.fullmatch(r"[0-9A-Fa-f:][0-9A-Fa-f:.%a-z]*", self.address),
            f"no IP address: {self.address!r}",
            "write e.g. 10.244.1.3",
        )
        # Sequence numbers have 16 bits. Below 16 bytes, ping has no room for its clock.
        _check.whole("count", self.count, 1, 10_000)
        _check.whole("size_bytes", self.size_bytes, 16, 65_507)
        _check.whole("wait_seconds", self.wait_seconds, 1, 60)
        _check.within("interval_seconds", self.interval_seconds, 0.002, 60)

    @property
    def sending_seconds(self) -> float:
        """From the first request to the last."""
        return (self.count - 1) * self.interval_seconds


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PingResult:
    """What a run of ping measured.

    Attributes:
        sent: echo requests.
        answered: round-trip time of each answered request, by its number from 0; the first
            answer counts where there are several.
        duplicates: answers beyond the first of a request.
        errors: what was said of requests that failed: ICMP errors on the way, and the kernel's
            own; empty where they were lost without a word.
        size_bytes: payload of each request.
        raw: what ping printed.
        command: the exact command.
    """

    sent: int
    answered: Mapping[int, Seconds]
    duplicates: int = 0
    errors: tuple[str, ...] = ()
    size_bytes: int
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def received(self) -> int:
        """Requests that were answered."""
        return len(self.answered)

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return self.sent - self.received

    @property
    def lost_ratio(self) -> Ratio:
        """Requests without an answer, of those sent."""
        return Ratio(self.lost / self.sent)

    @property
    def rtt(self) -> Distribution:
        """Round-trip times of the answered requests; lost ones are in no statistic of it."""
        return Distribution(
            name="rtt", values=tuple(self.answered.values()), why_empty=self._all_lost
        )

    def values(self) -> list[float]:
        """Return the round-trip time of each request in seconds, infinite where it was lost."""
        return [float(self.answered.get(number, math.inf)) for number in range(self.sent)]

    def figures(self) -> dict[str, float]:
        """Return counts and statistics under names with their units, as plain numbers."""
        counts = {"sent": self.sent, "lost": self.lost, "duplicates": self.duplicates}
        statistics = self.rtt.figures() if self.answered else {}
        return {**counts, "lost_ratio": float(self.lost_ratio), **statistics}

    def _all_lost(self, name: str) -> ToolError:
        return AllLost(
            f"there is no {name}: not one of {self.sent} pings was answered",
            found=self._said() or "no ICMP error either",
            remedy="check NetworkPolicies and firewalls for ICMP echo, and whether "
            f"{self.size_bytes} bytes fit the path MTU",
        )

    def _said(self) -> str:
        return ", ".join(f"{count} x {text}" for text, count in Counter(self.errors).most_common())

    def __repr__(self) -> str:
        said = f", {said}" if (said := self._said()) else ""
        rtt = f", {self.rtt!r}" if self.answered else ""
        return f"PingResult({self.sent} sent, {self.lost} lost{said}{rtt})"


class Ping(Tool[PingOptions, PingResult]):
    """ping from one end of a pair to the other."""

    name = "ping"
    title = "Round-trip times by ping in ms"
    columns = (
        Column(heading="sent", source="sent", statistic="sum", unit="count"),
        Column(heading="lost", source="lost", statistic="sum", unit="count"),
        Column(heading="mean", source="rtt_seconds", statistic="mean", unit="seconds"),
        Column(heading="median", source="rtt_seconds", statistic="median", unit="seconds"),
        Column(heading="p95", source="rtt_seconds", statistic="p95", unit="seconds"),
        Column(heading="p99", source="rtt_seconds", statistic="p99", unit="seconds"),
    )
    curves = MappingProxyType({"rtt_seconds": "rtt"})

    def argv(self, options: PingOptions) -> tuple[str, ...]:
        """Return the command line; iputils and busybox take the same one."""
        words = ["ping", "-c", str(options.count), "-i", f"{options.interval_seconds:g}"]
        words += ["-s", str(options.size_bytes), "-W", str(options.wait_seconds), options.address]
        return under_timeout(self.limit_seconds(options), *words)

    def variant(self, command: Sequence[str]) -> str:
        """Return the size of the payload, where it is not the usual one."""
        size = words_of(command, self.name, _VALUED).value("-s")
        return f"{size} bytes" if size not in (None, str(_SIZE_BYTES)) else ""

    def usual_seconds(self, options: PingOptions) -> float:
        """Return the time from the first request to the last."""
        return options.sending_seconds

    def limit_seconds(self, options: PingOptions) -> float:
        """Return the time in which the last answer has come or is given up."""
        return options.sending_seconds + options.wait_seconds + 10.0

    def parse(self, output: Output, options: PingOptions) -> PingResult:
        """Read one line per answer, and the statistics.

        A run in which no request was answered is a result, with a loss of 100 %.

        Raises:
            PingError: ping sent nothing, or did not come to its end; the subclass says why.
            ToolMissingError: there is no ping; ToolNotRunnableError: it may not be run.
        """
        failure = start_failure("ping", output.stderr, output.exit_code)
        if failure is not None:
            raise failure
        statistics = _STATISTICS.search(output.stdout)
        if statistics is None:
            raise _no_statistics(output)
        sent = int(statistics["sent"])
        answered: dict[int, Seconds] = {}
        first = 0 if _COUNTS_FROM_0.search(output.stdout) else 1
        for match in _ANSWER.finditer(output.stdout):
            number = int(match["number"]) - first
            if 0 <= number < sent:
                answered.setdefault(number, Seconds(float(match["ms"]) / 1000))
        if sent == 0 or int(statistics["received"]) != len(answered):
            raise Garbage(
                "ping's output contradicts itself",
                found=f"{len(answered)} answers; {statistics[0]}",
                remedy="check that this is the unchanged output of ping, without -q",
            )
        return PingResult(
            sent=sent,
            answered=MappingProxyType(dict(sorted(answered.items()))),
            duplicates=int(statistics["duplicates"] or 0),
            errors=tuple(_ICMP_ERROR.findall(output.stdout) + _OWN_ERROR.findall(output.stderr)),
            size_bytes=options.size_bytes,
            raw=output.stdout,
            command=self.argv(options),
        )

    def measured(self, result: PingResult) -> Measured:
        """Return counts and statistics, and every round-trip time."""
        return Measured(figures=result.figures(), distribution=result.rtt.distribution())

    def payload(self, result: PingResult) -> Payload:
        """Return what was echoed: an answer carries back what its request brought."""
        echoed = result.received * result.size_bytes
        return Payload(to_server_bytes=echoed, to_client_bytes=echoed)


_STATISTICS = re.compile(
    r"(?P<sent>\d+) packets transmitted, (?P<received>\d+)(?: packets)? received"
    r"(?:, \+?(?P<duplicates>\d+) duplicates)?",
    re.ASCII,
)
#: The heading of busybox and inetutils; iputils has no colon.
_COUNTS_FROM_0 = re.compile(r"^PING .*\): \d+ data bytes", re.MULTILINE | re.ASCII)
_ANSWER = re.compile(
    r"^\d+ bytes from .+? (?:icmp_)?seq=(?P<number>\d+) .*\btime=(?P<ms>\d+(?:\.\d+)?) ms",
    re.MULTILINE | re.ASCII,
)
_ICMP_ERROR = re.compile(r"^From .+? icmp_seq=\d+ (.+)$", re.MULTILINE | re.ASCII)
_OWN_ERROR = re.compile(r"^ping: (local error: .+|send\w*: .+)$", re.MULTILINE)


_KINDS = (
    Kind(
        r"socket.*(?:not permitted|denied)|are you root|cap_net_raw|Lacking privilege",
        NotPermitted,
        "ping may open no socket for ICMP where it ran",
        "let the pod's group send pings by its securityContext: sysctls "
        'net.ipv4.ping_group_range = "0 65535", which is a safe sysctl; on a node, for '
        'host-network pods: sysctl -w net.ipv4.ping_group_range="0 2147483647"; or add the '
        "capability NET_RAW (busybox and inetutils take nothing else)",
    ),
    Kind(
        r"^ping: (?:invalid|unrecognized|cannot flood|option value)",
        BadOption,
        "ping does not accept an option",
        "check it against `ping --help` where it runs; inetutils, and iputils before 2021, allow "
        "an interval below 0.2 s to root alone",
    ),
    Kind(
        r"unreachable|No route to host|resolution|not known|bad address|unknown host",
        Unreachable,
        "ping has no way to the address",
        "check the address and the routes on the client's side",
    ),
)


def _no_statistics(output: Output) -> ToolError:
    said = printable(output.stderr.strip())
    if (kind := kind_of(said, _KINDS)) is not None:
        return kind.made(quote(said, 300))
    if output.killed:
        return CutOff(
            "ping was stopped before its end",
            found=f"exit status {output.exit_code}; {quote(output.stdout[-200:], 200)}",
            remedy="look for what ended it: an eviction, or a node without CPU time",
        )
    return Garbage(
        "ping's output has no statistics",
        found=said or quote(printable(output.stdout), 300) or f"exit status {output.exit_code}",
        remedy="check that the image's ping is that of iputils, busybox or inetutils",
    )
