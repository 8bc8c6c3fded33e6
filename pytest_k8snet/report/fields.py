"""Reads fields of records that may be absent, null or of a wrong type: a report never dies of one.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_k8snet.report.model import Key, PathTally
from pytest_k8snet.report.record import Record
from pytest_k8snet.units import BitRate


def real(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def whole(value: object) -> int | None:
    """A whole number, or None."""
    number = real(value)
    return int(number) if number is not None and number.is_integer() else None


def reals(value: object) -> list[float]:
    """The finite numbers of a list."""
    if not isinstance(value, list):
        return []
    return [number for item in value if (number := real(item)) is not None]


def mapping(value: object) -> Mapping[str, Any]:
    """An object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def words(value: object) -> str:
    """A text; null is empty, anything else is its ``str``."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def figure(sample: Record, name: str) -> float | None:
    """One figure of a sample."""
    return real(mapping(sample.get("figures")).get(name))


def key_of(sample: Record) -> Key:
    """The cell that a sample belongs to."""
    return Key(
        words(sample.get("scene")), words(sample.get("placement")), words(sample.get("mode"))
    )


def usable(sample: Record) -> bool:
    """Whether a sample is a figure: no error, no warm-up, and not discarded by a gate."""
    return not (sample.get("error") or sample.get("warmup") or sample.get("discarded"))


def failed(sample: Record) -> bool:
    """Whether a sample gave an error instead of a figure."""
    return bool(sample.get("error"))


def path_tally(samples: Iterable[Record]) -> PathTally:
    """Count the path proofs; a sample to a URL crosses no single path and has none."""
    counts = {"proven": 0, "contradicted": 0, "missing": 0}
    texts: dict[str, str] = {}
    for sample in samples:
        if sample.get("tool") == "curl" or sample.get("warmup"):
            continue
        path = mapping(sample.get("path"))
        if not path and failed(sample):
            continue
        state = words(path.get("state"))
        state = state if state in counts else "missing"
        counts[state] += 1
        texts.setdefault(state, words(path.get("text")))
    worst = next((state for state in ("contradicted", "missing", "proven") if counts[state]), "")
    return PathTally(**counts, text=texts.get(worst, ""))


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested facts as one level of text: ``{"nic": {"mtu": 1500}}`` is ``{"nic.mtu": "1500"}``."""
    found: dict[str, str] = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= flat(item, f"{prefix}{name}.")
        elif isinstance(item, list):
            found[prefix + name] = ", ".join(map(words, item))
        elif name.endswith("_bits_per_second") and (rate := real(item)) is not None:
            found[prefix + name] = str(BitRate(rate))
        else:
            found[prefix + name] = words(item)
    return found


def grouped(samples: Sequence[Record]) -> dict[Key, list[Record]]:
    """Samples by cell, in the study's order."""
    cells: dict[Key, list[Record]] = {}
    for sample in samples:
        cells.setdefault(key_of(sample), []).append(sample)
    return dict(sorted(cells.items(), key=lambda item: item[0].order))
