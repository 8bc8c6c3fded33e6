"""Who has set which field of an object (``metadata.managedFields``), and server-side apply.

Played after ``sigs.k8s.io/structured-merge-diff/v6`` (``merge/update.go``) and
``k8s.io/apimachinery/pkg/util/managedfields``. An object is seen as a flat table from the path of
each field to what is there, so that comparing, merging and pruning are work on sets of paths. Not
played: managers' fields are not converted between the versions of a kind, and the annotation of
client-side apply is left as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.definitions import prune
from pytest_k8snet.lab.api.objects import Object, clone, compact, dig, timestamp
from pytest_k8snet.lab.api.resources import CALICO_V1, Resource
from pytest_k8snet.lab.api.schema import conform, field_of

#: Who writes what is being written: of a request its manager, of a component its name.
ACTING: ContextVar[str] = ContextVar("manager", default="kube-controller-manager")

#: The name of Calico's components, whose clients do not name themselves.
OF_CALICO = "Go-http-client"

#: The steps to a field: ``f:NAME`` of an object, ``k:KEYS`` or ``v:VALUE`` of a list, in JSON.
Path = tuple[str, ...]
Fields = frozenset[Path]

#: Whoever comes after so many that only updated is put together with the oldest of them.
MOST_UPDATERS = 10

_MAP, _LIST = ("map",), ("list",)

#: Not among the fields that somebody manages (``stripmeta.go``).
_OF_THE_SERVER = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in (
            "name", "namespace", "creationTimestamp", "selfLink", "uid", "generation",
            "managedFields", "resourceVersion",
        )
    }
)  # fmt: skip


# -- How a value is taken apart (the lists' types and keys of Kubernetes' OpenAPI, 1.34) -----------

#: What is one value, whatever is in it: types, and fields of types.
_ATOMIC = frozenset(
    {
        "LabelSelector", "LocalObjectReference", "NodeSelector", "NodeSelectorTerm",
        "ObjectFieldSelector", "ObjectReference", "OwnerReference", "KeySelector",
        "ResourceFieldSelector", "RoleRef", "PodSpec.nodeSelector", "ServiceSpec.selector",
        "ReplicationControllerSpec.selector", "NodeSpec.taints", "PodStatus.hostIPs",
    }
)  # fmt: skip
#: Lists with a second key, by their first one.
_SECOND_KEY = {
    "containerPort": "protocol", "port": "protocol", "topologyKey": "whenUnsatisfiable",
}  # fmt: skip
#: A list of a custom resource that its definition calls a set.
_SETS = {"IPPoolSpec.allowedUses"}
_SET = ("+",)

#: What the server fills in after a client's fields are counted, when the client leaves it out.
_ADMITTED = frozenset(
    ("f:spec", f"f:{name}")
    for name in (
        "priority", "preemptionPolicy", "serviceAccount", "serviceAccountName", "ipFamilies",
        "ipFamilyPolicy", "clusterIP", "clusterIPs",
    )
)  # fmt: skip


#: What a structure of Go has before anybody sets it.
_ALWAYS_THERE = frozenset(
    f"f:{name}"
    for name in (
        "metadata", "spec", "status", "template", "containers", "strategy", "updateStrategy",
        "loadBalancer",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a value is taken apart.

    Attributes:
        of: its type in the table of kinds (of a list, that of its items), or its schema.
        keys: the keys of a list's items; ``+`` for a set; none for a list that is one value.
        whole: whether it is one value.
    """

    of: str | Object
    keys: tuple[str, ...] = ()
    whole: bool = False

    def field(self, name: str) -> _Kind:
        if not isinstance(self.of, str):
            of_others = self.of.get("additionalProperties")
            found = (self.of.get("properties") or {}).get(name, of_others)
            return _of_schema(found if isinstance(found, dict) else {})
        known = field_of(self.of, name)
        where = f"{self.of}.{name}"
        if known is None or where in _ATOMIC:
            return _Kind("*", whole=where in _ATOMIC)
        if known.shape == "map":
            return _Kind("*")
        keys = tuple(filter(None, (known.merge_key, _SECOND_KEY.get(known.merge_key))))
        is_whole = known.shape == "value" and known.of in _ATOMIC
        return _Kind(known.of, _SET if where in _SETS else keys, is_whole)

    def item(self) -> _Kind:
        if isinstance(self.of, str):
            return _Kind(self.of, whole=self.of in _ATOMIC)
        return _of_schema(self.of.get("items") or {})


def _of_schema(schema: Object) -> _Kind:
    """The kind of a value of a custom resource."""
    of_list = str(schema.get("x-kubernetes-list-type"))
    keys = {"set": _SET, "map": tuple(schema.get("x-kubernetes-list-map-keys") or ())}
    return _Kind(schema, keys.get(of_list, ()), schema.get("x-kubernetes-map-type") == "atomic")


def _kind_of(resource: Resource) -> _Kind:
    return _Kind(resource.schema or resource.type_name or "*")


def _flat(resource: Resource, obj: Object) -> dict[Path, Any]:
    """Every field of an object by its path; of what has parts, which kind of whole it is."""
    kind = _kind_of(resource)
    others = {key: value for key, value in obj.items() if key != "metadata"}
    found = dict(_walk(obj.get("metadata") or {}, _Kind("ObjectMeta"), ("f:metadata",)))
    found |= dict(_walk(others, kind, ()))
    return {path: value for path, value in found.items() if path and path not in _OF_THE_SERVER}


def _walk(value: Any, kind: _Kind, at: Path) -> Iterator[tuple[Path, Any]]:
    names = _names(value, kind.keys) if isinstance(value, list) and kind.keys else None
    if isinstance(value, dict) and not kind.whole:
        yield at, _MAP
        for name, inner in value.items():
            yield from _walk(inner, kind.field(name), (*at, f"f:{name}"))
    elif names is not None:
        yield at, _LIST
        for name, inner in zip(names, value, strict=True):
            yield from _walk(inner, kind.item(), (*at, name))
    else:
        yield at, value


def _names(items: list[Any], keys: tuple[str, ...]) -> list[str] | None:
    """The step to each item of a list; None where two have the same or one has none."""
    if keys == _SET:
        names = [f"v:{compact(item)}" for item in items]
    elif all(isinstance(item, dict) and keys[0] in item for item in items):
        # The schema says what a protocol is that is not named.
        named = [{key: item.get(key, "TCP") for key in sorted(keys)} for item in items]
        names = [f"k:{compact(one)}" for one in named]
    else:
        return None
    return names if len(set(names)) == len(names) else None


def _unflat(fields: Mapping[Path, Any]) -> Object:
    """The object of a table; items of lists in the order of the table."""
    root: Object = {"metadata": {}}
    made: dict[Path, Any] = {(): root, ("f:metadata",): root["metadata"]}
    for path, value in fields.items():
        new: Any = {} if value == _MAP else [] if value == _LIST else value
        parent, step = made[path[:-1]], path[-1]
        if isinstance(parent, list):
            parent.append(new)
        elif new is not None:
            parent[step[2:]] = new
        made[path] = new
    return root


def _ours(fields: Iterable[Path], subresource: str, resource: Resource) -> Fields:
    """Of some fields those that a write to a subresource can set."""
    apart = "f:spec" if subresource == "status" else "f:status" if resource.has_status else ""
    return frozenset(path for path in fields if path[0] != apart)


# -- Entries of managedFields ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """What one manager has set, by one operation, through one subresource."""

    manager: str
    operation: str
    version: str
    subresource: str
    time: str
    fields: Fields

    @property
    def identity(self) -> tuple[str, ...]:
        version = self.version if self.operation == "Update" else ""
        return self.manager, self.operation, version, self.subresource

    def __str__(self) -> str:
        named = f'"{self.manager}"'
        if self.subresource:
            named += f' with subresource "{self.subresource}"'
        return f"{named} using {self.version}" if self.operation == "Update" else named

    def encoded(self) -> Object:
        entry: Object = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(self.fields),
            "subresource": self.subresource,
        }
        return {key: value for key, value in entry.items() if value != ""}


def _tree(fields: Iterable[Path]) -> Object:
    """Fields as FieldsV1: step within step, and a dot for what is set beside its own parts."""
    below: dict[str, list[Path]] = {}
    for path in sorted(fields):
        below.setdefault(path[0], []).append(path[1:])
    return {
        step: ({".": {}} if () in rest and len(rest) > 1 else {}) | _tree(filter(None, rest))
        for step, rest in below.items()
    }


def _decoded(entries: Any) -> list[_Entry]:
    """The entries of an object.

    Raises:
        ValueError: they are none; says why, as Kubernetes does.
    """
    found = []
    for index, entry in enumerate(entries or ()):
        if entry.get("operation") not in ("Apply", "Update"):
            raise ValueError("operation must be `Apply` or `Update`")
        if not entry.get("apiVersion"):
            raise ValueError("apiVersion must not be empty")
        if entry.get("fieldsType") != "FieldsV1":
            raise ValueError(f"invalid fieldsType in managed fields entry {index}")
        found.append(
            _Entry(
                manager=entry.get("manager", ""),
                operation=entry["operation"],
                version=entry["apiVersion"],
                subresource=entry.get("subresource", ""),
                time=entry.get("time", ""),
                fields=frozenset(_members(entry.get("fieldsV1") or {}, ())),
            )
        )
    return found


def _members(tree: Object, at: Path) -> Iterator[Path]:
    for step, inner in tree.items():
        if step == ".":
            yield at
        elif not inner:
            yield (*at, step)
        else:
            yield from _members(inner, (*at, step))


def _encoded(entries: Iterable[_Entry]) -> list[Object]:
    kept = sorted(
        (entry for entry in entries if entry.fields),
        key=lambda entry: (entry.operation, entry.time, *entry.identity),
    )
    updaters = [entry for entry in kept if entry.operation == "Update"]
    while len(updaters) > MOST_UPDATERS:
        oldest, next_one, *updaters = updaters
        fields = oldest.fields | next_one.fields
        ancient = replace(next_one, manager="ancient-changes", subresource="", fields=fields)
        updaters.insert(0, ancient)
    return [entry.encoded() for entry in kept if entry.operation == "Apply"] + [
        entry.encoded() for entry in updaters
    ]


def _entry(resource: Resource, operation: str, subresource: str, fields: Fields) -> _Entry:
    aggregated = resource.aggregated and operation == "Update"
    return _Entry(
        # Calico's own API server is a client of the API server.
        manager=OF_CALICO if aggregated else ACTING.get(),
        operation=operation,
        version=f"{CALICO_V1}/v1" if aggregated else resource.api_version,
        subresource=subresource,
        time=timestamp(),
        fields=fields,
    )


# -- What a write does to them ---------------------------------------------------------------------


def _changes(old: Mapping[Path, Any], new: Mapping[Path, Any]) -> tuple[Fields, Fields]:
    """The fields that are new or another, and those that are gone."""
    missing = object()
    set_now = frozenset(path for path, value in new.items() if old.get(path, missing) != value)
    return set_now, frozenset(old.keys() - new.keys())


def unsaid(obj: Object) -> Fields:
    """The fields that are nobody's in what a client sends, for the server will fill them in."""
    return frozenset(path for path in _ADMITTED if dig(obj, f"spec.{path[1][2:]}") is None)


def after_update(
    resource: Resource,
    new: Object,
    old: Object | None,
    *,
    subresource: str = "",
    sent: Any = None,
    ignored: Fields = frozenset(),
) -> list[Object]:
    """The entries of an object after anything but an apply.

    Args:
        resource: what it is.
        new: its new state.
        old: the one before; None of a new object.
        subresource: through which it was written.
        sent: the entries in the client's object, which may change them.
        ignored: what is nobody's.
    """
    if sent == [{}]:
        return []
    before = dig(old, "metadata.managedFields", [])
    try:
        entries = _decoded(sent or before)
    except ValueError:
        entries = _decoded(before)
    if old is not None and not entries:
        # Nobody is told to manage it, until the first apply.
        return []
    now = _flat(resource, new)
    set_now, gone = _changes(_flat(resource, old) if old is not None else {}, now)
    if old is None and not resource.custom:
        set_now -= {path for path in now if _ALWAYS_THERE.issuperset(path)}
    fields = _ours(set_now - ignored, subresource, resource)
    ours = _entry(resource, "Update", subresource, fields)
    kept = [replace(entry, fields=entry.fields - set_now - gone) for entry in entries]
    mine = next((entry for entry in entries if entry.identity == ours.identity), None)
    if mine is not None:
        fields = (mine.fields - gone) | ours.fields
        changed = replace(ours if ours.fields else mine, fields=fields)
        kept = [entry for entry in kept if entry.identity != ours.identity]
        return _encoded([*kept, changed])
    return _encoded([*kept, ours])


def applied(
    resource: Resource, live: Object | None, config: Object, *, subresource: str, force: bool
) -> Object:
    """What applying a configuration makes of an object, ``metadata.managedFields`` included.

    Raises:
        StatusError: 400, the configuration itself has managers; 409, it changes what others manage.
    """
    said_of = dig(config, "metadata", {})
    if "managedFields" in said_of:
        raise status.bad_request("metadata.managedFields must be nil")
    if why := _undeclared(resource, config):
        of = "/".join(str(dig(said_of, key, "")) for key in ("namespace", "name"))
        kind = f"{resource.group}/{resource.version}, Kind={resource.kind}"
        said = f"failed to create typed patch object ({of}; {kind}): {why}"
        raise status.StatusError(500, "", said)
    wanted = _flat(resource, config)
    fields = _ours(
        (
            path
            for path, value in wanted.items()
            if value not in (_MAP, _LIST)
            or path[-1][:2] == "k:"
            or not any(other[:-1] == path for other in wanted)
        ),
        subresource,
        resource,
    )
    before = _flat(resource, live or {})
    entries = _decoded(dig(live, "metadata.managedFields"))
    ours = _entry(resource, "Apply", subresource, fields)
    if live is not None and not entries:
        first = {"manager": "before-first-apply", "operation": "Update"}
        entries = [replace(ours, **first, subresource="", fields=frozenset(before))]
    mine = next((entry for entry in entries if entry.identity == ours.identity), None)
    others = [entry for entry in entries if entry is not mine]
    after = _pruned(
        _merged(before, wanted),
        mine.fields - fields if mine is not None else frozenset(),
        fields.union(*(entry.fields for entry in others)),
    )
    set_now, gone = _changes(before, after)
    conflicts = [
        (entry, path)
        for entry in sorted(others, key=lambda entry: entry.identity)
        for path in sorted(entry.fields & set_now, key=_rank)
    ]
    if conflicts and not force:
        raise _conflict(conflicts)
    if not (set_now or gone) and live is not None:
        # It is told when something was changed.
        ours = replace(ours, time=mine.time if mine is not None else "")
    result = _unflat(after)
    meta = dig(live or config, "metadata", {})
    own = {key: meta[key] for key in meta if ("f:metadata", f"f:{key}") in _OF_THE_SERVER}
    if live is None:
        own.pop("resourceVersion", None)
    own |= {key: said_of[key] for key in _SAID if live is not None and key in said_of}
    result["metadata"] = own | result["metadata"]
    result |= {"apiVersion": resource.api_version, "kind": resource.kind}
    if not resource.aggregated:
        kept = [replace(entry, fields=entry.fields - set_now - gone) for entry in others]
        result["metadata"]["managedFields"] = _encoded([*kept, ours])
    return result


#: What a configuration may say of the object that it is for; it is held against that.
_SAID = ("name", "namespace", "resourceVersion")
_EXPECTED = {"int32": "numeric (int or float)", "bool": "boolean", "string": "string"}


def _undeclared(resource: Resource, config: Object) -> str:
    """What of a configuration its kind does not have, in the words of its typed form."""
    for problem in conform(resource.type_name, clone(config)):
        path = "." + problem.path
        if problem.kind == "unknown":
            return f"{path}: field not declared in schema"
        wanted = problem.wanted
        if wanted.startswith(("[]", "map")):
            wanted = "list" if wanted.startswith("[]") else "map"
        return f"{path}: expected {_EXPECTED.get(wanted, wanted)}, got {problem.found}"
    for path in prune(resource.schema, clone(config)) if resource.schema is not None else ():
        return f".{path}: field not declared in schema"
    return next(_doubled(config, _kind_of(resource), ()), "")


def _doubled(value: Any, kind: _Kind, at: Path) -> Iterator[str]:
    """Each item that a list has twice."""
    if isinstance(value, dict) and not kind.whole:
        for name, inner in value.items():
            yield from _doubled(inner, kind.field(name), (*at, f"f:{name}"))
    elif isinstance(value, list) and kind.keys:
        names = [_names([item], kind.keys) for item in value]
        for index, (name, item) in enumerate(zip(names, value, strict=True)):
            if name is not None and name in names[:index]:
                yield f"{_shown(at)}: duplicate entries for key {_shown((name[0],))}"
            yield from _doubled(item, kind.item(), (*at, f"{index}"))


def _merged(before: dict[Path, Any], wanted: dict[Path, Any]) -> dict[Path, Any]:
    """A configuration laid over an object."""
    whole = {path for path, value in wanted.items() if value not in (_MAP, _LIST)}
    under = {path for path in before if any(path[:n] in whole for n in range(1, len(path)))}
    return {path: value for path, value in before.items() if path not in under} | wanted


def _pruned(merged: Mapping[Path, Any], dropped: Fields, managed: Fields) -> dict[Path, Any]:
    """What is left when nobody manages any longer what one manager has dropped."""
    stays = {part for path in managed for part in _above(path)}
    left = {
        path: value
        for path, value in merged.items()
        if path in stays or not any(path[:n] in dropped for n in range(1, len(path) + 1))
    }
    # What has lost its last part goes with it.
    parents = {path[:-1] for path in left}
    lost = {path[:-1] for path in merged.keys() - left.keys()}
    empty = (lost & left.keys()) - parents - stays
    return _pruned(left, frozenset(empty), managed) if empty else left


def _above(path: Path) -> Iterator[Path]:
    """A path, all that it leads through, and the keys of the items among that."""
    for length in range(1, len(path) + 1):
        yield path[:length]
        if path[length - 1].startswith("k:"):
            for key in json.loads(path[length - 1][2:]):
                yield (*path[:length], f"f:{key}")


def _rank(path: Path) -> list[tuple[bool, str]]:
    """In the order of Kubernetes: what has no parts comes before what has some."""
    return [(index < len(path) - 1, step) for index, step in enumerate(path)]


def _conflict(conflicts: list[tuple[_Entry, Path]]) -> status.StatusError:
    count = len(conflicts)
    if count == 1:
        (entry, path) = conflicts[0]
        told = f"1 conflict: conflict with {entry}: {_shown(path)}"
    else:
        lines = []
        for entry in dict.fromkeys(entry for entry, _ in conflicts):
            lines.append(f"conflicts with {entry}:")
            lines += [f"- {_shown(path)}" for other, path in conflicts if other is entry]
        told = f"{count} conflicts: " + "\n".join(lines)
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f"conflict with {entry}",
            "field": _shown(path),
        }
        for entry, path in conflicts
    ]
    return status.StatusError(409, "Conflict", f"Apply failed with {told}", {"causes": causes})


def _shown(path: Path) -> str:
    """A path as Kubernetes' messages have it: ``.spec.containers[name="a"].image``."""
    shown = ""
    for step in path:
        sort, text = step[:2], step[2:]
        if sort == "k:":
            keys = json.loads(text).items()
            shown += f"[{','.join(f'{key}={compact(value)}' for key, value in keys)}]"
        else:
            shown += f"[={text}]" if sort == "v:" else f".{text}"
    return shown
