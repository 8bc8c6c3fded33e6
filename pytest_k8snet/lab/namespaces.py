"""The lab's own namespaces: system calls that Python 3.11 has no function for, and their order.

Nothing here survives the lab: the namespaces, the mounts and all processes go with its pid 1, and
pid 1 goes with its parent.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
from pathlib import Path

from pytest_k8snet.errors import LabError

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000
_MS_REC_PRIVATE = (1 << 14) | (1 << 18)
_MS_PRIVATE = 1 << 18
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
# The same number on every architecture, as for every system call since Linux 5.1.
_SYS_MOUNT_SETATTR = 442

_KNOBS = (
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
    "kernel.apparmor_restrict_unprivileged_userns",
)

_LIBC = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def unshare_all() -> None:
    """Enter new mount, network, UTS, IPC and (for children) pid namespaces.

    Without the right to do so, a new user namespace comes first, in which this user is root.

    Raises:
        LabError: neither is allowed; the message names the kernel's settings.
    """
    flags = _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWPID | _CLONE_NEWUTS | _CLONE_NEWIPC
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid == 0 and _LIBC.unshare(flags) == 0:
            return
        _check(_LIBC.unshare(flags | _CLONE_NEWUSER), "unshare")
        # The kernel lets an ordinary user map a group only after giving up setgroups.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
    except OSError as exc:
        raise forbidden(exc) from exc


def forbidden(exc: OSError) -> LabError:
    """What to say when the kernel refuses a namespace or a mount in it."""
    what = f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)
    found = [what, *(f"{knob} = {value}" for knob, value in _knobs().items())]
    who = "this container" if os.getuid() == 0 else "ordinary users"
    return LabError(
        f"the kernel does not let {who} make the namespaces that the lab lives in",
        found="\n".join(found),
        remedy="run it as root (in a container: privileged), or allow user namespaces: "
        "sysctl kernel.unprivileged_userns_clone=1 (Debian), user.max_user_namespaces=10000, "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu 23.10 and later)",
    )


def _knobs() -> dict[str, str]:
    found = {}
    for knob in _KNOBS:
        path = Path("/proc/sys", *knob.split("."))
        if path.exists():
            found[knob] = path.read_text().strip()
    return found


def furnish(run: Path = Path("/run")) -> None:
    """Inside: the host's files read-only, an empty /run of the lab's own, and its own /proc.

    Pods run the host's programs, so no command in a pod may write to the host's disk.

    Raises:
        LabError: the kernel refuses a mount.
    """
    try:
        _make_private_and_read_only()
        _mount("tmpfs", run, "tmpfs", data="mode=0755")
        _mount("proc", Path("/proc"), "proc")
    except OSError as exc:
        raise forbidden(exc) from exc
    (run / "netns").mkdir()
    # The target of a pod's own resolv.conf, where it is a link into /run (systemd-resolved).
    resolver = Path(os.path.realpath("/etc/resolv.conf"))
    if resolver.is_relative_to(run):
        resolver.parent.mkdir(parents=True, exist_ok=True)
        resolver.touch()


def _make_private_and_read_only() -> None:
    wanted = _MountAttr(attr_set=_MOUNT_ATTR_RDONLY, propagation=_MS_PRIVATE)
    done = _LIBC.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    if done != 0:
        # Linux before 5.12 has no such call: private at least.
        _check(_LIBC.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount --make-rprivate /")


def _mount(source: str, target: Path, kind: str, *, data: str = "") -> None:
    arguments = (source.encode(), str(target).encode(), kind.encode())
    result = _LIBC.mount(*arguments, ctypes.c_ulong(0), data.encode() or None)
    _check(result, f"mount -t {kind} {target}")


def may_become_any_user() -> bool:
    """Whether this user namespace has more users than one, so that ``runAsUser`` can be obeyed."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return sum(int(line.split()[2]) for line in lines) >= 65536


# -- What ``netns`` needs; all act on the calling thread -------------------------------------------

MS_BIND = 0x1000
MNT_DETACH = 2
PR_SET_PDEATHSIG = 1

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_SIOCETHTOOL = 0x8946
_IFF_UP = 0x1
_ETHTOOL_STSO = 0x1F
_ETHTOOL_SGSO = 0x24


def kernel_version() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def unshare_network() -> None:
    """Give the calling thread a new, empty network namespace."""
    _check(_LIBC.unshare(_CLONE_NEWNET), "unshare(CLONE_NEWNET)")


def enter_network(path: Path) -> None:
    """Move the calling thread into the network namespace that ``path`` names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_LIBC.setns(descriptor, _CLONE_NEWNET), f"setns({path})")
    finally:
        os.close(descriptor)


def bind_mount(source: str, target: Path) -> None:
    """Mount ``source`` a second time at ``target``, which must exist."""
    _check(
        _LIBC.mount(source.encode(), str(target).encode(), b"none", MS_BIND, None),
        f"mount({target})",
    )


def unmount(target: Path) -> None:
    """Detach the mount at ``target``; what still uses it keeps it alive."""
    _check(_LIBC.umount2(str(target).encode(), MNT_DETACH), f"umount2({target})")


def die_with_parent(signal_number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _check(_LIBC.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


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
