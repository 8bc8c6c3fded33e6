"""What the tests of the lab's Calico do inside a sandbox: a store, calico-node, CNI and pods."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from dataplane_traffic import Sniffer, fetch, serve

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.calico_node import CalicoNode
from pytest_k8snet.lab.calico.ipam import BLOCKS, Cni, CniError, Ipam, PodNetwork
from pytest_k8snet.lab.calico.pools import POOLS
from pytest_k8snet.lab.dataplane import kernel, netns, underlay
from pytest_k8snet.lab.spec import LabSpec, study_nodes

SPEC = LabSpec(nodes=study_nodes(4))
VXLAN, IPIP = "projectcalico.org/IPv4VXLANTunnelAddr", "projectcalico.org/IPv4IPIPTunnelAddr"


class Play:
    """A cluster of nodes and pools, without an API server or a kubelet."""

    def __init__(self, spec: LabSpec = SPEC) -> None:
        self.store = Store(calico=spec.calico)
        ipam = Ipam(self.store)
        self.calico = CalicoNode(self.store, spec, ipam=ipam)
        self.cni = Cni(
            self.store,
            ipam=ipam,
            pod_mtu=self.calico.pod_mtu,
            route_metric=0,
            sysctls=underlay.endpoint_sysctls(spec),
        )
        for name in ("default", "kube-system"):
            self.store.create("namespaces", {"metadata": {"name": name}})
        for node in spec.nodes:
            labels = {"kubernetes.io/hostname": node.name}
            self.store.create("nodes", {"metadata": {"name": node.name, "labels": labels}})
        self.pool("default-ipv4-ippool", str(spec.pod_cidr), natOutgoing=True)

    def pool(self, name: str, cidr: str, **spec: Any) -> None:
        body = {"metadata": {"name": name}, "spec": {"cidr": cidr, **spec}}
        self.store.create(POOLS, body)

    def modes(self, ipip_mode: str, vxlan_mode: str) -> None:
        patch = {"spec": {"ipipMode": ipip_mode, "vxlanMode": vxlan_mode}}
        self.store.patch(POOLS, "default-ipv4-ippool", patch, "merge")

    def faults(self, **data: str) -> None:
        named = {name.replace("_", "-"): value for name, value in data.items()}
        meta = {"name": "k8snet-lab-faults"}
        with contextlib.suppress(StatusError):
            self.store.delete("configmaps", "k8snet-lab-faults", "kube-system")
        self.store.create("configmaps", {"metadata": meta, "data": named}, "kube-system")

    async def pod(self, name: str, node: str, *, pool: str | None = None) -> PodNetwork:
        annotations = {} if pool is None else {"cni.projectcalico.org/ipv4pools": pool}
        meta = {"name": name, "annotations": annotations}
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        pod = self.store.create("pods", {"metadata": meta, "spec": spec}, "default")
        await netns.create(name)
        try:
            return await self.cni.add(pod, name)
        except CniError:
            await netns.delete(name)
            raise

    async def remove(self, name: str) -> None:
        pod = self.store.get("pods", name, "default")
        await self.cni.delete(pod)
        await netns.delete(name)
        self.store.delete("pods", name, "default", grace_seconds=0)

    def annotations(self, name: str) -> dict[str, list[str]]:
        """For each tunnel annotation, the nodes that have it."""
        found = self.store.list("nodes")
        have = [
            node["metadata"]["name"]
            for node in found
            if name in node["metadata"].get("annotations", {})
        ]
        return {"nodes": have}


@contextlib.asynccontextmanager
async def playing(spec: LabSpec = SPEC) -> AsyncIterator[Play]:
    play = Play(spec)
    await underlay.build(spec)
    await play.calico.prepare()
    running = asyncio.create_task(play.calico.run())
    try:
        yield play
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def routes(node: str = "node1") -> list[str]:
    text = await netns.output(f"node-{node}", ["ip", "route", "show"])
    return [line.strip() for line in text.splitlines()]


async def until(condition: Callable[[list[str]], bool], node: str = "node1") -> float:
    """Wait until the routes of a node are as wanted; how long that took, in seconds."""
    begin = time.monotonic()
    while not condition(found := await routes(node)):
        assert time.monotonic() < begin + 10, found
        await asyncio.sleep(0.01)
    return time.monotonic() - begin


def through(device: str) -> Callable[[list[str]], bool]:
    return lambda found: any(f"dev {device}" in r and "/26" in r for r in found)


async def life() -> dict[str, Any]:
    """Pods come, the pool changes its mode, and everything follows."""
    found: dict[str, Any] = {}
    async with playing() as play:
        found["pod"] = [(await play.pod("a", "node1")).mtu, (await play.pod("b", "node2")).mtu]
        await until(lambda r: any("proto bird" in line and "via" in line for line in r))
        found["never"] = await routes()
        found["annotations"] = play.store.get("nodes", "node3")["metadata"]["annotations"]
        play.modes("Never", "Always")
        await until(through("vxlan.calico"))
        found["vxlan nodes"] = play.annotations(VXLAN)["nodes"]
        found["vxlan pod"] = (await play.pod("c", "node1")).mtu
        async with serve("b") as port:
            address = IPv4Address("10.244.239.128")
            found["old pods"] = (await fetch("a", address, port)).error
        play.modes("Never", "CrossSubnet")
        await until(lambda r: any("proto 80 onlink" in line for line in r))
        play.modes("Never", "Never")
        await until(lambda r: not through("vxlan.calico")(r))
        found["no longer"] = play.annotations(VXLAN)["nodes"]
        found["blocks"] = sorted(b["spec"]["cidr"] for b in play.store.list(BLOCKS))
        found["never again"] = await routes()
        await play.remove("a")
        found["after removal"] = [r for r in await routes() if "10.244.230.128 " in r]
        found["ipip"] = play.calico.ipip.implementation
    return found


async def dedicated() -> dict[str, Any]:
    """Three small pools of their own modes, side by side, and gone again."""
    found: dict[str, Any] = {}
    async with playing() as play:
        modes = {"none": {}, "vxlan": {"vxlanMode": "Always"}, "ipip": {"ipipMode": "Always"}}
        if not play.calico.ipip.available:
            del modes["ipip"]
        selector = "kubernetes.io/hostname in { 'node1', 'node2' }"
        for index, (name, mode) in enumerate(modes.items()):
            play.pool(
                name,
                f"198.18.{index}.0/26",
                blockSize=29,
                assignmentMode="Manual",
                nodeSelector=selector,
                **mode,
            )
        pods = {}
        for name in modes:
            for node in ("node1", "node2"):
                made = await play.pod(f"{name}-{node}", node, pool=f'["{name}"]')
                pods[f"{name}-{node}"] = made.address
        found["modes"] = list(modes)
        found["mtu"] = made.mtu
        await until(lambda r: sum("198.18." in line and "via" in line for line in r) == len(modes))
        found["routes"] = [line for line in await routes() if "198.18." in line and "via" in line]
        found["vxlan nodes"] = play.annotations(VXLAN)["nodes"]
        for name in modes:
            async with serve(f"{name}-node2") as port:
                with await netns.run("node-node1", Sniffer) as sniffer:
                    target = IPv4Address(pods[f"{name}-node2"])
                    await fetch(f"{name}-node1", target, port)
                    found[name] = sorted(sniffer.seen())
        found["vxlan devices"] = []
        for one in SPEC.nodes:
            links = await netns.output(f"node-{one.name}", ["ip", "-brief", "link"])
            if "vxlan.calico" in links:
                found["vxlan devices"].append(one.name)
        for pod in pods:
            await play.remove(pod)
        for name in modes:
            play.store.delete(POOLS, name)
        await until(lambda r: not any("198.18." in line for line in r))
        found["left"] = [b for b in play.store.list(BLOCKS) if "198.18." in b["spec"]["cidr"]]
        found["annotations"] = [play.annotations(VXLAN)["nodes"], play.annotations(IPIP)["nodes"]]
        try:
            await play.pod("late", "node1", pool='["vxlan"]')
        except CniError as error:
            found["late"] = str(error)
    return found


#: When node1 has reached what a fault leaves of its routes; other faults leave it as it was.
_SETTLED = {
    "routes_missing_on": lambda routes: not any("/26 via" in line for line in routes),
    "one_direction": lambda routes: sum("dev vxlan.calico" in line for line in routes) == 3,
    "wrong_mtu": lambda routes: sum("dev vxlan.calico" in line for line in routes) == 3,
}


async def fault(name: str, value: str) -> dict[str, Any]:
    """A fault, then a change of the pool, then the fault's end."""
    found: dict[str, Any] = {}
    async with playing() as play:
        for node in ("node1", "node2", "node3"):
            await play.pod(f"pod-{node}", node)
        await until(lambda r: sum("proto bird" in line for line in r) == 3)
        play.faults(**{name: value})
        play.modes("Never", "Always")
        await until(through("vxlan.calico"), "node2")
        # Nodes are programmed side by side: node1 may still be at it.
        await until(_SETTLED.get(name, lambda routes: True), "node1")
        found["node1"], found["node2"] = await routes("node1"), await routes("node2")
        found["mtu"] = (await play.pod("new", "node1")).mtu
        play.store.delete("configmaps", "k8snet-lab-faults", "kube-system")
        await until(lambda r: sum("dev vxlan.calico" in line for line in r) == 3, "node1")
        await until(lambda r: sum("dev vxlan.calico" in line for line in r) == 3, "node2")
        found["log"] = kernel.felix_log("node1").read_text()
        found["symbols"] = kernel.symbols("node1").read_text()
    return found


async def delays() -> dict[str, Any]:
    """The faults that take time."""
    found: dict[str, Any] = {}
    async with playing() as play:
        for node in ("node1", "node3"):
            await play.pod(f"pod-{node}", node)
        await until(lambda r: sum("proto bird" in line for line in r) == 2)
        play.faults(felix_restart_gap="0.5")
        play.modes("Never", "Always")
        await until(lambda r: not any("/26" in line and "via" in line for line in r))
        found["mtu in the gap"] = (await play.pod("early", "node1")).mtu
        found["gap"] = await until(through("vxlan.calico"))
        found["mtu after the gap"] = (await play.pod("late", "node1")).mtu
        play.faults(slow_convergence="0.8")
        play.modes("Never", "Never")
        await until(lambda r: not through("vxlan.calico")(r), "master")
        found["last"] = await until(lambda r: not through("vxlan.calico")(r), "node3")
    return found


async def without_ipip() -> dict[str, str]:
    """Where the machine has no IPIP, a pool that wants it is refused, and the lab goes on."""
    found: dict[str, str] = {}
    subprocess.run(["mount", "--bind", "/dev/null", "/dev/net/tun"], check=True)
    async with playing(replace(SPEC, ipip_driver="tun")) as play:
        try:
            play.modes("Always", "Never")
        except StatusError as error:
            found["refusal"] = str(error)
        await play.pod("a", "node1")
        await play.pod("b", "node2")
        play.modes("Never", "Always")
        await until(through("vxlan.calico"))
    play = Play(replace(SPEC, ipip_driver="tun"))
    play.modes("CrossSubnet", "Never")
    try:
        await play.calico.prepare()
    except LabError as error:
        found["start"] = str(error)
    return found
