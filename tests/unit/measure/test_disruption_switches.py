"""Which change of the cluster's pools a mode's cost is the cost of."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from notebook import Notebook

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import ConnectError, NothingSwitchedError, PodError
from pytest_k8snet.measure.disruption import Switches

NEVER, VXLAN, IPIP = CalicoMode.NEVER, CalicoMode.VXLAN_ALWAYS, CalicoMode.IPIP_ALWAYS


class Calico:
    """A session with pools of its own, which makes those of the wanted modes at once."""

    change = SimpleNamespace(strategy="dedicated", pool="")

    def __init__(self, *wanted: CalicoMode) -> None:
        self._wanted = wanted
        self.made: set[CalicoMode] = set()
        self.broken = False

    def would_change(self, mode: CalicoMode) -> bool:
        return mode not in self.made

    def enter(self, mode: CalicoMode) -> None:
        if mode not in self.made:
            self.made |= {mode, *self._wanted}
        if self.broken:
            raise ConnectError("the API server is gone")


class Workspace:
    """A cluster whose client pod is in another trouble each time that it is asked anything."""

    web_image = "web"

    def __init__(self) -> None:
        self.api = self
        self._asked = 0

    def ensure_pods(self, wanted: Collection[Any]) -> list[Any]:
        return [SimpleNamespace(namespace="n", name="p", address="10.0.0.1") for _ in wanted]

    def exec(self, namespace: str, name: str, argv: Sequence[str], **limits: Any) -> Any:
        self._asked += 1
        raise PodError(f"trouble {self._asked}")


def switches(calico: Any) -> Switches:
    workspace: Any = Workspace()
    return Switches(calico, workspace, Notebook(), nodes=("node1", "node2"), watched=True)


def enter(watching: Switches, calico: Calico, mode: CalicoMode) -> None:
    with watching.entering(mode):
        calico.enter(mode)


def cost(watching: Switches, mode: CalicoMode) -> str:
    with pytest.raises(PodError) as caught:
        watching.cost(mode)
    return caught.value.problem


def test_pools_made_at_once_have_the_cost_of_their_own_change_and_of_no_later_one() -> None:
    calico = Calico(NEVER, VXLAN)
    watching = switches(calico)
    for mode in (NEVER, IPIP, VXLAN):
        enter(watching, calico, mode)
    assert [cost(watching, mode) for mode in (NEVER, VXLAN, IPIP)] == [
        "trouble 1",
        "trouble 1",
        "trouble 2",
    ]


def test_a_change_that_failed_halfway_is_what_led_to_the_modes_that_it_made() -> None:
    calico = Calico(NEVER, VXLAN)
    watching = switches(calico)
    calico.broken = True
    with pytest.raises(ConnectError):
        enter(watching, calico, NEVER)
    calico.broken = False
    enter(watching, calico, VXLAN)
    assert cost(watching, VXLAN) == "trouble 1"


def test_a_mode_that_no_change_led_to_has_no_cost() -> None:
    calico = Calico()
    calico.made.add(NEVER)
    watching = switches(calico)
    enter(watching, calico, IPIP)
    enter(watching, calico, NEVER)
    with pytest.raises(NothingSwitchedError, match="nothing was switched to get to Never"):
        watching.cost(NEVER)
