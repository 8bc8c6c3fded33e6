"""What to write so that pods can be in a mode, or why it is refused. Pure.

First what makes the mode impossible (``refusals``), then what the strategy allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pytest_k8snet.calico.fabric import learns_pods, refuse_cut_off
from pytest_k8snet.calico.forecast import mtu_loss_bytes
from pytest_k8snet.calico.groups import V1, Group
from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.ippool import IPPool
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.refusals import refuse_impossible, refuse_unknown_routing
from pytest_k8snet.calico.version import MANUAL_ASSIGNMENT
from pytest_k8snet.errors import ModeUnavailableError, SettingsError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: What a run may change: nothing; pools of its own; the encapsulation of one named pool.
Strategy = Literal["none", "dedicated", "in-place"]
#: What is written: nothing, a pool of our own, an existing pool, or the operator's Installation.
Writer = Literal["nothing", "own-pool", "ippool", "installation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a mode is to be had.

    Attributes:
        writer: what is written.
        group: the group that pools are written through.
        also_v1: the v1 pool must be written beside the Installation, as nobody would carry the
            Installation's change over to it.
        pool: the existing pool that serves or is edited; None for a pool of our own.
        notes: what the plan and the report should say about it.
    """

    mode: CalicoMode
    writer: Writer
    group: Group | None
    also_v1: bool = False
    pool: IPPool | None = None
    notes: tuple[str, ...] = field(default=())


def decide(
    installation: Installation,
    *,
    strategy: Strategy,
    mode: CalicoMode,
    nodes: Sequence[Node],
    pool_name: str = "",
    original_mode: CalicoMode | None = None,
    fabric_routes_pods: bool = False,
) -> Decision:
    """Decide how pods on these nodes can be in a mode.

    Args:
        installation: what the cluster runs.
        strategy: what may be changed.
        mode: the mode that is wanted.
        nodes: the nodes under test.
        pool_name: the pool that ``in-place`` names.
        original_mode: the mode that this pool was in before the run; None if it is in it still.
        fabric_routes_pods: the user's word that the underlay delivers bare pod addresses between
            all nodes, which no API can tell.

    Raises:
        ModeUnavailableError: the cluster cannot have it, or may not be changed so.
        SettingsError: there is no pool of that name.
    """
    refuse_impossible(installation, mode, nodes)
    if strategy == "none":
        return _use_existing(installation, mode)
    refuse_unknown_routing(installation)
    if installation.group is None:  # refused above; said again for the type checker
        raise AssertionError("no Calico API group")
    if strategy == "dedicated":
        return Decision(
            mode=mode,
            writer="own-pool",
            group=installation.group,
            notes=_side_effects(installation, mode)
            + _fabric_note(installation, mode, nodes)
            + _strangers_note(installation),
        )
    pool = _named_pool(installation, pool_name, mode)
    _refuse_ipip_on_windows(installation, mode)
    if not fabric_routes_pods:
        refuse_cut_off(installation, pool, mode, original_mode or pool.mode)
    return _edit(installation, pool, mode)


def _use_existing(installation: Installation, mode: CalicoMode) -> Decision:
    candidates = [
        pool
        for pool in installation.pools
        if pool.mode is mode and pool.offers_pod_addresses and not pool.both_families
    ]
    if not candidates:
        present = sorted(
            f"{pool.name} ({pool.mode})" for pool in installation.pools if pool.offers_pod_addresses
        )
        raise ModeUnavailableError(
            f"No pool of this cluster is in mode {mode}, and nothing may be changed",
            found="pools: " + (", ".join(present) or "none that gives addresses to pods"),
            remedy="Allow pools of the run's own with --k8snet-change=dedicated, or the change of "
            "one pool with --k8snet-change=in-place:POOL.",
        )
    # A pool for all nodes serves any pair; then the name, so that every run takes the same.
    pool = min(candidates, key=lambda one: (one.node_selector != "all()", one.name))
    return Decision(mode=mode, writer="nothing", group=installation.group, pool=pool)


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


def _refuse_ipip_on_windows(installation: Installation, mode: CalicoMode) -> None:
    windows = [node for node in installation.nodes if node.system == "windows"]
    if mode.family == "ipip" and windows:
        raise ModeUnavailableError(
            f"{mode} would cut off the pods on Windows nodes, where Calico has no IPIP",
            found=", ".join(node.name for node in windows),
            remedy="Test it with --k8snet-change=dedicated, which touches no other pods.",
        )


def _edit(installation: Installation, pool: IPPool, mode: CalicoMode) -> Decision:
    notes = _side_effects(installation, mode)
    if installation.operator_degraded and installation.install == "operator":
        raise ModeUnavailableError(
            "The operator's pools are degraded, so a change may not be applied or undone",
            found=installation.operator_degraded,
            remedy="Bring TigeraStatus 'ippools' back to Available first.",
        )
    entry = installation.operator_entry(pool)
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
    if entry is None:
        raise ModeUnavailableError(
            f"Pool {pool.name} is labelled as the operator's, but no longer in its Installation",
            found="app.kubernetes.io/managed-by: tigera-operator",
            remedy="Name a pool of the Installation's list, or one that the operator doesn't own.",
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
        lost = mtu_loss_bytes(installation, [mode])
        notes.append(
            f"{mode.family.upper()} gets enabled on every node: Felix restarts"
            + (f", and new pods get an MTU smaller by {lost} bytes" if lost else "")
        )
    for setting in (*installation.vxlan_enabled, *installation.ipip_enabled):
        if not setting.off:
            notes.append(f"{setting.where} is {setting.value}: its device stays in every mode")
    return tuple(notes)


def _fabric_note(
    installation: Installation, mode: CalicoMode, nodes: Sequence[Node]
) -> tuple[str, ...]:
    if mode.family != "none":
        return ()
    subnets = {node.interface.network for node in nodes if node.interface is not None}
    if len(subnets) < 2 or learns_pods(installation):
        return ()
    return ("Never between different subnets works only if the underlay routes pod addresses",)


def _strangers_note(installation: Installation) -> tuple[str, ...]:
    """Before v3.30 every pod that names no pool may get an address of any that serves its node."""
    version = installation.version
    if version is not None and version >= MANUAL_ASSIGNMENT:
        return ()
    return (
        f"Calico {installation.version_text or 'of unknown version'} cannot keep a pool for pods "
        "that name it (v3.30 can): other pods that start on the nodes under test meanwhile may get "
        "addresses of the run's pools, which then stay until those pods are gone; start none there",
    )
