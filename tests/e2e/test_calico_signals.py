"""pytest asked to stop while it switches modes: all is put back at once, without a command.

``K8SNET_SOAK=50`` makes 30 points of each series.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from calico_run import objects
from mode_runs import SIGNALS, Cluster, point_of, stopped, was_faster

pytest_plugins = ["mode_fixtures"]


@pytest.mark.parametrize("point", range(1, SIGNALS + 1))
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_puts_the_cluster_back_at_once(
    cluster: Cluster,
    tmp_path: Path,
    change: str,
    seconds: float,
    sign: signal.Signals,
    point: int,
) -> None:
    before = objects(cluster.api)
    status, output = stopped(cluster, tmp_path, change, sign, point_of(seconds, point, SIGNALS))
    assert objects(cluster.api) == before, output
    # Ctrl-C in code that Python runs from a string (a dataclass being made): Python ends itself by
    # SIGINT at its exit, of any pytest run (run_eval_code_obj in CPython's pythonrun.c).
    interrupted = {2, -signal.SIGINT} if sign == signal.SIGINT else {2}
    assert status in interrupted or was_faster(output, point, SIGNALS), output
