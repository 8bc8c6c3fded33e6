"""A program that was not started: it is missing, may not be run, or is for another machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_k8snet.errors import ToolMissingError, ToolNotRunnableError
from pytest_k8snet.tools.tool import not_runnable, start_failure

# What timeout and env (coreutils 9.1), timeout (busybox 1.35), dash, bash and busybox's sh say.
MISSING = (
    "timeout: failed to run command 'ping': No such file or directory",
    "timeout: can't execute 'ping': No such file or directory",
    "env: 'ping': No such file or directory",
    "sh: 1: ping: not found",
    "bash: line 1: ping: command not found",
    "sh: ping: not found",
)
REFUSED = (
    "timeout: failed to run command 'ping': {}",
    "timeout: can't execute 'ping': {}",
    "env: 'ping': {}",
    "sh: 1: ping: {}",
    "bash: line 1: /usr/bin/ping: {}",
    "sh: ping: {}",
)


@pytest.mark.parametrize("said", MISSING)
def test_a_program_that_is_not_there_is_missing(said: str) -> None:
    error = start_failure("ping", said, 127)
    assert isinstance(error, ToolMissingError)
    assert (error.problem, error.found) == ("there is no ping where the command ran", said)


@pytest.mark.parametrize("shape", REFUSED)
def test_file_capabilities_that_the_pod_may_not_have_are_no_missing_program(shape: str) -> None:
    said = shape.format("Operation not permitted")
    error = start_failure("ping", said, 126)
    assert isinstance(error, ToolNotRunnableError)
    assert str(error) == (
        "there is a ping where the command ran, but it may not be run there\n"
        f"  found: {said}\n"
        "  to do: its file most likely has capabilities that the pod may not have (getcap shows "
        "them): use an image whose file has none (setcap -r), or add them to the pod's "
        "securityContext"
    )


@pytest.mark.parametrize("shape", REFUSED)
def test_a_file_without_execute_permission_is_no_missing_program(shape: str) -> None:
    error = start_failure("ping", shape.format("Permission denied"), 126)
    assert isinstance(error, ToolNotRunnableError)
    assert error.remedy.startswith("check the file's execute permission (chmod +x)")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ("sh: 1: ./ping: Exec format error", 126),
        ("bash: line 1: ./ping: cannot execute binary file: Exec format error", 126),
        # timeout hands what the kernel does not know to a shell, which reads it as a script.
        ("/usr/bin/ping: 1: \x7fELF\x02\x01\x01: not found", 127),
        ("/usr/bin/ping: line 1: \x7fELF\x02\x01\x01: not found", 127),
    ],
)
def test_a_program_for_another_architecture_is_no_missing_program(said: str, status: int) -> None:
    error = start_failure("ping", said, status)
    assert isinstance(error, ToolNotRunnableError)
    assert "is made for another architecture" in error.problem


def test_a_refusal_without_a_word_says_what_to_do() -> None:
    error = start_failure("curl", "", 126)
    assert isinstance(error, ToolNotRunnableError)
    assert (error.problem, error.found) == (
        "curl could not be run where the command ran",
        "exit status 126",
    )


@pytest.mark.parametrize("status", [None, 0, 1, 2, 124, 137])
def test_a_program_that_ran_and_failed_was_started(status: int | None) -> None:
    assert start_failure("ping", "ping: socket: Operation not permitted", status) is None


@pytest.mark.parametrize(
    ("why", "problem"),
    [
        ("permission denied: unknown", "it may not be run there"),
        ("operation not permitted: unknown", "it may not be run there"),
        ("exec format error", "is made for another architecture"),
    ],
)
def test_an_oci_runtimes_refusal_is_told_apart(why: str, problem: str) -> None:
    message = f"OCI runtime exec failed: exec failed: unable to start container process: {why}"
    error = not_runnable('pod x/a has a program "ping"', message, found=message)
    assert isinstance(error, ToolNotRunnableError)
    assert problem in error.problem
    paused = "cannot exec in a paused container"
    assert not_runnable('pod x/a has a program "ping"', paused, found=paused) is None


@pytest.mark.parametrize("timeout", ["timeout", "busybox timeout"])
def test_what_programs_say_here_is_understood(tmp_path: Path, timeout: str) -> None:
    words = timeout.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"needs {words[0]}")
    plain = tmp_path / "ping"
    plain.write_text("")
    for program, kind in ((plain, ToolNotRunnableError), (tmp_path / "no", ToolMissingError)):
        done = subprocess.run(
            [*words, "5", str(program)], capture_output=True, text=True, check=False
        )
        assert isinstance(start_failure("ping", done.stderr, done.returncode), kind)
