"""What the API server itself decides about an object: on creation, on update and on deletion.

Identity, versions, generations, grace periods and finalizers; for defaults and validation it calls
their modules. Pure: it changes the new object in place and never touches the stored one.
"""

from __future__ import annotations

import base64
import secrets
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from pytest_k8snet.lab.api import definitions, fieldmanager, status
from pytest_k8snet.lab.api.objects import (
    Object,
    clone,
    condition,
    dig,
    mapping,
    metadata,
    name_of,
    objects_in,
    timestamp,
)
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.validation import check_new, check_update, strict_pools
from pytest_k8snet.lab.spec import CalicoSpec

#: A hook that sees an object before it is validated: ``hook(new, old)``, old None on creation.
Admission = Callable[[Object, Object | None], None]

# Kubernetes' alphabet for generated names: no vowels, so that no words appear.
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

#: The finalizer of what is kept until its dependents are gone.
FOREGROUND = "foregroundDeletion"

_SET_BY_SERVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def prepare_create(
    resource: Resource,
    obj: Object,
    *,
    hooks: Sequence[Admission],
    calico: CalicoSpec,
    dry_run: bool = False,
    applied: bool = False,
) -> None:
    """Make a new object ready to be stored; of one that was applied, its managers are known.

    Raises:
        StatusError: 400 or 422.
    """
    meta = metadata(obj)
    if meta.get("resourceVersion"):
        why = "resourceVersion should not be set on objects to be created"
        raise status.StatusError(500, "", why)
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
    if not meta.get("name") and meta.get("generateName"):
        suffix = "".join(secrets.choice(_NAME_ALPHABET) for _ in range(5))
        meta["name"] = f"{meta['generateName']}{suffix}"
    for key in (*_SET_BY_SERVER, "selfLink"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = timestamp()
    if resource.counts_generations:
        meta["generation"] = 1
    # A node registers itself with its status; everything else begins without one.
    if resource.has_status and resource.key != "nodes":
        obj.pop("status", None)
    unsaid = fieldmanager.unsaid(obj)
    if not (resource.aggregated and dry_run):
        set_defaults(resource, obj, calico)
    if not applied:
        _put_managers(meta, fieldmanager.after_update(resource, obj, None, ignored=unsaid))
    for hook in hooks:
        hook(obj, None)
    check_new(resource, obj, calico)


def prepare_update(
    resource: Resource,
    new: Object,
    old: Object,
    *,
    subresource: str,
    hooks: Sequence[Admission],
    calico: CalicoSpec,
    applied: bool = False,
) -> None:
    """Make the replacement of an object ready to be stored; see :func:`prepare_create`.

    Raises:
        StatusError: 409 for a stale version or another uid, 422 for what may not change.
    """
    meta, old_meta = metadata(new), old["metadata"]
    name = name_of(old)
    given = str(meta.get("resourceVersion") or "")
    if given and given != old_meta["resourceVersion"]:
        raise status.conflict(resource, name)
    if not given and resource.custom:
        cause = Cause(
            "FieldValueInvalid",
            "metadata.resourceVersion",
            "Invalid value: 0: must be specified for an update",
        )
        raise status.invalid(resource, name, [cause], kind=resource.plural)
    uid = str(meta.get("uid") or old_meta["uid"])
    if uid != old_meta["uid"]:
        place = "/".join(filter(None, (resource.plural, old_meta.get("namespace"), name)))
        group = f"{resource.group}/" if resource.custom else ""
        raise status.conflict(
            resource,
            name,
            "StorageError: invalid object, Code: 4, Key:"
            f" {'' if resource.aggregated else '/'}{group}{place}, ResourceVersion: 0,"
            f" AdditionalErrorMsg: Precondition failed: UID in precondition: {uid},"
            f" UID in object meta: {old_meta['uid']}",
        )
    new["kind"], new["apiVersion"] = resource.kind, resource.api_version
    for key in (*_SET_BY_SERVER, "resourceVersion", "generation", "namespace"):
        if key in old_meta:
            meta[key] = clone(old_meta[key])
        else:
            meta.pop(key, None)
    managers = meta.get("managedFields")
    _refuse_new_finalizers(resource, new, old)
    _keep_other_half(resource, new, old, subresource)
    if subresource != "status":
        set_defaults(resource, new, calico)
        keep_allocated(resource, new, old)
    meta = metadata(new)
    if applied:
        _put_managers(meta, managers)
    elif subresource == "binding":
        _put_managers(meta, dig(old, "metadata.managedFields"))
    else:
        found = fieldmanager.after_update(
            resource, new, old, subresource=subresource, sent=managers
        )
        _put_managers(meta, found)
    if subresource != "status":
        for hook in hooks:
            hook(new, old)
        check_update(resource, new, old, subresource, calico)
    # Being put on a node is no change of what is wanted of a pod.
    counts = resource.counts_generations and subresource != "binding"
    if counts and _wanted(new) != _wanted(old):
        metadata(new)["generation"] = int(old_meta.get("generation", 1)) + 1


def _put_managers(meta: Object, managers: Any) -> None:
    meta.pop("managedFields", None)
    if managers:
        meta["managedFields"] = managers


def _wanted(obj: Object) -> Object:
    """What of an object says how things should be."""
    apart = ("apiVersion", "kind", "metadata", "status")
    return {key: value for key, value in obj.items() if key not in apart}


def _refuse_new_finalizers(resource: Resource, new: Object, old: Object) -> None:
    if not dig(old, "metadata.deletionTimestamp"):
        return
    before = dig(old, "metadata.finalizers", [])
    added = [name for name in dig(new, "metadata.finalizers", []) if name not in before]
    if added:
        listed = ", ".join(f'"{name}"' for name in added)
        why = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new"
            f" finalizers []string{{{listed}}}"
        )
        error = status.invalid(
            resource, name_of(old), [Cause("FieldValueForbidden", "metadata.finalizers", why)]
        )
        # It is found at two places, and told once.
        error.details = {**(error.details or {}), "causes": (error.details or {})["causes"] * 2}
        raise error


def _keep_other_half(resource: Resource, new: Object, old: Object, subresource: str) -> None:
    """An ordinary update leaves the status alone, a status update everything else."""
    if subresource == "finalize":
        finalizers = dig(new, "spec.finalizers", [])
        new.clear()
        new.update(clone(old))
        new["spec"] = {**(old.get("spec") or {}), "finalizers": finalizers}
        return
    if subresource == "status":
        kept = [key for key in {*new, *old} if key not in ("metadata", "status")]
        if resource.custom:
            kept.append("metadata")
    elif resource.has_status:
        kept = ["status"]
    else:
        kept = []
    for key in kept:
        if key in old:
            new[key] = clone(old[key])
        else:
            new.pop(key, None)


def unchanged(new: Object, old: Object) -> bool:
    """Whether two states of an object are equal but for what each write changes anyway."""
    return _content(new) == _content(old)


def _content(obj: Object) -> Object:
    meta = {
        key: value
        for key, value in obj["metadata"].items()
        # An empty map of labels is no labels.
        if key != "resourceVersion" and value not in ({}, [], None)
    }
    # When somebody wrote what was there already is nothing new.
    managers = meta.get("managedFields", ())
    meta["managedFields"] = [{**entry, "time": ""} for entry in managers]
    return {**obj, "apiVersion": "", "metadata": meta}


def prepare_delete(
    resource: Resource,
    old: Object,
    *,
    grace_seconds: int | None,
    preconditions: Object | None,
    foreground: bool = False,
) -> Object | None:
    """The object marked for deletion, or None when it goes at once.

    Args:
        resource: what it is.
        old: the object.
        grace_seconds: how long it may take, None for the object's own time.
        preconditions: what must hold of it.
        foreground: whether it is kept until its dependents are gone.

    Raises:
        StatusError: 403 for a namespace that stays; 409 when a precondition does not hold.
    """
    name = name_of(old)
    if resource.key == "namespaces" and name in ("default", "kube-system", "kube-public"):
        raise status.forbidden(resource, name, "this namespace may not be deleted")
    _check_preconditions(resource, old, preconditions or {})
    grace = _grace_seconds(resource, old, grace_seconds)
    finalizers = dig(old, "metadata.finalizers", [])
    if foreground and FOREGROUND not in finalizers:
        finalizers = [*finalizers, FOREGROUND]
    if resource.key == "namespaces":
        finalizers = [*finalizers, *dig(old, "spec.finalizers", [])]
    if not grace and not finalizers:
        return None
    return marked(resource, old, grace, finalizers=finalizers if foreground else None)


def marked(
    resource: Resource, old: Object, grace: int, *, finalizers: list[str] | None = None
) -> Object:
    """An object that is on its way out, as it is shown meanwhile."""
    new: Object = clone(old)
    meta = new["metadata"]
    if finalizers is not None:
        meta["finalizers"] = finalizers
    if "deletionTimestamp" not in meta or grace < int(meta.get("deletionGracePeriodSeconds", 0)):
        meta["deletionTimestamp"] = timestamp(after_seconds=grace)
        if resource.key != "namespaces":
            meta["deletionGracePeriodSeconds"] = grace
        if "generation" in meta:
            meta["generation"] += 1
    if resource.key == "namespaces":
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
    return new


def _check_preconditions(resource: Resource, old: Object, preconditions: Object) -> None:
    for key, label, may in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        wanted, found = preconditions.get(key), old["metadata"][key]
        if wanted and wanted != found:
            why = (
                f"the {label} in the precondition ({wanted}) does not match the {label} in record"
                f" ({found}). The object might have been {may}"
            )
            raise status.conflict(resource, name_of(old), why, kind=resource.qualified_kind)


def _grace_seconds(resource: Resource, old: Object, asked: int | None) -> int:
    """Only pods die slowly, and only those that a kubelet looks after."""
    if resource.key != "pods" or not dig(old, "spec.nodeName"):
        return 0
    if dig(old, "status.phase") in ("Succeeded", "Failed"):
        return 0
    if asked is None:
        asked = int(dig(old, "spec.terminationGracePeriodSeconds", 30))
    return max(0, asked)


# -- The values that the API server fills in where a client left a field out -----------------------


def set_defaults(resource: Resource, obj: Object, calico: CalicoSpec) -> None:
    """Fill in an object in place; malformed parts are left for validation to refuse."""
    if resource.schema is not None:
        definitions.set_defaults(resource.schema, obj)
    elif resource.group == CALICO_V3 and resource.kind == "IPPool":
        _ip_pool(obj)
    elif resource.kind == "IPPool" and strict_pools(resource, calico):
        # What the custom resource's schema says since then.
        if isinstance(obj.get("spec"), dict):
            _fill(obj["spec"], assignmentMode="Automatic", nodeSelector="all()")
    elif resource.kind in _DEFAULTS and not resource.custom:
        _DEFAULTS[resource.kind](obj)


def keep_allocated(resource: Resource, new: Object, old: Object) -> None:
    """Carry over what was allocated for a service, where its replacement does not name it."""
    if resource.key != "services":
        return
    spec, before = mapping(new, "spec"), dig(old, "spec", {})
    if spec.get("type") == "ExternalName":
        return
    for field in ("clusterIP", "clusterIPs"):
        if not spec.get(field) and before.get(field):
            spec[field] = before[field]
    if spec.get("type") in ("NodePort", "LoadBalancer"):
        ports = {
            (port.get("protocol"), port.get("port")): port.get("nodePort")
            for port in objects_in(before.get("ports"))
        }
        for port in objects_in(spec.get("ports")):
            kept = ports.get((port.get("protocol"), port.get("port")))
            if kept and not port.get("nodePort"):
                port["nodePort"] = kept


def _namespace(obj: Object) -> None:
    mapping(mapping(obj, "metadata"), "labels")["kubernetes.io/metadata.name"] = name_of(obj)
    mapping(obj, "spec").setdefault("finalizers", ["kubernetes"])
    mapping(obj, "status").setdefault("phase", "Active")


def _pod(obj: Object) -> None:
    spec = mapping(obj, "spec")
    _pod_spec(spec)
    # Only pods themselves, not the templates of pods, get what admission plugins add.
    service_account = spec.setdefault("serviceAccountName", "default")
    spec["serviceAccount"] = service_account
    _fill(spec, priority=0, preemptionPolicy="PreemptLowerPriority", enableServiceLinks=True)
    tolerations = spec.setdefault("tolerations", [])
    if isinstance(tolerations, list):
        for trouble in ("not-ready", "unreachable"):
            key = f"node.kubernetes.io/{trouble}"
            if not any(_tolerates(toleration, key) for toleration in tolerations):
                tolerations.append(
                    {
                        "key": key,
                        "operator": "Exists",
                        "effect": "NoExecute",
                        "tolerationSeconds": 300,
                    }
                )
    _fill(mapping(obj, "status"), phase="Pending", qosClass=qos_class(spec))


def _tolerates(toleration: object, key: str) -> bool:
    if not isinstance(toleration, dict):
        return False
    everything = not toleration.get("key") and toleration.get("operator") == "Exists"
    return (everything or toleration.get("key") == key) and toleration.get("effect") in (
        None,
        "",
        "NoExecute",
    )


def qos_class(spec: Object) -> str:
    """How a pod's spec ranks it when its node is short of something."""
    claims = [dig(container, "resources", {}) for container in objects_in(spec.get("containers"))]
    if not any(claim.get("requests") or claim.get("limits") for claim in claims):
        return "BestEffort"
    for claim in claims:
        limits, requests = claim.get("limits") or {}, claim.get("requests") or {}
        if {"cpu", "memory"} - set(limits) or any(
            limits[name] != requests.get(name, limits[name]) for name in ("cpu", "memory")
        ):
            return "Burstable"
    return "Guaranteed"


def _pod_spec(spec: Object) -> None:
    _fill(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    for container in [*objects_in(spec.get("initContainers")), *objects_in(spec.get("containers"))]:
        _container(container, host_network=bool(spec.get("hostNetwork")))
    for volume in objects_in(spec.get("volumes")):
        if not set(volume) - {"name"}:
            volume["emptyDir"] = {}
        for source in ("configMap", "secret"):
            if isinstance(volume.get(source), dict):
                volume[source].setdefault("defaultMode", 0o644)
        if isinstance(volume.get("hostPath"), dict):
            volume["hostPath"].setdefault("type", "")


def _container(container: Object, *, host_network: bool) -> None:
    image = str(container.get("image") or "")
    untagged = ":" not in image.rpartition("/")[2]
    latest = "@" not in image and (untagged or image.endswith(":latest"))
    _fill(
        container,
        imagePullPolicy="Always" if latest else "IfNotPresent",
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
    )
    resources = mapping(container, "resources")
    if isinstance(resources.get("limits"), dict):
        requests = mapping(resources, "requests")
        for name, quantity in resources["limits"].items():
            requests.setdefault(name, quantity)
    for port in objects_in(container.get("ports")):
        port.setdefault("protocol", "TCP")
        if host_network and "containerPort" in port:
            port.setdefault("hostPort", port["containerPort"])
    for probe_name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(probe_name)
        if isinstance(probe, dict):
            _fill(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
            if isinstance(probe.get("httpGet"), dict):
                _fill(probe["httpGet"], path="/", scheme="HTTP")


def _service(obj: Object) -> None:
    spec = mapping(obj, "spec")
    kind = spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if kind != "ExternalName":
        _fill(
            spec, internalTrafficPolicy="Cluster", ipFamilies=["IPv4"], ipFamilyPolicy="SingleStack"
        )
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    for port in objects_in(spec.get("ports")):
        port.setdefault("protocol", "TCP")
        if "port" in port:
            port.setdefault("targetPort", port["port"])
    mapping(mapping(obj, "status"), "loadBalancer")


def _deployment(obj: Object) -> None:
    spec = mapping(obj, "spec")
    _fill(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)
    strategy = mapping(spec, "strategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _fill(mapping(strategy, "rollingUpdate"), maxSurge="25%", maxUnavailable="25%")
    _template(spec)
    mapping(obj, "status")


def _replica_set(obj: Object) -> None:
    spec = mapping(obj, "spec")
    spec.setdefault("replicas", 1)
    _template(spec)
    mapping(obj, "status").setdefault("replicas", 0)


def _replication_controller(obj: Object) -> None:
    spec = mapping(obj, "spec")
    labels = dig(spec, "template.metadata.labels", {})
    _fill(spec, selector=dict(labels))
    obj["metadata"].setdefault("labels", dict(labels))
    _replica_set(obj)


def _daemon_set(obj: Object) -> None:
    spec = mapping(obj, "spec")
    spec.setdefault("revisionHistoryLimit", 10)
    strategy = mapping(spec, "updateStrategy")
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        _fill(mapping(strategy, "rollingUpdate"), maxSurge=0, maxUnavailable=1)
    _template(spec)
    counts = (
        "currentNumberScheduled",
        "desiredNumberScheduled",
        "numberMisscheduled",
        "numberReady",
    )
    _fill(mapping(obj, "status"), **dict.fromkeys(counts, 0))


def _definition(obj: Object) -> None:
    definitions.complete(obj)
    names = clone(obj["spec"]["names"])
    versions = objects_in(obj["spec"].get("versions"))
    accepted = "the initial names have been accepted"
    _fill(
        mapping(obj, "status"),
        conditions=[
            condition("NamesAccepted", True, "NoConflicts", "no conflicts found"),
            condition("Established", True, "InitialNamesAccepted", accepted),
        ],
        acceptedNames=names,
        storedVersions=[one.get("name") for one in versions if one.get("storage")],
    )


def _job(obj: Object) -> None:
    spec, uid = mapping(obj, "spec"), obj["metadata"].get("uid", "")
    _fill(
        spec,
        parallelism=1,
        completions=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        podReplacementPolicy="TerminatingOrFailed",
    )
    if not spec.get("manualSelector"):
        own = {"batch.kubernetes.io/controller-uid": uid}
        spec["selector"] = {"matchLabels": own}
        names = {"batch.kubernetes.io/job-name": name_of(obj), "job-name": name_of(obj)}
        meta = mapping(mapping(spec, "template"), "metadata")
        labels = mapping(meta, "labels")
        meta["labels"] = {**labels, **own, "controller-uid": uid, **names}
    _template(spec)


def _network_policy(obj: Object) -> None:
    spec = mapping(obj, "spec")
    kinds = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    spec.setdefault("policyTypes", kinds)
    for rule in [*objects_in(spec.get("ingress")), *objects_in(spec.get("egress"))]:
        for port in objects_in(rule.get("ports")):
            port.setdefault("protocol", "TCP")


def _template(spec: Object) -> None:
    template = spec.get("template")
    if isinstance(template, dict):
        mapping(mapping(template, "metadata"), "labels")
        _pod_spec(mapping(template, "spec"))


def _binding(obj: Object) -> None:
    group = "rbac.authorization.k8s.io"
    mapping(obj, "roleRef").setdefault("apiGroup", group)
    for subject in objects_in(obj.get("subjects")):
        own = "" if subject.get("kind") == "ServiceAccount" else group
        subject.setdefault("apiGroup", own)


def _limit_range(obj: Object) -> None:
    for item in objects_in(dig(obj, "spec.limits")):
        if item.get("type") != "Container":
            continue
        for source, target in (("max", "default"), ("default", "defaultRequest")):
            if isinstance(item.get(source), dict):
                item[target] = {**item[source], **(item.get(target) or {})}
        if isinstance(item.get("min"), dict):
            item["defaultRequest"] = {**item["min"], **(item.get("defaultRequest") or {})}


def _secret(obj: Object) -> None:
    obj.setdefault("type", "Opaque")
    plain = obj.pop("stringData", None)
    if isinstance(plain, dict):
        data = mapping(obj, "data")
        for key, text in plain.items():
            data[key] = base64.b64encode(str(text).encode()).decode()


def _ip_pool(obj: Object) -> None:
    """The defaults of projectcalico.org/v3; a raw crd.projectcalico.org/v1 object gets none."""
    spec = mapping(obj, "spec")
    _fill(
        spec,
        ipipMode="Never",
        vxlanMode="Never",
        blockSize=122 if ":" in str(spec.get("cidr")) else 26,
        nodeSelector="all()",
        allowedUses=["Workload", "Tunnel"],
        assignmentMode="Automatic",
    )


def _fill(obj: Object, **defaults: Any) -> None:
    for key, value in defaults.items():
        obj.setdefault(key, value)


_DEFAULTS: dict[str, Callable[[Object], None]] = {
    "Namespace": _namespace,
    "Pod": _pod,
    "Service": _service,
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "ReplicationController": _replication_controller,
    "DaemonSet": _daemon_set,
    "CustomResourceDefinition": _definition,
    "Job": _job,
    "NetworkPolicy": _network_policy,
    "LimitRange": _limit_range,
    "Secret": _secret,
    "RoleBinding": _binding,
    "ClusterRoleBinding": _binding,
}
