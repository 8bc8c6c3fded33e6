"""The two API groups that serve Calico's objects, and the paths of these objects. Pure."""

from __future__ import annotations

from typing import Literal

#: Which group the objects are read and written through.
Group = Literal["projectcalico.org/v3", "crd.projectcalico.org/v1"]
#: A: the v1 CRDs only. B: v1 CRDs behind the aggregated v3 API server. C: native v3 CRDs.
ApiShape = Literal["A", "B", "C"]

V3: Group = "projectcalico.org/v3"
V1: Group = "crd.projectcalico.org/v1"

INSTALLATION_PATH = "/apis/operator.tigera.io/v1/installations/default"

#: The annotation in which shapes A and B keep the v3 metadata of an object, as JSON.
METADATA_ANNOTATION = "projectcalico.org/metadata"


def path(group: Group, plural: str, name: str = "") -> str:
    """The API path of a cluster-scoped Calico collection, or of one object in it."""
    return f"/apis/{group}/{plural}" + (f"/{name}" if name else "")
