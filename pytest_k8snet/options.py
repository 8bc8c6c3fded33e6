"""What a user can set: one table of options, and how pytest learns of them.

Nothing else in the project registers an option. Every option has an ini key ``k8snet_<name>``, so
that ``pytest -o k8snet_<name>=...`` sets on the command line what has no flag of its own.

Imported by every pytest run of the environment, whether it uses the plugin or not: it must stay
this light. The values are read in ``settings``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from pytest_k8snet.report.baseline import Baseline
    from pytest_k8snet.report.recorder import Recorder
    from pytest_k8snet.settings import Settings


#: Set to ``off`` where another conftest registers ``--kubeconfig`` itself: ours is then only
#: ``--k8snet-kubeconfig``. It has to be an environment variable, because plugins register their
#: options before any conftest or ini file of the user's is read.
SHORT_OPTION_VARIABLE = "K8SNET_SHORT_OPTIONS"


class Option(NamedTuple):
    """One thing a user can set: its name, help, flags and environment variable."""

    name: str
    help: str
    flags: tuple[str, ...] = ()
    variable: str = ""
    switch: bool = False

    @property
    def ini(self) -> str:
        """The ini key."""
        return f"k8snet_{self.name}"

    @property
    def dest(self) -> str:
        """Where pytest keeps the flag's value."""
        return f"k8snet_{self.name}"


OPTIONS: tuple[Option, ...] = (
    Option(
        "kubeconfig",
        "kubeconfig of the cluster to test; otherwise KUBECONFIG, ~/.kube/config or in-cluster",
        ("--kubeconfig", "--k8snet-kubeconfig"),
    ),
    Option("context", "context of the kubeconfig", ("--k8snet-context",)),
    Option(
        "lab",
        "start the embedded lab and run on it instead of a cluster",
        ("--k8snet-lab",),
        switch=True,
    ),
    Option("lab_nodes", "number of nodes of the lab"),
    Option(
        "link_rate",
        "rate of the nodes' links, for the physical ceiling in the report (--k8snet-lab knows it)",
    ),
    Option("lab_rate", "rate of each lab link: 300M, 1G, unlimited"),
    Option(
        "change",
        "what may be changed in Calico: none (default), dedicated (own pools beside the existing "
        "ones), in-place:POOL (edit that pool and put it back); --k8snet-lab alone is dedicated",
        ("--k8snet-change",),
    ),
    Option(
        "modes",
        "the calico_mode values to test, e.g. Never,VXLAN-Always (default: all five)",
        ("--k8snet-modes",),
    ),
    Option(
        "pool_cidr",
        "addresses from which dedicated pools are cut (default: RFC 2544's benchmarking range)",
    ),
    Option(
        "fabric_routes_pods",
        "true: the underlay delivers bare pod addresses between all nodes, so that in-place may "
        "send direct what a pool encapsulates now",
    ),
    Option(
        "bystander",
        "true: watch what each change of Calico costs two pods that are not under test, also where "
        "no test asks for switch_cost",
    ),
    Option(
        "stability",
        "how long routes and devices must stay a mode's before it counts as entered (default: "
        "twice the time that they took, 250 ms to 10 s)",
    ),
    Option(
        "wire_proof",
        "true: prove paths by captures on the nodes' network interfaces as well; host-network pods "
        "then run as root with NET_RAW, SETUID and SETGID, and their image needs tcpdump",
    ),
    Option(
        "nodes",
        "names of the nodes under test, client first (default: chosen and reported)",
        ("--k8snet-nodes",),
    ),
    Option(
        "service",
        "existing Service NAMESPACE/NAME[:PORT] for web_service, instead of one made for the run",
        ("--k8snet-service",),
    ),
    Option(
        "outside",
        "command prefix that runs a command outside the cluster, e.g. 'ssh bastion' "
        "(default: this machine)",
        ("--k8snet-outside",),
        variable="K8SNET_OUTSIDE",
    ),
    Option("namespace", "existing namespace for the pods (default: one made for the run)"),
    Option("image", "image of the probe pods: needs iperf3, curl, ip, timeout and sh"),
    Option(
        "web_image", "image of the web service's pods: agnhost, or one that takes its arguments"
    ),
    Option("pod_timeout", "how long a pod may take to become ready"),
    Option(
        "plan",
        "sampling plan of the gates, e.g. 'first=4 last=20 seconds=5 alpha=0.05'",
        ("--k8snet-plan",),
    ),
    Option("ticket", "change ticket for the report, as ID or 'ID: title'", ("--k8snet-ticket",)),
    Option(
        "results", "write every sample and verdict to this JSON Lines file", ("--k8snet-results",)
    ),
    Option(
        "report",
        "write the HTML report here (the same as --html=FILE --self-contained-html)",
        ("--k8snet-report",),
    ),
    Option(
        "summary",
        "write a Markdown summary for the ticket's text field here",
        ("--k8snet-summary",),
    ),
    Option("baseline", "results file of an earlier run to compare with", ("--k8snet-baseline",)),
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
        if option.flags:
            _add_flags(group, option)
        parser.addini(option.ini, option.help, type="string", default=None)


def _add_flags(group: Any, option: Option) -> None:
    settings: dict[str, Any] = {"dest": option.dest, "default": None}
    settings |= (
        {"action": "store_const", "const": "true"}
        if option.switch
        else {"metavar": option.flags[-1].removeprefix("--k8snet-").upper()}
    )
    flags = list(option.flags)
    if os.environ.get(SHORT_OPTION_VARIABLE, "").lower() in ("off", "0", "no"):
        flags = [flag for flag in flags if flag.startswith("--k8snet-")]
    group.addoption(*flags, help=option.help, **settings)


def given(config: pytest.Config) -> bool:
    """Whether anything is set on the command line or in the ini file."""
    return any(
        (option.flags and config.getoption(option.dest) is not None) or config.getini(option.ini)
        for option in OPTIONS
    )


# -- The keys under which the plugin keeps its state on pytest's config and items -----------------

#: What the user set; there from ``pytest_configure`` on.
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
#: What the run records; there once a test asks for a cluster.
RECORDER: pytest.StashKey[Recorder] = pytest.StashKey()
#: The earlier run to compare with; there where one was given and a cluster was asked for.
BASELINE: pytest.StashKey[Baseline] = pytest.StashKey()
#: The names of the Calico modes that the selected tests ask for.
MODES_WANTED: pytest.StashKey[tuple[str, ...]] = pytest.StashKey()
#: Whether a selected test asks what switching costs.
COST_WANTED: pytest.StashKey[bool] = pytest.StashKey()
#: Infrastructure errors that have been told in full, and at which test.
TOLD: pytest.StashKey[dict[tuple[str, ...], str]] = pytest.StashKey()
