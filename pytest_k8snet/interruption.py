"""Runs that are told to end: every signal that asks for it ends them with all teardowns."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType


@contextmanager
def signals_end_like_interrupt() -> Generator[None]:
    """Make SIGTERM and SIGHUP end the run as Ctrl-C does: pytest itself would skip every teardown.

    SIGHUP comes when the terminal or the ssh connection of a long run is gone.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        # A second signal must not cut the restoring short.
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt(f"signal {signal.Signals(signum).name}")

    previous = {
        number: signal.signal(number, interrupt)
        for number in (signal.SIGTERM, signal.SIGHUP)
        # Under nohup, a run goes on without its terminal.
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def drop_entries_without_line(traceback: TracebackType) -> None:
    """Take out of a traceback what has no line number.

    A signal may arrive between the instructions of two lines. Python then knows no line for the
    frame, and pytest's report of the interruption breaks on it: an internal error would stand where
    the run's end should be told, and the exit status would be another.
    """
    entry: TracebackType | None = traceback
    while entry is not None:
        # None, or -1 in early Python 3.11.
        while entry.tb_next is not None and (entry.tb_next.tb_lineno or -1) < 0:
            entry.tb_next = entry.tb_next.tb_next
        entry = entry.tb_next
