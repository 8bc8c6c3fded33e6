"""Trouble on the way to a cluster, as a user sees it: one ERROR with one message, no traceback."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import yaml

CLUSTER_TEST = """
    def test_needs_a_cluster(pod_pair): pass
    def test_needs_it_too(node_pair): pass
    def test_needs_none(): pass
"""


def told(pytester: pytest.Pytester, *args: str) -> str:
    """The one message of a run in which every test that needs a cluster is an ERROR."""
    pytester.makepyfile(CLUSTER_TEST)
    result = pytester.runpytest_inprocess(*args)
    result.assert_outcomes(errors=2, passed=1)
    output = result.stdout.str()
    assert "Traceback" not in output
    assert output.count("  to do: ") == 1
    assert output.count("  found: the same as at ") == 1
    assert "  changed   nothing\n" in output
    message = output.split("setup of test_needs_a_cluster", 1)[1].split("\n", 1)[1]
    return message.split("\n  test:  ", 1)[0]


def kubeconfig(
    directory: Path, server: str = "https://127.0.0.1:1", current: str = "prod", authority: str = ""
) -> Path:
    cluster = {"server": server} | ({"certificate-authority-data": authority} if authority else {})
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
        "current-context": current,
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def closed_port() -> int:
    """A port of this machine on which nobody listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_no_kubeconfig_at_all(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert told(pytester) == (
        "KubeconfigError: there is no kubeconfig, so no cluster to test\n"
        "  found: no --k8snet-kubeconfig, KUBECONFIG is not set, no ~/.kube/config "
        f"(HOME={tmp_path}), and this is no pod (KUBERNETES_SERVICE_HOST is not set)\n"
        "  to do: give --k8snet-kubeconfig=FILE or set KUBECONFIG (several files: joined by ':'); "
        "without a cluster, --k8snet-lab starts one"
    )


def test_a_file_that_is_missing(pytester: pytest.Pytester, tmp_path: Path) -> None:
    message = told(pytester, f"--kubeconfig={tmp_path / 'prod.yaml'}")
    assert message.startswith(
        f"KubeconfigError: the kubeconfig {tmp_path / 'prod.yaml'} does not exist\n"
    )


def test_a_file_that_is_no_yaml_shows_the_place(pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    path.write_text("clusters: [a\nusers: b\n")
    message = told(pytester, f"--kubeconfig={path}")
    assert message.startswith(f"KubeconfigError: the kubeconfig {path} is not valid YAML\n")
    assert "line 2, column 6" in message
    assert message.endswith("  to do: correct the place named, or fetch the file again")


def test_a_file_that_is_no_kubeconfig(pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = tmp_path / "prod.yaml"
    path.write_text("just a line\n")
    assert told(pytester, f"--kubeconfig={path}").startswith(
        f"KubeconfigError: the kubeconfig {path} "
    )


def test_an_unknown_context_lists_the_known_ones(pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    assert told(pytester, f"--kubeconfig={path}", "--k8snet-context=staging") == (
        f'KubeconfigError: the kubeconfig {path} has no context "staging"\n'
        "  found: contexts: prod\n"
        "  to do: choose one of them by --k8snet-context or `kubectl config use-context`"
    )


def test_a_server_that_refuses_the_connection(
    pytester: pytest.Pytester, tmp_path: Path, closed_port: int
) -> None:
    path = kubeconfig(tmp_path, f"https://127.0.0.1:{closed_port}")
    assert told(pytester, f"--kubeconfig={path}") == (
        f"UnreachableError: the API server https://127.0.0.1:{closed_port} refuses the connection\n"
        "  found: [Errno 111] Connection refused\n"
        "  to do: nothing listens there: check address and port in the kubeconfig, and that the "
        "cluster (or the tunnel to it) is up"
    )


def test_a_server_whose_name_does_not_resolve(pytester: pytest.Pytester, tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, "https://api.invalid:6443")
    message = told(pytester, f"--kubeconfig={path}")
    assert message.startswith(
        "UnreachableError: the name of the API server https://api.invalid:6443 cannot be resolved\n"
    )
    assert message.endswith(
        "  to do: check the server's name in the kubeconfig, the VPN and the DNS settings"
    )


def test_tests_that_need_no_cluster_never_look_for_one(
    pytester: pytest.Pytester, tmp_path: Path
) -> None:
    pytester.makepyfile("def test_needs_none(): pass")
    result = pytester.runpytest_inprocess(f"--kubeconfig={tmp_path / 'missing.yaml'}")
    result.assert_outcomes(passed=1)
