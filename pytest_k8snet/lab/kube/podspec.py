"""From a Pod object to what its containers are started with. Pure, but for reading references."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.dataplane import kernel
from pytest_k8snet.lab.spec import LabSpec

#: A container's PATH when its spec sets none, as container runtimes have it.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything there is to know about a container before it is started.

    Attributes:
        argv: the program and its arguments.
        privileges: the command prefix that takes privileges away.
        environment: the whole environment.
        directory: the working directory.
        hostname: of the container's UTS namespace.
        network: the file of its network namespace.
        mounts: what is bound where: (source, target), in order.
        stdin: whether its standard input is kept open, for those who attach to it.
    """

    argv: tuple[str, ...]
    privileges: tuple[str, ...]
    environment: Mapping[str, str]
    directory: str
    hostname: str
    network: Path
    mounts: tuple[tuple[str, str], ...]
    stdin: bool = False


#: Finds the values in a ConfigMap or Secret: its kind, the reference (a name, and whether it is
#: optional), and the one key that is wanted or None for all. None where it may be missing and is.
Lookup = Callable[[str, Object, str | None], Mapping[str, str] | None]

_VARIABLE = re.compile(r"\$(\$|\(([^)]*)\))")


class ConfigError(Exception):
    """The container's configuration cannot be made; the text is the kubelet's."""


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
    images: Mapping[str, Sequence[str]],
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
        images: the programs of images that the lab does not know.

    Raises:
        ConfigError: a kubelet would refuse the container.
        NoCommandError: nothing says what to run.
    """
    refusal = must_be_refused(pod, container)
    if refusal:
        raise ConfigError(refusal)
    if unplayed := list(_unplayed(pod, container)):
        raise ConfigError(f"the lab does not play {', '.join(unplayed)}")
    expanded = {
        **container,
        "command": [expand(word, values) for word in container.get("command") or []],
        "args": [expand(word, values) for word in container.get("args") or []],
    }
    command = command_of(expanded, python=python, images=images)
    obeys_user = any_user and not command.of_the_lab
    return Plan(
        argv=command.argv,
        privileges=tuple(setpriv(pod, container, any_user=obeys_user)),
        environment=values,
        directory=container.get("workingDir") or "/",
        hostname=hostname,
        network=network,
        mounts=(*mounts(container, directory), *_kernel_of(pod)),
        stdin=bool(container.get("stdin")),
    )


#: What would change what a container is or sees, and the lab has not; elsewhere in a spec stands
#: what the lab does, or what changes nothing here.
_UNPLAYED_OF_PODS = (
    *("hostIPC", "hostPID", "shareProcessNamespace", "runtimeClassName", "resourceClaims"),
    *("readinessGates", "ephemeralContainers", "setHostnameAsFQDN"),
)
_UNPLAYED_OF_CONTAINERS = (
    *(f"{probe}Probe.grpc" for probe in ("liveness", "readiness", "startup")),
    *(f"lifecycle.{hook}.{way}" for hook in ("preStop", "postStart")
      for way in ("httpGet", "tcpSocket")),
    *("lifecycle.postStart.sleep", "volumeDevices", "restartPolicy"),
)  # fmt: skip


def _unplayed(pod: Object, container: Object) -> Iterator[str]:
    """The fields that are set and that the lab does not play."""
    for path in _UNPLAYED_OF_PODS:
        if dig(pod, f"spec.{path}"):
            yield f"spec.{path}"
    if dig(pod, "spec.hostUsers") is False:
        yield "spec.hostUsers"
    for port in () if dig(pod, "spec.hostNetwork") else container.get("ports") or ():
        if port.get("hostPort"):
            yield f"the hostPort {port['hostPort']}"
    for sysctl in dig(pod, "spec.securityContext.sysctls", []):
        if not sysctl["name"].startswith("net."):
            yield f"the sysctl {sysctl['name']}"
    for path in _UNPLAYED_OF_CONTAINERS:
        if dig(container, path) is not None:
            yield path
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        if dig(container, f"{probe}.httpGet.scheme", "HTTP") != "HTTP":
            yield f"{probe}.httpGet.scheme"
    for entry in container.get("env") or []:
        if dig(entry, "valueFrom.resourceFieldRef"):
            yield f"the resourceFieldRef of {entry['name']}"
    kinds = {
        volume["name"]: kind
        for volume in dig(pod, "spec.volumes", [])
        for kind in volume
        if kind not in ("name", "emptyDir")
    }
    for mount in container.get("volumeMounts") or []:
        if mount["name"] in kinds:
            yield f"volumes of the kind {kinds[mount['name']]}"
        if mount.get("subPath") or mount.get("subPathExpr"):
            yield f"the subPath of {mount['mountPath']}"


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


def hosts(pod: Object, hostname: str, address: str) -> str:
    """The text of the pod's /etc/hosts."""
    aliases = (
        f"{alias['ip']}\t{' '.join(alias.get('hostnames') or [])}\n"
        for alias in dig(pod, "spec.hostAliases", [])
    )
    return (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        f"{address}\t{hostname}\n" + "".join(aliases)
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
    path = search_path(str(container.get("image") or ""))
    values = {"PATH": path, "HOME": "/root", "HOSTNAME": pod["metadata"]["name"], **api}
    for entry in container.get("envFrom") or []:
        for field, kind in (("configMapRef", "configmap"), ("secretRef", "secret")):
            if field in entry:
                for key, value in (lookup(kind, entry[field], None) or {}).items():
                    values[f"{entry.get('prefix') or ''}{key}"] = value
    for entry in container.get("env") or []:
        source = entry.get("valueFrom")
        if source:
            referred = _referred(pod, status, source, lookup)
            if referred is not None:
                values[entry["name"]] = referred
        else:
            values[entry["name"]] = expand(str(entry.get("value") or ""), values)
    return values


def _referred(pod: Object, status: Object, source: Object, lookup: Lookup) -> str | None:
    if "fieldRef" in source:
        path = str(source["fieldRef"]["fieldPath"])
        keyed = re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path)
        if keyed:
            return str(dig(pod, f"metadata.{keyed[1]}", {}).get(keyed[2], ""))
        return str(dig({**pod, "status": status}, path, ""))
    for kind, field in (("configmap", "configMapKeyRef"), ("secret", "secretKeyRef")):
        if field in source:
            found = lookup(kind, source[field], source[field]["key"])
            return None if found is None else found[source[field]["key"]]
    return ""


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` as Kubernetes does: unknown names stay, ``$$`` is one dollar."""

    def replace(match: re.Match[str]) -> str:
        if match[1] == "$":
            return "$"
        return values.get(match[2], match[0])

    return _VARIABLE.sub(replace, text)


def mounts(container: Object, directory: Path) -> tuple[tuple[str, str], ...]:
    """What is bound into a container: its own /tmp, its resolver's files, its ping, its volumes.

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
    ping = shutil.which("ping", path=DEFAULT_PATH)
    if ping is not None and PING.exists():
        pairs.append((str(PING), os.path.realpath(ping)))
    for mount in container.get("volumeMounts") or []:
        source = directory / "volumes" / mount["name"]
        if source.exists():
            pairs.append((str(source), mount["mountPath"]))
    return tuple(pairs)


def _kernel_of(pod: Object) -> Iterator[tuple[str, str]]:
    """What a container sees of its node's kernel: which drivers that has."""
    shown, own = kernel.symbols(dig(pod, "spec.nodeName", "")), Path("/proc/kallsyms")
    if shown.is_file() and own.exists():
        yield str(shown), str(own)


# -- Images ----------------------------------------------------------------------------------------

# Pods run the host's programs, so nothing is pulled. The names that cannot be pulled are
# recognised, so that the errors of a real registry can be seen; so are the images that have no
# measuring tools.

#: Where the lab keeps the programs that its own images run.
PROGRAMS = Path("/run/k8snet/programs")
#: What containers have in place of the host's ping.
PING = PROGRAMS / "ping"
#: Where pods of an image without measuring tools find the programs that it does have.
SMALL_BIN = Path("/run/k8snet/busybox")
#: A folder of the user's own programs, if there is one: every container finds them, and an image of
#: a program's name runs it.
EXTRA_BIN = Path("/run/k8snet/extra")
_SMALL = (
    "basename cat chmod cp cut date dd df dirname du echo env expr false find free grep gzip head "
    "hostname id ip kill ln ls mkdir mktemp mount mv nc netstat nslookup ping printf ps pwd "
    "rm sed seq setpriv sh sleep sort stat tail tar tee test timeout top touch tr true uname "
    "uniq uptime vi wc wget which whoami xargs "
)
#: What the commonest images without iperf3 and curl have, as far as anything here runs it.
SMALL_PROGRAMS = tuple(_SMALL.split())
# As pid 1 of its container it would ignore what it does not handle.
#: What the lab's calico-node says on this node.
_FELIX = ("sh", "-c", f'exec tail -n +1 -F "{kernel.NODES}/$NODENAME/calico-node.log"')
_PAUSE = ("sh", "-c", "trap 'exit 0' INT TERM; sleep infinity & wait")
_SMALL_IMAGES = ("docker.io/library/alpine", "docker.io/library/busybox")


class ImagePullError(Exception):
    """The image cannot be pulled; the text is the container runtime's."""


class NoCommandError(Exception):
    """Neither the container nor its image says what to run."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a container runs.

    Attributes:
        argv: program and arguments.
        of_the_lab: whether it is a program of the lab itself, which is not on the container's
            PATH and reads files that only the lab's own user may read.
    """

    argv: tuple[str, ...]
    of_the_lab: bool = False


def reference(image: str) -> str:
    """The full name: ``nginx`` is ``docker.io/library/nginx:latest``."""
    host, slash, rest = image.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = "docker.io", image if slash else f"library/{image}"
    if ":" not in rest.rpartition("/")[2] and "@" not in rest:
        rest += ":latest"
    return f"{host}/{rest}"


def image_id(image: str) -> str:
    """A digest that belongs to the name."""
    name = reference(image).rpartition(":")[0]
    return f"{name}@sha256:{hashlib.sha256(reference(image).encode()).hexdigest()}"


def pull(image: str) -> None:
    """Do what a registry would.

    Raises:
        ImagePullError: the registry's host ends in ``.invalid``, or the tag is ``missing``.
    """
    full = reference(image)
    host, _, rest = full.partition("/")
    name, _, tag = rest.rpartition(":")
    problem = f'failed to pull and unpack image "{full}": failed to resolve reference "{full}": '
    if host.partition(":")[0].endswith(".invalid"):
        url = f"https://{host}/v2/{name}/manifests/{tag}"
        lookup = f"dial tcp: lookup {host.partition(':')[0]}: no such host"
        raise ImagePullError(f'{problem}failed to do request: Head "{url}": {lookup}')
    if tag == "missing":
        raise ImagePullError(f"{problem}{full}: not found")


def search_path(image: str) -> str:
    """The PATH that an image sets."""
    small = reference(image).rpartition(":")[0] in _SMALL_IMAGES
    own = str(SMALL_BIN) if small else DEFAULT_PATH
    return f"{own}:{EXTRA_BIN}" if EXTRA_BIN.is_dir() else own


def command_of(
    container: Object, *, python: str, images: Mapping[str, Sequence[str]] | None = None
) -> Command:
    """What the container runs: its own command, else the image's program.

    Args:
        container: the entry of ``spec.containers``; variables in it are already expanded.
        python: the interpreter for the lab's own programs.
        images: the programs of images by name: as pods have it, without the tag, or its last part.

    Raises:
        NoCommandError: neither says what to run.
    """
    own, arguments = container.get("command") or [], container.get("args") or []
    if own:
        return Command((*own, *arguments))
    full = reference(str(container["image"])).rpartition(":")[0]
    name = full.rpartition("/")[2]
    for known in (container["image"], str(container["image"]).rpartition(":")[0], full, name):
        if images and known in images:
            return Command((*images[known], *arguments))
    if (EXTRA_BIN / name).is_file():
        return Command((str(EXTRA_BIN / name), *arguments))
    if name in ("agnhost", "nginx", "coredns"):
        return Command(tuple(_program(name, arguments, python)), of_the_lab=True)
    if name == "pause":
        return Command(_PAUSE)
    if full.endswith("/calico/node"):
        return Command(_FELIX)
    if arguments:
        return Command(tuple(arguments))
    raise NoCommandError(
        f"no command specified, and the lab does not know the program of {container['image']}:"
        " give the pod a command, or start the lab with --image NAME=COMMAND or --programs DIR"
    )


def _program(name: str, arguments: Sequence[str], python: str) -> list[str]:
    start = [python, "-I", "-S"]
    if name == "coredns":
        return [*start, str(PROGRAMS / "dnsserver.py")]
    port = "80"
    if name == "agnhost":
        if not arguments or arguments[0] == "pause":
            return list(_PAUSE)
        if arguments[0] != "netexec":
            raise NoCommandError(f"the lab's agnhost has no sub-command {arguments[0]!r}")
        port = "8080"
    for argument in arguments:
        if argument.startswith("--http-port="):
            port = argument.partition("=")[2]
    return [*start, str(PROGRAMS / "webserver.py"), port]


# -- Privileges ------------------------------------------------------------------------------------

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


def sysctls(pod: Object, *, any_user: bool) -> dict[str, str]:
    """The sysctls of a pod's network namespace: containerd's own, and those that the pod asks for.

    Args:
        pod: the Pod; those of the network are kept.
        any_user: whether there are groups but 0, which alone may ping otherwise.
    """
    # As containerd has it: pods need no privilege for low ports.
    found = {"ipv4/ip_unprivileged_port_start": "0"}
    for entry in dig(pod, "spec.securityContext.sysctls", []):
        if entry["name"].startswith("net."):
            found[entry["name"].removeprefix("net.").replace(".", "/")] = str(entry["value"])
    if "ipv4/ping_group_range" in found and not any_user:
        found["ipv4/ping_group_range"] = "0 0"
    return found


def must_be_refused(pod: Object, container: Object) -> str:
    """Why a kubelet would not create this container, or nothing."""
    own, general = dig(container, "securityContext", {}), dig(pod, "spec.securityContext", {})
    user = _either(own, general, "runAsUser")
    if _either(own, general, "runAsNonRoot") and user == 0:
        return "container's runAsUser breaks non-root policy"
    if _either(own, general, "runAsNonRoot") and user is None:
        return "container has runAsNonRoot and image will run as root"
    return ""
