"""Judging a sample's path in one mode, for tests that bend what the nodes' kernels say."""

from __future__ import annotations

import pytest
from kernel_shapes import PAYLOAD, TRANSFER, counted, known_as

from pytest_k8snet.calico.installation import Installation
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.calico.path import PathProof, PathSnapshot, judge
from pytest_k8snet.errors import PathError
from pytest_k8snet.tools.tool import Payload

NEVER, VXLAN, IPIP = CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, CalicoMode.IPIP_ALWAYS
VXLAN_CS = CalicoMode.VXLAN_CROSS_SUBNET
SENT = int(PAYLOAD * 1.04)
DEVICE = {"direct": "eth0", "vxlan": "vxlan.calico", "ipip": "tunl0"}


def proof(
    mode: CalicoMode,
    before: PathSnapshot,
    after: PathSnapshot | None = None,
    transfer: Payload = TRANSFER,
    known: Installation | None = None,
) -> PathProof:
    """The judgement on a pair within a subnet, whose payload its mode's device carried."""
    path = mode.path(same_subnet=True)
    later = after or counted(before, DEVICE[path], there=SENT)
    return judge(mode, before, later, transfer, known or known_as(mode))


def contradiction(found: PathProof) -> str:
    """What a proof holds against its sample; it must hold something."""
    assert found.state == "contradicted", found.text
    with pytest.raises(PathError) as caught:
        found.require()
    assert caught.value.found == found.text
    return found.text
