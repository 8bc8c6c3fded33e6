"""The lab where it cannot start, dies, or is started by an ordinary user: as a user sees it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from user_runs import finished, message

from pytest_k8snet.lab import launcher

NODE = "def test_node(node): pass"
#: An id that owns nothing on any machine.
NOBODY = "65534"


def test_missing_programs_are_named_with_their_packages(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in launcher.PROGRAMS:
        if name not in ("iperf3", "curl"):
            (tmp_path / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(tmp_path))
    pytester.makepyfile(NODE)
    result = pytester.runpytest_inprocess("--k8snet-lab")
    result.assert_outcomes(errors=1)
    assert message(result.stdout.str(), "test_node") == (
        "LabError: the lab needs programs that this machine does not have\n"
        "  found: missing: iperf3 (iperf3), curl (curl)\n"
        "  to do: apt-get install curl iperf3"
    )


def test_forbidden_namespaces_name_the_kernels_settings(tmp_path: Path) -> None:
    (tmp_path / "test_node.py").write_text(NODE)
    # A user namespace that has no more of them, and a root there without any capability.
    forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all"
    done = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "sh", "-c"),
            f'{forbid} --inh-caps=-all -- "$@"',
            *("sh", sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--k8snet-lab"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode != pytest.ExitCode.TESTS_FAILED and "unshare failed" in done.stderr:
        pytest.skip(f"this machine has no user namespaces to forbid: {done.stderr.strip()}")
    found = message(done.stdout, "test_node")
    assert found.startswith(
        "LabError: the kernel does not let this container make the namespaces that the lab lives in"
    )
    assert "user.max_user_namespaces = 0" in found
    assert "  to do: run it as root (in a container: privileged), or allow user namespaces" in found
    assert "Traceback" not in done.stdout


def test_a_port_that_is_taken_is_one_line_of_the_command() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "pytest_k8snet.cli", "lab", f"--port={port}", "--", "true"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == (
        f"k8snet: the lab's API cannot have port {port}\n"
        f"  found: 127.0.0.1:{port}: Address already in use\n"
        "  to do: end what listens there, or give another --port (0 takes any free one)\n"
        "  about: https://pytest-k8snet.github.io/pytest-k8snet/errors/#laberror\n"
    )


DYING = """
import os, re, signal
import pytest_k8snet.cluster.http

# Thirty seconds of patience would all be spent here.
pytest_k8snet.cluster.http.PATIENCE_SECONDS = 1.0

def test_dying(k8snet, pod_pair):
    lab = re.search(r"/proc/(\\d+)/root", " ".join(k8snet.spec.outside_prefix))[1]
    os.kill(int(lab), signal.SIGKILL)
    pod_pair.iperf3(seconds=1)

def test_later(pod_pair): pass
"""


def test_a_lab_that_dies_is_the_cause_that_is_told(tmp_path: Path) -> None:
    (tmp_path / "test_dying.py").write_text(DYING)
    output = finished(tmp_path, "--k8snet-lab")
    end = output.split("ERROR at teardown of test_later")[1].split("  test:")[0]
    assert "\nLabError: the lab has died during the run\n" in end
    assert "Traceback" not in output


# -- an ordinary user ------------------------------------------------------------------------------

MODES = """
from pytest_k8snet import Mbit

def test_mode(calico_mode, pod_pair):
    assert pod_pair.iperf3(seconds=1, omit_seconds=0).bandwidth > 1 * Mbit

def test_web(outside, web_service):
    assert not outside.curl(web_service.external_url, requests=3).failed
"""
#: Makes /dev/net/tun one that only root may open, and becomes somebody else.
AS_NOBODY = f"""
mknod tun c 10 200 && chmod 600 tun && mount --bind tun /dev/net/tun || exit 99
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups -- "$@"
"""

#: What the plugin does to start the lab; setpriv itself gets further than what it starts.
STARTS_ITSELF = """
import subprocess, sys
modules = "import aiohttp, cryptography, kubernetes, pytest_k8snet.lab, yaml"
subprocess.run([sys.executable, "-c", modules], check=True)
"""


@pytest.fixture
def folder_of_nobody() -> Iterator[Path]:
    """A folder that the other user may read and write, unlike pytest's own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; as an ordinary one, all tests show this")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chown(name, int(NOBODY), int(NOBODY))
        yield Path(name)


def as_nobody(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    site_packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", AS_NOBODY, "sh", *words],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *site_packages]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "120",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def python(folder_of_nobody: Path) -> str:
    """An interpreter that the other user can run all of this with."""
    tried = []
    for candidate in (sys.executable, "/usr/bin/python3"):
        done = as_nobody(folder_of_nobody, candidate, "-c", STARTS_ITSELF)
        if done.returncode == 0:
            return candidate
        tried.append(f"{candidate}: {done.stderr.strip().splitlines()[-1]}")
        (folder_of_nobody / "tun").unlink(missing_ok=True)
    pytest.skip("no Python that another user can run: " + "; ".join(tried))


def kernel_has_ipip() -> bool:
    words = ["unshare", "--net", "ip", "tunnel", "add", "probe", "mode", "ipip"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_an_ordinary_user_gets_a_lab_and_is_told_why_a_mode_is_missing(
    folder_of_nobody: Path, python: str
) -> None:
    (folder_of_nobody / "tun").unlink(missing_ok=True)
    (folder_of_nobody / "test_modes.py").write_text(MODES)
    words: tuple[str, ...] = ("-m", "pytest", "-p", "no:cacheprovider", "-rs", "--k8snet-lab")
    words += ("--k8snet-modes=vxlan,ipip", "--k8snet-missing-mode=skip")
    done = as_nobody(folder_of_nobody, python, *words)
    if kernel_has_ipip():
        assert "3 passed" in done.stdout, done.stdout + done.stderr
        return
    assert "2 passed, 1 skipped, 3 deselected" in done.stdout, done.stdout + done.stderr
    skipped = done.stdout.split("= short test summary info =")[1]
    assert "This cluster accepts no pool in mode IPIP-Always\n" in skipped
    assert "this lab cannot do IPIP: unavailable: no kernel driver (" in skipped
    assert "no TUN device (/dev/net/tun: Permission denied)" in skipped
    assert "to do: modprobe ipip, or let this user open /dev/net/tun" in skipped
