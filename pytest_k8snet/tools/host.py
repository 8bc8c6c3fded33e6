"""What a node is made of and how its kernel is set, as far as that bears on its network.

One shell script reads it all, without privileges: what the node or the image does not have is left
out, and is simply not known. Pure: command line out, typed facts in.

    machine = parse(output_of(argv("192.168.0.11", ("vxlan.calico", "tunl0"))))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

#: The offload flags that matter to tunnelled and plain TCP, in ethtool's words.
FLAGS = (
    "tx-checksum-ip-generic",
    "tcp-segmentation-offload",
    "generic-segmentation-offload",
    "generic-receive-offload",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-ipxip4-segmentation",
)

# Arguments: another node's address, then the tunnel devices. Data comes in by the arguments only.
_SCRIPT = r"""
section() { printf '\036%s\n' "$*"; }
fact() { [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"; }
file() { [ ! -r "$2" ] || fact "$1" "$(cat "$2")"; }
device() {
  section "link $1"; ip -o link show dev "$1"
  section "driver $1"; ethtool -i "$1"
  section "offload $1"; ethtool -k "$1"
}
exec 2>/dev/null
nic=$(ip -o route get "$1" | sed -n 's/.* dev \([^ ]*\) .*/\1/p')
shift
section facts
file kernel /proc/sys/kernel/osrelease
fact cpu_model "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)"
fact cpu_count "$(grep -c '^processor' /proc/cpuinfo)"
fact virtual "$(grep -m 1 -o -w hypervisor /proc/cpuinfo)"
file maker /sys/class/dmi/id/sys_vendor
file product /sys/class/dmi/id/product_name
file governor /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
file congestion_control /proc/sys/net/ipv4/tcp_congestion_control
file tcp_rmem /proc/sys/net/ipv4/tcp_rmem
file tcp_wmem /proc/sys/net/ipv4/tcp_wmem
file load /proc/loadavg
fact dropped "$(sed 's/^[^ ]* \([^ ]*\) .*/\1/' /proc/net/softnet_stat | tr '\n' ' ')"
fact nic "$nic"
[ -z "$nic" ] || { device "$nic"; section "speed $nic"; ethtool "$nic"; }
for tunnel; do device "$tunnel"; done
exit 0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A network device as ``ip`` and ``ethtool`` tell of it.

    Attributes:
        driver: e.g. ``vmxnet3``; empty where ethtool is missing or does not know.
        mtu_bytes: None if unknown.
        speed_bits_per_second: what the driver claims, which for a virtual device means little; of
            the NIC only.
        qdisc: how packets queue, e.g. ``fq_codel``.
        offload: those of :data:`FLAGS` that are known, True where on.
    """

    name: str
    driver: str = ""
    mtu_bytes: int | None = None
    speed_bits_per_second: float | None = None
    qdisc: str = ""
    offload: Mapping[str, bool] = field(default_factory=dict)

    def to_record(self) -> dict[str, Any]:
        """Return what is known of it but its name, JSON-safe."""
        offload = {name: "on" if on else "off" for name, on in self.offload.items()}
        return _known(self, name="", offload=offload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One node, as it was at one moment. What is empty or None is not known.

    Attributes:
        kernel: its release, e.g. ``6.12.1-amd64``.
        cpu_model: e.g. ``AMD EPYC 7763``.
        cpu_count: as the kernel counts them, with those of SMT.
        platform: the machine's maker and product, e.g. ``VMware, Inc. VMware Virtual Platform``;
            ``virtual`` where only that is known.
        governor: of the first CPU's frequency.
        congestion_control: TCP's default.
        tcp_rmem: smallest, default and largest receive buffer, in bytes.
        tcp_wmem: the same of the send buffer.
        nic: the device by which it reaches other nodes.
        tunnels: those of Calico's tunnel devices that there are, by name.
        load_1_minute: the load average.
        softnet_dropped: packets that the CPUs had no room for, since boot.
    """

    kernel: str = ""
    cpu_model: str = ""
    cpu_count: int | None = None
    platform: str = ""
    governor: str = ""
    congestion_control: str = ""
    tcp_rmem: str = ""
    tcp_wmem: str = ""
    nic: Device | None = None
    tunnels: Mapping[str, Device] = field(default_factory=dict)
    load_1_minute: float | None = None
    softnet_dropped: int | None = None

    @property
    def kernel_version(self) -> tuple[int, int] | None:
        """Major and minor number; None if unknown."""
        found = re.match(r"(\d+)\.(\d+)", self.kernel)
        return (int(found[1]), int(found[2])) if found else None

    def to_record(self) -> dict[str, Any]:
        """Return what is known, JSON-safe; the kernel is the Node object's to tell."""
        nic = {"name": self.nic.name, **self.nic.to_record()} if self.nic is not None else None
        tunnels = {name: one.to_record() for name, one in self.tunnels.items()}
        return _known(self, kernel="", nic=nic, tunnels=tunnels)


def _known(told: Device | Machine, **instead: object) -> dict[str, Any]:
    """Return the fields of which something is known, some of them in another form."""
    parts = {one.name: getattr(told, one.name) for one in fields(told)} | instead
    return {name: value for name, value in parts.items() if value not in (None, "", {})}


def argv(address: str, tunnels: Sequence[str]) -> list[str]:
    """Return the command that prints a node's facts.

    Args:
        address: another node's, to which its NIC leads.
        tunnels: the names of tunnel devices that may be there.
    """
    return ["sh", "-c", _SCRIPT, "k8snet", address, *tunnels]


#: Facts that are told as they stand.
_TEXTS = ("kernel", "cpu_model", "governor", "congestion_control", "tcp_rmem", "tcp_wmem")


def parse(text: str) -> Machine:
    """Read what the command of :func:`argv` printed; what cannot be read is not known."""
    sections = dict(_sections(text))
    lines = [line.partition("\t") for line in sections.get("facts", "").splitlines()]
    facts = {name: " ".join(value.split()) for name, tab, value in lines if tab}
    nic = facts.get("nic", "")
    devices = {
        name: _device(name, sections)
        for heading, body in sections.items()
        if (name := heading.removeprefix("link ")) != heading and body
    }
    platform = f"{facts.get('maker', '')} {facts.get('product', '')}".strip()
    load = re.match(r"\d+\.\d+", facts.get("load", ""))
    return Machine(
        **{name: facts.get(name, "") for name in _TEXTS},
        cpu_count=int(count) if (count := facts.get("cpu_count", "")).isdecimal() else None,
        platform=platform or ("virtual" if "virtual" in facts else ""),
        nic=devices.pop(nic, None),
        tunnels=devices,
        load_1_minute=float(load[0]) if load else None,
        softnet_dropped=_dropped(facts.get("dropped", "")),
    )


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for piece in text.split("\x1e")[1:]:
        heading, _, body = piece.partition("\n")
        yield heading, body.strip()


def _device(name: str, sections: Mapping[str, str]) -> Device:
    link = sections[f"link {name}"]
    mtu, qdisc = re.search(r" mtu (\d+)", link), re.search(r" qdisc (\S+)", link)
    driver = re.search(r"^driver: (\S+)$", sections.get(f"driver {name}", ""), re.MULTILINE)
    speed = re.search(r"^\s*Speed: (\d+)Mb/s$", sections.get(f"speed {name}", ""), re.MULTILINE)
    told = dict(
        re.findall(r"^\s*(\S+): (on|off)\b", sections.get(f"offload {name}", ""), re.MULTILINE)
    )
    return Device(
        name=name,
        driver=driver[1] if driver else "",
        mtu_bytes=int(mtu[1]) if mtu else None,
        speed_bits_per_second=int(speed[1]) * 1e6 if speed else None,
        qdisc=qdisc[1] if qdisc else "",
        offload={flag: told[flag] == "on" for flag in FLAGS if flag in told},
    )


def _dropped(text: str) -> int | None:
    counts = text.split()
    if not counts or not all(re.fullmatch(r"[0-9a-f]{1,8}", count) for count in counts):
        return None
    return sum(int(count, 16) for count in counts)
