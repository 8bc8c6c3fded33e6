"""An observer that keeps what it is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Notebook:
    """An observer that keeps its records, and numbers the samples."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []

    def record(self, kind: str, **content: Any) -> Mapping[str, Any]:
        record = {"kind": kind, "id": f"s{len(self.records):04}", **content}
        self.records.append(record)
        return record

    def hide(self, kind: str, *names: str) -> None:
        pass

    def started(self, text: str, seconds: float) -> None:
        """Show nothing."""

    def finished(self) -> None:
        """Show nothing."""
