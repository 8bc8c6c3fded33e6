"""A run whose files leave the house: no secret in them, and with --k8snet-redact no name either."""

from __future__ import annotations

import pytest
import yaml

from pytest_k8snet.lab import LabProcess

CANARY = "canary-0123456789"
SUITE = f"""
    import os, subprocess, sys

    def test_web(node, k8snet):
        print("on stdout", os.environ["DEPLOY_TOKEN"], node.address)
        url = "http://192.168.0.12:1/"
        node.curl(url, requests=1, headers=["Authorization: Bearer {CANARY}-header"])

    def test_output(node):
        told = node.run(["echo", "password={CANARY}-pod", node.name]).stdout
        assert not told, told

    def test_trouble(k8snet):
        k8snet.node("node9")
"""
#: Of the lab: nodes, their addresses, and the context. Names of pods follow from these.
NAMES = ("node1", "node2", "node3", "192.168.", "k8snet-lab")


@pytest.mark.parametrize("redact", [True, False])
def test_no_file_of_a_run_holds_what_is_not_to_leave(
    lab: LabProcess,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    redact: bool,
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", f"{CANARY}-environment")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{CANARY}-proxy@127.0.0.1:9")
    step = pytester.path / "step.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(step))
    token = yaml.safe_load(lab.kubeconfig.read_text())["users"][0]["user"]["token"]
    pytester.makepyfile(SUITE)
    result = pytester.runpytest_inprocess(
        f"--kubeconfig={lab.kubeconfig}",
        f"--k8snet-outside=sshpass -p {CANARY}-argument ssh bastion",
        "--k8snet-results=results.jsonl",
        "--k8snet-report=report.html",
        "--k8snet-summary=summary.md",
        "--junitxml=junit.xml",
        "-rA",
        *(["--k8snet-redact"] if redact else []),
    )
    result.assert_outcomes(passed=1, failed=1, errors=1)
    files = {
        path.name: path.read_text(encoding="utf-8")
        for path in (*map(pytester.path.joinpath, FILES), step)
    }
    files["terminal"] = result.stdout.str()
    for name, text in files.items():
        assert CANARY not in text, name
        assert token not in text, name
    told = "\n".join(files.values())
    assert "[secret]" in told
    if redact:
        for name, text in files.items():
            assert [found for found in NAMES if found in text] == [], name
        assert "no usable node is called 'node9'" in told
        assert "node-1" in files["report.html"]
    else:
        assert [name for name in NAMES if name not in told] == []


FILES = ("results.jsonl", "report.html", "summary.md", "junit.xml")
