"""Which tests run in which Calico modes, and in what order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import K8sNetError, SettingsError
from pytest_k8snet.options import DESELECTED, RECORDER
from pytest_k8snet.settings import of as settings_of
from pytest_k8snet.settings import outputs
from pytest_k8snet.verdict.claims import NO_RERUN

if TYPE_CHECKING:
    from pytest_k8snet.report.recorder import Recorder
    from pytest_k8snet.report.redaction import Redactor

#: What the selected tests want of a run, as :func:`pytest_k8snet.launch.launch` takes it.
WANTED: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def mode_of(item: pytest.Item) -> CalicoMode | None:
    """Return the value of ``calico_mode`` that a test is collected with."""
    callspec = getattr(item, "callspec", None)
    value = callspec.params.get("calico_mode") if callspec is not None else None
    return None if value is None else CalicoMode.parse(str(value))


def apply(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the modes not asked for, and sort stably by mode, so that each is set up once.

    Raises:
        pytest.UsageError: an option or marker names an unknown mode, or asks to rerun gates.
    """
    try:
        for item in items:
            if {"bandwidth", "latency", "connections"} & set(getattr(item, "fixturenames", ())):
                refuse_rerun(item)
        settings = settings_of(config)
        kept = [item for item in items if _wanted(item, settings.modes)]
        order = list(CalicoMode)
        modes = {item: mode_of(item) for item in kept}
    except K8sNetError as exc:
        raise pytest.UsageError(exc.told) from None
    if len(kept) < len(items):
        keep = set(kept)
        config.hook.pytest_deselected(items=[item for item in items if item not in keep])
    if settings.change.strategy == "in-place":
        # Switching costs then: one visit per mode. Otherwise everyone's own order stands.
        kept.sort(key=lambda item: order.index(mode) if (mode := modes[item]) else -1)
    items[:] = kept
    fixtures = {item: getattr(item, "fixturenames", ()) for item in kept}
    config.stash[WANTED] = {
        "modes": tuple(mode for mode in order if mode in modes.values()),
        "watch_switches": any("switch_cost" in names for names in fixtures.values()),
        "fixtures": frozenset(name for item in kept if not modes[item] for name in fixtures[item]),
    }


def names_its_mode(item: pytest.Item) -> bool:
    """Tell whether an unavailable mode was asked for by its name, so that skipping hides it."""
    settings = settings_of(item.config)
    if settings.missing_mode is not None:
        return settings.missing_mode == "error"
    marks = [*item.iter_markers("parametrize"), *item.iter_markers("k8snet_modes")]
    return bool(settings.modes) or any(
        mark.name == "k8snet_modes" or "calico_mode" in _argument_names(mark) for mark in marks
    )


def _argument_names(mark: pytest.Mark) -> Sequence[str]:
    names = mark.args[0] if mark.args else mark.kwargs.get("argnames", "")
    return names.replace(",", " ").split() if isinstance(names, str) else names


#: Options that run tests again, and ini keys of the same names.
_RERUNS = ("reruns", "force_reruns", "retries", "force_flaky", "stepwise")
#: The marks by which they do so for single tests.
_MARKS = ("flaky", "rerun", "retry", "repeat")
#: Most tests that the record of a run names; those that never ran are told by it.
_MOST_NAMED = 200


def identity(item: pytest.Item) -> object:
    """Return what a test has in common with its repetitions, and with no other test.

    Plugins that repeat tests give them a parameter of their own, named with two underscores.
    """
    callspec = getattr(item, "callspec", None)
    own = callspec.params if callspec is not None else {}
    return (
        item.nodeid.partition("[")[0],
        *sorted((name, id(value)) for name, value in own.items() if not _repeats(name)),
    )


def _repeats(parameter: str) -> bool:
    return parameter.startswith("__")


def refuse_rerun(item: pytest.Item) -> None:
    """Refuse a test with gates that something is set to run again.

    What runs it again unannounced is refused when its gates measure a second time.

    Raises:
        SettingsError: with what would run it again.
    """
    source = _rerun_by(item)
    if source:
        raise SettingsError(
            "a gate must not be rerun until it passes: that multiplies its risk of a wrong pass",
            found=f"{source}, and the gate {item.nodeid}",
            remedy=NO_RERUN,
        )


def _rerun_by(item: pytest.Item) -> str:
    """Return what is set to run a test again, or nothing."""
    config = item.config
    for name in _RERUNS:
        flag = f"--{name.replace('_', '-')}"
        for setting, value in ((flag, config.getoption(name, None)), (name, _ini(config, name))):
            if value and str(value) != "0":
                return setting if value is True else f"{setting}={value}"
    for name in _MARKS:
        if item.get_closest_marker(name) is not None:
            return f"the marker {name}"
    if any(map(_repeats, getattr(getattr(item, "callspec", None), "params", ()))):
        return "a plugin that repeats tests"
    # Of a whole run that is tried again, those that passed would keep their verdicts.
    cache = getattr(config, "cache", None)
    failed = cache.get("cache/lastfailed", {}) if config.getoption("lf", False) and cache else {}
    if item.nodeid in failed:
        return "--last-failed"
    return ""


def _ini(config: pytest.Config, name: str) -> object:
    try:
        return config.getini(name)
    except (KeyError, ValueError):
        return None


def describe(session: pytest.Session, redactor: Redactor) -> Recorder:
    """Record what a run is: who runs it, its settings, and the tests that it will run.

    Args:
        session: pytest's, with its tests collected.
        redactor: keeps out of the records what is not to leave the house.
    """
    from pytest_k8snet.report import hooks
    from pytest_k8snet.report.recorder import origin

    config = session.config
    if RECORDER not in config.stash:
        # A worker's files are its controller's.
        files = {} if hasattr(config, "workerinput") else outputs(config)
        config.stash[RECORDER] = hooks.begin(config, files)
    recorder = config.stash[RECORDER]
    recorder.redactor = redactor
    hooks.describe(
        recorder,
        **origin(config),
        **settings_of(config).to_record(),
        selection=_selection(session),
    )
    hooks.register_html(config, recorder)
    return recorder


def _selection(session: pytest.Session) -> dict[str, Any]:
    """Say what of the collected tests runs, and what of them is left out and by which option."""
    config, left_out = session.config, session.config.stash.get(DESELECTED, [])
    modes, lf = _modes_of(session.items), _last_failed(config)
    return {
        "selected": len(session.items),
        "deselected": len(left_out),
        "tests": [item.nodeid for item in session.items[:_MOST_NAMED]],
        "modes": modes,
        "modes_left_out": [mode for mode in _modes_of(left_out) if mode not in modes],
        # By --last-failed, files without a failed test are not even collected.
        "by": [text for text in _filters(config) if text] if left_out or lf else [],
    }


def _modes_of(items: Sequence[pytest.Item]) -> list[str]:
    wanted = {mode_of(item) for item in items}
    return [str(mode) for mode in CalicoMode if mode in wanted]


def _filters(config: pytest.Config) -> Iterator[str]:
    modes = settings_of(config).modes
    yield f"--k8snet-modes={','.join(map(str, modes))}" if modes else ""
    for flag, name in (("-k", "keyword"), ("-m", "markexpr"), ("--deselect", "deselect")):
        value = config.getoption(name, None)
        if value:
            yield f"{flag} {' '.join(value) if isinstance(value, list) else value}"
    yield "--last-failed" if _last_failed(config) else ""


def _last_failed(config: pytest.Config) -> bool:
    """Tell whether only tests run that failed before; without any, pytest runs all."""
    cache = getattr(config, "cache", None)
    return bool(config.getoption("lf", None) and cache and cache.get("cache/lastfailed", {}))


def _wanted(item: pytest.Item, asked: tuple[CalicoMode, ...]) -> bool:
    mode = mode_of(item)
    if mode is None:
        return True
    if asked and mode not in asked:
        return False
    marker = item.get_closest_marker("k8snet_modes")
    return marker is None or mode in map(CalicoMode.parse, marker.args)
