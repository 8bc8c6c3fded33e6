from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cluster_shapes import cluster, installation_object, raw_pool
from players import MANAGED, Players
from store_api import StoreApi
from store_sessions import IPIP, VXLAN_CS, session

from pytest_k8snet.change.pools import write_installation_entry
from pytest_k8snet.errors import CalicoError, InvalidError, ModeUnavailableError
from pytest_k8snet.lab.api.status import StatusError

CIDR = "10.244.0.0/16"
INSTALLATIONS = "installations.operator.tigera.io"


def operated(encapsulation: str | None = "VXLANCrossSubnet") -> StoreApi:
    api = cluster(
        shape="B", install="operator", pools=(raw_pool(mode=VXLAN_CS, labels=dict(MANAGED)),)
    )
    api.create(
        "/apis/operator.tigera.io/v1/installations",
        installation_object(encapsulation=encapsulation),
    )
    return api


def entry(api: StoreApi) -> dict[str, Any]:
    (installation,) = api.store.list(INSTALLATIONS)
    found: dict[str, Any] = installation["spec"]["calicoNetwork"]["ipPools"][0]
    return found


def around_patches(api: StoreApi, before: Callable[[], None], *, times: int = 1) -> list[Any]:
    """Send every patch so often, each time after something else has happened."""
    real, sent = api.patch, []

    def patch(path: str, body: Any, **more: Any) -> dict[str, Any]:
        sent.append(body)
        for _ in range(times):
            before()
            answer = real(path, body, **more)
        return answer

    # Stands for the wire, where others write in between and answers get lost.
    api.patch = patch  # type: ignore[method-assign]
    return sent


@pytest.mark.parametrize(
    ("found", "wanted"), [("VXLANCrossSubnet", "IPIP"), (None, "IPIP"), ("IPIP", None)]
)
def test_a_patch_of_the_installation_that_is_sent_again_is_known_to_have_landed(
    found: str | None, wanted: str | None
) -> None:
    api = operated(found)
    sent = around_patches(api, lambda: None, times=2)
    write_installation_entry(api, CIDR, wanted, expected={found or "IPIP"})
    assert entry(api).get("encapsulation") == wanted
    assert len(sent) == 1


@pytest.mark.parametrize("found", ["VXLANCrossSubnet", None])
def test_a_value_that_others_write_meanwhile_is_left(
    found: str | None,
) -> None:
    api = operated(found)
    others = iter(["VXLAN"])

    def meanwhile() -> None:
        if value := next(others, None):
            api.store.mutate(
                INSTALLATIONS,
                "default",
                None,
                lambda one: one["spec"]["calicoNetwork"]["ipPools"][0].update(encapsulation=value),
            )

    sent = around_patches(api, meanwhile)
    with pytest.raises(CalicoError, match="that is not written over") as caught:
        write_installation_entry(api, CIDR, "None", expected={found or "IPIP"})
    assert f"encapsulation VXLAN, expected {found or 'IPIP'}" in caught.value.found
    assert entry(api)["encapsulation"] == "VXLAN"
    assert len(sent) == 1


def refuse(new: dict[str, Any], old: dict[str, Any] | None) -> None:
    raise StatusError(422, "Invalid", "spec.calicoNetwork: bgp must be Enabled for IPIP")


@pytest.mark.parametrize("found", ["VXLANCrossSubnet", None])
def test_what_the_server_refuses_is_told_in_its_own_words_and_not_asked_for_again(
    found: str | None,
) -> None:
    api = operated(found)
    api.store.admission[INSTALLATIONS].append(refuse)
    sent = around_patches(api, lambda: None)
    with pytest.raises(InvalidError) as caught:
        write_installation_entry(api, CIDR, "IPIP", expected={found or "IPIP"})
    assert caught.value.found == "spec.calicoNetwork: bgp must be Enabled for IPIP"
    assert len(sent) == 1


def test_a_mode_that_the_installation_cannot_have_is_unavailable() -> None:
    api = operated()
    Players(api, operator=True)
    api.store.admission[INSTALLATIONS].append(refuse)
    with session(api, "in-place") as calico, pytest.raises(ModeUnavailableError) as caught:
        calico.enter(IPIP)
    assert "bgp must be Enabled for IPIP" in caught.value.found


def test_an_installation_that_others_keep_changing_is_given_up_with_the_last_answer() -> None:
    api = operated()
    values = iter(["IPIP", "VXLAN"] * 5)

    def meanwhile() -> None:
        value = next(values)
        api.store.mutate(
            INSTALLATIONS,
            "default",
            None,
            lambda one: one["spec"]["calicoNetwork"]["ipPools"][0].update(encapsulation=value),
        )

    around_patches(api, meanwhile)
    with pytest.raises(CalicoError) as caught:
        write_installation_entry(api, CIDR, "None", expected=None)
    assert caught.value.found.startswith("5 failed patches in a row, the last: ")
    assert "the API server refuses to patch installations" in caught.value.found
    assert "the server rejected our request due to an error in our request" in caught.value.found
