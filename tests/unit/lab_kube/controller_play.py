"""Controllers at play: a real store, the controllers, and a scene that waits for their doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.kube.services import ServiceAddresses
from pytest_k8snet.lab.kube.system import node_objects
from pytest_k8snet.lab.spec import LabSpec, study_nodes

SPEC = LabSpec(nodes=study_nodes())


def furnished_store() -> Store:
    """A store with two namespaces and the study's nodes."""
    made = Store()
    ServiceAddresses(made, SPEC).register()
    for name in ("default", "shop"):
        made.create("namespaces", {"metadata": {"name": name}})
    for node in node_objects(SPEC):
        made.create("nodes", node)
    return made


def play(store: Store, scene: Callable[[], Awaitable[None]], controllers: Iterable[Any]) -> None:
    """Run the scene while the controllers run."""

    async def main() -> None:
        tasks = [asyncio.create_task(controller.run()) for controller in controllers]
        try:
            async with asyncio.timeout(10):
                await scene()
        finally:
            for task in tasks:
                task.cancel()
        for end in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(end, asyncio.CancelledError), end

    asyncio.run(main())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0)
