"""One promised figure: what was measured, what was promised, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure with its promise; ``holds`` says whether it is kept."""

    name: str
    measured: str
    promised: str
    holds: bool

    def __str__(self) -> str:
        word = "ok  " if self.holds else "MISS"
        return f"{word}  {self.name:<70} {self.measured:<26} {self.promised}"
