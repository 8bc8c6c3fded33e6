"""What every object's metadata must fulfil."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import Resource
from pytest_k8snet.lab.api.selectors import match_labels
from pytest_k8snet.lab.api.validation import names
from pytest_k8snet.lab.api.validation.causes import Causes, objects

_FORMS = {
    "namespaces": names.DNS_LABEL,
    "services": names.SERVICE,
    "apiservices.apiregistration.k8s.io": names.API_SERVICE,
}

#: Annotations may be this large together.
_ANNOTATIONS_LIMIT_BYTES = 256 * 1024


def check_metadata(causes: Causes, resource: Resource, obj: Object) -> None:
    """Name, namespace, labels, annotations and owners."""
    meta = obj["metadata"]
    name = meta.get("name")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    else:
        form = _FORMS.get(resource.key, names.DNS_SUBDOMAIN)
        causes.name("metadata.name", str(name), form)
    if resource.namespaced:
        causes.name("metadata.namespace", str(meta["namespace"]), names.DNS_LABEL)
    elif meta.get("namespace"):
        causes.forbidden("metadata.namespace", "not allowed on this type")
    check_labels(causes, "metadata.labels", meta.get("labels"))
    _check_annotations(causes, meta.get("annotations") or {})
    for index, owner in enumerate(objects(meta.get("ownerReferences"))):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                causes.required(f"metadata.ownerReferences[{index}].{field}", "must not be empty")


def check_labels(causes: Causes, field: str, labels: Any) -> None:
    """Keys and values of labels."""
    for key, value in (labels or {}).items():
        check_key(causes, field, key)
        causes.name(field, str(value), names.LABEL_VALUE)


def check_key(causes: Causes, field: str, key: str) -> None:
    """A key of labels or annotations: a name, or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if slash:
        for why in names.DNS_SUBDOMAIN.faults(prefix):
            causes.invalid(field, key, f"prefix part {why}")
    for why in names.LABEL_KEY_NAME.faults(name):
        causes.invalid(field, key, why)


def _check_annotations(causes: Causes, annotations: dict[str, str]) -> None:
    for key in annotations:
        # Annotation keys are compared without regard to case.
        check_key(causes, "metadata.annotations", key.lower())
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATIONS_LIMIT_BYTES:
        causes.too_long("metadata.annotations", _ANNOTATIONS_LIMIT_BYTES)


def check_selector_matches(causes: Causes, spec: Object) -> None:
    """A workload's selector: there, not empty, and fitting its own template."""
    selector = spec.get("selector")
    if not selector:
        causes.required("spec.selector")
        return
    labels = dig(spec, "template.metadata.labels", {})
    for index, term in enumerate(objects(selector.get("matchExpressions"))):
        at = f"spec.selector.matchExpressions[{index}]"
        if not term.get("key"):
            causes.required(f"{at}.key")
        operators = ("In", "NotIn", "Exists", "DoesNotExist")
        causes.one_of(f"{at}.operator", term.get("operator", ""), operators)
        if term.get("operator") in ("In", "NotIn") and not term.get("values"):
            causes.required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    check_labels(causes, "spec.template.metadata.labels", labels)
    if not match_labels(selector, labels):
        causes.invalid(
            "spec.template.metadata.labels", labels, "`selector` does not match template `labels`"
        )
