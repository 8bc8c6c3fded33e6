"""What hangs below an object: scale, binding, eviction. Exec and logs are streams."""

from __future__ import annotations

from aiohttp import web

from pytest_k8snet.lab.api import bodies, patch, status
from pytest_k8snet.lab.api.cells import label_selector_text
from pytest_k8snet.lab.api.objects import Object, dig, mapping, timestamp
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.api.target import Target
from pytest_k8snet.lab.api.verbs import dry_run, read_patch, success


async def scale(request: web.Request, store: Store, target: Target) -> web.Response:
    """The number of replicas, as a Scale of its own.

    Raises:
        StatusError: the request is refused.
    """
    workload = store.get(target.resource, target.name, target.namespace)
    current = _scale_of(workload)
    if target.verb == "get":
        return bodies.respond(current)
    if target.verb == "update":
        wanted = await bodies.read_data(request)
    else:
        kind, data = await read_patch(request, target)
        # A Scale has no lists that strategic merge would treat in a way of its own.
        plain = "merge" if kind in ("strategic", "apply") else kind
        wanted = patch.apply(target.resource, current, data, plain)
    if not isinstance(wanted, dict) or wanted.get("kind", "Scale") != "Scale":
        raise status.bad_request("the object provided is unrecognized (must be of type Scale)")
    replicas = dig(wanted, "spec.replicas", 0)
    if not isinstance(replicas, int) or replicas < 0:
        cause = Cause(
            "FieldValueInvalid",
            "spec.replicas",
            f"Invalid value: {replicas}: must be greater than or equal to 0",
        )
        raise status.invalid(target.resource, target.name, [cause])
    workload["spec"]["replicas"] = replicas
    version = dig(wanted, "metadata.resourceVersion")
    if version:
        workload["metadata"]["resourceVersion"] = version
    updated = store.update(
        target.resource, workload, target.namespace, dry_run=dry_run(request.query)
    )
    return bodies.respond(_scale_of(updated))


def _scale_of(workload: Object) -> Object:
    meta = workload["metadata"]
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: meta[key] for key in kept},
        "spec": {"replicas": dig(workload, "spec.replicas", 0)},
        "status": {
            "replicas": dig(workload, "status.replicas", 0),
            "selector": label_selector_text(dig(workload, "spec.selector")),
        },
    }


async def bind(request: web.Request, store: Store, target: Target) -> web.Response:
    """Put a pod on a node, as a scheduler does.

    Raises:
        StatusError: 404, no such pod; 409, it is on a node already; 422, no node is named.
    """
    binding = await bodies.read_data(request)
    node = str(dig(binding, "target.name", ""))
    if not node:
        cause = Cause("FieldValueRequired", "target.name", "Required value")
        raise status.invalid(target.resource, target.name, [cause])
    assign_node(store, target.namespace, target.name, node)
    return bodies.respond(success(), code=201)


def assign_node(store: Store, namespace: str, name: str, node: str) -> Object:
    """Set a pod's node, once, and its condition ``PodScheduled``; for schedulers in the process.

    Raises:
        StatusError: 404, no such pod; 409, it is on a node already or about to be deleted.
    """
    pod = store.get("pods", name, namespace)
    row = store.resource("pods")
    if dig(pod, "metadata.deletionTimestamp"):
        raise status.conflict(
            row, name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    assigned = dig(pod, "spec.nodeName")
    if assigned:
        raise status.conflict(row, name, f'pod {name} is already assigned to node "{assigned}"')

    def scheduled(changed: Object) -> None:
        conditions = mapping(changed, "status").setdefault("conditions", [])
        conditions[:] = [entry for entry in conditions if entry.get("type") != "PodScheduled"]
        conditions.append(
            {
                "type": "PodScheduled",
                "status": "True",
                "lastProbeTime": None,
                "lastTransitionTime": timestamp(),
            }
        )

    pod["spec"]["nodeName"] = node
    store.update("pods", pod, namespace, subresource="binding")
    return store.mutate("pods", name, namespace, scheduled, subresource="status")


async def evict(request: web.Request, store: Store, target: Target) -> web.Response:
    """Delete a pod in the name of a drain.

    Raises:
        StatusError: 404, no such pod.
    """
    eviction = await bodies.read_data(request) or {}
    options = eviction.get("deleteOptions") or {}
    store.delete(
        target.resource,
        target.name,
        target.namespace,
        grace_seconds=options.get("gracePeriodSeconds"),
        preconditions=options.get("preconditions"),
        dry_run=bool(options.get("dryRun")) or dry_run(request.query),
    )
    return bodies.respond(success(), code=201)
