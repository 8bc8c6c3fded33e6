"""Owners, selectors and readiness: what several controllers ask of an object. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_k8snet.lab.api.objects import Object, dig, name_of


def owner_reference(owner: Object) -> Object:
    """The entry of ``ownerReferences`` that makes ``owner`` the controller of an object."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_owned_by(obj: Object, owner: Object) -> bool:
    """Whether ``owner`` is among the object's owners."""
    uid = owner["metadata"]["uid"]
    return any(entry.get("uid") == uid for entry in dig(obj, "metadata.ownerReferences", []))


def selector_text(selector: Object) -> str:
    """A LabelSelector as the text of a query."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for entry in selector.get("matchExpressions") or []:
        key, values = entry["key"], ",".join(entry.get("values") or [])
        operator = entry["operator"]
        if operator in ("In", "NotIn"):
            parts.append(f"{key} {operator.lower()} ({values})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(parts)


def is_ready(pod: Object) -> bool:
    """Whether the pod's Ready condition holds."""
    return any(
        entry["type"] == "Ready" and entry["status"] == "True"
        for entry in dig(pod, "status.conditions", [])
    )


def living(objects: Iterable[Object]) -> list[Object]:
    """Those that are not marked for deletion."""
    return [obj for obj in objects if not dig(obj, "metadata.deletionTimestamp")]


def is_over(pod: Object) -> bool:
    """Whether all containers of the pod have ended for good."""
    return dig(pod, "status.phase") in ("Succeeded", "Failed")
