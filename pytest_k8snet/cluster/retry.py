"""The only layer that repeats requests: which failures, for how long, with what pauses.

A request is repeated when it certainly had no effect, or when having it twice is having it once.
A conflict (409) is never repeated here: its cure is to read again, which only the caller can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pytest_k8snet.cluster.status import ServerBusyError
from pytest_k8snet.cluster.unreachable import UnreachableError

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

#: How long an unreachable or overloaded API server is asked again. A control-plane node that
#: restarts its API server, or a change of the overlay below it, takes this long at times.
PATIENCE_SECONDS = 30.0
#: A server that says "internal error" this often means it.
INTERNAL_ERROR_ATTEMPTS = 5
#: The longest pause that a server's Retry-After is granted.
RETRY_AFTER_LIMIT_SECONDS = 10.0

_SURELY_UNDONE = frozenset({429, 503})


def is_repeatable(error: BaseException, *, idempotent: bool) -> bool:
    """Whether a failed request may be sent again.

    Args:
        error: what the request ended with.
        idempotent: whether a second effect of the request is none.
    """
    if isinstance(error, UnreachableError):
        return idempotent or not error.sent
    if isinstance(error, ServerBusyError):
        return idempotent or error.status in _SURELY_UNDONE
    return False


def repeat(
    request: Callable[[], T],
    *,
    repeatable: Callable[[BaseException], bool],
    patience_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it works, it fails for good, or patience ends; then the last error is raised.

    Args:
        request: sends one request; called anew each time.
        repeatable: whether an error may go away.
        patience_seconds: how long to go on after the first try; 0 tries once.
        sleep: waits some seconds.
    """
    import tenacity

    backoff = tenacity.wait_exponential(multiplier=0.1, max=2.0) + tenacity.wait_random(0, 0.1)

    def wait(state: RetryCallState) -> float:
        error = _error(state)
        asked = (error.retry_after_seconds if isinstance(error, ServerBusyError) else None) or 0.0
        return max(backoff(state), min(asked, RETRY_AFTER_LIMIT_SECONDS))

    patience_ends = tenacity.stop_after_delay(patience_seconds)

    def stop(state: RetryCallState) -> bool:
        error = _error(state)
        if isinstance(error, ServerBusyError) and error.status == 500:
            return patience_ends(state) or state.attempt_number >= INTERNAL_ERROR_ATTEMPTS
        return patience_ends(state)

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(repeatable),
        wait=wait,
        stop=stop,
        sleep=sleep,
        reraise=True,
    )(request)


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome is not None else None
