"""Calico's version as a value that can be compared. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A Calico release, by major, minor and patch number."""

    major: int
    minor: int
    patch: int = 0

    @classmethod
    def parse(cls, text: str) -> Version | None:
        """Read ``v3.31.2``, ``3.28``, ``v3.33.0-0.dev-12-gabcdef``; None if it is no version."""
        match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
        return cls(int(match[1]), int(match[2]), int(match[3] or 0)) if match else None

    def __str__(self) -> str:
        return f"v{self.major}.{self.minor}.{self.patch}"


#: The operator manages its pools continuously from here on, and reverts direct edits.
OPERATOR_OWNS_POOLS = Version(3, 28)
#: ``IPPool.spec.assignmentMode`` exists.
MANUAL_ASSIGNMENT = Version(3, 30)
#: ``FelixConfiguration.spec.programClusterRoutes`` exists.
FELIX_CLUSTER_ROUTES = Version(3, 31)
#: Felix programs IPIP routes unless it is told not to.
FELIX_OWNS_IPIP = Version(3, 33)
