"""What a series of requests measured: distributions of the good ones, a count of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pytest_k8snet.errors import CurlError
from pytest_k8snet.tools.curl.distribution import Distribution
from pytest_k8snet.tools.curl.errors import AllFailed, NoValue, RequestsFailed
from pytest_k8snet.tools.curl.request import CurlRequest, FailedRequests
from pytest_k8snet.units import Ratio

#: What a record gets of each phase.
_STATISTICS = ("mean", "median", "p90", "p95", "p99", "minimum", "maximum")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CurlSamples:
    """All requests of one curl process, in order.

    The distributions hold the successful requests that made a connection of their own, in
    seconds, under the names that :class:`CurlRequest` explains: ``namelookup``, ``connect``,
    ``appconnect``, ``pretransfer``, ``starttransfer`` and ``total`` are curl's cumulative
    times, ``dns``, ``tcp``, ``tls``, ``ttfb`` and ``body`` the parts. Failed requests are in
    none of them, and never dropped: see ``failed`` and ``failure_ratio``.

    Attributes:
        requests: each one, failed ones included.
        version: of curl, e.g. ``7.88.1``; empty where it did not say.
        raw: what curl printed.
        command: the exact command, where it is known.
    """

    requests: tuple[CurlRequest, ...]
    version: str = ""
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def succeeded(self) -> list[CurlRequest]:
        """The successful requests."""
        return [request for request in self.requests if request.succeeded]

    @property
    def failed(self) -> FailedRequests:
        """The requests that failed; empty, and so false, when all is well."""
        failed = (request for request in self.requests if not request.succeeded)
        return FailedRequests(failed, len(self.requests))

    @property
    def failure_ratio(self) -> Ratio:
        """Failed requests of all requests."""
        return Ratio(len(self.failed) / len(self.requests))

    @property
    def failure_counts(self) -> dict[str, int]:
        """How many requests failed for which reason, the most frequent first."""
        return self.failed.counts

    @property
    def namelookup(self) -> Distribution:
        """Until the name was resolved."""
        return self._over("namelookup")

    @property
    def connect(self) -> Distribution:
        """Until the TCP connection stood, name lookup included."""
        return self._over("connect")

    @property
    def appconnect(self) -> Distribution:
        """Until the TLS handshake was done; has no values without TLS."""
        return self._over("appconnect")

    @property
    def pretransfer(self) -> Distribution:
        """Until the request was ready to be sent."""
        return self._over("pretransfer")

    @property
    def starttransfer(self) -> Distribution:
        """Until the first byte of the answer."""
        return self._over("starttransfer")

    @property
    def total(self) -> Distribution:
        """Until the end of the answer."""
        return self._over("total")

    @property
    def dns(self) -> Distribution:
        """The name lookup alone."""
        return self._over("dns")

    @property
    def tcp(self) -> Distribution:
        """The TCP handshake alone: one round trip."""
        return self._over("tcp")

    @property
    def tls(self) -> Distribution:
        """The TLS handshake alone; has no values without TLS."""
        return self._over("tls")

    @property
    def ttfb(self) -> Distribution:
        """From the request being ready to the first byte of the answer."""
        return self._over("ttfb")

    @property
    def body(self) -> Distribution:
        """From the first byte of the answer to its last."""
        return self._over("body")

    def raise_for_failures(self) -> None:
        """Insist that every request succeeded.

        Raises:
            RequestsFailed: names the reasons with their counts (AllFailed: not one succeeded).
        """
        if self.failed:
            raise self._failures(
                f"{len(self.failed)} of {len(self.requests)} requests failed",
            )

    def figures(self) -> dict[str, float]:
        """Counts and statistics under names with their units, as plain numbers for a record."""
        figures: dict[str, float] = {
            "requests": len(self.requests),
            "failed": len(self.failed),
            "failure_ratio": float(self.failure_ratio),
        }
        for phase in self._recorded():
            for statistic in _STATISTICS:
                figures[f"{phase.name}_{statistic}_seconds"] = float(getattr(phase, statistic))
        return figures

    def distribution(self) -> dict[str, list[float]]:
        """The values of each phase as plain lists of seconds, for a record."""
        return {
            f"{phase.name}_seconds": [float(one) for one in phase] for phase in self._recorded()
        }

    def _recorded(self) -> Iterator[Distribution]:
        phases = (self.namelookup, self.connect, self.appconnect, self.starttransfer, self.total)
        return (phase for phase in phases if len(phase))

    def _over(self, name: str) -> Distribution:
        counted = (one for one in self.requests if one.succeeded and one.fresh)
        values = (getattr(one, name) for one in counted)
        return Distribution(
            name=name,
            values=tuple(value for value in values if value is not None),
            why_empty=self._why_empty,
        )

    def _why_empty(self, name: str) -> CurlError:
        if not self.succeeded:
            return self._failures(
                f"there is no {name} time: {len(self.failed)} of {len(self.requests)} "
                "requests failed"
            )
        if not any(request.fresh for request in self.succeeded):
            return NoValue(
                f"there is no {name} time: no request made a connection of its own",
                found=f"{len(self.succeeded)} successful requests with num_connects 0",
                remedy="send Connection: close over HTTP/1.1, as argv() does",
            )
        return NoValue(
            f"there is no {name} time: the URL is not https",
            remedy="use connect or tcp for the TCP handshake",
        )

    def _failures(self, problem: str) -> RequestsFailed:
        kind = RequestsFailed if self.succeeded else AllFailed
        # The fragment is how one curl is made to send many requests.
        url = self.failed[0].url.partition("#")[0] or "the URL"
        return kind(
            problem,
            found=self.failed.reasons,
            remedy=f"request {url} by hand from the same place; "
            "check the service's endpoints, DNS and NetworkPolicies",
        )

    def __repr__(self) -> str:
        if self.failed:
            return f"CurlSamples({len(self.requests)} requests, failed: {self.failure_counts})"
        return f"CurlSamples({len(self.requests)} requests, {self.total!r})"
