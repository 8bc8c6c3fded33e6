"""Takes one sample at a time: server up, client run, output parsed, path proved, record told."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from pytest_k8snet.calico.path import (
    Moment,
    PathEnd,
    PathProof,
    PathSnapshot,
    Transfer,
    WireFinding,
)
from pytest_k8snet.errors import ExecError, K8sNetError, ToolError
from pytest_k8snet.measure.endpoints import GRACE_SECONDS, Endpoint
from pytest_k8snet.tools import curl, iperf3, iperf3_errors, schedule

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.calico.session import CalicoSession
    from pytest_k8snet.cluster.exec import Completed
    from pytest_k8snet.cluster.nodes import Node
    from pytest_k8snet.measure.endpoints import Pair
    from pytest_k8snet.tools.iperf3 import Iperf3Result


#: Server ports lie below the NodePort range (30000-32767) and below Linux's ephemeral ports.
_PORTS = range(20000, 29999)
#: How often a server that finds its port in use is tried again on the next one.
_PORT_TRIES = 3

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Generic[Result]):
    """One parsed result and the record that was told of it."""

    result: Result
    record: Mapping[str, Any]


class Sampler:
    """Takes samples one after the other, and tells the observer of each.

    Between the start and the end of a sample nothing passes between this process and the cluster:
    the sample's own exec has begun, and tells its output when it ends.

    Attributes:
        prover: proves the path of a sample; None where there is no cluster.
        silence: keeps whatever else talks to the cluster from doing so for some seconds.
    """

    def __init__(self, observer: Observer, prover: Prover | None = None) -> None:
        self._observer = observer
        self.prover = prover
        self.silence: Callable[[float], AbstractContextManager[object]] = nullcontext
        first = random.randrange(len(_PORTS))
        self._ports: Iterator[int] = itertools.cycle([*_PORTS[first:], *_PORTS[:first]])

    def iperf3(
        self, pair: Pair, *, warmup: bool = False, **options: Any
    ) -> Sample[iperf3.Iperf3Result]:
        """Run iperf3 once between the two ends of a pair.

        Args:
            pair: between whom.
            warmup: record it as one that counts for no figure.
            options: the fields of :class:`pytest_k8snet.tools.iperf3.Iperf3Options`.

        Raises:
            Iperf3Error: no usable figure.
            PathError: the traffic did not take the path that the mode promises.
            ExecError: a command could not be run to its end.
        """
        with _during(f"starting the iperf3 server of {pair.label}", pair.server):
            port = self._start_server(pair)
        wanted = iperf3.Iperf3Options(server=pair.server.address, port=port, **options)
        seconds = wanted.seconds + wanted.omit_seconds
        context = {
            "tool": "iperf3",
            "label": pair.label,
            "scene": pair.scene,
            "placement": pair.placement,
            "mode": str(pair.mode) if pair.mode is not None else None,
            "client": pair.client.facts(),
            "server": pair.server.facts(),
            "url": None,
        }
        argv = iperf3.client_argv(wanted)
        watch = self.prover.watch(pair, self.probe) if self.prover is not None else None
        ends = (pair.client, pair.server)
        with self._telling(context, argv, f"iperf3 {pair.label}", seconds, ends):
            started, done = self._run(pair.client, argv, wanted.timeout_seconds)
            result = iperf3.parse(
                done.stdout, expected=wanted, stderr=done.stderr, exit_code=done.exit_code
            )
        proof = watch.judge(result) if watch is not None else None
        record = self._observer.record(
            "sample",
            **context,
            started=started,
            seconds=result.seconds,
            figures=result.figures(),
            series=result.series(),
            warmup=warmup,
            path=proof.to_record() if proof is not None else None,
            command=list(argv),
            raw=done.stdout,
            error=proof.text if proof is not None and proof.state == "contradicted" else None,
        )
        if proof is not None:
            with _during(f"iperf3 {pair.label}"):
                proof.require()
        return Sample(result=result, record=record)

    def probe(self, pair: Pair, listen: Callable[[int], None] | None = None) -> str | None:
        """Send TCP payload between the ends of a pair; returns what went wrong, or None.

        Args:
            pair: between whom.
            listen: called with the server's port before the first byte is sent.
        """
        said = f"TCP payload from {pair.client} to {pair.server}"
        try:
            port = self._start_server(pair)
        except (ToolError, ExecError) as exc:
            return f"{said}: {exc.problem}"
        if listen is not None:
            listen(port)
        try:
            argv = iperf3.probe_argv(pair.server.address, port)
            done = pair.client.run(argv)
            iperf3.parse(done.stdout, stderr=done.stderr, exit_code=done.exit_code)
        except (ToolError, ExecError) as exc:
            return f"{said}: {exc.problem}"
        return None

    def curl(self, client: Endpoint, url: str, **options: Any) -> Sample[curl.CurlSamples]:
        """Request a URL from an endpoint, several times in one exec.

        Raises:
            CurlError: no usable figure.
            ExecError: curl could not be run to its end.
        """
        wanted = curl.CurlOptions(url=url, **options)
        argv = curl.argv(wanted)
        context = _curl_context(client, url)
        with self._telling(context, argv, f"curl {client} -> {url}", 1.0, (client,)):
            started, done = self._run(client, argv, wanted.timeout_seconds)
            result = curl.parse(
                done.stdout,
                expected_requests=wanted.requests,
                stderr=done.stderr,
                exit_code=done.exit_code,
            )
        record = self._observer.record(
            "sample",
            **context,
            started=started,
            seconds=done.seconds,
            figures=result.figures(),
            distribution=result.distribution(),
            path=None,
            command=list(argv),
            raw=done.stdout,
            error=None,
        )
        return Sample(result=result, record=record)

    def scheduled(
        self, client: Endpoint, wanted: schedule.Schedule, *, warmup: bool = False
    ) -> Sample[schedule.ScheduledSamples]:
        """Request a URL on a fixed schedule, in one exec.

        Raises:
            CurlError: no usable figure.
            ExecError: the script could not be run to its end.
        """
        url = wanted.options.url
        argv = schedule.argv(wanted)
        context = _curl_context(client, url)
        seconds = wanted.due_seconds[-1]
        with self._telling(context, argv, f"curl {client} -> {url}", seconds, (client,)):
            started, done = self._run(client, argv, wanted.timeout_seconds)
            result = schedule.parse(
                done.stdout, wanted, stderr=done.stderr, exit_code=done.exit_code
            )
        made = result.samples()
        record = self._observer.record(
            "sample",
            **context,
            started=started,
            seconds=done.seconds,
            figures={
                **made.figures(),
                "missed": result.missed,
                "latest_start_seconds": float(result.latest),
            },
            distribution=made.distribution(),
            warmup=warmup,
            path=None,
            command=list(argv),
            raw=done.stdout,
            error=None,
        )
        return Sample(result=result, record=record)

    def _run(
        self, client: Endpoint, argv: Sequence[str], limit_seconds: float
    ) -> tuple[str, Completed]:
        """Run a sample's command in silence; when it began, and what became of it."""
        timeout_seconds = limit_seconds + GRACE_SECONDS
        with self.silence(timeout_seconds):
            return _now(), client.run(argv, timeout_seconds=timeout_seconds)

    def _start_server(self, pair: Pair) -> int:
        for attempt in range(1, _PORT_TRIES + 1):
            port = next(self._ports)
            done = pair.server.run(iperf3.server_argv(port), timeout_seconds=30.0)
            try:
                iperf3.check_server(done.stdout, done.stderr, done.exit_code, port=port)
            except iperf3_errors.PortInUse:
                if attempt == _PORT_TRIES:
                    raise
            else:
                return port
        raise AssertionError("unreachable")

    @contextmanager
    def _telling(
        self,
        context: dict[str, Any],
        argv: tuple[str, ...],
        text: str,
        seconds: float,
        endpoints: tuple[Endpoint, ...],
    ) -> Iterator[None]:
        """Show progress, and leave a record of a sample that gave an error instead of a figure."""
        self._observer.started(text, seconds)
        try:
            with _during(text, *endpoints):
                yield
        except K8sNetError as exc:
            self._observer.record(
                "sample", **context, started=_now(), command=list(argv), error=str(exc)
            )
            raise
        finally:
            self._observer.finished()


@contextmanager
def _during(text: str, *endpoints: Endpoint) -> Iterator[None]:
    """Let an error say what was being done when it arose.

    A tool only knows that its peer or its own process went away; where a pod did, that is said.
    """
    try:
        yield
    except K8sNetError as exc:
        error = exc
        if isinstance(exc, ToolError):
            troubles = (endpoint.trouble(exc.brief) for endpoint in endpoints)
            error = next(filter(None, troubles), exc)
        error.during = error.during or text
        if error is exc:
            raise
        raise error from exc


def _curl_context(client: Endpoint, url: str) -> dict[str, Any]:
    return {
        "tool": "curl",
        "label": f"{client} -> {url}",
        "scene": f"{client.kind}-{scene_of_url(url)}",
        "placement": "",
        "mode": str(client.mode) if client.mode is not None else None,
        "client": client.facts(),
        "server": None,
        "url": url,
    }


def scene_of_url(url: str) -> str:
    """Name what a URL leads to: a Service's way where it says so, else its host."""
    way = getattr(url, "way", None)
    return str(way) if way else url.split("://", 1)[-1].split("/", 1)[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- Watches the path of a sample: a snapshot before it, one after it, and the judgement on both
#
# With the wire proof there are captures as well: around every sample where routes prove nothing,
# else once for a pair in its mode. None of it happens during a sample.

#: Sends payload between the ends of a pair; see ``Sampler.probe``.
Probe: TypeAlias = Callable[["Pair", Callable[[int], None]], "str | None"]


@dataclass(frozen=True, slots=True)
class Prover:
    """Proves the paths of pairs within one Calico session.

    Attributes:
        wire: whether captures belong to the proof.
    """

    session: CalicoSession
    nodes: Mapping[str, Node]
    wire: bool = False
    #: Pairs whose wire has been looked at in their mode.
    _seen: dict[tuple[CalicoMode | None, str, str], WireFinding] = field(default_factory=dict)

    def end(self, endpoint: Endpoint) -> PathEnd:
        """One end of a path as the proof sees it."""
        return PathEnd(
            kind="pod" if endpoint.kind == "pod" else "node",
            name=endpoint.name,
            node=self.nodes[endpoint.node],
            address=endpoint.address,
        )

    def watch(self, pair: Pair, probe: Probe) -> Watch:
        """Take the snapshot before a sample, and look at the wire where that is due.

        Args:
            pair: whom to watch.
            probe: sends payload that may be captured.
        """
        before = self.session.snapshot(self.end(pair.client), self.end(pair.server))
        wire: dict[Moment, WireFinding] = {}
        if self.wire and self.session.installation.routes_prove:
            wire["once"] = self._once(pair, before, probe)
        elif self.wire:
            wire["before"] = self._look(pair, before, probe)
        return Watch(self, pair, before, wire, probe)

    def _once(self, pair: Pair, snapshot: PathSnapshot, probe: Probe) -> WireFinding:
        key = (pair.mode, pair.client.name, pair.server.name)
        found = self._seen.get(key)
        if found is None or found.trouble() is not None:
            found = self._seen[key] = self._look(pair, snapshot, probe)
        return found

    def _look(self, pair: Pair, snapshot: PathSnapshot, probe: Probe) -> WireFinding:
        return self.session.watch_wire(snapshot, partial(probe, pair))

    def payload_trouble(self, pair: Pair, probe: Probe) -> str | None:
        """What keeps payload from its way between the ends of a pair, or None.

        Where routes prove nothing, the way of the payload is looked at on the wire.
        """
        if not self.wire or self.session.installation.routes_prove:
            return probe(pair, lambda port: None)
        snapshot = self.session.snapshot(self.end(pair.client), self.end(pair.server))
        return self._look(pair, snapshot, probe).trouble()


@dataclass(frozen=True, slots=True)
class Watch:
    """One sample's snapshot from before it, waiting for its end."""

    prover: Prover
    pair: Pair
    before: PathSnapshot
    wire: dict[Moment, WireFinding]
    probe: Probe

    def judge(self, result: Iperf3Result) -> PathProof:
        """Take the snapshot after the sample, and judge which path its bytes took."""
        session = self.prover.session
        after = session.snapshot(self.before.client, self.before.server)
        wire = dict(self.wire)
        if "before" in wire:
            wire["after"] = session.watch_wire(after, partial(self.probe, self.pair))
        transfer = Transfer(
            to_server_bytes=result.to_server_bytes,
            to_client_bytes=result.to_client_bytes,
            mss_bytes=result.mss_bytes,
        )
        return session.prove(self.pair.mode, self.before, after, transfer, wire)


# -- Whom the measuring tells what it does: the report's side of the wire, seen from below --------


class Observer(Protocol):
    """Receives records and progress. Called between samples only, never during one."""

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        """Keep one record; returns it completed (schema, run, time, test, id)."""
        ...

    def started(self, text: str, seconds: float) -> None:
        """Something that takes about this long begins."""
        ...

    def finished(self) -> None:
        """It has ended, whatever the outcome."""
        ...
