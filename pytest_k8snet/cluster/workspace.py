"""Everything that one run makes in a cluster, under one label, in one namespace.

Pods are made in parallel, shared by equal requests, and gone at the end together with all else.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pytest_k8snet.cluster.api import follow, pauses
from pytest_k8snet.cluster.api_errors import collection, object_path
from pytest_k8snet.cluster.nodes import Node, list_nodes
from pytest_k8snet.cluster.pods import (
    MANAGED_BY,
    MANAGED_BY_LABEL,
    PROCESS_ANNOTATION,
    RUN_LABEL,
    Pod,
    PodRequest,
    PodSettings,
    is_alive,
    is_ready,
    namespace_manifest,
    pod_manifest,
    pod_name,
    read_pod,
    selector,
    wait_ready,
)
from pytest_k8snet.errors import (
    ClusterError,
    ConflictError,
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
        nodes: nodes that are known already.
    """

    def __init__(
        self,
        api: Api,
        *,
        run_id: str,
        namespace: str | None,
        settings: PodSettings,
        pod_timeout_seconds: float,
        nodes: Iterable[Node] = (),
    ) -> None:
        self.api = api
        self.run_id = run_id
        self.settings = settings
        self.pod_timeout_seconds = pod_timeout_seconds
        self._given_namespace = namespace
        self._namespace = ""
        self._hostnames = {node.name: node.hostname for node in nodes}
        self._numbers = itertools.count(1)
        self._pods: dict[PodRequest, Pod] = {}
        #: Paths of what makes pods, and of Services, in the order in which they were made.
        self._others: list[str] = []
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

    def note(self, path: str) -> bool:
        """Remember the path of an object other than a pod that is about to be made.

        Returns:
            False where it has been made already.
        """
        with self._lock:
            if path in self._others:
                return False
            self._others.append(path)
            return True

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
            others, self._others = self._others, []
            self._pods.clear()
            if not namespace:
                return
            try:
                if self._given_namespace is None:
                    self._end_own(namespace, others)
                else:
                    _empty(self.api, self.run_id, namespace, others)
            except K8sNetError as error:
                raise self._left_behind(namespace, error) from error

    def _end_own(self, namespace: str, others: Sequence[str]) -> None:
        try:
            end_namespace(self.api, namespace)
        except ForbiddenError:
            # What runs and listens is worse than a namespace without anything in it.
            with suppress(ForbiddenError):
                _empty(self.api, self.run_id, namespace, others)
            raise

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
# A namespace of a run's own goes with all that is in it. In somebody else's, what makes pods goes
# before the pods. Everything is asked to go once; then one watch tells when it is gone.

#: For pods to end by themselves, before they are dropped without the kubelet's word.
POD_END_SECONDS = 20.0
#: A namespace's controllers look at everything that it may contain: seconds, at times many.
NAMESPACE_END_SECONDS = 60.0

#: What a run makes besides pods: resource and API group.
_MAKERS = (("deployments", "apps"), ("services", ""))
_NAMESPACES = "/api/v1/namespaces"
#: How the names of a run's namespace and pods begin.
_PREFIX = "k8snet-"
#: The names of everything that a run makes, the web service and its pods included.
_NAMES = re.compile(rf"{_PREFIX}.+|web(-.+)?")


def sweep(api: Api, run_id: str) -> list[str]:
    """Delete everything of a run and wait until it is gone: what has its labels and its names.

    Works from the run's id alone, as it must after a killed run.

    Args:
        api: the cluster.
        run_id: the run.

    Returns:
        what was deleted, as ``kind namespace/name``; empty when nothing was left.

    Raises:
        ClusterError: something is still there after the time allowed.
    """
    own = _own_namespaces(api, run_id)
    for name in own:
        end_namespace(api, name)
    deleted = [f"namespaces {name}" for name in own]
    for place in sorted(_places(api, run_id) - set(own)):
        makers = [
            object_path(collection(resource, namespace=place, group=group), name)
            for resource, group in _MAKERS
            for name in _names_there(api, resource, group, place, selector(run_id))
        ]
        deleted += [_told(path) for path in makers]
        deleted += _empty(api, run_id, place, makers)
    return deleted


def _places(api: Api, run_id: str) -> set[str]:
    """Return the namespaces in which a run has pods, or a Service that outlived them."""
    found = api.list(collection("pods"), labels=selector(run_id))
    with suppress(ForbiddenError):
        found += api.list(collection("services"), labels=selector(run_id))
    return {str(one["metadata"]["namespace"]) for one in found}


def _names_there(api: Api, resource: str, group: str, place: str, labels: str) -> list[str]:
    """List what a run may have made in a namespace; what may not be listed was not made."""
    try:
        found = api.list(collection(resource, namespace=place, group=group), labels=labels)
    except (ForbiddenError, NotFoundError):
        return []
    return [str(one["metadata"]["name"]) for one in found if _is_ours(one)]


def _is_ours(item: Mapping[str, Any]) -> bool:
    # A label is soon copied; whatever a run makes has a name of this kind as well.
    return _NAMES.fullmatch(item["metadata"]["name"]) is not None


def _empty(api: Api, run_id: str, namespace: str, others: Iterable[str]) -> list[str]:
    """Delete other objects of a run by their paths, then its pods, and wait until these are gone.

    Returns:
        the pods, as ``pods namespace/name``.

    Raises:
        ClusterError: pods are still there after the time allowed.
    """
    for path in others:
        api.delete(path, propagation="Background")
    path = collection("pods", namespace=namespace)
    asked: dict[str, str] = {}
    forced: set[str] = set()
    began = time.monotonic()
    for pods in follow(api, path, labels=selector(run_id)):
        left = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods if _is_ours(pod)}
        if not left:
            break
        late = time.monotonic() - began >= POD_END_SECONDS
        # A ReplicaSet that is about to go may make another.
        for uid, name in left.items():
            if uid not in asked or (late and uid not in forced):
                _delete_pod(api, object_path(path, name), uid, grace_seconds=0 if late else 1)
                asked[uid] = name
                forced |= {uid} if late else set()
        if time.monotonic() - began >= POD_END_SECONDS * 1.5:
            raise _undeletable([f"{namespace}/{name}" for name in left.values()])
    return [f"pods {namespace}/{name}" for name in asked.values()]


def _delete_pod(api: Api, path: str, uid: str, *, grace_seconds: int) -> None:
    with suppress(ConflictError):  # a later pod of the same name
        api.delete(path, grace_seconds=grace_seconds, uid=uid)


def _undeletable(pods: Sequence[str]) -> ClusterError:
    return ClusterError(
        f"{len(pods)} pods could not be deleted",
        found=", ".join(pods),
        remedy="their node may be down: `kubectl delete pod --force` drops them",
    )


def delete_pods(api: Api, pods: list[tuple[str, str, str]]) -> None:
    """Delete pods of runs and wait until they are gone; ones that are gone already are fine.

    Args:
        api: the cluster.
        pods: namespace, name and uid of each; a later pod of the same name is left alone.

    Raises:
        ClusterError: one is still there after the time allowed.
    """
    began = time.monotonic()
    for space in sorted({space for space, _, _ in pods}):
        path = collection("pods", namespace=space)
        doomed = {uid: name for place, name, uid in pods if place == space}

        def end(grace_seconds: int, left: Mapping[str, str], path: str = path) -> None:
            with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
                list(
                    pool.map(
                        lambda one: _delete_pod(
                            api, object_path(path, one[1]), one[0], grace_seconds=grace_seconds
                        ),
                        left.items(),
                    )
                )

        end(1, doomed)
        forced = False
        for there in follow(api, path, labels=f"{MANAGED_BY_LABEL}={MANAGED_BY}"):
            uids = {pod["metadata"].get("uid") for pod in there}
            left = {uid: name for uid, name in doomed.items() if uid in uids}
            if not left:
                break
            waited = time.monotonic() - began
            if waited >= POD_END_SECONDS and not forced:
                forced = True
                end(0, left)
            elif waited >= POD_END_SECONDS * 1.25:
                raise _undeletable([f"{space}/{name}" for name in left.values()])


def _own_namespaces(api: Api, run_id: str) -> list[str]:
    try:
        found = api.list(_NAMESPACES, labels=selector(run_id))
    except ForbiddenError:
        return []
    return sorted(
        item["metadata"]["name"]
        for item in found
        if (item["metadata"].get("labels") or {}).get(RUN_LABEL) == run_id
        and item["metadata"]["name"] == _namespace_name(run_id)
    )


def _namespace_name(run_id: str) -> str:
    """Name the namespace that a run makes; another with its label is somebody else's."""
    return run_id if run_id.startswith(_PREFIX) else f"{_PREFIX}{run_id}"


def end_namespace(api: Api, name: str) -> None:
    """Delete a namespace with all that is in it, and wait until it is gone.

    Raises:
        ClusterError: it is still there after the time allowed; says what holds it.
    """
    api.delete(object_path(_NAMESPACES, name))
    deadline = time.monotonic() + NAMESPACE_END_SECONDS
    for there in _followed_namespace(api, name):
        if there is None:
            return
        if time.monotonic() >= deadline:
            conditions = (there.get("status") or {}).get("conditions") or []
            raise ClusterError(
                f"the namespace {name} is still there after {NAMESPACE_END_SECONDS:g} s",
                found="; ".join(str(c.get("message")) for c in conditions if c.get("message")),
                remedy="it is being deleted, and something in it or in the control plane holds it: "
                f"`kubectl describe namespace {name}`",
            )


def _followed_namespace(api: Api, name: str) -> Iterator[dict[str, Any] | None]:
    """Yield a namespace as it is from time to time; None once it is gone."""
    try:
        for items in follow(api, _NAMESPACES, fields=f"metadata.name={name}"):
            yield next((one for one in items if one["metadata"]["name"] == name), None)
    except ForbiddenError:
        rest = pauses()
        while True:
            try:
                yield api.get(object_path(_NAMESPACES, name))
            except NotFoundError:
                yield None
            rest()


def _told(path: str) -> str:
    """Describe an object by its path: ``services shop/web``."""
    *_, space, resource, name = path.split("/")
    return f"{resource} {space}/{name}"
