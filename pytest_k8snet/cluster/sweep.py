"""Delete everything that a run has made in a cluster, found by its label and never by its name.

Works from the run's id alone, so that it serves the end of a run and the repair after a killed
one. What makes pods goes before the pods, the pods before their namespace.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.manifests import RUN_LABEL, selector
from pytest_k8snet.cluster.readiness import pauses
from pytest_k8snet.cluster.target import collection
from pytest_k8snet.errors import (
    ClusterError,
    ConnectError,
    ForbiddenError,
    K8sNetError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

#: For pods to end by themselves, before they are dropped without the kubelet's word.
POD_END_SECONDS = 20.0
#: A namespace's controllers look at everything that it may contain: seconds, at times many.
NAMESPACE_END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Kind:
    resource: str
    group: str = ""


_MAKERS = (_Kind("deployments", "apps"), _Kind("replicasets", "apps"), _Kind("services"))
_PODS = _Kind("pods")
_NAMESPACES = "/api/v1/namespaces"


def sweep(api: Api, run_id: str, *, namespace: str | None = None) -> list[str]:
    """Delete everything of a run and wait until it is gone.

    Args:
        api: the cluster.
        run_id: the run.
        namespace: where to look, besides namespaces that the run made; None looks everywhere.

    Returns:
        what was deleted, as ``kind namespace/name``; empty when nothing was left.

    Raises:
        ClusterError: something is still there after the time allowed.
    """
    labels = selector(run_id)
    own = _own_namespaces(api, run_id, namespace)
    places = _places(own, namespace)
    deleted: list[str] = []
    trouble: K8sNetError | None = None
    try:
        for kind in _MAKERS:
            deleted += _delete_all(api, kind, places, labels)
        pods = _delete_all(api, _PODS, places, labels, grace_seconds=1)
        if deleted or pods:
            _wait_until_no_pods(api, places, labels, run_id)
        deleted += pods
    except ConnectError:
        raise
    except K8sNetError as error:
        trouble = error
    # What lies in a namespace of the run's own goes with it, whoever may not delete it singly.
    for name in own:
        api.delete(f"{_NAMESPACES}/{name}")
    for name in own:
        _wait_until_no_namespace(api, name)
    if trouble is not None and not set(places) <= set(own):
        raise trouble
    return [*deleted, *(f"namespaces {name}" for name in own)]


def delete_pods(api: Api, pods: list[tuple[str, str, str]]) -> None:
    """Delete pods and wait until they are gone; ones that are gone already are fine.

    Args:
        api: the cluster.
        pods: namespace, name and uid of each; a later pod of the same name is left alone.

    Raises:
        ClusterError: one is still there after the time allowed.
    """
    paths = {(f"{collection('pods', namespace=space)}/{name}", uid) for space, name, uid in pods}

    def present(path: str, uid: str) -> bool:
        try:
            return str(api.get(path)["metadata"].get("uid", "")) == uid or not uid
        except NotFoundError:
            return False

    def end(item: tuple[str, str]) -> bool:
        path, uid = item
        if not present(path, uid):
            return True
        for grace_seconds, limit_seconds in ((1, POD_END_SECONDS), (0, POD_END_SECONDS / 4)):
            api.delete(path, grace_seconds=grace_seconds)
            deadline = time.monotonic() + limit_seconds
            sleep = pauses()
            while present(path, uid):
                if time.monotonic() >= deadline:
                    break
                sleep()
            else:
                return True
        return False

    with ThreadPoolExecutor(max_workers=8) as pool:
        stuck = [
            path for (path, _), done in zip(paths, pool.map(end, paths), strict=True) if not done
        ]
    if stuck:
        raise ClusterError(
            f"{len(stuck)} pods could not be deleted",
            found=", ".join(stuck),
            remedy="their node may be down: `kubectl delete pod --force` drops them",
        )


def _own_namespaces(api: Api, run_id: str, namespace: str | None) -> list[str]:
    try:
        found = api.list(_NAMESPACES, labels=selector(run_id))
    except ForbiddenError:
        if namespace is None:
            return []
        try:
            found = [api.get(f"{_NAMESPACES}/{namespace}")]
        except (ForbiddenError, NotFoundError):
            return []
    names = [item["metadata"]["name"] for item in found if _is_of(run_id, item)]
    return sorted(names)


def _is_of(run_id: str, item: dict[str, Any]) -> bool:
    return bool((item["metadata"].get("labels") or {}).get(RUN_LABEL) == run_id)


def _places(own: list[str], namespace: str | None) -> list[str]:
    """Namespaces to look in; the empty name stands for all of them."""
    return [""] if namespace is None else list(dict.fromkeys([namespace, *own]))


def _delete_all(
    api: Api, kind: _Kind, places: list[str], labels: str, *, grace_seconds: int | None = None
) -> list[str]:
    found: list[dict[str, Any]] = []
    for place in places:
        try:
            found += api.list(
                collection(kind.resource, namespace=place, group=kind.group), labels=labels
            )
        except (ForbiddenError, NotFoundError):
            # What this user may not even list, this run has not made.
            if kind is _PODS:
                raise
    paths = [
        collection(kind.resource, namespace=item["metadata"]["namespace"], group=kind.group)
        + f"/{item['metadata']['name']}"
        for item in found
    ]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(
            pool.map(
                lambda path: api.delete(
                    path, grace_seconds=grace_seconds, propagation="Background"
                ),
                paths,
            )
        )
    return [_describe(kind, item) for item in found]


def _wait_until_no_pods(api: Api, places: list[str], labels: str, run_id: str) -> None:
    began = time.monotonic()
    sleep = pauses()
    while left := _delete_all(
        api,
        _PODS,
        places,
        labels,
        # Again and again, since a ReplicaSet that is about to go may have made another.
        grace_seconds=1 if time.monotonic() - began < POD_END_SECONDS else 0,
    ):
        if time.monotonic() - began >= POD_END_SECONDS * 1.5:
            raise ClusterError(
                f"pods of run {run_id} could not be deleted",
                found=", ".join(left),
                remedy="their node may be down: `kubectl delete pod --force` drops them",
            )
        sleep()


def _wait_until_no_namespace(api: Api, name: str) -> None:
    deadline = time.monotonic() + NAMESPACE_END_SECONDS
    sleep = pauses()
    while True:
        try:
            status = api.get(f"{_NAMESPACES}/{name}").get("status") or {}
        except NotFoundError:
            return
        if time.monotonic() >= deadline:
            conditions = status.get("conditions") or []
            raise ClusterError(
                f"the namespace {name} is still there after {NAMESPACE_END_SECONDS:g} s",
                found="; ".join(str(c.get("message")) for c in conditions if c.get("message")),
                remedy="it is being deleted, and something in it or in the control plane holds it: "
                f"`kubectl describe namespace {name}`",
            )
        sleep()


def _describe(kind: _Kind, item: dict[str, Any]) -> str:
    metadata = item["metadata"]
    space = metadata.get("namespace")
    return (
        f"{kind.resource} {space}/{metadata['name']}"
        if space
        else f"{kind.resource} {metadata['name']}"
    )
