"""The client outside the cluster: this machine, or one behind a command such as ssh."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.errors import (
    ExecError,
    ExecTimeoutError,
    ToolError,
    ToolMissingError,
    ToolNotRunnableError,
)
from pytest_k8snet.measure.endpoints import LocalShell
from pytest_k8snet.tools import curl

#: Does with its arguments what ssh and the shell of the other machine do.
SSH = """#!/bin/sh
[ "$1" = bastion ] || { echo "ssh: Could not resolve hostname $1" >&2; exit 255; }
shift
exec sh -c "$*"
"""
WORDS = ["a b", "%{json}\\n", "Connection: close", "*", "#[1-10]", "$HOME", "it's", ""]


@pytest.fixture
def ssh(tmp_path: Path) -> str:
    path = tmp_path / "ssh"
    path.write_text(SSH)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("far", [False, True])
def test_every_word_arrives_as_it_was(ssh: str, far: bool) -> None:
    shell = LocalShell((ssh, "bastion")) if far else LocalShell()
    done = shell(["printf", "%s|", *WORDS], timeout_seconds=10)
    assert done.stdout == "".join(f"{word}|" for word in WORDS)
    assert done.argv == ("printf", "%s|", *WORDS)


def test_curl_measures_over_ssh(ssh: str) -> None:
    wanted = curl.CurlOptions(url="http://127.0.0.1:1/", requests=3)
    done = LocalShell((ssh, "bastion"))(curl.Curl().argv(wanted), timeout_seconds=20)
    samples = curl.parse(done.stdout, expected_requests=3, stderr=done.stderr)
    assert [request.failure for request in samples.requests] == [
        "could not connect (refused, rejected or no route)"
    ] * 3


def test_a_machine_that_ssh_does_not_reach_is_told_with_its_words(ssh: str) -> None:
    with pytest.raises(ExecError, match="the outside client cannot be reached: ") as caught:
        LocalShell((ssh, "nowhere"))(["true"], timeout_seconds=10)
    assert caught.value.found == "ssh: Could not resolve hostname nowhere"
    assert "must work without a question" in caught.value.remedy


@pytest.mark.parametrize(
    ("prefix", "error", "reason"),
    [
        ("no-such-program", ToolMissingError, "No such file or directory"),
        ("/etc/passwd", ToolNotRunnableError, "Permission denied"),
    ],
)
def test_a_prefix_that_cannot_be_run_names_the_option(
    prefix: str, error: type[ToolError], reason: str
) -> None:
    with pytest.raises(error, match=f"outside client (can|may )not run '{prefix}'") as caught:
        LocalShell((prefix, "x"))(["true"], timeout_seconds=10)
    assert caught.value.found == f"{reason}; command: {prefix} x true"
    assert "--k8snet-outside" in caught.value.remedy


def test_a_command_without_end_is_given_up_with_what_it_wrote() -> None:
    with pytest.raises(ExecTimeoutError, match=r"did not finish within 0.5 s: sh") as caught:
        LocalShell()(["sh", "-c", "echo begun; exec sleep 30"], timeout_seconds=0.5)
    assert caught.value.stdout == "begun\n"
