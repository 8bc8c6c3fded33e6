"""The Tigera operator, as far as pools are concerned: its Installation rules the pools it owns.

From Calico v3.28 on it goes on doing so: an edit of such a pool is undone, and an edit of the
Installation reaches the pool. A pool that it does not own is adopted if it is just what the
Installation says; if the Installation says something else of it, the operator is Degraded and rules
nothing any more. All other pools it leaves alone. It writes through ``projectcalico.org/v3``, so
without that group it can only complain.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from pytest_k8snet.lab.api.objects import Object, condition, dig
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import POOLS, is_owned, mark_owned
from pytest_k8snet.lab.dataplane.felix import Behaviour
from pytest_k8snet.lab.faults import CalicoFaults, calico_api_server_is_down
from pytest_k8snet.lab.reconcile import Controller
from pytest_k8snet.lab.spec import CalicoSpec

#: The storage key of Installations.
INSTALLATIONS = "installations.operator.tigera.io"
#: The storage key of the operator's words on itself.
STATUSES = "tigerastatuses.operator.tigera.io"

#: ``encapsulation`` of an Installation's pool: ``ipipMode`` and ``vxlanMode`` of the pool.
MODES: Mapping[str, tuple[str, str]] = {
    "None": ("Never", "Never"),
    "IPIP": ("Always", "Never"),
    "IPIPCrossSubnet": ("CrossSubnet", "Never"),
    "VXLAN": ("Never", "Always"),
    "VXLANCrossSubnet": ("Never", "CrossSubnet"),
}

#: A pool's field, what an entry of the Installation calls it, and its default.
_FIELDS: tuple[tuple[str, str, object], ...] = (
    ("allowedUses", "allowedUses", ["Workload", "Tunnel"]),
    ("assignmentMode", "assignmentMode", "Automatic"),
    ("blockSize", "blockSize", 26),
    ("disableBGPExport", "disableBGPExport", False),
    ("disabled", "disableNewAllocations", False),
    ("nodeSelector", "nodeSelector", "all()"),
)


def manages_pools(calico: CalicoSpec) -> bool:
    """Whether there is an operator that goes on ruling its pools after it has made them."""
    version = Behaviour.of(calico.version, calico.backend).version
    return calico.install == "operator" and version >= (3, 28)


class Operator(Controller):
    """Keeps the pools of the Installation as it says."""

    watched = (INSTALLATIONS, POOLS, "configmaps")
    manager = "operator"

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._noticed_seconds: float | None = None

    def reconcile(self) -> float | None:
        """Bring pools and Installation together, and say in TigeraStatus what is in the way."""
        faults, now_seconds = CalicoFaults.asked_for(self._store), time.monotonic()
        if self._noticed_seconds is None:
            self._noticed_seconds = now_seconds
        left_seconds = self._noticed_seconds + faults.operator_delay_seconds - now_seconds
        if left_seconds > 0:
            return left_seconds
        self._noticed_seconds = None
        degraded = faults.operator_degraded or self._rule_pools()

        def change(status: Object) -> None:
            if _degraded(status) != degraded:
                status["status"] = {"conditions": status_conditions(degraded)}

        self._store.mutate(STATUSES, "ippools", None, change, subresource="status")
        return None

    def _rule_pools(self) -> str:
        """Adopt pools, give owned ones their encapsulation; or why the operator is Degraded."""
        changes: list[tuple[str, Object]] = []
        for entry in self._entries():
            pools = [one for one in self._store.list(POOLS) if _cidr(one) == entry.get("cidr")]
            for pool in [one for one in pools if is_owned(one)] or pools:
                if is_owned(pool):
                    change = _correction(pool, entry)
                elif _is_as(pool, entry):
                    change = self._adoption(pool)
                else:
                    name = pool["metadata"]["name"]
                    return f"Cannot update an IP pool not owned by the operator: {name}"
                changes += [(pool["metadata"]["name"], change)] if change else []
        if changes and not self._can_write():
            return "Unable to modify IP pools while Calico API server is unavailable"
        for name, change in changes:
            self._store.patch(POOLS, name, change, "merge")
        return ""

    def _entries(self) -> list[Object]:
        return [
            entry
            for installation in self._store.list(INSTALLATIONS)
            for entry in dig(installation, "spec.calicoNetwork.ipPools", [])
        ]

    def _can_write(self) -> bool:
        served = self._store.calico.api_shape != "A"
        return served and not calico_api_server_is_down(self._store)

    def _adoption(self, pool: Object) -> Object:
        meta = {key: pool["metadata"].get(key) for key in ("labels", "annotations")}
        mark_owned(meta, self._store.calico.api_shape)
        return {"metadata": {key: value for key, value in meta.items() if value}}


def _cidr(pool: Object) -> str:
    return str(dig(pool, "spec.cidr"))


def _modes(pool: Object) -> tuple[str, str]:
    """Both modes of a pool; an absent one means Never."""
    return dig(pool, "spec.ipipMode") or "Never", dig(pool, "spec.vxlanMode") or "Never"


def _correction(pool: Object, entry: Object) -> Object:
    """What has to be written to an owned pool; empty if it is right."""
    ipip, vxlan = wanted = MODES[entry.get("encapsulation", "IPIP")]
    return {} if _modes(pool) == wanted else {"spec": {"ipipMode": ipip, "vxlanMode": vxlan}}


def _is_as(pool: Object, entry: Object) -> bool:
    """Whether a pool is field by field what an entry of the Installation says.

    No pool is what ``None`` says: the operator reads a pool's two Never as no encapsulation at all,
    which is another word.
    """
    encapsulation = entry.get("encapsulation", "IPIP")
    return (
        encapsulation != "None"
        and _modes(pool) == MODES[encapsulation]
        and dig(pool, "spec.natOutgoing", False) == (entry.get("natOutgoing") != "Disabled")
        and all(
            dig(pool, f"spec.{field}", default) == entry.get(said, default)
            for field, said, default in _FIELDS
        )
    )


def _degraded(status: Object) -> str | None:
    """Why a TigeraStatus is Degraded: empty if it is not, None if it says nothing yet."""
    for found in dig(status, "status.conditions", []):
        if found["type"] == "Degraded":
            return str(found["message"]) if found["status"] == "True" else ""
    return None


def status_conditions(degraded: str) -> list[Object]:
    """The conditions of a TigeraStatus.

    Args:
        degraded: what is wrong; empty if all is well.
    """
    good = ("AllObjectsAvailable", "All objects available")
    told = ("ResourceUpdateError", degraded) if degraded else good
    return [
        condition("Available", not degraded, *told),
        condition("Degraded", bool(degraded), *told),
        condition("Progressing", False, *good),
    ]
