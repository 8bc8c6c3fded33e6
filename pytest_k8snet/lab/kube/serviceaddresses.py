"""Addresses and ports of services: given by the API server at creation, so seen at once."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of
from pytest_k8snet.lab.api.status import Cause, invalid
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.spec import LabSpec

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
            cause = Cause(
                "FieldValueInvalid",
                "spec.clusterIPs",
                f'Invalid value: ["{wanted}"]: failed to allocate IP {wanted}: '
                "provided IP is already allocated",
            )
            raise invalid(self._store.resource("services"), name_of(service), [cause])
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

    def _give_ports(self, service: Object, spec: Object, others: list[Object]) -> None:
        taken = {number for one in others for number in node_ports(one)}
        for index, port in enumerate(spec.get("ports") or []):
            wanted = port.get("nodePort")
            if wanted in taken:
                cause = Cause(
                    "FieldValueInvalid",
                    f"spec.ports[{index}].nodePort",
                    f"Invalid value: {wanted}: provided port is already allocated",
                )
                raise invalid(self._store.resource("services"), name_of(service), [cause])
            if not wanted:
                first, last = NODE_PORTS
                wanted = next(number for number in range(first, last + 1) if number not in taken)
                port["nodePort"] = wanted
            taken.add(wanted)


def node_ports(service: Object) -> Iterator[int]:
    """The node ports that a service has."""
    for port in dig(service, "spec.ports", []):
        if port.get("nodePort"):
            yield int(port["nodePort"])


def _is_same(one: Object, other: Object) -> bool:
    left, right = one["metadata"], other["metadata"]
    return all(left[key] == right.get(key) for key in ("namespace", "name"))
