"""``k8snet lab``: a lab in the foreground, or around one command."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import TypeVar

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.dataplane.felix import Behaviour
from pytest_k8snet.lab.faults import API_FAULTS, CALICO_FAULTS, NAMES
from pytest_k8snet.lab.process import LabProcess, start
from pytest_k8snet.lab.spec import (
    DEFAULT_LINK_RATE,
    LAYOUTS,
    TIMINGS,
    CalicoSpec,
    LabSpec,
    laid_out,
    study_nodes,
)
from pytest_k8snet.units import BitRate

_T = TypeVar("_T")

_MODES = ("Never", "CrossSubnet", "Always")
_START_SECONDS = 60.0
# What a shell says of a command that it cannot find.
_NOT_FOUND_STATUS = 127


def main(argv: Sequence[str]) -> int:
    """Run ``k8snet lab``; returns its exit status.

    Raises:
        LabError: the lab cannot start, or died.
    """
    arguments, command = _split(argv)
    options = parser().parse_args(arguments)
    spec = _spec(options)
    with start(spec, port=options.port, timeout_seconds=_START_SECONDS) as lab:
        if options.kubeconfig is None:
            return _run(lab, command) if command else _stay(lab, lab.kubeconfig)
        _copy(lab.kubeconfig, options.kubeconfig)
        try:
            return _run(lab, command) if command else _stay(lab, options.kubeconfig)
        finally:
            options.kubeconfig.unlink(missing_ok=True)


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options, and the command after ``--``."""
    words = list(argv)
    if "--" not in words:
        return words, []
    index = words.index("--")
    return words[:index], words[index + 1 :]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, without what follows ``--``."""
    made = argparse.ArgumentParser(
        prog="k8snet lab",
        usage="k8snet lab [OPTIONS] [-- COMMAND ...]",
        description="Start the embedded lab: a Kubernetes cluster with Calico whose nodes are\n"
        "network namespaces of this machine. It stays until Ctrl-C; with a COMMAND it runs\n"
        "that with KUBECONFIG and K8SNET_OUTSIDE set, and ends with its exit status.",
        epilog=_faults_told(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    defaults = CalicoSpec()
    add = made.add_argument
    add("--nodes", type=_reader(_whole), default=4, metavar="N", help="how many nodes (default: 4)")
    add(
        "--rate",
        type=_reader(_rate),
        default=DEFAULT_LINK_RATE,
        metavar="RATE",
        help="rate of each node's link, in bit/s: 300M (default), 1G, unlimited",
    )
    add(
        "--calico-version",
        type=_reader(_version),
        default=defaults.version,
        metavar="VERSION",
        help=f"the Calico version to play (default: {defaults.version})",
    )
    add(
        "--calico-install",
        choices=("manifest", "operator"),
        default=defaults.install,
        help="how Calico was installed (default: manifest)",
    )
    add(
        "--api-shape",
        choices=("A", "B", "C"),
        default=defaults.api_shape,
        help="A: crd.projectcalico.org only (default); B: with the aggregated "
        "projectcalico.org/v3; C: native projectcalico.org/v3",
    )
    add(
        "--backend",
        choices=("bird", "vxlan"),
        default=defaults.backend,
        help="what programs routes beside Felix (default: bird)",
    )
    add(
        "--ipip",
        choices=_MODES,
        default=defaults.ipip_mode,
        help=f"ipipMode of the default pool (default: {defaults.ipip_mode})",
    )
    add(
        "--vxlan",
        choices=_MODES,
        default=defaults.vxlan_mode,
        help=f"vxlanMode of the default pool (default: {defaults.vxlan_mode})",
    )
    add(
        "--ipip-driver",
        choices=("auto", "kernel", "tun"),
        default="auto",
        help="who makes tunl0: the kernel's ipip driver, a forwarder on /dev/net/tun, or "
        "(auto, the default) the first that this machine has",
    )
    add(
        "--layout",
        action="append",
        default=[],
        metavar="[NODE=]KIND",
        dest="layouts",
        help=f"where nodes have their address: {', '.join(LAYOUTS)}; of one or all "
        "nodes (may be given several times)",
    )
    add(
        "--cluster-cidr",
        type=_reader(IPv4Network),
        metavar="CIDR",
        help="kube-proxy's clusterCIDR: what reaches a Service from elsewhere is masqueraded "
        "(default: all pools count as inside)",
    )
    add(
        "--timing",
        choices=tuple(TIMINGS),
        default="recorded",
        help="recorded: nodes follow changes as a real cluster's did (default); quick: at once",
    )
    add(
        "--fault",
        type=_reader(_fault),
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="faults",
        help="trouble from the start, see below; may be given several times",
    )
    add(
        "--image",
        type=_reader(_image),
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        dest="images",
        help="the program of an image, which pods run that name no command: a path, or a name of "
        "this machine's (may be given several times)",
    )
    add(
        "--programs",
        type=_reader(_folder),
        default="",
        metavar="DIR",
        help="a folder of programs that every pod finds in its PATH; an image of a program's name "
        "runs it",
    )
    add(
        "--port",
        type=_reader(_whole),
        default=0,
        metavar="N",
        help="port of the API (default: any free one)",
    )
    add("--kubeconfig", type=Path, metavar="FILE", help="write the kubeconfig here, too")
    return made  # fmt: skip


def _reader(read: Callable[[str], _T]) -> Callable[[str], _T]:
    """Have argparse show what exactly is wrong with a value."""

    def convert(text: str) -> _T:
        try:
            return read(text)
        except ValueError as exc:
            raise argparse.ArgumentTypeError(str(exc)) from None

    return convert


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is no whole number")
    return int(text)


def _rate(text: str) -> BitRate | None:
    return None if text == "unlimited" else BitRate.parse(text)


def _version(text: str) -> str:
    Behaviour.of(text, "bird")
    return text


def _fault(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise ValueError(f"{text!r} is not of the form NAME=VALUE")
    if name not in NAMES:
        raise ValueError(f"there is no fault {name!r}; there are: {', '.join(sorted(NAMES))}")
    return name, value


def _image(text: str) -> tuple[str, tuple[str, ...]]:
    name, equals, command = text.partition("=")
    words = tuple(shlex.split(command))
    if not (name and equals and words):
        raise ValueError(f"{text!r} is not of the form NAME=COMMAND")
    return name, words


def _folder(text: str) -> str:
    if not Path(text).is_dir():
        raise ValueError(f"{text!r} is no folder")
    return str(Path(text).resolve())


def _faults_told() -> str:
    lines = ["faults:"]
    for name, form, what in (*API_FAULTS, *CALICO_FAULTS):
        lines += [
            f"  {name}={form}",
            *textwrap.wrap(what, 76, initial_indent=" " * 6, subsequent_indent=" " * 6),
        ]
    return "\n".join(lines)


def _spec(options: argparse.Namespace) -> LabSpec:
    if options.ipip != "Never" and options.vxlan != "Never":
        raise LabError(
            "the default pool cannot use IPIP and VXLAN at once",
            found=f"--ipip {options.ipip} --vxlan {options.vxlan}",
            remedy="give one of them",
        )
    try:
        nodes = laid_out(study_nodes(options.nodes), options.layouts)
    except ValueError as exc:
        raise LabError(str(exc), remedy="give another --nodes or --layout") from None
    calico = CalicoSpec(
        version=options.calico_version,
        install=options.calico_install,
        api_shape=options.api_shape,
        backend=options.backend,
        ipip_mode=options.ipip,
        vxlan_mode=options.vxlan,
    )
    return LabSpec(
        nodes=nodes,
        link_rate=options.rate,
        calico=calico,
        ipip_driver=options.ipip_driver,
        cluster_cidr=options.cluster_cidr,
        timing=options.timing,
        faults=tuple(options.faults),
        images=tuple(options.images),
        programs=options.programs,
    )


def _copy(source: Path, target: Path) -> None:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise LabError(
            "the kubeconfig would overwrite a file",
            found=f"{target} exists",
            remedy="remove it, or give another --kubeconfig",
        ) from None
    with open(descriptor, "w") as file:
        file.write(source.read_text())


def _run(lab: LabProcess, command: Sequence[str]) -> int:
    """Run the command; its exit status, 128 + n after signal n."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(lab.kubeconfig),
        "K8SNET_OUTSIDE": shlex.join(lab.outside_prefix),
    }
    try:
        child = subprocess.Popen(command, env=environment)
    except FileNotFoundError:
        print(f"k8snet lab: there is no program {command[0]!r}", file=sys.stderr)
        return _NOT_FOUND_STATUS
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    while True:
        try:
            status = child.wait()
        except KeyboardInterrupt:
            # The command got it as well, from the terminal: its answer counts.
            continue
        lab.check()
        return status if status >= 0 else 128 - status


def _stay(lab: LabProcess, kubeconfig: Path) -> int:
    """Say how to use the lab, and wait for Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        print(_how_to_use(lab, kubeconfig), flush=True)
        lab.wait()
    except KeyboardInterrupt:
        return 0
    lab.check()
    return 0


def _how_to_use(lab: LabProcess, kubeconfig: Path) -> str:
    outside = shlex.join(lab.outside_prefix)
    return (
        f"The lab is up: {lab.server}   (IPIP: {lab.ipip})\n"
        "\n"
        f"  export KUBECONFIG={shlex.quote(str(kubeconfig.absolute()))}\n"
        f"  export K8SNET_OUTSIDE={shlex.quote(outside)}\n"
        "  kubectl get nodes -o wide\n"
        "  k8snet init suite --run\n"
        "\n"
        "Behind K8SNET_OUTSIDE a command runs outside the cluster: $K8SNET_OUTSIDE ip route\n"
        "\n"
        "Ctrl-C ends it."
    )
