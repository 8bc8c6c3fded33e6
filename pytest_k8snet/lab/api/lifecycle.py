"""What the API server itself decides about an object: on creation, on update and on deletion.

Identity, versions, generations, grace periods and finalizers; for defaults and validation it calls
their modules. Pure: it changes the new object in place and never touches the stored one.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Sequence

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.defaults import keep_allocated, set_defaults
from pytest_k8snet.lab.api.objects import Object, clone, dig, metadata, name_of, timestamp
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.validation import check_new, check_update
from pytest_k8snet.lab.spec import CalicoSpec

#: A hook that sees an object before it is validated: ``hook(new, old)``, old None on creation.
Admission = Callable[[Object, Object | None], None]

# Kubernetes' alphabet for generated names: no vowels, so that no words appear.
_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"

_SET_BY_SERVER = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")


def prepare_create(
    resource: Resource, obj: Object, *, hooks: Sequence[Admission], calico: CalicoSpec
) -> None:
    """Make a new object ready to be stored.

    Raises:
        StatusError: 400 or 422.
    """
    meta = metadata(obj)
    if meta.get("resourceVersion"):
        raise status.bad_request("resourceVersion should not be set on objects to be created")
    obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
    if not meta.get("name") and meta.get("generateName"):
        suffix = "".join(secrets.choice(_NAME_ALPHABET) for _ in range(5))
        meta["name"] = f"{meta['generateName']}{suffix}"
    for key in (*_SET_BY_SERVER, "managedFields", "selfLink"):
        meta.pop(key, None)
    meta["uid"] = str(uuid.uuid4())
    meta["creationTimestamp"] = timestamp()
    if resource.counts_generations:
        meta["generation"] = 1
    # A node registers itself with its status; everything else begins without one.
    if resource.has_status and resource.key != "nodes":
        obj.pop("status", None)
    set_defaults(resource, obj)
    for hook in hooks:
        hook(obj, None)
    check_new(resource, obj, calico)


def prepare_update(
    resource: Resource,
    new: Object,
    old: Object,
    *,
    subresource: str,
    hooks: Sequence[Admission],
    calico: CalicoSpec,
) -> None:
    """Make the replacement of an object ready to be stored.

    Raises:
        StatusError: 409 for a stale version or another uid, 422 for what may not change.
    """
    meta, old_meta = metadata(new), old["metadata"]
    name = name_of(old)
    given = str(meta.get("resourceVersion") or "")
    if given and given != old_meta["resourceVersion"]:
        raise status.conflict(resource, name)
    if not given and resource.custom:
        cause = Cause(
            "FieldValueInvalid",
            "metadata.resourceVersion",
            "Invalid value: 0: must be specified for an update",
        )
        raise status.invalid(resource, name, [cause])
    uid = str(meta.get("uid") or old_meta["uid"])
    if uid != old_meta["uid"]:
        raise status.conflict(
            resource,
            name,
            f"Precondition failed: UID in precondition: {uid}, "
            f"UID in object meta: {old_meta['uid']}",
        )
    new["kind"], new["apiVersion"] = resource.kind, resource.api_version
    for key in (*_SET_BY_SERVER, "resourceVersion", "generation", "namespace"):
        if key in old_meta:
            meta[key] = clone(old_meta[key])
        else:
            meta.pop(key, None)
    meta.pop("managedFields", None)
    _keep_other_half(resource, new, old, subresource)
    if subresource != "status":
        set_defaults(resource, new)
        keep_allocated(resource, new, old)
        for hook in hooks:
            hook(new, old)
        check_update(resource, new, old, subresource, calico)
    if resource.counts_generations and new.get("spec") != old.get("spec"):
        metadata(new)["generation"] = int(old_meta.get("generation", 1)) + 1


def _keep_other_half(resource: Resource, new: Object, old: Object, subresource: str) -> None:
    """An ordinary update leaves the status alone, a status update everything else."""
    if subresource == "finalize":
        finalizers = dig(new, "spec.finalizers", [])
        new.clear()
        new.update(clone(old))
        new["spec"] = {**(old.get("spec") or {}), "finalizers": finalizers}
        return
    if subresource == "status":
        kept = [key for key in {*new, *old} if key not in ("metadata", "status")]
        if resource.custom:
            kept.append("metadata")
    elif resource.has_status:
        kept = ["status"]
    else:
        kept = []
    for key in kept:
        if key in old:
            new[key] = clone(old[key])
        else:
            new.pop(key, None)


def unchanged(new: Object, old: Object) -> bool:
    """Whether two states of an object are equal but for what each write changes anyway."""
    return _content(new) == _content(old)


def _content(obj: Object) -> Object:
    moot = ("resourceVersion", "managedFields")
    meta = {
        key: value
        for key, value in obj["metadata"].items()
        # An empty map of labels is no labels.
        if key not in moot and value not in ({}, [], None)
    }
    return {**obj, "apiVersion": "", "metadata": meta}


def prepare_delete(
    resource: Resource,
    old: Object,
    *,
    grace_seconds: int | None,
    preconditions: Object | None,
) -> Object | None:
    """The object marked for deletion, or None when it goes at once.

    Raises:
        StatusError: 409 when a precondition does not hold.
    """
    _check_preconditions(resource, old, preconditions or {})
    grace = _grace_seconds(resource, old, grace_seconds)
    finalizers = dig(old, "metadata.finalizers", [])
    if resource.key == "namespaces":
        finalizers = [*finalizers, *dig(old, "spec.finalizers", [])]
    if not grace and not finalizers:
        return None
    new: Object = clone(old)
    meta = new["metadata"]
    if "deletionTimestamp" not in meta or grace < int(meta["deletionGracePeriodSeconds"]):
        meta["deletionTimestamp"] = timestamp(after_seconds=grace)
        meta["deletionGracePeriodSeconds"] = grace
    if resource.key == "namespaces":
        new["status"] = {**(new.get("status") or {}), "phase": "Terminating"}
    return new


def _check_preconditions(resource: Resource, old: Object, preconditions: Object) -> None:
    for key, label in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted, found = preconditions.get(key), old["metadata"][key]
        if wanted and wanted != found:
            why = (
                f"Precondition failed: {label} in precondition: {wanted}, "
                f"{label} in object meta: {found}"
            )
            raise status.conflict(resource, name_of(old), why)


def _grace_seconds(resource: Resource, old: Object, asked: int | None) -> int:
    """Only pods die slowly, and only those that a kubelet looks after."""
    if resource.key != "pods" or not dig(old, "spec.nodeName"):
        return 0
    if dig(old, "status.phase") in ("Succeeded", "Failed"):
        return 0
    if asked is None:
        asked = int(dig(old, "spec.terminationGracePeriodSeconds", 30))
    return max(0, asked)
