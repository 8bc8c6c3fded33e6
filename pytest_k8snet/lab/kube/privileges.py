"""A securityContext as a ``setpriv`` command. Pure."""

from __future__ import annotations

from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig

#: What containerd and Docker leave to a container's root.
DEFAULT_CAPABILITIES = frozenset(
    {"audit_write", "chown", "dac_override", "fowner", "fsetid", "kill", "mknod"}
    | {"net_bind_service", "net_raw", "setfcap", "setgid", "setpcap", "setuid", "sys_chroot"}
)


def setpriv(pod: Object, container: Object, *, any_user: bool) -> list[str]:
    """The command prefix that gives a program the privileges of its container, and no others.

    Args:
        pod: the Pod; its own securityContext is the default of its containers'.
        container: the entry of ``spec.containers``.
        any_user: whether ``runAsUser`` can be obeyed; in a user namespace of one user it cannot.
    """
    own = dig(container, "securityContext", {})
    if own.get("privileged"):
        return []
    command = ["setpriv", "--inh-caps=-all", f"--bounding-set={_bounding_set(own)}"]
    if own.get("allowPrivilegeEscalation") is False:
        command.append("--no-new-privs")
    user = _either(own, dig(pod, "spec.securityContext", {}), "runAsUser")
    if any_user and user:
        group = _either(own, dig(pod, "spec.securityContext", {}), "runAsGroup") or 0
        command += [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
    return command


def _either(own: Object, general: Object, key: str) -> Any:
    return own[key] if own.get(key) is not None else general.get(key)


def _bounding_set(own: Object) -> str:
    added = {name.lower().removeprefix("cap_") for name in dig(own, "capabilities.add", [])}
    dropped = {name.lower().removeprefix("cap_") for name in dig(own, "capabilities.drop", [])}
    if "all" in added:
        return ",".join(["+all", *sorted(f"-{name}" for name in dropped - {"all"})])
    default = frozenset() if "all" in dropped else DEFAULT_CAPABILITIES
    # What is both added and dropped is added, as container runtimes do.
    kept = (default - dropped) | added
    return ",".join(["-all", *sorted(f"+{name}" for name in kept)])


def must_be_refused(pod: Object, container: Object) -> str:
    """Why a kubelet would not create this container, or nothing."""
    own, general = dig(container, "securityContext", {}), dig(pod, "spec.securityContext", {})
    user = _either(own, general, "runAsUser")
    if _either(own, general, "runAsNonRoot") and user == 0:
        return "container's runAsUser breaks non-root policy"
    if _either(own, general, "runAsNonRoot") and user is None:
        return "container has runAsNonRoot and image will run as root"
    return ""
