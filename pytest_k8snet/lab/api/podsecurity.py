"""The Pod Security Standards: where a pod's spec does not keep to ``baseline`` or ``restricted``.

https://kubernetes.io/docs/concepts/security/pod-security-standards; the words are those of
kube-apiserver 1.34 (``tests/data/kubernetes/admission-plugins.json``). What only Windows has, and
hosts of probes, are not looked at. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig

LEVELS = ("privileged", "baseline", "restricted")
#: A reason why a pod does not keep to a standard, and what in it is the matter.
Violation = tuple[str, str]

_CONTEXT = "securityContext"
_BIND = "NET_BIND_SERVICE"
_DEFAULT_CAPABILITIES = {
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", _BIND, "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}  # fmt: skip
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem",
}  # fmt: skip
_SAFE_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
_SELINUX_TYPES = {
    "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t",
}  # fmt: skip


def violations(level: str, spec: Object) -> list[Violation]:
    """Where a pod's spec does not keep to a standard, in the order of kube-apiserver."""
    containers = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    found: list[Violation] = []
    if level != "privileged":
        found += _baseline(spec, containers, strict=level == "restricted")
    if level == "restricted":
        found += _restricted(spec, containers)
    return found


def listed(found: Iterable[Violation]) -> str:
    """Violations in one text."""
    return ", ".join(f"{reason} ({detail})" for reason, detail in found)


def _baseline(spec: Object, containers: list[Object], *, strict: bool) -> Iterator[Violation]:
    """What ``baseline`` asks for.

    Args:
        spec: of the pod.
        containers: all of them.
        strict: whether what ``restricted`` says in words of its own is left to it.
    """
    armour = _setters(spec, containers, "appArmorProfile.type", lambda value: value == "Unconfined")
    if armour:
        said = f'{armour} must not set AppArmor profile type to "Unconfined"'
        yield "forbidden AppArmor profile", said
    if not strict and (said := _must_not_include(containers, _DEFAULT_CAPABILITIES)):
        yield "non-default capabilities", said
    shared = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    if shared:
        yield "host namespaces", ", ".join(shared)
    volumes = spec.get("volumes") or []
    if not strict and (paths := [one for one in volumes if "hostPath" in one]):
        yield "hostPath volumes", _named("volume", paths)
    ports = {
        str(port["hostPort"]): one["name"]
        for one in containers
        for port in one.get("ports") or []
        if port.get("hostPort") and not spec.get("hostNetwork")
    }
    if ports:
        users = [one for one in containers if one["name"] in ports.values()]
        verb, many = "use" if len(users) > 1 else "uses", "s" * (len(ports) > 1)
        yield "hostPort", f"{_named('container', users)} {verb} hostPort{many} {', '.join(ports)}"
    if bad := _with(containers, "privileged", bool):
        said = f"{_named('container', bad)} must not set securityContext.privileged=true"
        yield "privileged", said
    if bad := _with(containers, "procMount", lambda value: value not in (None, "Default")):
        kinds = _quoted(sorted({bad_one[_CONTEXT]["procMount"] for bad_one in bad}))
        said = f"{_named('container', bad)} must not set securityContext.procMount to {kinds}"
        yield "procMount", said
    yield from _selinux(spec, containers)
    if not strict and (said := _unconfined(spec, containers)):
        yield "seccompProfile", said
    sysctls = [one["name"] for one in dig(spec, "securityContext.sysctls", [])]
    if unsafe := [name for name in sysctls if name not in _SAFE_SYSCTLS]:
        yield "forbidden sysctls", ", ".join(unsafe)


def _restricted(spec: Object, containers: list[Object]) -> Iterator[Violation]:
    bad = _with(containers, "allowPrivilegeEscalation", lambda value: value is not False)
    if bad:
        must = "must set securityContext.allowPrivilegeEscalation=false"
        yield "allowPrivilegeEscalation != false", f"{_named('container', bad)} {must}"
    keep = _with(containers, "capabilities.drop", lambda value: "ALL" not in (value or []))
    said = [
        f'{_named("container", keep)} must set securityContext.capabilities.drop=["ALL"]'
        if keep
        else "",
        _must_not_include(containers, {_BIND}),
    ]
    if any(said):
        yield "unrestricted capabilities", "; ".join(filter(None, said))
    kinds = {
        volume["name"]: kind
        for volume in spec.get("volumes") or []
        for kind in volume
        if kind != "name" and kind not in _SAFE_VOLUMES
    }
    if kinds:
        names, types = list(kinds), sorted(set(kinds.values()))
        verb, many = "use" if len(names) > 1 else "uses", "s" * (len(types) > 1)
        whose = f"volume{'s' * (len(names) > 1)} {_quoted(names)}"
        said_of = f"{whose} {verb} restricted volume type{many} {_quoted(types)}"
        yield "restricted volume types", said_of
    if told := _not_root(spec, containers):
        yield "runAsNonRoot != true", told
    if root := _setters(spec, containers, "runAsUser", lambda value: value == 0):
        yield "runAsUser=0", f"{root} must not set runAsUser=0"
    if told := _unconfined(spec, containers) or _no_profile(spec, containers):
        yield "seccompProfile", told


def _not_root(spec: Object, containers: list[Object]) -> str:
    path = "runAsNonRoot"
    if bad := _setters(spec, containers, path, lambda value: value is False):
        return f"{bad} must not set securityContext.runAsNonRoot=false"
    if dig(spec, f"{_CONTEXT}.{path}"):
        return ""
    unset = _with(containers, path, lambda value: value is None)
    must = "must set securityContext.runAsNonRoot=true"
    return f"pod or {_named('container', unset)} {must}" if unset else ""


def _unconfined(spec: Object, containers: list[Object]) -> str:
    path = "seccompProfile.type"
    bad = _setters(spec, containers, path, lambda value: value == "Unconfined")
    return f'{bad} must not set securityContext.{path} to "Unconfined"' if bad else ""


def _no_profile(spec: Object, containers: list[Object]) -> str:
    path = "seccompProfile.type"
    if dig(spec, f"{_CONTEXT}.{path}"):
        return ""
    unset = _with(containers, path, lambda value: value is None)
    must = f'must set securityContext.{path} to "RuntimeDefault" or "Localhost"'
    return f"pod or {_named('container', unset)} {must}" if unset else ""


def _selinux(spec: Object, containers: list[Object]) -> Iterator[Violation]:
    options = [dig(one, f"{_CONTEXT}.seLinuxOptions", {}) for one in (spec, *containers)]
    types = sorted({str(one.get("type", "")) for one in options} - _SELINUX_TYPES)
    why = [
        *([f"type{'s' * (len(types) > 1)} {_quoted(types)}"] if types else []),
        *(f"{key} may not be set" for key in ("user", "role") if any(map(_key(key), options))),
    ]
    if why:
        bad = _setters(spec, containers, "seLinuxOptions", _is_foreign)
        said = f"{bad} set forbidden securityContext.seLinuxOptions: {'; '.join(why)}"
        yield "seLinuxOptions", said


def _key(name: str) -> Callable[[Object], Any]:
    return lambda options: options.get(name)


def _is_foreign(options: Any) -> bool:
    given = options or {}
    return given.get("type", "") not in _SELINUX_TYPES or bool(
        given.get("user") or given.get("role")
    )


def _must_not_include(containers: list[Object], allowed: set[str]) -> str:
    path = f"{_CONTEXT}.capabilities.add"
    bad = [one for one in containers if set(dig(one, path, [])) - allowed]
    if not bad:
        return ""
    words = _quoted(sorted({word for one in bad for word in dig(one, path, [])} - allowed))
    return f"{_named('container', bad)} must not include {words} in {path}"


# -- Who it is -------------------------------------------------------------------------------------


def _with(containers: list[Object], path: str, holds: Callable[[Any], bool]) -> list[Object]:
    return [one for one in containers if holds(dig(one, f"{_CONTEXT}.{path}"))]


def _setters(
    spec: Object, containers: list[Object], path: str, holds: Callable[[Any], bool]
) -> str:
    """``pod``, ``container "c"`` or both, of whom something holds; empty for nobody."""
    names = ["pod"] if holds(dig(spec, f"{_CONTEXT}.{path}")) else []
    if bad := _with(containers, path, holds):
        names.append(_named("container", bad))
    return " and ".join(names)


def _named(kind: str, things: list[Object]) -> str:
    names = [str(thing["name"]) for thing in things]
    return f"{kind}{'s' * (len(names) > 1)} {_quoted(names)}"


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(f'"{word}"' for word in words)
