"""Label and field selectors: parsed as Kubernetes parses them, matched against plain objects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig

#: A test of one object.
Matcher = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARED = re.compile(
    r"^(?P<key>[^\s!=<>,()]+)\s*(?P<operator>==|!=|=|>|<)\s*(?P<value>[^\s!=<>,()]*)$"
)
_EXISTS = re.compile(r"^(?P<not>!?)\s*(?P<key>[^\s!=<>,()]+)$")

_ALWAYS = {"metadata.name", "metadata.namespace"}
_FIELDS: Mapping[str, set[str]] = {
    "pods": {
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.nominatedNodeName",
    },
    "events": {
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
    },
    "nodes": {"spec.unschedulable"},
    "namespaces": {"status.phase"},
    "secrets": {"type"},
    "services": {"spec.clusterIP", "spec.type"},
    "replicasets.apps": {"status.replicas"},
}  # fmt: skip


def split_terms(selector: str) -> list[str]:
    """The terms of a selector: split at commas that are not within parentheses."""
    return [term.strip() for term in re.split(r",(?![^()]*\))", selector) if term.strip()]


def labels_matcher(selector: str) -> Matcher:
    """A test for a label selector: ``a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2``.

    Raises:
        StatusError: 400, the selector cannot be parsed.
    """
    terms = [_label_term(term, selector) for term in split_terms(selector)]

    def matches(obj: Object) -> bool:
        labels = dig(obj, "metadata.labels", {})
        return all(term(labels) for term in terms)

    return matches


def _label_term(term: str, selector: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(term):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _COMPARED.match(term):
        key, value = found["key"], found["value"]
        if found["operator"] in ("=", "=="):
            return lambda labels: labels.get(key) == value
        if found["operator"] == "!=":
            return lambda labels: labels.get(key) != value
        return _number_term(key, found["operator"], value, selector)
    if found := _EXISTS.match(term):
        key, absent = found["key"], bool(found["not"])
        return lambda labels: (key in labels) != absent
    raise status.bad_request(
        f'unable to parse requirement: found "{term}" in label selector "{selector}"'
    )


def _number_term(
    key: str, operator: str, value: str, selector: str
) -> Callable[[Mapping[str, str]], bool]:
    try:
        limit = int(value)
    except ValueError:
        raise status.bad_request(
            f'unable to parse requirement: values[0][{key}]: Invalid value: "{value}": '
            f"for 'Gt', 'Lt' operators, the value must be an integer (in \"{selector}\")"
        ) from None

    def matches(labels: Mapping[str, str]) -> bool:
        try:
            number = int(labels[key])
        except (KeyError, ValueError):
            return False
        return number > limit if operator == ">" else number < limit

    return matches


def match_labels(selector: Object | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector object (``matchLabels``, ``matchExpressions``) selects these labels.

    None selects nothing, an empty selector everything.
    """
    if selector is None:
        return False
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or []:
        key, values = expression.get("key"), expression.get("values") or []
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds.get(expression.get("operator", ""), False):
            return False
    return True


def fields_matcher(selector: str, resource_key: str) -> Matcher:
    """A test for a field selector: ``=``, ``==`` and ``!=`` on the fields Kubernetes supports.

    Raises:
        StatusError: 400, the selector cannot be parsed or names another field.
    """
    terms = []
    for term in split_terms(selector):
        found = _COMPARED.match(term)
        if found is None or found["operator"] in "<>":
            raise status.bad_request(f"invalid selector: '{selector}'; can't understand '{term}'")
        path = found["key"]
        if path not in _ALWAYS | _FIELDS.get(resource_key, set()):
            raise status.bad_request(f"field label not supported: {path}")
        terms.append((path, found["operator"] != "!=", found["value"]))

    def matches(obj: Object) -> bool:
        return all((_field(obj, path) == value) is equal for path, equal, value in terms)

    return matches


def _field(obj: Object, path: str) -> str:
    if path == "source":
        path = "source.component"
    value = dig(obj, path, False if path in ("spec.unschedulable", "spec.hostNetwork") else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def matcher(resource_key: str, labels: str = "", fields: str = "") -> Matcher:
    """One test for a label and a field selector together."""
    by_labels, by_fields = labels_matcher(labels), fields_matcher(fields, resource_key)
    return lambda obj: by_labels(obj) and by_fields(obj)
