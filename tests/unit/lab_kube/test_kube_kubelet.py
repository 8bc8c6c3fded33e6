"""The kubelet against a real store: which pods it takes on, for how long, and what it survives.

The pods are on the host network and their image cannot be pulled: no namespace, no process is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from controller_play import SPEC, furnished_store, play, until

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.calico.ipam import Cni, Ipam
from pytest_k8snet.lab.dataplane.netns import DataplaneError
from pytest_k8snet.lab.kube import container as container_module
from pytest_k8snet.lab.kube.kubelet import Kit, Kubelet


class Door(asyncio.Semaphore):
    """Counts the sandboxes that are made, and breaks down once if asked to."""

    def __init__(self) -> None:
        super().__init__(8)
        self.passed = 0
        self.broken = False

    async def acquire(self) -> Any:
        if self.broken:
            self.broken = False
            raise RuntimeError("the door is stuck")
        self.passed += 1
        return await super().acquire()


@pytest.fixture(autouse=True)
def _pods_own_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A lab has a /run of its own; these tests have the machine's.
    monkeypatch.setattr(container_module, "PODS", tmp_path)


@pytest.fixture
def store() -> Store:
    return furnished_store()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def run(store: Store, door: Door) -> Callable[[Callable[[Kubelet], Any]], None]:
    """Runs a scene while a kubelet runs."""

    def start(scene: Callable[[Kubelet], Any]) -> None:
        cni = Cni(store, ipam=Ipam(store), pod_mtu=lambda _: 1500, route_metric=0, sysctls={})
        kubelet: list[Kubelet] = []

        class Component:
            async def run(self) -> None:
                kit = Kit(store=store, spec=SPEC, cni=cni, any_user=False, starting=door)
                kubelet.append(Kubelet(kit))
                await kubelet[0].run()

        async def with_kubelet() -> None:
            await until(lambda: bool(kubelet))
            await scene(kubelet[0])

        play(store, with_kubelet, [Component()])

    return start


def pod(name: str = "p", **meta: Any) -> Object:
    container = {"name": "c", "image": "registry.invalid/probe:1"}
    spec = {"containers": [container], "hostNetwork": True, "nodeName": "node1"}
    return {"metadata": {"name": name, **meta}, "spec": spec}


def names(store: Store) -> list[str]:
    return [found["metadata"]["name"] for found in store.list("pods")]


def has_failed_pull(store: Store, name: str = "p") -> bool:
    entry = dig(store.get("pods", name, "default"), "status.containerStatuses", [{}])[0]
    return bool(dig(entry, "state.waiting.reason") == "ErrImagePull")


async def settle() -> None:
    """Let everything that was set off come to its end."""
    for _ in range(100):
        await asyncio.sleep(0.001)


def test_a_deleted_pod_is_not_taken_on_again(store: Store, door: Door, run: Any) -> None:
    async def scene(kubelet: Kubelet) -> None:
        store.create("pods", pod())
        await until(lambda: has_failed_pull(store))
        assert kubelet.worker("default", "p")
        store.delete("pods", "p", "default")
        await until(lambda: not names(store))
        await settle()
        assert kubelet.worker("default", "p") is None

    run(scene)
    assert door.passed == 1


def test_a_pod_that_a_finalizer_holds_is_not_taken_on_again(
    store: Store, door: Door, run: Any
) -> None:
    async def scene(kubelet: Kubelet) -> None:
        store.create("pods", pod(finalizers=["example.org/hold"]))
        await until(lambda: has_failed_pull(store))
        store.delete("pods", "p", "default")
        await settle()
        assert names(store) == ["p"]
        store.patch("pods", "p", {"metadata": {"labels": {"a": "b"}}}, "merge", "default")
        await settle()
        store.patch("pods", "p", {"metadata": {"finalizers": None}}, "merge", "default")
        await until(lambda: not kubelet.worker("default", "p"))
        assert names(store) == []

    run(scene)
    assert door.passed == 1


def test_a_pod_that_is_deleted_before_its_turn_gets_no_sandbox(
    store: Store, door: Door, run: Any
) -> None:
    async def scene(kubelet: Kubelet) -> None:
        store.create("pods", pod())
        await until(lambda: has_failed_pull(store))
        # The first has not left its node yet when the second is made and deleted.
        store.delete("pods", "p", "default", grace_seconds=0)
        store.create("pods", pod())
        store.delete("pods", "p", "default")
        await until(lambda: not names(store))
        await settle()
        store.create("pods", pod())
        await until(lambda: has_failed_pull(store))

    run(scene)
    assert door.passed == 2


def test_trouble_of_one_pod_ends_neither_the_others_nor_the_lab(
    store: Store, door: Door, run: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scene(kubelet: Kubelet) -> None:
        door.broken = True
        store.create("pods", pod("broken"))
        await until(lambda: not door.broken)
        store.create("pods", pod("well"))
        await until(lambda: has_failed_pull(store, "well"))
        (event,) = (one for one in store.list("events") if one["reason"] == "FailedSync")
        assert event["involvedObject"]["name"] == "broken"
        assert event["message"] == (
            "Error syncing pod, skipping: RuntimeError('the door is stuck')"
        )
        # It stays for those who look, is not begun again, and can be deleted.
        store.patch("pods", "broken", {"metadata": {"labels": {"a": "b"}}}, "merge", "default")
        await settle()
        assert names(store) == ["broken", "well"]
        store.delete("pods", "broken", "default")
        await until(lambda: names(store) == ["well"])

    run(scene)
    assert capsys.readouterr().err == "kubelet: pod broken: RuntimeError('the door is stuck')\n"
    assert door.passed == 1


def test_a_pod_that_cannot_be_taken_down_at_first_goes_all_the_same(
    store: Store, run: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remove, calls = container_module.remove_sandbox, 0

    async def once_in_vain(pod: Object, *, cni: Cni) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise DataplaneError("ip could not program a network namespace of the lab")
        await remove(pod, cni=cni)

    # Only a kernel in trouble would keep a cable.
    monkeypatch.setattr(container_module, "remove_sandbox", once_in_vain)

    async def scene(kubelet: Kubelet) -> None:
        store.create("pods", pod())
        await until(lambda: has_failed_pull(store))
        store.delete("pods", "p", "default")
        await until(lambda: not names(store))

    run(scene)
    assert calls == 2
    assert capsys.readouterr().err == (
        "kubelet: pod p: ip could not program a network namespace of the lab\n"
    )
