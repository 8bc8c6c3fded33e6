"""The dataplane with real packets, in namespaces that vanish with each test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dataplane_sandbox
import pytest

NODE1 = "192.168.0.11"
SERVERS = {"node2": "192.168.0.12", "node3": "192.168.1.13"}
PODS = {"node1": "10.244.0.69", "node2": "10.244.0.133", "node3": "10.244.0.197"}

# Which tunnel carries what node1's pod sends to the pods of node2 (same subnet) and of node3.
TUNNELS: dict[str, tuple[str, str]] = {
    "Never": ("", ""),
    "VXLAN-CrossSubnet": ("", "vxlan"),
    "VXLAN-Always": ("vxlan", "vxlan"),
    "IPIP-CrossSubnet": ("", "ipip"),
    "IPIP-Always": ("ipip", "ipip"),
}
# The pod's MTU less 20 bytes of IP, 20 of TCP and 12 of its timestamps.
MSS = {"Never": 1448, "VXLAN": 1398, "IPIP": 1428}


def scenario(name: str, **arguments: Any) -> Any:
    return dataplane_sandbox.run("dataplane_scenarios", name, **arguments)


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """What every mode looks like on the wire."""
    found: dict[str, Any] = scenario("paths", modes=list(TUNNELS))
    return found


def mode_facts(seen: dict[str, Any], mode: str) -> dict[str, Any]:
    if mode.startswith("IPIP") and seen["ipip"].startswith("unavailable"):
        pytest.skip(seen["ipip"])
    facts: dict[str, Any] = seen[mode]
    return facts


def on_the_wire(tunnel: str, client: str, server: str) -> set[str]:
    """The kinds of packets, out and in, that node1 must exchange with a node and no others."""
    near, far = (NODE1, SERVERS[server]) if tunnel else (PODS[client], PODS[server])
    form = {"": "tcp {}", "vxlan": "udp/4789 {}", "ipip": "ipip {} DF"}[tunnel]
    return {"out " + form.format(f"{near} > {far}"), "in " + form.format(f"{far} > {near}")}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("mode", TUNNELS)
def test_pod_traffic_takes_the_path_of_its_mode_in_both_directions(
    seen: dict[str, Any], mode: str, server: str
) -> None:
    tunnel = TUNNELS[mode][list(SERVERS).index(server)]
    facts = mode_facts(seen, mode)[server]
    assert set(facts["wire"]) == on_the_wire(tunnel, "node1", server)
    assert facts["peer"] == PODS["node1"]


@pytest.mark.parametrize("mode", TUNNELS)
def test_the_segments_fit_the_tunnels_in_use(seen: dict[str, Any], mode: str) -> None:
    facts = mode_facts(seen, mode)
    assert {facts[server]["mss"] for server in SERVERS} == {MSS[mode.split("-")[0]]}


@pytest.mark.parametrize("mode", TUNNELS)
def test_programming_a_second_time_changes_nothing(seen: dict[str, Any], mode: str) -> None:
    facts = mode_facts(seen, mode)
    assert facts["commands"]
    assert facts["commands_again"] == 0


def test_vxlan_calico_goes_and_tunl0_only_loses_its_address() -> None:
    found = scenario("leftovers")
    vxlan, ipip = found["VXLAN-Always"], found["IPIP-Always"]
    assert vxlan["used"] == ["10.244.0.64", "None"]
    assert vxlan["left"] == ["None", "None"]
    assert ipip["left"] == ["None", "None"]
    assert not any("tunl0" in route or "vxlan" in route for route in ipip["routes"])
    assert vxlan["routes"] == ipip["routes"]


def test_damage_to_a_kernel_is_seen_and_mended() -> None:
    found = scenario("mending")
    assert found["broken"]
    assert found["mended"]
    # A route, a stale route, a neighbour per peer, and the device's MTU.
    assert found["commands"] == 1 + 1 + 3 + 1


@pytest.mark.parametrize(
    ("mode", "node_source"),
    [("Never", NODE1), ("VXLAN-Always", "10.244.0.64"), ("IPIP-Always", "10.244.0.64")],
)
def test_nodes_and_pods_appear_under_the_addresses_that_calico_gives_them(
    sources: dict[str, Any], mode: str, node_source: str
) -> None:
    facts = mode_facts(sources, mode)
    assert facts["node to pod"] == node_source
    assert facts["pod to node"] == NODE1
    assert facts["pod to outside"] == NODE1


@pytest.fixture(scope="module")
def sources() -> dict[str, Any]:
    found: dict[str, Any] = scenario("sources")
    return found


def test_services_answer_on_every_kind_of_address() -> None:
    found = scenario("services")
    assert found["pod peers"] == [PODS["node1"]]
    assert found["pod servers"] == 2
    for way in ("node", "node port", "balancer", "balancer from a pod"):
        assert found[way], way
    assert found["empty"] == found["empty from a node"] == "ConnectionRefusedError"
    # A pod that reaches itself through a service sees its node; another backend sees the pod.
    assert found["own service"] == SERVERS["node2"]
    assert found["other backend"] == sorted([PODS["node2"], SERVERS["node2"]])


def test_the_bypass_contradicts_the_routing_table_until_it_is_mended() -> None:
    found = scenario("around", mode="VXLAN-Always")
    assert f"out tcp {PODS['node1']} > {PODS['node2']}" in found["around"]
    assert not any(kind.startswith("out udp/4789") for kind in found["around"])
    assert "dev vxlan.calico" in found["around promised"]
    assert set(found["mended"]) == on_the_wire("vxlan", "node1", "node2")


def test_the_bypass_leads_through_tunl0_where_the_routing_table_goes_direct() -> None:
    found = scenario("around", mode="IPIP-CrossSubnet")
    if found["ipip"].startswith("unavailable"):
        pytest.skip(found["ipip"])
    assert f"out ipip {NODE1} > {SERVERS['node2']} DF" in found["around"]
    assert not any(kind.startswith("out tcp") for kind in found["around"])
    assert "dev eth0" in found["around promised"]
    assert set(found["mended"]) == on_the_wire("", "node1", "node2")


def test_errors_name_the_command_and_the_kernels_answer() -> None:
    found = scenario("trouble")
    assert found["batch"] == (
        "ip could not program a network namespace of the lab\n"
        "  found: Error: Nexthop has invalid gateway.\n"
        "         route add 10.9.9.0/24 via 203.0.113.99\n"
        '         Cannot find device "nic"\n'
        "         link set nic up"
    )
    # ip ends at a neighbour that it cannot delete, and does not say where it was.
    assert found["neighbour"] == (
        "ip could not program a network namespace of the lab\n"
        '  found: Cannot find device "nic"\n'
        "         link set nic up\n"
        "         RTNETLINK answers: No such file or directory\n"
        "         the batch ended there, at one of:\n"
        "         neigh del 10.9.9.9 dev eth0\n"
        "         link set lo up\n"
        "         route add 10.9.9.0/24 via 203.0.113.99\n"
        "         link set nic up"
    )
    assert found["namespace"] == "the lab has no network namespace named node-node9"
    assert found["program"] == (
        "the lab needs the program no-such-program, which this machine does not have\n"
        "  to do: apt-get install no-such-program"
    )
    assert found["twice"] == "the lab already has a network namespace named node-node1"


def test_without_privileges_a_user_namespace_gives_the_same_paths() -> None:
    modes = ["Never", "VXLAN-CrossSubnet", "VXLAN-Always", "IPIP-Always"]
    modes = modes if os.access("/dev/net/tun", os.W_OK) else modes[:3]
    found = dataplane_sandbox.run("dataplane_scenarios", "paths", privileged=False, modes=modes)
    for mode in modes:
        for server, tunnel in zip(SERVERS, TUNNELS[mode], strict=True):
            assert set(found[mode][server]["wire"]) == on_the_wire(tunnel, "node1", server)


def test_a_killed_sandbox_leaves_no_process_behind() -> None:
    code = "import os, dataplane_sandbox as s; print(os.getpid()); s.run('test_dataplane', 'sleep')"
    here = str(Path(__file__).parent)
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", code],
        cwd=here,
        stdout=subprocess.PIPE,
        env={**os.environ, "K8SNET_MARK": f"sandbox-of-{os.getpid()}"},
    )
    mark = f"K8SNET_MARK=sandbox-of-{os.getpid()}"
    # The sandbox's runner, its keeper and pid 1, and two forwarders where IPIP needs them.
    _wait_until(lambda: len(_marked(mark)) >= 3 and Path("/proc").exists())
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()
    _wait_until(lambda: not _marked(mark))


async def sleep() -> None:
    """Not a test: what the killed sandbox was doing."""
    import asyncio

    import dataplane_scenarios

    from pytest_k8snet.lab.dataplane import ipip, underlay

    await underlay.build(dataplane_scenarios.SPEC)
    await (await ipip.detect(dataplane_scenarios.SPEC)).ensure()
    await asyncio.Event().wait()


def _marked(mark: str) -> list[int]:
    """The processes that have this in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
