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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from ipaddress import IPv4Network
from typing import TYPE_CHECKING, Any, Literal, get_args

from pytest_k8snet.calico.installation import (
    OPERATOR_INSTALLATION,
    V1,
    ApiGroup,
    ApiShape,
    ObjectRef,
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
            return _journal(_Fields(data, ""))
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
_MODE_FIELDS = ("ipipMode", "vxlanMode")
_MODE_VALUES = ("Never", "Always", "CrossSubnet")
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


class _Fields:
    """The fields of a JSON object, each asked for once; what nobody asked for is wrong."""

    def __init__(self, data: object, at: str) -> None:
        if not isinstance(data, dict):
            raise _InvalidError(f"{at}: {_shown(data)}, expected an object")
        self._left = dict(data)
        self._at = at

    def at(self, name: str) -> str:
        return f"{self._at}.{name}" if self._at else name

    def take(self, name: str) -> Any:
        try:
            return self._left.pop(name)
        except KeyError:
            raise _InvalidError(f"{self.at(name)} is missing") from None

    def text(self, name: str, pattern: str, what: str) -> str:
        return _text(self.take(name), self.at(name), pattern, what)

    def one_of(self, name: str, values: Sequence[str]) -> Any:
        return _one_of(self.take(name), self.at(name), values)

    def boolean(self, name: str) -> bool:
        value = self.take(name)
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def texts(self, name: str) -> list[tuple[str, Any]]:
        """The items of a list without repetition, each with its place."""
        value = self.take(name)
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise self.wrong(name, value, "a list of texts")
        if len(set(value)) < len(value):
            raise self.wrong(name, value, "each once")
        return [(f"{self.at(name)}[{index}]", one) for index, one in enumerate(value)]

    def enums(self, name: str, fields: Mapping[str, Sequence[str]]) -> Any:
        """An object of these optional fields with these values; None stays None."""
        value = self.take(name)
        if value is None:
            return None
        found = _Fields(value, self.at(name))
        taken = {key: found.one_of(key, fields[key]) for key in fields if key in found._left}
        found.end()
        return taken

    def wrong(self, name: str, value: object, expected: str) -> _InvalidError:
        return _InvalidError(f"{self.at(name)}: {_shown(value)}, expected {expected}")

    def end(self) -> None:
        if self._left:
            name = next(iter(self._left))
            raise _InvalidError(f"{_shown(self.at(name))} is no field of a journal")


def _text(value: object, at: str, pattern: str, what: str) -> str:
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise _InvalidError(f"{at}: {_shown(value)}, expected {what}")
    return value


def _one_of(value: object, at: str, values: Sequence[str]) -> Any:
    if not isinstance(value, str) or value not in values:
        raise _InvalidError(f"{at}: {_shown(value)}, expected one of {', '.join(values)}")
    return value


def _journal(data: _Fields) -> Journal:
    data.take("schema")
    run_id = data.text("run", _RUN, "the id of a run, k8snet-xxxxxx")
    strategy = data.one_of("strategy", ("dedicated", "in-place"))
    owner = data.take("owner")
    if not isinstance(owner, str) or not owner.isprintable() or not 0 < len(owner) <= 500:
        raise data.wrong("owner", owner, "who wrote it, printable")
    written_at = data.text("time", _TIME, "a time")
    shape = data.one_of("shape", get_args(ApiShape))
    group = data.one_of("group", _GROUPS[shape])
    names = data.texts("own_pools")
    own = [pool_name(run_id, mode) for mode in CalicoMode]
    pools = tuple(_one_of(name, at, own) for at, name in names)
    raw = data.take("original")
    original = None if raw is None else _original(_Fields(raw, "original"), shape)
    if strategy == "dedicated" and (raw is not None or not pools):
        raise data.wrong("own_pools", list(pools), "the run's pools and no original, as dedicated")
    if strategy == "in-place" and (raw is None or pools):
        raise data.wrong("original", raw, "a pool and no own pools, as in-place")
    modes = [mode.value for mode in CalicoMode]
    written = tuple(CalicoMode(_one_of(one, at, modes)) for at, one in data.texts("written"))
    if bool(written) != (original is not None):
        raise data.wrong("written", [str(mode) for mode in written], "modes of the original pool")
    data.end()
    return Journal(
        run_id=run_id,
        strategy=strategy,
        owner=owner,
        time=written_at,
        shape=shape,
        group=group,
        original=original,
        written=written,
        dedicated_pools=pools,
    )


def _original(data: _Fields, shape: str) -> OriginalPool:
    name = data.text("name", _SUBDOMAIN, "the name of a pool")
    cidr = data.take("cidr")
    try:
        if not isinstance(cidr, str):
            raise ValueError(cidr)
        IPv4Network(cidr, strict=False)
    except ValueError:
        raise data.wrong("cidr", cidr, "an IPv4 network") from None
    modes = dict.fromkeys(_MODE_FIELDS, _MODE_VALUES)
    encapsulations = {"encapsulation": [mode.encapsulation for mode in CalicoMode]}
    spec = data.enums("spec", modes)
    if spec is None:
        raise data.wrong("spec", None, "the pool's mode fields")
    v1_spec = data.enums("v1_spec", modes)
    entry = data.enums("installation_entry", encapsulations)
    if (v1_spec is None) != (shape != "B"):
        raise data.wrong("v1_spec", v1_spec, f"one just where the shape is B, and it is {shape}")
    direct = data.boolean("written_directly")
    if entry is None and not direct:
        raise data.wrong("written_directly", direct, "true without an installation_entry")
    uids = {"uid": True, "v1_uid": shape == "B", "installation_uid": entry is not None}
    found = {
        key: data.text(key, _UID if there else "", "the id of the object" if there else "none")
        for key, there in uids.items()
    }
    fields = tuple(_text(one, at, _FIELD, "a field's name") for at, one in data.texts("v1_fields"))
    data.end()
    return OriginalPool(
        name=name,
        cidr=cidr,
        spec=spec,
        v1_spec=v1_spec,
        v1_fields=fields,
        installation_entry=entry,
        written_directly=direct,
        **found,
    )


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
        try:
            return self._journal_in(self._api.get(self._path))
        except NotFoundError:
            return None

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
        try:
            found = self._api.get(self._path)
            there = self._journal_in(found)
        except NotFoundError:
            there = None
        if there == after:
            return
        if there != before:
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
        try:
            found = self._api.get(self._path)
        except NotFoundError:
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
                change = {
                    "what": what,
                    "object": str(target),
                    "state": outcome,
                    "before": before,
                    "after": after,
                    "seconds": round(time.monotonic() - begun, 3),
                }
                self.records.append(change)
                self._on_change(change)

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

    def left_alone(self, what: str, target: ObjectRef) -> None:
        """Record that an object is not put back, on purpose.

        Args:
            what: why, in words.
            target: the object.
        """
        with suppress(RestoreError), self.recording(what, target, before=None, after=None):
            raise RestoreError(what)

    def note(self, what: str, target: ObjectRef, *, there: object = None) -> None:
        """Record that an object is left as it is.

        Args:
            what: why, in words.
            target: the object.
            there: what is there, JSON-safe.
        """
        with self.recording(what, target, before=there, after=there, state="restored"):
            pass
