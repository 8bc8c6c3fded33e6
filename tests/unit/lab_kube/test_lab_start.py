"""What can be known about a lab without starting one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_k8snet.cli import main
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import cli, launcher, namespaces


def test_all_missing_programs_are_named_with_their_packages_in_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The machine of the tests has every program: a PATH without them stands for one that has not.
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LabError) as caught:
        launcher.check()
    assert caught.value.problem == "the lab needs programs that this machine does not have"
    for entry in ("nft (nftables)", "iperf3 (iperf3)", "curl (curl)", "tc (iproute2)"):
        assert entry in caught.value.found
    assert caught.value.remedy == (
        "apt-get install curl hostname iperf3 iproute2 mount nftables procps util-linux"
    )


def test_elsewhere_than_on_linux_nothing_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # There is no macOS here to run it on.
    monkeypatch.setattr("sys.platform", "darwin")
    assert main(["lab"]) == 2
    assert capsys.readouterr().err.splitlines()[:3] == [
        "k8snet: the lab needs Linux: its nodes are network namespaces",
        "  found: this is darwin",
        "  to do: start it in a Linux machine or container; clusters can be measured from here",
    ]


def test_missing_python_packages_lead_to_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    # The environment of the tests has every package: one that nobody has stands for a missing one.
    monkeypatch.setattr(launcher, "MODULES", ("json", "no_such_package"))
    with pytest.raises(LabError) as caught:
        launcher.check()
    assert caught.value.found == "missing: no_such_package"
    assert caught.value.remedy == "pip install 'pytest-k8snet[lab]'"


def test_the_systems_programs_are_found_whatever_the_users_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/usr/local/bin:/usr/bin:/bin")
    launcher.extend_path()
    launcher.check()


def test_forbidden_namespaces_name_the_kernels_settings() -> None:
    error = namespaces.forbidden(PermissionError(1, "unshare: Operation not permitted"))
    assert "does not let" in error.problem
    assert "unshare: Operation not permitted" in error.found
    assert "user.max_user_namespaces = " in error.found
    for knob in (
        "kernel.unprivileged_userns_clone",
        "user.max_user_namespaces",
        "kernel.apparmor_restrict_unprivileged_userns",
    ):
        assert knob in error.remedy


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--nodes", "many"], "argument --nodes: 'many' is no whole number"),
        (["--rate", "fast"], "argument --rate: not a bit rate: 'fast'"),
        (["--fault", "delay"], "argument --fault: 'delay' is not of the form NAME=VALUE"),
        (["--api-shape", "D"], "argument --api-shape: invalid choice: 'D'"),
    ],
)
def test_an_option_that_cannot_be_read_is_a_usage_error(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "problem"),
    [
        (["--nodes", "0"], "a lab has 1 to 200 nodes, not 0"),
        (
            ["--ipip", "Always", "--vxlan", "CrossSubnet"],
            "the default pool cannot use IPIP and VXLAN at once",
        ),
    ],
)
def test_a_lab_that_cannot_be_is_refused_before_it_starts(argv: list[str], problem: str) -> None:
    with pytest.raises(LabError) as caught:
        cli.main(argv)
    assert caught.value.problem == problem
