"""The few system calls for namespaces that Python 3.11 lacks, and two network ioctls.

All act on the calling *thread*; only ``netns`` decides which thread that is.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
from pathlib import Path

CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCETHTOOL = 0x8946
_IFF_UP = 0x1
_ETHTOOL_STSO = 0x1F
_ETHTOOL_SGSO = 0x24

_libc = ctypes.CDLL(None, use_errno=True)


def kernel_version() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare_network() -> None:
    """Give the calling thread a new, empty network namespace."""
    _checked(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")


def enter_network(path: Path) -> None:
    """Move the calling thread into the network namespace that ``path`` names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.setns(descriptor, CLONE_NEWNET), f"setns({path})")
    finally:
        os.close(descriptor)


def bind_mount(source: str, target: Path) -> None:
    """Mount ``source`` a second time at ``target``, which must exist."""
    _checked(
        _libc.mount(source.encode(), str(target).encode(), b"none", MS_BIND, None),
        f"mount({target})",
    )


def unmount(target: Path) -> None:
    """Detach the mount at ``target``; what still uses it keeps it alive."""
    _checked(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount2({target})")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def has_interface(name: str) -> bool:
    """Whether the calling thread's namespace has an interface of this name."""
    # Not /sys/class/net: that shows the namespace in which sysfs was mounted.
    return any(name == found for _, found in socket.if_nameindex())


def set_interface_up(name: str) -> None:
    """Set an interface of the calling thread's namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        request = struct.pack("16sH14x", name.encode(), 0)
        (flags,) = struct.unpack_from("H", fcntl.ioctl(handle, _SIOCGIFFLAGS, request), 16)
        fcntl.ioctl(handle, _SIOCSIFFLAGS, struct.pack("16sH14x", name.encode(), flags | _IFF_UP))


def disable_segmentation_offload(name: str) -> None:
    """Make an interface of the calling thread's namespace send real frames only: no TSO, no GSO."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for command in (_ETHTOOL_STSO, _ETHTOOL_SGSO):
            value = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sQ8x", name.encode(), ctypes.addressof(value))
            fcntl.ioctl(handle, _SIOCETHTOOL, request)


def write_sysctls(values: dict[str, str]) -> None:
    """Write sysctls of the calling thread's namespace; names the kernel lacks are passed over.

    Args:
        values: paths below ``/proc/sys/net`` and what to write there.
    """
    for name, value in values.items():
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)
