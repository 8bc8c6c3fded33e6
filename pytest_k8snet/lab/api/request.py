"""What a request asks for: the path and query of the Kubernetes API, understood."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import SUBRESOURCES, Registry, Resource

_VERBS = {
    "GET": ("list", "get"),
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

_ALWAYS = {"metadata.name", "metadata.namespace"}
#: The fields of kinds that have some of their own (kube-apiserver 1.34).
_FIELDS: Mapping[str, set[str]] = {
    "pods": {
        "metadata.name", "metadata.namespace",
        "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName",
        "spec.hostNetwork", "status.phase", "status.podIP", "status.podIPs",
        "status.nominatedNodeName",
    },
    "events": {
        "metadata.name", "metadata.namespace",
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name",
        "involvedObject.uid", "involvedObject.apiVersion", "involvedObject.resourceVersion",
        "involvedObject.fieldPath", "reason", "reportingComponent", "source", "type",
    },
    "nodes": {"metadata.name", "spec.unschedulable"},
    "namespaces": {"metadata.name", "status.phase"},
    "secrets": {"metadata.name", "metadata.namespace", "type"},
    "services": {"metadata.name", "metadata.namespace", "spec.clusterIP", "spec.type"},
    "replicationcontrollers": {"metadata.name", "metadata.namespace", "status.replicas"},
    "jobs.batch": {"metadata.name", "metadata.namespace", "status.successful"},
}  # fmt: skip


def labels_matcher(selector: str) -> Matcher:
    """A test for a label selector: ``a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1``.

    Raises:
        StatusError: 400, the selector cannot be parsed.
    """
    requirements = list(_LabelSelector(selector).requirements())

    def matches(obj: Object) -> bool:
        labels = dig(obj, "metadata.labels", {})
        return all(meets(labels.get(key), how, values) for key, how, values in requirements)

    return matches


def _check_label(key: str, values: Sequence[str]) -> None:
    """Refuse a key or a value that no label can have.

    Raises:
        StatusError: 400.
    """
    rule = "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an"
    form = "(e.g. {}, regex used for validation is '{}')"
    many, why = key.count("/") > 1, ""
    if many or not re.fullmatch(_QUALIFIED, key.rpartition("/")[2]):
        used = form.format("'MyName',  or 'my.name',  or '123-abc'", _QUALIFIED)
        what = "a qualified name" if many else "name part"
        why = f"<nil>: Invalid value: {json.dumps(key)}: {what} must {rule} alphanumeric character"
        why += f" {used}"
        if many:
            why += " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
    for index, value in enumerate(values):
        if not why and not re.fullmatch(f"({_QUALIFIED})?", value):
            used = form.format("'MyValue',  or 'my_value',  or '12345'", f"({_QUALIFIED})?")
            what = f"a valid label must be an empty string or {rule} alphanumeric character"
            why = f"values[{index}][{key}]: Invalid value: {json.dumps(value)}: {what} {used}"
    if why:
        raise status.bad_request(f"unable to parse requirement: {why}")


_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"


#: Of each operator of label selectors, what LabelSelector objects call it.
_OPERATORS = {
    "in": "In", "notin": "NotIn", "=": "In", "==": "In", "!=": "NotIn", ">": "Gt", "<": "Lt",
}  # fmt: skip


class _LabelSelector:
    """Reads a label selector as ``k8s.io/apimachinery/pkg/labels`` does, and says what it says."""

    def __init__(self, selector: str) -> None:
        self._tokens = re.findall(r"==|!=|[=!(),<>]|[^\s=!(),<>]+", selector)

    def _next(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _take(self) -> str:
        return self._tokens.pop(0) if self._tokens else ""

    def requirements(self) -> Iterator[tuple[str, str, list[str]]]:
        """Key, operator and values of each requirement.

        Raises:
            StatusError: 400.
        """
        while self._tokens:
            if self._next() != "!" and not _is_word(self._next()):
                said = "expected: !, identifier, or 'end of string'"
                raise status.bad_request(f"found '{self._next()}', {said}")
            yield self._requirement()
            if (after := self._take()) not in ("", ","):
                raise status.bad_request(f"found '{after}', expected: ',' or 'end of string'")
            if after and self._next() != "!" and not _is_word(self._next()):
                said = "expected: identifier after ','"
                raise status.bad_request(f"found '{self._next()}', {said}")

    def _requirement(self) -> tuple[str, str, list[str]]:
        absent = self._next() == "!" and bool(self._take())
        key = self._take()
        if not _is_word(key):
            raise _unparsed(key, "identifier")
        _check_label(key, [])
        if absent:
            return key, "DoesNotExist", []
        if self._next() in ("", ","):
            return key, "Exists", []
        word = self._take()
        if word not in _OPERATORS:
            raise _unparsed(word, "in, notin, =, ==, !=, gt, lt")
        values = self._values() if word in ("in", "notin") else [self._value()]
        _check_label(key, values)
        for value in values if word in "<>" else ():
            if not _is_integer(value):
                why = "for 'Gt', 'Lt' operators, the value must be an integer"
                text = f"values[0]: Invalid value: {json.dumps(value)}: {why}"
                raise status.bad_request(f"unable to parse requirement: {text}")
        return key, _OPERATORS[word], values

    def _value(self) -> str:
        if self._next() in ("", ","):
            return ""
        if not _is_word(self._next()):
            raise _unparsed(self._next(), "identifier")
        return self._take()

    def _values(self) -> list[str]:
        if (opening := self._take()) != "(":
            why = f"found '{opening}' expected: '('"
            raise status.bad_request(f"unable to parse requirement: {why}")
        found: list[str] = []
        while self._next() != ")":
            if self._next() != "," and not _is_word(self._next()):
                raise _unparsed(self._next(), "',' or ')'")
            found.append("" if self._next() == "," else self._take())
            if self._next() == ",":
                self._take()
        self._take()
        return sorted(found)


def _is_integer(text: str) -> bool:
    return re.fullmatch(r"[+-]?\d+", text) is not None


def _is_word(token: str) -> bool:
    return bool(token) and token[0] not in "=!(),<>"


def _unparsed(token: str, expected: str) -> status.StatusError:
    why = f"found '{token}', expected: {expected}"
    return status.bad_request(f"unable to parse requirement: {why}")


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
        case "Gt" | "Lt" if value is not None and _is_integer(value) and _is_integer(values[0]):
            return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return False


def fields_matcher(selector: str, resource_key: str, *, is_built_in: bool = True) -> Matcher:
    """A test for a field selector: ``=``, ``==`` and ``!=`` on the fields Kubernetes supports.

    Raises:
        StatusError: 400, the selector cannot be parsed or names another field.
    """
    terms = []
    for term in filter(None, re.split(r"(?<!\\),", selector)):
        found = re.match(r"(?P<key>[^=!]*)(?P<operator>==|!=|=)(?P<value>.*)$", term)
        if found is None:
            raise status.bad_request(f"invalid selector: '{selector}'; can't understand '{term}'")
        path = found["key"]
        if path not in _FIELDS.get(resource_key, _ALWAYS):
            why = f"field label not supported: {path}"
            if resource_key not in _FIELDS and is_built_in:
                known = ", ".join(f'"{name}"' for name in sorted(_ALWAYS))
                why = f'"{path}" is not a known field selector: only {known}'
            raise status.bad_request(why)
        value = re.sub(r"\\(.)", r"\1", found["value"])
        terms.append((path, found["operator"] != "!=", value))

    def matches(obj: Object) -> bool:
        return all((_field(obj, path) == value) is equal for path, equal, value in terms)

    return matches


def _field(obj: Object, path: str) -> str:
    if path == "source":
        path = "source.component"
    value = dig(obj, path, False if path in ("spec.unschedulable", "spec.hostNetwork") else "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def matcher(resource: Resource, labels: str = "", fields: str = "") -> Matcher:
    """One test for a label and a field selector together."""
    by_labels = labels_matcher(labels)
    by_fields = fields_matcher(fields, resource.key, is_built_in=not resource.custom)
    return lambda obj: by_labels(obj) and by_fields(obj)
