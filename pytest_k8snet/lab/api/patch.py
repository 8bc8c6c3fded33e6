"""The patches that Kubernetes knows: merge (RFC 7386), JSON (RFC 6902), strategic merge, apply."""

from __future__ import annotations

from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, clone
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.strategic import strategic_merge

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
        if kind != "strategic" or not resource.custom
    ]


def apply(resource: Resource, obj: Object, patch: Any, kind: str) -> Object:
    """The object after the patch; the arguments stay as they are.

    Raises:
        StatusError: 400 for a patch that is malformed, 415 for a kind that the resource does not
            take, 422 for a JSON patch that cannot be applied.
    """
    if kind == "json":
        return _json_patch(resource, obj, patch)
    if not isinstance(patch, dict):
        raise status.bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type"
            " map[string]interface {}"
        )
    if kind == "merge" or (kind == "apply" and resource.custom):
        merged: Object = merge(obj, patch)
    elif resource.custom:
        raise status.unsupported_media_type(accepted_media_types(resource))
    else:
        merged = strategic_merge(obj, patch, resource.kind)
    if kind == "apply":
        # An apply configuration states intent, it does not lock: its own version, if any, is moot.
        merged["metadata"]["resourceVersion"] = obj["metadata"]["resourceVersion"]
    return merged


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


def _json_patch(resource: Resource, obj: Object, patch: Any) -> Object:
    if not isinstance(patch, list):
        raise status.bad_request(
            "error decoding patch: json: cannot unmarshal object into Go value of type"
            " jsonpatch.Patch"
        )
    name = str(obj["metadata"]["name"])
    try:
        result = jsonpatch.JsonPatch(patch).apply(obj, in_place=False)
    except jsonpatch.InvalidJsonPatch as error:
        raise status.bad_request(f"error decoding patch: {error}") from None
    except jsonpatch.JsonPatchTestFailed as error:
        raise _unprocessable(resource, name, f"testing failed: {error}") from None
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError) as error:
        raise _unprocessable(resource, name, str(error)) from None
    if not isinstance(result, dict):
        raise status.bad_request("error decoding patch: the result is not an object")
    return result


def _unprocessable(resource: Resource, name: str, why: str) -> status.StatusError:
    # Kubernetes answers a patch that does not fit with 422 but without naming a field.
    error = status.invalid(resource, name, [Cause("FieldValueInvalid", "patch", why)])
    error.message = f"the server rejected our request due to an error in our request: {why}"
    return error
