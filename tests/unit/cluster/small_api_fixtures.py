"""The small API server, and a connection to it.

Test modules name it in ``pytest_plugins``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from small_api import SmallApi, running

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.connect import connect


@pytest.fixture
def server() -> Generator[SmallApi]:
    with running() as api:
        yield api


@pytest.fixture
def api(server: SmallApi, tmp_path: Path) -> Generator[Api]:
    """Connected; what that took is forgotten."""
    made = connect(kubeconfig=server.kubeconfig(tmp_path))
    server.seen.clear()
    server.bodies.clear()
    yield made
    made.close()
