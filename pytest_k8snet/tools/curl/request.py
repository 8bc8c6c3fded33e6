"""One request that curl made: its phases, its outcome, its connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_k8snet.tools.curl.errors import EXIT_MEANINGS
from pytest_k8snet.units import Seconds

#: curl's "Operation timed out": in the connection attempt or later, told by num_connects.
_TIMED_OUT = 28


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CurlRequest:
    """One request.

    The times are curl's: **cumulative**, from the request's start. They mean something only where
    the request succeeded; of a failed one only ``total`` does, the time until it failed.
    ``dns``, ``tcp``, ``tls``, ``ttfb`` and ``body`` are the parts.

    Attributes:
        namelookup: until the name was resolved.
        connect: until the TCP connection stood.
        appconnect: until the TLS handshake was done; None without TLS.
        pretransfer: until the request was ready to be sent.
        starttransfer: until the first byte of the answer.
        total: until the end.
        http_code: 0 where there was no answer.
        exit_code: curl's for this request; None where an old version did not tell.
        error: curl's message, empty where there is none.
        succeeded: curl was content and the status was an accepted one.
        num_connects: 0 means that an older connection was used again, or none was made.
        remote_ip: empty where no connection was made.
        size_bytes: of the answer's body.
    """

    namelookup: Seconds
    connect: Seconds
    appconnect: Seconds | None = None
    pretransfer: Seconds
    starttransfer: Seconds
    total: Seconds
    http_code: int
    exit_code: int | None
    error: str = ""
    succeeded: bool
    num_connects: int
    remote_ip: str = ""
    remote_port: int | None = None
    local_port: int | None = None
    size_bytes: int = 0
    url: str = ""

    @property
    def fresh(self) -> bool:
        """Whether it made a connection of its own, so that its connection time is one."""
        return self.num_connects > 0

    @property
    def dns(self) -> Seconds:
        """The name lookup."""
        return self.namelookup

    @property
    def tcp(self) -> Seconds:
        """The TCP handshake."""
        return _part(self.namelookup, self.connect)

    @property
    def tls(self) -> Seconds | None:
        """The TLS handshake; None without TLS."""
        return None if self.appconnect is None else _part(self.connect, self.appconnect)

    @property
    def ttfb(self) -> Seconds:
        """From the request being ready to the first byte of the answer: network and server."""
        return _part(self.pretransfer, self.starttransfer)

    @property
    def body(self) -> Seconds:
        """From the first byte of the answer to its last."""
        return _part(self.starttransfer, self.total)

    @property
    def failure(self) -> str | None:
        """Why it failed, in a few words fit for counting; None where it succeeded."""
        if self.succeeded:
            return None
        if self.exit_code == _TIMED_OUT:
            return "timed out" if self.num_connects else "timed out while connecting"
        if self.exit_code == 22 or (not self.exit_code and self.http_code):
            return f"HTTP {self.http_code}"
        if self.exit_code:
            return EXIT_MEANINGS.get(self.exit_code, f"curl exit status {self.exit_code}")
        return "no HTTP answer"

    def __repr__(self) -> str:
        return f"<{self.failure or f'HTTP {self.http_code}'} after {self.total}>"


class FailedRequests(list[CurlRequest]):
    """The requests of a series that failed; printed as their reasons, counted.

    ``assert not samples.failed`` then says why it does not hold.

    Args:
        failed: the failed requests.
        asked: how many requests there were in all.
    """

    def __init__(self, failed: Iterable[CurlRequest], asked: int) -> None:
        super().__init__(failed)
        self.asked = asked

    @property
    def counts(self) -> dict[str, int]:
        """How many requests failed for which reason, the most frequent first."""
        counts = Counter(request.failure for request in self)
        return {str(reason): count for reason, count in counts.most_common()}

    @property
    def reasons(self) -> str:
        """The counted reasons, and curl's first message."""
        counted = ", ".join(f"{count} x {reason}" for reason, count in self.counts.items())
        said = next((one.error for one in self if one.error), "")
        return counted + (f"; first message: {said}" if said else "")

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.asked} requests{f': {self.reasons}' if self else ''}>"


def _part(start: Seconds, end: Seconds) -> Seconds:
    # Two of curl's clocks may round apart by a microsecond.
    return max(Seconds(0), end - start)
