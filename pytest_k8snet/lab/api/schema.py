"""What the type table means: the fields of a type, and checking an object against it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pytest_k8snet.lab.api.kinds import TYPES
from pytest_k8snet.lab.api.objects import Object

_QUANTITY = re.compile(
    r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+|[numkMGTPE]|[KMGTPE]i)?$"
)

_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")

Shape = Literal["value", "map", "list", "inline"]


@dataclass(frozen=True, slots=True)
class Field:
    """The type of one field.

    Attributes:
        of: the type's letter or name: of the value, or of each element.
        shape: a single value, a map of them, a list of them, or another type's fields in place.
        merge_key: of a list that strategic merge patches element by element: the key, or ``+``
            for a set of strings; empty for a list that is replaced.
    """

    of: str
    shape: Shape = "value"
    merge_key: str = ""


@dataclass(frozen=True, slots=True)
class Type:
    """One type.

    Attributes:
        name: its name in the table.
        fields: its fields by name, those of inlined types among them.
        numbered: name and type by protobuf number, as encoded: an inlined type is one number.
        open: whether it may have fields that the table does not know.
    """

    name: str
    fields: Mapping[str, Field]
    numbered: Mapping[int, tuple[str, Field]]
    open: bool


@dataclass(frozen=True, slots=True)
class Problem:
    """What does not fit: an unknown field, or a value of the wrong type.

    Attributes:
        kind: which of the two.
        path: the field with list indices, ``spec.containers[0].image``.
        owner: the type that has the field, ``Container``.
        wanted: the type that belongs there, in Go's words; empty for an unknown field.
        found: the JSON type that is there instead.
    """

    kind: Literal["unknown", "type"]
    path: str
    owner: str
    wanted: str = ""
    found: str = ""


@cache
def types() -> Mapping[str, Type]:
    """Every type of the table by its name."""
    logical_lines = re.sub(r"\n +", " ", TYPES).splitlines()
    lines = dict(line.split(":", 1) for line in logical_lines if line.strip())
    return {name: _parse_type(name, lines) for name in lines}


def _parse_type(name: str, lines: Mapping[str, str]) -> Type:
    words = lines[name].split()
    fields: dict[str, Field] = {}
    numbered: dict[int, tuple[str, Field]] = {}
    number = 0
    for word in words:
        if word == "@":
            fields |= {"apiVersion": Field("s"), "kind": Field("s")}
        elif word.startswith("^"):
            number += 1
            numbered[number] = ("", Field(word[1:], "inline"))
            fields |= _parse_type(word[1:], lines).fields
        elif word == "-":
            number += 1
        elif word != "...":
            number += 1
            field_name, _, notation = word.partition(":")
            fields[field_name] = _parse_field(notation)
            numbered[number] = (field_name, fields[field_name])
    return Type(name, fields, numbered, open="..." in words)


def _parse_field(notation: str) -> Field:
    if notation.startswith("{"):
        return Field(notation[1:-1], "map")
    if notation.startswith("["):
        of, _, merge_key = notation[1:-1].partition("|")
        return Field(of, "list", merge_key)
    return Field(notation)


def field_of(type_name: str, name: str) -> Field | None:
    """The field of a type, or None where the table does not know it."""
    found = types().get(type_name)
    return found.fields.get(name) if found else None


def conform(kind: str, obj: Object) -> list[Problem]:
    """Make an object in place what decoding it into a Go type would: without unknown fields.

    Of a kind that the table does not know, only the metadata are seen to.

    Returns:
        What was removed, and what has the wrong type (that is left as it is).
    """
    if kind in types():
        return list(_conform_type(kind, obj, ""))
    return list(_conform_field(Field("ObjectMeta"), obj.get("metadata"), "metadata", kind))


def _conform_type(type_name: str, value: Object, path: str) -> Iterator[Problem]:
    known = types()[type_name]
    for name in list(value):
        field = known.fields.get(name)
        where = f"{path}.{name}" if path else name
        if field is not None:
            yield from _conform_field(field, value[name], where, type_name)
        elif not known.open:
            del value[name]
            yield Problem("unknown", where, type_name)


def _conform_field(field: Field, value: Any, path: str, owner: str) -> Iterator[Problem]:
    if value is None:
        return
    if field.shape == "value":
        yield from _conform_value(field.of, value, path, owner)
        return
    container, wanted = (list, "[]") if field.shape == "list" else (dict, "map[string]")
    if not isinstance(value, container):
        yield Problem("type", path, owner, wanted + _go_type(field.of), json_type(value))
        return
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        if value[key] is None:
            # To Go, null within a list or map is the zero of its type.
            value[key] = _zero(field.of)
        elif field.of == "q":
            value[key] = quantity(value[key])
        where = f"{path}[{key}]" if field.shape == "list" else path
        yield from _conform_value(field.of, value[key], where, owner)


def _zero(of: str) -> Any:
    return {"s": "", "x": "", "i": 0, "b": False, "q": "0", "*": None}.get(of, {})


def _conform_value(of: str, value: Any, path: str, owner: str) -> Iterator[Problem]:
    if of == "*":
        return
    if of in types() and isinstance(value, dict):
        yield from _conform_type(of, value, path)
    elif of in types() or not _is_a(of, value):
        yield Problem("type", path, owner, _go_type(of), json_type(value))


def _is_a(letter: str, value: Any) -> bool:
    whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
    text = isinstance(value, str)
    fits = {
        "s": text,
        "t": text and bool(_TIME.match(value)),
        "x": text,
        "i": whole,
        "b": isinstance(value, bool),
        "o": isinstance(value, dict),
        "is": whole or text,
        "q": text and bool(_QUANTITY.match(value)),
    }
    return fits[letter]


def quantity(value: Any) -> Any:
    """A quantity in the form that the API server keeps: a number becomes its text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return f"{round(value * 1000)}m" if isinstance(value, float) else value


def _go_type(of: str) -> str:
    letters = {
        "s": "string",
        "i": "int32",
        "b": "bool",
        "t": "v1.Time",
        "x": "[]uint8",
        "q": "resource.Quantity",
        "is": "intstr.IntOrString",
        "o": "v1.Object",
    }
    return letters.get(of, f"v1.{of}")


def json_type(value: Any) -> str:
    """The JSON type of a value, as Go's decoder names it."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"
