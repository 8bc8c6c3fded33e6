"""Command line, ini file and environment -> one frozen :class:`Settings`.

Each value remembers where it came from.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from ipaddress import IPv4Network
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError
from pytest_k8snet.options import OPTIONS, OUTPUTS, Change, Option, Ticket, only_looks, paths
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.plan import Plan

if TYPE_CHECKING:
    from pytest_k8snet.cluster.nodes import Toleration


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a user can set. ``origins`` says where each value came from."""

    kubeconfig: Path | None
    context: str | None
    lab: bool
    lab_nodes: int
    lab_rate: BitRate | None
    lab_timing: Literal["recorded", "quick"]
    link_rate: BitRate | None
    namespace: str | None
    image: str
    web_image: str
    image_pull_secrets: tuple[str, ...]
    pod_requests: Mapping[str, str]
    pod_limits: Mapping[str, str]
    priority_class: str | None
    tolerations: tuple[Toleration, ...]
    pod_timeout: Seconds
    exec_ping: Seconds
    nodes: tuple[str, ...]
    node_labels: Mapping[str, str]
    zones: tuple[str, ...]
    service: str | None
    outside: tuple[str, ...]
    change: Change
    modes: tuple[CalicoMode, ...]
    missing_mode: str | None
    pool_cidr: IPv4Network | None
    fabric_routes_pods: bool
    prove_first: bool
    change_owned: bool
    disruption: bool
    stability: Seconds | None
    wire_proof: bool
    plan: Plan
    ticket: Ticket | None
    results: Path | None
    report: Path | None
    summary: Path | None
    redact: bool
    resume: Path | None
    baseline: tuple[Path, ...]
    origins: Mapping[str, str]

    def to_record(self) -> dict[str, Any]:
        """What a run record says of the settings."""
        return {
            "ticket": asdict(self.ticket) if self.ticket is not None else None,
            "settings": self.described(),
            "plan": self.plan.to_record(),
        }

    def described(self) -> dict[str, dict[str, str]]:
        """Each value as text with its origin, JSON-safe."""
        return {
            field.name: {
                "value": _as_text(getattr(self, field.name)),
                "origin": self.origins[field.name],
            }
            for field in fields(self)
            if field.name != "origins"
        }


def _as_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    if isinstance(value, Mapping):
        return ",".join(f"{key}={text}" for key, text in value.items())
    return str(value)


_SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()


def of(config: pytest.Config) -> Settings:
    """The settings of a pytest run, read at the first call.

    Raises:
        SettingsError: a value cannot be read, or two contradict each other.
    """
    if _SETTINGS not in config.stash:
        config.stash[_SETTINGS] = _read(config)
    return config.stash[_SETTINGS]


def defaults(**values: Any) -> Settings:
    """The settings of someone who sets nothing but these values, outside pytest."""
    everything = {option.name: _default(option) for option in OPTIONS} | values
    origins = {name: "argument" if name in values else "default" for name in everything}
    return Settings(**everything, origins=MappingProxyType(origins))


def _read(config: pytest.Config) -> Settings:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        values[option.name], origins[option.name] = _read_one(config, option, config.option)
    for option in OPTIONS:
        if values["lab"] and option.on_lab is not None:
            text, why = option.on_lab
            if origins[option.name] == "default":
                values[option.name], origins[option.name] = option.read(text), why
            elif option.adds_up:
                values[option.name], _ = _read_one(config, option, config.option, f"{text} ")
    settings = Settings(**values, origins=MappingProxyType(origins))
    _refuse_contradictions(settings)
    return settings


def outputs(config: pytest.Config) -> dict[str, Path | None]:
    """The files that a pytest run writes, before its command line has been read to the end.

    Raises:
        SettingsError: one is given without a value.
    """
    known = config.known_args_namespace
    return {
        option.name: _read_one(config, option, known)[0]
        for option in OPTIONS
        if option.name in OUTPUTS
    }


def _read_one(
    config: pytest.Config, option: Option, line: Namespace, before: str = ""
) -> tuple[Any, str]:
    """Return a setting and where it came from; ``before`` stands before what the user wrote."""
    sources: list[tuple[str | None, str]] = [
        (
            getattr(line, option.key, None) if option.flag else None,
            option.flags[0] if option.flag else "",
        ),
        (config.getini(option.key) or None, f"ini {option.key}"),
        (os.environ.get(option.variable) if option.variable else None, option.variable),
    ]
    for text, origin in sources:
        # An empty value unsets nothing by accident: `is None` means "not given here".
        if text is None:
            continue
        if option.read in (Path, paths) and not text:
            # Most often a shell variable that is not set; as a path it would be this directory.
            raise SettingsError(
                f"{origin} is given without a value", remedy=f"{option.help}; or leave it out"
            )
        try:
            value = option.read(before + text)
        except ValueError as exc:
            raise SettingsError(
                f"{origin} cannot be read", found=str(exc), remedy=option.help
            ) from None
        base = config.rootpath if origin.startswith("ini") else config.invocation_params.dir
        if isinstance(value, Path):
            value = base / value.expanduser()
        elif option.read is paths:
            value = tuple(base / path.expanduser() for path in value)
        return value, origin
    return _default(option), "default"


def _default(option: Option) -> Any:
    return None if option.default is None else option.read(option.default)


def _refuse_contradictions(settings: Settings) -> None:
    if settings.lab and settings.kubeconfig is not None:
        raise SettingsError(
            "both a lab and a cluster were asked for",
            found=f"lab from {settings.origins['lab']}, "
            f"kubeconfig {settings.kubeconfig} from {settings.origins['kubeconfig']}",
            remedy="give --k8snet-lab or --kubeconfig, not both",
        )
    if len(settings.nodes) == 1:
        raise SettingsError(
            "one node makes no pair",
            found=f"{settings.nodes[0]} from {settings.origins['nodes']}",
            remedy="name at least two nodes, client first, or none at all",
        )
    if len(settings.zones) > 2:
        raise SettingsError(
            "a pair lies in two zones at most",
            found=f"{' '.join(settings.zones)} from {settings.origins['zones']}",
            remedy="name the client's zone and the server's, or one zone for both",
        )
    if settings.image_pull_secrets and settings.namespace is None:
        raise SettingsError(
            "image pull secrets are read in the pods' own namespace, and the run's is made anew",
            found=f"{' '.join(settings.image_pull_secrets)} from "
            f"{settings.origins['image_pull_secrets']}",
            remedy="make a namespace with these secrets and name it: -o k8snet_namespace=NAME",
        )
    if settings.resume is not None and not settings.resume.is_file():
        raise SettingsError(
            "the results file to resume does not exist",
            found=str(settings.resume),
            remedy="give the results file (--k8snet-results) of the run with undecided gates",
        )
    if settings.resume is not None and settings.resume == settings.results:
        raise SettingsError(
            "a run cannot be resumed from the file that it writes",
            found=str(settings.results),
            remedy="write to another file (--k8snet-results); it will hold the earlier rounds too",
        )
    if settings.resume is not None and settings.redact:
        raise SettingsError(
            "a redacted run cannot resume another",
            found=f"resume from {settings.origins['resume']}, redact from "
            f"{settings.origins['redact']}",
            remedy="resume without --k8snet-redact, and redact afterwards: k8snet report --redact",
        )
    missing = [path for path in settings.baseline if not path.is_file()]
    if missing:
        raise SettingsError(
            "the baseline file does not exist",
            found=", ".join(map(str, missing)),
            remedy="give the results file (--k8snet-results) of an earlier run",
        )
    for name in OUTPUTS:
        path: Path | None = getattr(settings, name)
        if path is not None and not path.parent.is_dir():
            raise SettingsError(
                f"the folder of the {name} file does not exist",
                found=str(path),
                remedy=f"make it first: mkdir -p {path.parent}",
            )


def header(settings: Settings) -> list[str]:
    """The lines of pytest's header: what was set, and where. Nothing where nothing was."""
    described = [
        f"{name} {entry['value']} ({entry['origin']})"
        for name, entry in settings.described().items()
        if entry["origin"] != "default"
    ]
    return ["k8snet: " + ", ".join(described)] if described else []


def configure(config: pytest.Config) -> None:
    """Read the settings, and let pytest-html write the report where we were asked for one.

    Raises:
        pytest.UsageError: a value cannot be read, or two contradict each other.
    """
    try:
        settings = of(config)
    except SettingsError as exc:
        raise pytest.UsageError(exc.told) from None
    # What only looks at the tests leaves an earlier run's report alone.
    if settings.report is None or only_looks(config.option):
        return
    if not config.pluginmanager.hasplugin("html"):
        raise pytest.UsageError(
            "--k8snet-report needs pytest-html, which is switched off here (-p no:html)"
        )
    config.option.htmlpath = str(settings.report)
    config.option.self_contained_html = True
