"""The API server as fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_k8snet.lab.spec import CalicoSpec

from .local_server import ApiServer, running_server


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[[CalicoSpec], ApiServer]]:
    """Starts servers that play a Calico and end with the test."""
    with ExitStack() as stack:
        yield lambda calico: stack.enter_context(running_server(tmp_path, calico))


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    """A server of its own for the test."""
    with running_server(tmp_path) as server:
        yield server
