from __future__ import annotations

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("Never", NEVER),
        ("none", NEVER),
        ("vxlan-always", VXLAN),
        ("VXLAN", VXLAN),
        ("VXLANCrossSubnet", VXLAN_CS),
        ("vxlan_cross-subnet", VXLAN_CS),
        (" IPIP/Always ", IPIP),
        ("IPIPCrossSubnet", IPIP_CS),
    ],
)
def test_a_mode_is_read_in_any_spelling_and_by_the_operators_names(
    text: str, mode: CalicoMode
) -> None:
    assert CalicoMode.parse(text) is mode


@pytest.mark.parametrize("mode", list(CalicoMode))
def test_every_mode_survives_its_name_its_fields_and_its_encapsulation(mode: CalicoMode) -> None:
    fields = mode.pool_fields
    assert CalicoMode.parse(str(mode)) is mode
    assert CalicoMode.of_pool(fields["ipipMode"], fields["vxlanMode"]) is mode
    assert CalicoMode.parse(mode.encapsulation) is mode


def test_an_unknown_mode_is_answered_with_the_valid_ones() -> None:
    with pytest.raises(SettingsError) as caught:
        CalicoMode.parse("geneve")
    assert str(caught.value) == (
        "There is no Calico mode 'geneve'\n"
        "  to do: Name one of Never, VXLAN-CrossSubnet, VXLAN-Always, IPIP-CrossSubnet, "
        "IPIP-Always."
    )


@pytest.mark.parametrize(
    ("mode", "near", "far"),
    [
        (NEVER, "direct", "direct"),
        (VXLAN_CS, "direct", "vxlan"),
        (VXLAN, "vxlan", "vxlan"),
        (IPIP_CS, "direct", "ipip"),
        (IPIP, "ipip", "ipip"),
    ],
)
def test_the_path_follows_from_mode_and_subnet(mode: CalicoMode, near: str, far: str) -> None:
    assert mode.path(same_subnet=True) == near
    assert mode.path(same_subnet=False) == far


@pytest.mark.parametrize(
    ("ipip", "vxlan", "mode"),
    [
        (None, None, NEVER),
        ("Never", "Never", NEVER),
        ("Always", None, IPIP),
        ("Always", "CrossSubnet", VXLAN_CS),
        ("always", "vxlan", NEVER),
    ],
)
def test_a_pools_fields_are_read_as_felix_reads_them(
    ipip: str | None, vxlan: str | None, mode: CalicoMode
) -> None:
    assert CalicoMode.of_pool(ipip, vxlan) is mode
