"""A lab starts, answers, ends, and leaves nothing, whatever ends it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_k8snet.cluster.api import connect
from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import LabProcess, LabSpec, start, study_nodes

SMALL = LabSpec(nodes=study_nodes(1))

#: Starts a lab in a process of its own, says where it is, and waits to be killed.
OWNER = """
import sys, time
from pytest_k8snet.lab import LabSpec, start, study_nodes
lab = start(LabSpec(nodes=study_nodes(1)))
print(lab.pid, lab.kubeconfig, flush=True)
time.sleep(600)
"""


def descendants(pid: int) -> dict[int, str]:
    """The process and all below it, each with its start time: numbers are used again."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = stat_fields(int(entry.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = {}, [pid]
    while waiting:
        one = waiting.pop()
        fields = stat_fields(one)
        if fields:
            found[one] = fields[19]
        waiting += parents.get(one, [])
    return found


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; nothing when it has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(processes: dict[int, str]) -> list[int]:
    """Those that still run."""
    return [
        pid
        for pid, began in processes.items()
        if (fields := stat_fields(pid)) and fields[19] == began and fields[0] != "Z"
    ]


def wait_until_gone(processes: dict[int, str]) -> None:
    deadline = time.monotonic() + 5
    while alive(processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert alive(processes) == []


def host() -> tuple[str, list[str], str]:
    """What a lab must not change on the host: links, named namespaces, mounts."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    names = sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []
    return links, names, Path("/proc/self/mounts").read_text()


def parent_of(pid: int) -> int:
    return int(stat_fields(pid)[1])


def network_namespaces_of(processes: dict[int, str]) -> set[str]:
    return {os.readlink(f"/proc/{pid}/ns/net") for pid in processes}


@pytest.fixture
def own_lab() -> Iterator[LabProcess]:
    with start(SMALL) as lab:
        yield lab


def test_the_lab_answers_and_its_kubeconfig_is_private(own_lab: LabProcess) -> None:
    assert own_lab.alive()
    assert own_lab.kubeconfig.stat().st_mode & 0o777 == 0o600
    assert own_lab.kubeconfig.parent.stat().st_mode & 0o777 == 0o700
    api = connect(kubeconfig=own_lab.kubeconfig, context=None)
    assert [node["metadata"]["name"] for node in api.list("/api/v1/nodes")] == ["master"]


def test_closing_leaves_nothing() -> None:
    before = host()
    lab = start(SMALL)
    processes = descendants(parent_of(parent_of(lab.pid)))
    assert len(processes) >= 3
    assert host() == before
    lab.close()
    assert alive(processes) == []
    assert not lab.kubeconfig.parent.exists()
    assert not lab.alive()
    assert host() == before


@pytest.mark.parametrize("victim", ["launcher", "keeper", "lab"])
def test_killing_any_of_its_processes_takes_all_the_others_along(victim: str) -> None:
    before = host()
    lab = start(SMALL)
    keeper = parent_of(lab.pid)
    launcher = parent_of(keeper)
    processes = descendants(launcher)
    os.kill({"launcher": launcher, "keeper": keeper, "lab": lab.pid}[victim], signal.SIGKILL)
    wait_until_gone(processes)
    with pytest.raises(LabError, match="the lab has died during the run"):
        lab.check()
    lab.close()
    assert not lab.kubeconfig.parent.exists()
    assert host() == before


def test_killing_whoever_started_the_lab_ends_it() -> None:
    before = host()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, kubeconfig = owner.stdout.readline().split()
        processes = descendants(parent_of(parent_of(int(pid))))
        owner.kill()
    wait_until_gone(processes)
    assert not Path(kubeconfig).parent.exists()
    assert host() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: signal.Signals) -> None:
    lab = start(SMALL)
    launcher = parent_of(parent_of(lab.pid))
    processes = descendants(launcher)
    os.kill(launcher, number)
    lab.wait()
    assert alive(processes) == []
    assert not lab.kubeconfig.parent.exists()
    lab.close()


def test_a_lab_that_dies_is_reported_with_what_it_wrote_last(own_lab: LabProcess) -> None:
    own_lab.check()
    os.kill(own_lab.pid, signal.SIGKILL)
    own_lab.wait()
    with pytest.raises(LabError) as caught:
        own_lab.check()
    assert caught.value.found == "exit status 1; it wrote:\nnothing on standard error"


def test_the_port_can_be_chosen_and_one_that_is_taken_is_one_clear_error() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(LabError) as caught:
            start(SMALL, port=port)
    assert str(caught.value) == (
        f"the lab's API cannot have port {port}\n"
        f"  found: 127.0.0.1:{port}: Address already in use\n"
        "  to do: end what listens there, or give another --port (0 takes any free one)"
    )
    with start(SMALL, port=port) as lab:
        assert lab.server == f"https://127.0.0.1:{port}"


def test_a_lab_that_is_not_up_in_time_is_an_error_and_is_gone() -> None:
    before = set(Path("/proc").glob("[0-9]*"))
    with pytest.raises(LabError, match=r"did not come up within 0\.01 s") as caught:
        start(SMALL, timeout_seconds=0.01)
    assert caught.value.remedy == "try fewer nodes, or when the machine is less busy"
    ours = os.getpid()
    assert descendants(ours).keys() <= {int(path.name) for path in before} | {ours}


def test_forbidden_user_namespaces_are_one_clear_message() -> None:
    # A user namespace of the test's own in which no further ones are allowed, without privileges.
    script = (
        "echo 0 > /proc/sys/user/max_user_namespaces; "
        'exec setpriv --bounding-set=-all --inh-caps=-all "$@"'
    )
    program = (
        "from pytest_k8snet.errors import LabError\n"
        "from pytest_k8snet.lab import LabSpec, start, study_nodes\n"
        "try:\n"
        "    start(LabSpec(nodes=study_nodes(1)))\n"
        "except LabError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [
            "unshare",
            "--user",
            "--map-root-user",
            "sh",
            "-c",
            script,
            "sh",
            sys.executable,
            "-c",
            program,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    problem, *rest = done.stdout.splitlines()
    assert problem == (
        "the kernel does not let this container make the namespaces that the lab lives in"
    )
    assert rest[0] == "  found: unshare: No space left on device"
    assert "user.max_user_namespaces = 0" in done.stdout
    assert "sysctl kernel.unprivileged_userns_clone=1" in done.stdout
    assert "Traceback" not in done.stderr


def test_two_labs_run_side_by_side(own_lab: LabProcess) -> None:
    with start(SMALL) as other:
        assert other.server != own_lab.server
        for lab in (own_lab, other):
            done = subprocess.run(
                [*lab.outside_prefix, "ip", "-4", "-o", "addr", "show", "eth0"],
                capture_output=True,
                text=True,
                check=False,
            )
            assert "203.0.113.10/24" in done.stdout, done.stderr
        theirs = network_namespaces_of(descendants(other.pid))
        assert theirs.isdisjoint(network_namespaces_of(descendants(own_lab.pid)))
    assert own_lab.alive()


def test_the_outside_client_reaches_nodes_through_the_router(lab: LabProcess) -> None:
    done = subprocess.run(
        [*lab.outside_prefix, "curl", "-sS", "--max-time", "5", "http://192.168.1.13:9/"],
        capture_output=True,
        text=True,
        check=False,
    )
    # Refused by the node itself: the packet went there, and the answer came back.
    assert done.returncode == 7, done.stderr
    assert "Failed to connect to 192.168.1.13 port 9 after" in done.stderr
    route = subprocess.run(
        [*lab.outside_prefix, "ip", "route", "get", "192.168.1.13"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "via 203.0.113.1" in route.stdout
