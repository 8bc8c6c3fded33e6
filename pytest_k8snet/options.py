"""Command line, ini file and environment -> one frozen :class:`Settings`.

Each value remembers where it came from.

One table, :data:`OPTIONS`, says what can be set and how it is read; nothing else in the project
asks pytest for an option. Every option has an ini key ``k8snet_<name>``, so that ``pytest -o
k8snet_<name>=...`` sets on the command line what has no flag of its own.

At import: the standard library, pytest, and this project's light floor only.
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

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import BitRate, Seconds

#: Set to ``off`` where another conftest registers ``--kubeconfig`` itself: ours is then only
#: ``--k8snet-kubeconfig``. It has to be an environment variable, because plugins register their
#: options before any conftest or ini file of the user's is read.
SHORT_OPTION_VARIABLE = "K8SNET_SHORT_OPTIONS"

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
    plan: str
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


@dataclass(frozen=True, slots=True)
class Option:
    """One thing a user can set: its name, reader, default, help, flags and variable."""

    name: str
    parse: Callable[[str], Any]
    default: Any
    help: str
    flags: tuple[str, ...] = ()
    variable: str = ""
    switch: bool = False

    @property
    def ini(self) -> str:
        """The ini key."""
        return f"k8snet_{self.name}"


OPTIONS: tuple[Option, ...] = (
    Option(
        "kubeconfig",
        Path,
        None,
        "kubeconfig of the cluster to test; otherwise KUBECONFIG, ~/.kube/config or in-cluster",
        ("--kubeconfig", "--k8snet-kubeconfig"),
    ),
    Option("context", str, None, "context of the kubeconfig", ("--k8snet-context",)),
    Option(
        "lab",
        _truth,
        False,
        "start the embedded lab and run on it instead of a cluster",
        ("--k8snet-lab",),
        switch=True,
    ),
    Option("lab_nodes", _positive_int, 4, "number of nodes of the lab"),
    Option("lab_rate", _rate, BitRate(300e6), "rate of each lab link: 300M, 1G, unlimited"),
    Option(
        "change",
        Change.parse,
        Change("none"),
        "what may be changed in Calico: none (default), dedicated (own pools beside the existing "
        "ones), in-place:POOL (edit that pool and put it back); the lab allows dedicated by itself",
        ("--k8snet-change",),
    ),
    Option(
        "modes",
        _words,
        (),
        "the calico_mode values to test, e.g. Never,VXLAN-Always (default: all five)",
        ("--k8snet-modes",),
    ),
    Option(
        "pool_cidr",
        str,
        "198.18.0.0/15",
        "addresses from which dedicated pools are cut (default: RFC 2544's benchmarking range)",
    ),
    Option(
        "nodes",
        _words,
        (),
        "names of the nodes under test, client first (default: chosen and reported)",
        ("--k8snet-nodes",),
    ),
    Option(
        "service",
        str,
        None,
        "existing Service NAMESPACE/NAME[:PORT] for web_service, instead of one made for the run",
        ("--k8snet-service",),
    ),
    Option(
        "outside",
        lambda text: tuple(shlex.split(text)),
        (),
        "command prefix that runs a command outside the cluster, e.g. 'ssh bastion' "
        "(default: this machine)",
        ("--k8snet-outside",),
        variable="K8SNET_OUTSIDE",
    ),
    Option(
        "namespace", str, None, "existing namespace for the pods (default: one made for the run)"
    ),
    Option("image", str, DEFAULT_IMAGE, "image of the probe pods: needs iperf3, curl, ip and sh"),
    Option("web_image", str, DEFAULT_WEB_IMAGE, "image of the web service's pods: agnhost"),
    Option("pod_timeout", Seconds.parse, Seconds(120), "how long a pod may take to become ready"),
    Option(
        "plan", str, "", "sampling plan of the gates, e.g. 'first=4 last=20 seconds=5 alpha=0.05'"
    ),
    Option(
        "ticket",
        Ticket.parse,
        None,
        "change ticket for the report, as ID or 'ID: title'",
        ("--k8snet-ticket",),
    ),
    Option(
        "results",
        Path,
        None,
        "write every sample and verdict to this JSON Lines file",
        ("--k8snet-results",),
    ),
    Option(
        "report",
        Path,
        None,
        "write the HTML report here (the same as --html=FILE --self-contained-html)",
        ("--k8snet-report",),
    ),
    Option(
        "summary",
        Path,
        None,
        "write a Markdown summary for the ticket's text field here",
        ("--k8snet-summary",),
    ),
    Option(
        "baseline",
        Path,
        None,
        "results file of an earlier run to compare with",
        ("--k8snet-baseline",),
    ),
)

_PATHS = {option.name for option in OPTIONS if option.parse is Path}


def register(parser: pytest.Parser) -> None:
    """Add the options and ini keys to pytest."""
    group = parser.getgroup("k8snet", "network SLOs on Kubernetes with Calico")
    for option in OPTIONS:
        if option.flags:
            _add_flags(group, option)
        parser.addini(option.ini, option.help, type="string", default=None)


def _add_flags(group: Any, option: Option) -> None:
    settings: dict[str, Any] = {"dest": f"k8snet_{option.name}", "default": None}
    settings |= (
        {"action": "store_const", "const": "true"}
        if option.switch
        else {"metavar": option.flags[-1].removeprefix("--k8snet-").upper()}
    )
    flags = list(option.flags)
    if os.environ.get(SHORT_OPTION_VARIABLE, "").lower() in ("off", "0", "no"):
        flags = [flag for flag in flags if flag.startswith("--k8snet-")]
    group.addoption(*flags, help=option.help, **settings)


def read(config: pytest.Config) -> Settings:
    """Read every option.

    Raises:
        SettingsError: a value cannot be read, or two contradict each other.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for option in OPTIONS:
        values[option.name], origins[option.name] = _read_one(config, option)
    if values["lab"] and origins["change"] == "default":
        values["change"], origins["change"] = Change("dedicated"), "the lab allows it"
    settings = Settings(**values, origins=MappingProxyType(origins))
    _refuse_contradictions(settings)
    return settings


def _read_one(config: pytest.Config, option: Option) -> tuple[Any, str]:
    sources: list[tuple[str | None, str]] = [
        (
            config.getoption(f"k8snet_{option.name}", default=None) if option.flags else None,
            option.flags[0] if option.flags else "",
        ),
        (config.getini(option.ini) or None, f"ini {option.ini}"),
        (os.environ.get(option.variable) if option.variable else None, option.variable),
    ]
    for text, origin in sources:
        # An empty value unsets nothing by accident: `is None` means "not given here".
        if text is None:
            continue
        try:
            value = option.parse(text)
        except ValueError as exc:
            raise SettingsError(
                f"{origin} cannot be read", found=str(exc), remedy=option.help
            ) from None
        if option.name in _PATHS:
            base = config.rootpath if origin.startswith("ini") else config.invocation_params.dir
            value = base / value.expanduser()
        return value, origin
    return option.default, "default"


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
