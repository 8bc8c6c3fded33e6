"""The pod's cable: a veth pair as Calico's CNI plugin makes it, and the route to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import IPv4Address

from pytest_k8snet.lab.dataplane import netns, syscalls
from pytest_k8snet.lab.dataplane.underlay import NIC, node_namespace

#: The MAC address that every host end has: pods never need another neighbour.
HOST_MAC = "ee:ee:ee:ee:ee:ee"

#: The gateway of every pod, answered by proxy ARP.
POD_GATEWAY = IPv4Address("169.254.1.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cable:
    """One pod's connection to its node.

    Attributes:
        node: the node's name.
        interface: of the host end, ``cali`` and 11 hex digits.
        pod_namespace: the name of the pod's network namespace.
        address: of the pod.
        mtu_bytes: of both ends.
        metric: of the route to the pod; 0 as Calico before v3.32.
    """

    node: str
    interface: str
    pod_namespace: str
    address: IPv4Address
    mtu_bytes: int
    metric: int = 0

    def host_commands(self) -> tuple[list[str], list[str]]:
        """The ``ip`` commands in the node's namespace: to make the cable, then to use it."""
        make = [
            f"link add {self.interface} mtu {self.mtu_bytes} address {HOST_MAC} type veth"
            f" peer name {NIC} mtu {self.mtu_bytes} netns {self.pod_namespace}"
        ]
        metric = f" metric {self.metric}" if self.metric else ""
        use = [
            f"link set {self.interface} up",
            f"route replace {self.address}/32 dev {self.interface} scope link{metric}",
        ]
        return make, use

    def pod_commands(self) -> list[str]:
        """The ``ip`` commands in the pod's namespace."""
        return [
            f"addr add {self.address}/32 dev {NIC}",
            f"link set {NIC} up",
            f"neigh replace {POD_GATEWAY} lladdr {HOST_MAC} dev {NIC} nud permanent",
            f"route add {POD_GATEWAY} dev {NIC} scope link",
            f"route add default via {POD_GATEWAY} dev {NIC}",
        ]


def host_interface(namespace: str, pod: str) -> str:
    """The name of the host end for a pod: the same on every node and in every run."""
    return "cali" + hashlib.sha1(f"{namespace}.{pod}".encode()).hexdigest()[:11]


async def plug(cable: Cable, pod_sysctls: dict[str, str]) -> None:
    """Connect a pod to its node.

    Args:
        cable: what to make.
        pod_sysctls: settings of the pod's namespace, paths below ``/proc/sys/net``.

    Raises:
        DataplaneError: the kernel refused; nothing of the cable is left.
    """
    node = node_namespace(cable.node)

    def host_end() -> None:
        make, use = cable.host_commands()
        netns.batch_here(make)
        syscalls.write_sysctls(
            {
                f"ipv4/conf/{cable.interface}/proxy_arp": "1",
                f"ipv4/conf/{cable.interface}/rp_filter": "0",
                # Else the first answer waits up to 0.8 s, at random.
                f"ipv4/neigh/{cable.interface}/proxy_delay": "0",
            }
        )
        netns.batch_here(use)

    def pod_end() -> None:
        syscalls.write_sysctls(pod_sysctls)
        netns.batch_here(cable.pod_commands())

    try:
        await netns.run(node, host_end)
        await netns.run(cable.pod_namespace, pod_end)
    except netns.DataplaneError:
        await unplug(cable.node, cable.interface)
        raise


async def unplug(node: str, interface: str) -> None:
    """Remove a cable with its route; missing is fine."""
    if not netns.exists(node_namespace(node)):
        return

    def remove() -> None:
        if syscalls.has_interface(interface):
            netns.batch_here([f"link del {interface}"])

    await netns.run(node_namespace(node), remove)
