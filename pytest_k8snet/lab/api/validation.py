"""Services, endpoints, config maps, nodes and leases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from pytest_k8snet.lab.api.objects import Object, clone, dig
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.spec import CalicoSpec


@dataclass(frozen=True, slots=True)
class Form:
    """One form of names.

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

DNS_LABEL = Form(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and"
    " must start and end with an alphanumeric character",
    ("my-name", "123-abc"),
)
DNS_SUBDOMAIN = Form(
    rf"{_LABEL}(\.{_LABEL})*",
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character",
    ("example.com",),
)
SERVICE = Form(
    "[a-z]([-a-z0-9]*[a-z0-9])?",
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
    " alphabetic character, and end with an alphanumeric character",
    ("my-name", "abc-123"),
)
LABEL_KEY_NAME = Form(
    _QUALIFIED,
    63,
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character",
    ("MyName", "my.name", "123-abc"),
)
LABEL_VALUE = Form(
    "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
    63,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or"
    " '.', and must start and end with an alphanumeric character",
    ("MyValue", "my_value", "12345"),
)
CONFIG_KEY = Form(
    "[-._a-zA-Z0-9]+",
    253,
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    ("key.name", "KEY_NAME", "key-name"),
)
PORT_NAME = Form(
    _LABEL,
    15,
    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    ("http",),
)
# The API service of the core group is called "v1.", which is no domain name.
API_SERVICE = Form(
    r"[a-z0-9]+\.[-a-z0-9.]*", 253, "must be a version and a group", ("v1.apps", "v1.")
)


# -- The faults of one object, collected while it is checked, in Kubernetes' words ----------------


class Causes:
    """Collects causes; each method adds one, or none when all is well.

    Attributes:
        found: what was collected, in order.
    """

    def __init__(self) -> None:
        self.found: list[Cause] = []

    def _add(self, reason: str, field: str, message: str) -> None:
        self.found.append(Cause(reason, field, message))

    def required(self, field: str, why: str = "") -> None:
        """A field that must be there is not."""
        self._add("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")

    def invalid(self, field: str, value: Any, why: str) -> None:
        """A value that is not acceptable."""
        self._add("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {why}")

    def duplicate(self, field: str, value: Any) -> None:
        """A value that may occur once only."""
        self._add("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")

    def forbidden(self, field: str, why: str) -> None:
        """A field that may not be set or changed here."""
        self._add("FieldValueForbidden", field, f"Forbidden: {why}")

    def unknown_reference(self, field: str, value: Any) -> None:
        """A name that refers to nothing."""
        self._add("FieldValueNotFound", field, f"Not found: {shown(value)}")

    def too_long(self, field: str, limit_bytes: int) -> None:
        """A value that is too large."""
        self._add("FieldValueTooLong", field, f"Too long: may not be more than {limit_bytes} bytes")

    def one_of(self, field: str, value: Any, supported: Sequence[str]) -> None:
        """A value that must be one of a few; an absent one passes."""
        if value is None or value in supported:
            return
        choice = ", ".join(shown(item) for item in supported)
        self._add(
            "FieldValueNotSupported",
            field,
            f"Unsupported value: {shown(value)}: supported values: {choice}",
        )

    def name(self, field: str, value: str, form: Form) -> None:
        """A name in one of Kubernetes' forms."""
        for why in form.faults(value):
            self.invalid(field, value, why)

    def between(self, field: str, value: Any, low: int, high: int) -> None:
        """A number within a range."""
        if not isinstance(value, int) or not low <= value <= high:
            self.invalid(field, value, f"must be between {low} and {high}, inclusive")

    def not_negative(self, field: str, value: Any) -> None:
        """A number that is at least 0; an absent one passes."""
        if value is not None and (not isinstance(value, int) or value < 0):
            self.invalid(field, value, "must be greater than or equal to 0")

    def port(self, field: str, value: Any) -> None:
        """A port number."""
        self.between(field, value, 1, 65535)

    def address(self, field: str, value: Any) -> None:
        """An IP address."""
        try:
            ip_address(str(value))
        except ValueError:
            self.invalid(
                field, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            )

    def unchanged(self, field: str, new: Any, old: Any) -> None:
        """A value that may not change."""
        if new != old:
            self.invalid(field, new, "field is immutable")


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    return "null" if value is None else json.dumps(value, separators=(",", ":"))


def objects(value: Any) -> list[Object]:
    """The objects of a list, skipping what is none; empty for anything but a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def repeated(values: Iterable[Any]) -> list[tuple[int, Any]]:
    """The values (with their index) that occurred before; empty ones do not count."""
    seen: list[Any] = []
    again = []
    for index, value in enumerate(values):
        if value in (None, ""):
            continue
        if value in seen:
            again.append((index, value))
        seen.append(value)
    return again


# -- Services, endpoints, config maps, nodes and leases -------------------------------------------


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
            causes.name(f"{at}.name", str(port["name"]), DNS_LABEL)
        causes.port(f"{at}.port", port.get("port", 0))
        causes.one_of(f"{at}.protocol", port.get("protocol"), ("SCTP", "TCP", "UDP"))
        target = port.get("targetPort")
        if isinstance(target, int):
            causes.port(f"{at}.targetPort", target)
        elif target:
            causes.name(f"{at}.targetPort", str(target), PORT_NAME)
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
            causes.name(f"{field}[{key}]", key, CONFIG_KEY)
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


# -- What every object's metadata must fulfil -----------------------------------------------------


_FORMS = {
    "namespaces": DNS_LABEL,
    "services": SERVICE,
    "apiservices.apiregistration.k8s.io": API_SERVICE,
}

#: Annotations may be this large together.
_ANNOTATIONS_LIMIT_BYTES = 256 * 1024


def check_metadata(causes: Causes, resource: Resource, obj: Object) -> None:
    """Name, namespace, labels, annotations and owners."""
    meta = obj["metadata"]
    name = meta.get("name")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    else:
        form = _FORMS.get(resource.key, DNS_SUBDOMAIN)
        causes.name("metadata.name", str(name), form)
    if resource.namespaced:
        causes.name("metadata.namespace", str(meta["namespace"]), DNS_LABEL)
    elif meta.get("namespace"):
        causes.forbidden("metadata.namespace", "not allowed on this type")
    check_labels(causes, "metadata.labels", meta.get("labels"))
    _check_annotations(causes, meta.get("annotations") or {})
    for index, owner in enumerate(objects(meta.get("ownerReferences"))):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                causes.required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")


def check_labels(causes: Causes, field: str, labels: Any) -> None:
    """Keys and values of labels."""
    for key, value in (labels or {}).items():
        check_key(causes, field, key)
        causes.name(field, str(value), LABEL_VALUE)


def check_key(causes: Causes, field: str, key: str) -> None:
    """A key of labels or annotations: a name, or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        for why in DNS_SUBDOMAIN.faults(prefix):
            causes.invalid(field, key, f"prefix part {why}")
    for why in LABEL_KEY_NAME.faults(name):
        causes.invalid(field, key, why)


def _check_annotations(causes: Causes, annotations: dict[str, str]) -> None:
    for key in annotations:
        # Annotation keys are compared without regard to case.
        check_key(causes, "metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT_BYTES:
        causes.too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES)


def check_selector_matches(causes: Causes, spec: Object) -> None:
    """A workload's selector: there, not empty, and fitting its own template."""
    selector = spec.get("selector")
    if not selector:
        causes.required("spec.selector")
        return
    labels = dig(spec, "template.metadata.labels", {})
    for index, term in enumerate(objects(selector.get("matchExpressions"))):
        at = f"spec.selector.matchExpressions[{index}]"
        if not term.get("key"):
            causes.required(f"{at}.key")
        operators = ("In", "NotIn", "Exists", "DoesNotExist")
        causes.one_of(f"{at}.operator", term.get("operator", ""), operators)
        if term.get("operator") in ("In", "NotIn") and not term.get("values"):
            causes.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    check_labels(causes, "spec.template.metadata.labels", labels)
    if not match_labels(selector, labels):
        causes.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )


# -- Pods: what their spec must fulfil, and what of it may change later ---------------------------


_INT32_MAX = 2**31 - 1
_PROTOCOLS = ("SCTP", "TCP", "UDP")


def check_pod(causes: Causes, pod: Object) -> None:
    """A whole pod."""
    check_pod_spec(causes, "spec", pod.get("spec") or {})


def check_pod_spec(causes: Causes, at: str, spec: Object) -> None:
    """A pod's spec, at the given path."""
    containers = objects(spec.get("containers"))
    if not containers:
        causes.required(f"{at}.containers")
    initial = objects(spec.get("initContainers"))
    volumes = {str(volume.get("name")) for volume in objects(spec.get("volumes"))}
    _check_volumes(causes, f"{at}.volumes", objects(spec.get("volumes")))
    for field, group in (("containers", containers), ("initContainers", initial)):
        for index, container in enumerate(group):
            _check_container(causes, f"{at}.{field}[{index}]", container, volumes)
        for index, name in repeated(container.get("name") for container in group):
            causes.duplicate(f"{at}.{field}[{index}].name", name)
    causes.one_of(f"{at}.restartPolicy", spec.get("restartPolicy"), _RESTART_POLICIES)
    causes.one_of(f"{at}.dnsPolicy", spec.get("dnsPolicy"), _DNS_POLICIES)
    causes.not_negative(
        f"{at}.terminationGracePeriodSeconds", spec.get("terminationGracePeriodSeconds")
    )
    if spec.get("activeDeadlineSeconds") is not None:
        field = f"{at}.activeDeadlineSeconds"
        causes.between(field, spec["activeDeadlineSeconds"], 1, _INT32_MAX)
    if spec.get("nodeName"):
        causes.name(f"{at}.nodeName", str(spec["nodeName"]), DNS_SUBDOMAIN)
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            causes.name(f"{at}.{field}", str(spec[field]), DNS_LABEL)
    for index, toleration in enumerate(objects(spec.get("tolerations"))):
        _check_toleration(causes, f"{at}.tolerations[{index}]", toleration)
    _check_user(causes, f"{at}.securityContext", spec.get("securityContext") or {})


_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_ACTIONS = (
    *("livenessProbe", "readinessProbe", "startupProbe"),
    *("lifecycle.preStop", "lifecycle.postStart"),
)
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")


def _check_container(causes: Causes, at: str, container: Object, volumes: set[str]) -> None:
    name = container.get("name")
    if not name:
        causes.required(f"{at}.name")
    else:
        causes.name(f"{at}.name", str(name), DNS_LABEL)
    image = container.get("image")
    if not image:
        causes.required(f"{at}.image")
    elif str(image) != str(image).strip():
        causes.invalid(f"{at}.image", image, "must not have leading or trailing whitespace")
    causes.one_of(
        f"{at}.imagePullPolicy",
        container.get("imagePullPolicy"),
        ("Always", "IfNotPresent", "Never"),
    )
    _check_ports(causes, f"{at}.ports", objects(container.get("ports")))
    for field in _ACTIONS:
        action = dig(container, f"{field}.exec")
        if isinstance(action, dict) and not action.get("command"):
            causes.required(f"{at}.{field}.exec.command")
    for index, variable in enumerate(objects(container.get("env"))):
        field = f"{at}.env[{index}]"
        if not variable.get("name"):
            causes.required(f"{field}.name")
        elif "=" in variable["name"]:
            causes.invalid(f"{field}.name", variable["name"], "must not contain '='")
        if variable.get("value") and variable.get("valueFrom"):
            causes.invalid(
                f"{field}.valueFrom", "", "may not be specified when `value` is not empty"
            )
    mounts = objects(container.get("volumeMounts"))
    for index, mount in enumerate(mounts):
        field = f"{at}.volumeMounts[{index}]"
        if not mount.get("name"):
            causes.required(f"{field}.name")
        elif mount["name"] not in volumes:
            causes.unknown_reference(f"{field}.name", mount["name"])
        if not mount.get("mountPath"):
            causes.required(f"{field}.mountPath")
    for index, path in repeated(mount.get("mountPath") for mount in mounts):
        causes.invalid(f"{at}.volumeMounts[{index}].mountPath", path, "must be unique")
    _check_user(causes, f"{at}.securityContext", container.get("securityContext") or {})


def _check_ports(causes: Causes, at: str, ports: list[Object]) -> None:
    for index, port in enumerate(ports):
        field = f"{at}[{index}]"
        if not port.get("containerPort"):
            causes.required(f"{field}.containerPort")
        else:
            causes.port(f"{field}.containerPort", port["containerPort"])
        if port.get("hostPort"):
            causes.port(f"{field}.hostPort", port["hostPort"])
        if port.get("name"):
            causes.name(f"{field}.name", str(port["name"]), PORT_NAME)
        causes.one_of(f"{field}.protocol", port.get("protocol"), _PROTOCOLS)
    for index, name in repeated(port.get("name") for port in ports):
        causes.duplicate(f"{at}[{index}].name", name)
    host_ports = (
        f"{port.get('protocol')}/{port.get('hostIP', '')}/{port['hostPort']}"
        if port.get("hostPort")
        else None
        for port in ports
    )
    for index, host_port in repeated(host_ports):
        causes.duplicate(f"{at}[{index}].hostPort", host_port)


def _check_volumes(causes: Causes, at: str, volumes: list[Object]) -> None:
    for index, volume in enumerate(volumes):
        if not volume.get("name"):
            causes.required(f"{at}[{index}].name")
        else:
            causes.name(f"{at}[{index}].name", str(volume["name"]), DNS_LABEL)
        sources = [key for key in volume if key != "name"]
        if not sources:
            causes.required(f"{at}[{index}]", "must specify a volume type")
        for source in sources[1:]:
            causes.forbidden(f"{at}[{index}].{source}", "may not specify more than 1 volume type")
    for index, name in repeated(volume.get("name") for volume in volumes):
        causes.duplicate(f"{at}[{index}].name", name)


def _check_toleration(causes: Causes, at: str, toleration: Object) -> None:
    operator = toleration.get("operator") or "Equal"
    causes.one_of(f"{at}.operator", operator, ("Equal", "Exists"))
    if not toleration.get("key") and operator != "Exists":
        causes.invalid(
            f"{at}.operator",
            operator,
            "operator must be Exists when `key` is empty, which means"
            ' "match all values and all keys"',
        )
    if operator == "Exists" and toleration.get("value"):
        causes.invalid(
            f"{at}.operator", toleration, "value must be empty when `operator` is 'Exists'"
        )
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    causes.one_of(f"{at}.effect", toleration.get("effect") or None, effects)


def _check_user(causes: Causes, at: str, context: Object) -> None:
    for field in ("runAsUser", "runAsGroup", "fsGroup"):
        if context.get(field) is not None:
            causes.between(f"{at}.{field}", context[field], 0, _INT32_MAX)


def check_pod_update(causes: Causes, new: Object, old: Object, subresource: str) -> None:
    """Of a pod's spec little may change; the node is set by a binding, once."""
    if subresource == "binding":
        return
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


def _immutable_part(pod: Object, old: Object) -> Any:
    spec = clone(pod.get("spec") or {})
    for key in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(key, None)
    for group in ("containers", "initContainers"):
        for container in objects(spec.get(group)):
            container.pop("image", None)
    # Ephemeral containers are added through their own subresource, which the lab does not check.
    spec["ephemeralContainers"] = dig(old, "spec.ephemeralContainers")
    return spec


# -- Deployments, replica sets and daemon sets ----------------------------------------------------


def check_deployment(causes: Causes, deployment: Object) -> None:
    """A deployment."""
    spec = deployment.get("spec") or {}
    causes.one_of("spec.strategy.type", dig(spec, "strategy.type"), ("Recreate", "RollingUpdate"))
    if dig(spec, "strategy.type") == "Recreate" and dig(spec, "strategy.rollingUpdate"):
        causes.forbidden(
            "spec.strategy.rollingUpdate",
            "may not be specified when strategy `type` is 'Recreate'",
        )
    check_replica_set(causes, deployment)


def check_replica_set(causes: Causes, workload: Object) -> None:
    """A replica set, or what a deployment shares with one."""
    spec = workload.get("spec") or {}
    causes.not_negative("spec.replicas", spec.get("replicas"))
    check_daemon_set(causes, workload)


def check_daemon_set(causes: Causes, workload: Object) -> None:
    """A daemon set, or what every workload shares with one."""
    spec = workload.get("spec") or {}
    causes.not_negative("spec.minReadySeconds", spec.get("minReadySeconds"))
    check_selector_matches(causes, spec)
    template = dig(spec, "template.spec", {})
    check_pod_spec(causes, "spec.template.spec", template)
    causes.one_of("spec.template.spec.restartPolicy", template.get("restartPolicy"), ("Always",))


def check_selector_unchanged(causes: Causes, new: Object, old: Object) -> None:
    """A workload keeps its selector for life."""
    causes.unchanged("spec.selector", dig(new, "spec.selector"), dig(old, "spec.selector"))


# -- IP pools and the operator's Installation: as strict as the Calico version that is played -----
#
# Up to v3.31 a raw ``crd.projectcalico.org/v1`` object is stored almost unseen; the aggregated
# API server has always looked closely, and since v3.32 the custom resource itself does.


_MODES = ("Never", "Always", "CrossSubnet")


def strict_pools(resource: Resource, calico: CalicoSpec) -> bool:
    """Whether pools written as this resource are checked closely."""
    return resource.group == CALICO_V3 or version_tuple(calico.version) >= (3, 32)


def version_tuple(version: str) -> tuple[int, int]:
    """``v3.31.2`` as (3, 31)."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def check_pool(causes: Causes, pool: Object, *, strict: bool) -> None:
    """An IP pool."""
    spec = pool.get("spec")
    if not isinstance(spec, dict):
        causes.required("spec")
        return
    for field, letter, wanted in (
        ("cidr", str, "string"),
        ("ipipMode", str, "string"),
        ("vxlanMode", str, "string"),
        ("blockSize", int, "integer"),
        ("natOutgoing", bool, "boolean"),
        ("disabled", bool, "boolean"),
    ):
        value = spec.get(field)
        if value is not None and not isinstance(value, letter):
            at = f"spec.{field}"
            causes.invalid(at, value, f"{at} in body must be of type {wanted}")
    if "cidr" not in spec:
        causes.required("spec.cidr")
    elif strict:
        _check_closely(causes, spec)


def _check_closely(causes: Causes, spec: Object) -> None:
    for field in ("ipipMode", "vxlanMode"):
        causes.one_of(f"spec.{field}", spec.get(field), _MODES)
    causes.one_of("spec.assignmentMode", spec.get("assignmentMode"), ("Automatic", "Manual"))
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
    size, (low, high) = spec.get("blockSize"), (20, 32) if network.version == 4 else (116, 128)
    if isinstance(size, int):
        causes.between("spec.blockSize", size, low, high)
        if network.prefixlen > size:
            causes.invalid(
                "spec.cidr",
                spec["cidr"],
                f"IP pool is too small: its prefix must not be longer than the block size {size}",
            )


def check_pool_update(causes: Causes, new: Object, old: Object) -> None:
    """A pool keeps its addresses and the size of its blocks."""
    for field in ("cidr", "blockSize"):
        before, after = dig(old, f"spec.{field}"), dig(new, f"spec.{field}")
        if before is not None and after != before:
            causes.invalid(f"spec.{field}", after, "field is immutable")


def check_installation(causes: Causes, installation: Object) -> None:
    """The operator's Installation: the encapsulation of its pools."""
    choices = ("IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None")
    for index, pool in enumerate(objects(dig(installation, "spec.calicoNetwork.ipPools"))):
        field = f"spec.calicoNetwork.ipPools[{index}].encapsulation"
        causes.one_of(field, pool.get("encapsulation"), choices)
