"""What is refused before anything is asked of a cluster."""

from __future__ import annotations

import pytest

from pytest_k8snet.cli import main
from pytest_k8snet.errors import SettingsError
from pytest_k8snet.launch import launch
from pytest_k8snet.report.recorder import Recorder, new_run_id
from pytest_k8snet.settings import defaults


def test_windows_is_told_in_one_line_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "Windows can draw and judge results, but neither measure nor restore: use WSL 2"
    # There is no Windows here to run it on.
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(SettingsError, match=told), launch(defaults(), Recorder(None, new_run_id())):
        raise AssertionError("it was launched")
    assert main(["restore"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"k8snet: {told}"
