"""Tells of every change to the cluster: what, on which object, from what to what, how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pytest_k8snet.errors import ApiError, ModeUnavailableError

#: From this HTTP status on, nobody knows whether the request had an effect.
_SERVER_TROUBLE = 500

#: Receives the fields of a "change" record.
OnChange = Callable[[dict[str, Any]], None]


class Changes:
    """The run's list of changes, told one by one as they happen.

    Attributes:
        told: every change so far, oldest first.
    """

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self.told: list[dict[str, Any]] = []

    def found_undone(self, what: str, *, object_path: str, after: object) -> None:
        """Tell that a change needs no undoing, if one was told; else it would look left behind.

        Args:
            what: how the object was found, in words.
            object_path: the object.
            after: what is there, JSON-safe.
        """
        states = [change["state"] for change in self.told if change["object"] == object_path]
        if states and states[-1] != "restored":
            self.note(what, object_path=object_path, there=after)

    def note(self, what: str, *, object_path: str, there: object = None) -> None:
        """Tell of an object that is left as it is.

        Args:
            what: why, in words.
            object_path: the object.
            there: what is there, JSON-safe.
        """
        with self.recording(
            what, object_path=object_path, before=there, after=there, state="restored"
        ):
            pass

    @contextmanager
    def recording(
        self,
        what: str,
        *,
        object_path: str,
        before: object,
        after: object,
        state: Literal["applied", "restored"] = "applied",
    ) -> Iterator[None]:
        """Do one change inside; it is told as ``failed`` if it raises.

        One that the API server refuses to apply is none, and is not told: there is nothing that
        would have to be taken back.

        Args:
            what: the change in words.
            object_path: the object, e.g. ``ippools/default-ipv4-ippool``.
            before: what was there, JSON-safe.
            after: what is wanted, JSON-safe.
            state: whether it applies a change or takes one back.
        """
        begun = time.monotonic()
        outcome: str = "failed"
        try:
            yield
            outcome = state
        except (ApiError, ModeUnavailableError) as exc:
            if state == "applied" and getattr(exc, "status", 0) < _SERVER_TROUBLE:
                outcome = ""
            raise
        finally:
            if outcome:
                change = {
                    "what": what,
                    "object": object_path,
                    "state": outcome,
                    "before": before,
                    "after": after,
                    "seconds": round(time.monotonic() - begun, 3),
                }
                self.told.append(change)
                self._on_change(change)
