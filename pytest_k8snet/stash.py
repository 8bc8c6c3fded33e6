"""The keys under which the plugin keeps its state on pytest's config and items."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_k8snet.report.baseline import Baseline
    from pytest_k8snet.report.recorder import Recorder
    from pytest_k8snet.settings import Settings

#: What the user set; there from ``pytest_configure`` on.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
#: What the run records; there once a test asks for a cluster.
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
#: The earlier run to compare with; there where one was given and a cluster was asked for.
BASELINE: pytest.StashKey[Baseline] = pytest.StashKey()
#: The names of the Calico modes that the selected tests ask for.
MODES_WANTED: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()
#: Whether a selected test asks what switching costs.
COST_WANTED: pytest.StashKey[bool] = pytest.StashKey()
#: Infrastructure errors that have been told in full, and at which test.
TOLD: pytest.StashKey[dict[tuple[str, ...], str]] = pytest.StashKey()
