"""What runs have left in a cluster, told apart by whether they still work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_k8snet.cluster.liveness import PROCESS_ANNOTATION, is_alive
from pytest_k8snet.cluster.manifests import MANAGED_BY, MANAGED_BY_LABEL, RUN_LABEL
from pytest_k8snet.cluster.target import collection

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api


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
    """The command that deletes a namespace of a run's own."""
    return f"`kubectl delete namespace {name}`"


def delete_labelled(namespace: str, label: str) -> str:
    """The command that deletes what runs have made in somebody else's namespace."""
    return f"`kubectl -n {namespace} delete deployments,services,pods -l {label}`"


def find_leftovers(api: Api) -> list[Leftover]:
    """What every run has in the cluster now.

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
