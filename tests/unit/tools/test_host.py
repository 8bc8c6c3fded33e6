from __future__ import annotations

import shutil
import subprocess

import pytest

from pytest_k8snet.tools import host
from pytest_k8snet.tools.host import Device, Machine

TOLD = """\
\x1efacts
kernel\t5.4.0-150-generic
cpu_model\tIntel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz
cpu_count\t8
virtual\thypervisor
maker\tVMware, Inc.
product\tVMware Virtual Platform
governor\tperformance
congestion_control\tcubic
tcp_rmem\t4096\t131072\t6291456
tcp_wmem\t4096\t16384\t4194304
load\t0.42 0.40 0.95 2/145 22561
dropped\t00000000 0000000a 00000010 
nic\tens192
\x1elink ens192
2: ens192: <BROADCAST,UP> mtu 1500 qdisc mq state UP mode DEFAULT group default qlen 1000\\    link
\x1edriver ens192
driver: vmxnet3
version: 1.4.17.0-k-NAPI
\x1eoffload ens192
Features for ens192:
tx-checksumming: on
\ttx-checksum-ip-generic: on
tcp-segmentation-offload: on
generic-segmentation-offload: on
generic-receive-offload: on
tx-ipxip4-segmentation: off [fixed]
tx-udp_tnl-segmentation: on
\x1espeed ens192
Settings for ens192:
\tSpeed: 10000Mb/s
\x1elink vxlan.calico
5: vxlan.calico: <BROADCAST,UP> mtu 1450 qdisc noqueue state UNKNOWN mode DEFAULT group default
\x1edriver vxlan.calico
driver: vxlan
\x1eoffload vxlan.calico
\ttx-checksum-ip-generic: off
\x1elink tunl0
\x1edriver tunl0
\x1eoffload tunl0
"""


def test_a_node_is_read_as_it_tells_of_itself() -> None:
    assert host.parse(TOLD) == Machine(
        kernel="5.4.0-150-generic",
        cpu_model="Intel(R) Xeon(R) Gold 6230 CPU @ 2.10GHz",
        cpu_count=8,
        platform="VMware, Inc. VMware Virtual Platform",
        governor="performance",
        congestion_control="cubic",
        tcp_rmem="4096 131072 6291456",
        tcp_wmem="4096 16384 4194304",
        load_1_minute=0.42,
        softnet_dropped=26,
        nic=Device(
            name="ens192",
            driver="vmxnet3",
            mtu_bytes=1500,
            speed_bits_per_second=1e10,
            qdisc="mq",
            offload={
                "tx-checksum-ip-generic": True,
                "tcp-segmentation-offload": True,
                "generic-segmentation-offload": True,
                "generic-receive-offload": True,
                "tx-udp_tnl-segmentation": True,
                "tx-ipxip4-segmentation": False,
            },
        ),
        tunnels={
            "vxlan.calico": Device(
                name="vxlan.calico",
                driver="vxlan",
                mtu_bytes=1450,
                qdisc="noqueue",
                offload={"tx-checksum-ip-generic": False},
            )
        },
    )


@pytest.mark.parametrize(
    "text", ["", "sh: 1: not found", "\x1efacts\n", "\x1efacts\nload\tsoon\ndropped\tfew\n"]
)
def test_what_is_not_told_is_not_known(text: str) -> None:
    assert host.parse(text) == Machine()
    assert host.parse(text).to_record() == {}


@pytest.mark.parametrize(
    ("release", "version"), [("6.12.1-amd64", (6, 12)), ("5.4", (5, 4)), ("", None), ("x", None)]
)
def test_the_kernels_version_is_two_numbers(release: str, version: tuple[int, int] | None) -> None:
    assert Machine(kernel=release).kernel_version == version


def test_a_record_holds_what_is_known() -> None:
    record = host.parse(TOLD).to_record()
    assert record["nic"]["name"] == "ens192"
    assert record["nic"]["offload"]["tx-ipxip4-segmentation"] == "off"
    assert record["tunnels"] == {
        "vxlan.calico": {
            "driver": "vxlan",
            "mtu_bytes": 1450,
            "qdisc": "noqueue",
            "offload": {"tx-checksum-ip-generic": "off"},
        }
    }
    assert "governor" not in Machine(kernel="6.1").to_record()


def this_machine(path: str | None = None) -> Machine:
    shell = shutil.which("sh")
    assert shell is not None
    done = subprocess.run(
        [shell, *host.argv("127.0.0.1", ("no-such-tunnel",))[1:]],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": path} if path else None,
    )
    assert done.stderr == ""
    return host.parse(done.stdout)


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs ip: apt-get install iproute2")
def test_this_machine_tells_of_itself() -> None:
    found = this_machine()
    assert found.kernel_version is not None
    assert found.cpu_count is not None
    assert found.cpu_count >= 1
    assert found.nic is not None
    assert (found.nic.name, found.nic.mtu_bytes) == ("lo", 65536)
    assert found.tunnels == {}
    if shutil.which("ethtool") is not None:
        assert set(found.nic.offload) == set(host.FLAGS)


def test_an_image_without_any_tool_leaves_the_node_unknown() -> None:
    assert this_machine(path="/nonexistent") == Machine()
