"""Waiting until a check has no mismatch, and goes on having none for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytest_k8snet.cluster.api_errors import ServerBusyError
from pytest_k8snet.errors import (
    ExecError,
    NotConvergedError,
    ToolMissingError,
    ToolNotRunnableError,
)

#: How often the state is looked at: at first nearly at once, later once a second, in seconds.
_FIRST_PAUSE_SECONDS = 0.03
_LONGEST_PAUSE_SECONDS = 1.0
_BACKOFF = 1.4
#: Bounds of the window in which a state must stay good, in seconds.
SHORTEST_WINDOW_SECONDS = 0.25
LONGEST_WINDOW_SECONDS = 10.0


def wait_until_good(
    check: Callable[[], Sequence[str]],
    *,
    what: str,
    timeout_seconds: float,
    stability_seconds: float | None = None,
    remedy: str = "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until ``check`` returns no mismatch, and none for a window after that.

    Felix may restart a second time right after the first, so being good once proves nothing. The
    window is in proportion to what the cluster took: twice the time until the state was first
    good, within bounds. A fast dataplane is not held up by what a slow one needs.

    Args:
        check: looks at the state; returns what is still wrong, in words.
        what: what is waited for, for the message.
        timeout_seconds: for all of it.
        stability_seconds: the window, if it is to be another.
        remedy: what to do about a time-out.
        clock: tells the time in seconds.
        sleep: waits.

    Raises:
        NotConvergedError: names what was expected and what was found last.
    """
    begun = clock()
    pause = _FIRST_PAUSE_SECONDS
    good_since: float | None = None
    relapses = 0
    while True:
        # A state counts from when it was asked for: how long the answer takes is no matter of it.
        asked = clock()
        mismatches = _mismatches(check)
        now = clock()
        if mismatches:
            relapses += good_since is not None
            good_since = None
        elif good_since is None:
            good_since = asked
            pause = _FIRST_PAUSE_SECONDS
        if good_since is not None:
            window = (
                min(
                    LONGEST_WINDOW_SECONDS,
                    max(SHORTEST_WINDOW_SECONDS, 2 * (good_since - begun)),
                )
                if stability_seconds is None
                else stability_seconds
            )
            if now - good_since >= window:
                return
        # A state that is good is not cut short in its window; one that is bad is.
        if mismatches and now - begun > timeout_seconds:
            raise NotConvergedError(
                f"{what}: not there after {timeout_seconds:g} s",
                found="\n".join(mismatches),
                remedy=remedy,
            )
        if relapses and now - begun > 2 * timeout_seconds:
            raise NotConvergedError(
                f"{what}: it was there, but did not stay",
                found=f"good and bad again {relapses} times in {now - begun:.0f} s",
                remedy=remedy,
            )
        sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * _BACKOFF)


def _mismatches(check: Callable[[], Sequence[str]]) -> Sequence[str]:
    try:
        return check()
    except (ToolMissingError, ToolNotRunnableError):
        raise
    except (ExecError, ServerBusyError) as exc:
        # The way to a node, or to the Calico API server, whose pods are on the overlay themselves,
        # may be cut for the moment that the dataplane changes.
        return [f"{exc.problem}: {exc.found}" if exc.found else exc.problem]
