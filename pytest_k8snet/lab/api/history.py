"""What happened to the objects of one resource: the events since a version, and who waits for more.

Pure bookkeeping on one event loop; the store writes, watches read.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from pytest_k8snet.lab.api.objects import Object

EventType = Literal["ADDED", "MODIFIED", "DELETED"]

#: How many events of one resource are remembered; a watch from further back gets 410. Each holds an
#: object: they are most of what a lab grows by while it is used, 4 MB for as many of pods.
REMEMBERED_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One change. The objects are shared snapshots: readers copy before they change anything.

    Attributes:
        type: what happened.
        version: the store's resourceVersion after it.
        object: the object after the change; for DELETED its last state, with the new version.
        previous: the object before the change, None for ADDED.
    """

    type: EventType
    version: int
    object: Object
    previous: Object | None


class History:
    """The recent events of one resource, and the queues of those who watch it."""

    def __init__(self, *, limit: int = REMEMBERED_EVENTS) -> None:
        self._events: deque[Event] = deque(maxlen=limit)
        self._forgotten = 0
        self._queues: set[asyncio.Queue[Event]] = set()

    @property
    def forgotten(self) -> int:
        """The version of the newest event that is no longer remembered; 0 when all are."""
        return self._forgotten

    @property
    def watchers(self) -> int:
        """How many watches wait for events."""
        return len(self._queues)

    def append(self, event: Event) -> None:
        """Remember one event and hand it to everyone who watches."""
        if len(self._events) == self._events.maxlen:
            self._forgotten = self._events[0].version
        self._events.append(event)
        for queue in self._queues:
            queue.put_nowait(event)

    def since(self, version: int) -> list[Event]:
        """The remembered events after a version, oldest first."""
        return [event for event in self._events if event.version > version]

    @contextmanager
    def subscription(self) -> Iterator[asyncio.Queue[Event]]:
        """A queue that receives every event from now on, until the context ends."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
