"""The kubeconfig: which files, context, cluster and user are meant, and that all they say is known.

Read as kubectl does. A field that is neither honoured nor known to be without effect is refused by
its name: a kubeconfig that asks for less than the real user's rights must not be half read.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pytest_k8snet.errors import KubeconfigError

DEFAULT_PATH = "~/.kube/config"
_REMEDY = (
    "give --k8snet-kubeconfig=FILE or set KUBECONFIG (several files: joined by "
    f"{os.pathsep!r}); without a cluster, --k8snet-lab starts one"
)

#: Every field of clientcmd/api/v1 as of client-go v0.34 (kubernetes/kubernetes,
#: staging/src/k8s.io/client-go/tools/clientcmd/api/v1/types.go at 03a3b6c7), with its type.
#: ``extensions`` and a context's ``namespace`` have no effect: pods get a namespace of their own.
#: Nor has ``disable-compression``: answers are never asked for compressed.
FIELDS: Mapping[str, Mapping[str, type]] = {
    "cluster": {
        "server": str,
        "tls-server-name": str,
        "insecure-skip-tls-verify": bool,
        "certificate-authority": str,
        "certificate-authority-data": str,
        "proxy-url": str,
        "disable-compression": bool,
        "extensions": list,
    },
    "user": {
        "client-certificate": str,
        "client-certificate-data": str,
        "client-key": str,
        "client-key-data": str,
        "token": str,
        "tokenFile": str,
        "as": str,
        "as-uid": str,
        "as-groups": list,
        "as-user-extra": dict,
        "username": str,
        "password": str,
        "auth-provider": dict,
        "exec": dict,
        "extensions": list,
    },
    "context": {"cluster": str, "user": str, "namespace": str, "extensions": list},
    "exec": {
        "command": str,
        "args": list,
        "env": list,
        "apiVersion": str,
        "installHint": str,
        "provideClusterInfo": bool,
        "interactiveMode": str,
    },
    "auth-provider": {"name": str, "config": dict},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A cluster, user or context of a kubeconfig.

    Attributes:
        kind: ``cluster``, ``user`` or ``context``.
        name: its name; empty for a context that has no user.
        path: the file that it stands in; relative paths within it count from there.
        fields: what it says.
    """

    kind: str
    name: str
    path: Path
    fields: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f'{self.kind} "{self.name}" of {self.path}'

    def text(self, key: str) -> str:
        """Return a field's text; empty when it is absent."""
        return str(self.fields.get(key) or "")

    def resolve(self, path: str) -> Path:
        """Return a path that is named here, relative to the file."""
        return self.path.parent / Path(path).expanduser()

    def file(self, key: str) -> bytes:
        """Read the file that a field names.

        Raises:
            KubeconfigError: it cannot be read.
        """
        path = self.resolve(self.text(key))
        try:
            return path.read_bytes()
        except OSError as error:
            raise KubeconfigError(
                f"the file that {key} of {self} names cannot be read",
                found=str(error),
                remedy="correct the path (a relative one counts from the kubeconfig's directory)",
            ) from error

    def content(self, key: str) -> bytes:
        """Return what ``key-data`` holds in base64, else the file that ``key`` names.

        Returns:
            empty when neither is there.

        Raises:
            KubeconfigError: the base64 is damaged, or the file cannot be read.
        """
        if text := self.text(f"{key}-data"):
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                raise KubeconfigError(
                    f"{key}-data of {self} is no base64",
                    found=str(error),
                    remedy="fetch the kubeconfig again",
                ) from error
        return self.file(key) if self.text(key) else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kubeconfig:
    """One context, by its name, of one or more merged files, in order of precedence.

    Its user is without a name and fields when it has none.
    """

    paths: tuple[Path, ...]
    context: str
    cluster: Entry
    user: Entry

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.cluster.text("server").rstrip("/")


def locate(kubeconfig: Path | None, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Find the kubeconfig files to read, in order of precedence.

    Returns:
        the one asked for, else those of ``KUBECONFIG`` that exist, else ``~/.kube/config``; empty
        when nothing was asked for and that does not exist.

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
    if listed := environ.get("KUBECONFIG", ""):
        paths = [Path(part).expanduser() for part in listed.split(os.pathsep) if part]
        if existing := tuple(path for path in paths if path.exists()):
            return existing
        raise KubeconfigError(
            "no file that KUBECONFIG names exists", found=f"KUBECONFIG={listed}", remedy=_REMEDY
        )
    home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    default = home / ".kube" / "config"
    return (default,) if default.exists() else ()


def nothing_found(environ: Mapping[str, str]) -> KubeconfigError:
    """Make the error for a machine without any kubeconfig, naming what was looked at."""
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
        KubeconfigError: a file cannot be read or makes no sense, the context is unknown, or a
            field is.
    """
    files = [(path, _load(path)) for path in paths]
    contexts = _entries(files, "context")
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
    entry = _checked(contexts[chosen])
    named: dict[str, Entry] = {}
    for kind in ("cluster", "user"):
        name, entries = entry.text(kind), _entries(files, kind)
        if name in entries:
            named[kind] = _checked(entries[name])
        elif kind == "user" and not name:
            named[kind] = Entry(kind=kind, name="", path=entry.path, fields={})
        else:
            raise KubeconfigError(
                f'context "{chosen}" of {where} names the {kind} "{name}", which is not there',
                found=f"{kind}s: {', '.join(sorted(entries)) or 'none'}",
                remedy=f"correct the context's {kind}",
            )
    found = Kubeconfig(paths=paths, context=chosen, cluster=named["cluster"], user=named["user"])
    if not is_url(found.server, "https", "http"):
        raise KubeconfigError(
            f'cluster "{found.cluster.name}" of {where} has no usable server',
            # Without a password that stands in it.
            found=f"server: {found.server.rpartition('@')[2] or 'missing'}",
            remedy="it must be a URL such as https://10.0.0.1:6443",
        )
    return found


def read_user(paths: tuple[Path, ...], name: str) -> Entry:
    """Read a user entry anew, by its name alone: contexts may have been changed meanwhile.

    Raises:
        KubeconfigError: the files cannot be read, or have no such user any more.
    """
    entries = _entries([(path, _load(path)) for path in paths], "user")
    if name not in entries:
        raise KubeconfigError(
            f'the user "{name}" is no longer in {", ".join(str(path) for path in paths)}',
            found=f"users: {', '.join(sorted(entries)) or 'none'}",
            remedy="log in again, so that the entry is there",
        )
    return _checked(entries[name])


#: Fields of a user entry, or of what it contains, that are no secret.
_PLAIN_FIELDS = frozenset(
    {
        *("client-certificate", "client-certificate-data", "client-key", "tokenFile", "username"),
        *("as", "as-uid", "as-groups", "as-user-extra", "apiVersion", "command", "args"),
        *("installHint", "interactiveMode", "provideClusterInfo", "name"),
        *("idp-issuer-url", "client-id"),
    }
)


def secrets_and_names(paths: tuple[Path, ...]) -> tuple[set[str], dict[str, set[str]]]:
    """Read what a report may not hold: secrets, and names of servers, users and contexts.

    Files that cannot be read have none; whoever connects by them says why.

    Returns:
        secrets, and names by kind (``context``, ``cluster``, ``user``, ``server``, each URLs or
        entry names).
    """
    secrets: set[str] = set()
    names: dict[str, set[str]] = {"context": set(), "cluster": set(), "user": set()}
    servers = names.setdefault("server", set())
    for path in paths:
        try:
            content = _load(path)
        except KubeconfigError:
            continue
        for kind in ("context", "cluster", "user"):
            for entry in content.get(f"{kind}s") or []:
                if not isinstance(entry, dict):
                    continue
                names[kind].add(str(entry.get("name") or ""))
                fields = entry.get(kind) or {}
                if kind == "user":
                    secrets |= _secrets_in(fields)
                elif kind == "cluster" and isinstance(fields, dict):
                    servers.add(str(fields.get("server") or ""))
                    for url in (fields.get("server"), fields.get("proxy-url")):
                        secrets |= passwords_in(str(url or ""))
    return secrets, names


def is_url(text: str, *schemes: str) -> bool:
    """Tell whether a text is a URL of one of these schemes with a host."""
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in schemes and bool(parts.hostname)


#: A login in a URL, also in one that nothing can parse, or that lacks its scheme.
_LOGIN = re.compile(r"(?:[a-z][a-z0-9+.-]*://)?[^\s:/@]*:([^\s]+)@[^\s@]+", re.IGNORECASE)


def passwords_in(url: str) -> set[str]:
    """Return the password in a URL, as it is written and as it is meant; empty without one."""
    found = _LOGIN.fullmatch(url)
    return {found[1], unquote(found[1])} if found else set()


def _secrets_in(value: object) -> set[str]:
    if isinstance(value, dict):
        return {
            found
            for key, one in value.items()
            if key not in _PLAIN_FIELDS
            for found in _secrets_in(one)
        }
    if isinstance(value, list):
        return {found for one in value for found in _secrets_in(one)}
    # A YAML block leaves a line break behind what may be told without it.
    return {value, value.strip()} if isinstance(value, str) and value.strip() else set()


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
        # Not its own text, which quotes the line: that may hold a token.
        grammar = (yaml.scanner.ScannerError, yaml.parser.ParserError)
        problem = str(error.problem) if isinstance(error, grammar) else type(error).__name__
        mark = getattr(error, "problem_mark", None)
        raise KubeconfigError(
            f"the kubeconfig {path} is not valid YAML",
            found=problem + (f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""),
            remedy="correct the place named, or fetch the file again",
        ) from None
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


def _entries(files: list[tuple[Path, Mapping[str, Any]]], kind: str) -> dict[str, Entry]:
    """Return the entries of a kind by name; the first file to name one wins."""
    found: dict[str, Entry] = {}
    for path, config in files:
        for one in config.get(f"{kind}s") or []:
            value = one.get(kind)
            fields = value if isinstance(value, dict) else {}
            entry = Entry(kind=kind, name=one["name"], path=path, fields=fields)
            found.setdefault(entry.name, entry)
    return found


def _checked(entry: Entry) -> Entry:
    _check_fields(entry, entry.kind, entry.fields)
    for kind in ("exec", "auth-provider"):
        if entry.kind == "user" and (fields := entry.fields.get(kind)):
            _check_fields(entry, kind, fields)
    return entry


def _check_fields(entry: Entry, kind: str, fields: Mapping[str, Any]) -> None:
    known = FIELDS[kind]
    for key, value in fields.items():
        if value is None:
            continue
        what = f"{kind}.{key}" if kind != entry.kind else str(key)
        if key not in known:
            raise KubeconfigError(
                f'the field "{what}" of {entry} is not known',
                found=f"known: {', '.join(known)}",
                remedy="what it would change is not known either: correct its name, or remove it",
            )
        if not isinstance(value, known[key]):
            raise KubeconfigError(
                f'the field "{what}" of {entry} has the wrong type',
                found=f"a YAML {type(value).__name__}",
                remedy=f"it must be a {known[key].__name__}; a number in quotes is a text",
            )
