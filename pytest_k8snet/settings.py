"""Command line, ini file and environment -> one frozen :class:`Settings`.

Each value remembers where it came from.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import pytest

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.errors import SettingsError
from pytest_k8snet.options import OPTIONS, SETTINGS, Option
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.plan import Plan

#: The default probe image: iperf3, curl, iproute2 and a shell. Every image with these will do.
DEFAULT_IMAGE = "docker.io/nicolaka/netshoot:v0.13"
#: The default HTTP target: answers in microseconds and does nothing else.
DEFAULT_WEB_IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


@dataclass(frozen=True, slots=True)
class Change:
    """What a run may change in Calico: nothing, add its own pools, or edit one named pool."""

    strategy: Literal["none", "dedicated", "in-place"]
    pool: str = ""

    @classmethod
    def parse(cls, text: str) -> Change:
        """Read ``none``, ``dedicated`` or ``in-place:POOL``."""
        word, colon, pool = text.strip().partition(":")
        if word == "in-place":
            if not pool:
                raise ValueError(
                    "in-place needs the name of the pool: in-place:default-ipv4-ippool"
                )
            return cls("in-place", pool)
        if word in ("none", "dedicated") and not colon:
            return cls(cast(Literal["none", "dedicated"], word))
        raise ValueError(f"{text!r} is none of: none, dedicated, in-place:POOL")

    def __str__(self) -> str:
        return f"{self.strategy}:{self.pool}" if self.pool else self.strategy


@dataclass(frozen=True, slots=True)
class Ticket:
    """The change ticket that the report belongs to."""

    id: str
    title: str = ""

    @classmethod
    def parse(cls, text: str) -> Ticket:
        """Read ``CHG-1234`` or ``CHG-1234: new NIC firmware``."""
        name, _, title = text.partition(":")
        if not name.strip():
            raise ValueError(f"{text!r} has no ticket id before the colon")
        return cls(name.strip(), title.strip())

    def __str__(self) -> str:
        return f"{self.id}: {self.title}" if self.title else self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that a user can set. ``origins`` says where each value came from."""

    kubeconfig: Path | None
    context: str | None
    lab: bool
    lab_nodes: int
    lab_rate: BitRate | None
    link_rate: BitRate | None
    namespace: str | None
    image: str
    web_image: str
    pod_timeout: Seconds
    nodes: tuple[str, ...]
    service: str | None
    outside: tuple[str, ...]
    change: Change
    modes: tuple[str, ...]
    pool_cidr: str
    fabric_routes_pods: bool
    bystander: bool
    stability: Seconds | None
    wire_proof: bool
    plan: Plan
    ticket: Ticket | None
    results: Path | None
    report: Path | None
    summary: Path | None
    baseline: Path | None
    origins: Mapping[str, str]

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
    return str(value)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.replace(",", " ").split() if word)


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _rate(text: str) -> BitRate | None:
    return None if text == "unlimited" else BitRate.parse(text)


#: How each option's text is read, and its default.
READERS: Mapping[str, tuple[Callable[[str], Any], Any]] = {
    "kubeconfig": (Path, None),
    "context": (str, None),
    "lab": (_truth, False),
    "lab_nodes": (_positive_int, 4),
    "link_rate": (BitRate.parse, None),
    "lab_rate": (_rate, BitRate(300e6)),
    "change": (Change.parse, Change("none")),
    "modes": (_words, ()),
    "pool_cidr": (str, "198.18.0.0/15"),
    "fabric_routes_pods": (_truth, False),
    "bystander": (_truth, False),
    "stability": (Seconds.parse, None),
    "wire_proof": (_truth, False),
    "nodes": (_words, ()),
    "service": (str, None),
    "outside": (lambda text: tuple(shlex.split(text)), ()),
    "namespace": (str, None),
    "image": (str, DEFAULT_IMAGE),
    "web_image": (str, DEFAULT_WEB_IMAGE),
    "pod_timeout": (Seconds.parse, Seconds(120)),
    "plan": (Plan.parse, Plan()),
    "ticket": (Ticket.parse, None),
    "results": (Path, None),
    "report": (Path, None),
    "summary": (Path, None),
    "baseline": (Path, None),
}

#: What is another default with ``--k8snet-lab``, and why.
_ON_THE_LAB: Mapping[str, tuple[Any, str]] = {
    "change": (Change("dedicated"), "the lab allows it"),
    "fabric_routes_pods": (True, "the lab's network does"),
}


def defaults(**values: Any) -> Settings:
    """The settings of someone who sets nothing but these values, outside pytest."""
    everything = {name: default for name, (_, default) in READERS.items()} | values
    origins = {name: "argument" if name in values else "default" for name in everything}
    return Settings(**everything, origins=MappingProxyType(origins))


def of(config: pytest.Config) -> Settings:
    """The settings of a run, read at the first call.

    Raises:
        SettingsError: a value cannot be read, or two contradict each other.
    """
    if SETTINGS not in config.stash:
        config.stash[SETTINGS] = read(config)
    return config.stash[SETTINGS]


def read(config: pytest.Config) -> Settings:
    """Read every option.

    Raises:
        SettingsError: a value cannot be read, or two contradict each other.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        values[option.name], origins[option.name] = _read_one(config, option)
    if values["lab"]:
        for name, (value, why) in _ON_THE_LAB.items():
            if origins[name] == "default":
                values[name], origins[name] = value, why
    settings = Settings(**values, origins=MappingProxyType(origins))
    _refuse_contradictions(settings)
    return settings


def _read_one(config: pytest.Config, option: Option) -> tuple[Any, str]:
    parse, default = READERS[option.name]
    sources: list[tuple[str | None, str]] = [
        (
            config.getoption(option.dest) if option.flags else None,
            option.flags[0] if option.flags else "",
        ),
        (config.getini(option.ini) or None, f"ini {option.ini}"),
        (os.environ.get(option.variable) if option.variable else None, option.variable),
    ]
    for text, origin in sources:
        # An empty value unsets nothing by accident: `is None` means "not given here".
        if text is None:
            continue
        if parse is Path and not text:
            # Most often a shell variable that is not set; as a path it would be this directory.
            raise SettingsError(
                f"{origin} is given without a value", remedy=f"{option.help}; or leave it out"
            )
        try:
            value = parse(text)
        except ValueError as exc:
            raise SettingsError(
                f"{origin} cannot be read", found=str(exc), remedy=option.help
            ) from None
        if parse is Path:
            base = config.rootpath if origin.startswith("ini") else config.invocation_params.dir
            value = base / value.expanduser()
        return value, origin
    return default, "default"


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
    if settings.baseline is not None and not settings.baseline.is_file():
        raise SettingsError(
            "the baseline file does not exist",
            found=str(settings.baseline),
            remedy="give the results file (--k8snet-results) of an earlier run",
        )
    for name in ("results", "report", "summary"):
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


# -- What a run that sets anything of ours does when pytest is configured -------------------------


def configure(config: pytest.Config) -> None:
    """Read the settings, and let pytest-html write the report where we were asked for one.

    Raises:
        pytest.UsageError: a value cannot be read, or two contradict each other.
    """
    try:
        read = of(config)
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
