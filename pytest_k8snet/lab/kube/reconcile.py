"""How every controller here works: something changed, so look at all of it and put it right."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable, Iterable

from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.log import explain, log

_RETRY_SECONDS = 1.0


async def reconcile_on_change(
    store: Store, resources: Iterable[str], reconcile: Callable[[], Awaitable[None] | None]
) -> None:
    """Call ``reconcile`` now and after every change of these resources, for ever.

    Changes that come together, or while it works, cause one call. One that fails is told in the
    lab's log and comes again after a pause, or with the next change: no object may end the lab.
    """
    changed = asyncio.Event()

    async def follow(resource: str) -> None:
        async for _ in store.watch(resource):
            changed.set()

    told = ""
    async with asyncio.TaskGroup() as followers:
        for resource in resources:
            followers.create_task(follow(resource))
        while True:
            # Let those who are in the middle of several writes finish them.
            await asyncio.sleep(0)
            changed.clear()
            trouble = ""
            try:
                done = reconcile()
                if inspect.isawaitable(done):
                    await done
            except Exception as exc:
                trouble = explain(exc)
            # Once, however long it lasts: the log would hold nothing else.
            if trouble and trouble != told:
                log(f"{reconcile.__qualname__}: {trouble}")
            told = trouble
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_SECONDS if trouble else None):
                    await changed.wait()


def each_by_itself(steps: Iterable[Callable[[], object]]) -> None:
    """Take every step, whatever becomes of the others: one bad object must not hold up the rest.

    Raises:
        ExceptionGroup: what went wrong, after the last step.
    """
    troubles = []
    for step in steps:
        try:
            step()
        except Exception as exc:
            troubles.append(exc)
    if troubles:
        raise ExceptionGroup("not everything could be put right", troubles)
