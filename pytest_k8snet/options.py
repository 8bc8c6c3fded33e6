"""What a user can set: one table of options, and how pytest learns of them.

Nothing else in the project registers an option. Every option has an ini key ``k8snet_<name>``, so
that ``pytest -o k8snet_<name>=...`` sets on the command line what has no flag of its own.

Imported by every pytest run of the environment, whether it uses the plugin or not: it must stay
this light. The values are read in ``settings``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import pytest

from pytest_k8snet.units import BitRate, Seconds

if TYPE_CHECKING:
    import argparse
    from ipaddress import IPv4Network

    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.nodes import Toleration
    from pytest_k8snet.report.recorder import Recorder
    from pytest_k8snet.verdict.plan import Plan

#: What the run records: from its begin where it writes files, else once tests are collected.
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
#: The tests that were collected and are left out of the run.
DESELECTED: pytest.StashKey[list[pytest.Item]] = pytest.StashKey()
#: Set where another plugin or conftest has the short ``--kubeconfig``: which of ours it is then.
STEPPED_ASIDE: pytest.StashKey[dict[str, str]] = pytest.StashKey()

#: The default probe image: iperf3, curl, iproute2 and a shell. Every image with these will do.
DEFAULT_IMAGE = "docker.io/nicolaka/netshoot:v0.13"
#: The default HTTP target: answers in microseconds and does nothing else.
DEFAULT_WEB_IMAGE = "registry.k8s.io/e2e-test-images/agnhost:2.53"


class Option(NamedTuple):
    """One thing that a user can set.

    Attributes:
        name: of the attribute of ``Settings``.
        help: one line for ``pytest --help``.
        flag: whether it has one on the command line; without it, ``-o`` sets the ini key.
        short: another flag, added only if nobody else has it.
        read: makes the value of the text; ``ValueError`` says what is wrong with a text.
        default: as a user would write it; None leaves the setting None.
        on_lab: another default with ``--k8snet-lab``, and why.
        adds_up: what a user writes stands behind the lab's default, and not instead of it.
        variable: of the environment, read last.
    """

    name: str
    help: str
    flag: bool = False
    short: str = ""
    read: Callable[[str], Any] = str
    default: str | None = None
    on_lab: tuple[str, str] | None = None
    adds_up: bool = False
    variable: str = ""

    @property
    def key(self) -> str:
        """The ini key, and where pytest keeps the flag's value."""
        return f"k8snet_{self.name}"

    @property
    def flags(self) -> tuple[str, ...]:
        """On the command line, the short one first."""
        own = f"--k8snet-{self.name.replace('_', '-')}"
        return tuple(filter(None, (self.short, own))) if self.flag else ()


# -- How values are read --------------------------------------------------------------------------


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


def _truth(text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is less than 1")
    return number


def _positive_duration(text: str) -> Seconds:
    duration = Seconds.parse(text)
    if duration <= Seconds(0):
        raise ValueError(f"{text!r} is no time to wait")
    return duration


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _pairs(text: str) -> dict[str, str]:
    found = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not key or not equals:
            raise ValueError(f"{word!r} is no NAME=VALUE")
        found[key] = value
    return found


def _quantities(text: str) -> dict[str, str]:
    found = _pairs(text)
    for name, value in found.items():
        # resource.Quantity of k8s.io/apimachinery.
        if not re.fullmatch(r"\d+(\.\d*)?(m|[kMGTPE]|[KMGTPE]i|e\d+)?", value):
            raise ValueError(f"{name}={value} is no quantity like 500m, 2 or 256Mi")
    return found


def _tolerations(text: str) -> tuple[Toleration, ...]:
    if not (words := _words(text)):
        return ()
    from pytest_k8snet.cluster.nodes import Toleration

    return tuple(map(Toleration.parse, words))


def _command(text: str) -> tuple[str, ...]:
    import shlex

    return tuple(shlex.split(text))


def _link_rate(text: str) -> BitRate | None:
    return None if text == "unlimited" else BitRate.parse(text)


def _either(one: str, other: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in (one, other):
            raise ValueError(f"{text!r} is neither {one} nor {other}")
        return text

    return read


def paths(text: str) -> tuple[Path, ...]:
    """Read paths, separated by commas."""
    return tuple(Path(word.strip()) for word in text.split(",") if word.strip())


def _modes(text: str) -> tuple[CalicoMode, ...]:
    from pytest_k8snet.calico.modes import CalicoMode

    return tuple(map(CalicoMode.parse, _words(text)))


def _network(text: str) -> IPv4Network:
    from ipaddress import IPv4Network

    return IPv4Network(text)


def _plan(text: str) -> Plan:
    from pytest_k8snet.verdict.plan import Plan

    return Plan.parse(text)


# -- The options ----------------------------------------------------------------------------------

OPTIONS: tuple[Option, ...] = (
    Option(
        "kubeconfig",
        "kubeconfig of the cluster to test; otherwise KUBECONFIG, ~/.kube/config or in-cluster",
        flag=True,
        short="--kubeconfig",
        read=Path,
    ),
    Option("context", "context of the kubeconfig", flag=True),
    Option(
        "lab",
        "start the embedded lab and run on it instead of a cluster",
        flag=True,
        read=_truth,
        default="false",
    ),
    Option("lab_nodes", "number of nodes of the lab", read=_positive, default="4"),
    Option(
        "link_rate",
        "rate of the nodes' links, for the physical ceiling in the report (--k8snet-lab knows it)",
        read=BitRate.parse,
    ),
    Option(
        "lab_rate", "rate of each lab link: 300M, 1G, unlimited", read=_link_rate, default="300M"
    ),
    Option(
        "lab_timing",
        "how fast the lab's nodes follow a change: recorded (as a real cluster's did), quick",
        read=_either("recorded", "quick"),
        default="recorded",
        variable="K8SNET_LAB_TIMING",
    ),
    Option(
        "change",
        "what may be changed in Calico: none (default), dedicated (own pools beside the existing "
        "ones), in-place:POOL (edit that pool and put it back); --k8snet-lab alone is dedicated",
        flag=True,
        read=Change.parse,
        default="none",
        on_lab=("dedicated", "the lab allows it"),
    ),
    Option(
        "modes",
        "the calico_mode values to test, e.g. Never,VXLAN-Always (default: all five)",
        flag=True,
        read=_modes,
        default="",
    ),
    Option(
        "missing_mode",
        "what becomes of tests in a mode that the cluster cannot have: skip, or error (default: "
        "error where the mode was named, skip in the sweep of all five)",
        flag=True,
        read=_either("skip", "error"),
    ),
    Option(
        "pool_cidr",
        "addresses from which pools of the run's own are cut (default: a free piece of the "
        "cluster's addresses for pods, else RFC 2544's benchmarking range, 198.18.0.0/15)",
        read=_network,
    ),
    Option(
        "fabric_routes_pods",
        "true: the underlay routes pod addresses between all nodes, so that in-place may "
        "send direct what a pool encapsulates now",
        read=_truth,
        default="false",
        on_lab=("true", "the lab's network does"),
    ),
    Option(
        "prove_first",
        "false: in-place switches the pool without trying the mode in a pool of the run's own "
        "first, on all nodes that it would hit",
        read=_truth,
        default="true",
    ),
    Option(
        "change_owned",
        "true: in-place may change an object that a GitOps controller or a package manager keeps "
        "as it is",
        read=_truth,
        default="false",
    ),
    Option(
        "disruption",
        "true: watch what each change of Calico costs two pods that are not under test, also where "
        "no test asks for switch_cost",
        read=_truth,
        default="false",
    ),
    Option(
        "stability",
        "how long routes and devices must stay a mode's before it counts as entered (default: "
        "twice the time that they took, 250 ms to 10 s)",
        read=Seconds.parse,
    ),
    Option(
        "wire_proof",
        "true: prove paths by captures on the nodes' network interfaces as well; host-network pods "
        "then run as root with NET_RAW, SETUID and SETGID, and their image needs tcpdump",
        read=_truth,
        default="false",
    ),
    Option(
        "nodes",
        "names of the nodes under test, client first (default: chosen and reported)",
        flag=True,
        read=_words,
        default="",
    ),
    Option(
        "node_labels",
        "labels of the nodes to choose from, e.g. pool=net,disk=ssd (default: all nodes)",
        read=_pairs,
        default="",
    ),
    Option(
        "zones",
        "zone of the client's node and of the server's, or one zone for both (default: any)",
        read=_words,
        default="",
    ),
    Option(
        "service",
        "existing Service NAMESPACE/NAME[:PORT] for web_service, instead of one made for the run",
        flag=True,
    ),
    Option(
        "outside",
        "command prefix that runs a command outside the cluster, e.g. 'ssh bastion' "
        "(default: this machine)",
        flag=True,
        variable="K8SNET_OUTSIDE",
        read=_command,
        default="",
    ),
    Option("namespace", "existing namespace for the pods (default: one made for the run)"),
    Option(
        "image",
        "image of the probe pods: needs iperf3, curl, ip, timeout and sh",
        default=DEFAULT_IMAGE,
    ),
    Option(
        "web_image",
        "image of the web service's pods: agnhost, or one that takes its arguments",
        default=DEFAULT_WEB_IMAGE,
    ),
    Option(
        "image_pull_secrets",
        "names of secrets in the pods' namespace (k8snet_namespace) to pull images with",
        read=_words,
        default="",
    ),
    Option(
        "pod_requests",
        "resources that each pod requests, e.g. cpu=500m,memory=64Mi (default: cpu=10m and some "
        "MiB)",
        read=_quantities,
        default="",
    ),
    Option(
        "pod_limits",
        "resource limits of each pod, e.g. cpu=4,memory=256Mi, where a quota wants them "
        "(default: none)",
        read=_quantities,
        default="",
    ),
    Option("priority_class", "PriorityClass of the pods (default: the cluster's)"),
    Option(
        "tolerations",
        "taints that the pods tolerate, as KEY[=VALUE][:EFFECT], or * (default: those of "
        "control-plane nodes)",
        read=_tolerations,
        default="",
    ),
    Option(
        "pod_timeout", "how long a pod may take to become ready", read=Seconds.parse, default="120s"
    ),
    Option(
        "exec_ping",
        "pause between the pings that keep a silent exec alive behind load balancers",
        read=_positive_duration,
        default="5s",
    ),
    Option(
        "plan",
        "sampling plan of the gates, e.g. 'first=4 last=20 seconds=5 alpha=0.05'",
        flag=True,
        read=_plan,
        default="",
        on_lab=("idle=0", "the lab's nodes share one machine"),
        adds_up=True,
    ),
    Option(
        "ticket", "change ticket for the report, as ID or 'ID: title'", flag=True, read=Ticket.parse
    ),
    Option(
        "results", "write every sample and verdict to this JSON Lines file", flag=True, read=Path
    ),
    Option(
        "report",
        "write the HTML report here (the same as --html=FILE --self-contained-html)",
        flag=True,
        read=Path,
    ),
    Option(
        "summary", "write a Markdown summary for the ticket's text field here", flag=True, read=Path
    ),
    Option(
        "redact",
        "replace the names of servers, users, hosts and nodes, and all addresses, in everything "
        "that is written or printed: the same name by the same word",
        flag=True,
        read=_truth,
        default="false",
    ),
    Option(
        "resume",
        "results file of a run whose undecided gates go on, and whose decided ones stand",
        flag=True,
        read=Path,
    ),
    Option(
        "baseline",
        "results files of earlier runs to compare with, separated by commas",
        flag=True,
        default="",
        read=paths,
    ),
)

MARKERS = (
    "k8snet_modes(*modes): run the test only in these calico_mode values, "
    "e.g. @pytest.mark.k8snet_modes('Never', 'VXLAN-Always')",
    "k8snet_plan(text, **fields): sampling plan of the test's gates, over the run's, "
    "e.g. @pytest.mark.k8snet_plan('last=12 seconds=3')",
)


def register_markers(config: pytest.Config) -> None:
    """Make the markers known, so that strict runs accept them."""
    for line in MARKERS:
        config.addinivalue_line("markers", line)


def register(parser: pytest.Parser) -> None:
    """Add the options and ini keys to pytest."""
    group = parser.getgroup("k8snet", "network SLOs on Kubernetes with Calico")
    for option in OPTIONS:
        if option.flag:
            group.addoption(option.flags[-1], **_of_argparse(option))
        parser.addini(option.key, option.help, type="string", default=None)


def _of_argparse(option: Option) -> dict[str, Any]:
    settings: dict[str, Any] = {"dest": option.key, "default": None, "help": option.help}
    if option.read is _truth:
        return settings | {"action": "store_const", "const": "true"}
    return settings | {"metavar": option.name.replace("_", "-").upper()}


def set_values_of_short_flags_apart(known: argparse.Namespace, args: Sequence[str]) -> None:
    """Take ``prod.yaml`` of ``--kubeconfig prod.yaml`` for no test folder.

    Short flags are added when all conftests are loaded, and to find those pytest has read the
    command line without them.
    """
    short = [option.short for option in OPTIONS if option.short]
    for word, value in pairwise(args):
        if word in short and value in known.file_or_dir:
            known.file_or_dir.remove(value)


def add_short_flags(parser: pytest.Parser, config: pytest.Config, args: Sequence[str]) -> None:
    """Add ``--kubeconfig`` unless it is somebody else's, now that all others have been heard.

    An option that two register ends every run of the environment, also those that use neither.
    """
    group = parser.getgroup("k8snet")
    aside = config.stash.setdefault(STEPPED_ASIDE, {})
    for option in OPTIONS:
        if not option.short:
            continue
        unknown: list[str] = []
        # Its owner takes no "x"; or the line is wrong, and pytest says so.
        with suppress(pytest.UsageError):
            _, unknown = parser.parse_known_and_unknown_args([f"{option.short}=x", *args])
        if f"{option.short}=x" in unknown:
            group.addoption(option.short, **_of_argparse(option))
        else:
            aside[option.short] = option.flags[-1]


#: The files that a run writes.
OUTPUTS = ("results", "report", "summary")


def writes(config: pytest.Config) -> bool:
    """Whether a run writes files, as far as its command line has been read."""
    known = config.known_args_namespace
    # A worker is started by -c; a run that a worker's test starts inherits the variable alone.
    worker = "PYTEST_XDIST_WORKER" in os.environ and sys.argv[:1] == ["-c"]
    return not (worker or only_looks(known)) and any(
        getattr(known, f"k8snet_{name}", None) is not None or config.getini(f"k8snet_{name}")
        for name in OUTPUTS
    )


def only_looks(line: argparse.Namespace) -> bool:
    """Whether a command line runs no test."""
    asked = ("help", "version", "collectonly", "showfixtures", "setupplan")
    return any(getattr(line, name, None) for name in (*asked, "show_fixtures_per_test"))


def given(config: pytest.Config) -> bool:
    """Whether anything is set on the command line or in the ini file."""
    return any(
        (option.flag and config.getoption(option.key) is not None) or config.getini(option.key)
        for option in OPTIONS
    )
