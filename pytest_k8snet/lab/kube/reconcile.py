"""How every controller here works: something changed, so look at all of it and put it right."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable

from pytest_k8snet.lab.api.store import StatusError, Store


async def reconcile_on_change(
    store: Store, resources: Iterable[str], reconcile: Callable[[], Awaitable[None] | None]
) -> None:
    """Call ``reconcile`` now and after every change of these resources, for ever.

    Changes that come together, or while it works, cause one call. Objects that vanish or change
    under a reconciliation (404, 409) are no trouble: their own event brings the next one.
    """
    changed = asyncio.Event()

    async def follow(resource: str) -> None:
        async for _ in store.watch(resource):
            changed.set()

    async with asyncio.TaskGroup() as followers:
        for resource in resources:
            followers.create_task(follow(resource))
        while True:
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            changed.clear()
            try:
                done = reconcile()
                if inspect.isawaitable(done):
                    await done
            except StatusError as exc:
                if exc.code not in (404, 409):
                    raise
            await changed.wait()
