"""What to write so that pods can be in a mode, or why it is refused. Pure.

First come the preconditions that no change of a pool can replace, then what the strategy allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.calico.detect import DAEMON_NAMESPACES, DAEMON_TOPIC
from pytest_k8snet.calico.installation import (
    FELIX_CLUSTER_ROUTES,
    FELIX_OWNS_IPIP,
    MANUAL_ASSIGNMENT,
    V1,
    ApiGroup,
    FelixSetting,
    Installation,
    IPPool,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.nodes import placement
from pytest_k8snet.errors import InvalidError, ModeUnavailableError, SettingsError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: What a run may change: nothing; pools of its own; the encapsulation of one named pool.
Strategy = Literal["none", "dedicated", "in-place"]
#: What is written: nothing, a dedicated pool, an existing pool, or the operator's Installation.
Writer = Literal["nothing", "dedicated-pool", "ippool", "installation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a mode is to be had.

    Attributes:
        writer: what is written.
        group: the group that pools are written through.
        also_v1: the v1 pool must be written beside the Installation, as nobody would carry the
            Installation's change over to it.
        pool: the existing pool that serves or is edited; None for a dedicated pool.
        notes: what the plan and the report should say about it.
    """

    mode: CalicoMode
    writer: Writer
    group: ApiGroup | None
    also_v1: bool = False
    pool: IPPool | None = None
    notes: tuple[str, ...] = ()


def decide(
    installation: Installation,
    *,
    strategy: Strategy,
    mode: CalicoMode,
    nodes: Sequence[Node],
    pool_name: str = "",
    original_mode: CalicoMode | None = None,
    underlay_routes_pods: bool = False,
) -> Decision:
    """Decide how pods on these nodes can be in a mode.

    Args:
        installation: what the cluster runs.
        strategy: what may be changed.
        mode: the mode that is wanted.
        nodes: the nodes under test.
        pool_name: the pool that ``in-place`` names.
        original_mode: the mode that this pool was in before the run; None if it is in it still.
        underlay_routes_pods: the user's word that the underlay routes pod addresses between all
            nodes, which no API shows.

    Raises:
        ModeUnavailableError: the cluster cannot have it, or may not be changed so.
        SettingsError: there is no pool of that name.
    """
    _require_calico_routing(installation)
    _require_no_wireguard(installation, nodes)
    _require_finished_migration(installation)
    _require_family_not_off(installation, mode)
    _require_routable_mode(installation, mode)
    if strategy == "none":
        return _use_existing(installation, mode)
    _require_known_backend(installation)
    if strategy == "dedicated":
        return _add_pool(installation, mode, nodes)
    pool = _named_pool(installation, pool_name, mode)
    _require_no_windows(installation, mode)
    if not underlay_routes_pods:
        _require_routed_pods(installation, pool, mode, original_mode or pool.mode)
    return _edit_pool(installation, pool, mode)


def refused(mode: CalicoMode, error: InvalidError) -> ModeUnavailableError:
    """What to raise when the API server does not accept a pool in a mode."""
    return ModeUnavailableError(
        f"This cluster accepts no pool in mode {mode}",
        found=error.found,
        remedy="The API server's message says what stands against it.",
    )


# -- What each strategy does ----------------------------------------------------------------------


def _use_existing(installation: Installation, mode: CalicoMode) -> Decision:
    offered = [pool for pool in installation.pools if pool.offers_pod_addresses]
    candidates = [pool for pool in offered if pool.mode is mode and not pool.both_families]
    if not candidates:
        present = sorted(f"{pool.name} ({pool.mode})" for pool in offered)
        raise ModeUnavailableError(
            f"No pool of this cluster is in mode {mode}, and nothing may be changed",
            found="pools: " + (", ".join(present) or "none that gives addresses to pods"),
            remedy="Allow pools of the run's own with --k8snet-change=dedicated, or the change of "
            "one pool with --k8snet-change=in-place:POOL.",
        )
    # A pool for all nodes serves any pair; then the name, so that every run takes the same.
    pool = min(candidates, key=lambda one: (one.node_selector != "all()", one.name))
    return Decision(mode=mode, writer="nothing", group=installation.group, pool=pool)


def _add_pool(installation: Installation, mode: CalicoMode, nodes: Sequence[Node]) -> Decision:
    notes = _side_effects(installation, mode)
    subnets = {node.interface.network for node in nodes if node.interface is not None}
    if mode.family == "none" and len(subnets) > 1 and not _learns_pods(installation):
        notes += (
            "Never between different subnets works only if the underlay routes pod addresses",
        )
    version = installation.version
    if version is None or version < MANUAL_ASSIGNMENT:
        # Every pod that names no pool may get an address of any that serves its node.
        notes += (
            f"Calico {installation.version_text or 'of unknown version'} cannot keep a pool for "
            "pods that name it (v3.30 can): other pods that start on the nodes under test "
            "meanwhile may get addresses of the run's pools, which then stay until those pods are "
            "gone; start none there",
        )
    return Decision(mode=mode, writer="dedicated-pool", group=installation.group, notes=notes)


def _edit_pool(installation: Installation, pool: IPPool, mode: CalicoMode) -> Decision:
    notes = _side_effects(installation, mode)
    if installation.operator_degraded and installation.install == "operator":
        raise ModeUnavailableError(
            "The operator's pools are degraded, so a change may not be applied or undone",
            found=installation.operator_degraded,
            remedy="Bring TigeraStatus 'ippools' back to Available first.",
        )
    if installation.install == "unknown" or (
        installation.install == "operator" and installation.version is None
    ):
        raise ModeUnavailableError(
            f"It is unknown who owns pool {pool.name}, so it is not changed",
            found="; ".join(f"{topic}: {why}" for topic, why in installation.unknown.items())
            or "the Installation names no version",
            remedy="Permit get on installations.operator.tigera.io and clusterinformations.",
        )
    if not installation.operator_reverts(pool):
        if not installation.v3_reachable:
            notes += ("the Calico API server is unreachable: written as crd.projectcalico.org/v1",)
        group = installation.group if installation.v3_reachable else V1
        return Decision(mode=mode, writer="ippool", group=group, pool=pool, notes=notes)
    if pool.cidr not in installation.operator_pools:
        raise ModeUnavailableError(
            f"Pool {pool.name} is labelled as the operator's, but no longer in its Installation",
            found="app.kubernetes.io/managed-by: tigera-operator",
            remedy="Name a pool of the Installation's list, or one that the operator does not own.",
        )
    carried = installation.shape == "C" or (
        installation.api_server_ready and installation.v3_reachable
    )
    if not carried:
        notes += ("the operator has no Calico API server, so the pool is written as well",)
    return Decision(
        mode=mode,
        writer="installation",
        group=installation.group if carried else V1,
        also_v1=not carried,
        pool=pool,
        notes=notes,
    )


def _side_effects(installation: Installation, mode: CalicoMode) -> tuple[str, ...]:
    notes = []
    if mode.family != "none" and mode.family not in installation.families():
        lost = installation.mtu_loss_bytes(mode)
        notes.append(
            f"{mode.family.upper()} gets enabled on every node: Felix restarts"
            + (f", and new pods get an MTU smaller by {lost} bytes" if lost else "")
        )
    for setting in (*installation.vxlan_enabled, *installation.ipip_enabled):
        if not setting.off:
            notes.append(f"{setting.where} is {setting.value}: its device stays in every mode")
    return tuple(notes)


def _named_pool(installation: Installation, name: str, mode: CalicoMode) -> IPPool:
    if name in installation.ipv6_pools:
        what = "IPIP does not carry IPv6" if mode.family == "ipip" else "the tests are IPv4 only"
        raise ModeUnavailableError(
            f"{mode} cannot be set on pool {name}: {what}",
            found=f"{name} is an IPv6 pool",
            remedy="Name an IPv4 pool in --k8snet-change=in-place:POOL.",
        )
    pool = installation.pool(name)
    if pool is None:
        if installation.pools_unread:
            raise ModeUnavailableError(
                f"It is unknown whether there is an IPPool {name!r}, so nothing is changed",
                found=installation.pools_unread,
                remedy="Permit list on ippools.",
            )
        # No mode can be had, and a run of skipped tests would pass.
        raise SettingsError(
            f"There is no IPPool {name!r} to change",
            found="pools: " + (", ".join(one.name for one in installation.pools) or "none"),
            remedy="Name one of them in --k8snet-change=in-place:POOL.",
        )
    if not pool.offers_pod_addresses:
        raise ModeUnavailableError(
            f"IPPool {name} gives no addresses to pods",
            found="disabled: true" if pool.disabled else f"allowedUses: {pool.allowed_uses}",
            remedy="Name another pool in --k8snet-change=in-place:POOL.",
        )
    if pool.both_families:
        raise ModeUnavailableError(
            f"IPPool {name} has both encapsulations, a state that could not be restored",
            found=f"ipipMode {pool.raw['spec']['ipipMode']}, "
            f"vxlanMode {pool.raw['spec']['vxlanMode']}",
            remedy="Set one of the two to Never first.",
        )
    return pool


# -- Preconditions: what makes a mode impossible, whatever may be changed -------------------------


def _require_calico_routing(installation: Installation) -> None:
    reason = ""
    if installation.shape is None:
        unknown = installation.unknown.get("APIService")
        reason = unknown or "no Calico API group is served"
    elif installation.datastore != "kubernetes":
        reason = (
            f"its datastore is {installation.datastore}, which the Kubernetes API does not show"
        )
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


def _require_no_wireguard(installation: Installation, nodes: Sequence[Node]) -> None:
    key = "projectcalico.org/WireguardPublicKey"
    keyed = [node.name for node in nodes if node.annotations.get(key)]
    if installation.wireguard and len(keyed) >= 2:
        raise ModeUnavailableError(
            "WireGuard carries the pods' traffic between these nodes, whatever the pool's mode",
            found=f"WireGuard is enabled and {', '.join(keyed)} have keys",
            remedy="Choose nodes without WireGuard, or disable it for the test.",
        )


def _require_finished_migration(installation: Installation) -> None:
    if installation.unfinished_migration:
        raise ModeUnavailableError(
            "Calico's datastore is being migrated, so it is open which pools count",
            found=f"DatastoreMigration {installation.unfinished_migration}",
            remedy="Finish or abort the migration first.",
        )


def _require_family_not_off(installation: Installation, mode: CalicoMode) -> None:
    settings: dict[str, tuple[FelixSetting, ...]] = {
        "vxlan": installation.vxlan_enabled,
        "ipip": installation.ipip_enabled,
    }
    for setting in settings.get(mode.family, ()):
        if setting.off:
            raise ModeUnavailableError(
                f"{mode} would be a black hole: Felix is configured to keep "
                f"{mode.family.upper()} off",
                found=f"{setting.where} is {setting.value}",
                remedy="Remove that setting, so that Felix follows the pools.",
            )


def _require_routable_mode(installation: Installation, mode: CalicoMode) -> None:
    if mode.family == "vxlan" and installation.ipam == "HostLocal":
        raise ModeUnavailableError(
            f"{mode} needs Calico IPAM",
            found="the IPAM plugin is host-local",
            remedy="Test IPIP modes or Never on this cluster.",
        )
    if mode.family == "ipip" and "azure" in installation.provider.split(","):
        raise ModeUnavailableError(
            f"{mode} cannot work here: Azure's underlay drops IP-in-IP",
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
    version = installation.version
    on = sorted(installation.families()) + (["wireguard"] if installation.wireguard else [])
    if version is None or version >= FELIX_OWNS_IPIP or not on:
        return ""
    return f"; {' and '.join(on)} enabled elsewhere, which bars it before v3.33"


# -- Preconditions of writing ---------------------------------------------------------------------


def _require_known_backend(installation: Installation) -> None:
    if installation.backend != "unknown":
        return
    where = " and ".join(DAEMON_NAMESPACES)
    unread = installation.unknown.get(DAEMON_TOPIC)
    raise ModeUnavailableError(
        "It is unknown whether Calico routes the pods, so nothing is changed",
        found=f"{DAEMON_TOPIC}: {unread}"
        if unread
        else f"no {DAEMON_TOPIC} with a known backend in {where}",
        remedy=f"Permit get on daemonsets.apps in {where}."
        if unread
        else "Go without --k8snet-change: modes that pools have already take no change.",
    )


def _require_no_windows(installation: Installation, mode: CalicoMode) -> None:
    windows = [node for node in installation.nodes if node.system == "windows"]
    if mode.family == "ipip" and windows:
        raise ModeUnavailableError(
            f"{mode} would cut off the pods on Windows nodes, where Calico has no IPIP",
            found=", ".join(node.name for node in windows),
            remedy="Test it with --k8snet-change=dedicated, which touches no other pods.",
        )


# No API shows whether the underlay routes pod addresses. What counts is which paths the pool rests
# on already, BGP with the network outside, or the user's word.

#: Providers whose network delivers nothing to addresses that it does not know, whatever BGP says.
_CLOUDS = ("azure", "gce", "aws")
_WHERE = {"same-subnet": "in one subnet", "cross-subnet": "between subnets"}


def _require_routed_pods(
    installation: Installation, pool: IPPool, mode: CalicoMode, original: CalicoMode
) -> None:
    """Refuse a flip that stops encapsulating where the pool has never shown that this works.

    All nodes of the cluster count, also those that cannot be under test: the flip hits them too.

    Args:
        installation: what the cluster runs.
        pool: the pool that would be flipped.
        mode: the mode that is wanted.
        original: the mode that the pool was in before the run.
    """
    found = "" if _learns_pods(installation) else _risk(installation, mode, original)
    if found:
        raise ModeUnavailableError(
            f"{mode} on pool {pool.name} could cut the pods of this cluster off from each other",
            found=found,
            remedy="Test the mode with --k8snet-change=dedicated, which touches no other pods, or "
            "confirm that the underlay delivers pod addresses between all nodes: pytest -o "
            "k8snet_fabric_routes_pods=true.",
        )


def _risk(installation: Installation, mode: CalicoMode, original: CalicoMode) -> str:
    newly_direct = [
        same_subnet
        for same_subnet in (False, True)
        if mode.path(same_subnet) == "direct" != original.path(same_subnet)
    ]
    if not newly_direct:
        return ""
    if "nodes" in installation.unknown:
        return f"which nodes there are is unknown: {installation.unknown['nodes']}"
    hops = (hop for same_subnet in newly_direct for hop in _hops(installation.nodes, same_subnet))
    hop = next(hops, None)
    if hop is None:
        return ""
    cloud = _cloud(installation)
    why = (
        f"the provider is {cloud}, whose underlay delivers no unknown addresses"
        if cloud
        else "nothing tells whether the underlay delivers pod addresses there"
    )
    return (
        f"{hop[0].name} -> {hop[1].name}, {_WHERE.get(placement(*hop), 'of an unknown subnet')}, "
        f"would go direct instead of by {original.family.upper()}, and {why}"
    )


def _hops(nodes: Sequence[Node], same_subnet: bool) -> Iterator[tuple[Node, Node]]:
    """Senders and receivers; one sender stands for all with the same subnet."""
    senders: dict[IPv4Network | None, Node] = {}
    for node in nodes:
        senders.setdefault(node.interface.network if node.interface else None, node)
    for sender in senders.values():
        for receiver in nodes:
            if receiver is not sender and sender.same_subnet(receiver) is same_subnet:
                yield sender, receiver


def _learns_pods(installation: Installation) -> bool:
    """Whether the network outside learns by BGP where pods are, and can make use of it."""
    return installation.underlay_peering and not _cloud(installation)


def _cloud(installation: Installation) -> str:
    providers = installation.provider.split(",")
    return next((name for name in _CLOUDS if name in providers), "")
