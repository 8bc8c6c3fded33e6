"""Flipping one pool from mode to mode, and back again."""

from __future__ import annotations

from store_sessions import IPIP, VXLAN, VXLAN_CS, a_cluster, session

from pytest_k8snet.calico.detect import inspect


def test_a_mode_that_was_left_is_entered_anew() -> None:
    api = a_cluster("manifest-A")
    epochs = []
    with session(api, "in-place") as calico:
        for mode in (VXLAN, IPIP, VXLAN, VXLAN, VXLAN_CS, VXLAN):
            epochs.append(calico.enter(mode).epoch)
            assert inspect(api).pools[0].mode is mode
    assert epochs == [1, 2, 3, 3, 4, 5]
