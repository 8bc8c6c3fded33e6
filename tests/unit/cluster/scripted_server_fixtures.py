"""The scripted server, and a connection to it.

Test modules name it in ``pytest_plugins``.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from scripted_server import ScriptedServer, running

from pytest_k8snet.cluster.api import Api, connect


@pytest.fixture
def server() -> Generator[ScriptedServer]:
    with running() as api:
        yield api


@pytest.fixture
def api(server: ScriptedServer, tmp_path: Path) -> Generator[Api]:
    """Connected; what that took is forgotten."""
    made = connect(kubeconfig=server.kubeconfig(tmp_path))
    server.seen.clear()
    server.bodies.clear()
    yield made
    made.close()
