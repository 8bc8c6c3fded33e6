"""Which API groups serve Calico's objects here, and which of them is the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_k8snet.calico import groups
from pytest_k8snet.calico.groups import ApiShape, Group
from pytest_k8snet.calico.reader import Reader

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api

_FINISHED = ("Converged", "Complete")


def served_groups(api: Api) -> dict[str, str]:
    """The API groups by name, each with its preferred version: ``apps/v1``."""
    return {
        str(group.get("name")): str((group.get("preferredVersion") or {}).get("groupVersion"))
        for group in api.get("/apis").get("groups") or ()
    }


def migration_phases(reader: Reader, served: Mapping[str, str]) -> dict[str, str]:
    """The DatastoreMigrations by name, each with its phase."""
    version = served.get("migration.projectcalico.org")
    if version is None:
        return {}
    migrations = reader.list(f"/apis/{version}/datastoremigrations", "DatastoreMigrations")
    return {
        str(one["metadata"]["name"]): str((one.get("status") or {}).get("phase") or "unknown")
        for one in migrations or ()
    }


def unfinished(phases: Mapping[str, str]) -> str:
    """The first DatastoreMigration that has not finished, with its phase; empty if all have."""
    return next(
        (f"{name} (phase {phase})" for name, phase in phases.items() if phase not in _FINISHED), ""
    )


def find_shape(
    reader: Reader, served: Mapping[str, str], phases: Mapping[str, str]
) -> tuple[ApiShape | None, Group | None]:
    """The shape of Calico's API, and the group to write pools through.

    Args:
        reader: the connection.
        served: what :func:`served_groups` found.
        phases: what :func:`migration_phases` found.
    """
    v1, v3 = "crd.projectcalico.org" in served, "projectcalico.org" in served
    if not v1 and not v3:
        return None, None
    if v1 and not v3:
        return "A", groups.V1
    if v3 and not v1:
        return "C", groups.V3
    service = reader.get(
        "/apis/apiregistration.k8s.io/v1/apiservices/v3.projectcalico.org", "APIService"
    )
    migrated = bool(phases) and not unfinished(phases)
    aggregated = (service.get("spec") or {}).get("service") if service else not migrated
    if aggregated:
        return "B", groups.V3
    # Both sets of CRDs without an aggregating server: Calico itself stores in v1, until its
    # objects have been moved.
    return ("C", groups.V3) if migrated else ("A", groups.V1)
