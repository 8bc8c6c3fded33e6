"""The calico-node pods: whether one restarted, was replaced or is not Ready.

A calico-node that comes or goes rewrites its node's routes and rules, so what was measured
meanwhile says nothing of the network as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.errors import ForbiddenError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_LABELS = "k8s-app=calico-node"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePod:
    """One calico-node pod as the API tells of it.

    Attributes:
        restarts: of all its containers, since the pod was made.
    """

    node: str
    uid: str
    restarts: int
    ready: bool

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> NodePod:
        """Read a pod object."""
        status = body.get("status") or {}
        return cls(
            node=str((body.get("spec") or {}).get("nodeName") or ""),
            uid=str((body.get("metadata") or {}).get("uid") or ""),
            restarts=sum(
                int(one.get("restartCount") or 0) for one in status.get("containerStatuses") or ()
            ),
            ready=any(
                one.get("type") == "Ready" and one.get("status") == "True"
                for one in status.get("conditions") or ()
            ),
        )

    def trouble(self, now: NodePod | None) -> str:
        """Say what befell calico-node of this node from this state to ``now``, or nothing."""
        if now is None:
            return f"calico-node of {self.node} is gone"
        if now.uid != self.uid:
            return f"calico-node of {self.node} was replaced"
        if now.restarts > self.restarts:
            return f"calico-node of {self.node} restarted"
        return now.unready()

    def unready(self) -> str:
        """Say that it is not Ready, or nothing."""
        return "" if self.ready else f"calico-node of {self.node} is not Ready"


class NodePodWatch:
    """Looks at the calico-node pods each time it is called: by one request per node.

    Args:
        api: the cluster.
        nodes: names those that matter; asked each time.
    """

    def __init__(self, api: Api, nodes: Callable[[], Collection[str]]) -> None:
        self._api = api
        self._nodes = nodes
        self._before: Mapping[str, NodePod] = {}
        self._allowed = True

    def __call__(self) -> str:
        """Say what befell them since the last call, or nothing.

        Without the right to list them nothing is known of them, and nothing is said.
        """
        if not self._allowed:
            return ""
        nodes = sorted(self._nodes())
        try:
            found = [
                pod
                for node in nodes
                for pod in self._api.list(
                    "/api/v1/pods", labels=_LABELS, fields=f"spec.nodeName={node}"
                )
            ]
        except (ForbiddenError, NotFoundError):
            self._allowed = False
            return ""
        before, now = self._before, node_pods(found)
        self._before = now
        return ", ".join(
            filter(None, (_trouble(before.get(node), now.get(node)) for node in nodes))
        )


def node_pods(bodies: Sequence[Mapping[str, Any]]) -> dict[str, NodePod]:
    """Return the calico-node pod of each node; the newer one while one replaces another."""
    # A pod that is being deleted may be listed beside its successor.
    going_first = sorted(bodies, key=lambda body: "deletionTimestamp" not in body["metadata"])
    return {pod.node: pod for pod in map(NodePod.read, going_first)}


def _trouble(before: NodePod | None, now: NodePod | None) -> str:
    if before is not None:
        return before.trouble(now)
    return now.unready() if now is not None else ""
