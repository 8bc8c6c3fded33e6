"""The patches that change an object: merge (RFC 7386), JSON (RFC 6902), strategic merge."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, clone
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.schema import Field, field_of, json_type

MEDIA_TYPES = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}


def accepted_media_types(resource: Resource) -> list[str]:
    """The patch types that a resource takes: custom resources have no strategic merge."""
    return [
        media_type
        for media_type, kind in MEDIA_TYPES.items()
        if kind != "strategic" or not resource.custom or resource.aggregated
    ]


def apply(resource: Resource, obj: Object, patch: Any, kind: str) -> Object:
    """The object after the patch; the arguments stay as they are.

    Raises:
        StatusError: 400 for a patch that is malformed, 415 for a kind that the resource does not
            take, 422 for a JSON patch that cannot be applied.
    """
    if kind == "json":
        return _json_patch(obj, patch)
    if not isinstance(patch, dict):
        why = f"json: cannot unmarshal {json_type(patch)} into Go value of type"
        decoding = "" if kind == "strategic" else "error decoding patch: "
        raise status.bad_request(f"{decoding}{why} map[string]interface {{}}")
    if kind == "merge":
        merged: Object = merge(obj, patch)
        return merged
    if resource.custom and not resource.aggregated:
        raise status.unsupported_media_type(accepted_media_types(resource))
    return strategic_merge(obj, patch, resource.kind)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, everything else (lists too) replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


#: A JSON patch that fits no object, whatever the reason: Kubernetes does not tell it.
_UNPROCESSABLE = "the server rejected our request due to an error in our request"


def _json_patch(obj: Object, patch: Any) -> Object:
    if not isinstance(patch, list):
        raise status.bad_request(
            f"error decoding patch: json: cannot unmarshal {json_type(patch)} into Go value of type"
            " []handlers.jsonPatchOp"
        )
    for operation in patch:
        if not isinstance(operation, dict):
            raise status.bad_request(
                f"error decoding patch: json: cannot unmarshal {json_type(operation)} into Go value"
                " of type handlers.jsonPatchOp"
            )
        if operation.get("op") == "replace" and not str(operation.get("path"))[-1:].isdigit():
            # Kubernetes' library replaces what an object does not have, too.
            operation["op"] = "add"
    # Of the extra "lab": what lists the lab's options and faults has to do without.
    import jsonpatch
    from jsonpointer import JsonPointerException

    try:
        result = jsonpatch.JsonPatch(patch).apply(obj, in_place=False)
    except (
        jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError, AttributeError,
        ValueError, IndexError,
    ):  # fmt: skip
        raise status.StatusError(422, "Invalid", _UNPROCESSABLE, {}) from None
    if not isinstance(result, dict):
        raise status.StatusError(422, "Invalid", _UNPROCESSABLE, {})
    return result


# -- Strategic merge -------------------------------------------------------------------------------
#
# Objects merge field by field, keyed lists element by element, other lists are replaced.
# Directives: ``$patch: delete`` or ``replace`` (in an object or list element), ``$retainKeys``,
# ``$deleteFromPrimitiveList/FIELD`` and ``$setElementOrder/FIELD``.

_DELETE_FROM = "$deleteFromPrimitiveList/"
_SET_ORDER = "$setElementOrder/"


def strategic_merge(obj: Object, patch: Object, type_name: str) -> Object:
    """The object after the patch; both arguments stay as they are.

    Args:
        obj: the object as it is.
        patch: the patch document.
        type_name: the object's type in the table of kinds, e.g. ``Pod``. Within a type that the
            table does not know, objects merge and lists are replaced.

    Raises:
        StatusError: 400, the patch is not well formed.
    """
    directive = patch.get("$patch")
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: clone(value) for key, value in patch.items() if key != "$patch"}
    if directive not in (None, "merge"):
        why = f"unknown patch type: {_in_go(directive)} in map: {_in_go(patch)}"
        raise status.StatusError(500, "", why)
    result: Object = dict(obj)
    if "$retainKeys" in patch:
        result = {key: value for key, value in obj.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if key.startswith(_DELETE_FROM):
            name = key.removeprefix(_DELETE_FROM)
            result[name] = [item for item in result.get(name) or [] if item not in value]
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_field(result, key, value, field_of(type_name, key))
    for key, value in patch.items():
        if key.startswith(_SET_ORDER):
            name = key.removeprefix(_SET_ORDER)
            field = field_of(type_name, name)
            result[name] = _ordered(result.get(name) or [], value, obj.get(name) or [], field)
    return result


def _merge_field(result: Object, key: str, value: Any, field: Field | None) -> None:
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        present = result.get(key)
        nested = field.of if field and field.shape == "value" else "*"
        merged = strategic_merge(present if isinstance(present, dict) else {}, value, nested)
        if value.get("$patch") == "delete":
            result.pop(key, None)
        else:
            result[key] = merged
    elif isinstance(value, list) and field and field.merge_key:
        present = result.get(key)
        result[key] = _merge_list(present if isinstance(present, list) else [], value, field)
    else:
        result[key] = clone(value)


def _merge_list(present: list[Any], patch: list[Any], field: Field) -> list[Any]:
    if field.merge_key == "+":
        every = [*present, *(item for item in patch if item not in present)]
        return _ordered(every, patch, present, field)
    result = list(present)
    if {"$patch": "replace"} in patch:
        return [clone(item) for item in patch if item != {"$patch": "replace"}]
    for item in patch:
        if not isinstance(item, dict):
            why = f"expected a struct, but received a {json_type(item)}"
            raise status.StatusError(500, "", why)
        if field.merge_key not in item:
            why = f"map: {_in_go(item)} does not contain declared merge key: {field.merge_key}"
            raise status.StatusError(500, "", why)
        at = _index(result, field.merge_key, item[field.merge_key])
        if item.get("$patch") == "delete":
            if at is not None:
                del result[at]
        elif at is None:
            # Through the merge too: the patch may hold nulls and directives of its own.
            result.append(strategic_merge({}, item, field.of))
        else:
            result[at] = strategic_merge(result[at], item, field.of)
    named = [item for item in patch if "$patch" not in item]
    return _ordered(result, named, present, field)


def _in_go(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_in_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_in_go, value))}]"
    constants = {None: "<nil>", True: "true", False: "false"}
    return constants[value] if value is None or isinstance(value, bool) else str(value)


def _index(items: list[Any], key: str, value: Any) -> int | None:
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get(key) == value:
            return index
    return None


def _ordered(
    items: list[Any], order: list[Any], before: list[Any], field: Field | None
) -> list[Any]:
    """The items that a patch names in its order, the others where the list had them.

    As apimachinery's ``normalizeElementOrder`` has it: new items come before what follows them.
    """
    key = field.merge_key if field else ""
    if not key:
        return items

    def identity(item: Any) -> Any:
        return item.get(key) if isinstance(item, dict) and key != "+" else item

    wanted, known = [identity(item) for item in order], [identity(item) for item in before]
    named = [item for item in items if identity(item) in wanted]
    named.sort(key=lambda item: wanted.index(identity(item)))
    others, found = [item for item in items if identity(item) not in wanted], []
    while named and others:
        places = [
            known.index(identity(one)) if identity(one) in known else -1
            for one in (others[0], named[0])
        ]
        found.append((others if 0 <= places[0] < places[1] else named).pop(0))
    return [*found, *named, *others]
