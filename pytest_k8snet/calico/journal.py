"""What a run is about to change, kept in the cluster itself, so that anyone can take it back.

It is written before the first change and deleted after the last restoration. It holds the raw
originals: restoring needs nothing else, in particular not the run that wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_k8snet.calico.decision import Strategy
from pytest_k8snet.calico.installation import ApiGroup, ApiShape
from pytest_k8snet.errors import ConflictError, NotFoundError, RestoreError

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
            doesn't own the pool.
        written_directly: whether the pool itself was written, beside the Installation or without.
    """

    name: str
    cidr: str
    spec: Mapping[str, Any]
    v1_spec: Mapping[str, Any] | None = None
    installation_entry: Mapping[str, Any] | None = None
    written_directly: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """Everything needed to take a run's changes back."""

    run_id: str
    strategy: Strategy
    #: Who writes: for messages.
    owner: str
    time: str
    shape: ApiShape
    group: ApiGroup
    original: OriginalPool | None = None
    #: Names of the pools that the run makes; some may not exist yet.
    dedicated_pools: tuple[str, ...] = field(default=())

    def to_json(self) -> str:
        """The text that is kept."""
        original = self.original
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
                "original": original
                and {
                    "name": original.name,
                    "cidr": original.cidr,
                    "spec": original.spec,
                    "v1_spec": original.v1_spec,
                    "installation_entry": original.installation_entry,
                    "written_directly": original.written_directly,
                },
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

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._collection = f"/api/v1/namespaces/{namespace}/configmaps"
        self._path = f"{self._collection}/{JOURNAL_NAME}"
        self.where = f"ConfigMap {namespace}/{JOURNAL_NAME}"

    def read(self) -> Journal | None:
        """The journal; None if there is none.

        Raises:
            RestoreError: there is something that this version can't restore from.
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
