"""What Felix is configured to: FelixConfigurations of every scope, and calico-node's environment.

Pure. Felix takes each setting from the first of these that has it (``SourcesInDescendingOrder`` in
``felix/config/config_params.go``, v3.31): its environment, the FelixConfiguration of its node
(``node.NAME``), one whose nodeSelector selects the node (v3.32), ``default``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.installation import (
    CLUSTER_ROUTES,
    DAEMON_TOPIC,
    DEFAULT_VNI,
    FelixSetting,
    Installation,
)
from pytest_k8snet.calico.modes import Family
from pytest_k8snet.calico.selectors import SelectorError, selects
from pytest_k8snet.tools.capture import VXLAN_PORT

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Node

#: Fields whose variable is not ``FELIX_`` and the field's name (``confignamev1`` in
#: ``api/pkg/apis/projectcalico/v3/felixconfig.go``, v3.32).
_VARIABLES = {"ipipEnabled": "FELIX_IPINIPENABLED", "ipipMTU": "FELIX_IPINIPMTU"}
_MTUS = (
    *("mtuIfacePattern", "ipipMTU", "vxlanMTU", "vxlanMTUV6", "wireguardMTU", "wireguardMTUV6"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Felix:
    """Felix's explicit settings, wherever they are."""

    configs: Sequence[Mapping[str, Any]] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    nodes: Sequence[Node] = ()

    def configure(
        self, found: Installation, network: Mapping[str, Any], *, vpp: bool
    ) -> Installation:
        """Return an Installation with what Felix's settings decide.

        Args:
            found: what is known of it without them.
            network: ``spec.calicoNetwork`` of the operator's Installation; empty without one.
            vpp: whether VPP forwards in Linux's place, whatever Felix is configured to.
        """
        dataplane = self._dataplane()
        # The operator fills its default in, and Felix obeys its own configuration.
        own = dataplane == "eBPF" or (dataplane and not network.get("linuxDataplane"))
        return replace(
            found,
            vxlan_enabled=self.settings("vxlanEnabled"),
            ipip_enabled=self.settings("ipipEnabled"),
            felix_cluster_routes=self._cluster_routes(network),
            wireguard=self._on("wireguardEnabled"),
            wireguard_v6=self._on("wireguardEnabledV6"),
            # Manifests write a 0 where Felix is to derive it.
            mtu_settings=tuple(
                one for key in _MTUS for one in self.settings(key) if one.value != "0"
            ),
            vxlan_port=self._number("vxlanPort", VXLAN_PORT),
            vxlan_vni=self._number("vxlanVNI", DEFAULT_VNI),
            felix_trouble=dict(self._troubles()),
            dataplane=dataplane if own and not vpp else found.dataplane,
        )

    def settings(self, key: str) -> tuple[FelixSetting, ...]:
        """Return all values of a setting; the environment wins over every FelixConfiguration."""
        variable = _VARIABLES.get(key, f"FELIX_{key.upper()}")
        for name, value in self.environment.items():
            # Felix reads its variables in any case (``felix/config/env_var_loader.go``, v3.31).
            if name.upper() == variable and value:
                # A word that unsets what any FelixConfiguration says (``config_params.go``:772).
                found = FelixSetting(value=value, where=f"{variable} of {DAEMON_TOPIC}")
                return () if value.lower() == "none" else (found,)
        return tuple(
            FelixSetting(
                value=_as_text(config["spec"][key]),
                where=f"{key} of FelixConfiguration {config['metadata']['name']}",
            )
            for config in self.configs
            if (config.get("spec") or {}).get(key) is not None
        )

    def _on(self, key: str) -> bool:
        return any(not one.off for one in self.settings(key))

    def _of_each_node(self, key: str) -> dict[str, FelixSetting | None]:
        """The setting that each node's Felix has; None where nothing sets it."""
        found = self.settings(key)
        if not found or found[0].where.endswith(DAEMON_TOPIC):
            return {node.name: found[0] if found else None for node in self.nodes}
        at = {one.where.rpartition(" ")[2]: one for one in found}
        return {node.name: self._of_node(node, at) for node in self.nodes}

    def _of_node(self, node: Node, at: Mapping[str, FelixSetting]) -> FelixSetting | None:
        if own := at.get(f"node.{node.name}"):
            return own
        for config in self.configs:
            selector = (config.get("spec") or {}).get("nodeSelector")
            name = str(config["metadata"]["name"])
            if selector and name in at and _selects(str(selector), node):
                return at[name]
        return at.get("default")

    def _number(self, key: str, default: int) -> int:
        """The value that the nodes have; ``_troubles`` tells where they differ."""
        settings = self._of_each_node(key).values() if self.nodes else self.settings(key)
        texts = {one.value if one else str(default) for one in settings}
        try:
            # Felix reads hexadecimal numbers as well (``IntParam`` in ``param_types.go``).
            return int(texts.pop(), 0) if len(texts) == 1 else default
        except ValueError:
            return default

    def _troubles(self) -> Iterator[tuple[Family, str]]:
        """What of Felix's settings is not followed here, per family that it breaks."""
        alike: tuple[tuple[str, Family, str], ...] = (
            ("vxlanPort", "vxlan", "so they cannot hear"),
            ("vxlanVNI", "vxlan", "so they cannot hear"),
            ("programClusterRoutes", "none", "so routes come and go with the node"),
        )
        for key, family, why in alike:
            values = {
                name: one.value if one else "" for name, one in self._of_each_node(key).items()
            }
            if len(set(values.values())) > 1:
                told = ", ".join(f"{name} {value or 'default'}" for name, value in values.items())
                yield family, f"the nodes differ in Felix's {key}, {why}: {told}"
        for key, (family, wrong) in _UNFOLLOWED.items():
            for setting in self.settings(key):
                if wrong(setting):
                    yield family, f"{setting.where} is {setting.value}"

    def _cluster_routes(self, network: Mapping[str, Any]) -> str:
        """``programClusterRoutes``, as set here or by the operator; empty where unset."""
        for one in self.settings("programClusterRoutes"):
            # In any case, as Felix reads it (``OneofListParam`` in ``param_types.go``, v3.31).
            known = {name.lower(): name for name in CLUSTER_ROUTES}
            return known.get(one.value.lower(), one.value)
        told = str(network.get("clusterRoutingMode") or "")
        modes = {"Felix": "Enabled", "BIRD": "Disabled", "FelixIPIPOnly": "EnabledIPIPOnly"}
        return modes.get(told, told)

    def _dataplane(self) -> str:
        """The dataplane, where it is not the default."""
        if any(setting.off for setting in self.settings("useInternalDataplaneDriver")):
            return "VPP"
        if self._on("bpfEnabled"):
            return "eBPF"
        modes = self.settings("nftablesMode")
        return "nftables" if any(mode.value == "Enabled" for mode in modes) else ""


#: Settings under which routes or devices are not what proofs look for, and the family that it
#: concerns; "none" stands for all.
_UNFOLLOWED: Mapping[str, tuple[Family, Callable[[FelixSetting], bool]]] = {
    # The pods' own devices are told by their name.
    "interfacePrefix": ("none", lambda setting: "cali" not in setting.value.split(",")),
    # Felix then programs no routes.
    "routeSyncDisabled": ("none", lambda setting: not setting.off),
    # Felix's routes then lead to pods that run, and not to blocks (``felix/calc/
    # l3_route_resolver.go``, v3.28), so that an address without a pod says nothing of them.
    "routeSource": ("vxlan", lambda setting: setting.value != "CalicoIPAM"),
}


def _selects(selector: str, node: Node) -> bool:
    try:
        return selects(selector, node.labels)
    except SelectorError:
        return False


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
