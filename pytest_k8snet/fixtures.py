"""The fixtures; thin. A user's own fixture of the same name wins.

A test that asks for none of them never touches a cluster: everything starts in :func:`k8snet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet.options import RECORDER

if TYPE_CHECKING:
    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.services import WebService
    from pytest_k8snet.measure.disruption import SwitchCost
    from pytest_k8snet.measure.endpoints import Endpoint, Pair
    from pytest_k8snet.measure.gates import BandwidthGate, ConnectionsGate, Gates, LatencyGate
    from pytest_k8snet.measure.run import Run
    from pytest_k8snet.report.runs import Baseline
    from pytest_k8snet.verdict import Claims, EarlierVerdicts

#: What became of a test's gates, on its item; there where it asks for one.
CLAIMS: pytest.StashKey[Claims] = pytest.StashKey()
#: The same of all tests of the session, however often each is run.
_CLAIMS_OF: pytest.StashKey[dict[object, Claims]] = pytest.StashKey()
#: The earlier run to compare with; there where one was given and a cluster was asked for.
_BASELINE: pytest.StashKey[Baseline] = pytest.StashKey()

#: The values of ``calico_mode``; as text, because every pytest run of the environment reads this.
MODES = ("Never", "VXLAN-CrossSubnet", "VXLAN-Always", "IPIP-CrossSubnet", "IPIP-Always")


@pytest.fixture(scope="session")
def k8snet(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Iterator[Run]:
    """Yield the run: nodes, facts, and factories for pairs that no fixture covers.

    Connects on first use, or starts the lab (``--k8snet-lab``); at the end it deletes what it
    made and restores what it changed.

    Raises:
        K8sNetError: no usable cluster; the message says why and what to do.
    """
    _refuse_parallel_workers(pytestconfig)
    from pytest_k8snet.collection import WANTED, describe
    from pytest_k8snet.launch import launch, redactor_of
    from pytest_k8snet.settings import of as settings_of

    settings = settings_of(pytestconfig)
    # There already but where a test asks for this while it runs.
    recorder = pytestconfig.stash.get(RECORDER, None) or describe(
        request.session, redactor_of(settings)
    )
    # Where tests ask for this while they run, no selection has told what they want.
    with launch(settings, recorder, **pytestconfig.stash.get(WANTED, {})) as run:
        if settings.baseline:
            from pytest_k8snet.report.runs import attach

            # After the facts of now, which it is compared with.
            pytestconfig.stash[_BASELINE] = attach(recorder, *settings.baseline)
        yield run
        if request.session.exitstatus == pytest.ExitCode.INTERRUPTED:
            run.watch_no_more()


@pytest.fixture(scope="session", params=MODES)
def calico_mode(request: pytest.FixtureRequest, k8snet: Run) -> CalicoMode:
    """Enter one Calico encapsulation mode after the other; pods of the test live in its pool.

    The five states of an IPPool: ``Never``, ``VXLAN-CrossSubnet``, ``VXLAN-Always``,
    ``IPIP-CrossSubnet``, ``IPIP-Always``. A mode that the cluster cannot have, or that the run
    may not make (``--k8snet-change``), is skipped with the reason, unless it was named
    (``--k8snet-modes``, a marker, a parametrization): ``--k8snet-missing-mode``.

    Raises:
        ModeUnavailableError: the mode was named and cannot be had.
        CalicoError: the mode did not come into effect; what the nodes had instead.
    """
    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.errors import ModeUnavailableError

    mode = CalicoMode.parse(str(request.param))
    try:
        k8snet.enter(mode)
    except ModeUnavailableError as exc:
        # The plugin looks at the cause: where the test names the mode it is an error.
        raise pytest.skip.Exception(str(exc)) from exc
    return mode


@pytest.fixture
def switch_cost(calico_mode: CalicoMode, k8snet: Run) -> SwitchCost:
    """Return what the change that led to the current mode cost two pods that are not under test.

    ``assert switch_cost.lost == 0 and switch_cost.longest_gap <= 2 * second``: requests lost, and
    the longest time without an answer, in seconds. The run watches all its changes when a test
    asks for this. Skipped with the reason where no change led to the mode.
    """
    from pytest_k8snet.errors import NothingSwitchedError

    try:
        return k8snet.switch_cost(calico_mode)
    except NothingSwitchedError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def pod_pair(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return a client pod and a server pod on two distinct nodes, in the current mode's pool.

    Raises:
        PodError: a pod did not start; the scheduler's or kubelet's own reason.
    """
    return k8snet.pod_pair(_current_mode(request))


@pytest.fixture
def node_pair(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return the nodes of ``pod_pair`` by their host network: the baseline.

    Raises:
        ForbiddenError: the cluster forbids host-network pods.
    """
    return k8snet.node_pair(_current_mode(request))


@pytest.fixture
def pod_to_node(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return a client pod and, on the other node, a server in the host network."""
    return k8snet.pod_to_node(_current_mode(request))


@pytest.fixture
def node_to_pod(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return a client in the host network and, on the other node, a server pod."""
    return k8snet.node_to_pod(_current_mode(request))


@pytest.fixture
def same_node_pair(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return two pods on one node: the control that shows what the wire costs."""
    return k8snet.same_node_pair(_current_mode(request))


@pytest.fixture
def cross_subnet_pair(request: pytest.FixtureRequest, k8snet: Run) -> Pair:
    """Return a pod pair whose nodes lie in different subnets; skip with the reason if none do."""
    from pytest_k8snet.errors import NodesError

    mode = _current_mode(request)
    try:
        return k8snet.cross_subnet_pair(mode)
    except NodesError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def pod(request: pytest.FixtureRequest, k8snet: Run) -> Endpoint:
    """Return a client pod to curl from."""
    return k8snet.pod(_current_mode(request))


@pytest.fixture
def node(k8snet: Run) -> Endpoint:
    """Return a node (host network) to curl from."""
    return k8snet.node()


@pytest.fixture
def outside(k8snet: Run) -> Endpoint:
    """Return the client outside the cluster: this machine, or where ``--k8snet-outside`` leads."""
    return k8snet.outside


@pytest.fixture
def web_service(request: pytest.FixtureRequest, k8snet: Run) -> WebService:
    """Return the HTTP target: a Service made for the run, or that of ``--k8snet-service``.

    In a mode, the pod behind it lives in that mode's pool, on the other node; without one, three
    replicas are where the scheduler puts them.

    ``cluster_ip_url``, ``dns_url``, ``node_port_url`` and ``external_url`` lead to it.

    Raises:
        ClusterError: its pods did not start, or the existing Service cannot be used.
    """
    return k8snet.web(_current_mode(request))


@pytest.fixture
def bandwidth(_gates: Gates) -> BandwidthGate:
    """Return a function that makes a gate on the bandwidth of a pair, in bit/s.

    ``assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.90`` measures, in pairs, until the
    answer is certain or the plan is spent; then it raises ``Inconclusive``. Arguments:
    ``streams``, ``reverse``, ``udp``, ``bitrate``, ``both_directions``,
    ``duplex``, ``plan``.
    """
    return _gates.bandwidth


@pytest.fixture
def latency(_gates: Gates) -> LatencyGate:
    """Return a function that makes a gate on the latency of requests, in seconds.

    ``assert latency(node, web_service.cluster_ip_url).connect.p95 <= 5 * ms`` sends requests on a
    fixed schedule until the answer is certain. Phases: ``dns``, ``connect``, ``tls``,
    ``first_byte``, ``total``; each has ``p50``, ``p90``, ``p95``, ``p99`` and ``percentile(...)``.
    """
    return _gates.latency


@pytest.fixture
def connections(_gates: Gates) -> ConnectionsGate:
    """Return a function that makes a gate on the new connections per second of one client.

    ``assert connections(pod, web_service.cluster_ip_url) >= 200``: fresh connections one after the
    other, each with one request; or divided by those of another client.
    """
    return _gates.connections


@pytest.fixture(scope="session")
def baseline(pytestconfig: pytest.Config, k8snet: Run) -> Baseline:
    """Return the runs of ``--k8snet-baseline`` to compare with.

    ``assert bandwidth(pod_pair) / baseline >= 0.95`` compares with the same scene and mode of those
    runs. Three earlier runs or more show how much runs differ anyway; one alone decides nothing.

    Raises:
        SettingsError: no earlier run was given.
        ResultsError: in the comparison, where that run lacks the figure.
    """
    found: Baseline | None = pytestconfig.stash.get(_BASELINE, None)
    if found is None:
        from pytest_k8snet.errors import SettingsError

        raise SettingsError(
            "there is no earlier run to compare with",
            remedy="give their results files: --k8snet-baseline=one.jsonl,two.jsonl,three.jsonl",
        )
    return found


@pytest.fixture
def _claims(request: pytest.FixtureRequest) -> Iterator[Claims]:
    """Return what is looked at once the test has run."""
    from pytest_k8snet.collection import identity
    from pytest_k8snet.verdict import Claims

    every = request.config.stash.setdefault(_CLAIMS_OF, {})
    claims = request.node.stash[CLAIMS] = every.setdefault(identity(request.node), Claims())
    claims.begin()
    yield claims
    claims.end()


@pytest.fixture
def _gates(request: pytest.FixtureRequest, k8snet: Run, _claims: Claims) -> Iterator[Gates]:
    from pytest_k8snet.collection import refuse_rerun
    from pytest_k8snet.measure.gates import Gates
    from pytest_k8snet.settings import of as settings_of
    from pytest_k8snet.verdict import Plan

    # Collection does not see gates that a test asks for while it runs.
    refuse_rerun(request.node)
    plan = settings_of(request.config).plan
    for marker in reversed(list(request.node.iter_markers("k8snet_plan"))):
        text = " ".join(map(str, marker.args))
        plan = Plan.parse(text, plan).with_changes(**marker.kwargs)
    recorder = request.config.stash[RECORDER]
    yield Gates(
        observer=recorder,
        plan=plan,
        progress=recorder.noted,
        claims=_claims,
        watch=k8snet.node_pod_watch(),
        earlier=_earlier_verdicts(request),
        machine_of=k8snet.machine_of,
    )
    if recorder.progress is not None:
        recorder.progress.update()


def _earlier_verdicts(request: pytest.FixtureRequest) -> EarlierVerdicts | None:
    """Return the test's verdicts in the run of ``--k8snet-resume``."""
    from pytest_k8snet.settings import of as settings_of

    path = settings_of(request.config).resume
    if path is None:
        return None
    from pytest_k8snet.report.records import read
    from pytest_k8snet.verdict import EarlierVerdicts

    records = [
        record
        for record in read(path).records
        if record["kind"] == "verdict" and record.get("test") == request.node.nodeid
    ]
    return EarlierVerdicts(records, path.name)


def _current_mode(request: pytest.FixtureRequest) -> CalicoMode | None:
    """Return the test's mode, where it (or one of its fixtures) asks for one."""
    if "calico_mode" not in request.fixturenames:
        return None
    from pytest_k8snet.calico.modes import CalicoMode

    return CalicoMode.parse(str(request.getfixturevalue("calico_mode")))


def _refuse_parallel_workers(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is not None:
        from pytest_k8snet.errors import SettingsError

        raise SettingsError(
            "measurements cannot run in pytest-xdist workers: they would share the wire",
            found=f"worker {worker.get('workerid', '?')} of {worker.get('workercount', '?')}",
            remedy="run the measuring tests without -n (or with -n 0), in a run of their own",
        )
