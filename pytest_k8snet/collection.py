"""Which tests run in which Calico modes, and in what order."""

from __future__ import annotations

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import K8sNetError
from pytest_k8snet.settings import of as settings_of

#: The Calico modes that the selected tests ask for, in canonical order.
MODES_WANTED: pytest.StashKey[tuple[CalicoMode, ...]] = pytest.StashKey()
#: Whether a selected test asks what switching costs.
COST_WANTED: pytest.StashKey[bool] = pytest.StashKey()


def mode_of(item: pytest.Item) -> CalicoMode | None:
    """The value of ``calico_mode`` that a test is collected with."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get("calico_mode") if callspec is not None else None
    return None if value is None else CalicoMode.parse(str(value))


def apply(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the modes not asked for, and sort stably by mode, so that each is set up once.

    Raises:
        pytest.UsageError: an option or marker names an unknown mode, or asks to rerun gates.
    """
    _refuse_reruns(config, items)
    try:
        settings = settings_of(config)
        kept = [item for item in items if _wanted(item, settings.modes)]
        order = list(CalicoMode)
        modes = {item: mode_of(item) for item in kept}
    except K8sNetError as exc:
        raise pytest.UsageError(str(exc)) from None
    if len(kept) < len(items):
        keep = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    if settings.change.strategy == "in-place":
        # Switching costs then: one visit per mode. Otherwise everyone's own order stands.
        kept.sort(key=lambda item: order.index(mode) if (mode := modes[item]) else -1)
    items[:] = kept
    config.stash[COST_WANTED] = any(
        "switch_cost" in getattr(item, "fixturenames", ()) for item in kept
    )
    config.stash[MODES_WANTED] = tuple(mode for mode in order if mode in modes.values())


def _refuse_reruns(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse plugins that rerun failed tests, where gates would be rerun."""
    for item in items:
        if not {"bandwidth", "latency"} & set(getattr(item, "fixturenames", ())):
            continue
        option = config.getoption("reruns", None)
        if option or item.get_closest_marker("flaky") is not None:
            raise pytest.UsageError(
                "a gate must not be rerun until it passes: that multiplies its risk of a wrong "
                "pass\n"
                f"  found: {f'--reruns={option}' if option else 'the marker flaky'}, and the gate "
                f"{item.nodeid}\n"
                "  to do: leave gates out of it; a gate that is often undecided needs a larger "
                "plan (k8snet_plan, last=...)"
            )


def _wanted(item: pytest.Item, asked: tuple[CalicoMode, ...]) -> bool:
    mode = mode_of(item)
    if mode is None:
        return True
    if asked and mode not in asked:
        return False
    marker = item.get_closest_marker("k8snet_modes")
    return marker is None or mode in map(CalicoMode.parse, marker.args)
