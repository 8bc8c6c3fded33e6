from __future__ import annotations

import pytest
from cluster_shapes import installation, pool

from pytest_k8snet.calico.forecast import Span, entering, mtu_loss_bytes, walk
from pytest_k8snet.calico.installation import FelixSetting
from pytest_k8snet.calico.modes import CalicoMode

NEVER = CalicoMode.NEVER
VXLAN, VXLAN_CS = CalicoMode.VXLAN_ALWAYS, CalicoMode.VXLAN_CROSS_SUBNET
IPIP, IPIP_CS = CalicoMode.IPIP_ALWAYS, CalicoMode.IPIP_CROSS_SUBNET


def test_the_window_is_in_proportion_within_its_bounds_or_as_the_user_says() -> None:
    assert entering(restarts=False, by_operator=False, stability_seconds=None) == Span(0.35, 6)
    assert entering(restarts=True, by_operator=False, stability_seconds=None) == Span(9, 25)
    assert entering(restarts=True, by_operator=True, stability_seconds=10) == Span(13.2, 30)


def tour(start: CalicoMode, *modes: CalicoMode, **found: object) -> tuple[int, int]:
    mine = pool(mode=start)
    cluster = installation(pools=(mine,), **found)
    told = walk(cluster, mine, modes, by_operator=False, stability_seconds=None)
    return told.switches, told.restarts


def test_a_walk_counts_its_way_back_and_no_switch_to_where_it_is() -> None:
    assert tour(NEVER, NEVER) == (0, 0)
    assert tour(NEVER, VXLAN_CS, VXLAN) == (3, 2)
    assert tour(VXLAN_CS, *CalicoMode) == (6, 3)
    assert tour(IPIP, IPIP_CS, IPIP) == (2, 0)


def test_a_family_that_stays_on_anyway_restarts_nothing() -> None:
    pinned = (FelixSetting(value="true", where="vxlanEnabled of FelixConfiguration default"),)
    assert tour(NEVER, VXLAN, vxlan_enabled=pinned) == (2, 0)


@pytest.mark.parametrize(
    ("present", "added", "found", "lost"),
    [
        (NEVER, [VXLAN, IPIP], {}, 50),
        (NEVER, [IPIP], {}, 20),
        (IPIP, [VXLAN], {}, 30),
        (VXLAN, [IPIP], {}, 0),
        (NEVER, [VXLAN], {"wireguard": True}, 0),
        (NEVER, [VXLAN], {"vxlan_v6": True}, 0),
        (NEVER, [VXLAN], {"mtu_bytes": 1440}, 0),
        (NEVER, [VXLAN], {"mtu_settings": (FelixSetting(value="1400", where="vxlanMTU"),)}, 0),
    ],
)
def test_new_pods_lose_what_the_largest_header_takes_more(
    present: CalicoMode, added: list[CalicoMode], found: dict[str, object], lost: int
) -> None:
    assert mtu_loss_bytes(installation(pools=(pool(mode=present),), **found), added) == lost
