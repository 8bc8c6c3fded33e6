"""Pods: what their spec must fulfil, and what of it may change later."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.api.objects import Object, clone, dig
from pytest_k8snet.lab.api.validation import names
from pytest_k8snet.lab.api.validation.causes import Causes, objects, repeated

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
        causes.name(f"{at}.nodeName", str(spec["nodeName"]), names.DNS_SUBDOMAIN)
    for field in ("hostname", "subdomain"):
        if spec.get(field):
            causes.name(f"{at}.{field}", str(spec[field]), names.DNS_LABEL)
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
        causes.name(f"{at}.name", str(name), names.DNS_LABEL)
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
            causes.name(f"{field}.name", str(port["name"]), names.PORT_NAME)
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
            causes.name(f"{at}[{index}].name", str(volume["name"]), names.DNS_LABEL)
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
