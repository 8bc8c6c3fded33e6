"""When the forwarder lets packets gather instead of being woken for each: interrupt moderation."""

from __future__ import annotations

import time
from collections.abc import Callable

_MODERATION_SECONDS = 0.0003
_MODERATION_WINDOW_SECONDS = 0.002
# A stream of 150 Mbit/s; requests one after the other stay far below.
_BUSY_PACKETS_PER_SECOND = 13000


class Moderation:
    """Interrupt moderation: under a stream of packets, looks for more only now and then.

    To be woken for every single packet costs more than to forward it. The few packets of a short
    request are never kept waiting.

    Attributes:
        packets: how many were forwarded since the last look at the clock.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.packets = 0
        self._clock = clock
        self._sleep = sleep
        self._since = clock()
        self._busy = False

    def pause(self) -> None:
        """Wait a little if there was much to do lately; call once per round."""
        now = self._clock()
        passed = now - self._since
        if passed >= _MODERATION_WINDOW_SECONDS:
            self._busy = self.packets >= passed * _BUSY_PACKETS_PER_SECOND
            self._since, self.packets = now, 0
        if self._busy:
            self._sleep(_MODERATION_SECONDS)
