"""What makes a mode impossible on a cluster, whatever may be changed. Pure.

One function per row of the decision table, asked in the table's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_k8snet.calico.installation import FelixSetting, Installation
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.node_daemon import NAMESPACES, TOPIC
from pytest_k8snet.calico.version import FELIX_CLUSTER_ROUTES, FELIX_OWNS_IPIP, Version
from pytest_k8snet.errors import InvalidError, ModeUnavailableError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node


def refuse_impossible(installation: Installation, mode: CalicoMode, nodes: Sequence[Node]) -> None:
    """Refuse a mode that these nodes cannot have.

    Raises:
        ModeUnavailableError: names the reason and what would remove it.
    """
    _refuse_foreign_routing(installation)
    _refuse_wireguard(installation, nodes)
    _refuse_migration(installation)
    _refuse_switched_off_family(installation, mode)
    _refuse_unrouted_mode(installation, mode)


def refuse_unknown_routing(installation: Installation) -> None:
    """Refuse to write anything while it is not known that Calico routes the pods.

    Raises:
        ModeUnavailableError: says whether that could not be read, or is not there.
    """
    if installation.backend != "unknown":
        return
    where = " and ".join(NAMESPACES)
    unread = installation.unknown.get(TOPIC)
    raise ModeUnavailableError(
        "It is unknown whether Calico routes the pods, so nothing is changed",
        found=f"{TOPIC}: {unread}" if unread else f"no {TOPIC} with a known backend in {where}",
        remedy=f"Permit get on daemonsets.apps in {where}."
        if unread
        else "Go without --k8snet-change: modes that pools have already take no change.",
    )


def refused(mode: CalicoMode, error: InvalidError) -> ModeUnavailableError:
    """What to raise when the API server does not accept a pool in a mode."""
    return ModeUnavailableError(
        f"This cluster accepts no pool in mode {mode}",
        found=error.found,
        remedy="The API server's message says what stands against it.",
    )


def _refuse_foreign_routing(installation: Installation) -> None:
    reason = ""
    if installation.shape is None:
        unknown = installation.unknown.get("APIService")
        reason = unknown or "no Calico API group is served"
    elif installation.datastore != "kubernetes":
        reason = f"its datastore is {installation.datastore}, which the Kubernetes API doesn't show"
    elif installation.cni == "Canal":
        reason = "it is Canal: flannel routes the pods and Calico enforces policy only"
    elif installation.cni != "Calico":
        reason = f"the CNI plugin is {installation.cni}"
    elif installation.dataplane == "VPP":
        reason = "the dataplane is VPP, which has no tunnel devices in the kernel"
    elif installation.backend == "none":
        reason = "CALICO_NETWORKING_BACKEND is none: Calico enforces policy only"
    if reason:
        raise ModeUnavailableError(
            "Calico does not route the pods here in Linux, so there are no modes to test",
            found=reason,
            remedy="Test without calico_mode on this cluster.",
        )


def _refuse_wireguard(installation: Installation, nodes: Sequence[Node]) -> None:
    keyed = [node.name for node in nodes if _wireguard_key(node)]
    if installation.wireguard and len(keyed) >= 2:
        raise ModeUnavailableError(
            "WireGuard carries the pods' traffic between these nodes, whatever the pool's mode",
            found=f"WireGuard is enabled and {', '.join(keyed)} have keys",
            remedy="Choose nodes without WireGuard, or disable it for the test.",
        )


def _wireguard_key(node: Node) -> str:
    return node.annotations.get("projectcalico.org/WireguardPublicKey", "")


def _refuse_migration(installation: Installation) -> None:
    if installation.unfinished_migration:
        raise ModeUnavailableError(
            "Calico's datastore is being migrated, so it is open which pools count",
            found=f"DatastoreMigration {installation.unfinished_migration}",
            remedy="Finish or abort the migration first.",
        )


def _refuse_switched_off_family(installation: Installation, mode: CalicoMode) -> None:
    settings: dict[str, tuple[FelixSetting, ...]] = {
        "vxlan": installation.vxlan_enabled,
        "ipip": installation.ipip_enabled,
    }
    for setting in settings.get(mode.family, ()):
        if setting.off:
            raise ModeUnavailableError(
                f"{mode} would be a black hole: Felix is told to keep {mode.family.upper()} off",
                found=f"{setting.where} is {setting.value}",
                remedy="Remove that setting, so that Felix follows the pools.",
            )


def _refuse_unrouted_mode(installation: Installation, mode: CalicoMode) -> None:
    if mode.family == "vxlan" and installation.ipam == "HostLocal":
        raise ModeUnavailableError(
            f"{mode} needs Calico IPAM",
            found="the IPAM plugin is host-local",
            remedy="Test IPIP modes or Never on this cluster.",
        )
    if mode.family == "ipip" and "azure" in installation.provider.split(","):
        raise ModeUnavailableError(
            f"{mode} cannot work here: Azure's fabric drops IP-in-IP",
            found="the nodes' provider id is azure://",
            remedy="Test VXLAN modes on Azure.",
        )
    if installation.backend != "vxlan" or mode.family == "vxlan":
        return
    if _felix_programs(installation, mode):
        return
    version = installation.version
    raise ModeUnavailableError(
        f"{mode} has no routes here: BGP is disabled and Felix does not program them",
        found=f"backend vxlan, Calico {installation.version_text or 'of unknown version'}, "
        f"programClusterRoutes {installation.felix_cluster_routes or 'unset'}"
        + (_overlay_limit(installation) if mode.family == "none" else ""),
        remedy=(
            "Test VXLAN modes, or enable BGP."
            if version is None or version < FELIX_CLUSTER_ROUTES
            else "Test VXLAN modes, enable BGP, or set programClusterRoutes: Enabled in the "
            "FelixConfiguration (operator: clusterRoutingMode: Felix)."
        ),
    )


def _felix_programs(installation: Installation, mode: CalicoMode) -> bool:
    """Whether Felix itself programs routes of this IPIP or Never pool, without BIRD."""
    version, setting = installation.version, installation.felix_cluster_routes
    if version is None or version < FELIX_CLUSTER_ROUTES:
        return False
    if version < FELIX_OWNS_IPIP:
        if setting != "Enabled":
            return False
        return mode.family == "ipip" or not _overlay_limit(installation)
    if mode.family == "ipip":
        return setting in ("", "Enabled", "EnabledIPIPOnly")
    return setting in ("Enabled", "EnabledNoEncapOnly")


def _overlay_limit(installation: Installation) -> str:
    """Before v3.33 Felix programs Never only while nothing is encapsulated anywhere."""
    version: Version | None = installation.version
    on = sorted(installation.families()) + (["wireguard"] if installation.wireguard else [])
    if version is None or version >= FELIX_OWNS_IPIP or not on:
        return ""
    return f"; {' and '.join(on)} enabled elsewhere, which bars it before v3.33"
