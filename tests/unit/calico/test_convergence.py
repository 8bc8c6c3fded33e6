from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_k8snet.calico.convergence import wait_until_good
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
) -> float:
    """How many seconds it took until the state counted as good, the window included."""
    clock = Clock()
    begun = clock.now
    wait_until_good(
        lambda: bad(clock.now - begun),
        what="pool p in mode VXLAN-Always",
        timeout_seconds=timeout_seconds,
        stability_seconds=stability_seconds,
        remedy="Look at calico-node.",
        clock=clock,
        sleep=clock.sleep,
    )
    return clock.now - begun


def test_a_state_that_is_good_at_once_is_watched_for_the_shortest_window() -> None:
    assert 0.25 <= wait(lambda elapsed: []) < 0.6


def test_the_window_is_twice_as_long_as_the_state_took_to_become_good() -> None:
    assert 6 <= wait(lambda elapsed: ["no route"] if elapsed < 2 else []) < 10


def test_the_window_has_an_upper_bound_and_can_be_given() -> None:
    assert 25 <= wait(lambda elapsed: ["no route"] if elapsed < 15 else []) < 28
    looks: list[float] = []
    wait(lambda elapsed: looks.append(elapsed) or [], stability_seconds=0)  # type: ignore[func-returns-value]
    assert len(looks) == 1


def test_a_relapse_starts_the_window_again() -> None:
    assert wait(lambda elapsed: ["gone"] if elapsed < 1 or 2 < elapsed < 3 else []) >= 9


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

    assert wait(bad) >= 1 + 2


def test_a_calico_api_server_that_is_cut_off_meanwhile_is_asked_again() -> None:
    def bad(elapsed: float) -> list[str]:
        if elapsed < 12:
            raise ServerBusyError("it could not get ippools", status=503, found="no endpoints")
        return []

    assert wait(bad) >= 12 + 10


def test_a_missing_tool_ends_the_wait_at_once() -> None:
    def bad(elapsed: float) -> list[str]:
        raise ToolMissingError("no ip in the image")

    with pytest.raises(ToolMissingError):
        wait(bad)
