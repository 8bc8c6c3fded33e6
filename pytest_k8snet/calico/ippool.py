"""An IPPool as it matters here: its addresses, its mode, and who owns it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network
from typing import Any

from pytest_k8snet.calico.groups import METADATA_ANNOTATION
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.pods import RUN_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool:
    """One IPv4 pool, normalised; ``raw`` is the object as the API gave it."""

    name: str
    cidr: IPv4Network
    mode: CalicoMode
    disabled: bool
    nat_outgoing: bool
    allowed_uses: tuple[str, ...]
    node_selector: str
    #: ``Automatic``, or ``Manual``: only pods that name the pool get its addresses.
    assignment_mode: str
    block_size: int
    labels: Mapping[str, str]
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> IPPool | None:
        """Read an API object; None for an IPv6 pool or one without a usable CIDR."""
        spec = raw.get("spec") or {}
        try:
            cidr = ip_network(str(spec.get("cidr", "")), strict=False)
        except ValueError:
            return None
        if not isinstance(cidr, IPv4Network):
            return None
        return cls(
            name=str(raw["metadata"]["name"]),
            cidr=cidr,
            mode=CalicoMode.of_pool(spec.get("ipipMode"), spec.get("vxlanMode")),
            disabled=bool(spec.get("disabled", False)),
            nat_outgoing=bool(spec.get("natOutgoing", False)),
            allowed_uses=tuple(spec.get("allowedUses") or ("Workload", "Tunnel")),
            node_selector=str(spec.get("nodeSelector") or "all()"),
            assignment_mode=str(spec.get("assignmentMode") or "Automatic"),
            block_size=int(spec.get("blockSize") or 26),
            labels=labels_of(raw),
            raw=raw,
        )

    @property
    def run_id(self) -> str:
        """The run that made this pool; empty for a pool of the cluster's own."""
        return self.labels.get(RUN_LABEL, "")

    @property
    def operator_owned(self) -> bool:
        """Whether the Tigera operator's ownership mark is on the pool."""
        return self.labels.get("app.kubernetes.io/managed-by") == "tigera-operator"

    @property
    def both_families(self) -> bool:
        """Whether both encapsulations are set, which old versions accept as a raw write."""
        spec = self.raw.get("spec") or {}
        return all(
            spec.get(name) in ("Always", "CrossSubnet") for name in ("ipipMode", "vxlanMode")
        )

    @property
    def offers_pod_addresses(self) -> bool:
        """Whether a pod that names this pool gets an address from it."""
        return not self.disabled and "Workload" in self.allowed_uses


def labels_of(raw: Mapping[str, Any]) -> dict[str, str]:
    """An object's labels, with those that the v1 view hides in an annotation."""
    metadata = raw.get("metadata") or {}
    labels = dict(metadata.get("labels") or {})
    blob = (metadata.get("annotations") or {}).get(METADATA_ANNOTATION)
    if blob:
        try:
            hidden = json.loads(blob).get("labels") or {}
        except (ValueError, AttributeError):
            hidden = {}
        labels = {**hidden, **labels}
    return {str(key): str(value) for key, value in labels.items()}


def pool_of(address: str, pools: Iterable[IPPool]) -> IPPool | None:
    """The pool that an address lies in: the one with the longest prefix, as routes go."""
    parsed = ip_address(address)
    if not isinstance(parsed, IPv4Address):
        return None
    holding = [pool for pool in pools if parsed in pool.cidr]
    return max(holding, key=lambda pool: pool.cidr.prefixlen, default=None)
