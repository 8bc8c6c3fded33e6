"""Whom the measuring tells what it does: the report's side of the wire, seen from below."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Observer(Protocol):
    """Receives records and progress. Called between samples only, never during one."""

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        """Keep one record; returns it completed (schema, run, time, test, id)."""
        ...

    def started(self, text: str, seconds: float) -> None:
        """Something that takes about this long begins."""
        ...

    def finished(self) -> None:
        """It has ended, whatever the outcome."""
        ...
