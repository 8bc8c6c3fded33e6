"""What Felix is told explicitly: FelixConfigurations of every scope, and its environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.groups import Group
from pytest_k8snet.calico.installation import FelixSetting
from pytest_k8snet.calico.node_daemon import DaemonFacts
from pytest_k8snet.calico.reader import Reader

_MTU_VARIABLES = {
    "mtuIfacePattern": "FELIX_MTUIFACEPATTERN",
    "ipipMTU": "FELIX_IPINIPMTU",
    "vxlanMTU": "FELIX_VXLANMTU",
    "vxlanMTUV6": "FELIX_VXLANMTUV6",
    "wireguardMTU": "FELIX_WIREGUARDMTU",
    "wireguardMTUV6": "FELIX_WIREGUARDMTUV6",
}


class FelixFacts(TypedDict, total=False):
    """The fields of an Installation that Felix's settings decide."""

    vxlan_enabled: tuple[FelixSetting, ...]
    ipip_enabled: tuple[FelixSetting, ...]
    vxlan_port: int
    felix_cluster_routes: str
    wireguard: bool
    wireguard_v6: bool
    mtu_settings: tuple[FelixSetting, ...]
    dataplane: str


def felix_facts(
    reader: Reader,
    group: Group | None,
    daemon: DaemonFacts,
    operator: Mapping[str, Any] | None,
) -> FelixFacts:
    """Read every FelixConfiguration: ``default``, ``node.<name>`` and those with a selector."""
    if group is None:
        return {}
    configs = reader.list(groups.path(group, "felixconfigurations"), "FelixConfigurations") or []
    environment = daemon.environment
    facts: FelixFacts = {
        "vxlan_enabled": _explicit(configs, "vxlanEnabled", environment, "FELIX_VXLANENABLED"),
        "ipip_enabled": _explicit(configs, "ipipEnabled", environment, "FELIX_IPINIPENABLED"),
        "felix_cluster_routes": _routes(configs, environment, operator),
        "wireguard": _on(configs, "wireguardEnabled", environment, "FELIX_WIREGUARDENABLED"),
        "wireguard_v6": _on(configs, "wireguardEnabledV6", environment, "FELIX_WIREGUARDENABLEDV6"),
        "mtu_settings": tuple(
            setting
            for key, variable in _MTU_VARIABLES.items()
            for setting in _explicit(configs, key, environment, variable)
            # Manifests write a 0 where Felix is to derive it.
            if setting.value != "0"
        ),
    }
    ports = _explicit(configs, "vxlanPort", environment, "FELIX_VXLANPORT")
    if ports and ports[0].value.isdecimal():
        facts["vxlan_port"] = int(ports[0].value)
    dataplane = _dataplane(configs, environment)
    told = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    if dataplane and not told.get("linuxDataplane") and not daemon.vpp:
        facts["dataplane"] = dataplane
    return facts


def _explicit(
    configs: list[dict[str, Any]], key: str, environment: Mapping[str, str], variable: str
) -> tuple[FelixSetting, ...]:
    if environment.get(variable):
        # The environment wins over every FelixConfiguration.
        return (
            FelixSetting(value=environment[variable], where=f"{variable} of DaemonSet calico-node"),
        )
    return tuple(
        FelixSetting(
            value=_as_text(config["spec"][key]),
            where=f"{key} of FelixConfiguration {config['metadata']['name']}",
        )
        for config in configs
        if (config.get("spec") or {}).get(key) is not None
    )


def _on(
    configs: list[dict[str, Any]], key: str, environment: Mapping[str, str], variable: str
) -> bool:
    return any(not one.off for one in _explicit(configs, key, environment, variable))


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _routes(
    configs: list[dict[str, Any]],
    environment: Mapping[str, str],
    operator: Mapping[str, Any] | None,
) -> str:
    settings = _explicit(configs, "programClusterRoutes", environment, "FELIX_PROGRAMCLUSTERROUTES")
    if settings:
        return settings[0].value
    network = ((operator or {}).get("spec") or {}).get("calicoNetwork") or {}
    routing = str(network.get("clusterRoutingMode") or "")
    return {"Felix": "Enabled", "BIRD": "Disabled", "FelixIPIPOnly": "EnabledIPIPOnly"}.get(
        routing, ""
    )


def _dataplane(configs: list[dict[str, Any]], environment: Mapping[str, str]) -> str:
    internal = _explicit(
        configs, "useInternalDataplaneDriver", environment, "FELIX_USEINTERNALDATAPLANEDRIVER"
    )
    if any(setting.off for setting in internal):
        return "VPP"
    if _on(configs, "bpfEnabled", environment, "FELIX_BPFENABLED"):
        return "eBPF"
    modes = _explicit(configs, "nftablesMode", environment, "FELIX_NFTABLESMODE")
    return "nftables" if any(mode.value == "Enabled" for mode in modes) else ""
