"""Services, endpoints, config maps, nodes and leases."""

from __future__ import annotations

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.validation import names
from pytest_k8snet.lab.api.validation.causes import Causes, objects, repeated

_NODE_PORTS = range(30000, 32768)
_DATA_LIMIT_BYTES = 1024 * 1024


def check_service(causes: Causes, service: Object) -> None:
    """A service."""
    spec = service.get("spec") or {}
    kind, ports = spec.get("type"), objects(spec.get("ports"))
    causes.one_of("spec.type", kind, ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))
    cluster_ip = spec.get("clusterIP")
    headless = cluster_ip == "None"
    if kind == "ExternalName":
        if not spec.get("externalName"):
            causes.required("spec.externalName")
    elif not ports and not headless:
        causes.required("spec.ports")
    if cluster_ip and not headless:
        causes.address("spec.clusterIPs[0]", cluster_ip)
    if headless and kind in ("NodePort", "LoadBalancer"):
        causes.invalid(
            "spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"
        )
    affinities = ("ClientIP", "None")
    causes.one_of("spec.sessionAffinity", spec.get("sessionAffinity"), affinities)
    for field in ("externalTrafficPolicy", "internalTrafficPolicy"):
        causes.one_of(f"spec.{field}", spec.get(field), ("Cluster", "Local"))
    _check_service_ports(causes, ports, node_ports=kind in ("NodePort", "LoadBalancer"))


def _check_service_ports(causes: Causes, ports: list[Object], *, node_ports: bool) -> None:
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if not port.get("name") and len(ports) > 1:
            causes.required(f"{at}.name")
        elif port.get("name"):
            causes.name(f"{at}.name", str(port["name"]), names.DNS_LABEL)
        causes.port(f"{at}.port", port.get("port", 0))
        causes.one_of(f"{at}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        target = port.get("targetPort")
        if isinstance(target, int):
            causes.port(f"{at}.targetPort", target)
        elif target:
            causes.name(f"{at}.targetPort", str(target), names.PORT_NAME)
        node_port = port.get("nodePort")
        if node_port and not node_ports:
            causes.forbidden(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'")
        elif node_port and node_port not in _NODE_PORTS:
            causes.invalid(
                f"{at}.nodePort",
                node_port,
                "provided port is not in the valid range. The range of valid ports is "
                f"{_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}",
            )
    for index, name in repeated(port.get("name") for port in ports):
        causes.duplicate(f"spec.ports[{index}].name", name)
    for index, (protocol, number) in repeated((p.get("protocol"), p.get("port")) for p in ports):
        causes.duplicate(f"spec.ports[{index}]", {"protocol": protocol, "port": number})


def check_service_update(causes: Causes, new: Object, old: Object) -> None:
    """A service keeps its address as long as it has one."""
    address, kept = dig(new, "spec.clusterIP"), dig(old, "spec.clusterIP")
    if kept and dig(new, "spec.type") != "ExternalName":
        causes.unchanged("spec.clusterIP", address, kept)


def check_endpoints(causes: Causes, endpoints: Object) -> None:
    """Endpoints."""
    for index, subset in enumerate(objects(endpoints.get("subsets"))):
        for group in ("addresses", "notReadyAddresses"):
            for number, address in enumerate(objects(subset.get(group))):
                causes.address(f"subsets[{index}].{group}[{number}].ip", address.get("ip"))
        for number, port in enumerate(objects(subset.get("ports"))):
            causes.port(f"subsets[{index}].ports[{number}].port", port.get("port", 0))


def check_config_map(causes: Causes, config_map: Object) -> None:
    """A config map or a secret."""
    total = 0
    for field in ("data", "binaryData"):
        for key, value in (config_map.get(field) or {}).items():
            causes.name(f"{field}[{key}]", key, names.CONFIG_KEY)
            total += len(str(value).encode())
    if total > _DATA_LIMIT_BYTES:
        causes.too_long("data", _DATA_LIMIT_BYTES)


def check_node(causes: Causes, node: Object) -> None:
    """A node."""
    for index, taint in enumerate(objects(dig(node, "spec.taints"))):
        at = f"spec.taints[{index}]"
        if not taint.get("key"):
            causes.required(f"{at}.key")
        effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
        causes.one_of(f"{at}.effect", taint.get("effect", ""), effects)


def check_lease(causes: Causes, lease: Object) -> None:
    """A lease."""
    spec = lease.get("spec") or {}
    duration = spec.get("leaseDurationSeconds")
    if duration is not None and duration <= 0:
        causes.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    causes.not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))
