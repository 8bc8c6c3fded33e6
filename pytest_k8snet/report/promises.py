"""What plain asserts promise: figures that a test compared with a limit itself, without a gate.

A figure knows no sample, so it is found again among those of the test's samples, by its value to
the last bit. Pure but for reading the test's own source.
"""

from __future__ import annotations

import ast
import linecache
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from pytest_k8snet.report.model import BASELINE_SCENE, SWITCH_SCENE, Key, key_of
from pytest_k8snet.report.records import Record, mapping, real, usable, words
from pytest_k8snet.units import BitRate, Comparison, Ratio, Seconds
from pytest_k8snet.verdict.verdict import limit_text

_REFLECTED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CLAIM_LIMIT = 160


def promises(
    comparisons: Iterable[Comparison], records: Sequence[Record], *, passed: bool, mode: str = ""
) -> list[dict[str, Any]]:
    """Return what a test promised by asserts on figures, and what came of each.

    Args:
        comparisons: of figures, while the test ran.
        records: those made while it ran, and those of the run's switches.
        passed: whether it passed; a comparison that does not hold was no claim then.
        mode: that it ran in; empty for none.

    Returns:
        JSON-safe, in the order of the asserts; of one assert that ran several times, each.
    """
    samples = [one for one in records if one["kind"] == "sample" and usable(one)]
    switches = [_switch(one) for one in records if one["kind"] == "switch"]
    return [
        _promise(one, samples, switches, mode)
        for one in comparisons
        if (one.holds or not passed) and _asserted(one.file, one.line) and _is_limit(one)
    ]


def _is_limit(one: Comparison) -> bool:
    """Return whether it promises anything: that a figure is above zero is no more than sense."""
    low = _REFLECTED[one.relation] if one.left == 0 else one.relation
    zero = one.left == 0 or one.right == 0
    return math.isfinite(one.left) and math.isfinite(one.right) and (not zero or low[0] == "<")


def _switch(record: Record) -> Record:
    """Return what a switch cost as if it were a sample, without an id as it is none."""
    gap = real(record.get("longest_gap_seconds"))
    figures = {} if gap is None else {"longest_gap_seconds": gap}
    return {"scene": SWITCH_SCENE, "mode": record.get("mode"), "tool": "", "figures": figures}


def _promise(
    one: Comparison, samples: Sequence[Record], switches: Sequence[Record] = (), mode: str = ""
) -> dict[str, Any]:
    value, relation, limit = one.left, one.relation, one.right
    known = [*switches, *samples]
    found = _found(value, known)
    if not found and _found(limit, known):
        value, relation, limit = limit, _REFLECTED[relation], value
        found = _found(value, known)
    used = [sample for sample, _ in found] or _only_place(samples)
    place: Mapping[str, Any] = used[0] if used else {}
    share = (value - limit) / abs(limit) if limit else None
    unit = "bit/s" if isinstance(value, BitRate) else "s" if isinstance(value, Seconds) else ""
    subject, written = _subject(found), _written(one)
    return {
        # As a gate would say it where the figure is known; it lasts when the test is rewritten.
        "claim": f"{subject} {relation} {limit_text(float(limit), unit)}" if subject else written,
        "written": written,
        "quantity": _quantity(value, found),
        "unit": unit,
        "relation": relation,
        "limit": float(limit),
        "estimate": float(value),
        "margin": share if share is None or relation[0] == ">" else -share,
        "state": "pass" if one.holds else "fail",
        "scene": place.get("scene", ""),
        "placement": place.get("placement", ""),
        # Making pools leads to several modes at once, and a computed figure is of the test's.
        "mode": place.get("mode") if "id" in place else mode or place.get("mode"),
        "baseline": found[1][0].get("scene") if len(found) > 1 else None,
        "samples": [sample["id"] for sample in used if "id" in sample],
        "line": one.line,
    }


def _found(value: float, samples: Sequence[Record]) -> list[tuple[Record, str]]:
    """Return the sample that a figure is of, with its name there; of a quotient, both."""
    of = value.of if isinstance(value, Ratio) else None
    found = [_sample_of(part, samples) for part in (of or (value,))]
    return [one for one in found if one is not None] if None not in found else []


def _sample_of(value: float, samples: Sequence[Record]) -> tuple[Record, str] | None:
    for sample in reversed(samples):
        for name, known in mapping(sample.get("figures")).items():
            if real(known) == float(value):
                return sample, name
        for name, known in mapping(sample.get("distribution")).items():
            if isinstance(known, list) and float(value) in known:
                return sample, name
    return None


def _only_place(samples: Sequence[Record]) -> list[Record]:
    """Return the samples that a computed figure is of: of the one place beside nodes, if it is."""
    places: dict[Key, list[Record]] = {}
    for one in samples:
        places.setdefault(key_of(one), []).append(one)
    measured = [key for key in places if key.scene != BASELINE_SCENE] or [*places]
    return places[measured[0]] if len(measured) == 1 else []


def _subject(found: Sequence[tuple[Record, str]]) -> str:
    """Return what a figure is of: ``pod-pod, same-subnet / node-node``, ``total p95 of pod-dns``.

    A test may compare the same on pairs that lie otherwise: each is a claim of its own. What a
    figure is divided by lies where the figure itself lies.
    """
    scenes = [words(sample.get("scene")) for sample, _ in found]
    if scenes:
        scenes[0] = replace(key_of(found[0][0]), variant="").row_text
    names = [_spoken(name) for _, name in found]
    if len(found) == 2:
        what = "" if names[0] == "bandwidth" else f"{names[0]} of "
        return f"{what}{scenes[0]} / {scenes[1]}"
    return f"{names[0]} of {scenes[0]}" if found else ""


def _spoken(name: str) -> str:
    for ending in ("_bits_per_second", "_seconds"):
        name = name.removesuffix(ending)
    return name.replace("_", " ")


def _quantity(value: float, found: Sequence[tuple[Record, str]]) -> str:
    ratio = isinstance(value, Ratio) and value.of is not None
    return f"{_spoken(found[0][1]) if found else ''}{' ratio' if ratio else ''}".strip()


# -- The test's source ----------------------------------------------------------------------------


def _written(one: Comparison) -> str:
    """Return the comparison as it is written, on one line."""
    statement = _statement(one.file, one.line)
    text = linecache.getline(one.file, one.line).strip()
    if statement is not None:
        lines = linecache.getlines(one.file)[statement.lineno - 1 : statement.end_lineno]
        text = " ".join(" ".join(lines).split())
        if isinstance(statement, ast.Assert):
            source = ast.get_source_segment("".join(linecache.getlines(one.file)), statement.test)
            text = " ".join((source or text).split())
    return text if len(text) <= _CLAIM_LIMIT else f"{text[:_CLAIM_LIMIT]} ..."


def _asserted(file: str, line: int) -> bool:
    """Return whether what is compared in a line is asserted: there, or later by its name."""
    statement = _statement(file, line)
    if isinstance(statement, ast.Assert):
        return not _negates(statement)
    if not isinstance(statement, ast.Assign):
        return False
    names = {target.id for target in statement.targets if isinstance(target, ast.Name)}
    return any(
        isinstance(node, ast.Assert)
        and not _negates(node)
        and names & {name.id for name in ast.walk(node.test) if isinstance(name, ast.Name)}
        for node in ast.walk(_tree(file))
    )


def _negates(node: ast.Assert) -> bool:
    return any(isinstance(part, ast.Not) for part in ast.walk(node.test))


def _statement(file: str, line: int) -> ast.stmt | None:
    """Return the innermost statement that a line belongs to."""
    around = [
        node
        for node in ast.walk(_tree(file))
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line)
    ]
    return max(around, key=lambda node: (node.lineno, node.col_offset), default=None)


@lru_cache(maxsize=8)
def _tree(file: str) -> ast.Module:
    try:
        return ast.parse("".join(linecache.getlines(file)))
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])
