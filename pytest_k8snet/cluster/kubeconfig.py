"""Find and read kubeconfig files, with one clear message for each way that this goes wrong.

Reads files and the environment at call time; opens no connection and needs no Kubernetes client.
The credentials themselves are left to the client library: this only decides which files, context,
cluster and user are meant, and proves that the library will understand them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import KubeconfigError

DEFAULT_PATH = "~/.kube/config"
_REMEDY = (
    "give --k8snet-kubeconfig=FILE or set KUBECONFIG (several files: joined by "
    f"{os.pathsep!r}); without a cluster, --k8snet-lab starts one"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """One context of one or more merged kubeconfig files.

    Attributes:
        paths: the files, in order of precedence.
        context: the chosen context's name.
        user: the name of its user entry; empty when it has none.
        server: the API server's URL.
        cluster_entry: the cluster's settings.
        user_entry: the user's settings.
    """

    paths: tuple[Path, ...]
    context: str
    user: str
    server: str
    cluster_entry: Mapping[str, Any] = field(repr=False)
    user_entry: Mapping[str, Any] = field(repr=False)


def locate(kubeconfig: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The kubeconfig files to read, in order of precedence.

    Args:
        kubeconfig: the file asked for; None takes ``KUBECONFIG``, then ``~/.kube/config``.
        environ: the environment.

    Returns:
        existing paths; empty when nothing was asked for and the default file does not exist.

    Raises:
        KubeconfigError: a file that was asked for does not exist.
    """
    if kubeconfig is not None:
        path = kubeconfig.expanduser()
        if not path.exists():
            raise KubeconfigError(
                f"the kubeconfig {path} does not exist",
                found=f"working directory {Path.cwd()}",
                remedy=_REMEDY,
            )
        return (path,)
    listed = environ.get("KUBECONFIG", "")
    if listed:
        paths = [Path(part).expanduser() for part in listed.split(os.pathsep) if part]
        existing = tuple(path for path in paths if path.exists())
        if not existing:
            raise KubeconfigError(
                "no file that KUBECONFIG names exists",
                found=f"KUBECONFIG={listed}",
                remedy=_REMEDY,
            )
        return existing
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    default = home / ".kube" / "config"
    return (default,) if default.exists() else ()


def nothing_found(environ: Mapping[str, str]) -> KubeconfigError:
    """The error for a machine without any kubeconfig, naming what was looked at."""
    return KubeconfigError(
        "there is no kubeconfig, so no cluster to test",
        found="no --k8snet-kubeconfig, KUBECONFIG is not set, "
        f"no {DEFAULT_PATH} (HOME={environ.get('HOME', '')}), "
        "and this is no pod (KUBERNETES_SERVICE_HOST is not set)",
        remedy=_REMEDY,
    )


def read(paths: tuple[Path, ...], context: str | None) -> Kubeconfig:
    """Read files and choose a context as kubectl does: the first file to name a thing wins.

    Args:
        paths: the files, in order of precedence.
        context: the context's name; None takes ``current-context``.

    Raises:
        KubeconfigError: a file cannot be read or makes no sense, or the context is unknown.
    """
    files = [(path, _load(path)) for path in paths]
    contexts = _named(files, "contexts", "context")
    where = ", ".join(str(path) for path in paths)
    if not contexts:
        raise KubeconfigError(f"the kubeconfig {where} has no contexts", remedy=_REMEDY)
    known = ", ".join(sorted(contexts))
    chosen = context or next(
        (str(text) for _, config in files if (text := config.get("current-context"))), ""
    )
    if not chosen:
        raise KubeconfigError(
            f"the kubeconfig {where} has no current-context",
            found=f"contexts: {known}",
            remedy="choose one: --k8snet-context=NAME or `kubectl config use-context NAME`",
        )
    if chosen not in contexts:
        raise KubeconfigError(
            f'the kubeconfig {where} has no context "{chosen}"',
            found=f"contexts: {known}",
            remedy="choose one of them by --k8snet-context or `kubectl config use-context`",
        )
    entry = contexts[chosen]
    cluster_name, user = str(entry.get("cluster") or ""), str(entry.get("user") or "")
    clusters = _named(files, "clusters", "cluster")
    users = _named(files, "users", "user")
    if cluster_name not in clusters:
        raise KubeconfigError(
            f'context "{chosen}" of {where} names the cluster "{cluster_name}", which is not there',
            found=f"clusters: {', '.join(sorted(clusters)) or 'none'}",
            remedy="correct the context's cluster",
        )
    if user and user not in users:
        raise KubeconfigError(
            f'context "{chosen}" of {where} names the user "{user}", which is not there',
            found=f"users: {', '.join(sorted(users)) or 'none'}",
            remedy="correct the context's user",
        )
    server = str(clusters[cluster_name].get("server") or "")
    if not server.startswith(("https://", "http://")):
        raise KubeconfigError(
            f'cluster "{cluster_name}" of {where} has no usable server',
            found=f"server: {server or 'missing'}",
            remedy="it must be a URL such as https://10.0.0.1:6443",
        )
    return Kubeconfig(
        paths=paths,
        context=chosen,
        user=user,
        server=server.rstrip("/"),
        cluster_entry=clusters[cluster_name],
        user_entry=users.get(user, {}),
    )


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise KubeconfigError(
            f"the kubeconfig {path} cannot be read",
            found=str(error),
            remedy="check that it is a text file that this user may read",
        ) from error
    except yaml.YAMLError as error:
        raise KubeconfigError(
            f"the kubeconfig {path} is not valid YAML",
            found=str(error),
            remedy="correct the place named, or fetch the file again",
        ) from error
    if not isinstance(config, dict):
        raise KubeconfigError(
            f"the kubeconfig {path} is not a kubeconfig",
            found="the file is empty" if config is None else f"a YAML {type(config).__name__}",
            remedy="it must be a mapping with clusters, contexts and users",
        )
    for key in ("clusters", "contexts", "users"):
        entries = config.get(key) or []
        if not isinstance(entries, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("name"), str) for entry in entries
        ):
            raise KubeconfigError(
                f"the kubeconfig {path} is not a kubeconfig",
                found=f"{key} is not a list of entries with a name",
                remedy="correct the file, or fetch it again",
            )
    return config


def _named(
    files: list[tuple[Path, Mapping[str, Any]]], key: str, inner: str
) -> dict[str, Mapping[str, Any]]:
    """The entries of a list of all files by name; the first file to name one wins."""
    found: dict[str, Mapping[str, Any]] = {}
    for _, config in files:
        for entry in config.get(key) or []:
            value = entry.get(inner)
            found.setdefault(entry["name"], value if isinstance(value, dict) else {})
    return found
