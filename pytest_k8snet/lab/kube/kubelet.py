"""The kubelets of all nodes: each pod that is bound to a node gets a worker for its life."""

from __future__ import annotations

import asyncio

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.kube.containerworker import ContainerWorker
from pytest_k8snet.lab.kube.events import Recorder
from pytest_k8snet.lab.kube.podworker import Kit, PodWorker


class Kubelet:
    """Runs the pods of the whole lab.

    Args:
        kit: what the pods' workers need.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._nodes = {node.name: node for node in kit.spec.nodes}
        self._recorders = {name: Recorder(kit.store, "kubelet", host=name) for name in self._nodes}
        self._workers: dict[str, PodWorker] = {}
        self._uids: dict[tuple[str, str], str] = {}
        self._lives: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the pods, for ever."""
        async with asyncio.TaskGroup() as lives:
            async for kind, pod in self._kit.store.watch("pods"):
                self._see(kind, pod, lives)

    def find(self, namespace: str, pod: str, container: str) -> ContainerWorker | None:
        """The worker of a container, or None when no node has the pod."""
        worker = self._workers.get(self._uids.get((namespace, pod), ""))
        return worker.container(container) if worker else None

    def node_of(self, namespace: str, pod: str) -> str:
        """The name of the node that has the pod, or nothing."""
        worker = self._workers.get(self._uids.get((namespace, pod), ""))
        return worker.node.name if worker else ""

    def _see(self, kind: str, pod: Object, lives: asyncio.TaskGroup) -> None:
        uid = str(pod["metadata"]["uid"])
        worker = self._workers.get(uid)
        if kind == "DELETED":
            if worker is not None:
                worker.end(0)
                worker.gone.set()
            return
        node = self._nodes.get(dig(pod, "spec.nodeName", ""))
        if worker is None and node is not None:
            worker = PodWorker(pod, node=node, kit=self._kit, recorder=self._recorders[node.name])
            self._workers[uid] = worker
            key = (pod["metadata"]["namespace"], pod["metadata"]["name"])
            before = self._lives.get(key)
            self._uids[key] = uid
            self._lives[key] = lives.create_task(self._look_after(worker, before))
        if worker is not None and dig(pod, "metadata.deletionTimestamp"):
            worker.end(float(dig(pod, "metadata.deletionGracePeriodSeconds", 0)))

    async def _look_after(self, worker: PodWorker, before: asyncio.Task[None] | None) -> None:
        meta = worker.pod["metadata"]
        if before is not None:
            # A pod that had this name: its cable has the name that the new one's will have.
            await before
        await worker.run()
        # Until then the watch may still speak of it, which would be taken for a new pod.
        await worker.gone.wait()
        del self._workers[meta["uid"]]
        key = (meta["namespace"], meta["name"])
        if self._uids.get(key) == meta["uid"]:
            del self._uids[key], self._lives[key]
