from __future__ import annotations

import pytest
from notebook import Notebook

from pytest_k8snet.measure.endpoint import Endpoint, LocalShell
from pytest_k8snet.measure.guards import CpuState, Guard, read_cpu
from pytest_k8snet.measure.sampler import Sampler

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
def test_steal_and_throttling_are_causes(after: CpuState, cause: str) -> None:
    before = CpuState(ticks=1000, steal_ticks=35, throttled=3)
    assert before.cause(after, "node1", 0.05) == cause


def test_the_start_of_the_first_process_is_read_whatever_its_name() -> None:
    first = "1 (a ) b) S 0 1 1 0 -1 4194560 20 0 0 0 1 2 0 0 20 0 1 0 777 2850816 0 18446\n"
    state = CpuState.parse(STAT + first)
    assert state == CpuState(ticks=1000, steal_ticks=35, throttled=0, started_ticks=777)


@pytest.mark.parametrize(
    ("started", "after", "cause"),
    [(777, 777, ""), (777, 900, "pod p restarted"), (None, 900, ""), (777, None, "")],
)
def test_a_container_that_restarted_is_a_cause(
    started: int | None, after: int | None, cause: str
) -> None:
    one = CpuState(ticks=1, steal_ticks=0, throttled=0, started_ticks=started)
    other = CpuState(ticks=2, steal_ticks=0, throttled=0, started_ticks=after)
    assert one.cause(other, "pod p", 0.05) == cause


def test_a_real_endpoint_has_counters_and_the_outside_is_left_alone(observer: Notebook) -> None:
    sampler = Sampler(observer)
    inside = Endpoint(kind="node", name="here", shell=LocalShell(), sampler=sampler)
    state = read_cpu(inside)
    assert state is not None
    assert state.ticks > state.steal_ticks >= 0
    assert state.started_ticks is not None
    nowhere = Endpoint(
        kind="outside", name="far", shell=LocalShell(("no-such-command",)), sampler=sampler
    )
    assert Guard((nowhere,), 0.05).cause() == ""
