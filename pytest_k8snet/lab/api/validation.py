"""Refusing bad objects as a Kubernetes API server does: 422 with a cause for each bad field.

Checked is what a client of the lab can get wrong and would wonder about if it passed; what each
field may hold stands in tables, one for each type. IP pools are checked as closely as the Calico
version that is played checks them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from pytest_k8snet.lab.api import definitions, status
from pytest_k8snet.lab.api.objects import Object, clone, compact, dig, name_of, objects_in
from pytest_k8snet.lab.api.request import match_labels
from pytest_k8snet.lab.api.resources import CALICO_V1, CALICO_V3, Resource
from pytest_k8snet.lab.api.schema import amount, conform
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.spec import CalicoSpec

#: What is wrong with one field or object, one cause after the other.
Causes = Iterator[Cause]


def check_new(resource: Resource, obj: Object, calico: CalicoSpec) -> None:
    """Refuse a new object that is not valid.

    Raises:
        StatusError: 422, with all its faults.
    """
    _refuse(resource, obj, _whole(resource, obj, calico))
    if resource.key == "pods":
        _warn_of_pod("", obj)
    elif resource.group in ("apps", "batch"):
        _warn_of_pod("spec.template.", dig(obj, "spec.template", {}))


def check_update(
    resource: Resource, new: Object, old: Object, subresource: str, calico: CalicoSpec
) -> None:
    """Refuse a new state that is not valid, or that changes what may not change.

    Raises:
        StatusError: 422, with all its faults.
    """

    def causes() -> Causes:
        yield from _whole(resource, new, calico)
        if resource.key == "pods" and subresource != "binding":
            yield from _pod_update(new, old)
        elif resource.kind == "IPPool" and strict_pools(resource, calico):
            yield from _pool_update(resource, new, old)
        elif resource.key == "services" and dig(new, "spec.type") != "ExternalName":
            yield from _unchanged(new, old, "spec.clusterIP")
        elif resource.kind in ("RoleBinding", "ClusterRoleBinding"):
            if new.get("roleRef") != old.get("roleRef"):
                yield _invalid("roleRef", new.get("roleRef"), "cannot change roleRef")
        elif resource.group == "apps":
            yield from _unchanged(new, old, "spec.selector")
        elif resource.key == "jobs.batch":
            yield from _unchanged(new, old, "spec.completions", "spec.selector", "spec.template")
        elif resource.key in ("configmaps", "secrets"):
            yield from _frozen(new, old)

    _refuse(resource, new, causes())


def _whole(resource: Resource, obj: Object, calico: CalicoSpec) -> Causes:
    yield from _metadata(resource, obj)
    if resource.schema is not None:
        yield from definitions.check(resource.schema, obj)
    elif resource.custom and resource.kind != "IPPool":
        yield from _types(resource, obj)
    if resource.kind == "IPPool":
        yield from _pool(resource, obj, strict=strict_pools(resource, calico))
    elif resource.key in _CHECKS:
        yield from _CHECKS[resource.key](obj)


def _refuse(resource: Resource, obj: Object, causes: Causes) -> None:
    found = list(causes)
    if not found:
        return
    if resource.aggregated and found[0].field.startswith("spec"):
        # Its own server had nothing against it, the custom resource that it is stored as has.
        resource = replace(resource, group=CALICO_V1, version="v1")
    raise status.invalid(resource, name_of(obj), found)


def _types(resource: Resource, obj: Object) -> Causes:
    """Values of another type than the schema of a custom resource says."""
    for problem in conform(resource.type_name, clone(obj)):
        if problem.kind == "type":
            wanted = _OF_GO.get(problem.wanted, "object")
            wanted = "array" if problem.wanted.startswith("[]") else wanted
            found = {"bool": "boolean", "number": "integer"}.get(problem.found, problem.found)
            why = f'{problem.path} in body must be of type {wanted}: "{found}"'
            text = f'Invalid value: "{found}": {why}'
            yield Cause("FieldValueTypeInvalid", problem.path, text)


_OF_GO = {"int32": "integer", "bool": "boolean", "string": "string"}


_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"


def _warn_of_pod(at: str, pod: Object) -> None:
    """Warn of what a pod may have, and what has another effect than it looks like."""
    if _SECCOMP in dig(pod, "metadata.annotations", {}):
        why = 'non-functional in v1.27+; use the "seccompProfile" field instead'
        status.warn(f"{at}metadata.annotations[{_SECCOMP}]: {why}")
    for key in dig(pod, "spec.nodeSelector", {}):
        if key in ("beta.kubernetes.io/os", "beta.kubernetes.io/arch"):
            now = key.removeprefix("beta.")
            why = f'deprecated since v1.14; use "{now}" instead'
            status.warn(f"{at}spec.nodeSelector[{key}]: {why}")
    for group in ("initContainers", "containers"):
        for number, container in enumerate(objects_in(dig(pod, f"spec.{group}"))):
            seen: set[str] = set()
            for index, variable in enumerate(objects_in(container.get("env"))):
                if variable.get("name") in seen:
                    where = f"{at}spec.{group}[{number}].env[{index}]"
                    hidden = f'hides previous definition of "{variable["name"]}"'
                    status.warn(f"{where}: {hidden}, which may be dropped when using apply")
                seen.add(str(variable.get("name")))


# -- Causes in Kubernetes' words -----------------------------------------------------------------


def _invalid(field: str, value: Any, why: str) -> Cause:
    return Cause("FieldValueInvalid", field, f"Invalid value: {compact(value)}: {why}")


def _missing(field: str, why: str = "") -> Cause:
    return Cause("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")


def _forbidden(field: str, why: str) -> Cause:
    return Cause("FieldValueForbidden", field, f"Forbidden: {why}")


def _duplicate(field: str, value: Any) -> Cause:
    return Cause("FieldValueDuplicate", field, f"Duplicate value: {compact(value)}")


def _too_long(field: str, limit_bytes: int) -> Cause:
    text = f"Too long: may not be more than {limit_bytes} bytes"
    return Cause("FieldValueTooLong", field, text)


# -- The rules that tables are made of -----------------------------------------------------------

#: Checks the value of a field, None where it is absent.
Rule = Callable[[str, Any], Causes]
#: The rules of a type's fields, by their dotted paths.
Table = Mapping[str, Rule]


def _fields(at: str, obj: Object, table: Table) -> Causes:
    for path, rule in table.items():
        yield from rule(f"{at}.{path}" if at else path, dig(obj, path))


def _required(then: Rule | None = None) -> Rule:
    """The field is there; what it then fulfils."""

    def check(field: str, value: Any) -> Causes:
        if not value:
            yield _missing(field)
        elif then is not None:
            yield from then(field, value)

    return check


def _one_of(*supported: str) -> Rule:
    def check(field: str, value: Any) -> Causes:
        if value is not None and value not in supported:
            choice = ", ".join(map(compact, supported))
            text = f"Unsupported value: {compact(value)}: supported values: {choice}"
            yield Cause("FieldValueNotSupported", field, text)

    return check


def _between(low: int, high: int) -> Rule:
    def check(field: str, value: Any) -> Causes:
        if value is not None and (not isinstance(value, int) or not low <= value <= high):
            yield _invalid(field, value, f"must be between {low} and {high}, inclusive")

    return check


def _not_negative(field: str, value: Any) -> Causes:
    if value is not None and (not isinstance(value, int) or value < 0):
        yield _invalid(field, value, "must be greater than or equal to 0")


def _address(field: str, value: Any) -> Causes:
    try:
        ip_address(str(value))
    except ValueError:
        why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        yield _invalid(field, value, why)


def _addresses(field: str, value: Any) -> Causes:
    for index, address in enumerate(value or ()):
        yield from _address(f"{field}[{index}]", address)


def _each(table: Table, *, unique: str = "") -> Rule:
    """Every object of a list keeps to a table, and no two have the same value of a field."""

    def check(field: str, value: Any) -> Causes:
        seen = []
        for index, item in enumerate(objects_in(value)):
            yield from _fields(f"{field}[{index}]", item, table)
            name = item.get(unique)
            if name in seen:
                yield _duplicate(f"{field}[{index}].{unique}", name)
            if name:
                seen.append(name)

    return check


def _name(pattern: str, limit: int, rule: str, *examples: str, told: str = "") -> Rule:
    """A name of one form, of which a part may be told; none is a matter of ``_required``."""
    shown = " or ".join(f"'{example}', " for example in examples).strip()

    def check(field: str, value: Any) -> Causes:
        if value and len(str(value)) > limit:
            yield _invalid(field, value, f"must be no more than {limit} characters")
        if value and not re.fullmatch(pattern, str(value)):
            why = f"{rule} (e.g. {shown} regex used for validation is '{told or pattern}')"
            yield _invalid(field, value, why)

    return check


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_ENDS = "and must start and end with an alphanumeric character"

_DNS_LABEL = _name(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', "
    + _ENDS,
    *("my-name", "123-abc"),
)
_DNS_SUBDOMAIN = _name(
    rf"{_LABEL}(\.{_LABEL})*",
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    f" '.', {_ENDS}",
    "example.com",
)
_SERVICE_NAME = _name(
    "[a-z]([-a-z0-9]*[a-z0-9])?",
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
    " alphabetic character, and end with an alphanumeric character",
    *("my-name", "abc-123"),
)
_LABEL_KEY = _name(
    rf"({_LABEL}(\.{_LABEL})*/)?{_QUALIFIED}",
    317,
    f"name part must consist of alphanumeric characters, '-', '_' or '.', {_ENDS}",
    *("MyName", "my.name", "123-abc"),
    told=_QUALIFIED,
)
_LABEL_VALUE = _name(
    f"({_QUALIFIED})?",
    63,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or"
    f" '.', {_ENDS}",
    *("MyValue", "my_value", "12345"),
)
_PORT_NAME = _name(
    _LABEL, 15, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)", "http"
)
_PATH_SEGMENT = _name(r"(?!\.\.?$)[^/%]+", 253, "may not contain '/' or '%'", "system:node")
_PORT = _between(1, 65535)
_PROTOCOL = _one_of("SCTP", "TCP", "UDP")


# -- Metadata ------------------------------------------------------------------------------------

#: Annotations may be this large together.
_ANNOTATIONS_LIMIT_BYTES = 256 * 1024


def _metadata(resource: Resource, obj: Object) -> Causes:
    meta = obj["metadata"]
    if not meta.get("name"):
        yield _missing("metadata.name", "name or generateName is required")
    # The API service of the core group is called "v1.", which is no domain name.
    elif resource.kind != "APIService":
        forms = {"namespaces": _DNS_LABEL, "services": _SERVICE_NAME}
        if resource.aggregated:
            yield from _aggregated_name(meta["name"])
            return
        rbac = resource.group == "rbac.authorization.k8s.io"
        form = _PATH_SEGMENT if rbac else forms.get(resource.key, _DNS_SUBDOMAIN)
        yield from form("metadata.name", meta["name"])
    if not resource.namespaced and meta.get("namespace"):
        yield _forbidden("metadata.namespace", "not allowed on this type")
    yield from _labels("metadata.labels", meta.get("labels"))
    annotations = meta.get("annotations") or {}
    for key in annotations:
        yield from _LABEL_KEY("metadata.annotations", key)
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT_BYTES:
        yield _too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES)


def _aggregated_name(name: str) -> Causes:
    """The name of an object, as Calico's own API server sees it."""
    form = rf"{_LABEL}(\.{_LABEL})*"
    if not re.fullmatch(form, name):
        why = "name must consist of lower case alphanumeric characters, '-' or '.'"
        yield _invalid("Metadata.Name", {}, f"{why} (regex: {form})")


def _labels(field: str, labels: Any) -> Causes:
    for key, value in (labels or {}).items():
        yield from _LABEL_KEY(field, key)
        yield from _LABEL_VALUE(field, value)


def _unchanged(new: Object, old: Object, *paths: str) -> Causes:
    """Values that may not change once they are there."""
    for path in paths:
        before, after = dig(old, path), dig(new, path)
        if before is not None and after != before:
            yield _invalid(path, after, "field is immutable")


# -- Pods, and the workloads that make them ------------------------------------------------------

_INT32_MAX = 2**31 - 1
_USER = dict.fromkeys(
    ("securityContext.runAsUser", "securityContext.runAsGroup"), _between(0, _INT32_MAX)
)


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")


def _action(field: str, value: Any) -> Causes:
    """A probe or a hook does one thing; one that runs a command has one."""
    kinds = [kind for kind in _HANDLERS if isinstance(value, dict) and value.get(kind) is not None]
    if isinstance(value, dict) and not kinds:
        yield _missing(field, "must specify a handler type")
    for kind in kinds[1:]:
        yield _forbidden(f"{field}.{kind}", "may not specify more than 1 handler type")
    if kinds[:1] == ["exec"] and not dig(value, "exec.command"):
        yield _missing(f"{field}.exec.command")


def _probe(field: str, value: Any) -> Causes:
    yield from _action(field, value)
    for name in ("initialDelay", "timeout", "period"):
        yield from _not_negative(f"{field}.{name}Seconds", dig(value, f"{name}Seconds"))
    times = dig(value, "successThreshold", 1)
    if times != 1 and not field.endswith("readinessProbe"):
        yield _invalid(f"{field}.successThreshold", times, "must be 1")


def _toleration(field: str, value: Any) -> Causes:
    for index, one in enumerate(objects_in(value)):
        at, effect = f"{field}[{index}]", one.get("effect")
        if one.get("operator") == "Exists" and one.get("value"):
            why = "value must be empty when `operator` is 'Exists'"
            yield _invalid(f"{at}.operator", one["value"], why)
        if one.get("tolerationSeconds") is not None and effect != "NoExecute":
            why = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            yield _invalid(f"{at}.effect", effect, why)
        yield from _fields(at, one, _TOLERATION)


_TOLERATION: Table = {
    "operator": _one_of("Equal", "Exists"),
    "effect": _one_of("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
}


def _node_terms(field: str, value: Any) -> Causes:
    """A required affinity to nodes has terms, whose operators exist."""
    if value is not None and not dig(value, "nodeSelectorTerms"):
        yield _missing(f"{field}.nodeSelectorTerms", "must have at least one node selector term")
    for index, term in enumerate(objects_in(dig(value, "nodeSelectorTerms"))):
        for number, one in enumerate(objects_in(term.get("matchExpressions"))):
            if one.get("operator") not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
                where = f"{field}.nodeSelectorTerms[{index}].matchExpressions[{number}].operator"
                yield _invalid(where, one.get("operator"), "not a valid selector operator")


def _resources(field: str, value: Any) -> Causes:
    """Nobody asks for more than is allowed."""
    limits = dig(value, "limits", {})
    for name, request in dig(value, "requests", {}).items():
        limit = limits.get(name)
        if limit is not None and amount(request) > amount(limit):
            why = f"must be less than or equal to {name} limit of {limit}"
            yield _invalid(f"{field}.requests", request, why)


def _positive(field: str, value: Any) -> Causes:
    if value is not None and (not isinstance(value, int) or value <= 0):
        yield _invalid(field, value, "must be greater than 0")


_CONTAINER: Table = {
    "name": _required(_DNS_LABEL),
    "image": _required(),
    "imagePullPolicy": _one_of("Always", "IfNotPresent", "Never"),
    "ports": _each(
        {"containerPort": _required(_PORT), "name": _PORT_NAME, "protocol": _PROTOCOL},
        unique="name",
    ),
    **dict.fromkeys(("livenessProbe", "readinessProbe", "startupProbe"), _probe),
    "lifecycle.preStop": _action,
    "env": _each({"name": _required()}),
    "volumeMounts": _each({"name": _required(), "mountPath": _required()}, unique="mountPath"),
    "resources": _resources,
    **_USER,
}
_AFFINITY_TERMS: Mapping[str, Table] = {
    "required": {"topologyKey": _required()},
    "preferred": {
        "weight": _between(1, 100),
        "podAffinityTerm.topologyKey": _required(),
    },
}
_POD: Table = {
    "containers": _each(_CONTAINER, unique="name"),
    "initContainers": _each(_CONTAINER, unique="name"),
    "volumes": _each({"name": _required(_DNS_LABEL)}, unique="name"),
    "restartPolicy": _one_of("Always", "OnFailure", "Never"),
    "dnsPolicy": _one_of("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
    "terminationGracePeriodSeconds": _not_negative,
    "activeDeadlineSeconds": _between(1, _INT32_MAX),
    "hostname": _DNS_LABEL,
    "tolerations": _toleration,
    "nodeSelector": _labels,
    "hostAliases": _each({"ip": _address}),
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution": _node_terms,
    "topologySpreadConstraints": _each(
        {
            "topologyKey": _required(),
            "maxSkew": _between(1, _INT32_MAX),
            "whenUnsatisfiable": _required(_one_of("DoNotSchedule", "ScheduleAnyway")),
        }
    ),
    **{
        f"affinity.{kind}.{when}DuringSchedulingIgnoredDuringExecution": _each(term)
        for kind in ("podAffinity", "podAntiAffinity")
        for when, term in _AFFINITY_TERMS.items()
    },
    **_USER,
}


def _pod_spec(at: str, spec: Object) -> Causes:
    if not objects_in(spec.get("containers")):
        yield _missing(f"{at}.containers")
    yield from _fields(at, spec, _POD)
    volumes = objects_in(spec.get("volumes"))
    for index, volume in enumerate(volumes):
        more = [key for key in volume if key != "name"][1:]
        for source in more:
            why = "may not specify more than 1 volume type"
            yield _forbidden(f"{at}.volumes[{index}].{source}", why)
    names = {volume.get("name") for volume in volumes}
    for index, container in enumerate(objects_in(spec.get("containers"))):
        for number, mount in enumerate(objects_in(container.get("volumeMounts"))):
            if mount.get("name") not in names:
                where = f"{at}.containers[{index}].volumeMounts[{number}].name"
                yield Cause("FieldValueNotFound", where, f"Not found: {compact(mount.get('name'))}")


def _pod_update(new: Object, old: Object) -> Causes:
    """Of a pod's spec little may change; the node is set by a binding, once."""
    if _immutable_part(new, old) != _immutable_part(old, old):
        yield _forbidden(
            "spec",
            "pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations`"
            " (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`"
            " (allow it to be set to 1 if it was previously negative)",
        )
    kept, wanted = dig(old, "spec.tolerations", []), dig(new, "spec.tolerations", [])
    if any(toleration not in wanted for toleration in kept):
        why = "existing toleration can not be modified except its tolerationSeconds"
        yield _forbidden("spec.tolerations", why)


def _immutable_part(pod: Object, old: Object) -> Object:
    spec: Object = clone(pod.get("spec") or {})
    for key in ("activeDeadlineSeconds", "tolerations"):
        spec.pop(key, None)
    for group in ("containers", "initContainers"):
        for container in objects_in(spec.get(group)):
            container.pop("image", None)
    # Ephemeral containers are added through their own subresource, which the lab does not check.
    spec["ephemeralContainers"] = dig(old, "spec.ephemeralContainers")
    return spec


_WORKLOAD: Table = {
    "replicas": _not_negative,
    "minReadySeconds": _not_negative,
    "strategy.type": _one_of("Recreate", "RollingUpdate"),
    "selector": _required(),
    "template.spec.restartPolicy": _one_of("Always"),
}


def _workload(workload: Object) -> Causes:
    spec = workload.get("spec") or {}
    yield from _fields("spec", spec, _WORKLOAD)
    labels = dig(spec, "template.metadata.labels", {})
    yield from _labels("spec.template.metadata.labels", labels)
    selector = spec.get("selector") or None
    if workload.get("kind") == "ReplicationController":
        selector = {"matchLabels": selector}
    if not match_labels(selector, labels):
        why = "`selector` does not match template `labels`"
        yield _invalid("spec.template.metadata.labels", labels, why)
    yield from _pod_spec("spec.template.spec", dig(spec, "template.spec", {}))


# -- Services, endpoints, config maps, nodes and leases ------------------------------------------

_NODE_PORTS = range(30000, 32768)
_DATA_LIMIT_BYTES = 1024 * 1024

_SERVICE: Table = {
    "type": _one_of("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"),
    "externalTrafficPolicy": _one_of("Cluster", "Local"),
    "sessionAffinity": _one_of("ClientIP", "None"),
    "selector": _labels,
    "externalIPs": _addresses,
    "ports": _each({"name": _DNS_LABEL, "port": _PORT, "protocol": _PROTOCOL}, unique="name"),
}


def _service(service: Object) -> Causes:
    spec = service.get("spec") or {}
    yield from _fields("spec", spec, _SERVICE)
    kind, ports, cluster_ip = spec.get("type"), objects_in(spec.get("ports")), spec.get("clusterIP")
    if kind == "ExternalName":
        yield from _required()("spec.externalName", spec.get("externalName"))
    elif not ports and cluster_ip != "None":
        yield _missing("spec.ports")
    if kind not in ("NodePort", "LoadBalancer") and spec.get("externalTrafficPolicy") == "Local":
        why = "may only be set for externally-accessible services"
        yield _invalid("spec.externalTrafficPolicy", "Local", why)
    if kind != "LoadBalancer" and spec.get("loadBalancerSourceRanges"):
        why = "may only be used when `type` is 'LoadBalancer'"
        yield _forbidden("spec.LoadBalancerSourceRanges", why)
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        why = "this cluster is not configured for dual-stack services"
        yield _invalid("spec.ipFamilyPolicy", "RequireDualStack", why)
    elif "IPv6" in (spec.get("ipFamilies") or ()):
        where = f"spec.ipFamilies[{spec['ipFamilies'].index('IPv6')}]"
        yield _invalid(where, "IPv6", "not configured on this cluster")
    if cluster_ip and cluster_ip != "None":
        yield from _address("spec.clusterIPs[0]", cluster_ip)
    elif cluster_ip and kind in ("NodePort", "LoadBalancer"):
        why = f"may not be set to 'None' for {kind} services"
        yield _invalid("spec.clusterIPs[0]", "None", why)
    taken: list[Object] = []
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        if not port.get("name") and len(ports) > 1:
            yield _missing(f"{at}.name")
        target = port.get("targetPort")
        yield from (_PORT if isinstance(target, int) else _PORT_NAME)(f"{at}.targetPort", target)
        yield from _node_port(f"{at}.nodePort", port.get("nodePort"), kind)
        same = {"protocol": port.get("protocol"), "port": port.get("port")}
        if same in taken:
            yield _duplicate(at, same)
        taken.append(same)


def _node_port(field: str, number: Any, kind: Any) -> Causes:
    if number and kind not in ("NodePort", "LoadBalancer"):
        yield _forbidden(field, "may not be used when `type` is 'ClusterIP'")
    elif number and number not in _NODE_PORTS:
        yield _invalid(
            field,
            number,
            "provided port is not in the valid range. The range of valid ports is "
            f"{_NODE_PORTS.start}-{_NODE_PORTS.stop - 1}",
        )


def _config_map(config_map: Object) -> Causes:
    """A config map or a secret."""
    data = [*dig(config_map, "data", {}).values(), *dig(config_map, "binaryData", {}).values()]
    if sum(len(str(value).encode()) for value in data) > _DATA_LIMIT_BYTES:
        yield _too_long("data", _DATA_LIMIT_BYTES)


def _frozen(new: Object, old: Object) -> Causes:
    if old.get("type"):
        yield from _unchanged(new, old, "type")
    for field in ("immutable", "data", "binaryData") if old.get("immutable") else ():
        if (new.get(field) or None) != (old.get(field) or None):
            yield _forbidden(field, "field is immutable when `immutable` is set")


_ENDPOINTS: Table = {
    "subsets": _each({"addresses": _each({"ip": _address}), "ports": _each({"port": _PORT})})
}
_EFFECT = _required(_one_of("NoSchedule", "PreferNoSchedule", "NoExecute"))
_NODE: Table = {"spec.taints": _each({"key": _required(), "effect": _EFFECT})}
_LEASE: Table = {"spec.leaseDurationSeconds": _positive}


_RULES: Table = {
    "rules": _each({"verbs": _required()}),
}
_BINDING: Table = {
    "roleRef.kind": _required(_one_of("Role", "ClusterRole")),
    "roleRef.name": _required(),
    "subjects": _each(
        {"kind": _required(_one_of("ServiceAccount", "User", "Group")), "name": _required()}
    ),
}


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
_ENCAPSULATION = _one_of("IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None")
_INSTALLATION: Table = {
    "spec.calicoNetwork.ipPools": _each({"encapsulation": _ENCAPSULATION}),
}


def strict_pools(resource: Resource, calico: CalicoSpec) -> bool:
    """Whether pools written as this resource are checked closely."""
    version = re.match(r"v?(\d+)\.(\d+)", calico.version)
    newer = version is not None and (int(version[1]), int(version[2])) >= (3, 32)
    return resource.group == CALICO_V3 or newer


def _pool(resource: Resource, pool: Object, *, strict: bool) -> Causes:
    """What the schema of the custom resource says, and what its rules say once it is kept to.

    Source of the texts: a recorded Calico 3.33 (``tests/data/kubernetes/pools-*.json``).
    """
    spec = pool.get("spec")
    if not isinstance(spec, dict):
        yield _missing("spec")
        return
    wrong = [*_types(resource, pool), *_pool_schema(resource, spec, strict=strict)]
    yield from wrong
    if wrong and strict and wrong[0].field.startswith("spec"):
        why = (
            "some validation rules were not checked because the object was invalid; correct the"
            " existing errors to complete validation"
        )
        yield _invalid("<nil>", None, why)
    elif not wrong and strict:
        yield from _pool_rules(spec)


def _pool_schema(resource: Resource, spec: Object, *, strict: bool) -> Causes:
    cidr = spec.get("cidr")
    if resource.aggregated and not _network(cidr):
        said = "must be specified" if cidr is None else "must be a valid subnet"
        yield _invalid("IPPool.Spec.CIDR", cidr, f"IPPool CIDR {said}")
    elif "cidr" not in spec:
        yield _missing("spec.cidr")
    elif strict and isinstance(cidr, str) and not _network(cidr):
        why = f'spec.cidr in body must be of type cidr: "{cidr}"'
        yield Cause("FieldValueTypeInvalid", "spec.cidr", f"Invalid value: {compact(cidr)}: {why}")
    if strict:
        yield from _fields("spec", spec, _POOL)


def _network(cidr: Any) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(str(cidr))
    except ValueError:
        return None


def _pool_rules(spec: Object) -> Causes:
    network = _network(spec["cidr"])
    assert network is not None
    ipip, vxlan = (spec.get(field) or "Never" for field in ("ipipMode", "vxlanMode"))
    if "Never" not in (ipip, vxlan):
        yield _forbidden("spec", "ipipMode and vxlanMode cannot both be enabled")
    if network.version == 6 and ipip != "Never":
        yield _forbidden("spec", "ipipMode is not supported on an IPv6 pool")
    size, (low, high) = spec.get("blockSize"), (20, 32) if network.version == 4 else (116, 128)
    if isinstance(size, int) and not low <= size <= high:
        yield _invalid("spec", "object", _BLOCK_SIZES)
    if isinstance(size, int) and network.prefixlen > size:
        yield _invalid("spec", "object", _TOO_SMALL)


_BLOCK_SIZES = (
    "blockSize must be between 20 and 32 for IPv4 pools, and between 116 and 128 for IPv6 pools"
)
_TOO_SMALL = (
    "IP pool size is too small for use with Calico IPAM. It must be equal to or greater than the"
    " block size."
)


def _pool_update(resource: Resource, new: Object, old: Object) -> Causes:
    """A pool keeps its addresses and its blocks."""
    for field, shown, kind, text in (
        ("cidr", "CIDR", "string", "CIDR"),
        ("blockSize", "BlockSize", "integer", "Block size"),
    ):
        before, after = dig(old, f"spec.{field}"), dig(new, f"spec.{field}")
        if before is None or after == before:
            continue
        if resource.group == CALICO_V3:
            where = f"IPPool.Spec.{shown}"
            yield _invalid(where, after, f"IPPool {shown} cannot be modified")
        else:
            why = f"{text} cannot be changed; follow IP pool migration guide to avoid corruption."
            yield _invalid(f"spec.{field}", kind, why)


def _by(table: Table) -> Callable[[Object], Causes]:
    return lambda obj: _fields("", obj, table)


def _job(job: Object) -> Causes:
    spec = job.get("spec") or {}
    yield from _fields("spec", spec, _JOB)
    yield from _pod_spec("spec.template.spec", dig(spec, "template.spec", {}))


_JOB: Table = {
    "parallelism": _not_negative,
    "completions": _not_negative,
    "backoffLimit": _not_negative,
    "completionMode": _one_of("NonIndexed", "Indexed"),
    "template.spec.restartPolicy": _required(_one_of("OnFailure", "Never")),
}
_SLICE: Table = {"addressType": _required(_one_of("FQDN", "IPv4", "IPv6"))}


def _network_policy(policy: Object) -> Causes:
    spec = policy.get("spec") or {}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        yield from _each({"ports": _each({"protocol": _PROTOCOL}), side: _peers})(
            f"spec.{direction}", spec.get(direction)
        )
    for index, kind in enumerate(spec.get("policyTypes") or ()):
        yield from _one_of("Ingress", "Egress")(f"spec.policyTypes[{index}]", kind)


def _peers(field: str, value: Any) -> Causes:
    for index, peer in enumerate(objects_in(value)):
        at, cidr = f"{field}[{index}]", dig(peer, "ipBlock.cidr")
        if "ipBlock" in peer and len(peer) > 1:
            yield _forbidden(at, "may not specify both ipBlock and another peer")
        elif "ipBlock" in peer and _network(cidr) is None:
            why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            yield _invalid(f"{at}.ipBlock.cidr", cidr, why)


_CHECKS: dict[str, Callable[[Object], Causes]] = {
    "pods": lambda pod: _pod_spec("spec", pod.get("spec") or {}),
    "services": _service,
    "endpoints": _by(_ENDPOINTS),
    "configmaps": _config_map,
    "secrets": _config_map,
    "nodes": _by(_NODE),
    "leases.coordination.k8s.io": _by(_LEASE),
    "endpointslices.discovery.k8s.io": _by(_SLICE),
    "roles.rbac.authorization.k8s.io": _by(_RULES),
    "clusterroles.rbac.authorization.k8s.io": _by(_RULES),
    "rolebindings.rbac.authorization.k8s.io": _by(_BINDING),
    "clusterrolebindings.rbac.authorization.k8s.io": _by(_BINDING),
    "deployments.apps": _workload,
    "replicasets.apps": _workload,
    "daemonsets.apps": _workload,
    definitions.CRDS: definitions.faults,
    "replicationcontrollers": _workload,
    "jobs.batch": _job,
    "networkpolicies.networking.k8s.io": _network_policy,
    "installations.operator.tigera.io": _by(_INSTALLATION),
}
