"""Admission plugins that every cluster has: accounts, priorities, limits, quotas, pod security.

They see an object after its defaults were set: what completes it comes before validation, what only
refuses it (or warns of it) after.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from ipaddress import ip_network
from typing import Any

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.admission import qos_class
from pytest_k8snet.lab.api.objects import Object, dig, mapping, name_of, namespace_of
from pytest_k8snet.lab.api.podsecurity import LEVELS, listed, violations
from pytest_k8snet.lab.api.resources import CALICO_V1, CALICO_V3, Resource
from pytest_k8snet.lab.api.schema import amount
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.store import Store

#: The workloads whose templates pod security looks at.
_WORKLOADS = ("deployments.apps", "replicasets.apps", "daemonsets.apps", "jobs.batch")


def register(store: Store) -> None:
    """Have the store ask the plugins."""
    row = store.resource("pods")
    store.admission["pods"] += [
        partial(_account, store, row),
        partial(_priority, row),
        partial(_limit_defaults, store),
    ]
    store.validation["pods"] += [
        partial(_limits, store, row),
        partial(_pod_security, store, row),
    ]
    store.validation["namespaces"].append(partial(_namespace_security, store))
    for key in _WORKLOADS:
        store.validation[key].append(partial(_workload_security, store))
    store.validation[_POOLS].append(partial(_pool_through_calico, store))
    for key in COUNTED:
        store.validation[key].append(partial(_quotas, store, store.resource(key)))


# -- Calico's own API server -----------------------------------------------------------------------

_POOLS = f"ippools.{CALICO_V1}"
_SELECTOR = re.compile(
    r"""^(!*\s*(all\(\)|global\(\)|has\([^()]+\)|[^\s()=!]+\s*(==|!=|in|not in|contains)[^()]*)"""
    r"""|[()&|!\s])*$"""
)


def _pool_through_calico(store: Store, pool: Object, old: Object | None) -> None:
    """Refuse a pool through ``projectcalico.org/v3`` that overlaps, or whose selector is none."""
    row = store.registry.of_kind(str(pool.get("apiVersion")), "IPPool")
    if row is None or row.group != CALICO_V3:
        return
    spec, name = pool["spec"], name_of(pool)
    selector = str(spec.get("nodeSelector") or "all()")
    if not _SELECTOR.match(selector) or selector.count("(") != selector.count(")"):
        why = "Reason: failed to validate Field: NodeSelector because of Tag: selector "
        text = f"Invalid value: {json.dumps(selector)}: {why}"
        raise status.invalid(row, name, [Cause("FieldValueInvalid", "NodeSelector", text)])
    for other in store.list(_POOLS) if old is None else ():
        theirs = str(dig(other, "spec.cidr"))
        if name_of(other) != name and _overlap(str(spec["cidr"]), theirs):
            whose = f"IPPool({name}) CIDR overlaps with IPPool({name_of(other)}) CIDR {theirs}"
            text = f"Invalid value: {json.dumps(spec['cidr'])}: {whose}"
            raise status.invalid(row, name, [Cause("FieldValueInvalid", "IPPool.Spec.CIDR", text)])


def _overlap(one: str, other: str) -> bool:
    try:
        return ip_network(one).overlaps(ip_network(other))
    except (ValueError, TypeError):
        return False


# -- Accounts and priorities -----------------------------------------------------------------------

_PRIORITIES = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}


def _account(store: Store, row: Resource, pod: Object, old: Object | None) -> None:
    namespace, account = namespace_of(pod), dig(pod, "spec.serviceAccountName", "default")
    # A controller makes the default account, soon after the namespace.
    if (
        old is None
        and account != "default"
        and not store.has("serviceaccounts", account, namespace)
    ):
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}"'
        raise status.forbidden(row, name_of(pod), f"{why} not found")


def _priority(row: Resource, pod: Object, old: Object | None) -> None:
    wanted = dig(pod, "spec.priorityClassName")
    if old is not None or not wanted:
        return
    if wanted not in _PRIORITIES:
        why = f"no PriorityClass with name {wanted} was found"
        raise status.forbidden(row, name_of(pod), why)
    pod["spec"]["priority"] = _PRIORITIES[wanted]


# -- LimitRange ------------------------------------------------------------------------------------


def _containers(pod: Object) -> Iterator[tuple[str, Object]]:
    """Each container, and what it is called in messages."""
    for container in dig(pod, "spec.containers", []):
        yield "container", container
    for container in dig(pod, "spec.initContainers", []):
        yield "init container", container


def _items(store: Store, pod: Object, kind: str) -> list[Object]:
    ranges = store.list("limitranges", namespace_of(pod))
    items = [item for one in ranges for item in dig(one, "spec.limits", [])]
    return [item for item in items if item.get("type") == kind]


def _limit_defaults(store: Store, pod: Object, old: Object | None) -> None:
    told = []
    for item in _items(store, pod, "Container") if old is None else ():
        for what, container in _containers(pod):
            for field, default in (("requests", "defaultRequest"), ("limits", "default")):
                given = mapping(mapping(container, "resources"), field)
                added = [name for name in item.get(default) or {} if name not in given]
                given |= {name: item[default][name] for name in added}
                if not given:
                    del container["resources"][field]
                if added:
                    names = ", ".join(sorted(added))
                    told.append(f"{names} {field[:-1]} for {what} {container['name']}")
    if told:
        annotations = mapping(pod["metadata"], "annotations")
        annotations["kubernetes.io/limit-ranger"] = f"LimitRanger plugin set: {'; '.join(told)}"
        mapping(pod, "status")["qosClass"] = qos_class(pod["spec"])


def _limits(store: Store, row: Resource, pod: Object, old: Object | None) -> None:
    if old is not None:
        return
    wrong = [
        why
        for item in _items(store, pod, "Container")
        for _, container in _containers(pod)
        for why in _out_of_range(item, "Container", container.get("resources") or {})
    ]
    for item in _items(store, pod, "Pod"):
        total: Object = {"requests": {}, "limits": {}}
        for name, value in _requested(pod).items():
            field, _, plain = name.partition(".")
            if plain and field in total:
                total[field][plain] = value
        wrong += _out_of_range(item, "Pod", total)
    if wrong:
        # What holds of several containers is said once.
        wrong = list(dict.fromkeys(wrong))
        why = wrong[0] if len(wrong) == 1 else f"[{', '.join(wrong)}]"
        raise status.forbidden(row, name_of(pod), why)


def _out_of_range(item: Object, kind: str, resources: Object) -> Iterator[str]:
    requests, limits = (resources.get(field) or {} for field in ("requests", "limits"))
    for bound, field, word in (("min", "requests", "minimum"), ("max", "limits", "maximum")):
        for name, limit in (item.get(bound) or {}).items():
            given = (requests if bound == "min" else limits).get(name)
            said = f"{word} {name} usage per {kind} is {limit}"
            if given is None:
                yield f"{said}.  No {field[:-1]} is specified"
            elif amount(given) < amount(limit) if bound == "min" else amount(given) > amount(limit):
                yield f"{said}, but {field[:-1]} is {shown(given)}"
    for name, most in (item.get("maxLimitRequestRatio") or {}).items():
        said = f"{name} max limit to request ratio per {kind} is {most}"
        request, limit = amount(requests.get(name, 0)), amount(limits.get(name, 0))
        if not request or not limit:
            lacking = "request" if not request else "limit"
            yield f"{said}, but no {lacking} is specified or {lacking} is 0"
        elif limit / request > amount(most):
            yield f"{said}, but provided ratio is {float(limit / request):f}"


# -- ResourceQuota ---------------------------------------------------------------------------------

#: What a quota can count: storage key, and what else of an object counts.
COUNTED = (
    "pods", "services", "configmaps", "secrets", "endpoints", "serviceaccounts", "resourcequotas",
    "replicationcontrollers", "deployments.apps", "replicasets.apps", "daemonsets.apps",
    "jobs.batch", "leases.coordination.k8s.io",
)  # fmt: skip


def shown(quantity: Any) -> str:
    """A quantity as Kubernetes writes it."""
    if not isinstance(quantity, Fraction):
        return str(quantity)
    if quantity.denominator != 1:
        return f"{-(-quantity * 1000 // 1)}m"
    for power, suffix in ((40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")):
        if quantity and quantity % 2**power == 0:
            return f"{quantity // 2**power}{suffix}"
    return str(quantity)


def _requested(pod: Object) -> dict[str, Fraction]:
    """What a pod asks for: ``requests.cpu``, ``limits.memory``, ... and ``cpu`` for requests."""
    found: dict[str, Fraction] = {}
    for _, container in _containers(pod):
        for field in ("requests", "limits"):
            for name, quantity in dig(container, f"resources.{field}", {}).items():
                names = (f"{field}.{name}", *([name] if field == "requests" else ()))
                for one in names:
                    found[one] = found.get(one, Fraction(0)) + amount(quantity)
    return found


def _use(key: str, obj: Object) -> dict[str, Fraction]:
    """What one object uses of a quota."""
    one = Fraction(1)
    found = {f"count/{key}": one}
    if "." not in key:
        found[key] = one
    if key == "pods":
        over = dig(obj, "status.phase") in ("Succeeded", "Failed")
        return {"count/pods": one} if over else found | _requested(obj)
    if key == "services":
        kind = dig(obj, "spec.type")
        ports = Fraction(len(dig(obj, "spec.ports", [])))
        if kind in ("NodePort", "LoadBalancer"):
            found["services.nodeports"] = ports
        if kind == "LoadBalancer":
            found["services.loadbalancers"] = one
    return found


def used(store: Store, quota: Object) -> dict[str, Fraction]:
    """What a namespace uses of what its quota limits."""
    total = {name: Fraction(0) for name in dig(quota, "spec.hard", {})}
    for key in COUNTED:
        for obj in store.list(key, namespace_of(quota)):
            for name, value in _use(key, obj).items():
                if name in total:
                    total[name] += value
    return total


def _quotas(store: Store, row: Resource, obj: Object, old: Object | None) -> None:
    if old is not None:
        return
    wanted = _use(row.key, obj)
    for quota in store.list("resourcequotas", namespace_of(obj)):
        hard = dig(quota, "spec.hard", {})
        if row.key == "pods":
            _must_specify(row, obj, quota)
        taken = used(store, quota)
        over = [
            name
            for name in sorted(hard)
            if wanted.get(name) and taken[name] + wanted[name] > amount(hard[name])
        ]
        if over:
            listed = [
                ",".join(f"{name}={shown(values[name])}" for name in over)
                for values in (wanted, taken, hard)
            ]
            why = "requested: {}, used: {}, limited: {}".format(*listed)
            why = f"exceeded quota: {name_of(quota)}, {why}"
            raise status.forbidden(row, name_of(obj), why)


def _must_specify(row: Resource, pod: Object, quota: Object) -> None:
    """Refuse a pod with a container that does not say how much it asks of what is limited."""
    missing = []
    for name in sorted(dig(quota, "spec.hard", {})):
        field, _, plain = name.rpartition(".")
        if plain in ("cpu", "memory") and field in ("", "requests", "limits"):
            lacking = [
                container["name"]
                for _, container in _containers(pod)
                if plain not in dig(container, f"resources.{field or 'requests'}", {})
            ]
            if lacking:
                missing.append(f"{name} for: {','.join(lacking)}")
    if missing:
        why = f"failed quota: {name_of(quota)}: must specify {'; '.join(missing)}"
        raise status.forbidden(row, name_of(pod), why)


# -- Pod security ---------------------------------------------------------------------------------

_LABEL = "pod-security.kubernetes.io/"


def _pod_security(store: Store, row: Resource, pod: Object, old: Object | None) -> None:
    if old is not None and old.get("spec") == pod.get("spec"):
        return
    policy = _policy(store, namespace_of(pod))
    found = violations(policy["enforce"], pod["spec"])
    if found:
        why = f'violates PodSecurity "{policy["enforce"]}:latest": {listed(found)}'
        raise status.forbidden(row, name_of(pod), why)
    _warn(policy["warn"], pod["spec"])


def _workload_security(store: Store, workload: Object, old: Object | None) -> None:
    template = dig(workload, "spec.template.spec", {})
    if old is None or dig(old, "spec.template.spec", {}) != template:
        _warn(_policy(store, namespace_of(workload))["warn"], template)


def _warn(level: str, spec: Object) -> None:
    if found := violations(level, spec):
        status.warn(f'would violate PodSecurity "{level}:latest": {listed(found)}')


def _namespace_security(store: Store, namespace: Object, old: Object | None) -> None:
    """Warn of the pods that do not keep to what a namespace enforces from now on."""
    level = _level(namespace, "enforce")
    if old is None or level == _level(old, "enforce"):
        return
    alike: dict[str, list[str]] = {}
    for pod in store.list("pods", name_of(namespace)):
        if found := violations(level, pod["spec"]):
            alike.setdefault(", ".join(reason for reason, _ in found), []).append(name_of(pod))
    if alike:
        whose = f'existing pods in namespace "{name_of(namespace)}" violate the new PodSecurity'
        status.warn(f'{whose} enforce level "{level}:latest"')
    for reasons, (first, *others) in sorted(alike.items(), key=lambda entry: entry[1]):
        also = f" (and {len(others)} other pod{'s' * (len(others) > 1)})" if others else ""
        status.warn(f"{first}{also}: {reasons}")


def _level(namespace: Object, mode: str) -> str:
    found = dig(namespace, "metadata.labels", {}).get(f"{_LABEL}{mode}", "privileged")
    return found if found in LEVELS else "restricted"


def _policy(store: Store, namespace: str) -> dict[str, str]:
    space = store.get("namespaces", namespace)
    enforce, warn = _level(space, "enforce"), _level(space, "warn")
    # Who is refused is warned of it, too: a workload's pods would be.
    return {"enforce": enforce, "warn": max(enforce, warn, key=LEVELS.index)}
