"""What the devices counted: each direction, at both of its nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernel_shapes import PAYLOAD, counted, snapshot
from path_proofs import DEVICE, NEVER, SENT, VXLAN, contradiction, proof

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.tools.tool import Payload

BACK = Payload(to_client_bytes=PAYLOAD, mss_bytes=1398)
BOTH = Payload(to_server_bytes=PAYLOAD, to_client_bytes=PAYLOAD, mss_bytes=1398)


@pytest.mark.parametrize("mode", [NEVER, VXLAN])
@pytest.mark.parametrize("transfer", [BACK, BOTH], ids=["reverse", "bidirectional"])
def test_payload_to_the_client_is_counted_on_its_own_way(
    mode: CalicoMode, transfer: Payload
) -> None:
    path = mode.path(same_subnet=True)
    before = snapshot(path)
    found = proof(mode, before, counted(before, DEVICE[path], there=SENT, back=SENT), transfer)
    assert found.state == "proven", found.text
    assert found.text.endswith(
        f"node2 -> node1 {path} by {DEVICE[path]}{'' if path == 'direct' else ' over eth0'}, "
        f"{PAYLOAD} bytes of payload counted"
    )
    part = counted(before, DEVICE[path], there=SENT, back=PAYLOAD // 2)
    assert contradiction(proof(mode, before, part, transfer)).splitlines() == [
        f"{DEVICE[path]} of {node} {way} only 5000000 bytes, of a payload of 10000000: the rest "
        "took another path"
        for node, way in (("node2", "sent"), ("node1", "received"))
    ]


def test_what_goes_direct_must_come_in_at_the_receivers_nic() -> None:
    before = snapshot("direct")
    after = counted(before, "eth0", there=SENT)
    deaf = replace(after, states={**after.states, "node2": before.states["node2"]})
    assert contradiction(proof(NEVER, before, deaf)) == (
        "eth0 of node2 received only 0 bytes, of a payload of 10000000: the rest took another path"
    )


def test_a_tunnel_that_was_not_there_before_the_sample_is_told() -> None:
    whole = snapshot("vxlan")
    states = dict(whole.states)
    for name, found in states.items():
        links = {device: one for device, one in found.links.items() if device != "vxlan.calico"}
        states[name] = replace(found, links=links)
    after = counted(whole, "vxlan.calico", there=SENT)
    text = contradiction(proof(VXLAN, replace(whole, states=states), after))
    for node in ("node1", "node2"):
        assert f"vxlan.calico of {node} was made anew during the sample" in text
