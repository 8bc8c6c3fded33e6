"""Everything that one run makes in a cluster, under one label, in one namespace.

Pods are made in parallel, shared by equal requests, and gone at the end together with all else.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from pytest_k8snet.cluster import manifests, sweep
from pytest_k8snet.cluster.leftovers import delete_labelled, delete_namespace
from pytest_k8snet.cluster.nodes import list_nodes
from pytest_k8snet.cluster.pods import Pod, PodRequest, is_ready, read_pod
from pytest_k8snet.cluster.readiness import pauses, wait_ready
from pytest_k8snet.cluster.target import collection
from pytest_k8snet.errors import (
    ClusterError,
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
    """What a run makes in the cluster; a context manager that deletes it all.

    Nothing is made before it is needed. Safe to use from several threads.

    Args:
        api: the cluster.
        run_id: the run; the label of all that is made.
        namespace: an existing namespace to use, which is never deleted; None makes one.
        image: the image of pods.
        web_image: the image of the web service.
        pod_timeout_seconds: how long pods may take to be ready.
    """

    def __init__(
        self,
        api: Api,
        *,
        run_id: str,
        namespace: str | None,
        image: str,
        web_image: str,
        pod_timeout_seconds: float,
    ) -> None:
        self.api = api
        self.run_id = run_id
        self.web_image = web_image
        self.pod_timeout_seconds = pod_timeout_seconds
        self._image = image
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
        """The pods that this workspace has made and not deleted."""
        with self._lock:
            return list(self._pods.values())

    def ensure_pods(self, wanted: Sequence[PodRequest]) -> list[Pod]:
        """A ready pod for each request, in order: one that is there already, or a new one.

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
            sweep.delete_pods(self.api, [(pod.namespace, pod.name, pod.uid) for pod in doomed])

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
                sweep.sweep(self.api, self.run_id, namespace=namespace)
            except K8sNetError as error:
                raise self._left_behind(namespace, error) from error

    def _left_behind(self, namespace: str, error: K8sNetError) -> ClusterError:
        if self._given_namespace is None:
            by_hand = delete_namespace(namespace)
        else:
            by_hand = delete_labelled(namespace, f"{manifests.RUN_LABEL}={self.run_id}")
        return ClusterError(
            f"what run {self.run_id} made in namespace {namespace} could not all be deleted",
            found=error.brief,
            remedy=f"when the cause is gone: `k8snet restore`, or {by_hand}",
        )

    def _make_namespace(self) -> str:
        run_id = self.run_id
        name = run_id if run_id.startswith("k8snet-") else f"k8snet-{run_id}"
        # Known before it is made: an interrupt in between must not leave it behind.
        self._namespace = name
        try:
            self.api.create("/api/v1/namespaces", manifests.namespace(name, run_id))
        except K8sNetError:
            self._namespace = ""
            raise
        return name

    def _check(self, name: str) -> str:
        try:
            there = self.api.get(f"/api/v1/namespaces/{name}")
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
        there = self.api.list(path, labels=manifests.selector(self.run_id))
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
                labels=manifests.selector(self.run_id),
                count=len(bodies),
                names={body["metadata"]["name"] for body in bodies},
                timeout_seconds=self.pod_timeout_seconds,
            )
        except BaseException:
            self._abandon(namespace, bodies)
            raise
        by_name = {pod["metadata"]["name"]: read_pod(pod) for pod in ready}
        for request, body in zip(requests, bodies, strict=True):
            self._pods[request] = by_name[body["metadata"]["name"]]

    def _learn_hostnames(self, requests: Sequence[PodRequest]) -> None:
        if any(request.node not in self._hostnames for request in requests):
            self._hostnames = {node.name: node.hostname for node in list_nodes(self.api)}

    def _manifest(self, request: PodRequest, namespace: str) -> dict[str, Any]:
        return manifests.pod(
            manifests.pod_name(self.run_id, request, next(self._numbers)),
            namespace,
            self.run_id,
            request,
            image=request.image or self._image,
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
                self.api.delete(f"{path}/{body['metadata']['name']}", grace_seconds=0)
            except K8sNetError:
                continue
