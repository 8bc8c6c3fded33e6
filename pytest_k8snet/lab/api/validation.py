"""Refusing bad objects as a Kubernetes API server does: 422 with a cause for each bad field.

Checked is what a client of the lab can get wrong and would wonder about if it passed; what each
field may hold stands in tables, one for each type. IP pools are checked as closely as the Calico
version that is played checks them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, clone, dig, name_of
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.spec import CalicoSpec


def check_new(resource: Resource, obj: Object, calico: CalicoSpec) -> None:
    """Refuse a new object that is not valid.

    Raises:
        StatusError: 422, with all its faults.
    """
    _refuse(resource, obj, _checked(resource, obj, calico))


def check_update(
    resource: Resource, new: Object, old: Object, subresource: str, calico: CalicoSpec
) -> None:
    """Refuse a new state that is not valid, or that changes what may not change.

    Raises:
        StatusError: 422, with all its faults.
    """
    causes = _checked(resource, new, calico)
    if resource.key == "pods" and subresource != "binding":
        _check_pod_update(causes, new, old)
    elif resource.kind == "IPPool" and _strict_pools(resource, calico):
        for field in ("cidr", "blockSize"):
            causes.unchanged(f"spec.{field}", new, old)
    elif resource.key == "services" and dig(new, "spec.type") != "ExternalName":
        causes.unchanged("spec.clusterIP", new, old)
    elif resource.group == "apps":
        causes.unchanged("spec.selector", new, old)
    _refuse(resource, new, causes)


def _checked(resource: Resource, obj: Object, calico: CalicoSpec) -> Causes:
    causes = Causes()
    _check_metadata(causes, resource, obj)
    if resource.kind == "IPPool":
        _check_pool(causes, obj, strict=_strict_pools(resource, calico))
    elif resource.key in _CHECKS:
        _CHECKS[resource.key](causes, obj)
    return causes


def _refuse(resource: Resource, obj: Object, causes: Causes) -> None:
    if causes.found:
        raise status.invalid(resource, name_of(obj), causes.found)


class Causes:
    """The faults of one object, collected while it is checked, in Kubernetes' words.

    Attributes:
        found: what was collected, in order.
    """

    def __init__(self) -> None:
        self.found: list[Cause] = []

    def add(self, reason: str, field: str, message: str) -> None:
        """Add one, by the reason that follows ``FieldValue``."""
        self.found.append(Cause(f"FieldValue{reason}", field, message))

    def required(self, field: str, why: str = "") -> None:
        """A field that must be there is not."""
        self.add("Required", field, f"Required value{': ' + why if why else ''}")

    def invalid(self, field: str, value: Any, why: str) -> None:
        """A value that is not acceptable."""
        self.add("Invalid", field, f"Invalid value: {_shown(value)}: {why}")

    def forbidden(self, field: str, why: str) -> None:
        """A field that may not be set or changed here."""
        self.add("Forbidden", field, f"Forbidden: {why}")

    def duplicate(self, field: str, value: Any) -> None:
        """A value that may occur once only."""
        self.add("Duplicate", field, f"Duplicate value: {_shown(value)}")

    def too_long(self, field: str, limit_bytes: int) -> None:
        """A value that is too large."""
        self.add("TooLong", field, f"Too long: may not be more than {limit_bytes} bytes")

    def unchanged(self, path: str, new: Object, old: Object) -> None:
        """A value that may not change once it is there."""
        before, after = dig(old, path), dig(new, path)
        if before is not None and after != before:
            self.invalid(path, after, "field is immutable")


def _shown(value: Any) -> str:
    """A value as an error message shows it."""
    return "null" if value is None else json.dumps(value, separators=(",", ":"))


# -- The rules that tables are made of -----------------------------------------------------------

#: Checks the value of one field; None where the field is absent.
Rule = Callable[[Causes, str, Any], None]
#: The rules of a type's fields, by their dotted paths.
Table = Mapping[str, Rule]


def _check(causes: Causes, at: str, obj: Object, table: Table) -> None:
    for path, rule in table.items():
        rule(causes, f"{at}.{path}" if at else path, dig(obj, path))


def _all(*rules: Rule) -> Rule:
    def check(causes: Causes, field: str, value: Any) -> None:
        for rule in rules:
            rule(causes, field, value)

    return check


def _required(then: Rule | None = None) -> Rule:
    """The field is there; what it then fulfils."""

    def check(causes: Causes, field: str, value: Any) -> None:
        if not value:
            causes.required(field)
        elif then is not None:
            then(causes, field, value)

    return check


def _one_of(*supported: str) -> Rule:
    def check(causes: Causes, field: str, value: Any) -> None:
        if value is not None and value not in supported:
            choice = ", ".join(map(_shown, supported))
            message = f"Unsupported value: {_shown(value)}: supported values: {choice}"
            causes.add("NotSupported", field, message)

    return check


def _between(low: int, high: int) -> Rule:
    def check(causes: Causes, field: str, value: Any) -> None:
        if value is not None and (not isinstance(value, int) or not low <= value <= high):
            causes.invalid(field, value, f"must be between {low} and {high}, inclusive")

    return check


def _not_negative(causes: Causes, field: str, value: Any) -> None:
    if value is not None and (not isinstance(value, int) or value < 0):
        causes.invalid(field, value, "must be greater than or equal to 0")


def _address(causes: Causes, field: str, value: Any) -> None:
    try:
        ip_address(str(value))
    except ValueError:
        why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        causes.invalid(field, value, why)


def _each(table: Table, *, unique: str = "") -> Rule:
    """Every object of a list keeps to a table, and no two have the same value of a field."""

    def check(causes: Causes, field: str, value: Any) -> None:
        seen = []
        for index, item in enumerate(_objects(value)):
            _check(causes, f"{field}[{index}]", item, table)
            name = item.get(unique)
            if name in seen:
                causes.duplicate(f"{field}[{index}].{unique}", name)
            if name:
                seen.append(name)

    return check


def _objects(value: Any) -> list[Object]:
    """The objects of a list, skipping what is none; empty for anything but a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Form:
    """One form of names; a rule for those that have it.

    Attributes:
        pattern: what the whole name must match.
        limit: the longest name, in characters.
        rule: the sentence up to the examples.
        examples: names of this form, as Kubernetes' messages show them.
    """

    pattern: str
    limit: int
    rule: str
    examples: tuple[str, ...]

    def __call__(self, causes: Causes, field: str, value: Any) -> None:
        """Check a name; none is a matter of ``_required``."""
        for why in self.faults(str(value)) if value else ():
            causes.invalid(field, value, why)

    def faults(self, name: str) -> list[str]:
        """What is wrong with a name; empty when nothing is."""
        faults = []
        if len(name) > self.limit:
            faults.append(f"must be no more than {self.limit} characters")
        if not re.fullmatch(self.pattern, name):
            examples = " or ".join(f"'{example}', " for example in self.examples)
            faults.append(
                f"{self.rule} (e.g. {examples.strip()} "
                f"regex used for validation is '{self.pattern}')"
            )
        return faults


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

_DNS_LABEL = Form(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and"
    " must start and end with an alphanumeric character",
    ("my-name", "123-abc"),
)
_DNS_SUBDOMAIN = Form(
    rf"{_LABEL}(\.{_LABEL})*",
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character",
    ("example.com",),
)
_SERVICE_NAME = Form(
    "[a-z]([-a-z0-9]*[a-z0-9])?",
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
    " alphabetic character, and end with an alphanumeric character",
    ("my-name", "abc-123"),
)
_LABEL_KEY = Form(
    _QUALIFIED,
    63,
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character",
    ("MyName", "my.name", "123-abc"),
)
_LABEL_VALUE = Form(
    f"({_QUALIFIED})?",
    63,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or"
    " '.', and must start and end with an alphanumeric character",
    ("MyValue", "my_value", "12345"),
)
_PORT_NAME = Form(
    _LABEL,
    15,
    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    ("http",),
)
_PORT = _between(1, 65535)
_PROTOCOL = _one_of("SCTP", "TCP", "UDP")


# -- Metadata ------------------------------------------------------------------------------------

_NAMES = {"namespaces": _DNS_LABEL, "services": _SERVICE_NAME}
#: Annotations may be this large together.
_ANNOTATIONS_LIMIT_BYTES = 256 * 1024


def _check_metadata(causes: Causes, resource: Resource, obj: Object) -> None:
    meta = obj["metadata"]
    if not meta.get("name"):
        causes.required("metadata.name", "name or generateName is required")
    # The API service of the core group is called "v1.", which is no domain name.
    elif resource.kind != "APIService":
        _NAMES.get(resource.key, _DNS_SUBDOMAIN)(causes, "metadata.name", meta["name"])
    if resource.namespaced:
        _DNS_LABEL(causes, "metadata.namespace", meta["namespace"])
    elif meta.get("namespace"):
        causes.forbidden("metadata.namespace", "not allowed on this type")
    _check_labels(causes, "metadata.labels", meta.get("labels"))
    annotations = meta.get("annotations") or {}
    for key in annotations:
        # Annotation keys are compared without regard to case.
        _check_key(causes, "metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT_BYTES:
        causes.too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES)


def _check_labels(causes: Causes, field: str, labels: Any) -> None:
    for key, value in (labels or {}).items():
        _check_key(causes, field, key)
        _LABEL_VALUE(causes, field, value)


def _check_key(causes: Causes, field: str, key: str) -> None:
    """A key of labels or annotations: a name, or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        for why in _DNS_SUBDOMAIN.faults(prefix):
            causes.invalid(field, key, f"prefix part {why}")
    for why in _LABEL_KEY.faults(name):
        causes.invalid(field, key, why)


# -- Pods, and the workloads that make them ------------------------------------------------------

_INT32_MAX = 2**31 - 1
_ID = _between(0, _INT32_MAX)
_USER = {"securityContext.runAsUser": _ID, "securityContext.runAsGroup": _ID}


def _no_spaces(causes: Causes, field: str, value: Any) -> None:
    if str(value) != str(value).strip():
        causes.invalid(field, value, "must not have leading or trailing whitespace")


def _action(causes: Causes, field: str, value: Any) -> None:
    """A probe or a hook that runs a command has one."""
    if isinstance(value, dict) and "exec" in value and not dig(value, "exec.command"):
        causes.required(f"{field}.exec.command")


_CONTAINER: Table = {
    "name": _required(_DNS_LABEL),
    "image": _required(_no_spaces),
    "imagePullPolicy": _one_of("Always", "IfNotPresent", "Never"),
    "ports": _each(
        {
            "containerPort": _required(_PORT),
            "hostPort": _PORT,
            "name": _PORT_NAME,
            "protocol": _PROTOCOL,
        },
        unique="name",
    ),
    "livenessProbe": _action,
    "readinessProbe": _action,
    "startupProbe": _action,
    "lifecycle.preStop": _action,
    "lifecycle.postStart": _action,
    "env": _each({"name": _required()}),
    "volumeMounts": _each(
        {"name": _required(), "mountPath": _required()},
        unique="mountPath",
    ),
    **_USER,
}
_POD: Table = {
    "containers": _all(_required(), _each(_CONTAINER, unique="name")),
    "initContainers": _each(_CONTAINER, unique="name"),
    "volumes": _each({"name": _required(_DNS_LABEL)}, unique="name"),
    "restartPolicy": _one_of("Always", "OnFailure", "Never"),
    "dnsPolicy": _one_of("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    "terminationGracePeriodSeconds": _not_negative,
    "activeDeadlineSeconds": _between(1, _INT32_MAX),
    "nodeName": _DNS_SUBDOMAIN,
    "hostname": _DNS_LABEL,
    "subdomain": _DNS_LABEL,
    "tolerations": _each(
        {
            "operator": _one_of("Equal", "Exists"),
            "effect": _one_of("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
        }
    ),
    **_USER,
}


def _check_pod(causes: Causes, pod: Object) -> None:
    _check_pod_spec(causes, "spec", pod.get("spec") or {})


def _check_pod_spec(causes: Causes, at: str, spec: Object) -> None:
    _check(causes, at, spec, _POD)
    volumes = _objects(spec.get("volumes"))
    for index, volume in enumerate(volumes):
        first, *more = [key for key in volume if key != "name"] or [""]
        if not first:
            causes.required(f"{at}.volumes[{index}]", "must specify a volume type")
        for source in more:
            why = "may not specify more than 1 volume type"
            causes.forbidden(f"{at}.volumes[{index}].{source}", why)
    names = {str(volume.get("name")) for volume in volumes}
    for field in ("containers", "initContainers"):
        for index, container in enumerate(_objects(spec.get(field))):
            for number, mount in enumerate(_objects(container.get("volumeMounts"))):
                if mount.get("name") and mount["name"] not in names:
                    where = f"{at}.{field}[{index}].volumeMounts[{number}].name"
                    causes.add("NotFound", where, f"Not found: {_shown(mount['name'])}")


def _check_pod_update(causes: Causes, new: Object, old: Object) -> None:
    """Of a pod's spec little may change; the node is set by a binding, once."""
    if _immutable_part(new, old) != _immutable_part(old, old):
        causes.forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
            " (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
            " (allow it to be set to 1 if it was previously negative)",
        )
    kept, wanted = dig(old, "spec.tolerations", []), dig(new, "spec.tolerations", [])
    if any(toleration not in wanted for toleration in kept):
        causes.forbidden(
            "spec.tolerations",
            "existing toleration can not be modified except its tolerationSeconds",
        )


def _immutable_part(pod: Object, old: Object) -> Object:
    spec: Object = clone(pod.get("spec") or {})
    for key in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(key, None)
    for group in ("containers", "initContainers"):
        for container in _objects(spec.get(group)):
            container.pop("image", None)
    # Ephemeral containers are added through their own subresource, which the lab does not check.
    spec["ephemeralContainers"] = dig(old, "spec.ephemeralContainers")
    return spec


_WORKLOAD: Table = {
    "replicas": _not_negative,
    "minReadySeconds": _not_negative,
    "strategy.type": _one_of("Recreate", "RollingUpdate"),
    "selector": _required(),
    "selector.matchExpressions": _each(
        {
            "key": _required(),
            "operator": _required(_one_of("In", "NotIn", "Exists", "DoesNotExist")),
        }
    ),
    "template.spec.restartPolicy": _one_of("Always"),
}


def _check_workload(causes: Causes, workload: Object) -> None:
    spec = workload.get("spec") or {}
    _check(causes, "spec", spec, _WORKLOAD)
    labels = dig(spec, "template.metadata.labels", {})
    _check_labels(causes, "spec.template.metadata.labels", labels)
    if spec.get("selector") and not match_labels(spec["selector"], labels):
        why = "`selector` does not match template `labels`"
        causes.invalid("spec.template.metadata.labels", labels, why)
    _check_pod_spec(causes, "spec.template.spec", dig(spec, "template.spec", {}))


# -- Services, endpoints, config maps, nodes and leases ------------------------------------------

_NODE_PORTS = range(30000, 32768)
_DATA_LIMIT_BYTES = 1024 * 1024

_SERVICE: Table = {
    "type": _one_of("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "sessionAffinity": _one_of("ClientIP", "None"),
    "externalTrafficPolicy": _one_of("Cluster", "Local"),
    "internalTrafficPolicy": _one_of("Cluster", "Local"),
    "ports": _each(
        {"name": _DNS_LABEL, "port": _PORT, "protocol": _PROTOCOL},
        unique="name",
    ),
}


def _check_service(causes: Causes, service: Object) -> None:
    spec = service.get("spec") or {}
    _check(causes, "spec", spec, _SERVICE)
    kind, ports = spec.get("type"), _objects(spec.get("ports"))
    cluster_ip = spec.get("clusterIP")
    headless = cluster_ip == "None"
    if kind == "ExternalName":
        if not spec.get("externalName"):
            causes.required("spec.externalName")
    elif not ports and not headless:
        causes.required("spec.ports")
    if cluster_ip and not headless:
        _address(causes, "spec.clusterIPs[0]", cluster_ip)
    if headless and kind in ("NodePort", "LoadBalancer"):
        why = f"may not be set to 'None' for {kind} services"
        causes.invalid("spec.clusterIPs[0]", "None", why)
    taken: list[Object] = []
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if not port.get("name") and len(ports) > 1:
            causes.required(f"{at}.name")
        target = port.get("targetPort")
        (_PORT if isinstance(target, int) else _PORT_NAME)(causes, f"{at}.targetPort", target)
        _check_node_port(causes, at, port.get("nodePort"), kind)
        same = {"protocol": port.get("protocol"), "port": port.get("port")}
        if same in taken:
            causes.duplicate(at, same)
        taken.append(same)


def _check_node_port(causes: Causes, at: str, number: Any, kind: Any) -> None:
    if number and kind not in ("NodePort", "LoadBalancer"):
        causes.forbidden(f"{at}.nodePort", "may not be used when `type` is 'ClusterIP'")
    elif number and number not in _NODE_PORTS:
        causes.invalid(
            f"{at}.nodePort",
            number,
            "provided port is not in the valid range. The range of valid ports is "
            f"{_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}",
        )


_ADDRESSES = _each({"ip": _address})
_SUBSETS: Table = {
    "subsets": _each(
        {
            "addresses": _ADDRESSES,
            "notReadyAddresses": _ADDRESSES,
            "ports": _each({"port": _PORT}),
        }
    )
}
_NODE: Table = {
    "spec.taints": _each(
        {
            "key": _required(),
            "effect": _required(_one_of("NoSchedule", "PreferNoSchedule", "NoExecute")),
        }
    )
}


def _check_config_map(causes: Causes, config_map: Object) -> None:
    """A config map or a secret."""
    data = [*dig(config_map, "data", {}).values(), *dig(config_map, "binaryData", {}).values()]
    if sum(len(str(value).encode()) for value in data) > _DATA_LIMIT_BYTES:
        causes.too_long("data", _DATA_LIMIT_BYTES)


# -- Calico: IP pools and the operator's Installation --------------------------------------------
#
# Up to v3.31 a raw ``crd.projectcalico.org/v1`` object is stored almost unseen; the aggregated
# API server has always looked closely, and since v3.32 the custom resource itself does.

_MODE = _one_of("Never", "Always", "CrossSubnet")
_POOL: Table = {
    "ipipMode": _MODE,
    "vxlanMode": _MODE,
    "assignmentMode": _one_of("Automatic", "Manual"),
}
_INSTALLATION: Table = {
    "spec.calicoNetwork.ipPools": _each(
        {"encapsulation": _one_of("IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None")}
    )
}


def _strict_pools(resource: Resource, calico: CalicoSpec) -> bool:
    """Whether pools written as this resource are checked closely."""
    version = re.match(r"v?(\d+)\.(\d+)", calico.version)
    newer = version is not None and (int(version[1]), int(version[2])) >= (3, 32)
    return resource.group == CALICO_V3 or newer


def _check_pool(causes: Causes, pool: Object, *, strict: bool) -> None:
    spec = pool.get("spec")
    if not isinstance(spec, dict):
        causes.required("spec")
        return
    for field, kind, wanted in (
        ("cidr", str, "string"),
        ("ipipMode", str, "string"),
        ("vxlanMode", str, "string"),
        ("blockSize", int, "integer"),
        ("natOutgoing", bool, "boolean"),
        ("disabled", bool, "boolean"),
    ):
        value = spec.get(field)
        if value is not None and not isinstance(value, kind):
            at = f"spec.{field}"
            causes.invalid(at, value, f"{at} in body must be of type {wanted}")
    if "cidr" not in spec:
        causes.required("spec.cidr")
    elif strict:
        _check_pool_closely(causes, spec)


def _check_pool_closely(causes: Causes, spec: Object) -> None:
    _check(causes, "spec", spec, _POOL)
    ipip, vxlan = (spec.get(field) or "Never" for field in ("ipipMode", "vxlanMode"))
    if "Never" not in (ipip, vxlan):
        causes.invalid("spec", "object", "ipipMode and vxlanMode cannot both be enabled")
    try:
        network = ip_network(str(spec["cidr"]))
    except ValueError:
        causes.invalid("spec.cidr", spec["cidr"], "must be a valid CIDR without host bits")
        return
    if network.version == 6 and ipip != "Never":
        causes.invalid("spec.ipipMode", ipip, "IP-in-IP is not supported on an IPv6 pool")
    size = spec.get("blockSize")
    _between(*((20, 32) if network.version == 4 else (116, 128)))(causes, "spec.blockSize", size)
    if isinstance(size, int) and network.prefixlen > size:
        causes.invalid(
            "spec.cidr",
            spec["cidr"],
            f"IP pool is too small: its prefix must not be longer than the block size {size}",
        )


def _by_table(table: Table) -> Callable[[Causes, Object], None]:
    return lambda causes, obj: _check(causes, "", obj, table)


_CHECKS: dict[str, Callable[[Causes, Object], None]] = {
    "pods": _check_pod,
    "services": _check_service,
    "endpoints": _by_table(_SUBSETS),
    "configmaps": _check_config_map,
    "secrets": _check_config_map,
    "nodes": _by_table(_NODE),
    "leases.coordination.k8s.io": _by_table({"spec.leaseDurationSeconds": _between(1, _INT32_MAX)}),
    "deployments.apps": _check_workload,
    "replicasets.apps": _check_workload,
    "daemonsets.apps": _check_workload,
    "installations.operator.tigera.io": _by_table(_INSTALLATION),
}
