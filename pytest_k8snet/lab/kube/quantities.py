"""Kubernetes quantities as numbers: ``250m``, ``64Mi``, ``2``. Pure."""

from __future__ import annotations

_SUFFIXES = {
    "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip


def parse_quantity(text: object) -> float:
    """The number; ValueError when it is none."""
    word = str(text).strip()
    for suffix in sorted(_SUFFIXES, key=len, reverse=True):
        if word.endswith(suffix):
            return float(word.removesuffix(suffix)) * _SUFFIXES[suffix]
    return float(word)
