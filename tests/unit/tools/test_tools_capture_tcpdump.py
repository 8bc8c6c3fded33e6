"""tcpdump's command lines and what they leave to read; the filter, by the real tcpdump."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from recorded import DATA

from pytest_k8snet.errors import ToolMissingError
from pytest_k8snet.tools import capture
from pytest_k8snet.tools.capture import CaptureFileError, packets

STATISTICS = (
    "tcpdump: listening on eth0, link-type EN10MB (Ethernet), snapshot length 160 bytes\n"
    "40 packets captured\n40 packets received by filter\n{} packets dropped by kernel\n"
)
VXLAN = (DATA / "pcap" / "vxlan.pcap").read_bytes()
REAL = {
    "direct": (IPv4Address("198.18.1.16"), 25271),
    "vxlan": (IPv4Address("198.18.0.17"), 25273),
    "ipip": (IPv4Address("198.18.2.17"), 25275),
}


def test_a_capture_has_its_packets_and_what_was_dropped() -> None:
    found = capture.parse(encoded(VXLAN), STATISTICS.format(3), 0)
    assert (len(found.packets), found.dropped) == (40, 3)
    assert {one.carrier for one in found.packets} == {"vxlan"}


def encoded(capture: bytes) -> str:
    return base64.encodebytes(capture).decode()


@pytest.mark.parametrize(
    ("stdout", "problem"),
    [
        (encoded(VXLAN)[:402], "a capture did not arrive whole"),
        (encoded(VXLAN[:400]), "a capture file was cut off in the middle of a packet"),
        ("", "a capture file was cut off in its header"),
        (encoded(b"no capture, but some text"), "this is no capture file in pcap format"),
    ],
)
def test_a_capture_that_is_none_is_an_error_that_says_so(stdout: str, problem: str) -> None:
    with pytest.raises(CaptureFileError) as caught:
        capture.parse(stdout, STATISTICS.format(0), 0)
    assert caught.value.problem == problem
    assert caught.value.remedy


def test_a_capture_that_did_not_come_to_its_end_is_an_error() -> None:
    with pytest.raises(capture.CaptureError) as caught:
        capture.parse("", "tcpdump does not end", 1)
    assert str(caught.value) == (
        "tcpdump did not come to its end\n"
        "  found: tcpdump does not end\n"
        "  to do: see whether the pod was short of memory or time"
    )


def test_a_capture_that_is_not_permitted_says_what_it_needs() -> None:
    with pytest.raises(capture.CaptureError) as caught:
        capture.check_start(
            "tcpdump: eth0: You don't have permission to perform this capture on that device\n"
            "(socket: Operation not permitted)",
            1,
        )
    assert caught.value.problem == "tcpdump may not capture on the node"
    assert "need root and the capabilities NET_RAW, SETGID, SETUID" in caught.value.remedy


def test_a_missing_tcpdump_and_a_missing_device_are_named() -> None:
    with pytest.raises(ToolMissingError, match="there is no tcpdump where the command ran"):
        capture.check_start("tcpdump: not found", 127)
    with pytest.raises(capture.CaptureError) as caught:
        capture.check_start("tcpdump: eth9: No such device exists", 1)
    assert caught.value.problem == "tcpdump could not be started"
    assert caught.value.found == "tcpdump: eth9: No such device exists"


needs_tcpdump = pytest.mark.skipif(shutil.which("tcpdump") is None, reason="there is no tcpdump")


@needs_tcpdump
@pytest.mark.parametrize("name", list(REAL))
def test_the_filter_takes_one_server_in_every_shape_and_no_other(name: str, tmp_path: Path) -> None:
    address, port = REAL[name]
    assert matching(name, capture.filter_of(address, port), tmp_path) == 40
    assert matching(name, capture.filter_of(address, port + 1), tmp_path) == 0
    assert matching(name, capture.filter_of(address + 1, port), tmp_path) == 0


@needs_tcpdump
def test_the_filter_knows_vxlan_by_the_port_that_felix_uses(tmp_path: Path) -> None:
    assert matching("vxlan", capture.filter_of(*REAL["vxlan"], vxlan_port=8472), tmp_path) == 0


def matching(name: str, filter_text: str, folder: Path) -> int:
    """How many packets of a recording match."""
    copy = folder / "copy.pcap"  # tcpdump may be confined to some folders
    copy.write_bytes((DATA / "pcap" / f"{name}.pcap").read_bytes())
    argv = ["tcpdump", "-n", "-q", "-t", "-r", str(copy), "-w", "-", filter_text]
    done = subprocess.run(argv, capture_output=True, check=True)
    return len(packets(done.stdout))


def shell(argv: Sequence[str], path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )


def test_the_script_says_that_there_is_no_tcpdump(tmp_path: Path) -> None:
    for program in ("sh", "timeout", "cat"):
        (tmp_path / program).symlink_to(shutil.which(program) or program)
    done = shell(capture.start_argv("none", "lo", "tcp"), str(tmp_path))
    with pytest.raises(ToolMissingError):
        capture.check_start(done.stderr, done.returncode)


def test_a_capture_that_was_never_started_cannot_be_ended() -> None:
    done = shell(capture.stop_argv("none"), os.environ["PATH"])
    with pytest.raises(capture.CaptureError):
        capture.parse(done.stdout, done.stderr, done.returncode)
