"""Takes samples one at a time: server up, client run, output parsed, path proved, all recorded."""

from __future__ import annotations

import itertools
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Generic, Protocol, TypeAlias

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import Moment, PathEnd, PathProof, PathSnapshot, WireFinding
from pytest_k8snet.causes import FABRIC, Evidence
from pytest_k8snet.change.session import CalicoSession
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.nodes import Node
from pytest_k8snet.errors import ClusterError, ExecError, ExecTimeoutError, K8sNetError, ToolError
from pytest_k8snet.measure.answering import await_answers
from pytest_k8snet.measure.endpoints import GRACE_SECONDS, Endpoint, Pair, Sample, UrlPair
from pytest_k8snet.tools.iperf3 import Iperf3, probe_argv
from pytest_k8snet.tools.iperf3 import parse as parse_iperf3
from pytest_k8snet.tools.iperf3_errors import Interrupted, NoData, TimedOut
from pytest_k8snet.tools.tool import (
    Options,
    Output,
    Payload,
    PortInUse,
    Result,
    ServedTool,
    Tool,
)

#: Server ports lie below the NodePort range (30000-32767) and below Linux's ephemeral ports.
_PORTS = range(20000, 29999)
#: How often a server that finds its port in use is tried again on the next one.
_PORT_TRIES = 3


class Observer(Protocol):
    """Receives records and progress events: between samples only, never during one."""

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        """Keep one record; returns it completed (schema, run, time, test, id)."""
        ...

    def hide(self, kind: str, *names: str) -> None:
        """Keep these names (of a kind such as ``node``) out of records, where that is wanted."""
        ...

    def started(self, text: str, seconds: float) -> None:
        """Show that something has begun that takes about this long."""
        ...

    def finished(self) -> None:
        """Show that it has ended, whatever the outcome."""
        ...


class Sampler:
    """Takes samples one after the other, and records each with the observer.

    Between the start and the end of a sample nothing passes between this process and the cluster:
    the sample's own exec has begun, and hands over its output when it ends.

    Attributes:
        prover: proves the path of a sample; None where there is no cluster.
        quiet_period: keeps whatever else talks to the cluster from doing so for some seconds.
        suspects: names what may keep packets of a client, the first of these endpoints, from the
            others or from a URL; empty if nothing is known.
    """

    def __init__(self, observer: Observer, prover: PathProver | None = None) -> None:
        self._observer = observer
        self.prover = prover
        self.quiet_period: Callable[[float], AbstractContextManager[object]] = nullcontext
        self.suspects: Callable[[Sequence[Endpoint], str], str] = lambda endpoints, url: ""
        first = random.randrange(len(_PORTS))
        #: Clients and URLs of Services that have answered them.
        self._answering: set[tuple[str, str, str]] = set()
        self._ports: Iterator[int] = itertools.cycle([*_PORTS[first:], *_PORTS[:first]])

    def sample(
        self,
        tool: Tool[Options, Result],
        pair: Pair | UrlPair,
        options: Options,
        *,
        warmup: bool = False,
    ) -> Sample[Result]:
        """Run a tool once: start its server if it has one, parse, prove the path, and record.

        Args:
            tool: what measures.
            pair: between whom.
            options: of the tool; the port of its server is chosen here.
            warmup: record it as one that counts for no figure.

        Raises:
            ToolError: no usable figure.
            PathError: the traffic did not take the path that the mode promises.
            ExecError: a command could not be run to its end.
        """
        (taken,) = self.at_once(tool, [(pair, options)], warmup=warmup)
        return taken

    def at_once(
        self,
        tool: Tool[Options, Result],
        tests: Sequence[tuple[Pair | UrlPair, Options]],
        *,
        warmup: bool = False,
    ) -> list[Sample[Result]]:
        """Run a tool between several pairs at once, as :meth:`sample` does between one.

        Everything that has to be there is started before the first client is, and looked at after
        the last one has ended. Each sample is recorded as one that was not alone.

        Args:
            tool: what measures.
            tests: each pair, with its options.
            warmup: record them as ones that count for no figure.

        Raises:
            ToolError, PathError, ExecError: as of one sample; of the first that has failed.
        """
        scenes = [pair.scene for pair, _ in tests] if len(tests) > 1 else []
        begun = [self._begin(tool, pair, options, scenes, warmup) for pair, options in tests]
        text = " and ".join(test.text for test in begun)
        self._observer.started(text, max(tool.usual_seconds(test.options) for test in begun))
        limit = max(tool.limit_seconds(test.options) for test in begun) + GRACE_SECONDS
        try:
            with self.quiet_period(limit):
                if len(begun) == 1:
                    ran = [begun[0].run(limit)]
                else:
                    with ThreadPoolExecutor(max_workers=len(begun)) as pool:
                        ran = list(pool.map(lambda test: test.run(limit), begun))
        finally:
            self._observer.finished()
        samples, errors = [], []
        for test, one in zip(begun, ran, strict=True):
            try:
                samples.append(self._end(tool, test, one))
            except K8sNetError as exc:
                errors.append(exc)
        if errors:
            raise errors[0]
        return samples

    def _begin(
        self,
        tool: Tool[Options, Any],
        pair: Pair | UrlPair,
        options: Options,
        at_once: Sequence[str],
        warmup: bool,
    ) -> _Test[Options]:
        """Start what has to be there before the client, and look at the path."""
        watch: PathWatch | None = None
        if isinstance(pair, UrlPair):
            self._await_answers(pair)
        elif isinstance(tool, ServedTool):
            with _during(f"starting the {tool.name} server of {pair.label}", pair.server):
                options = tool.at_port(options, self._start_server(tool, pair.server))
        between = pair if isinstance(pair, Pair) else pair.behind
        if self.prover is not None and between is not None:
            watch = self.prover.watch(between, self.probe)
        argv = tool.argv(options)
        about = {"tool": tool.name, **pair.facts(), "command": list(argv), "warmup": warmup}
        if at_once:
            about["at_once"] = list(at_once)
        return _Test(
            text=f"{tool.name} {pair.label}",
            pair=pair,
            between=between,
            options=options,
            argv=argv,
            about=about,
            watch=watch,
        )

    def _end(self, tool: Tool[Options, Result], test: _Test[Options], ran: _Ran) -> Sample[Result]:
        """Parse what a client said, prove its path, and record it."""
        pair, about, watch = test.pair, test.about, test.watch
        url = pair.url if isinstance(pair, UrlPair) else ""
        ends = [pair.client] if isinstance(pair, UrlPair) else [pair.client, pair.server]
        try:
            with _during(test.text, *ends, suspects=lambda ends: self.suspects(ends, url)):
                if isinstance(ran.outcome, K8sNetError):
                    raise ran.outcome
                done = ran.outcome
                result = tool.parse(_output(done), test.options)
        except K8sNetError as exc:
            self._observer.record("sample", **about, started=ran.started, error=str(exc))
            raise
        measured, payload = tool.measured(result), tool.payload(result)
        proof = watch.judge(payload) if watch is not None and payload is not None else None
        path = proof.to_record() if proof is not None else self._without_proof(pair, test.between)
        error = proof.text if proof is not None and proof.state == "contradicted" else None
        if error is not None and isinstance(pair, UrlPair):
            # Address translation led packets another way: no error of the cluster's, but no
            # figure of the mode either.
            said = f"address translation led packets another way than the mode's: {error}"
            path, error, proof = {**path, "state": "missing", "text": said}, None, None
            about |= {"mode": None, "pods_in": f"pods in {pair.mode}"}
        record = self._observer.record(
            "sample",
            **about,
            **measured.to_record(done.seconds),
            started=ran.started,
            path=path or None,
            raw=done.stdout,
            error=error,
        )
        if proof is not None:
            with _during(test.text):
                proof.require()
        return Sample(result=result, record=record, ended=ran.ended)

    def _await_answers(self, pair: UrlPair) -> None:
        """Wait until the Service behind a URL is programmed for the client, once for each."""
        key = (pair.client.kind, pair.client.name, pair.url)
        if key in self._answering:
            return
        self._observer.started(f"waiting until {pair.url} answers {pair.client}", 1.0)
        try:
            await_answers(pair)
        except ClusterError as exc:
            exc.found = f"{exc.found}\n{self.suspects([pair.client], pair.url)}".strip()
            raise
        finally:
            self._observer.finished()
        self._answering.add(key)

    def _without_proof(self, pair: Pair | UrlPair, between: Pair | None) -> dict[str, Any]:
        """Return what a record says of a path that nobody has looked at."""
        if self.prover is None:
            return {}
        if between is not None:
            return {"state": "missing", "text": "nothing was answered that could be followed"}
        reason = "which way its packets take is up to what lies between"
        return {"state": "not applicable", "text": f"no mode is claimed for {pair.label}: {reason}"}

    def probe(self, pair: Pair, listen: Callable[[int], None] | None = None) -> str | None:
        """Send TCP payload between the ends of a pair; returns what went wrong, or None.

        Args:
            pair: between whom.
            listen: called with the server's port before the first byte is sent.
        """
        said = f"TCP payload from {pair.client} to {pair.server}"
        try:
            port = self._start_server(Iperf3(), pair.server)
        except (ToolError, ExecError) as exc:
            return f"{said}: {exc.problem}"
        if listen is not None:
            listen(port)
        try:
            done = pair.client.run(probe_argv(pair.server.address, port))
            result = parse_iperf3(done.stdout, stderr=done.stderr, exit_code=done.exit_code)
        except (TimedOut, NoData, Interrupted, ExecTimeoutError) as exc:
            path = (pair.mode or CalicoMode.NEVER).path(pair.placement == "same-subnet")
            return Evidence(f"{said}: {exc.problem}", FABRIC[path])
        except (ToolError, ExecError) as exc:
            return f"{said}: {exc.problem}"
        if self.prover is not None:
            self.prover.saw(pair, result.client_address)
        return None

    def _start_server(self, tool: ServedTool[Any, Any], server: Endpoint) -> int:
        for attempt in range(1, _PORT_TRIES + 1):
            port = next(self._ports)
            done = server.run(tool.server_argv(port), timeout_seconds=30.0)
            try:
                tool.check_server(_output(done), port)
            except PortInUse:
                if attempt == _PORT_TRIES:
                    raise
            else:
                return port
        raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """What became of a client: its output, or why there is none."""

    started: str
    outcome: Completed | K8sNetError
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test(Generic[Options]):
    """A sample whose client is ready to be started."""

    text: str
    pair: Pair | UrlPair
    between: Pair | None
    options: Options
    argv: Sequence[str]
    about: dict[str, Any]
    watch: PathWatch | None

    def run(self, timeout_seconds: float) -> _Ran:
        """Run the client to its end."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        outcome: Completed | K8sNetError
        try:
            outcome = self.pair.client.run(self.argv, timeout_seconds=timeout_seconds)
        except K8sNetError as exc:
            outcome = exc
        return _Ran(started=started, outcome=outcome, ended=time.monotonic())


def _output(done: Completed) -> Output:
    return Output(stdout=done.stdout, stderr=done.stderr, exit_code=done.exit_code)


#: What tools say where nothing came back, or a refusal.
_UNHEARD = re.compile(r"refused|timed out|unreachable|no route|unable to connect|reset", re.I)


@contextmanager
def _during(
    text: str,
    *endpoints: Endpoint,
    suspects: Callable[[Sequence[Endpoint]], str] = lambda endpoints: "",
) -> Iterator[None]:
    """Let an error say what was being done when it arose.

    A tool only knows that its peer or its own process went away; where a pod did, that is said, and
    where the peer was never heard, what may have kept it.
    """
    try:
        yield
    except K8sNetError as exc:
        error = exc
        if isinstance(exc, ToolError):
            troubles = (endpoint.trouble(exc.brief) for endpoint in endpoints)
            error = next(filter(None, troubles), exc)
            if error is exc and _UNHEARD.search(exc.brief) and (said := suspects(endpoints)):
                exc.found = f"{exc.found}\n{said}".strip()
        error.during = error.during or text
        if error is exc:
            raise
        raise error from exc


# -- Watches the path of a sample: a snapshot before it, one after it, and the judgement on both
#
# With the wire proof there are captures as well: around every sample where routes prove nothing,
# else once for a pair in its mode. None of it happens during a sample.

#: Sends payload between the ends of a pair; see ``Sampler.probe``.
Probe: TypeAlias = Callable[[Pair, Callable[[int], None]], str | None]
#: A pair in its mode.
_PairKey: TypeAlias = tuple[CalicoMode | None, str, str]


def _key(pair: Pair) -> _PairKey:
    return (pair.mode, pair.client.name, pair.server.name)


@dataclass(frozen=True, slots=True)
class PathProver:
    """Proves the paths of pairs within one Calico session.

    Attributes:
        wire: whether captures belong to the proof.
    """

    session: CalicoSession
    nodes: Mapping[str, Node]
    wire: bool = False
    #: Pairs whose wire has been looked at in their mode.
    _seen: dict[_PairKey, WireFinding] = field(default_factory=dict)
    #: As whom the servers of pairs saw the clients.
    _clients: dict[_PairKey, str] = field(default_factory=dict)

    def saw(self, pair: Pair, client_address: str) -> None:
        """Remember as whom the server of a pair saw the client; empty is not known."""
        if client_address:
            self._clients[_key(pair)] = client_address

    def client_of(self, pair: Pair, probe: Probe) -> str:
        """As whom the server of a pair sees the client; where no sample told, payload is sent."""
        kinds = (pair.client.kind, pair.server.kind)
        matters = kinds == ("pod", "node") and pair.client.node != pair.server.node
        if matters and _key(pair) not in self._clients:
            probe(pair, lambda port: None)
        return self._clients.get(_key(pair), "")

    def end(self, endpoint: Endpoint) -> PathEnd:
        """One end of a path as the proof sees it."""
        return PathEnd(
            kind="pod" if endpoint.kind == "pod" else "node",
            name=endpoint.name,
            node=self.nodes[endpoint.node],
            address=endpoint.address,
        )

    def watch(self, pair: Pair, probe: Probe) -> PathWatch:
        """Take the snapshot before a sample, and look at the wire where that is due.

        Args:
            pair: whom to watch.
            probe: sends payload that may be captured.
        """
        client = replace(self.end(pair.client), seen_as=self._clients.get(_key(pair), ""))
        before = self.session.snapshot(client, self.end(pair.server))
        wire: dict[Moment, WireFinding] = {}
        if self.wire and self.session.installation.routes_prove:
            found = self._seen.get(_key(pair))
            if found is None or found.trouble() is not None:
                found = self._seen[_key(pair)] = self._look(pair, before, probe)
            wire["once"] = found
        elif self.wire:
            wire["before"] = self._look(pair, before, probe)
        return PathWatch(self, pair, before, wire, probe)

    def _look(self, pair: Pair, snapshot: PathSnapshot, probe: Probe) -> WireFinding:
        return self.session.watch_wire(snapshot, partial(probe, pair))

    def payload_trouble(self, pair: Pair, probe: Probe) -> str | None:
        """Say what keeps payload from its way between the ends of a pair, or None.

        Where routes prove nothing, the way of the payload is looked at on the wire.
        """
        if not self.wire or self.session.installation.routes_prove:
            return probe(pair, lambda port: None)
        snapshot = self.session.snapshot(self.end(pair.client), self.end(pair.server))
        return self._look(pair, snapshot, probe).trouble()


@dataclass(frozen=True, slots=True)
class PathWatch:
    """One sample's snapshot from before it, waiting for its end."""

    prover: PathProver
    pair: Pair
    before: PathSnapshot
    wire: dict[Moment, WireFinding]
    probe: Probe

    def judge(self, payload: Payload) -> PathProof:
        """Take the snapshot after the sample, and judge which path its payload took."""
        session = self.prover.session
        seen_as = payload.client_address or self.before.client.seen_as
        after = session.snapshot(replace(self.before.client, seen_as=seen_as), self.before.server)
        # A probe comes after that, or its packets would be counted as the sample's.
        self.prover.saw(self.pair, payload.client_address)
        seen_as = self.prover.client_of(self.pair, self.probe)
        wire = dict(self.wire)
        if "before" in wire:
            wire["after"] = session.watch_wire(after, partial(self.probe, self.pair))
        payload = replace(payload, client_address=seen_as)
        return session.prove(self.pair.mode, self.before, after, payload, wire)
