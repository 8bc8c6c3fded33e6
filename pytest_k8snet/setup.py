"""What a run that sets anything of ours does when pytest is configured."""

from __future__ import annotations

import pytest

from pytest_k8snet import settings
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError


def configure(config: pytest.Config) -> None:
    """Read the settings, and let pytest-html write the report where we were asked for one.

    Raises:
        pytest.UsageError: a value cannot be read, or two contradict each other.
    """
    try:
        read = settings.of(config)
        for name in read.modes:
            CalicoMode.parse(name)
    except SettingsError as exc:
        raise pytest.UsageError(str(exc)) from None
    if read.report is None:
        return
    if not config.pluginmanager.hasplugin("html"):
        raise pytest.UsageError(
            "--k8snet-report needs pytest-html, which is switched off here (-p no:html)"
        )
    config.option.htmlpath = str(read.report)
    config.option.self_contained_html = True
