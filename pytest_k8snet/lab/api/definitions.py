"""CustomResourceDefinitions of clients: the resources that they define, and their schemas."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pytest_k8snet.lab.api.objects import Object, clone, compact, dig, mapping
from pytest_k8snet.lab.api.resources import EVERY_VERB, Resource
from pytest_k8snet.lab.api.status import Cause

#: The storage key of the definitions.
CRDS = "customresourcedefinitions.apiextensions.k8s.io"


def key_of(definition: Object) -> str:
    """The storage key of what is defined."""
    spec = definition["spec"]
    return f"{spec['names']['plural']}.{spec['group']}"


def resources(definition: Object) -> list[Resource]:
    """The resource in each version that is served, the stored one first."""
    spec = definition["spec"]
    versions = sorted(spec["versions"], key=lambda version: not version.get("storage"))
    return [_resource(spec, version) for version in versions if version.get("served")]


def _resource(spec: Object, version: Object) -> Resource:
    names = spec["names"]
    return Resource(
        kind=names["kind"],
        plural=names["plural"],
        group=spec["group"],
        version=version["name"],
        namespaced=spec.get("scope") == "Namespaced",
        short_names=tuple(names.get("shortNames") or ()),
        subresources=("status",) if "status" in (version.get("subresources") or {}) else (),
        verbs=EVERY_VERB,
        in_all="all" in (names.get("categories") or ()),
        custom=True,
        key=f"{names['plural']}.{spec['group']}",
        columns=tuple(
            (str(column["name"]), str(column["jsonPath"]).lstrip("."))
            for column in version.get("additionalPrinterColumns") or ()
        ),
        schema=dig(version, "schema.openAPIV3Schema"),
    )


def complete(definition: Object) -> None:
    """Fill in what the API server knows of a new definition, in place."""
    spec = mapping(definition, "spec")
    names = mapping(spec, "names")
    kind = str(names.get("kind") or "")
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})


def faults(definition: Object) -> Iterator[Cause]:
    """What is wrong with a definition."""
    spec = definition.get("spec") or {}
    group, plural = str(spec.get("group") or ""), str(dig(spec, "names.plural", ""))
    if definition["metadata"].get("name") != f"{plural}.{group}":
        shown = json.dumps(definition["metadata"].get("name"))
        why = f'Invalid value: {shown}: must be spec.names.plural+"."+spec.group'
        yield Cause("FieldValueInvalid", "metadata.name", why)
    for path in ("group", "scope", "names.plural", "names.kind"):
        if not dig(spec, path):
            yield Cause("FieldValueRequired", f"spec.{path}", "Required value")
    versions = [one for one in spec.get("versions") or [] if isinstance(one, dict)]
    stored = [one for one in versions if one.get("storage")]
    if len(stored) != 1:
        why = "must have exactly one version marked as storage version"
        shown = compact(_in_go(versions))
        yield Cause("FieldValueInvalid", "spec.versions", f"Invalid value: {shown}: {why}")
    if not stored:
        why = "Invalid value: null: must have at least one stored version"
        yield Cause("FieldValueInvalid", "status.storedVersions", why)
    for index, version in enumerate(versions):
        if not dig(version, "schema.openAPIV3Schema"):
            where = f"spec.versions[{index}].schema.openAPIV3Schema"
            yield Cause("FieldValueRequired", where, "Required value")
        if not version.get("name"):
            yield Cause("FieldValueRequired", f"spec.versions[{index}].name", "Required value")
        for at, column in enumerate(version.get("additionalPrinterColumns") or ()):
            for field in ("name", "type", "jsonPath"):
                if not column.get(field):
                    where = f"spec.versions[{index}].additionalPrinterColumns[{at}].{field}"
                    yield Cause("FieldValueRequired", where, "Required value")


def _in_go(versions: list[Object]) -> list[Object]:
    """The versions as the API server holds them: what all have alike stands elsewhere."""
    apart = ("schema", "subresources", "additionalPrinterColumns", "selectableFields")
    alike = {key for key in apart if all(one.get(key) == versions[0].get(key) for one in versions)}
    return [
        {
            "Name": one.get("name", ""),
            "Served": bool(one.get("served")),
            "Storage": bool(one.get("storage")),
            "Deprecated": bool(one.get("deprecated")),
            "DeprecationWarning": one.get("deprecationWarning"),
            **{key[0].upper() + key[1:]: None if key in alike else one.get(key) for key in apart},
        }
        for one in versions
    ]


# -- Structural schemas ----------------------------------------------------------------------------
#
# Types, bounds, enumerations, patterns, defaults, and what is not specified. Rules
# (``x-kubernetes-validations``) and formats are not played.

_EMBEDDED = ("apiVersion", "kind", "metadata")


def prune(schema: Object, value: Any, path: str = "") -> Iterator[str]:
    """Take out of a value, in place, what its schema does not specify; the paths of that."""
    if isinstance(value, dict) and isinstance(schema.get("properties"), dict):
        for name in list(value):
            where = f"{path}.{name}" if path else name
            if name in schema["properties"]:
                yield from prune(schema["properties"][name], value[name], where)
            elif not schema.get("x-kubernetes-preserve-unknown-fields") and (
                path or name not in _EMBEDDED
            ):
                del value[name]
                yield where
    elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
        for name, item in value.items():
            yield from prune(schema["additionalProperties"], item, f"{path}.{name}")
    elif isinstance(value, dict) and path and not schema.get("additionalProperties"):
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            for name in list(value):
                del value[name]
                yield f"{path}.{name}"
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from prune(schema["items"], item, f"{path}[{index}]")


def set_defaults(schema: Object, value: Any) -> None:
    """Put in what a schema says for absent fields, in place."""
    if isinstance(value, dict):
        for name, inner in (schema.get("properties") or {}).items():
            if name not in value and "default" in inner:
                value[name] = clone(inner["default"])
            if name in value:
                set_defaults(inner, value[name])
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            set_defaults(schema["items"], item)


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
    "object": (dict,), "array": (list,),
}  # fmt: skip


def check(schema: Object, value: Any, path: str = "") -> Iterator[Cause]:
    """Where a value is not as its schema says."""
    wanted = schema.get("type")
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        wanted = "integer" if isinstance(value, int) else "string"
    if wanted in _TYPES and not _is_a(wanted, value):
        found = _type_of(value)
        why = f'{path} in body must be of type {wanted}: "{found}"'
        yield Cause("FieldValueTypeInvalid", path, f'Invalid value: "{found}": {why}')
        return
    if "enum" in schema and value not in schema["enum"]:
        listed = ", ".join(map(compact, schema["enum"]))
        text = f"Unsupported value: {compact(value)}: supported values: {listed}"
        yield Cause("FieldValueNotSupported", path, text)
    for why, shown in _out_of_bounds(schema, value):
        yield Cause("FieldValueInvalid", path, f"Invalid value: {shown}: {path} in body {why}")
    if isinstance(value, str) and len(value) > schema.get("maxLength", len(value)):
        text = f"Too long: may not be more than {schema['maxLength']} bytes"
        yield Cause("FieldValueTooLong", path, text)
    if isinstance(value, dict):
        for name in schema.get("required") or []:
            if name not in value:
                where = f"{path}.{name}" if path else name
                yield Cause("FieldValueRequired", where, "Required value")
        of_others = schema.get("additionalProperties")
        for name, item in value.items():
            inner = (schema.get("properties") or {}).get(name, of_others)
            if isinstance(inner, dict) and (path or name not in _EMBEDDED):
                yield from check(inner, item, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            yield from check(schema["items"], item, f"{path}[{index}]")


def _out_of_bounds(schema: Object, value: Any) -> Iterator[tuple[str, str]]:
    """Each bound that a value does not keep to, and how the value is shown."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"should be greater than or equal to {schema['minimum']}", compact(value)
        if "maximum" in schema and value > schema["maximum"]:
            yield f"should be less than or equal to {schema['maximum']}", compact(value)
    elif isinstance(value, str):
        if len(value) < schema.get("minLength", 0):
            yield f"should be at least {schema['minLength']} chars long", compact(value)
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"should match '{schema['pattern']}'", compact(value)
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield f"should have at least {schema['minItems']} items", str(len(value))
        if len(value) > schema.get("maxItems", len(value)):
            yield f"should have at most {schema['maxItems']} items", str(len(value))


def _is_a(wanted: str, value: Any) -> bool:
    if isinstance(value, bool):
        return wanted == "boolean"
    return isinstance(value, _TYPES[wanted])


def _type_of(value: Any) -> str:
    if value is None:
        return "null"
    return next(name for name in ("boolean", *_TYPES) if _is_a(name, value))
