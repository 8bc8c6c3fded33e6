"""The Tigera operator, as far as pools are concerned: its Installation rules the pools it owns.

From Calico v3.28 on it goes on doing so: an edit of such a pool is undone, and an edit of the
Installation reaches the pool. Pools that it does not own it leaves alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.pools import POOLS
from pytest_k8snet.lab.dataplane.datastore import Behaviour
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change
from pytest_k8snet.lab.spec import CalicoSpec

#: The storage key of Installations.
INSTALLATIONS = "installations.operator.tigera.io"

_OWNER = ("app.kubernetes.io/managed-by", "tigera-operator")
#: Where objects written through ``projectcalico.org/v3`` keep their labels.
_METADATA_ANNOTATION = "projectcalico.org/metadata"

#: ``encapsulation`` of an Installation's pool: ``ipipMode`` and ``vxlanMode`` of the pool.
MODES: Mapping[str, tuple[str, str]] = {
    "None": ("Never", "Never"),
    "IPIP": ("Always", "Never"),
    "IPIPCrossSubnet": ("CrossSubnet", "Never"),
    "VXLAN": ("Never", "Always"),
    "VXLANCrossSubnet": ("Never", "CrossSubnet"),
}


def manages_pools(calico: CalicoSpec) -> bool:
    """Whether there is an operator that goes on ruling its pools after it has made them."""
    version = Behaviour.of(calico.version, calico.backend).version
    return calico.install == "operator" and version >= (3, 28)


class Operator:
    """Keeps the pools of the Installation as it says.

    Args:
        store: the cluster's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run(self) -> None:
        """Reconcile for ever."""
        await reconcile_on_change(self._store, (INSTALLATIONS, POOLS), self.reconcile)

    def reconcile(self) -> None:
        """Give every owned pool the encapsulation that the Installation names for its CIDR."""
        wanted = {
            entry.get("cidr"): MODES[entry.get("encapsulation", "IPIP")]
            for installation in self._store.list(INSTALLATIONS)
            for entry in dig(installation, "spec.calicoNetwork.ipPools", [])
        }
        for pool in self._store.list(POOLS):
            cidr = dig(pool, "spec.cidr")
            if cidr not in wanted or not is_owned(pool):
                continue
            ipip_mode, vxlan_mode = wanted[cidr]
            modes = {"ipipMode": ipip_mode, "vxlanMode": vxlan_mode}
            # An absent mode means Never.
            if any((pool["spec"].get(field) or "Never") != mode for field, mode in modes.items()):
                self._store.patch(POOLS, pool["metadata"]["name"], {"spec": modes}, "merge")


def is_owned(pool: Object) -> bool:
    """Whether the operator's label is on a pool, in either of the two places it can be."""
    key, value = _OWNER
    if dig(pool, "metadata.labels", {}).get(key) == value:
        return True
    try:
        hidden = json.loads(dig(pool, "metadata.annotations", {}).get(_METADATA_ANNOTATION, "{}"))
    except ValueError:
        return False
    return bool(dig(hidden, "labels", {}).get(key) == value)
