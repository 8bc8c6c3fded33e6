"""The packet rules of nodes: kube-proxy's for services, and Calico's; each an nftables table.

A packet for a service's address and port is sent on to one of its ready endpoints, chosen by
chance; one without endpoints is refused. Traffic that comes from outside the pods' networks (a
node, the world behind a load balancer), and a pod that reaches itself, is masqueraded, so that
the reply finds its way back through this node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.felix import IPIP_DEVICE, VXLAN_DEVICE, Datastore
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.spec import LabSpec

_SERVICE_TABLE = "k8snet-services"
#: The bit that kube-proxy marks packets with that shall be masqueraded.
_MASQUERADE = "0x4000"

Object = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """One port of one service, and where it leads.

    Attributes:
        name: namespace, service and port, for people who read the ruleset.
        protocol: ``tcp`` or ``udp``.
        port: the service's own port.
        cluster_ips: its addresses inside the cluster.
        external_ips: its addresses for the outside: load balancer and external IPs.
        node_port: the port on every node's address; 0 for none.
        backends: address and port of each ready endpoint.
    """

    name: str
    protocol: str
    port: int
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    node_port: int = 0
    backends: tuple[tuple[str, int], ...] = ()


def service_ports(services: Sequence[Object], endpoints: Mapping[str, Object]) -> list[ServicePort]:
    """Read services and their Endpoints; addresses of the other family are passed over.

    Args:
        services: Service objects.
        endpoints: Endpoints objects by ``namespace/name``.
    """
    found = []
    for service in services:
        spec, meta = service.get("spec", {}), service["metadata"]
        cluster_ips = spec.get("clusterIPs") or [spec.get("clusterIP")]
        if spec.get("type") == "ExternalName" or "None" in cluster_ips or not any(cluster_ips):
            continue
        ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress", [])
        external = [entry["ip"] for entry in ingress if entry.get("ip")]
        external += spec.get("externalIPs") or []
        key = f"{meta['namespace']}/{meta['name']}"
        subsets = endpoints.get(key, {}).get("subsets") or []
        for port in spec.get("ports", []):
            found.append(
                ServicePort(
                    name=f"{key}:{port.get('name') or port['port']}",
                    protocol=port.get("protocol", "TCP").lower(),
                    port=port["port"],
                    cluster_ips=_ipv4(cluster_ips),
                    external_ips=_ipv4(external),
                    node_port=port.get("nodePort", 0),
                    backends=_backends(subsets, port.get("name", "")),
                )
            )
    return found


def _backends(subsets: Sequence[Object], port_name: str) -> tuple[tuple[str, int], ...]:
    return tuple(
        (address, port["port"])
        for subset in subsets
        for port in subset.get("ports") or []
        if (port.get("name") or "") == port_name
        for address in _ipv4([entry["ip"] for entry in subset.get("addresses") or []])
    )


def _ipv4(texts: Sequence[str | None]) -> tuple[str, ...]:
    """The IPv4 addresses of hosts among texts; nft would ask DNS what any other text means."""
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            address = IPv4Address(text or "")
            if not (address.is_unspecified or address.is_loopback or address.is_multicast):
                found.append(str(address))
    return tuple(found)


def external_addresses(ports: Sequence[ServicePort]) -> list[str]:
    """The addresses that a node must answer for on its subnet."""
    return sorted({address for port in ports for address in port.external_ips})


def service_rules(ports: Sequence[ServicePort], pod_networks: Sequence[str]) -> str:
    """The whole table as nft reads it; applying it replaces what was there in one step.

    Of two ports that claim the same address or node port, the first has it.

    Args:
        ports: what there is.
        pod_networks: the IPPools' CIDRs; traffic from elsewhere is masqueraded.
    """
    # Where each address and each node port leads; nowhere is the empty chain.
    addresses: dict[str, str] = {}
    node_ports: dict[str, str] = {}
    for index, port in enumerate(ports):
        inside, outside = (
            (f"service-{index}", f"service-{index}-outside") if port.backends else ("", "")
        )
        for ip in port.cluster_ips:
            addresses.setdefault(f"{ip} . {port.protocol} . {port.port}", inside)
        for ip in port.external_ips:
            addresses.setdefault(f"{ip} . {port.protocol} . {port.port}", outside)
        if port.node_port:
            node_ports.setdefault(f"{port.protocol} . {port.node_port}", outside)
    chains = [_service_chain(index, port) for index, port in enumerate(ports) if port.backends]
    pods = f"ip saddr {{ {', '.join(pod_networks)} }} return" if pod_networks else ""
    lines = [
        f"table ip {_SERVICE_TABLE}",
        f"delete table ip {_SERVICE_TABLE}",
        f"table ip {_SERVICE_TABLE} {{",
        "chain mark-unless-pod {",
        pods,
        f"meta mark set meta mark or {_MASQUERADE}",
        "}",
        *chains,
        "chain services {",
        _map("ip daddr . meta l4proto . th dport", addresses),
        _map("fib daddr type local meta l4proto . th dport", node_ports),
        "}",
        "chain prerouting { type nat hook prerouting priority dstnat; jump services; }",
        "chain output { type nat hook output priority -100; jump services; }",
        "chain postrouting {",
        "type nat hook postrouting priority srcnat - 10;",
        _hairpins(ports),
        f"meta mark and {_MASQUERADE} == {_MASQUERADE} masquerade",
        "}",
        "chain refuse {",
        _set("ip daddr . meta l4proto . th dport", addresses),
        _set("fib daddr type local meta l4proto . th dport", node_ports),
        "}",
        # Before the nat hooks' routing: an address without endpoints leads nowhere.
        *(
            f"chain refuse-{hook} {{ type filter hook {hook} priority 0; jump refuse; }}"
            for hook in ("input", "forward", "output")
        ),
        "}",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _service_chain(index: int, port: ServicePort) -> str:
    choices = ", ".join(
        f"{number} : {address} . {target}" for number, (address, target) in enumerate(port.backends)
    )
    count = len(port.backends)
    return (
        f"# {port.name}\n"
        f"chain service-{index} {{\n"
        "jump mark-unless-pod\n"
        f"meta l4proto {port.protocol} "
        f"dnat ip to numgen random mod {count} map {{ {choices} }}\n"
        "}\n"
        f"chain service-{index}-outside {{\n"
        f"meta mark set meta mark or {_MASQUERADE}\n"
        f"goto service-{index}\n"
        "}"
    )


def _hairpins(ports: Sequence[ServicePort]) -> str:
    """An endpoint that reached itself would answer itself, not the service it asked."""
    addresses = dict.fromkeys(address for port in ports for address, _ in port.backends)
    pairs = ", ".join(f"{address} . {address}" for address in addresses)
    return f"ip saddr . ip daddr {{ {pairs} }} masquerade" if pairs else ""


def _map(key: str, chains: Mapping[str, str]) -> str:
    entries = ", ".join(f"{entry} : goto {chain}" for entry, chain in chains.items() if chain)
    return f"{key} vmap {{ {entries} }}" if entries else ""


def _set(key: str, chains: Mapping[str, str]) -> str:
    refused = ", ".join(entry for entry, chain in chains.items() if not chain)
    return f"{key} {{ {refused} }} reject with icmp type port-unreachable" if refused else ""


async def load(namespace: str, rules: str) -> None:
    """Load a table into a node's namespace, in place of the one before.

    Raises:
        DataplaneError: nft refuses it.
    """
    await netns.output(namespace, ["nft", "-f", "-"], text=rules)


async def announce(spec: LabSpec, addresses: Sequence[str], stale: Sequence[str]) -> None:
    """Make the first node answer for load balancer addresses on its subnet, as a speaker does.

    Args:
        spec: the lab.
        addresses: all that are in use.
        stale: those that no longer are.

    Raises:
        DataplaneError: the kernel refuses one.
    """
    # Unlike "del" it does not mind that an earlier try, which failed, has come so far.
    lines = [f"addr flush dev lo to {address}/32" for address in stale]
    lines += [f"addr replace {address}/32 dev lo" for address in addresses]
    await netns.batch(node_namespace(spec.nodes[0].name), lines)


# -- The fabric: what the bridges between the nodes drop -------------------------------------------

_FABRIC_TABLE = "fabric"


def fabric_rules(paths: Collection[str], data: Datastore) -> str:
    """The whole table of the bridges as nft reads it. Pure.

    Args:
        paths: ``vxlan``, ``ipip`` and ``direct``: what takes them is dropped.
        data: says which UDP port VXLAN has, and which addresses are pods'.
    """
    pods = ", ".join(str(pool.cidr) for pool in data.pools)
    dropped = {
        "vxlan": f"udp dport {data.behaviour.vxlan_port} drop",
        "ipip": "ip protocol 4 drop",
        "direct": f"ip saddr {{ {pods} }} ip daddr {{ {pods} }} drop" if pods else "",
    }
    rules = [dropped[path] for path in sorted(paths) if path in dropped]
    lines = [
        f"table bridge {_FABRIC_TABLE}",
        f"delete table bridge {_FABRIC_TABLE}",
        f"table bridge {_FABRIC_TABLE} {{",
        "chain forward {",
        "type filter hook forward priority 0;",
        *rules,
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


# -- Calico's rules: NAT for what leaves the pools, and whose tunnels a node trusts ---------------

_CALICO_TABLE = "calico"


def calico_rules(data: Datastore) -> str:
    """The whole table as nft reads it; loading it replaces the former one in one step. Pure.

    The same on every node.
    """
    # Felix's masq_mgr.go and nat.go (v3.31): every pool counts, disabled ones as well, but not one
    # for load balancers alone.
    pools = (str(pool.cidr) for pool in data.pools if pool.uses != ("LoadBalancer",))
    natted = (str(pool.cidr) for pool in data.pools if pool.nat_outgoing)
    hosts = (str(host.address.ip) for host in data.hosts)
    hosts_too = data.behaviour.nat_exclusions == "IPPoolsAndHostIPs"
    vxlan_port = data.behaviour.vxlan_port
    lines = [
        f"table ip {_CALICO_TABLE}",
        f"delete table ip {_CALICO_TABLE}",
        f"table ip {_CALICO_TABLE} {{",
        _address_set("pools", pools),
        _address_set("nat-pools", natted),
        _address_set("hosts", hosts),
        "chain raw-prerouting {",
        "type filter hook prerouting priority raw;",
        f"udp dport {vxlan_port} notrack",
        "ip protocol 4 notrack",
        "}",
        "chain raw-output {",
        "type filter hook output priority raw;",
        f"udp dport {vxlan_port} notrack",
        "ip protocol 4 notrack",
        "}",
        "chain input {",
        "type filter hook input priority filter;",
        "ip protocol 4 ip saddr != @hosts drop",
        f"udp dport {vxlan_port} ip saddr != @hosts drop",
        "}",
        "chain postrouting {",
        "type nat hook postrouting priority srcnat;",
        f"ip saddr @nat-pools ip daddr != @pools{' ip daddr != @hosts' * hosts_too} masquerade",
        # A process of the node chose its source before a service's address was translated: under
        # another address than the tunnel's it would get its answer by another way.
        f'oifname {{ "{VXLAN_DEVICE}", "{IPIP_DEVICE}" }} fib saddr . oif type != local '
        "fib saddr type local masquerade",
        "}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _address_set(name: str, elements: Iterable[str]) -> str:
    joined = ", ".join(elements)
    inside = f" elements = {{ {joined} }};" if joined else ""
    return f"set {name} {{ type ipv4_addr; flags interval; auto-merge;{inside} }}"
