from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_k8snet.cluster import pods


def test_the_running_process_is_alive() -> None:
    assert pods.is_alive(pods.this_process()) is True


def test_a_process_that_has_ended_is_known_to_be_gone_on_its_own_machine() -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    place = pods.this_process().rsplit("/", 2)[0]
    named = f"{place}/{child.pid}/{pods._start_time(child.pid)}"
    assert pods.is_alive(named) is True
    child.communicate()
    assert pods.is_alive(named) is False


def test_a_later_process_of_the_same_number_is_another() -> None:
    place, _, started = pods.this_process().rpartition("/")
    assert pods.is_alive(f"{place}/{int(started) + 1}") is False


def test_nothing_is_known_of_other_machines_or_of_no_process_at_all() -> None:
    assert pods.is_alive("another-boot/pid:[4026531836]/17/99") is None
    assert pods.is_alive("") is None
    assert pods.is_alive("nonsense") is None


def test_a_process_that_the_kernel_hides_may_live(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    place, _, started = pods.this_process().rpartition("/")
    other = f"{place.rpartition('/')[0]}/{child.pid}/{started}"
    # As with hidepid=2, which this machine's own /proc has not: there is no directory to read.
    monkeypatch.setattr(pods, "_PROC", tmp_path)
    assert pods.is_alive(other) is None
    child.communicate()
    assert pods.is_alive(other) is False
    assert pods.is_alive(f"{place.rpartition('/')[0]}/{2**70}/{started}") is False
