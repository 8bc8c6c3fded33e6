"""From a Pod object to what its containers are started with. Pure, but for reading references."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.kube import images, privileges
from pytest_k8snet.lab.kube.container import Plan
from pytest_k8snet.lab.spec import LabSpec

#: Finds the value of an ``env[].valueFrom`` that leads to another object: (kind, name, key).
Lookup = Callable[[str, str, str], str]

_VARIABLE = re.compile(r"\$(\$|\(([^)]*)\))")


class ConfigError(Exception):
    """The container's configuration cannot be made; the text is the kubelet's."""


def resolv_conf(pod: Object, spec: LabSpec) -> str | None:
    """The text of the pod's resolv.conf, or None for the node's own."""
    policy = dig(pod, "spec.dnsPolicy", "ClusterFirst")
    if policy == "Default" or (policy == "ClusterFirst" and dig(pod, "spec.hostNetwork")):
        return None
    given = dig(pod, "spec.dnsConfig", {})
    servers, searches, options = [], [], []
    if policy != "None":
        domain = spec.cluster_domain
        servers = [str(spec.dns_address)]
        searches = [f"{pod['metadata']['namespace']}.svc.{domain}", f"svc.{domain}", domain]
        options = ["ndots:5"]
    servers += given.get("nameservers") or []
    searches += given.get("searches") or []
    for option in given.get("options") or []:
        name, value = option["name"], option.get("value")
        options = [entry for entry in options if entry.partition(":")[0] != name]
        options.append(f"{name}:{value}" if value is not None else name)
    lines = [f"search {' '.join(searches)}"] if searches else []
    lines += [f"nameserver {server}" for server in servers]
    lines += [f"options {' '.join(options)}"] if options else []
    return "\n".join(lines) + "\n"


def hosts(hostname: str, address: str) -> str:
    """The text of the pod's /etc/hosts."""
    return (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        f"{address}\t{hostname}\n"
    )


def environment(
    pod: Object, container: Object, *, api: Mapping[str, str], status: Object, lookup: Lookup
) -> dict[str, str]:
    """The environment of a container.

    Args:
        pod: the Pod.
        container: the entry of ``spec.containers``.
        api: the variables by which pods find the API server.
        status: the pod's status as it is now, for field references.
        lookup: the values in ConfigMaps and Secrets.

    Raises:
        ConfigError: a reference leads nowhere.
    """
    path = images.search_path(str(container.get("image") or ""))
    values = {"PATH": path, "HOME": "/root", "HOSTNAME": pod["metadata"]["name"], **api}
    for entry in container.get("env") or []:
        source = entry.get("valueFrom")
        if source:
            values[entry["name"]] = _referred(pod, status, source, lookup)
        else:
            values[entry["name"]] = expand(str(entry.get("value") or ""), values)
    return values


def _referred(pod: Object, status: Object, source: Object, lookup: Lookup) -> str:
    if "fieldRef" in source:
        path = str(source["fieldRef"]["fieldPath"])
        keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if keyed:
            return str(dig(pod, f"metadata.{keyed[1]}", {}).get(keyed[2], ""))
        return str(dig({**pod, "status": status}, path, ""))
    for kind, field in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if field in source:
            reference = source[field]
            return lookup(kind, reference["name"], reference["key"])
    return ""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown names stay, ``$$`` is one dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _VARIABLE.sub(replace, text)


def mounts(container: Object, directory: Path) -> tuple[tuple[str, str], ...]:
    """What is bound into a container: its own /tmp, its resolver's files, its volumes.

    Args:
        container: the entry of ``spec.containers``.
        directory: of the pod; holds ``hosts``, perhaps ``resolv.conf``, ``volumes/<name>`` and
            ``tmp/<container>``.
    """
    pairs = [(str(directory / "tmp" / container["name"]), "/tmp")]
    pairs += [
        (str(directory / name), f"/etc/{name}")
        for name in ("hosts", "resolv.conf")
        if (directory / name).exists()
    ]
    for mount in container.get("volumeMounts") or []:
        source = directory / "volumes" / mount["name"]
        if source.exists():
            pairs.append((str(source), mount["mountPath"]))
    return tuple(pairs)


def plan(
    pod: Object,
    container: Object,
    *,
    values: Mapping[str, str],
    hostname: str,
    network: Path,
    directory: Path,
    python: str,
    any_user: bool,
) -> Plan:
    """What to start for one container.

    Args:
        pod: the Pod.
        container: the entry of ``spec.containers``.
        values: its environment.
        hostname: of the pod, or of its node with ``hostNetwork``.
        network: the file of the network namespace.
        directory: of the pod, see :func:`mounts`.
        python: the interpreter for the lab's own programs.
        any_user: whether ``runAsUser`` can be obeyed.

    Raises:
        ConfigError: a kubelet would refuse the container.
        NoCommandError: nothing says what to run.
    """
    refusal = privileges.must_be_refused(pod, container)
    if refusal:
        raise ConfigError(refusal)
    expanded = {
        **container,
        "command": [expand(word, values) for word in container.get("command") or []],
        "args": [expand(word, values) for word in container.get("args") or []],
    }
    command = images.command(expanded, python=python)
    obeys_user = any_user and not command.of_the_lab
    return Plan(
        argv=command.argv,
        privileges=tuple(privileges.setpriv(pod, container, any_user=obeys_user)),
        environment=values,
        directory=container.get("workingDir") or "/",
        hostname=hostname,
        network=network,
        mounts=mounts(container, directory),
    )
