"""Calico's part of the lab after trouble: what ends is over, what was lost comes back."""

from __future__ import annotations

from typing import Any

import dataplane_sandbox
import pytest


def scenario(name: str, /, **arguments: Any) -> Any:
    return dataplane_sandbox.run("recovery_scenarios", name, **arguments)


@pytest.mark.parametrize("name", ["slow_convergence", "felix_restart_gap"])
def test_a_delay_ends_with_its_fault(name: str) -> None:
    assert scenario("fault_ends", name=name) == {"all": True}


def test_a_late_node_keeps_no_other_from_a_newer_mode_and_never_gets_the_outdated_one() -> None:
    late = scenario("newest_first")["late"]
    assert "10.244.239.128/26 via 192.168.0.12 dev eth0 proto bird" in late
    assert not any("vxlan.calico" in line for line in late)


def test_packets_are_led_around_no_longer_than_asked_for_whatever_else_fails() -> None:
    assert scenario("bypass_ends")["rules"] == ""


def test_what_a_failed_pass_left_behind_goes_when_the_mode_is_taken_back() -> None:
    assert scenario("flip_back") == {"back": True}


def test_a_stale_node_stays_stale_when_everything_is_compared_again() -> None:
    stale = scenario("stale_for_good")["stale"]
    assert "10.244.239.128/26 via 192.168.0.12 dev eth0 proto bird" in stale
    assert not any("vxlan.calico" in line for line in stale)


def test_without_its_object_a_node_is_unknown_and_the_others_go_on() -> None:
    without = scenario("node_deleted")["without"]
    assert any(line.startswith("10.244.239.128/26 via") for line in without)
    assert not any(line.startswith("10.244.79.128/26") for line in without)


def test_a_deleted_tunl0_comes_back_on_every_node_with_its_routes() -> None:
    found = scenario("tunl0_deleted")
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    assert found["error"] == ""
    assert found["wire"] == [
        "in ipip 192.168.0.12 > 192.168.0.11 DF",
        "out ipip 192.168.0.11 > 192.168.0.12 DF",
    ]
