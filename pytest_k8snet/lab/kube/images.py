"""What an image means in the lab: a name, and for a few known ones a program. Pure.

Pods run the host's programs, so nothing is pulled. The names that cannot be pulled are recognised,
so that the errors of a real registry can be seen; so are the images that have no measuring tools.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_k8snet.lab.api.objects import Object

#: Where the lab keeps the programs that its own images run.
PROGRAMS = Path("/run/k8snet/programs")
#: A container's PATH when its spec sets none, as container runtimes have it.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Where pods of an image without measuring tools find the programs that it does have.
SMALL_BIN = Path("/run/k8snet/busybox")
#: What the commonest images without iperf3 and curl have, as far as anything here runs it.
SMALL_PROGRAMS = (
    *("basename", "cat", "chmod", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo", "env"),
    *("expr", "false", "find", "free", "grep", "head", "hostname", "id", "ip", "kill", "ln", "ls"),
    *(
        "mkdir",
        "mktemp",
        "mount",
        "mv",
        "nc",
        "netstat",
        "nslookup",
        "ping",
        "printf",
        "ps",
        "pwd",
        "rm",
    ),
    *(
        "sed",
        "seq",
        "setpriv",
        "sh",
        "sleep",
        "sort",
        "stat",
        "tail",
        "tar",
        "tee",
        "test",
        "timeout",
        "top",
    ),
    *("touch", "tr", "true", "uname", "uniq", "vi", "wc", "wget", "which", "whoami", "xargs"),
)
_SMALL_IMAGES = ("docker.io/library/alpine", "docker.io/library/busybox")


class ImagePullError(Exception):
    """The image cannot be pulled; the text is the container runtime's."""


class NoCommandError(Exception):
    """Neither the container nor its image says what to run."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a container runs.

    Attributes:
        argv: program and arguments.
        of_the_lab: whether it is a program of the lab itself, which is not on the container's
            PATH and reads files that only the lab's own user may read.
    """

    argv: tuple[str, ...]
    of_the_lab: bool = False


def reference(image: str) -> str:
    """The full name: ``nginx`` is ``docker.io/library/nginx:latest``."""
    host, slash, rest = image.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", image if slash else f"library/{image}"
    if ":" not in rest.rpartition("/")[2] and "@" not in rest:
        rest += ":latest"
    return f"{host}/{rest}"


def image_id(image: str) -> str:
    """A digest that belongs to the name."""
    name = reference(image).rpartition(":")[0]
    return f"{name}@sha256:{hashlib.sha256(reference(image).encode()).hexdigest()}"


def pull(image: str) -> None:
    """Do what a registry would.

    Raises:
        ImagePullError: the registry's host ends in ``.invalid``, or the tag is ``missing``.
    """
    full = reference(image)
    host, _, rest = full.partition("/")
    name, _, tag = rest.rpartition(":")
    problem = f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": '
    if host.partition(":")[0].endswith(".invalid"):
        url = f"https://{host}/v2/{name}/manifests/{tag}"
        lookup = f"dial tcp: lookup {host.partition(':')[0]}: no such host"
        raise ImagePullError(f'{problem}failed to do request: Head "{url}": {lookup}')
    if tag == "missing":
        raise ImagePullError(f"{problem}{full}: not found")


def search_path(image: str) -> str:
    """The PATH that an image sets."""
    small = reference(image).rpartition(":")[0] in _SMALL_IMAGES
    return str(SMALL_BIN) if small else DEFAULT_PATH


def command(container: Object, *, python: str) -> Command:
    """What the container runs: its own command, else the image's program.

    Args:
        container: the entry of ``spec.containers``; variables in it are already expanded.
        python: the interpreter for the lab's own programs.

    Raises:
        NoCommandError: neither says what to run.
    """
    own, arguments = container.get("command") or [], container.get("args") or []
    if own:
        return Command((*own, *arguments))
    full = reference(str(container["image"])).rpartition(":")[0]
    name = full.rpartition("/")[2]
    if name in ("agnhost", "nginx", "coredns"):
        return Command(tuple(_program(name, arguments, python)), of_the_lab=True)
    if name == "pause" or full.endswith("/calico/node"):
        return Command(("sleep", "infinity"))
    if arguments:
        return Command(tuple(arguments))
    raise NoCommandError("no command specified")


def _program(name: str, arguments: Sequence[str], python: str) -> list[str]:
    start = [python, "-I", "-S"]
    if name == "coredns":
        return [*start, str(PROGRAMS / "dnsserver.py")]
    port = "80"
    if name == "agnhost":
        if not arguments or arguments[0] == "pause":
            return ["sleep", "infinity"]
        if arguments[0] != "netexec":
            raise NoCommandError(f"the lab's agnhost has no sub-command {arguments[0]!r}")
        port = "8080"
    for argument in arguments:
        if argument.startswith("--http-port="):
            port = argument.partition("=")[2]
    return [*start, str(PROGRAMS / "webserver.py"), port]
