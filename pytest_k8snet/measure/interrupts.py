"""Ctrl-C while a cluster is put back: it takes seconds, and an impatient key must not cut it short.

Knows signals and nothing of clusters.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def first_interrupt_held_back() -> Generator[None]:
    """Let one SIGINT within the block pass without effect; the next one ends it as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    if not callable(before):
        # Ignored (a background job of a shell), or left to the kernel.
        yield
        return

    def pass_once(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, pass_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
