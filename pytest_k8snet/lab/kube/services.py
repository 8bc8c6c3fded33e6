"""Services: their addresses, what they lead to, kube-proxy's rules, and their names in DNS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from ipaddress import IPv4Address, collapse_addresses
from pathlib import Path

from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of, namespace_of, timestamp
from pytest_k8snet.lab.api.status import Cause, StatusError, invalid
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import POOLS, read_pools
from pytest_k8snet.lab.dataplane import nat, netns
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.faults import delay_seconds
from pytest_k8snet.lab.reconcile import (
    Controller,
    Recorder,
    each_by_itself,
    is_over,
    is_ready,
    owner_reference,
)
from pytest_k8snet.lab.spec import TIMINGS, LabSpec

# -- Addresses and node ports: given by the API server at creation, so seen at once ----------------

#: The ports that NodePort services get, first and last.
NODE_PORTS = (30000, 32767)
# The first addresses are for services that need to know theirs (kubernetes, kube-dns).
_RESERVED = 64


class ServiceAddresses:
    """Allocates; what is taken is read from the services themselves.

    Args:
        store: the cluster's objects.
        spec: the ranges.
    """

    def __init__(self, store: Store, spec: LabSpec) -> None:
        self._store = store
        self._spec = spec

    def register(self) -> None:
        """Have the store ask for every new or changed service."""
        self._store.admission["services"].append(self.admit)

    def admit(self, service: Object, old: Object | None) -> None:
        """Fill in ``clusterIP`` and the node ports that the type needs.

        Raises:
            StatusError: 422, an address or port that was asked for is taken, or none is left.
        """
        spec = mapping(service, "spec")
        kind = spec.get("type") or "ClusterIP"
        if kind not in ("ClusterIP", "NodePort", "LoadBalancer"):
            return
        others = [one for one in self._store.list("services") if not _is_same(one, service)]
        self._give_address(service, spec, others)
        if kind in ("NodePort", "LoadBalancer"):
            self._give_ports(service, spec, others)
        elif old is not None and dig(old, "spec.type") != kind:
            for port in spec.get("ports") or []:
                port.pop("nodePort", None)

    def _give_address(self, service: Object, spec: Object, others: list[Object]) -> None:
        taken = {dig(one, "spec.clusterIP") for one in others}
        wanted = spec.get("clusterIP")
        if wanted and wanted != "None" and wanted in taken:
            why = f"failed to allocate IP {wanted}: provided IP is already allocated"
            raise self._refusal(service, "spec.clusterIPs", f'["{wanted}"]: {why}')
        if wanted and wanted != "None" and not self._in_range(wanted):
            why = f"failed to allocate IP {wanted}: the provided network does not match the current"
            raise self._refusal(service, "spec.clusterIPs", f'["{wanted}"]: {why} range')
        if not wanted:
            hosts = self._spec.service_cidr
            first = int(hosts.network_address) + _RESERVED
            wanted = next(
                text
                for number in range(first, int(hosts.broadcast_address))
                if (text := str(IPv4Address(number))) not in taken
            )
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]

    def _in_range(self, address: str) -> bool:
        try:
            return IPv4Address(address) in self._spec.service_cidr
        except ValueError:
            # What is no address, validation refuses.
            return True

    def _give_ports(self, service: Object, spec: Object, others: list[Object]) -> None:
        taken = {number for one in others for number in node_ports(one)}
        for index, port in enumerate(spec.get("ports") or []):
            wanted = port.get("nodePort")
            if wanted in taken:
                why = f"{wanted}: provided port is already allocated"
                raise self._refusal(service, f"spec.ports[{index}].nodePort", why)
            if not wanted:
                first, last = NODE_PORTS
                wanted = next(number for number in range(first, last + 1) if number not in taken)
                port["nodePort"] = wanted
            taken.add(wanted)

    def _refusal(self, service: Object, field: str, why: str) -> StatusError:
        cause = Cause("FieldValueInvalid", field, f"Invalid value: {why}")
        return invalid(self._store.resource("services"), name_of(service), [cause])


def node_ports(service: Object) -> Iterator[int]:
    """The node ports that a service has."""
    for port in dig(service, "spec.ports", []):
        if port.get("nodePort"):
            yield int(port["nodePort"])


def _is_same(one: Object, other: Object) -> bool:
    left, right = one["metadata"], other["metadata"]
    return all(left[key] == right.get(key) for key in ("namespace", "name"))


# -- Endpoints, EndpointSlices and load balancers --------------------------------------------------


_UNPLAYED = (
    ("sessionAffinity", "ClientIP"),
    ("externalTrafficPolicy", "Local"),
    ("internalTrafficPolicy", "Local"),
)


class ServiceEndpoints(Controller):
    """Keeps Endpoints, EndpointSlices and load balancers' addresses up to date.

    Args:
        store: the cluster's objects.
        spec: the range of load balancer addresses.
    """

    watched = ("services", "pods")

    def __init__(self, store: Store, spec: LabSpec) -> None:
        super().__init__(store)
        self._spec = spec
        self._events = Recorder(store, "service-controller")
        # Endpoints without a service are somebody's own: only those of a service that went go.
        self._known: set[tuple[str, str]] = set()
        # What was said of each service, by uid.
        self._told: dict[str, list[str]] = {}

    def reconcile(self) -> None:
        """Write what each service leads to, and forget what has no service any more."""
        services = self._store.list("services")
        taken = {address for one in services for address in load_balancer_addresses(one)}
        known = {(namespace_of(one), name_of(one)) for one in services}
        gone, self._known = self._known - known, known
        found = [(namespace_of(one), name_of(one)) for one in self._store.list("endpoints")]
        each_by_itself(
            [
                *(partial(self._write_endpoints, one) for one in services),
                *(partial(self._balance, one, taken) for one in services),
                *(partial(self._say_what_is_not_played, one) for one in services),
                *(
                    partial(self._store.delete, "endpoints", name, namespace)
                    for namespace, name in found
                    if (namespace, name) in gone
                ),
            ]
        )

    def _say_what_is_not_played(self, service: Object) -> None:
        uid = service["metadata"]["uid"]
        unplayed = [
            f"spec.{field}: {wanted}"
            for field, wanted in _UNPLAYED
            if dig(service, f"spec.{field}") == wanted
        ]
        if dig(service, "spec.loadBalancerSourceRanges"):
            unplayed.append("spec.loadBalancerSourceRanges")
        if unplayed and unplayed != self._told.get(uid):
            text = f"the lab does not play {', '.join(unplayed)}"
            self._events.record(service, "NotPlayed", text, kind="Warning")
        self._told[uid] = unplayed

    def _write_endpoints(self, service: Object) -> None:
        if not dig(service, "spec.selector"):
            return
        name, namespace = name_of(service), namespace_of(service)
        labels = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
        pods = self._store.list("pods", namespace, labels=labels)
        own = dict(dig(service, "metadata.labels", {}))
        if dig(service, "spec.clusterIP") == "None":
            own["service.kubernetes.io/headless"] = ""
        labelled = {**own, "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        meta: Object = {"name": name, "labels": labelled}
        self._put("endpoints", {"metadata": meta, "subsets": subsets(service, pods)}, namespace)
        endpoints, ports = slice_endpoints(service, pods)
        body: Object = {
            "metadata": {
                "name": f"{name}-{service['metadata']['uid'][:5]}",
                "generateName": f"{name}-",
                "labels": {
                    **own,
                    "kubernetes.io/service-name": name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [owner_reference(service)],
            },
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": ports,
        }
        self._put("endpointslices.discovery.k8s.io", body, namespace)

    def _put(self, resource: str, body: Object, namespace: str) -> None:
        meta = body["metadata"]
        # The time of the pods' or the service's change, which has just been seen.
        trigger = {"endpoints.kubernetes.io/last-change-trigger-time": timestamp()}
        if not self._store.has(resource, name_of(body), namespace):
            new = {**body, "metadata": {**meta, "annotations": trigger}}
            self._store.create(resource, new, namespace)
            return
        old = self._store.get(resource, name_of(body), namespace)
        told = old["metadata"]
        same = all(old.get(key) == value for key, value in body.items() if key != "metadata")
        if not same or told.get("labels") != meta["labels"]:
            told |= {"labels": meta["labels"], "annotations": trigger}
            self._store.update(resource, {**old, **body, "metadata": told}, namespace)

    def _balance(self, service: Object, taken: set[str]) -> None:
        """Give a LoadBalancer service an address, or take it from what is none any more."""
        has = load_balancer_addresses(service)
        wants = dig(service, "spec.type") == "LoadBalancer"
        if wants == bool(has):
            return
        address = self._free_address(service, taken) if wants else None
        if wants and address is None:
            text = "Error syncing load balancer: no address is left in the lab's range"
            self._events.record(service, "SyncLoadBalancerFailed", text, kind="Warning")
            return
        ingress = [{"ip": address, "ipMode": "VIP"}] if address else []
        if address:
            taken.add(address)
        self._write_status(
            "services", service, {"loadBalancer": {"ingress": ingress} if ingress else {}}
        )
        if ingress:
            self._events.record(service, "EnsuredLoadBalancer", "Ensured load balancer")

    def _free_address(self, service: Object, taken: set[str]) -> str | None:
        first, last = (int(address) for address in self._spec.load_balancer_range)
        every = [str(IPv4Address(number)) for number in range(first, last + 1)]
        wanted = dig(service, "spec.loadBalancerIP")
        free = [address for address in every if address not in taken]
        return wanted if wanted in free else next(iter(free), None)


# One address of one pod with the ports that the service has there: (name, port, protocol).
_Ports = tuple[tuple[str, int, str], ...]


def target_port(port: Object, pod: Object) -> int | None:
    """The container port that a service port leads to; None when the pod has no such name."""
    target = port.get("targetPort") or port["port"]
    if str(target).isdigit():
        return int(target)
    for container in dig(pod, "spec.containers", []):
        for own in container.get("ports") or []:
            same_protocol = own.get("protocol", "TCP") == port.get("protocol", "TCP")
            if own.get("name") == target and same_protocol:
                return int(own["containerPort"])
    return None


def _ports(service: Object, pod: Object) -> _Ports:
    return tuple(
        (port.get("name") or "", number, port.get("protocol", "TCP"))
        for port in dig(service, "spec.ports", [])
        if (number := target_port(port, pod))
    )


def subsets(service: Object, pods: Sequence[Object]) -> list[Object]:
    """The ``subsets`` of the Endpoints: addresses by the ports they have, ready apart."""
    groups: dict[_Ports, dict[str, list[Object]]] = defaultdict(lambda: defaultdict(list))
    for pod in _with_address(pods):
        if dig(pod, "metadata.deletionTimestamp"):
            continue
        kind = "addresses" if _is_served(service, pod) else "notReadyAddresses"
        groups[_ports(service, pod)][kind].append(
            {
                "ip": pod["status"]["podIP"],
                **_hostname(service, pod),
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": _reference(pod),
            }
        )
    return [
        {
            **kinds,
            "ports": [
                {**({"name": name} if name else {}), "port": number, "protocol": protocol}
                for name, number, protocol in ports
            ],
        }
        for ports, kinds in sorted(groups.items())
    ]


def slice_endpoints(service: Object, pods: Sequence[Object]) -> tuple[list[Object], list[Object]]:
    """The ``endpoints`` and ``ports`` of the EndpointSlice."""
    endpoints: list[Object] = []
    ports: set[tuple[str, int, str]] = set()
    for pod in _with_address(pods):
        ending = bool(dig(pod, "metadata.deletionTimestamp"))
        ports.update(_ports(service, pod))
        endpoints.append(
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {
                    "ready": _is_served(service, pod) and not ending,
                    "serving": is_ready(pod),
                    "terminating": ending,
                },
                **_hostname(service, pod),
                "nodeName": pod["spec"]["nodeName"],
                "targetRef": _reference(pod),
            }
        )
    return endpoints, [
        {"name": name, "port": number, "protocol": protocol}
        for name, number, protocol in sorted(ports)
    ]


def _with_address(pods: Sequence[Object]) -> list[Object]:
    """The pods that run and have an address, by address."""
    found = [pod for pod in pods if dig(pod, "status.podIP") and not is_over(pod)]
    return sorted(found, key=lambda pod: str(pod["status"]["podIP"]))


def _is_served(service: Object, pod: Object) -> bool:
    return is_ready(pod) or bool(dig(service, "spec.publishNotReadyAddresses", False))


def _hostname(service: Object, pod: Object) -> Object:
    """The name of a pod within its service, where it asks for one by its subdomain."""
    name = dig(pod, "spec.hostname")
    return {"hostname": name} if name and dig(pod, "spec.subdomain") == name_of(service) else {}


def _reference(pod: Object) -> Object:
    return {"kind": "Pod", **{key: pod["metadata"][key] for key in ("namespace", "name", "uid")}}


def load_balancer_addresses(service: Object) -> list[str]:
    """The addresses that a service's load balancer has."""
    ingress = dig(service, "status.loadBalancer.ingress", [])
    return [entry["ip"] for entry in ingress if entry.get("ip")]


# -- kube-proxy ------------------------------------------------------------------------------------


class ServiceProxy(Controller):
    """kube-proxy of all nodes: keeps their rulesets up to date.

    Args:
        store: the cluster's objects.
        spec: the nodes.
    """

    watched = ("services", "endpoints", POOLS)

    def __init__(self, store: Store, spec: LabSpec) -> None:
        super().__init__(store)
        self._spec = spec
        # What each node has; since when it is behind, and what it takes by itself.
        self._loaded: dict[str, str] = {}
        self._behind_seconds: dict[str, float] = {}
        self._announced: list[str] = []

    async def reconcile(self) -> float | None:
        """Program what has changed; returns when to look again, in seconds."""
        endpoints = {
            f"{namespace_of(one)}/{name_of(one)}": one for one in self._store.list("endpoints")
        }
        ports = nat.service_ports(self._store.list("services"), endpoints)
        pools = [pool.cidr for pool in read_pools(self._store.list(POOLS)) if not pool.disabled]
        if self._spec.cluster_cidr is not None:
            pools = [self._spec.cluster_cidr]
        # nft takes no set whose intervals overlap.
        ruleset = nat.service_rules(ports, list(map(str, collapse_addresses(pools))))
        again_seconds = await self._load_where_due(ruleset)
        addresses = nat.external_addresses(ports)
        if addresses != self._announced:
            stale = [address for address in self._announced if address not in addresses]
            await nat.announce(self._spec, addresses, stale)
            self._announced = addresses
        return again_seconds

    async def _load_where_due(self, ruleset: str) -> float | None:
        """Program the nodes that are not late; returns when the next one is due, in seconds."""
        now_seconds, lag = time.monotonic(), delay_seconds(self._store, "kube-proxy-lag")
        own = TIMINGS[self._spec.timing].proxy
        names = [node.name for node in self._spec.nodes]
        self._behind_seconds = {
            name: self._behind_seconds.get(name, now_seconds + random.uniform(*own))
            for name in names
            if self._loaded.get(name) != ruleset
        }
        late = {
            name: since + lag * names.index(name) / max(1, len(names) - 1) - now_seconds
            for name, since in self._behind_seconds.items()
        }
        due = [name for name, seconds in late.items() if seconds <= 0]
        await asyncio.gather(*(nat.load(node_namespace(name), ruleset) for name in due))
        for name in due:
            self._loaded[name] = ruleset
            del self._behind_seconds[name]
        return min((seconds for seconds in late.values() if seconds > 0), default=None)


# -- DNS -------------------------------------------------------------------------------------------

#: What the DNS servers answer from: a JSON object of names and their addresses.
ZONE_FILE = Path("/run/k8snet/zone.json")

_DNS_RETRY_SECONDS = 0.1
_DNS_PAUSE_SECONDS = 0.01


class DnsRecords(Controller):
    """Keeps the names of services where the DNS servers read them.

    Args:
        store: the cluster's objects.
        spec: the cluster's domain.
    """

    watched = ("services", "endpoints")

    def __init__(self, store: Store, spec: LabSpec) -> None:
        super().__init__(store)
        self._domain = spec.cluster_domain

    def reconcile(self) -> None:
        """Write the file; readers see the old one or the new one, whole."""
        names = dns_records(
            self._store.list("services"), self._store.list("endpoints"), self._domain
        )
        draft = ZONE_FILE.with_suffix(".new")
        draft.write_text(json.dumps({"domain": self._domain, "names": names}))
        os.replace(draft, ZONE_FILE)


def dns_records(
    services: Sequence[Object], endpoints: Sequence[Object], domain: str
) -> dict[str, list[str]]:
    """Every name and its addresses: services, and the pods behind headless ones.

    Args:
        services: the Service objects.
        endpoints: the Endpoints objects.
        domain: of the cluster.
    """
    found = {(namespace_of(one), name_of(one)): one for one in endpoints}
    names: dict[str, list[str]] = {}
    for service in services:
        key = (namespace_of(service), name_of(service))
        name = f"{key[1]}.{key[0]}.svc.{domain}"
        address = dig(service, "spec.clusterIP")
        if address and address != "None":
            names[name] = [address]
            continue
        for subset in dig(found.get(key), "subsets", []):
            for entry in subset.get("addresses") or []:
                names.setdefault(name, []).append(entry["ip"])
                host = entry.get("hostname") or entry["ip"].replace(".", "-")
                names[f"{host}.{name}"] = [entry["ip"]]
        # A headless service without pods exists, and has no address.
        names.setdefault(name, [])
    return names


async def until_dns_answers(spec: LabSpec) -> None:
    """Wait until the first node gets an answer from the cluster's DNS."""
    name = f"kubernetes.default.svc.{spec.cluster_domain}"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    request = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, 1, 1)
    node = node_namespace(spec.nodes[0].name)
    loop = asyncio.get_running_loop()
    while True:
        # A new port each time: what was tracked before kube-proxy had its rules stays untranslated.
        client = await netns.run(node, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        with client:
            client.setblocking(False)
            # Refused, or lost, as long as the way there is not programmed.
            with contextlib.suppress(OSError, TimeoutError):
                await loop.sock_connect(client, (str(spec.dns_address), 53))
                await loop.sock_sendall(client, request)
                await asyncio.wait_for(loop.sock_recv(client, 512), _DNS_RETRY_SECONDS)
                return
        await asyncio.sleep(_DNS_PAUSE_SECONDS)
