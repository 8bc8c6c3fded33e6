"""Waiting until a check has no mismatch, and goes on having none for a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pytest_k8snet.causes import Cause, Evidence, causes_of
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
#: For how long evidence that waiting changes nothing must have been the only one, in seconds: nodes
#: of a recorded cluster (v3.33) had done everything within four.
HOPELESS_SECONDS = 20.0
#: How often it is looked at more closely meanwhile, in seconds.
_CLOSER_SECONDS = 5.0


def wait_until_good(
    check: Callable[[], Sequence[str]],
    *,
    what: str,
    timeout_seconds: float,
    stability_seconds: float | None = None,
    otherwise: Cause = Cause.CALICO_NODE,
    look_closer: Callable[[Sequence[str]], Sequence[str]] = lambda wrong: wrong,
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
        otherwise: what a time-out points to where the mismatches tell nothing.
        look_closer: asks more about mismatches that stay, and returns them with what they point to.
        clock: tells the time in seconds.
        sleep: waits.

    Raises:
        NotConvergedError: names what was expected and what was found last, and the cause that it
            points to. Before the time-out where waiting longer would change nothing.
    """
    begun = clock()
    pause = _FIRST_PAUSE_SECONDS
    good_since: float | None = None
    relapses = 0
    hopeless_since: float | None = None
    closer_at = begun + _CLOSER_SECONDS
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
        late = now - begun > timeout_seconds
        if mismatches and (late or now >= closer_at):
            mismatches = look_closer(mismatches)
            closer_at = clock() + _CLOSER_SECONDS
            hopeless_since = (hopeless_since or now) if _hopeless(mismatches) else None
        elif not mismatches:
            hopeless_since = None
        hopeless = hopeless_since is not None and now - hopeless_since >= HOPELESS_SECONDS
        if mismatches and (late or hopeless):
            raise NotConvergedError(
                f"{what}: not there after {timeout_seconds if late else now - begun:.3g} s",
                found="\n".join(mismatches),
                remedy=(*causes_of(mismatches), otherwise)[0].remedy,
            )
        if relapses and now - begun > 2 * timeout_seconds:
            raise NotConvergedError(
                f"{what}: it was there, but did not stay",
                found=f"good and bad again {relapses} times in {now - begun:.0f} s",
                remedy=otherwise.remedy,
            )
        sleep(pause)
        pause = min(_LONGEST_PAUSE_SECONDS, pause * _BACKOFF)


def _hopeless(mismatches: Sequence[str]) -> bool:
    """Whether nothing is wrong that waiting could still change."""
    known = causes_of(mismatches)
    told = all(isinstance(one, Evidence) for one in mismatches)
    # Routes follow devices.
    return (
        told
        and any(one.final for one in known)
        and all(one.final or one is Cause.NO_ROUTE for one in known)
    )


def _mismatches(check: Callable[[], Sequence[str]]) -> Sequence[str]:
    try:
        return check()
    except (ToolMissingError, ToolNotRunnableError):
        raise
    except (ExecError, ServerBusyError) as exc:
        # The way to a node, or to the Calico API server, whose pods are on the overlay themselves,
        # may be cut for the moment that the dataplane changes.
        return [f"{exc.problem}: {exc.found}" if exc.found else exc.problem]
