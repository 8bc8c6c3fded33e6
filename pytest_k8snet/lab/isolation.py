"""The lab's own namespaces: system calls that Python 3.11 has no function for, and their order.

Nothing here survives the lab: the namespaces, the mounts and all processes go with its pid 1, and
pid 1 goes with its parent.
"""

from __future__ import annotations

import ctypes
import os
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

_libc = ctypes.CDLL(None, use_errno=True)


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
        if uid == 0 and _libc.unshare(flags) == 0:
            return
        _check(_libc.unshare(flags | _CLONE_NEWUSER), "unshare")
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
    done = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        b"/",
        _AT_RECURSIVE,
        ctypes.byref(wanted),
        ctypes.c_size_t(ctypes.sizeof(wanted)),
    )
    if done != 0:
        # Linux before 5.12 has no such call: private at least.
        _check(_libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount --make-rprivate /")


def _mount(source: str, target: Path, kind: str, *, data: str = "") -> None:
    arguments = (source.encode(), str(target).encode(), kind.encode())
    result = _libc.mount(*arguments, ctypes.c_ulong(0), data.encode() or None)
    _check(result, f"mount -t {kind} {target}")


def may_become_any_user() -> bool:
    """Whether this user namespace has more users than one, so that ``runAsUser`` can be obeyed."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    return sum(int(line.split()[2]) for line in lines) >= 65536
