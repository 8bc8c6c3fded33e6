"""Everything that one run makes in a cluster, under one label, in one namespace.

Pods are made in parallel, shared by equal requests, and gone at the end together with all else.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_k8snet.cluster.api_errors import collection, object_path
from pytest_k8snet.cluster.liveness import PROCESS_ANNOTATION, is_alive
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.cluster.pods import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    RUN_LABEL,
    Pod,
    PodRequest,
    PodSettings,
    is_ready,
    namespace_manifest,
    pauses,
    pod_manifest,
    pod_name,
    read_pod,
    selector,
    wait_ready,
)
from pytest_k8snet.errors import (
    ClusterError,
    ConnectError,
    ForbiddenError,
    K8sNetError,
    NotFoundError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_PARALLEL = 8
#: A new namespace gets its service account a moment after it appears.
_SERVICE_ACCOUNT_SECONDS = 10.0


class Workspace:
    """What a run makes in the cluster, deleted when this context manager ends.

    Nothing is made before it is needed. Safe to use from several threads.

    Args:
        api: the cluster.
        run_id: the run; the label of all that is made.
        namespace: an existing namespace to use, which is never deleted; None makes one.
        settings: what the user has set for all pods.
        pod_timeout_seconds: how long pods may take to be ready.
    """

    def __init__(
        self,
        api: Api,
        *,
        run_id: str,
        namespace: str | None,
        settings: PodSettings,
        pod_timeout_seconds: float,
    ) -> None:
        self.api = api
        self.run_id = run_id
        self.settings = settings
        self.pod_timeout_seconds = pod_timeout_seconds
        self._given_namespace = namespace
        self._namespace = ""
        self._hostnames: dict[str, str] = {}
        self._numbers = itertools.count(1)
        self._pods: dict[PodRequest, Pod] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def namespace(self) -> str:
        """The namespace's name; made at the first call unless it was given.

        Raises:
            ClusterError: the given one does not exist or is being deleted.
        """
        with self._lock:
            if not self._namespace:
                given = self._given_namespace
                self._namespace = self._make_namespace() if given is None else self._check(given)
            return self._namespace

    def pods(self) -> list[Pod]:
        """Return the pods that this workspace has made and not deleted."""
        with self._lock:
            return list(self._pods.values())

    def ensure_pods(self, wanted: Sequence[PodRequest]) -> list[Pod]:
        """Return a ready pod for each request, in order: one that is there already, or a new one.

        Args:
            wanted: the requests; equal ones share a pod.

        Raises:
            PodError: a pod does not start, with the scheduler's or kubelet's reason.
            ForbiddenError: permissions, quota or admission rules are against it.
        """
        with self._lock:
            self._forget_dead()
            missing = [request for request in dict.fromkeys(wanted) if request not in self._pods]
            if missing:
                self._make(missing)
            return [self._pods[request] for request in wanted]

    def delete_pods(self, pods: Iterable[Pod]) -> None:
        """Delete pods and wait until they are gone, their addresses given back.

        Raises:
            ClusterError: one is still there after the time allowed.
        """
        doomed = list(pods)
        with self._lock:
            uids = {pod.uid for pod in doomed}
            self._pods = {k: pod for k, pod in self._pods.items() if pod.uid not in uids}
            delete_pods(self.api, [(pod.namespace, pod.name, pod.uid) for pod in doomed])

    def close(self) -> None:
        """Delete everything and wait until it is gone; calling it again does nothing.

        Raises:
            ClusterError: something is left; names it, and what keeps it from being deleted.
        """
        with self._lock:
            namespace, self._namespace = self._namespace, ""
            self._pods.clear()
            if not namespace:
                return
            try:
                sweep(self.api, self.run_id, namespace=namespace)
            except K8sNetError as error:
                raise self._left_behind(namespace, error) from error

    def _left_behind(self, namespace: str, error: K8sNetError) -> ClusterError:
        if self._given_namespace is None:
            by_hand = delete_namespace(namespace)
        else:
            by_hand = delete_labelled(namespace, f"{RUN_LABEL}={self.run_id}")
        return ClusterError(
            f"what run {self.run_id} made in namespace {namespace} could not all be deleted",
            found=error.brief,
            remedy=f"when the cause is gone: `k8snet restore`, or {by_hand}",
        )

    def _make_namespace(self) -> str:
        run_id = self.run_id
        name = _namespace_name(run_id)
        # Known before it is made: an interrupt in between must not leave it behind.
        self._namespace = name
        try:
            self.api.create("/api/v1/namespaces", namespace_manifest(name, run_id))
        except K8sNetError:
            self._namespace = ""
            raise
        return name

    def _check(self, name: str) -> str:
        try:
            there = self.api.get(object_path(_NAMESPACES, name))
        except NotFoundError as error:
            raise ClusterError(
                f'the namespace "{name}" does not exist',
                found=error.found,
                remedy="create it, name another by `-o k8snet_namespace=...`, or leave it out: "
                "then the run makes one of its own and deletes it at the end",
            ) from error
        except ForbiddenError:
            # Pods can be made in a namespace whose object one may not read.
            return name
        if (there.get("status") or {}).get("phase") == "Terminating":
            raise ClusterError(
                f'the namespace "{name}" is being deleted',
                remedy="name another by `-o k8snet_namespace=...`, or leave it out",
            )
        return name

    def _forget_dead(self) -> None:
        if not self._pods:
            return
        path = collection("pods", namespace=self.namespace)
        there = self.api.list(path, labels=selector(self.run_id))
        alive = {pod["metadata"]["uid"] for pod in there if is_ready(pod)}
        dead = [pod for pod in self._pods.values() if pod.uid not in alive]
        if dead:
            self.delete_pods(dead)

    def _make(self, requests: Sequence[PodRequest]) -> None:
        namespace = self.namespace
        self._learn_hostnames(requests)
        bodies = [self._manifest(request, namespace) for request in requests]
        try:
            with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
                list(pool.map(self._create_pod, bodies))
            ready = wait_ready(
                self.api,
                namespace,
                labels=selector(self.run_id),
                count=len(bodies),
                names={body["metadata"]["name"] for body in bodies},
                timeout_seconds=self.pod_timeout_seconds,
            )
            by_name = {pod["metadata"]["name"]: pod for pod in ready}
            found = [read_pod(by_name[body["metadata"]["name"]], body) for body in bodies]
        except BaseException:
            self._abandon(namespace, bodies)
            raise
        self._pods.update(zip(requests, found, strict=True))

    def _learn_hostnames(self, requests: Sequence[PodRequest]) -> None:
        if any(request.node not in self._hostnames for request in requests):
            self._hostnames = {node.name: node.hostname for node in list_nodes(self.api)}

    def _manifest(self, request: PodRequest, namespace: str) -> dict[str, Any]:
        return pod_manifest(
            pod_name(self.run_id, request, next(self._numbers)),
            namespace,
            self.run_id,
            request,
            settings=self.settings,
            hostname=self._hostnames.get(request.node, request.node),
        )

    def _create_pod(self, body: dict[str, Any]) -> None:
        deadline = time.monotonic() + _SERVICE_ACCOUNT_SECONDS
        sleep = pauses()
        while True:
            try:
                self.api.create(collection("pods", namespace=body["metadata"]["namespace"]), body)
                return
            except ForbiddenError as error:
                young = "serviceaccount" in error.found and "not found" in error.found
                if not young or time.monotonic() >= deadline:
                    raise
            sleep()

    def _abandon(self, namespace: str, bodies: Sequence[dict[str, Any]]) -> None:
        """Drop pods that never became ready; the error on its way matters more than theirs."""
        path = collection("pods", namespace=namespace)
        for body in bodies:
            try:
                self.api.delete(object_path(path, body["metadata"]["name"]), grace_seconds=0)
            except K8sNetError:
                continue


# -- Leftovers of any run --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """What one run has in the cluster.

    Attributes:
        run_id: the run.
        alive: whether its process lives; None where that cannot be told from here.
        since: when the first of it was made, as the API server says.
        own: namespaces that the run made.
        others: namespaces of somebody else's in which it has pods.
    """

    run_id: str
    alive: bool | None
    since: str
    own: tuple[str, ...]
    others: tuple[str, ...]

    def __str__(self) -> str:
        what = [f"namespace {name}" for name in self.own]
        what += [f"pods in namespace {name}" for name in self.others]
        return f"{' and '.join(what)} of run {self.run_id}, since {self.since}"

    @property
    def by_hand(self) -> str:
        """The commands that delete it."""
        commands = [delete_namespace(name) for name in self.own]
        commands += [delete_labelled(name, f"{RUN_LABEL}={self.run_id}") for name in self.others]
        return " and ".join(commands)


def delete_namespace(name: str) -> str:
    """Write the command that deletes a namespace of a run's own."""
    return f"`kubectl delete namespace {name}`"


def delete_labelled(namespace: str, label: str) -> str:
    """Write the command that deletes what runs have made in somebody else's namespace."""
    return f"`kubectl -n {namespace} delete deployments,services,pods -l {label}`"


def find_leftovers(api: Api) -> list[Leftover]:
    """Find what every run has in the cluster now.

    Raises:
        ForbiddenError: the user may not list namespaces, or pods in all of them.
    """
    labels = f"{MANAGED_BY_LABEL}={MANAGED_BY},{RUN_LABEL}"
    spaces: dict[str, list[dict[str, Any]]] = {}
    pods: dict[str, list[dict[str, Any]]] = {}
    for resource, found in (("namespaces", spaces), ("pods", pods)):
        for item in api.list(collection(resource), labels=labels):
            found.setdefault(item["metadata"]["labels"][RUN_LABEL], []).append(item["metadata"])
    return [
        _leftover(run_id, spaces.get(run_id, []), pods.get(run_id, []))
        for run_id in dict.fromkeys((*spaces, *pods))
    ]


def _leftover(run_id: str, spaces: list[dict[str, Any]], pods: list[dict[str, Any]]) -> Leftover:
    signs = {
        is_alive((one.get("annotations") or {}).get(PROCESS_ANNOTATION, ""))
        for one in (*spaces, *pods)
    }
    own = {str(one["name"]) for one in spaces}
    times = [str(one.get("creationTimestamp", "")) for one in (*spaces, *pods)]
    return Leftover(
        run_id=run_id,
        # Pods of the web service carry no process; only a live one speaks against a dead one.
        alive=True if True in signs else False if False in signs else None,
        since=min(times),
        own=tuple(sorted(own)),
        others=tuple(sorted({str(one["namespace"]) for one in pods} - own)),
    )


# -- Deleting --------------------------------------------------------------------------------------
#
# Works from the run's id alone, so that it serves the end of a run and the cleanup after a killed
# one. What makes pods goes before the pods, the pods before their namespace.

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
#: How the names of a run's namespace and pods begin.
_PREFIX = "k8snet-"
#: The names of everything that a run makes, the web service and its pods included.
_NAMES = re.compile(rf"{_PREFIX}.+|web(-.+)?")


def sweep(api: Api, run_id: str, *, namespace: str | None = None) -> list[str]:
    """Delete everything of a run and wait until it is gone: what has its labels and its names.

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
    # The empty name stands for all namespaces.
    places = [""] if namespace is None else list(dict.fromkeys([namespace, *own]))
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
        api.delete(object_path(_NAMESPACES, name))
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
    paths = {
        (object_path(collection("pods", namespace=space), name), uid) for space, name, uid in pods
    }

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
            found = [api.get(object_path(_NAMESPACES, namespace))]
        except (ForbiddenError, NotFoundError):
            return []
    return sorted(
        item["metadata"]["name"]
        for item in found
        if (item["metadata"].get("labels") or {}).get(RUN_LABEL) == run_id
        and item["metadata"]["name"] == _namespace_name(run_id)
    )


def _namespace_name(run_id: str) -> str:
    """The name of a namespace that the run makes; another with its label is somebody else's."""
    return run_id if run_id.startswith(_PREFIX) else f"{_PREFIX}{run_id}"


def _delete_all(
    api: Api, kind: _Kind, places: list[str], labels: str, *, grace_seconds: int | None = None
) -> list[str]:
    found: list[dict[str, Any]] = []
    for place in places:
        try:
            listed = api.list(
                collection(kind.resource, namespace=place, group=kind.group), labels=labels
            )
            # A label is soon copied; whatever a run makes has a name of this kind as well.
            found += [one for one in listed if _NAMES.fullmatch(one["metadata"]["name"])]
        except (ForbiddenError, NotFoundError):
            # What this user may not even list, this run has not made.
            if kind is _PODS:
                raise
    paths = [
        object_path(
            collection(kind.resource, namespace=item["metadata"]["namespace"], group=kind.group),
            item["metadata"]["name"],
        )
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
            status = api.get(object_path(_NAMESPACES, name)).get("status") or {}
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
