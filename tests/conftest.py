"""What all tests share: one lab for those that need a cluster, started for the first of them."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator

import pytest

from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

# pytest words its summary differently on CI servers, and our live line stays away there, and our
# summary goes to the job's page. The tests look at what people see at a prompt.
for _variable in ("CI", "BUILD_NUMBER", "GITHUB_STEP_SUMMARY"):
    os.environ.pop(_variable, None)

# Tests that look at how long nodes take to follow a change say so.
os.environ["K8SNET_LAB_TIMING"] = "quick"

# The labs and the runs that tests start are hundreds of processes with the same modules. Where
# these may not be kept compiled beside their sources, they are kept for as long as the tests run.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
    os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="k8snet-pycache-")
    atexit.register(shutil.rmtree, os.environ["PYTHONPYCACHEPREFIX"], ignore_errors=True)

# A shell that starts the tests in its background has them ignore SIGINT, and the runs that they
# start inherit that: Ctrl-C would then be no test of anything.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab() -> Iterator[LabProcess]:
    """The study's four nodes. Shared: a test removes what it makes, and leaves nodes and pools."""
    with start(LabSpec(nodes=study_nodes())) as running:
        yield running
        # A lab that died under the tests is a failure of its own, not only theirs.
        running.check()
