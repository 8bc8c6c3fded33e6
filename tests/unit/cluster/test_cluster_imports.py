"""The cluster layer is light until a connection is made."""

from __future__ import annotations

import json
import pkgutil
import subprocess
import sys

from pytest_k8snet import cluster

HEAVY = ("kubernetes", "urllib3", "websocket", "yaml", "pydantic", "requests", "pytest")
MODULES = [module.name for module in pkgutil.iter_modules(cluster.__path__)]


def test_importing_every_module_loads_nothing_heavy() -> None:
    imports = "\n".join(f"import pytest_k8snet.cluster.{name}" for name in MODULES)
    script = f"{imports}\nimport sys, json\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert set(HEAVY) & set(json.loads(done.stdout)) == set()
