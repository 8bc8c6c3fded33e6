"""What the machine must have before a lab can start: programs, and Python packages of the extra."""

from __future__ import annotations

import importlib.util
import os
import shutil

from pytest_k8snet.errors import LabError

#: Program -> the Debian (and Ubuntu) package that has it.
PROGRAMS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "bridge": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "iperf3": "iperf3",
    "curl": "curl",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
    "mount": "mount",
    "hostname": "hostname",
}
#: What the lab imports beyond the plugin's own dependencies.
MODULES = ("aiohttp", "cryptography", "jsonpatch", "yaml")

# Debian keeps ip and nft where an ordinary user's PATH does not look.
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def extend_path() -> None:
    """Make this process and its children find the system's programs as root's PATH would."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    missing = [entry for entry in _SYSTEM_DIRECTORIES if entry not in path]
    os.environ["PATH"] = os.pathsep.join([*path, *missing])


def check() -> None:
    """Look for every program and package at once.

    Raises:
        LabError: one error that names all that is missing, and how to get it.
    """
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        packages = sorted({PROGRAMS[name] for name in programs})
        raise LabError(
            "the lab needs programs that this machine does not have",
            found="missing: " + ", ".join(f"{name} ({PROGRAMS[name]})" for name in programs),
            remedy=f"apt-get install {' '.join(packages)}",
        )
    modules = [name for name in MODULES if importlib.util.find_spec(name) is None]
    if modules:
        raise LabError(
            "the lab needs Python packages that are not installed",
            found="missing: " + ", ".join(modules),
            remedy="pip install 'pytest-k8snet[lab]'",
        )
