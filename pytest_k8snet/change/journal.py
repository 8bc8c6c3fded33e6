"""What a run changes: the journal in the cluster, and the record of each change.

The journal is written before the first change and deleted after the last restoration. It holds the
original state, and what the run wrote last: restoring needs nothing else, in particular not the run
that wrote it. Whoever may write ConfigMaps in the state namespace can write one as well, so nothing
in it is believed that no run could have written, and the objects themselves have the last word.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_k8snet.calico.installation import (
    OPERATOR_INSTALLATION,
    V1,
    ApiGroup,
    ApiShape,
    ObjectRef,
    ipv4_network,
)
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.lease import STATE_NAMESPACE
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ModeUnavailableError,
    NotFoundError,
    RestoreError,
    quote,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

JOURNAL_NAME = "k8snet-journal"
#: Raised whenever an older version could not restore from what is written.
SCHEMA = 2
_KEY = "journal.json"


def pool_name(run_id: str, mode: CalicoMode) -> str:
    """Return the name of a run's pool for a mode."""
    return f"{run_id}-{mode.value.lower()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalPool:
    """A pool that is edited in place, as it was.

    Attributes:
        name: the pool's name.
        cidr: its addresses: a pool of that name with others is not this pool.
        spec: its mode fields, as far as it had them, in the group that pools are written through.
        uid: the server's id of the object; empty if it is not known.
        v1_spec: the mode fields of the v1 object beneath it (shape B); None elsewhere.
        v1_uid: the id of that object.
        v1_fields: all fields that the spec of that object had.
        installation_entry: the encapsulation in the operator's Installation, as far as it was set;
            None if the operator does not own the pool.
        installation_uid: the id of the Installation.
        written_directly: whether the pool itself was written, beside the Installation or without.
    """

    name: str
    cidr: str
    spec: Mapping[str, str]
    uid: str = ""
    v1_spec: Mapping[str, str] | None = None
    v1_uid: str = ""
    v1_fields: tuple[str, ...] = ()
    installation_entry: Mapping[str, str] | None = None
    installation_uid: str = ""
    written_directly: bool = True

    @property
    def mode(self) -> CalicoMode:
        """The mode that the pool was in."""
        return CalicoMode.of_pool(self.spec.get("ipipMode"), self.spec.get("vxlanMode"))

    @property
    def objects(self) -> tuple[ObjectRef, ...]:
        """What is written to change the pool's mode, and again to restore it; in this order."""
        return (
            *([OPERATOR_INSTALLATION] if self.installation_entry is not None else []),
            *([ObjectRef.pool(self.name)] if self.written_directly else []),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Everything needed to restore what a run changes."""

    run_id: str
    strategy: Strategy
    #: Who writes: for messages.
    owner: str
    time: str
    shape: ApiShape
    group: ApiGroup
    original: OriginalPool | None = None
    #: What the run may have written to it last: the mode that it is about to write, and the one
    #: before until that is done.
    written: tuple[CalicoMode, ...] = ()
    #: Names of the pools that the run makes; some may not exist yet.
    dedicated_pools: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the text that is kept."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "run": self.run_id,
                "strategy": self.strategy,
                "owner": self.owner,
                "time": self.time,
                "shape": self.shape,
                "group": self.group,
                "own_pools": list(self.dedicated_pools),
                "original": self.original and asdict(self.original),
                "written": [mode.value for mode in self.written],
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Journal:
        """Read the text back.

        Raises:
            RestoreError: a newer version wrote it, or no run can have written it.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            raise _foreign(where, f"no JSON: {_shown(text)}") from None
        if not isinstance(data, dict) or "schema" not in data:
            raise _foreign(where, f"no object with a schema: {_shown(data)}")
        schema = data["schema"]
        if type(schema) is not int or schema != SCHEMA:
            raise RestoreError(
                f"The journal {where} was written by another version of pytest-k8snet",
                found=f"schema {_shown(schema)}, this version knows {SCHEMA}",
                remedy="Run `k8snet restore` of the version that wrote it: nothing was touched.",
            )
        try:
            return _journal(data)
        except _InvalidError as exc:
            raise _foreign(where, str(exc)) from None


def _foreign(where: str, found: str) -> RestoreError:
    return RestoreError(
        f"{where} is no journal of pytest-k8snet, or a damaged one",
        found=found,
        remedy="Find out who wrote it; if nobody needs it, delete it. Nothing was touched.",
    )


# -- What a run can have written -------------------------------------------------------------------

_RUN = r"k8snet-[0-9a-f]{6}"
#: RFC 1123 subdomain, as Kubernetes has it.
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{8,15}(Z|[+-][0-9]{2}:[0-9]{2})"
_UID = r"[0-9A-Za-z-]{1,64}"
_FIELD = r"[A-Za-z][A-Za-z0-9-]{0,62}"
#: Groups that a shape is written through.
_GROUPS: dict[str, tuple[str, ...]] = {
    "A": (V1,),
    "B": get_args(ApiGroup),
    "C": ("projectcalico.org/v3",),
}


class _InvalidError(Exception):
    """A field that no run can have written."""


def _shown(value: object) -> str:
    """A value of somebody else's, printable and short."""
    return quote(repr(value), 200)


def _wrong(at: str, value: object, expected: str) -> _InvalidError:
    return _InvalidError(f"{at}: {_shown(value)}, expected {expected}")


#: Returns a value that is right at its place, or raises.
_Check = Callable[[Any, str], Any]


def _object(value: object, at: str, checks: Mapping[str, _Check], *, some: bool = False) -> Any:
    """An object of just these fields, or of some of them."""
    if not isinstance(value, dict):
        raise _wrong(at, value, "an object")
    prefix = f"{at}." if at else ""
    found = {}
    for name, read in checks.items():
        if name in value:
            found[name] = read(value[name], prefix + name)
        elif not some:
            raise _InvalidError(f"{prefix}{name} is missing")
    for name in value:
        if name not in checks:
            raise _InvalidError(f"{_shown(prefix + name)} is no field of a journal")
    return found


def _text(pattern: str, what: str) -> _Check:
    def read(value: Any, at: str) -> str:
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise _wrong(at, value, what)
        return value

    return read


def _one_of(values: Sequence[str]) -> _Check:
    def read(value: Any, at: str) -> str:
        if not isinstance(value, str) or value not in values:
            raise _wrong(at, value, f"one of {', '.join(values)}")
        return value

    return read


def _each(read: _Check) -> _Check:
    """The texts of a list without repetition."""

    def read_all(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _wrong(at, value, "a list of texts")
        if len(set(value)) < len(value):
            raise _wrong(at, value, "each once")
        return tuple(read(one, f"{at}[{index}]") for index, one in enumerate(value))

    return read_all


def _choices(values: Sequence[str], *names: str) -> _Check:
    """An object of some of these fields with one of these values each; None stays None."""
    checks = dict.fromkeys(names, _one_of(values))
    return lambda value, at: None if value is None else _object(value, at, checks, some=True)


def _owner(value: Any, at: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= 500:
        raise _wrong(at, value, "who wrote it, printable")
    return value


def _cidr(value: Any, at: str) -> str:
    if not isinstance(value, str) or ipv4_network(value) is None:
        raise _wrong(at, value, "an IPv4 network")
    return value


def _boolean(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, value, "true or false")
    return value


def _uid(there: bool) -> _Check:
    return _text(_UID if there else "", "the id of the object" if there else "none")


def _journal(data: dict[str, Any]) -> Journal:
    shape = str(data.get("shape"))
    own = [pool_name(str(data.get("run")), mode) for mode in CalicoMode]
    checks: dict[str, _Check] = {
        "schema": lambda value, at: value,
        "run": _text(_RUN, "the id of a run, k8snet-xxxxxx"),
        "strategy": _one_of(("dedicated", "in-place")),
        "owner": _owner,
        "time": _text(_TIME, "a time"),
        "shape": _one_of(get_args(ApiShape)),
        "group": _one_of(_GROUPS.get(shape, ())),
        "own_pools": _each(_one_of(own)),
        "original": lambda value, at: None if value is None else _original(value, at, shape),
        "written": _each(_one_of([mode.value for mode in CalicoMode])),
    }
    found = _object(data, "", checks)
    strategy, pools, original = found["strategy"], found["own_pools"], found["original"]
    if strategy == "dedicated" and (original is not None or not pools):
        expected = "the run's pools and no original, as dedicated"
        raise _wrong("own_pools", data["own_pools"], expected)
    if strategy == "in-place" and (original is None or pools):
        expected = "a pool and no own pools, as in-place"
        raise _wrong("original", data["original"], expected)
    if bool(found["written"]) != (original is not None):
        raise _wrong("written", data["written"], "modes of the original pool")
    return Journal(
        run_id=found["run"],
        strategy=strategy,
        owner=found["owner"],
        time=found["time"],
        shape=found["shape"],
        group=found["group"],
        original=original,
        written=tuple(map(CalicoMode, found["written"])),
        dedicated_pools=pools,
    )


def _original(value: Any, at: str, shape: str) -> OriginalPool:
    by_operator = isinstance(value, dict) and value.get("installation_entry") is not None
    modes = _choices(("Never", "Always", "CrossSubnet"), "ipipMode", "vxlanMode")
    encapsulations = [mode.encapsulation for mode in CalicoMode]
    checks: dict[str, _Check] = {
        "name": _text(_SUBDOMAIN, "the name of a pool"),
        "cidr": _cidr,
        "spec": modes,
        "uid": _uid(True),
        "v1_spec": modes,
        "v1_uid": _uid(shape == "B"),
        "v1_fields": _each(_text(_FIELD, "a field's name")),
        "installation_entry": _choices(encapsulations, "encapsulation"),
        "installation_uid": _uid(by_operator),
        "written_directly": _boolean,
    }
    found = _object(value, at, checks)
    if found["spec"] is None:
        raise _wrong(f"{at}.spec", None, "the pool's mode fields")
    if (found["v1_spec"] is None) != (shape != "B"):
        expected = f"one just where the shape is B, and it is {shape}"
        raise _wrong(f"{at}.v1_spec", found["v1_spec"], expected)
    if not by_operator and not found["written_directly"]:
        raise _wrong(f"{at}.written_directly", False, "true without an installation_entry")
    return OriginalPool(**found)


# -- Where it is kept ------------------------------------------------------------------------------


class JournalStore:
    """The place of the one journal of a cluster: a ConfigMap."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._collection = f"/api/v1/namespaces/{STATE_NAMESPACE}/configmaps"
        self._path = f"{self._collection}/{JOURNAL_NAME}"
        self.where = f"ConfigMap {STATE_NAMESPACE}/{JOURNAL_NAME}"

    def read(self) -> Journal | None:
        """Return the journal; None if there is none.

        Raises:
            RestoreError: there is something that this version cannot restore from.
        """
        found = self._api.find(self._path)
        return None if found is None else self._journal_in(found)

    def _journal_in(self, found: Mapping[str, Any]) -> Journal:
        data = found.get("data") or {}
        text = data.get(_KEY)
        if text is None:
            raise _foreign(self.where, f"no {_KEY}: {_shown(data)}")
        return Journal.from_json(text, where=self.where)

    def write(self, journal: Journal) -> None:
        """Keep a journal where there is none; an existing one is never overwritten.

        Raises:
            RestoreError: there is one already, or it could not be restored from.
        """
        text = self._readable(journal)
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": JOURNAL_NAME,
                "labels": {
                    "app.kubernetes.io/managed-by": "pytest-k8snet",
                    "k8snet/journal-of": journal.run_id,
                },
            },
            "data": {_KEY: text},
        }
        try:
            self._api.create(self._collection, body)
        except ConflictError:
            raise RestoreError(
                "Another run's changes to this cluster have not been restored",
                found=f"{self.where} exists",
                remedy="Run `k8snet restore` first.",
            ) from None

    def update(self, before: Journal, after: Journal) -> None:
        """Write on in a journal that nobody else has written in.

        Raises:
            RestoreError: it is not as this run has left it.
        """
        text = self._readable(after)
        found = self._api.find(self._path)
        there = None if found is None else self._journal_in(found)
        if there == after:
            return
        if found is None or there != before:
            raise self._not_ours()
        try:
            self._api.replace(self._path, {**found, "data": {_KEY: text}})
        except (ConflictError, NotFoundError):
            # Also when the answer to the first try got lost, and this one was a repetition.
            if self.read() != after:
                raise self._not_ours() from None

    def _not_ours(self) -> RestoreError:
        return RestoreError(
            "Somebody else writes in this run's journal, so the run changes nothing more",
            found=f"{self.where} is not as the run has left it",
            remedy="Find out who writes it.",
        )

    def _readable(self, journal: Journal) -> str:
        """The text of a journal that is known to be readable before anything relies on it."""
        text = journal.to_json()
        Journal.from_json(text, where=self.where)
        return text

    def delete(self, run_id: str) -> None:
        """Delete the journal of a run; another run's stays, and none is fine."""
        if (found := self._api.find(self._path)) is None:
            return
        if self._journal_in(found).run_id == run_id:
            version = found["metadata"]["resourceVersion"]
            self._api.delete(self._path, resource_version=version)


# -- The record of each change --------------------------------------------------------------------

#: From this HTTP status on, nobody knows whether the request had an effect.
_SERVER_TROUBLE = 500

#: Receives the fields of a "change" record.
OnChange = Callable[[dict[str, Any]], None]


class Changes:
    """The run's list of changes, recorded one by one as they happen.

    Attributes:
        records: every change so far, oldest first.
    """

    def __init__(self, on_change: OnChange) -> None:
        self._on_change = on_change
        self.records: list[dict[str, Any]] = []

    @contextmanager
    def recording(
        self,
        what: str,
        target: ObjectRef,
        *,
        before: object,
        after: object,
        state: Literal["applied", "restored"] = "applied",
    ) -> Iterator[None]:
        """Do one change inside; it is recorded as ``failed`` if it raises.

        One that the API server refuses to apply is none, and is not recorded: there is nothing
        that would have to be restored.

        Args:
            what: the change in words.
            target: the object.
            before: what was there, JSON-safe.
            after: what is wanted, JSON-safe.
            state: whether it applies a change or restores what was there.
        """
        begun = time.monotonic()
        outcome: str = "failed"
        try:
            yield
            outcome = state
        except (ApiError, ModeUnavailableError) as exc:
            if state == "applied" and getattr(exc, "status", 0) < _SERVER_TROUBLE:
                outcome = ""
            raise
        finally:
            if outcome:
                seconds = round(time.monotonic() - begun, 3)
                self._keep(what, target, state=outcome, before=before, after=after, seconds=seconds)

    def _keep(self, what: str, target: ObjectRef, **change: object) -> None:
        self.records.append({"what": what, "object": str(target), **change})
        self._on_change(self.records[-1])

    def found_restored(self, what: str, target: ObjectRef, *, there: object) -> None:
        """Record that an object is as it was already, if it counts as changed until now.

        Args:
            what: how the object was found, in words.
            target: the object.
            there: what is there, JSON-safe.
        """
        states = [one["state"] for one in self.records if one["object"] == str(target)]
        if states and states[-1] != "restored":
            self.note(what, target, there=there)

    def note(
        self,
        what: str,
        target: ObjectRef,
        *,
        there: object = None,
        state: Literal["restored", "failed"] = "restored",
    ) -> None:
        """Record that an object is left as it is.

        Args:
            what: why, in words.
            target: the object.
            there: what is there, JSON-safe.
            state: ``failed`` where it is not put back, on purpose.
        """
        self._keep(what, target, state=state, before=there, after=there, seconds=0.0)
