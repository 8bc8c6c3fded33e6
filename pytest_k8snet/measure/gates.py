"""The gates: measurements that are taken while they are compared with a limit.

Ties the arms that verdicts know (a label, and a callable that takes one sample) to pairs and
endpoints. Nothing here knows a limit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import fmean
from types import MappingProxyType
from typing import Any, Never, Unpack, overload

from pytest_k8snet.calico.modes import ENCAPSULATION_BYTES
from pytest_k8snet.errors import PodError, SettingsError
from pytest_k8snet.measure.endpoints import Endpoint, Pair, Sample, UrlPair
from pytest_k8snet.measure.guards import Guard
from pytest_k8snet.measure.hints import MachineOf, hints
from pytest_k8snet.measure.sampler import Observer
from pytest_k8snet.tools import variant_of
from pytest_k8snet.tools.curl import Curl, CurlOptions, CurlSamples, ScheduledKeywords
from pytest_k8snet.tools.iperf3 import Iperf3, Iperf3Options
from pytest_k8snet.tools.iperf3_result import Iperf3Interval, Iperf3Result
from pytest_k8snet.tools.ping import EchoKeywords, Ping, PingOptions, PingResult
from pytest_k8snet.tools.schedule import Schedule, ScheduledCurl, ScheduledSamples
from pytest_k8snet.tools.tool import Options, Tool, options_of, refuse_unknown
from pytest_k8snet.units import BitRate
from pytest_k8snet.verdict import (
    NEW_CONNECTIONS,
    Arm,
    Bandwidth,
    Claims,
    Connections,
    EarlierVerdicts,
    Judging,
    Latency,
    Observation,
    Plan,
    Progress,
    SampleRequest,
    Verdict,
)

#: How long one scheduled request may take before it counts as unanswered, in seconds.
REQUEST_SECONDS = 2.0
#: Requests of one sample of new connections per second.
CONNECTIONS = 100
#: Share of a round's slots that the client may miss before the round says nothing of the network.
MOST_MISSED = 0.05
#: Share of their length for which tests that are measured at once have to overlap.
LEAST_OVERLAP = 0.8


#: Why a ping has none of it.
_PINGS = 'pings have a round-trip time alone, rtt; latency(pair, "/") sends requests'
#: What is timed of a request.
_PHASES = ("dns", "connect", "tls", "first_byte", "total")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """Makes gates under one plan, and records their verdicts.

    Attributes:
        observer: receives each verdict's record.
        plan: in force where a gate names none.
        progress: hears of each round, for the terminal.
        claims: told of each gate, and of what was asked of it.
        watch: returns cluster events (such as a calico-node restart) since it was last asked;
            asked between rounds only.
        earlier: verdicts of the test in an earlier session, to be continued.
        machine_of: returns what is known of a node, for hints where a verdict is no pass.
    """

    observer: Observer
    plan: Plan
    progress: Callable[[Progress], None] | None = None
    claims: Claims = field(default_factory=Claims)
    watch: Callable[[], str] | None = None
    earlier: EarlierVerdicts | None = None
    machine_of: MachineOf = lambda node: None

    def __repr__(self) -> str:
        """Short: pytest prints it with the arguments of each failed test."""
        return f"Gates({self.plan})"

    @property
    def bandwidth(self) -> BandwidthGate:
        """Makes a gate on bandwidth."""
        return BandwidthGate(self)

    @property
    def latency(self) -> LatencyGate:
        """Makes a gate on latency."""
        return LatencyGate(self)

    @property
    def connections(self) -> ConnectionsGate:
        """Makes a gate on new connections per second."""
        return ConnectionsGate(self)

    def terms(self, plan: Plan | str | None) -> Judging:
        """Return what claims are settled under: the run's plan, another one, or changes to it."""
        if isinstance(plan, str):
            plan = Plan.parse(plan, self.plan)
        return Judging(
            plan=plan or self.plan,
            observer=self.progress,
            recorder=self._record,
            claims=self.claims,
            watch=self.watch,
            earlier=self.earlier,
            hints=lambda verdict, arms: hints(verdict, arms, self.machine_of),
        )

    def _record(self, verdict: Verdict) -> None:
        record = verdict.to_record()
        self.observer.record(record.pop("kind"), **record)


@dataclass(frozen=True, slots=True, repr=False)
class BandwidthGate:
    """What the fixture ``bandwidth`` gives: called with a pair, it returns what to compare."""

    gates: Gates

    def __repr__(self) -> str:
        return "bandwidth"

    def __call__(
        self,
        pair: Pair,
        *,
        streams: int = 1,
        reverse: bool = False,
        udp: bool = False,
        bitrate: BitRate | None = None,
        both_directions: bool = False,
        duplex: bool = False,
        plan: Plan | str | None = None,
        **unknown: Never,
    ) -> Bandwidth:
        """Return the bandwidth between a pair, to be compared or divided by another.

        Each sample is one fresh iperf3 test on a new port.

        Args:
            pair: between whom.
            streams: parallel connections, which hide what one connection pays.
            reverse: from the pair's server to its client.
            udp: measure UDP at ``bitrate``, as received.
            bitrate: target of each stream.
            both_directions: one test each way, one after the other; the slower one counts.
            duplex: both ways at once, in one test; their sum counts.
            plan: instead of the run's: a plan, or changes to it such as ``"last=12 seconds=3"``.
            unknown: nothing; type checkers refuse other options, and so does this, by their names.

        Raises:
            SettingsError: options that there are not or that exclude each other, or a plan that
                cannot work.
        """
        refuse_unknown("bandwidth", type(self).__call__.__kwdefaults__ or (), unknown)
        _refuse_distorted(pair)
        ways = {"reverse": reverse, "both_directions": both_directions, "duplex": duplex}
        if sum(ways.values()) > 1:
            raise SettingsError(
                " and ".join(name for name, asked in ways.items() if asked) + " exclude each other",
                remedy="both_directions (one after the other) and duplex (at once) measure the "
                "reverse direction too",
            )
        if udp and bitrate is None:
            raise SettingsError(
                "a gate on UDP needs a bit rate: what arrives is at most what is sent",
                remedy="write bandwidth(pair, udp=True, bitrate=100 * Mbit)",
            )
        options = Iperf3Options(
            server=pair.server.address,
            streams=streams,
            udp=udp,
            bitrate=bitrate,
            bidirectional=duplex,
        )
        directions = (False, True) if both_directions else (reverse,)
        terms = self.gates.terms(plan)
        usual = replace(options, reverse=reverse)
        arm = _arm(
            pair,
            Iperf3(),
            usual,
            make=partial(
                FlowArm, pair=pair, options=usual, one_way=not both_directions, plan=terms.plan
            ),
            slower_direction=both_directions,
            take=lambda turn: _bandwidth_turn(pair, turn, directions, options, terms.plan),
            describe=_describe_bandwidth,
        )
        return Bandwidth(arm, terms)


@dataclass(frozen=True, slots=True, repr=False)
class LatencyGate:
    """What the fixture ``latency`` gives: called with an endpoint and a URL, or with a pair."""

    gates: Gates

    def __repr__(self) -> str:
        return "latency"

    @overload
    def __call__(
        self,
        client: Endpoint | Pair,
        url: str,
        *,
        plan: Plan | str | None = None,
        **options: Unpack[ScheduledKeywords],
    ) -> Latency: ...

    @overload
    def __call__(
        self,
        client: Pair,
        *,
        plan: Plan | str | None = None,
        **options: Unpack[EchoKeywords],
    ) -> Latency: ...

    def __call__(
        self,
        client: Endpoint | Pair,
        url: str | None = None,
        *,
        plan: Plan | str | None = None,
        **options: Any,
    ) -> Latency:
        """Return the latency from an endpoint to a URL, or between the ends of a pair.

        To a URL, requests start on a fixed, jittered schedule, whatever became of those before,
        each by its own curl process on a fresh connection: ``dns``, ``connect``, ``tls``,
        ``first_byte`` and ``total`` can be compared. Between the ends of a pair it is ping, at
        the plan's rate: ``rtt`` can be; given a path, requests to a web server beside the pair's
        server, pod to pod. What gets no complete answer in time, or none that is
        accepted, exceeds every limit.

        Args:
            client: from where; or a pair, from its client to its server.
            url: what to request; for a pair a path, such as ``"/"``.
            plan: instead of the run's: a plan, or changes to it such as ``"requests=600"``.
            options: ``max_time_seconds`` (2), after which a request counts as unanswered, and of
                each request, as :class:`~pytest_k8snet.tools.curl.CurlOptions` has them:
                ``method``, ``headers``, ``resolve``, ``insecure``, ``follow_redirects``, ``ipv6``,
                ``connect_timeout_seconds``. For a pair ``size_bytes`` (56) and ``wait_seconds``
                (2), as :class:`~pytest_k8snet.tools.ping.PingOptions` has them.

        Raises:
            SettingsError: options that curl or ping cannot take, or a plan that cannot work.
        """
        terms = self.gates.terms(plan)
        if isinstance(client, Pair) and url is None:
            _refuse_distorted(client)
            return Latency(_round_trips(client, terms.plan, options), terms)
        if url is None:
            raise SettingsError(
                f"latency of {client} needs a URL to request",
                remedy="write latency(pod, web_service.cluster_ip_url), or give a pair",
            )
        pair: Pair | UrlPair
        if isinstance(client, Pair):
            pair = client.web
            url = pair.url_of(url)
        else:
            pair = UrlPair(client=client, url=url)
        _refuse_distorted(pair)
        return Latency(_requests(pair, url, terms.plan, options), terms)


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionsGate:
    """What the fixture ``connections`` gives: called with an endpoint and a URL."""

    gates: Gates

    def __repr__(self) -> str:
        return "connections"

    def __call__(
        self,
        client: Endpoint,
        url: str,
        *,
        plan: Plan | str | None = None,
        **options: Unpack[ScheduledKeywords],
    ) -> Connections:
        """Return the new connections per second that one client makes, one after the other.

        Each sample is one curl process that requests the URL 100 times, each time on a fresh
        connection. What fails takes its time, and counts for no connection.

        Args:
            client: from where.
            url: what to request.
            plan: instead of the run's: a plan, or changes to it such as ``"last=12"``.
            options: of each request, as ``latency`` takes them.

        Raises:
            SettingsError: options that curl cannot take, or a plan that cannot work.
        """
        terms = self.gates.terms(plan)
        pair = UrlPair(client=client, url=url)
        _refuse_distorted(pair)
        wanted = replace(_request(url, options), requests=CONNECTIONS)
        arm = _arm(
            pair,
            Curl(),
            wanted,
            take=lambda turn: _connections_turn(pair, wanted, turn, terms.plan),
            describe=_describe_connections,
        )
        return Connections(arm, terms)


def _refuse_distorted(pair: Pair | UrlPair) -> None:
    """Refuse to judge what admission has changed: the verdict would be on that, not the network."""
    if pair.distorted_by:
        raise PodError(
            f"a gate on {pair.label} would judge what admission has done to the run's pods",
            found="\n".join(pair.distorted_by),
            remedy="for a CPU limit name one of your own that is high enough "
            "(-o k8snet_pod_limits=cpu=4); for a sidecar, use a namespace that injectors pass "
            "over (-o k8snet_namespace=...), or let the run make its own",
        )


def _request(url: str, options: Mapping[str, Any]) -> CurlOptions:
    """Say what to ask a URL for, and how long to wait."""
    return options_of(
        CurlOptions,
        ScheduledKeywords,
        {"max_time_seconds": REQUEST_SECONDS, **options},
        url=url,
    )


def _requests(pair: Pair | UrlPair, url: str, plan: Plan, options: Mapping[str, Any]) -> Arm:
    """Make requests on a schedule an arm of a gate."""
    request = _request(url, options)
    # Refuses a rate that could swamp the client, before anything is measured.
    schedule = Schedule.jittered(request, plan.requests_per_second, seed=0)
    return _arm(
        pair,
        ScheduledCurl(),
        schedule,
        lacks=_lacking(request),
        take=lambda turn: _latency_turn(pair, request, turn, plan),
        describe=_describe_latency,
        longest_seconds=request.max_time_seconds,
    )


def _lacking(request: CurlOptions) -> dict[str, str]:
    """Return the phases that a request does not have, and why."""
    lacking = {"rtt": "it is ping's, between the two ends of a pair"}
    if not request.looks_up:
        lacking["dns"] = f"nothing is looked up for {request.url}"
    if not request.url.lower().startswith("https:"):
        lacking["tls"] = f"{request.url} is not https"
    return lacking


def _round_trips(pair: Pair, plan: Plan, options: Mapping[str, Any]) -> Arm:
    """Pings at the plan's rate, as an arm of a gate."""
    wanted = options_of(
        PingOptions,
        EchoKeywords,
        options,
        address=pair.server.address,
        interval_seconds=1 / plan.requests_per_second,
    )
    return _arm(
        pair,
        Ping(),
        wanted,
        lacks=dict.fromkeys(_PHASES, _PINGS),
        take=lambda turn: _ping_turn(pair, wanted, turn, plan),
        describe=_describe_pings,
        longest_seconds=float(wanted.wait_seconds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowArm(Arm):
    """A bandwidth between one pair, which may be measured at once with others.

    Attributes:
        pair: between whom.
        options: of each test, but its length.
        one_way: one test makes a sample: it is not one each way, one after the other.
        plan: under which it is measured.
    """

    pair: Pair
    options: Iperf3Options
    one_way: bool
    plan: Plan

    def at_once(self, other: Arm) -> Arm:
        """Return an arm that measures both at once, and adds up what they got meanwhile.

        Raises:
            SettingsError: there is no sense in that.
        """
        return _sum_of(self, other)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumArm(Arm):
    """Bandwidths of several pairs that are measured at once."""

    of: tuple[FlowArm, ...]

    def at_once(self, other: Arm) -> Arm:
        """Return an arm that measures the other as well."""
        return _sum_of(self, other)


def _sum_of(*arms: Arm) -> SumArm:
    flows = tuple(one for arm in arms for one in (arm.of or (arm,)) if isinstance(one, FlowArm))
    _refuse_senseless(flows)

    def joined(name: str) -> str:
        return " + ".join(filter(None, (str(getattr(one, name) or "") for one in flows)))

    def common(name: str) -> str:
        return " + ".join(dict.fromkeys(str(getattr(one, name) or "") for one in flows))

    modes = {one.mode for one in flows if one.mode}
    return SumArm(
        of=flows,
        label=joined("label"),
        take=lambda turn: _sum_turn(flows, turn),
        context=", ".join(filter(None, (*modes, joined("nodes")))),
        scene=joined("scene"),
        mode=next(iter(modes), None),
        placement=common("placement"),
        tool=common("tool"),
        variant=joined("variant"),
        nodes=joined("nodes"),
        ends=joined("ends"),
        describe=_describe_bandwidth,
    )


def _refuse_senseless(flows: Sequence[FlowArm]) -> None:
    """Refuse a sum whose parts cannot be measured at once, or would be no sum of anything.

    Raises:
        SettingsError: they cannot.
    """
    ends = Counter((one.ends, one.options.reverse) for one in flows)
    twice = next((one for one in flows if ends[one.ends, one.options.reverse] > 1), None)
    if twice is not None:
        raise SettingsError(
            f"{twice.label} cannot be added to itself",
            found=twice.ends,
            remedy="for more connections between one pair write bandwidth(pair, streams=2)",
        )
    if not all(one.one_way for one in flows):
        raise SettingsError(
            "both_directions measures one after the other, so there is nothing to add up at once",
            remedy="write bandwidth(a) + bandwidth(a, reverse=True), or duplex=True",
        )
    modes = sorted({str(one.mode) for one in flows if one.mode})
    if len(modes) > 1:
        raise SettingsError(
            f"a sum of bandwidths in different modes is of none of them: {', '.join(modes)}",
            remedy="add up pairs of one mode",
        )


def _sum_turn(flows: Sequence[FlowArm], turn: SampleRequest) -> Observation:
    ends = {
        (end.kind, end.name): end for one in flows for end in (one.pair.client, one.pair.server)
    }
    guard = Guard(tuple(ends.values()), flows[0].plan)
    tests = [
        (
            one.pair,
            replace(one.options, seconds=turn.seconds, omit_seconds=turn.omit_seconds),
        )
        for one in flows
    ]
    samples = flows[0].pair.sampler.at_once(Iperf3(), tests, warmup=turn.warmup)
    cause, hit = guard.outcome()
    # When each began to count is known by when it ended.
    begin = max(one.ended - float(one.result.seconds) for one in samples)
    end = min(one.ended for one in samples)
    if not cause and end - begin < LEAST_OVERLAP * turn.seconds:
        cause = f"the tests ran at once for {max(0.0, end - begin):.1f} of {turn.seconds} s only"
    sizes = [_segment_size(flow.pair, one.result) for flow, one in zip(flows, samples, strict=True)]
    controls = sorted({one.result.sender_congestion or "unknown" for one in samples})
    return _observation(
        *samples,
        figures={"bandwidth": (sum(_between(one, begin, end) for one in samples),)},
        outcome=(cause, hit),
        alike={"congestion control": ", ".join(controls)},
        near={name: size for one in sizes for name, size in one.items()},
        detail=tuple(samples),
    )


def _observation(
    first: Sample[Any],
    *beside: Sample[Any],
    figures: Mapping[str, Sequence[float]],
    outcome: tuple[str, str],
    detail: object = None,
    **circumstances: Any,
) -> Observation:
    """Return what came of a turn: of its first sample, with others that belong to it.

    Args:
        first: whose figures they are.
        beside: the others.
        figures: as :class:`~pytest_k8snet.verdict.Observation` has them, as do all that follow.
        outcome: of the guard: ``discard`` and ``hit``.
        detail: the first sample, unless given.
        circumstances: ``alike`` and ``near``.
    """
    states = {str((one.record.get("path") or {}).get("state", "")) for one in (first, *beside)}
    worst = ("contradicted", "missing", "not applicable", "proven")
    return Observation(
        figures=figures,
        sample_id=str(first.record.get("id", "")),
        beside=tuple(str(one.record.get("id", "")) for one in beside),
        discard=outcome[0],
        hit=outcome[1],
        proof=next((state for state in worst if state in states), ""),
        detail=detail or first,
        **circumstances,
    )


def _between(sample: Sample[Iperf3Result], begin: float, end: float) -> float:
    """Return what a test got per second within a span of time, by the course of its intervals."""
    result = sample.result
    figure = _both_ways(result)
    zero = sample.ended - float(result.seconds)
    courses = [(float(one.start), float(one.end), _both_ways(one)) for one in result.intervals]
    whole = _mean_rate(courses, 0.0, float(result.seconds))
    within = _mean_rate(courses, begin - zero, end - zero)
    return figure * within / whole if whole and within else figure


def _both_ways(flow: Iperf3Result | Iperf3Interval) -> float:
    return float(flow.bandwidth) + float(flow.reverse_bandwidth or 0)


def _mean_rate(courses: Sequence[tuple[float, float, float]], begin: float, end: float) -> float:
    """Return the mean of (start, end, rate) over a span; 0 where none of them lies in it."""
    parts = [(max(0.0, min(end, to) - max(begin, start)), rate) for start, to, rate in courses]
    seconds = sum(length for length, _ in parts)
    return sum(length * rate for length, rate in parts) / seconds if seconds else 0.0


def _bandwidth_turn(
    pair: Pair,
    turn: SampleRequest,
    directions: Sequence[bool],
    options: Iperf3Options,
    plan: Plan,
) -> Observation:
    guard = Guard((pair.client, pair.server), plan)
    samples = [
        pair.sampler.sample(
            Iperf3(),
            pair,
            replace(options, seconds=turn.seconds, omit_seconds=turn.omit_seconds, reverse=reverse),
            warmup=turn.warmup,
        )
        for reverse in directions
    ]
    slower = min(samples, key=lambda sample: sample.result.bandwidth)
    result = slower.result
    #: What a gate can be on, of those figures that the sample has.
    named = {
        "bandwidth": _both_ways(result),
        "loss": result.lost_ratio,
        "jitter": result.jitter,
        "retransmit_ratio": result.retransmit_ratio,
        "rtt": result.rtt_mean,
    }
    return _observation(
        slower,
        *(one for one in samples if one is not slower),
        figures={name: (float(value),) for name, value in named.items() if value is not None},
        outcome=guard.outcome(),
        alike={"congestion control": result.sender_congestion or "unknown"},
        near=_segment_size(pair, result),
    )


def _segment_size(pair: Pair, result: Iperf3Result) -> dict[str, tuple[int, int]]:
    """Return the connection's MSS, and how far the other arm's may lie from it.

    Pods have the MTU of the largest header that is enabled anywhere, whatever their pool's mode.
    """
    # A loopback has segments of its own, and is no wire to compare with anyway.
    if result.mss_bytes is None or pair.client.address == pair.server.address:
        return {}
    with_pods = "pod" in (pair.client.kind, pair.server.kind)
    allowed = max(ENCAPSULATION_BYTES.values()) if with_pods else 0
    return {"TCP segment size (MSS, bytes)": (result.mss_bytes, allowed)}


def _latency_turn(
    pair: Pair | UrlPair, request: CurlOptions, turn: SampleRequest, plan: Plan
) -> Observation:
    wanted = Schedule.jittered(
        replace(request, requests=turn.requests), turn.requests_per_second, seed=turn.seed
    )
    client = pair.client
    guard = Guard((client,), plan)
    sample = client.sampler.sample(ScheduledCurl(), pair, wanted, warmup=turn.warmup)
    result = sample.result
    figures = {phase: result.values(phase) for phase in _PHASES if phase not in _lacking(request)}
    cause, hit = guard.outcome()
    most = MOST_MISSED * len(result.slots)
    if not cause and result.missed > most:
        cause = (
            f"{client} could not keep the schedule: {result.missed} of {len(result.slots)} "
            f"requests started too late (up to {result.latest}) or never"
        )
    unknown_times = {name: values.count(None) - result.missed for name, values in figures.items()}
    name, count = max(unknown_times.items(), key=lambda item: item[1])
    if not cause and count > most:
        cause = f"curl told no {name} time for {count} of {len(result.slots)} requests"
    known = {name: [one for one in values if one is not None] for name, values in figures.items()}
    return _observation(sample, figures=known, outcome=(cause, hit))


def _connections_turn(
    pair: UrlPair, wanted: CurlOptions, turn: SampleRequest, plan: Plan
) -> Observation:
    guard = Guard((pair.client,), plan)
    options = replace(wanted, requests=10) if turn.warmup else wanted
    sample = pair.client.sampler.sample(Curl(), pair, options, warmup=turn.warmup)
    result = sample.result
    spent = sum(float(request.total) for request in result.requests)
    rate = len(result.succeeded) / spent if spent else 0.0
    return _observation(sample, figures={NEW_CONNECTIONS: (rate,)}, outcome=guard.outcome())


def _ping_turn(pair: Pair, wanted: PingOptions, turn: SampleRequest, plan: Plan) -> Observation:
    guard = Guard((pair.client, pair.server), plan)
    options = replace(wanted, count=turn.requests, interval_seconds=1 / turn.requests_per_second)
    sample = pair.sampler.sample(Ping(), pair, options, warmup=turn.warmup)
    values = sample.result.values()
    cause, hit = guard.outcome()
    if not cause and len(values) != turn.requests:
        cause = f"{pair.client} sent {len(values)} of {turn.requests} pings"
    return _observation(sample, figures={"rtt": values}, outcome=(cause, hit))


def _describe_bandwidth(observations: Sequence[Observation]) -> str:
    results = [sample.result for sample in _details(observations, Iperf3Result)]
    found = {
        "retransmits {:.2%}": [one.retransmit_ratio for one in results],
        "lost {:.2%}": [one.lost_ratio for one in results],
        "receiver's iperf3 at {:.0f} % of a core": [one.cpu_receiver_percent for one in results],
    }
    known = {text: [float(one) for one in row if one is not None] for text, row in found.items()}
    return ", ".join(text.format(fmean(row)) for text, row in known.items() if row)


def _describe_latency(observations: Sequence[Observation]) -> str:
    results = [sample.result for sample in _details(observations, ScheduledSamples)]
    if not results:
        return ""
    slots = sum(len(result.slots) for result in results)
    missed = sum(result.missed for result in results)
    latest = max(result.latest for result in results)
    failed: Counter[str] = Counter()
    for result in results:
        failed.update(result.samples().failure_counts)
    parts = [
        f"{count} of {slots} {'answered' if reason.startswith('HTTP ') else 'failed:'} {reason}"
        for reason, count in failed.most_common()
    ]
    parts.append(f"schedule kept to {latest}")
    if missed:
        parts.append(f"{missed} of {slots} missed")
    return ", ".join(parts)


def _describe_connections(observations: Sequence[Observation]) -> str:
    failed: Counter[str] = Counter()
    for sample in _details(observations, CurlSamples):
        failed.update(sample.result.failure_counts)
    return ", ".join(f"{count} failed: {why}" for why, count in failed.most_common())


def _describe_pings(observations: Sequence[Observation]) -> str:
    results = [sample.result for sample in _details(observations, PingResult)]
    sent, lost = sum(one.sent for one in results), sum(one.lost for one in results)
    errors = Counter(error for one in results for error in one.errors)
    parts = [f"{lost} of {sent} pings lost", *(f"{n} x {why}" for why, n in errors.most_common())]
    return ", ".join(parts) if results else ""


def _details(observations: Sequence[Observation], kind: type[Any]) -> list[Sample[Any]]:
    details = (
        one.detail if isinstance(one.detail, tuple) else (one.detail,) for one in observations
    )
    return [
        one
        for each in details
        for one in each
        if isinstance(one, Sample) and isinstance(one.result, kind)
    ]


def _arm(
    pair: Pair | UrlPair,
    tool: Tool[Options, Any],
    options: Options,
    *,
    take: Callable[[SampleRequest], Observation],
    describe: Callable[[Sequence[Observation]], str],
    longest_seconds: float = math.inf,
    slower_direction: bool = False,
    lacks: Mapping[str, str] = MappingProxyType({}),
    make: Callable[..., Arm] = Arm,
) -> Arm:
    """Return an arm that is identified as its samples are, by what other runs have as well."""
    facts = pair.facts()
    variant = variant_of({**facts, "tool": tool.name, "command": tool.argv(options)})
    if slower_direction:
        variant = ", ".join(filter(None, (variant, "slower direction")))
    beside = "cross-subnet" if facts["placement"] == "cross-subnet" else ""
    said = ", ".join(filter(None, (beside, variant)))
    return make(
        label=f"{pair.scene} ({said})" if said else pair.scene,
        take=take,
        context=", ".join(filter(None, (facts["mode"], pair.nodes))),
        scene=pair.scene,
        mode=facts["mode"],
        placement=facts["placement"],
        tool=tool.name,
        variant=variant,
        nodes=pair.nodes,
        ends=pair.ends,
        longest_seconds=longest_seconds,
        lacks=lacks,
        describe=describe,
    )
