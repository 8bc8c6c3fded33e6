"""Follows a collection: listed once, then watched, so that a change is known when it happens.

Each watch lasts a few seconds and the next goes on where it ended: nothing hangs on a stream that
has silently died. Who may not watch polls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pytest_k8snet.errors import ApiError, ConnectError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api, Object, Objects

#: How long the first watch lasts, and the longest; who follows may look at the clock after each.
_FIRST_SECONDS, _LONGEST_SECONDS = 2, 4
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5


def follow(api: Api, path: str, *, labels: str = "", fields: str = "") -> Iterator[Objects]:
    """Yield what a collection holds: now, after each change, and every few seconds.

    Args:
        api: the cluster.
        path: the collection's path.
        labels: a label selector.
        fields: a field selector.

    Raises:
        ForbiddenError: the user may not list it.
        ConnectError: the server does not answer.
    """
    rest = pauses()
    may_watch = True
    while True:
        items, version = api.list_at(path, labels=labels, fields=fields)
        yield items
        if may_watch and version:
            known = {_uid(item): item for item in items}
            try:
                yield from _watched(api, path, labels, fields, known, version)
            except ConnectError:
                pass
            except ApiError as error:
                # 410: what has changed since is not remembered any more.
                may_watch = error.status == 410
        rest()


def _watched(
    api: Api, path: str, labels: str, fields: str, known: dict[str, Object], version: str
) -> Iterator[Objects]:
    seconds = _FIRST_SECONDS
    while True:
        for kind, item in api.watch(
            path, version=version, seconds=seconds, labels=labels, fields=fields
        ):
            version = str((item.get("metadata") or {}).get("resourceVersion") or version)
            if kind == "BOOKMARK":
                continue
            if kind == "DELETED":
                known.pop(_uid(item), None)
            else:
                known[_uid(item)] = item
            yield [*known.values()]
        yield [*known.values()]
        seconds = min(seconds * 2, _LONGEST_SECONDS)


def _uid(item: Object) -> str:
    metadata = item.get("metadata") or {}
    return str(metadata.get("uid") or metadata.get("name"))


def pauses(
    longest_seconds: float = _LONGEST_PAUSE_SECONDS,
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[], None]:
    """Make a function that sleeps, a little longer each time it is called."""
    pause = _FIRST_PAUSE_SECONDS

    def rest() -> None:
        nonlocal pause
        sleep(pause)
        pause = min(pause * 1.5, longest_seconds)

    return rest
