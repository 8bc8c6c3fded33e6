"""What to write so that pods can be in a mode, or why it is refused. Pure.

First come the preconditions that no change of a pool can replace, then what the strategy allows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.installation import (
    BIRD_MAY_LEAVE_ROUTES,
    CLUSTER_ROUTES,
    DAEMON_NAMESPACES,
    DAEMON_TOPIC,
    FELIX_CLUSTER_ROUTES,
    FOLLOWS_POOLS,
    V1,
    ApiGroup,
    Installation,
    IPPool,
    owners_of,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.routing import (
    in_words,
    new_hops,
    newly_direct,
    only_by_bgp,
    overlay_limit,
    programmers,
    restarts,
    routes_unread,
    undistributed,
    with_pool,
    withdrawn,
)
from pytest_k8snet.change.addresses import (
    BLOCK_SIZE,
    exported,
    kept_from_routers,
    own_networks,
    require_calico_ipam,
    require_known_ipam,
)
from pytest_k8snet.errors import ModeUnavailableError, SettingsError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: What a run may change: nothing; pools of its own; the encapsulation of one named pool.
Strategy = Literal["none", "dedicated", "in-place"]
#: What is written: nothing, a dedicated pool, an existing pool, or the operator's Installation.
Writer = Literal["nothing", "dedicated-pool", "ippool", "installation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeSettings:
    """What the user allows, and how long it may take."""

    strategy: Strategy = "none"
    #: The pool that ``in-place`` flips.
    pool: str = ""
    #: Where pools of the run's own take their addresses from; None chooses a range.
    cidr: IPv4Network | None = None
    #: The user's word that the underlay routes pod addresses between all nodes, which no API shows.
    underlay_routes_pods: bool = False
    #: The user's word that objects may be changed in place which a GitOps controller or a package
    #: manager keeps as they are.
    despite_owners: bool = False
    #: Whether ``in-place`` tries each mode in a pool of the run's own first.
    prove_first: bool = True
    timeout_seconds: float = 180.0
    #: How long a mode must stay good; None: twice the time that it took to become good.
    stability_seconds: float | None = None

    @property
    def makes_pools(self) -> bool:
        """Whether pools of the run's own may be made, be it to try a mode in them only."""
        return self.strategy == "dedicated" or (self.strategy == "in-place" and self.prove_first)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a mode is to be had.

    Attributes:
        writer: what is written.
        group: the group that pools are written through.
        also_v1: the v1 pool must be written beside the Installation, as nobody would carry the
            Installation's change over to it.
        pool: the existing pool that serves or is edited; None for a dedicated pool.
        pools: those that serve, by node, where each rack has its own.
        notes: what the plan and the report should say about it.
    """

    mode: CalicoMode
    writer: Writer
    group: ApiGroup | None
    also_v1: bool = False
    pool: IPPool | None = None
    pools: Mapping[str, IPPool] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def decide(
    installation: Installation,
    change: ChangeSettings,
    *,
    mode: CalicoMode,
    nodes: Sequence[Node],
    original_mode: CalicoMode | None = None,
) -> Decision:
    """Decide how pods on these nodes can be in a mode.

    Args:
        installation: what the cluster runs.
        change: what may be changed.
        mode: the mode that is wanted.
        nodes: the nodes under test.
        original_mode: the mode that the pool to flip was in before the run; None if it is in it
            still.

    Raises:
        ModeUnavailableError: the cluster cannot have it, or may not be changed so.
        SettingsError: there is no pool of that name.
    """
    _require_calico_routing(installation, nodes)
    _require_no_wireguard(installation, nodes)
    _require_finished_migration(installation)
    _require_family_not_off(installation, mode)
    _require_followed_felix(installation, mode)
    _require_routable_mode(installation, mode)
    if change.strategy == "none":
        return _use_existing(installation, mode, nodes)
    _require_known_backend(installation)
    _require_read(installation, mode)
    _require_family_on(installation, mode)
    if change.strategy == "dedicated":
        return _add_pool(installation, mode, nodes, change.cidr)
    pool = _named_pool(installation, change.pool, mode)
    original = original_mode or pool.mode
    require_known_ipam(installation, mode)
    _require_no_windows(installation, pool, mode, original)
    _require_served(pool, nodes)
    if not change.despite_owners:
        _require_no_owner(installation, pool)
    if not change.underlay_routes_pods:
        _require_routed_pods(installation, pool, mode, original)
    _require_advertised(
        installation, mode, [pool.cidr], pool.block_size, concerned(installation, pool)
    )
    if change.prove_first:
        _require_provable(installation, pool, mode, original, nodes, change.cidr)
    return _edit_pool(installation, pool, mode)


def concerned(installation: Installation, pool: IPPool) -> list[Node]:
    """Return the nodes whose pods a change of the pool hits, also those not under test."""
    # Once: it looks at every node, of which there may be thousands.
    bare = installation.without_calico
    return [
        node
        for node in installation.nodes
        if node.system == "linux" and pool.serves(node.labels) and node.name not in bare
    ]


# -- What each strategy does ----------------------------------------------------------------------


def _use_existing(installation: Installation, mode: CalicoMode, nodes: Sequence[Node]) -> Decision:
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
    candidates.sort(key=lambda one: (one.node_selector != "all()", one.name))
    # Each end belongs in a pool that its own node uses: there may be one for each rack.
    pools = {
        node.name: pool
        for node in nodes
        if (pool := next((one for one in candidates if one.serves(node.labels)), None))
    }
    for node in nodes:
        if node.name not in pools:
            raise ModeUnavailableError(
                f"Node {node.name} uses no pool in mode {mode}, and nothing may be changed",
                found=", ".join(
                    f"{pool.name} ({pool.mode}) is for {pool.node_selector}" for pool in offered
                ),
                remedy="Choose nodes that use one with --k8snet-nodes, or allow pools of the run's "
                "own with --k8snet-change=dedicated.",
            )
    if not routes_unread(installation, mode):
        for pool in {pool.name: pool for pool in pools.values()}.values():
            _require_advertised(
                installation, mode, [pool.cidr], pool.block_size, nodes, writes=False
            )
    first = pools[nodes[0].name] if nodes else candidates[0]
    return Decision(mode=mode, writer="nothing", group=installation.group, pool=first, pools=pools)


def _add_pool(
    installation: Installation,
    mode: CalicoMode,
    nodes: Sequence[Node],
    within: IPv4Network | None,
) -> Decision:
    if installation.pools_unread:
        raise ModeUnavailableError(
            "It is unknown which pools there are, so nothing is changed",
            found=installation.pools_unread,
            remedy="Permit list on ippools.",
        )
    require_calico_ipam(installation, nodes)
    networks = own_networks(installation, nodes, within)
    _require_advertised(installation, mode, networks, BLOCK_SIZE, nodes)
    after = with_pool(installation, mode)
    _require_no_withdrawal(installation, after, mode)
    notes = _side_effects(installation, after, mode)
    subnets = {node.interface.network for node in nodes if node.interface is not None}
    if mode.family == "none" and len(subnets) > 1:
        notes += (
            "Never between different subnets works only if the underlay routes pod addresses"
            + kept_from_routers(installation, networks, BLOCK_SIZE),
        )
    if not installation.keeps_pools:
        # Every pod that names no pool may get an address of any that serves its node.
        notes += (
            f"Calico {installation.version_text or 'of unknown version'} cannot keep a pool for "
            "pods that name it (v3.30 can): other pods that start on the nodes under test "
            "meanwhile may get addresses of the run's pools, which then stay until those pods are "
            "gone; start none there",
        )
        outside = [
            one.name
            for one in installation.nodes
            if one.system == "linux" and one.name not in {node.name for node in nodes}
        ]
        if mode.family == "vxlan" and "vxlan" not in installation.families() and outside:
            notes += (
                f"the run's pools serve the nodes under test only, so {_some(outside)} get no "
                f"VXLAN tunnel: what runs there, such as CoreDNS or a Service's pods, cannot "
                "answer pods in VXLAN modes",
            )
    return Decision(
        mode=mode,
        writer="dedicated-pool",
        group=installation.group,
        notes=(*notes, *exported(installation, mode, networks)),
    )


def _some(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _edit_pool(installation: Installation, pool: IPPool, mode: CalicoMode) -> Decision:
    after = installation.with_mode(pool.name, mode)
    _require_no_withdrawal(installation, after, mode)
    if pool.raw.get("spec", {}).get("disableBGPExport") and "BIRD" in programmers(after, mode):
        raise ModeUnavailableError(
            f"{mode} on pool {pool.name} would have no routes: BGP tells nobody of its blocks",
            found=f"disableBGPExport of IPPool {pool.name} is true",
            remedy="Test the mode with --k8snet-change=dedicated.",
        )
    notes = _side_effects(installation, after, mode)
    if bare := installation.without_calico:
        notes += (
            f"left out: {_some(sorted(bare))}, where no annotation tells of a calico-node, so that "
            f"pool {pool.name} has no pods there",
        )
    unread = installation.unknown.get("TigeraStatus", "")
    if installation.install == "operator" and (installation.operator_degraded or unread):
        are = "are" if installation.operator_degraded else "may be"
        raise ModeUnavailableError(
            f"The operator's pools {are} degraded, so a change may not be applied or undone",
            found=installation.operator_degraded or unread,
            remedy="Bring TigeraStatus 'ippools' back to Available first, and permit get on it.",
        )
    if installation.owner_unknown:
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
    if not pool.operator_owned:
        _require_equal_entry(pool, installation.operator_pools[pool.cidr])
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


def _side_effects(
    installation: Installation, after: Installation, mode: CalicoMode
) -> tuple[str, ...]:
    notes = []
    for reason in restarts(installation, after):
        note = f"{reason} on every node: Felix restarts"
        lost = installation.mtu_overhead_bytes(mode) - installation.mtu_overhead_bytes()
        if lost and reason.startswith(mode.family.upper()):
            note += f", and new pods get an MTU smaller by {lost} bytes"
        if reason.startswith(("VXLAN", "IPIP")):
            # Its own tunnel address is configuration of Felix, which it restarts for.
            note += "; it restarts once more on a node whose tunnel address changes with it"
        notes.append(note)
    notes += [
        f"{setting.where} is {setting.value}: its device stays in every mode"
        for settings in installation.explicit.values()
        for setting in settings
        if not setting.off
    ]
    limits = installation.ipam_limits
    if limits is not None and limits.cooldown_seconds:
        notes.append(
            f"ipCooldownSeconds is {limits.cooldown_seconds}: addresses that pods have given back "
            "are not free before, and a pool of the run's own may take that long to go"
        )
    if "BIRD" in programmers(after, mode) and mode.family != "vxlan":
        notes += [f"a BGP session is not established: {one}" for one in installation.bgp.down]
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
            found=pool.closed,
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


def _require_calico_routing(installation: Installation, nodes: Sequence[Node]) -> None:
    reason, without_calico = installation.not_routing, installation.without_calico
    if installation.shape is None:
        reason = "no Calico API group is served"
    bare = [one.name for one in nodes if one.name in without_calico]
    unseen = f"no annotation of {', '.join(bare)} tells of a calico-node there" if bare else ""
    if bare and not reason and len(bare) < len(nodes):
        raise ModeUnavailableError(
            f"Calico does not route the pods of {', '.join(bare)}, so these have no modes to test",
            found=unseen,
            remedy="Choose other nodes by --k8snet-nodes, or wait for calico-node there.",
        )
    if reason := reason or unseen:
        raise ModeUnavailableError(
            "Calico does not route the pods here in Linux, so there are no modes to test",
            found=reason,
            remedy="Test without calico_mode on this cluster.",
        )


def _require_no_wireguard(installation: Installation, nodes: Sequence[Node]) -> None:
    key = "projectcalico.org/WireguardPublicKey"
    keyed = [node.name for node in nodes if node.annotations.get(key)]
    # Felix removes its key where WireGuard is off (``felix/wireguard/bootstrap.go``, v3.28:
    # removeWireguardPublicKey), so that keys tell where nothing else does.
    if (installation.wireguard or installation.unread) and len(keyed) >= 2:
        raise ModeUnavailableError(
            "WireGuard carries the pods' traffic between these nodes, whatever the pool's mode",
            found=f"{', '.join(keyed)} have keys, and "
            + ("WireGuard is enabled" if installation.wireguard else "whether it is on is unread"),
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
    for setting in installation.explicit.get(mode.family, ()):
        if setting.off:
            raise ModeUnavailableError(
                f"{mode} would be a black hole: Felix is configured to keep "
                f"{mode.family.upper()} off",
                found=f"{setting.where} is {setting.value}",
                remedy="Remove that setting, so that Felix follows the pools.",
            )


def _require_family_on(installation: Installation, mode: CalicoMode) -> None:
    """Refuse what an older Felix sets up only where its own configuration says so.

    Whoever makes such a pool by calicoctl or Calico's API server has that switched on as well, for
    good (``libcalico-go/lib/clientv3/ippool.go``, v3.22: maybeEnableIPIP, maybeEnableVXLAN).
    """
    version = installation.version
    if version is None or version >= FOLLOWS_POOLS or mode.family == "none":
        return
    if not installation.explicit[mode.family]:
        raise ModeUnavailableError(
            f"{mode} would be a black hole, or leave Felix changed for good: before v3.23 it has "
            f"{mode.family.upper()} only where its configuration says so",
            found=f"Calico {installation.version_text}, and no {mode.family}Enabled",
            remedy=f"Set {mode.family}Enabled: true in FelixConfiguration default, or test the "
            "modes that pools have already.",
        )


def _require_followed_felix(installation: Installation, mode: CalicoMode) -> None:
    trouble = installation.felix_trouble
    found = trouble.get(mode.family) or trouble.get("none")
    if found:
        raise ModeUnavailableError(
            f"{mode} cannot be told from others here: Felix is configured in a way that proofs of "
            "path do not follow",
            found=found,
            remedy="Test without calico_mode, or give Felix its default there.",
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
    if installation.backend == "unknown" or routes_unread(installation, mode):
        return
    if found := undistributed(installation, mode):
        raise ModeUnavailableError(
            f"{mode} has no routes here: the nodes do not tell each other by BGP where pods are",
            found=found,
            remedy="Test VXLAN modes, or switch the mesh on or add BGPPeers between the nodes.",
        )
    if programmers(installation, mode):
        return
    version = installation.version
    settings = f"programClusterRoutes {installation.felix_cluster_routes or 'unset'}"
    if installation.backend == "bird":
        settings += f", of BGPConfiguration {installation.bgp.programs_routes or 'unset'}"
    bgp = "BGP is disabled" if installation.backend == "vxlan" else "BIRD leaves them to Felix"
    raise ModeUnavailableError(
        f"{mode} has no routes here: {bgp} and Felix does not program them",
        found=f"backend {installation.backend}, Calico "
        f"{installation.version_text or 'of unknown version'}, {settings}"
        + (overlay_limit(installation) if mode.family == "none" else ""),
        remedy=(
            "Test VXLAN modes, or enable BGP."
            if version is None or version < FELIX_CLUSTER_ROUTES
            else "Test VXLAN modes, enable BGP, or set programClusterRoutes: Enabled in the "
            "FelixConfiguration (operator: clusterRoutingMode: Felix)."
        ),
    )


def _require_advertised(
    installation: Installation,
    mode: CalicoMode,
    networks: Sequence[IPv4Network],
    block_size: int,
    nodes: Sequence[Node],
    *,
    writes: bool = True,
) -> None:
    """Refuse a pool whose blocks the nodes do not learn; to write, they must be known to."""
    if not only_by_bgp(installation, mode):
        return
    for network in networks:
        unadvertised = installation.bgp.unadvertised(network, block_size, nodes)
        if unadvertised is not None and (unadvertised.known or writes):
            may = "has" if unadvertised.known else "may have"
            raise ModeUnavailableError(
                f"{mode} {may} no routes here: the nodes do not tell each other by BGP where pods "
                "are",
                found=unadvertised.reason,
                remedy="Test VXLAN modes, or have the filter accept these routes (pools of the "
                "run's own are in the range of k8snet_pool_cidr).",
            )


# -- Preconditions of writing ---------------------------------------------------------------------


def _require_known_backend(installation: Installation) -> None:
    if installation.backend != "unknown":
        return
    where = " and ".join(DAEMON_NAMESPACES)
    found = f"no {DAEMON_TOPIC} with a known backend in {where}"
    remedy = "Go without --k8snet-change: modes that pools have already take no change."
    if unread := installation.unknown.get(DAEMON_TOPIC):
        found, remedy = f"{DAEMON_TOPIC}: {unread}", f"Permit get on daemonsets.apps in {where}."
    raise ModeUnavailableError(
        "It is unknown whether Calico routes the pods, so nothing is changed",
        found=found,
        remedy=remedy,
    )


#: What a change rests on: what of it would be unknown, and the objects to permit reading of.
_NEEDED = {
    "FelixConfigurations": ("who programs the routes of {mode}", "list on felixconfigurations"),
    "BGPConfigurations": ("who programs the routes of {mode}", "list on bgpconfigurations"),
    "BGPPeers": ("who programs the routes of {mode}", "list on bgppeers"),
    "APIService": ("which of Calico's two API groups counts", "get on apiservices"),
    "DatastoreMigrations": ("which of Calico's two API groups counts", "list on those"),
}


def _require_read(installation: Installation, mode: CalicoMode) -> None:
    """Nothing is written on what could not be read."""
    for topic, (what, permission) in _NEEDED.items():
        if topic in installation.unknown and not (mode.family == "vxlan" and "BGP" in topic):
            raise ModeUnavailableError(
                f"It is unknown {what.format(mode=mode)}, so nothing is changed",
                found=f"{topic}: {installation.unknown[topic]}",
                remedy=f"Permit {permission} (docs/rbac.yaml: k8snet-measure).",
            )
    told = {installation.felix_cluster_routes, installation.bgp.programs_routes} - {""}
    if told and (installation.version is None or told - {*CLUSTER_ROUTES}):
        # Before v3.33 an encapsulation that appears may withdraw routes, and values are added.
        raise ModeUnavailableError(
            f"It is unknown who programs the routes of {mode}, so nothing is changed",
            found=f"programClusterRoutes {' and '.join(sorted(told))} of Calico "
            f"{installation.version_text or 'of unknown version'}",
            remedy="Permit get on clusterinformations, or test without --k8snet-change.",
        )
    for topic, why in installation.unknown.items():
        if topic.upper().startswith(("FELIX_", "CALICO_API_GROUP", "DATASTORE_TYPE")):
            raise ModeUnavailableError(
                "It is unknown what calico-node is configured to, so nothing is changed",
                found=f"{topic}: {why}",
                remedy=f"Give it a value in the {DAEMON_TOPIC} itself, or in calico-config.",
            )
    both = programmers(installation, mode)
    version = installation.version
    if len(both) > 1 and version is not None and version >= BIRD_MAY_LEAVE_ROUTES:
        raise ModeUnavailableError(
            f"Both Felix and BIRD program the routes of {mode}, and overwrite each other's",
            found="programClusterRoutes of FelixConfiguration is "
            f"{installation.felix_cluster_routes or 'unset'}, of BGPConfiguration "
            f"{installation.bgp.programs_routes or 'unset'}",
            remedy="Let one of the two leave them to the other.",
        )


def _require_no_withdrawal(
    installation: Installation, after: Installation, mode: CalicoMode
) -> None:
    lost = withdrawn(installation, after)
    if lost:
        pools = ", ".join(f"{pool.name} ({pool.mode})" for pool in lost)
        raise ModeUnavailableError(
            f"{mode} would take the routes from pools that are not under test: {pools}",
            found=f"Calico {installation.version_text}, backend {installation.backend}, "
            f"programClusterRoutes {installation.felix_cluster_routes}: before v3.33 Felix "
            "programs routes without encapsulation only while nothing is encapsulated anywhere",
            remedy="Test Never only here, or enable BGP.",
        )


def _require_served(pool: IPPool, nodes: Sequence[Node]) -> None:
    """Both ends of a pair have to be in the pool, or its two directions differ."""
    outside = [node.name for node in nodes if not pool.serves(node.labels)]
    if outside:
        raise ModeUnavailableError(
            f"IPPool {pool.name} is not for {', '.join(outside)}: pairs there cannot show a mode",
            found=f"nodeSelector: {pool.node_selector}",
            remedy="Choose nodes of that pool with --k8snet-nodes, or test with "
            "--k8snet-change=dedicated.",
        )


def _require_no_owner(installation: Installation, pool: IPPool) -> None:
    by_operator = installation.operator_reverts(pool)
    what = "the operator's Installation" if by_operator else f"IPPool {pool.name}"
    owners = installation.operator_owners if by_operator else owners_of(pool.raw)
    if owners:
        raise ModeUnavailableError(
            f"{what} is kept as it is by somebody else, who may undo a change at any moment",
            found="; ".join(owners),
            remedy="Test with --k8snet-change=dedicated, or have its reconciliation suspended and "
            "say so: pytest -o k8snet_change_owned=true.",
        )


def _require_equal_entry(pool: IPPool, entry: Mapping[str, Any]) -> None:
    """Refuse a pool that the operator would adopt as soon as a change makes it equal to its entry.

    It adopts an unlabelled pool that equals its entry field by field (``tigera/operator``,
    ``pkg/controller/ippool/pool_controller.go``, v1.34 to v1.44). A pool without encapsulation
    never does: there the conversion leaves the field empty, where the entry says None.
    """
    spec = pool.raw.get("spec") or {}
    has: dict[str, Any] = {
        "encapsulation": "" if pool.mode is CalicoMode.NEVER else pool.mode.encapsulation,
        "natOutgoing": "Enabled" if pool.nat_outgoing else "Disabled",
        "blockSize": spec.get("blockSize", 26),
        "nodeSelector": pool.node_selector,
        "disableBGPExport": bool(spec.get("disableBGPExport", False)),
        "disableNewAllocations": pool.disabled,
        "allowedUses": list(pool.allowed_uses),
        "assignmentMode": spec.get("assignmentMode") or "Automatic",
    }
    # The operator's defaults; the others are filled in from the pool's own.
    defaults = {
        **has,
        "encapsulation": CalicoMode.IPIP_ALWAYS.encapsulation,
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
    }
    for name, value in has.items():
        wanted = entry.get(name, defaults[name])
        if wanted != value:
            raise ModeUnavailableError(
                f"The operator does not own IPPool {pool.name}, and would adopt it as soon as it "
                "equals its entry in the Installation",
                found=f"no label app.kubernetes.io/managed-by: tigera-operator; {name} is "
                f"{value or 'unset'}, in the Installation {wanted}",
                remedy="Make the two equal, so that the operator owns the pool, or test with "
                "--k8snet-change=dedicated.",
            )


def _require_provable(
    installation: Installation,
    pool: IPPool,
    mode: CalicoMode,
    original: CalicoMode,
    nodes: Sequence[Node],
    within: IPv4Network | None,
) -> None:
    """Refuse a flip to what no pool of the run's own can prove before."""
    hit = concerned(installation, pool)
    unread = installation.unknown.get("nodes", "") if mode is not original else ""
    if not unread and next(new_hops(hit, mode, original), None) is None:
        return
    closed = [f"{node.name} ({node.trouble})" for node in hit if not node.usable]
    found = f"no pod of the run's can be put on {_some(closed)}" if closed else ""
    if unread:
        found = f"which nodes there are is unknown: {unread}"
    if not found:
        try:
            _add_pool(installation.with_mode(pool.name, original), mode, nodes, within)
        except ModeUnavailableError as exc:
            found = exc.brief
    if not found and mode.path(same_subnet=False) == "direct" != original.path(same_subnet=False):
        # A router that hears of the one and not of the other carries just the one.
        own = own_networks(installation, nodes, within)
        found = "; ".join(
            f"{peer.filter_names} lets BGPPeer {peer} hear of the run's own pools, and not "
            f"of {pool.cidr}"
            for peer in installation.bgp.peers_outside
            if peer.advertises(pool.cidr, pool.block_size) != "accepted"
            and any(peer.advertises(network, BLOCK_SIZE) != "rejected" for network in own)
        )
    if found:
        raise ModeUnavailableError(
            f"{mode} on pool {pool.name} cannot be proven before it hits every pod of the pool",
            found=found,
            remedy="Test the modes that pools have already, without --k8snet-change; or, where it "
            "is known that the mode works between all nodes: -o k8snet_prove_first=false.",
        )


def _require_no_windows(
    installation: Installation, pool: IPPool, mode: CalicoMode, original: CalicoMode
) -> None:
    """Refuse a flip that Windows nodes do not follow.

    They have neither IPIP nor CrossSubnet, and a network that is made for overlay or for BGP (
    ``CALICO_NETWORKING_BACKEND`` is ``vxlan`` or ``windows-bgp`` there; tigera/operator v1.40,
    ``pkg/controller/installation/validation.go`` and ``pkg/render/windows.go``).
    """
    windows = [
        node for node in installation.nodes if node.system == "windows" and pool.serves(node.labels)
    ]
    if windows and mode is not original:
        raise ModeUnavailableError(
            f"{mode} would cut off the pods on Windows nodes, which do not follow a pool's mode",
            found=", ".join(node.name for node in windows),
            remedy="Test it with --k8snet-change=dedicated, which touches no other pods.",
        )


# No API shows whether the underlay routes pod addresses: a router that peers may reject them, or
# be none of those on the way. What counts is which paths the pool rests on already, or the user's
# word.

#: Providers whose network delivers nothing to addresses that it does not know, whatever BGP says.
_CLOUDS = ("azure", "gce", "aws")


def _require_routed_pods(
    installation: Installation, pool: IPPool, mode: CalicoMode, original: CalicoMode
) -> None:
    """Refuse a flip that stops encapsulating where the pool has never shown that this works.

    All nodes of the cluster count, also those that cannot be under test: the flip hits them too.
    """
    hop = newly_direct(concerned(installation, pool), mode, original)
    if unread := installation.unknown.get("nodes"):
        if all(
            mode.path(same) != "direct" or original.path(same) == "direct" for same in (False, True)
        ):
            return
        found = f"which nodes there are is unknown: {unread}"
    elif hop is None:
        return
    else:
        providers = installation.provider.split(",")
        cloud = next((name for name in _CLOUDS if name in providers), "")
        found = (
            f"{in_words(hop)}, would go direct instead of by {original.family.upper()}, and "
            + (
                f"the provider is {cloud}, whose underlay delivers no unknown addresses"
                if cloud
                else "nothing tells whether the underlay delivers pod addresses there"
            )
        )
        if peers := installation.bgp.peers_outside:
            found += f"; that it peers with {', '.join(map(str, peers))} is no proof of that"
            found += kept_from_routers(installation, [pool.cidr], pool.block_size)
    raise ModeUnavailableError(
        f"{mode} on pool {pool.name} could cut the pods of this cluster off from each other",
        found=found,
        remedy="Test the mode with --k8snet-change=dedicated, which touches no other pods, or "
        "confirm that the underlay delivers pod addresses between all nodes: pytest -o "
        "k8snet_fabric_routes_pods=true.",
    )
