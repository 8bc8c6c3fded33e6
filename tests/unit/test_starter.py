"""``k8snet init`` and the completion of shells, without a cluster."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from pytest_k8snet import starter
from pytest_k8snet.cli import main
from pytest_k8snet.options import OPTIONS

FILES = ["test_network.py", "pytest.ini", ".github/workflows/network.yml"]


def test_a_suite_is_written_and_the_next_step_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my suite"
    assert main(["init", str(folder)]) == 0
    assert [(folder / name).is_file() for name in FILES] == [True, True, True]
    told = capsys.readouterr().out.splitlines()
    assert told[:3] == [f"wrote {folder / name}" for name in FILES]
    assert told[3] == f"next:  cd '{folder}' && pytest --k8snet-lab"


def test_no_file_is_ever_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "pytest.ini"
    mine.write_text("[pytest]\n# mine\n", encoding="utf-8")
    assert main(["init", str(tmp_path)]) == 0
    assert mine.read_text(encoding="utf-8") == "[pytest]\n# mine\n"
    assert (tmp_path / "test_network.py").is_file()
    assert f"kept  {mine}: it was there already" in capsys.readouterr().out


def test_a_folder_that_cannot_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["init", str(tmp_path / "file")]) == 2
    told = capsys.readouterr().err
    assert f"the suite cannot be written to {tmp_path / 'file'}" in told
    assert "  to do: name a folder that you may write: k8snet init FOLDER" in told


def test_the_next_step_names_the_cluster_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--kubeconfig=prod.yaml", "--context=staging"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    kubeconfig = tmp_path / "prod.yaml"
    assert last == f"next:  pytest --k8snet-kubeconfig={kubeconfig} --k8snet-context=staging"


def test_what_the_suite_sets_exists() -> None:
    parser = configparser.ConfigParser()
    suite = Path(starter.__file__).parent / "suite"
    parser.read(suite / "pytest.ini", encoding="utf-8")
    known = {option.key for option in OPTIONS} | {"addopts"}
    assert set(parser["pytest"]) <= known
    workflow = yaml.safe_load((suite / "github_workflow.yml").read_text(encoding="utf-8"))
    assert list(workflow["jobs"]) == ["lab"]


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "-n")])
def test_the_completion_is_a_script_of_the_shell(
    shell: str, check: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "doctor" in text
    # Options of `k8snet lab` as well, though it reads its command line itself.
    assert "calico-version" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed here: its syntax is not checked")
    script = tmp_path / "completion"
    script.write_text(text, encoding="utf-8")
    subprocess.run([shell, check, str(script)], check=True, timeout=30)


def test_bash_completes_commands_options_and_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "results.jsonl").write_text("", encoding="utf-8")

    def completed(*words: str) -> set[str]:
        typed = " ".join(f"'{word}'" for word in ("k8snet", *words))
        line = (
            f"source {script}; COMP_WORDS=({typed}); COMP_CWORD={len(words)}; "
            '"$(complete -p k8snet | grep -o "_shtab[a-z0-9_]*")"; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=tmp_path,
            env=dict(os.environ),
            check=True,
            capture_output=True,
            text=True,
            timeout=30,
        )
        return set(done.stdout.split())

    assert completed("do") == {"doctor"}
    assert completed("doctor", "--kube") == {"--kubeconfig"}
    assert completed("export", "--format", "c") == {"csv"}
    assert completed("judge", "res") == {"results.jsonl"}
