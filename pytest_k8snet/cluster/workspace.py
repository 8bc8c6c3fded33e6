"""Everything that one run makes in a cluster, under one label, in one namespace.

Pods are made in parallel, shared by equal requests, and gone at the end together with all else.
"""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    namespace_manifest,
    pod_manifest,
    pod_name,
    read_pod,
    selector,
)
from pytest_k8snet.cluster.startup import is_ready, wait_ready
from pytest_k8snet.errors import (
    ApiError,
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

    Nothing is made before it is needed. Everything has the run's id for a label. A namespace that
    is given is never deleted; without one, the run makes its own. Safe to use from several threads.
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
        #: What makes pods, and Services: path and uid, which is empty where it may not be there.
        self._others: dict[str, str] = {}
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

    def make(self, collection: str, body: dict[str, Any]) -> None:
        """Make an object other than a pod, unless an earlier call has made it.

        Raises:
            ApiError: it is refused, or somebody else has one of that name, which stays his.
        """
        path = object_path(collection, body["metadata"]["name"])
        with self._lock:
            if self._others.get(path):
                return
            known = path in self._others
            # Noted before it is made: an interrupt in between must not leave it behind.
            self._others[path] = ""
            try:
                made = self.api.create(collection, body)
            except ApiError as error:
                if error.status < 500 and not known:
                    del self._others[path]
                raise
            self._others[path] = str(made["metadata"]["uid"])

    def ensure_pods(self, wanted: Sequence[PodRequest]) -> list[Pod]:
        """Return a ready pod for each request, in order: one that is there already, or a new one.

        Equal requests share a pod.

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
        uids = {pod.uid for pod in pods}
        with self._lock:
            self._pods = {k: pod for k, pod in self._pods.items() if pod.uid not in uids}
            if uids:
                end_pods(
                    self.api,
                    self.run_id,
                    self.namespace,
                    lambda pod: pod["metadata"]["uid"] in uids,
                )

    def close(self) -> None:
        """Delete everything and wait until it is gone; calling it again does nothing.

        Raises:
            ClusterError: something is left; names it, and what keeps it from being deleted.
        """
        with self._lock:
            namespace, self._namespace = self._namespace, ""
            others, self._others = self._others, {}
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

    def _end_own(self, namespace: str, others: Mapping[str, str]) -> None:
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
        # Known before it is made: an interrupt in between must not leave it behind.
        self._namespace = name = _namespace_name(self.run_id)
        try:
            self.api.create(_NAMESPACES, namespace_manifest(name, self.run_id))
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
        if any(request.node not in self._hostnames for request in requests):
            self._hostnames = {node.name: node.hostname for node in list_nodes(self.api)}
        bodies = [
            pod_manifest(
                pod_name(self.run_id, request, next(self._numbers)),
                namespace,
                self.run_id,
                request,
                settings=self.settings,
                hostname=self._hostnames.get(request.node, request.node),
            )
            for request in requests
        ]
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
            # The error on its way matters more than theirs.
            path = collection("pods", namespace=namespace)
            for body in bodies:
                with suppress(K8sNetError):
                    self.api.delete(object_path(path, body["metadata"]["name"]), grace_seconds=0)
            raise
        self._pods.update(zip(requests, found, strict=True))

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

_NAMESPACES = "/api/v1/namespaces"
#: How the names of a run's namespace and pods begin.
_PREFIX = "k8snet-"
#: The names of everything that a run makes, the web service and its pods included.
_NAMES = re.compile(rf"{_PREFIX}.+|web(-.+)?")


def sweep(api: Api, run_id: str) -> list[str]:
    """Delete everything of a run and wait until it is gone: what has its labels and its names.

    Works from the run's id alone, as it must after a killed run.

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
        makers: dict[str, str] = {}
        for resource, group in (("deployments", "apps"), ("services", "")):
            path = collection(resource, namespace=place, group=group)
            # What may not be listed was not made.
            with suppress(ForbiddenError, NotFoundError):
                for one in filter(_is_ours, api.list(path, labels=selector(run_id))):
                    name, uid = one["metadata"]["name"], one["metadata"]["uid"]
                    makers[object_path(path, name)] = uid
                    deleted.append(f"{resource} {place}/{name}")
        deleted += _empty(api, run_id, place, makers)
    return deleted


def _places(api: Api, run_id: str) -> set[str]:
    """Return the namespaces in which a run has pods, or a Service that outlived them."""
    found = api.list(collection("pods"), labels=selector(run_id))
    with suppress(ForbiddenError):
        found += api.list(collection("services"), labels=selector(run_id))
    return {str(one["metadata"]["namespace"]) for one in found}


def _is_ours(item: Mapping[str, Any]) -> bool:
    # A label is soon copied; whatever a run makes has a name of this kind as well.
    return _NAMES.fullmatch(item["metadata"]["name"]) is not None


def _empty(api: Api, run_id: str, namespace: str, others: Mapping[str, str]) -> list[str]:
    """Delete other objects of a run, by path and uid, then its pods; return what pods these were.

    One without a uid may be somebody else's.
    """
    for path, uid in others.items():
        with suppress(NotFoundError, ConflictError):  # a later one of the same name
            if not uid:
                there = api.get(path)["metadata"]
                if (there.get("labels") or {}).get(RUN_LABEL) != run_id:
                    continue
                uid = there["uid"]
            api.delete(path, propagation="Background", uid=uid)
    return [f"pods {name}" for name in end_pods(api, run_id, namespace, _is_ours)]


def end_pods(
    api: Api, run_id: str, namespace: str, doomed: Callable[[Mapping[str, Any]], bool]
) -> list[str]:
    """Delete those pods of a run that are doomed, and wait until they are gone.

    Returns:
        what was deleted, as ``namespace/name``.

    Raises:
        ClusterError: pods are still there after the time allowed.
    """
    path = collection("pods", namespace=namespace)
    asked: dict[str, str] = {}
    forced: set[str] = set()
    began = time.monotonic()

    def delete(uid: str, grace_seconds: int) -> None:
        with suppress(ConflictError):  # a later pod of the same name
            api.delete(object_path(path, asked[uid]), grace_seconds=grace_seconds, uid=uid)

    for pods in follow(api, path, labels=selector(run_id)):
        left = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in pods if doomed(pod)}
        if not left:
            break
        waited = time.monotonic() - began
        late = waited >= POD_END_SECONDS
        # A ReplicaSet that is about to go may make another.
        due = [uid for uid in left if uid not in (forced if late else asked)]
        asked |= left
        forced |= {*due} if late else set()
        with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
            list(pool.map(delete, due, itertools.repeat(0 if late else 1)))
        if waited >= POD_END_SECONDS * 1.25 and not due:
            raise ClusterError(
                f"{len(left)} pods could not be deleted",
                found=", ".join(f"{namespace}/{name}" for name in left.values()),
                remedy="their node may be down: `kubectl delete pod --force` drops them",
            )
    return [f"{namespace}/{name}" for name in asked.values()]


def _own_namespaces(api: Api, run_id: str) -> list[str]:
    try:
        found = api.list(_NAMESPACES, labels=selector(run_id))
    except ForbiddenError:
        return []
    wanted = _namespace_name(run_id)
    return [wanted] if any(one["metadata"]["name"] == wanted for one in found) else []


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
