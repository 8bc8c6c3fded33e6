"""What a request asks for: the path and query of the Kubernetes API, understood."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import SUBRESOURCES, Registry, Resource

_VERBS = {
    "GET": ("list", "get"),
    "HEAD": ("list", "get"),
    "POST": ("create", "create"),
    "PUT": ("", "update"),
    "PATCH": ("", "patch"),
    "DELETE": ("deletecollection", "delete"),
}


class PageNotFound(status.StatusError):
    """404: nothing is served at a path, not even by an API group; the answer is plain text."""

    def __init__(self) -> None:
        super().__init__(404, "NotFound", "404 page not found")


#: Subresources that a client opens a stream to: GET and POST mean the same there.
STREAMS = frozenset({"exec", "attach", "portforward"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a request is about.

    Attributes:
        resource: the kind of object, as the path's group serves it.
        namespace: empty for all namespaces or for what belongs to the cluster.
        name: empty for a collection.
        subresource: ``status``, ``log``, ... or empty.
        verb: ``get``, ``list``, ``watch``, ``create``, ... as RBAC calls it.
    """

    resource: Resource
    namespace: str
    name: str
    subresource: str
    verb: str

    @property
    def rule(self) -> tuple[str, str]:
        """Verb and resource as a rule of access names them: ``("create", "pods/exec")``."""
        suffix = f"/{self.subresource}" if self.subresource else ""
        return self.verb, f"{self.resource.qualified_plural}{suffix}"


def parse(registry: Registry, method: str, path: str, query: Mapping[str, str]) -> Target:
    """Understand a request for a resource.

    Raises:
        StatusError: 404, nothing is served there; 405, the method is not.
        PageNotFound: there is no such group and version, or it knows custom resources only.
    """
    steps = [step for step in path.split("/") if step]
    if steps[0] == "api" and len(steps) >= 3:
        group, version, rest = "", steps[1], steps[2:]
    elif steps[0] == "apis" and len(steps) >= 4:
        group, version, rest = steps[1], steps[2], steps[3:]
    else:
        raise status.no_such_resource()
    namespace = ""
    # /namespaces/NAME and its subresources are the namespace itself, all else is in it.
    if rest[0] == "namespaces" and len(rest) >= 3 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    resource = registry.find(group, version, rest[0])
    if resource is None and not registry.is_built_in(group, version):
        raise PageNotFound
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if (
        resource is None
        or len(rest) > 3
        or (subresource and subresource not in resource.subresources)
        or (namespace and not resource.namespaced)
        or (name and not namespace and resource.namespaced)
    ):
        raise status.no_such_resource()
    target = Target(
        resource=resource,
        namespace=namespace,
        name=name,
        subresource=subresource,
        verb=_verb(method, name, subresource, query),
    )
    _check_method(target)
    return target


def _verb(method: str, name: str, subresource: str, query: Mapping[str, str]) -> str:
    verb = _VERBS.get(method, ("", ""))[bool(name)]
    if subresource in STREAMS and verb in ("get", "create"):
        return "create" if method == "POST" else "get"
    if verb == "list" and is_true(query.get("watch")):
        return "watch"
    return verb


def _check_method(target: Target) -> None:
    resource, verb = target.resource, target.verb
    allowed = SUBRESOURCES[target.subresource][1] if target.subresource else resource.verbs
    if verb == "create" and target.name and not target.subresource:
        allowed = ()
    in_all_namespaces = resource.namespaced and not target.namespace
    if verb not in allowed or (in_all_namespaces and verb not in ("list", "watch")):
        raise status.method_not_allowed()


def is_true(value: str | None) -> bool:
    """Whether a query parameter says yes: whatever it says but no."""
    return value is not None and value.lower() != "false" and value != "0"


def integer(query: Mapping[str, str], name: str) -> int | None:
    """A whole number of the query, or None when it is absent.

    Raises:
        StatusError: 400, it is no number.
    """
    text = query.get(name, "")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        why = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise status.bad_request(why) from None


# -- Label and field selectors ---------------------------------------------------------------------

#: A test of one object.
Matcher = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)$")
_COMPARED = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<operator>==|!=|=)\s*(?P<value>[^\s!=,()]*)$")
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
    """A test for a label selector: ``a=b,c!=d,e in (f,g),h notin (i),j,!k``.

    Raises:
        StatusError: 400, the selector cannot be parsed.
    """
    terms = [_label_term(term) for term in split_terms(selector)]

    def matches(obj: Object) -> bool:
        labels = dig(obj, "metadata.labels", {})
        return all(term(labels) for term in terms)

    return matches


def _check_label(key: str, values: Sequence[str]) -> None:
    """Refuse a key or a value that no label can have.

    Raises:
        StatusError: 400.
    """
    ends = "and must start and end with an alphanumeric character"
    characters = "consist of alphanumeric characters, '-', '_' or '.',"
    name = key.rpartition("/")[2]
    if not re.fullmatch(_QUALIFIED, name):
        examples = "'MyName',  or 'my.name',  or '123-abc'"
        why = f"<nil>: Invalid value: {json.dumps(key)}: name part must {characters} {ends}"
        used = f"(e.g. {examples}, regex used for validation is '{_QUALIFIED}')"
        raise status.bad_request(f"unable to parse requirement: {why} {used}")
    for index, value in enumerate(values):
        if not re.fullmatch(f"({_QUALIFIED})?", value):
            examples = "'MyValue',  or 'my_value',  or '12345'"
            why = (
                f"values[{index}][{key}]: Invalid value: {json.dumps(value)}: a valid label must be"
                f" an empty string or {characters} {ends}"
            )
            used = f"(e.g. {examples}, regex used for validation is '({_QUALIFIED})?')"
            raise status.bad_request(f"unable to parse requirement: {why} {used}")


_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"


def _label_term(term: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.match(term):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        _check_label(key, sorted(values))
        if found["operator"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _COMPARED.match(term):
        key, value = found["key"], found["value"]
        _check_label(key, [value])
        if found["operator"] in ("=", "=="):
            return lambda labels: labels.get(key) == value
        return lambda labels: labels.get(key) != value
    if found := _EXISTS.match(term):
        key, absent = found["key"], bool(found["not"])
        return lambda labels: (key in labels) != absent
    if term.count("(") > term.count(")"):
        why = "unable to parse requirement: found '', expected: ',' or ')'"
        raise status.bad_request(why)
    # The scanner stops at the first thing that cannot follow.
    found = re.match(r"^[^\s!=<>,()]+\s*(==|!=|=)?\s*[^\s!=<>,()]*\s*(?P<rest>\S)", term)
    what = found["rest"] if found else term[:1]
    raise status.bad_request(f"unable to parse requirement: found '{what}', expected: identifier")


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
        if not meets(labels.get(key), expression.get("operator", ""), values):
            return False
    return True


def meets(value: str | None, operator: str, values: Sequence[str]) -> bool:
    """Whether a label's value (None for none) meets a requirement; an unknown one nothing does."""
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" if value is not None:
            # Only in the node selectors of pods.
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False


def fields_matcher(selector: str, resource_key: str) -> Matcher:
    """A test for a field selector: ``=``, ``==`` and ``!=`` on the fields Kubernetes supports.

    Raises:
        StatusError: 400, the selector cannot be parsed or names another field.
    """
    terms = []
    for term in split_terms(selector):
        found = _COMPARED.match(term)
        if found is None:
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
