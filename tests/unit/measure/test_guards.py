from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from notebook import Notebook

from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.measure.endpoints import Endpoint, LocalShell
from pytest_k8snet.measure.guards import CpuState, Guard, read_cpu
from pytest_k8snet.measure.sampler import Sampler
from pytest_k8snet.verdict import Plan

STAT = "cpu  100 0 50 800 10 0 5 35 7 0\ncpu0 50 0 25 400 5 0 2 18 3 0\nintr 12\n"


@pytest.fixture
def observer() -> Notebook:
    return Notebook()


def test_counters_are_read_from_the_files_as_they_are() -> None:
    state = CpuState.parse(STAT + "usage_usec 9\nnr_periods 4\nnr_throttled 3\nthrottled_usec 8\n")
    assert state == CpuState(ticks=1000, steal_ticks=35, throttled=3)


def test_a_container_without_a_limit_was_never_throttled() -> None:
    assert CpuState.parse(STAT) == CpuState(ticks=1000, steal_ticks=35, throttled=0)


@pytest.mark.parametrize("text", ["", "cat: /proc/stat: No such file or directory\n"])
def test_what_is_not_there_is_not_known(text: str) -> None:
    assert CpuState.parse(text) is None


@pytest.mark.parametrize(
    ("after", "cause"),
    [
        (CpuState(ticks=2000, steal_ticks=85, throttled=3), ""),
        (
            CpuState(ticks=2000, steal_ticks=86, throttled=3),
            "the hypervisor took 5% of the CPU time of node1",
        ),
        (CpuState(ticks=2000, steal_ticks=35, throttled=5), "a CPU limit stopped node1 2 times"),
        (CpuState(ticks=1000, steal_ticks=35, throttled=3), ""),
    ],
)
def test_steal_and_throttling_are_told(after: CpuState, cause: str) -> None:
    before = CpuState(ticks=1000, steal_ticks=35, throttled=3)
    assert before.lost(after, "node1", 0.05) == cause


def test_the_start_of_the_first_process_is_read_whatever_its_name() -> None:
    first = "1 (a ) b) S 0 1 1 0 -1 4194560 20 0 0 0 1 2 0 0 20 0 1 0 777 2850816 0 18446\n"
    state = CpuState.parse(STAT + first)
    assert state == CpuState(ticks=1000, steal_ticks=35, throttled=0, started_ticks=777)


@pytest.mark.parametrize(
    ("started", "after", "restarted"),
    [(777, 777, False), (777, 900, True), (None, 900, False), (777, None, False)],
)
def test_a_container_that_restarted_is_a_cause(
    started: int | None, after: int | None, restarted: bool
) -> None:
    one = CpuState(ticks=1, steal_ticks=0, throttled=0, started_ticks=started)
    other = CpuState(ticks=2, steal_ticks=0, throttled=0, started_ticks=after)
    assert one.restarted(other) is restarted


def test_a_real_endpoint_has_counters_and_the_outside_is_left_alone(observer: Notebook) -> None:
    sampler = Sampler(observer)
    inside = Endpoint(kind="node", name="here", shell=LocalShell(), sampler=sampler)
    state = read_cpu(inside)
    assert state is not None
    assert state.ticks > state.steal_ticks >= 0
    assert state.started_ticks is not None
    assert state.idle is None
    watched = read_cpu(inside, 0.05)
    assert watched is not None
    assert watched.ticks > state.ticks
    assert watched.idle is not None
    assert 0 <= watched.idle <= 1
    nowhere = Endpoint(
        kind="outside", name="far", shell=LocalShell(("no-such-command",)), sampler=sampler
    )
    assert Guard((nowhere,), Plan()).outcome() == ("", "")


def stat(idle: int, *, busy: int = 0, waiting: int = 0) -> str:
    """The first line of ``/proc/stat``, in ticks."""
    return f"cpu  {busy} 0 0 {idle} {waiting} 0 0 0 0 0\n"


def test_what_was_idle_is_told_by_two_looks() -> None:
    state = CpuState.parse(stat(800, busy=190, waiting=10) + stat(803, busy=206, waiting=11))
    assert state == CpuState(ticks=1020, steal_ticks=0, throttled=0, idle=4 / 20)


def test_a_clock_that_stood_still_tells_nothing_of_what_was_idle() -> None:
    state = CpuState.parse(stat(800, busy=200) * 2)
    assert state == CpuState(ticks=1000, steal_ticks=0, throttled=0)


class Told:
    """A shell that answers with these texts, one after the other (the last for ever)."""

    def __init__(self, *texts: str) -> None:
        self.commands: list[Sequence[str]] = []
        self._texts = list(texts)

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        self.commands.append(argv)
        text = self._texts.pop(0) if len(self._texts) > 1 else self._texts[0]
        return Completed(argv=tuple(argv), exit_code=0, stdout=text, stderr="", seconds=0.0)


QUIET = stat(0) + stat(10)
BUSY = stat(0) + stat(1, busy=9)


@pytest.fixture
def told(observer: Notebook) -> Callable[..., Endpoint]:
    def make(node: str, *texts: str) -> Endpoint:
        return Endpoint(
            kind="pod", name="p", node=node, shell=Told(*texts), sampler=Sampler(observer)
        )

    return make


def commands(endpoint: Endpoint) -> list[Sequence[str]]:
    assert isinstance(endpoint.shell, Told)
    return endpoint.shell.commands


def test_a_node_that_is_busy_before_a_sample_is_a_cause(told: Callable[..., Endpoint]) -> None:
    one, two = told("node1", QUIET), told("node2", BUSY, BUSY, QUIET)
    guard = Guard((one, two), Plan())
    assert guard.outcome() == (
        "node2 was busy before the sample: 10% idle (plan: idle=0.2; --k8snet-plan=idle=0 counts "
        "it)",
        "",
    )
    assert Guard((told("node2", BUSY),), Plan(least_idle=0.1)).outcome() == ("", "")


def test_a_node_that_seems_busy_for_a_moment_is_looked_at_for_longer(
    told: Callable[..., Endpoint],
) -> None:
    calm, seeming = told("node1", QUIET), told("node2", BUSY, QUIET)
    assert Guard((calm, seeming), Plan()).outcome() == ("", "")
    # Watched briefly, watched for longer, and read once after the sample.
    windows = [argv[4] for argv in commands(seeming) if argv[0] == "sh"]
    assert windows == ["0.1", "0.5"]
    assert len(commands(seeming)) == 3
    once = told("node1", QUIET)
    assert Guard((once,), Plan()).outcome() == ("", "")
    assert len(commands(once)) == 2


def test_a_node_whose_cpu_cannot_be_read_is_not_busy(told: Callable[..., Endpoint]) -> None:
    assert Guard((told("node1", ""),), Plan()).outcome() == ("", "")
