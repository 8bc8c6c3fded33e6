from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_k8snet.calico.convergence import Convergence, wait_until_good
from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.errors import ExecError, NotConvergedError, ToolMissingError


class Clock:
    """Time that passes only by sleeping, and 10 ms with every look."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.01
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(
    bad: Callable[[float], list[str]],
    timeout_seconds: float = 20.0,
    stability_seconds: float | None = None,
) -> Convergence:
    clock = Clock()
    begun = clock.now
    return wait_until_good(
        lambda: bad(clock.now - begun),
        what="pool p in mode VXLAN-Always",
        timeout_seconds=timeout_seconds,
        stability_seconds=stability_seconds,
        remedy="Look at calico-node.",
        clock=clock,
        sleep=clock.sleep,
    )


def test_a_state_that_is_good_at_once_is_watched_for_the_shortest_window() -> None:
    reached = wait(lambda elapsed: [])
    assert reached.seconds < 0.1
    assert 0.25 <= reached.window_seconds < 0.5
    assert reached.relapses == 0


def test_the_window_is_twice_as_long_as_the_state_took_to_become_good() -> None:
    reached = wait(lambda elapsed: ["no route"] if elapsed < 2 else [])
    assert 2 <= reached.seconds < 3
    assert reached.window_seconds == pytest.approx(2 * reached.seconds, abs=1.1)


def test_the_window_has_an_upper_bound_and_can_be_given() -> None:
    reached = wait(lambda elapsed: ["no route"] if elapsed < 15 else [])
    assert 10 <= reached.window_seconds < 12
    assert wait(lambda elapsed: [], stability_seconds=0).checks == 1


def test_a_relapse_starts_the_window_again() -> None:
    reached = wait(lambda elapsed: ["gone"] if elapsed < 1 or 2 < elapsed < 3 else [])
    assert reached.relapses == 1
    assert reached.seconds >= 3


def test_a_timeout_names_what_was_expected_and_what_was_found_last() -> None:
    with pytest.raises(NotConvergedError) as caught:
        wait(lambda elapsed: ["node1 sends 10.0.0.1 dev eth0, expected dev vxlan.calico"])
    assert str(caught.value) == (
        "pool p in mode VXLAN-Always: not there after 20 s\n"
        "  found: node1 sends 10.0.0.1 dev eth0, expected dev vxlan.calico\n"
        "  to do: Look at calico-node."
    )


def test_a_state_that_comes_and_goes_is_no_convergence() -> None:
    with pytest.raises(NotConvergedError) as caught:
        wait(
            lambda elapsed: ["gone"] if elapsed % 5 < 2 else [],
            timeout_seconds=9,
            stability_seconds=4,
        )
    # It ends either way: at the time-out while bad, or for never having stayed.
    assert "pool p in mode VXLAN-Always" in caught.value.problem


def test_an_exec_that_fails_on_the_way_is_looked_at_again() -> None:
    def bad(elapsed: float) -> list[str]:
        if elapsed < 1:
            raise ExecError("the exec stream broke off", found="EOF")
        return []

    assert wait(bad).seconds >= 1


def test_a_calico_api_server_that_is_cut_off_meanwhile_is_asked_again() -> None:
    def bad(elapsed: float) -> list[str]:
        if elapsed < 12:
            raise ServerBusyError("it could not get ippools", status=503, found="no endpoints")
        return []

    assert wait(bad).seconds >= 12


def test_a_missing_tool_ends_the_wait_at_once() -> None:
    def bad(elapsed: float) -> list[str]:
        raise ToolMissingError("no ip in the image")

    with pytest.raises(ToolMissingError):
        wait(bad)
