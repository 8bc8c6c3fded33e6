"""What a run changes: the journal in the cluster, and the record of each change.

The journal is written before the first change and deleted after the last restoration. It holds the
raw originals: restoring needs nothing else, in particular not the run that wrote it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_k8snet.calico.decision import Strategy
from pytest_k8snet.calico.installation import (
    OPERATOR_INSTALLATION,
    ApiGroup,
    ApiShape,
    ObjectRef,
)
from pytest_k8snet.calico.lease import STATE_NAMESPACE
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import (
    ApiError,
    ConflictError,
    ModeUnavailableError,
    NotFoundError,
    RestoreError,
)

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

JOURNAL_NAME = "k8snet-journal"
#: Raised whenever an older version could not restore from what is written.
SCHEMA = 1
_KEY = "journal.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginalPool:
    """A pool that is edited in place, as it was.

    Attributes:
        name: the pool's name.
        cidr: its addresses: a pool of that name with others is not this pool.
        spec: the raw spec in the group that pools are written through.
        v1_spec: the raw spec of the v1 object beneath it (shape B); None elsewhere.
        installation_entry: the raw entry of the operator's Installation; None if the operator
            does not own the pool.
        written_directly: whether the pool itself was written, beside the Installation or without.
    """

    name: str
    cidr: str
    spec: Mapping[str, Any]
    v1_spec: Mapping[str, Any] | None = None
    installation_entry: Mapping[str, Any] | None = None
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
    #: Names of the pools that the run makes; some may not exist yet.
    dedicated_pools: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text that is kept."""
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
            },
            indent=1,
        )

    @classmethod
    def from_json(cls, text: str, *, where: str) -> Journal:
        """Read the text back.

        Raises:
            RestoreError: a newer version wrote it, or it is no journal of ours.
        """
        try:
            data = json.loads(text)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError):
            raise _foreign(where, text) from None
        if schema != SCHEMA:
            raise RestoreError(
                f"The journal {where} was written by another version of pytest-k8snet",
                found=f"schema {schema!r}, this version knows {SCHEMA}",
                remedy="Run `k8snet restore` of the version that wrote it: nothing was touched.",
            )
        try:
            original = data["original"]
            return cls(
                run_id=data["run"],
                strategy=data["strategy"],
                owner=data["owner"],
                time=data["time"],
                shape=data["shape"],
                group=data["group"],
                dedicated_pools=tuple(data["own_pools"]),
                original=OriginalPool(**original) if original else None,
            )
        except (KeyError, TypeError):
            raise _foreign(where, text) from None


def _foreign(where: str, text: str) -> RestoreError:
    return RestoreError(
        f"{where} is no journal of pytest-k8snet, or a damaged one",
        found=text,
        remedy="Find out who wrote it; if nobody needs it, delete it. It was not touched.",
    )


class JournalStore:
    """The place of the one journal of a cluster: a ConfigMap."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._collection = f"/api/v1/namespaces/{STATE_NAMESPACE}/configmaps"
        self._path = f"{self._collection}/{JOURNAL_NAME}"
        self.where = f"ConfigMap {STATE_NAMESPACE}/{JOURNAL_NAME}"

    def read(self) -> Journal | None:
        """The journal; None if there is none.

        Raises:
            RestoreError: there is something that this version cannot restore from.
        """
        try:
            found = self._api.get(self._path)
        except NotFoundError:
            return None
        text = (found.get("data") or {}).get(_KEY)
        if text is None:
            raise _foreign(self.where, json.dumps(found.get("data")))
        return Journal.from_json(text, where=self.where)

    def write(self, journal: Journal) -> None:
        """Keep a journal where there is none; an existing one is never overwritten.

        Raises:
            RestoreError: there is one already.
        """
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
            "data": {_KEY: journal.to_json()},
        }
        try:
            self._api.create(self._collection, body)
        except ConflictError:
            raise RestoreError(
                "Another run's changes to this cluster have not been restored",
                found=f"{self.where} exists",
                remedy="Run `k8snet restore` first.",
            ) from None

    def delete(self, run_id: str) -> None:
        """Delete the journal of a run; another run's stays, and none is fine."""
        journal = self.read()
        if journal is not None and journal.run_id == run_id:
            self._api.delete(self._path)


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

    def note(self, what: str, target: ObjectRef, *, there: object = None) -> None:
        """Record that an object is left as it is.

        Args:
            what: why, in words.
            target: the object.
            there: what is there, JSON-safe.
        """
        with self.recording(what, target, before=there, after=there, state="restored"):
            pass
