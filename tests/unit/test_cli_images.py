"""The images of a run's pods: listed for a mirror, and made by our own recipe."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pytest_k8snet.cli import main
from pytest_k8snet.options import DEFAULT_IMAGE, DEFAULT_WEB_IMAGE

RECIPE = Path(__file__).parents[2] / "images" / "probe" / "Dockerfile"


def test_the_images_are_listed_one_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["images"]) == 0
    assert capsys.readouterr().out.splitlines() == [DEFAULT_IMAGE, DEFAULT_WEB_IMAGE]


def test_a_mirror_gets_all_architectures_and_the_run_its_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["images", "--to", "registry.example/net/"]) == 0
    copy, web, *rest = capsys.readouterr().out.splitlines()
    mirrored = "registry.example/net/netshoot:v0.13"
    assert copy == f"skopeo copy --all docker://{DEFAULT_IMAGE} docker://{mirrored}"
    assert web.endswith(" docker://registry.example/net/agnhost:2.53")
    assert f"k8snet_image = {mirrored}" in rest


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="the recipe's packages are Debian's")
def test_our_own_image_has_every_program_that_runs_in_a_pod() -> None:
    """The lab runs this machine's programs: they are those that the recipe's packages bring."""
    installed = re.findall(r"^        ([a-z0-9-]+) \\$", RECIPE.read_text("utf-8"), re.MULTILINE)
    for program in ("iperf3", "curl", "ip", "ping", "tcpdump", "ethtool"):
        path = shutil.which(program)
        assert path is not None
        owners = subprocess.run(
            ["dpkg", "-S", path, path.removeprefix("/usr")], capture_output=True, text=True
        )
        assert {line.partition(":")[0] for line in owners.stdout.splitlines()} & set(installed), (
            path
        )
