from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from pytest_k8snet.causes import Cause, Evidence
from pytest_k8snet.change.readiness import wait_until_good
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
    look_closer: Callable[[Sequence[str]], Sequence[str]] = lambda wrong: wrong,
) -> float:
    """How many seconds it took until the state counted as good, the window included."""
    clock = Clock()
    begun = clock.now
    wait_until_good(
        lambda: bad(clock.now - begun),
        what="pool p in mode VXLAN-Always",
        timeout_seconds=timeout_seconds,
        stability_seconds=stability_seconds,
        look_closer=look_closer,
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
        "  to do: If one node lags, delete its calico-node pod; if all do, look at the logs of "
        "calico-node and, with the operator, at TigeraStatus."
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


LOST = Evidence("no payload arrived", Cause.FABRIC_IPIP)
NO_DEVICE = Evidence("node1 has no tunl0 yet", Cause.NO_TUNNEL_DEVICE)
NO_KERNEL = Evidence(f"{NO_DEVICE}: its kernel supports no IPIP", Cause.NO_KERNEL_SUPPORT)
NO_ROUTE = Evidence("node2 has no route to 10.0.0.1", Cause.NO_ROUTE)


@pytest.mark.parametrize(
    ("wrong", "closer", "cause", "seconds"),
    [
        pytest.param([LOST], None, Cause.FABRIC_IPIP, 26, id="the fabric: early"),
        pytest.param([NO_ROUTE, NO_DEVICE], NO_KERNEL, Cause.NO_KERNEL_SUPPORT, 26, id="module"),
        pytest.param([NO_ROUTE, NO_DEVICE], None, Cause.NO_TUNNEL_DEVICE, 180, id="Felix: late"),
        pytest.param([NO_ROUTE], None, Cause.NO_ROUTE, 180, id="a route may still come"),
        pytest.param([LOST, NO_DEVICE], None, Cause.NO_TUNNEL_DEVICE, 180, id="and something else"),
        pytest.param([LOST, "no exec"], None, Cause.FABRIC_IPIP, 180, id="and something unknown"),
    ],
)
def test_a_time_out_says_the_cause_and_ends_early_where_nothing_can_change(
    wrong: list[str], closer: str | None, cause: Cause, seconds: float
) -> None:
    began = 0.0

    def bad(elapsed: float) -> list[str]:
        nonlocal began
        began = elapsed
        return wrong

    def look_closer(found: Sequence[str]) -> Sequence[str]:
        return [closer if one is NO_DEVICE and closer else one for one in found]

    with pytest.raises(NotConvergedError) as caught:
        wait(bad, timeout_seconds=180, look_closer=look_closer)
    assert caught.value.remedy == cause.remedy
    assert seconds - 1 <= began <= seconds + 2


def test_what_is_lost_for_a_moment_is_waited_for() -> None:
    assert wait(lambda elapsed: [LOST] if elapsed < 19 else [], timeout_seconds=180) > 29

    # Routes that go meanwhile may come back otherwise.
    def flapping(elapsed: float) -> list[str]:
        return [NO_ROUTE] if elapsed % 20 < 5 else [LOST]

    with pytest.raises(NotConvergedError, match="not there after 60 s"):
        wait(flapping, timeout_seconds=60)
