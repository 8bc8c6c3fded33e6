"""Signals while a cluster is put back: it takes seconds, and nothing must cut it short.

Knows signals and nothing of clusters.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts_held_back() -> Generator[None]:
    """Let the block come to its end whatever asks the process to end.

    One SIGINT passes without effect, as of an impatient key; the next one ends the block as ever.
    SIGTERM and SIGHUP are answered after the block, by whoever answered them before. Those that are
    ignored, or left to the kernel, stay so.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if callable(handler := signal.getsignal(number))
    }
    held: list[signal.Signals] = []

    def hold(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            signal.signal(number, before[signal.SIGINT])
        else:
            held.append(signal.Signals(number))

    for number in before:
        signal.signal(number, hold)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if held:
        before[held[0]](held[0], None)
