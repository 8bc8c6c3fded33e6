"""Kernels in trouble: what was programmed half-way or lost by the way is put right."""

from __future__ import annotations

import shutil
from typing import Any

import dataplane_sandbox
import pytest


def scenario(name: str, /, **arguments: Any) -> Any:
    return dataplane_sandbox.run("mending_scenarios", name, **arguments)


@pytest.mark.parametrize("mode", ["VXLAN-Always", "IPIP-Always"])
def test_a_tunnel_address_that_changes_or_goes_costs_no_route(mode: str) -> None:
    found = scenario("addresses", mode=mode)
    implementation = found.pop("ipip")
    if mode.startswith("IPIP") and implementation.startswith("unavailable"):
        pytest.skip(implementation)
    for change in found:
        assert found[change] == {"error": "", "missing": [], "again": 0}, change


def test_a_tunnel_device_that_was_set_down_is_set_up_again() -> None:
    assert scenario("set_down") == {"mended": True}


@pytest.mark.skipif(shutil.which("ethtool") is None, reason="asks the device by ethtool")
def test_after_a_pass_that_fails_half_way_the_rest_is_there_and_the_next_completes_it() -> None:
    found = scenario("half_done")
    assert "RTNETLINK answers: Address already in use" in found["error"]
    assert "link set vxlan.calico up" in found["error"]
    assert "route replace 10.244.0.192/26 via 10.244.0.192 dev vxlan.calico" in found["error"]
    assert found["direct"] == [
        "10.244.0.0/26 via 192.168.0.10 dev eth0 proto 80 onlink",
        "10.244.0.128/26 via 192.168.0.12 dev eth0 proto 80 onlink",
    ]
    assert (found["again"], found["missing"]) == (0, 0)
    assert found["segmentation"] == ["off"]


def test_a_namespace_that_cannot_be_finished_leaves_nothing_behind() -> None:
    found = scenario("half_made")
    assert found["error"] == "cannot make the network namespace bad"
    assert (found["left"], found["name left"]) == (False, False)


def test_a_flood_of_route_changes_does_not_end_the_forwarder() -> None:
    found = scenario("flood")
    if "unavailable" in found:
        pytest.skip(found["unavailable"])
    assert found == {"ordinary": True, "forwarder's": False, "left": []}
