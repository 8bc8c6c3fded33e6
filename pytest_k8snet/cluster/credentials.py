"""Credentials: whom the API server sees, kept fresh for as long as a run takes.

Tokens, token files, client certificates, exec credential plugins, a pod's service account, and
impersonation; as client-go handles them. Files are read again and plugins asked again when what
they gave expires or is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
import threading
import time
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pytest_k8snet.cluster.kubeconfig import Entry, Kubeconfig, read_user
from pytest_k8snet.errors import KubeconfigError

if TYPE_CHECKING:
    from kubernetes.config.incluster_config import InClusterConfigLoader

#: How often files are read again: a kubelet renews a token well before it expires.
REREAD_SECONDS = 30.0
#: How long before it expires a credential is renewed.
_LEEWAY_SECONDS = 10.0
#: How long a renewed credential is used at least, however soon it is said to expire.
_SHORTEST_SECONDS = 5.0
#: How long a plugin may take; a login in a browser takes a while.
PLUGIN_SECONDS = 120.0

_PLUGIN_VERSIONS = tuple(f"client.authentication.k8s.io/{v}" for v in ("v1", "v1beta1"))
#: Every legal character of a header's name but the per cent sign, by which others are written.
_HEADER_NAME_CHARACTERS = "!#$&'*+^`|"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What a request shows of its user.

    Attributes:
        headers: names and values; a name may stand several times.
        certificate: the client certificate, PEM; empty for none.
        key: its key, PEM.
        expires: when this ends, in seconds since the epoch; None if that is not known.
    """

    headers: tuple[tuple[str, str], ...] = ()
    certificate: bytes = b""
    key: bytes = b""
    expires: float | None = None

    def __repr__(self) -> str:
        # No secret may get into a traceback.
        return f"Login(headers={[name for name, _ in self.headers]})"


class Credentials:
    """The login of one user, kept fresh; safe to use from several threads.

    Args:
        load: reads the login anew.
        changeable: whether it comes from files that may change at any time.
        identity: headers to add, which never change: impersonation.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        load: Callable[[], Login],
        *,
        changeable: bool,
        identity: tuple[tuple[str, str], ...] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._load = load
        self._clock = clock
        self._changeable = changeable
        self._identity = identity
        self._lock = threading.Lock()
        self._login: Login | None = None
        self._due = 0.0

    def last(self) -> Login:
        """Return the login used last, whatever became of it; an empty one before the first."""
        return self._login or Login()

    def current(self) -> Login:
        """Return the login to use now, renewed when it is about to expire.

        Raises:
            KubeconfigError: there is none.
        """
        with self._lock:
            now = self._clock()
            if self._login is None or now >= self._due:
                try:
                    self._renew()
                except KubeconfigError:
                    if self._login is None or (self._login.expires or now + 1) <= now:
                        raise
                    # It may yet be good: a file is not there for a moment while it is replaced.
                    self._due = now + _SHORTEST_SECONDS
            assert self._login is not None
            return self._login

    def renew(self, refused: Login) -> bool:
        """Load the login anew after the server has refused it, and tell whether it is another one.

        Raises:
            KubeconfigError: there is none.
        """
        with self._lock:
            # Another thread may have renewed it while this one waited for its refusal.
            if self._login is refused:
                self._renew()
            assert self._login is not None
            return replace(self._login, expires=None) != replace(refused, expires=None)

    def _renew(self) -> None:
        login = self._load()
        now = self._clock()
        login = replace(login, headers=login.headers + self._identity)
        for name, value in login.headers:
            # Whoever sends it would quote it in an exception.
            if any(unicodedata.category(character) == "Cc" for character in value):
                raise KubeconfigError(
                    f"the {name} of this user cannot be sent",
                    found="a line break or another control character in it",
                    remedy="take it out of the kubeconfig, or of what its plugin gives",
                )
        self._login = login
        self._due = now + REREAD_SECONDS if self._changeable else float("inf")
        if login.expires is not None:
            self._due = min(
                self._due, max(login.expires - _LEEWAY_SECONDS, now + _SHORTEST_SECONDS)
            )


def of_kubeconfig(config: Kubeconfig) -> Credentials:
    """Make the credentials of a context's user.

    Raises:
        KubeconfigError: the user entry contradicts itself.
    """
    _check_user(config.user)
    files = any(config.user.text(key) for key in ("tokenFile", "client-certificate", "client-key"))

    def load() -> Login:
        # Whoever logs in anew while the run lasts may write the entry itself.
        name = config.user.name
        return _login(read_user(config.paths, name) if name else config.user, config)

    return Credentials(load, changeable=files, identity=_impersonation(config.user))


def service_account(environ: Mapping[str, str]) -> InClusterConfigLoader:
    """Load the service account of the pod that this process runs in, by the Kubernetes client.

    Returns:
        its ``host``, ``ssl_ca_cert`` (a path) and ``token`` (with the word "bearer").

    Raises:
        KubeconfigError: its files are not there, or are empty.
    """
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    loader = InClusterConfigLoader(
        token_filename=str(SERVICE_ACCOUNT / "token"),
        cert_filename=str(SERVICE_ACCOUNT / "ca.crt"),
        environ=environ,
    )
    try:
        loader.load_and_set(Configuration())
    except (ConfigException, OSError) as error:
        raise KubeconfigError(
            "this pod's service account cannot be used",
            found=f"{error} ({SERVICE_ACCOUNT})",
            remedy="set automountServiceAccountToken: true for the pod, or give a kubeconfig",
        ) from error
    return loader


def of_service_account(environ: Mapping[str, str]) -> Credentials:
    """Make the credentials of the pod that this process runs in; the kubelet renews the token."""

    def load() -> Login:
        return Login(headers=_bearer(service_account(environ).token.partition(" ")[2].strip()))

    return Credentials(load, changeable=True)


def _check_user(user: Entry) -> None:
    ways = {
        "token": user.text("token") or user.text("tokenFile"),
        "username and password": user.text("username") or user.text("password"),
        "auth-provider": user.fields.get("auth-provider"),
        "exec": user.fields.get("exec"),
    }
    if len(used := [way for way, value in ways.items() if value]) > 1:
        raise KubeconfigError(
            f"{user} has more than one way to log in",
            found=", ".join(used),
            remedy="leave one of them; which the server should see is not clear",
        )
    for key, other in (("client-certificate", "client-key"), ("client-key", "client-certificate")):
        if (user.text(key) or user.text(f"{key}-data")) and not (
            user.text(other) or user.text(f"{other}-data")
        ):
            raise KubeconfigError(
                f"{user} has a {key} and no {other}",
                remedy=f"add {other} or {other}-data, or fetch the kubeconfig again",
            )


def _impersonation(user: Entry) -> tuple[tuple[str, str], ...]:
    """Return the headers that ask the server to act as somebody else."""
    groups, extra = user.fields.get("as-groups") or [], user.fields.get("as-user-extra") or {}
    if not user.text("as"):
        for key in ("as-uid", "as-groups", "as-user-extra"):
            if user.fields.get(key):
                raise KubeconfigError(
                    f"{user} has {key} and no user to act as",
                    remedy='add "as": the API server impersonates groups only together with a user',
                )
        return ()
    headers = [("Impersonate-User", user.text("as"))]
    if user.text("as-uid"):
        headers.append(("Impersonate-Uid", user.text("as-uid")))
    headers += [("Impersonate-Group", str(group)) for group in groups]
    for key, values in extra.items():
        if not isinstance(values, list):
            raise KubeconfigError(
                f'as-user-extra "{key}" of {user} has the wrong type',
                found=f"a YAML {type(values).__name__}",
                remedy="it must be a list of texts",
            )
        name = f"Impersonate-Extra-{quote(str(key), safe=_HEADER_NAME_CHARACTERS)}"
        headers += [(name, str(value)) for value in values]
    return tuple(headers)


def _login(user: Entry, config: Kubeconfig) -> Login:
    if plugin := user.fields.get("exec"):
        return _run_plugin(user, plugin, config)
    expires = None
    headers: tuple[tuple[str, str], ...] = ()
    if user.text("tokenFile"):
        try:
            headers = _bearer(user.file("tokenFile").decode("utf-8", "replace").strip())
        except KubeconfigError:
            if not user.text("token"):
                raise
    if not headers and user.text("token"):
        headers = _bearer(user.text("token"))
    elif user.text("username") or user.text("password"):
        pair = f"{user.text('username')}:{user.text('password')}".encode()
        headers = (("Authorization", f"Basic {base64.b64encode(pair).decode()}"),)
    elif provider := user.fields.get("auth-provider"):
        token, expires = _id_token(user, provider)
        headers = _bearer(token)
    return Login(
        headers=headers,
        certificate=user.content("client-certificate"),
        key=user.content("client-key"),
        expires=expires,
    )


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("Authorization", f"Bearer {token}"),)


# -- Credential plugins ----------------------------------------------------------------------------


def _run_plugin(user: Entry, plugin: Mapping[str, Any], config: Kubeconfig) -> Login:
    """Ask an exec credential plugin (client.authentication.k8s.io) for a login."""
    command, version = str(plugin.get("command") or ""), str(plugin.get("apiVersion") or "")
    mode = str(plugin.get("interactiveMode") or "")
    if not command or version not in _PLUGIN_VERSIONS:
        raise KubeconfigError(
            f"the credential plugin of {user} cannot be used",
            found=f"apiVersion: {version or 'missing'}" if command else "command: missing",
            remedy=f"its apiVersion must be {' or '.join(_PLUGIN_VERSIONS)}",
        )
    if mode not in ("Never", "IfAvailable", "Always", *([""] if version.endswith("beta1") else [])):
        raise KubeconfigError(
            f"the credential plugin of {user} cannot be used",
            found=f"interactiveMode: {mode or 'missing'}",
            remedy="it must be Never, IfAvailable or Always",
        )
    interactive = mode != "Never" and os.isatty(0) and os.isatty(2)
    hint = str(plugin.get("installHint") or "").strip()
    remedy = hint or "log in by hand, and see that `kubectl get nodes` works with this context"
    if mode == "Always" and not interactive:
        raise _plugin_failed(
            command, user, "it wants to ask questions, and here is no terminal to ask on", remedy
        )
    environment = {**os.environ, **_plugin_environment(user, plugin)}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(
        {
            "apiVersion": version,
            "kind": "ExecCredential",
            "spec": {"interactive": interactive}
            | ({"cluster": _cluster_info(config)} if plugin.get("provideClusterInfo") else {}),
        }
    )
    program = str(user.resolve(command)) if os.sep in command else command
    try:
        done = subprocess.run(
            [program, *map(str, plugin.get("args") or [])],
            env=environment,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # Where it asks questions, they go to the terminal.
            stderr=None if interactive else subprocess.PIPE,
            timeout=PLUGIN_SECONDS,
            check=False,
        )
    except (OSError, ValueError) as error:
        raise _plugin_failed(command, user, str(error), remedy) from error
    except subprocess.TimeoutExpired:
        words = f"it gave nothing within {PLUGIN_SECONDS:g} s"
        raise _plugin_failed(command, user, words, remedy) from None
    if done.returncode != 0:
        said = (done.stderr or b"").decode("utf-8", "replace").strip()
        words = f"exit status {done.returncode}; " + (
            "its message is on the terminal above" if interactive else said or "it says nothing"
        )
        raise _plugin_failed(command, user, words, remedy)
    try:
        return _read_credential(done.stdout, version)
    except (ValueError, TypeError, AttributeError) as error:
        raise _plugin_failed(command, user, str(error), remedy) from error


def _read_credential(output: bytes, version: str) -> Login:
    """Read an ExecCredential object; its text may hold secrets and is never quoted.

    Raises:
        ValueError: it is none that can be used.
    """
    try:
        answer = json.loads(output)
    except ValueError:
        raise ValueError("its output is no JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise ValueError("its output is no ExecCredential")
    if answer.get("apiVersion") != version:
        raise ValueError(f"it speaks {answer.get('apiVersion')}, and {version} was asked for")
    status = answer.get("status") or {}
    for name in ("token", "clientCertificateData", "clientKeyData"):
        if not isinstance(status.get(name, ""), str):
            raise ValueError(f"its {name} is no text")
    token = str(status.get("token") or "")
    certificate = str(status.get("clientCertificateData") or "").encode()
    key = str(status.get("clientKeyData") or "").encode()
    if bool(certificate) != bool(key):
        raise ValueError("it gave only one of clientCertificateData and clientKeyData")
    if not token and not certificate:
        raise ValueError("it gave neither a token nor a client certificate")
    expires = None
    if timestamp := status.get("expirationTimestamp"):
        try:
            expires = datetime.fromisoformat(str(timestamp)).timestamp()
        except ValueError:
            raise ValueError(f"its expirationTimestamp is {timestamp!r}") from None
    return Login(
        headers=_bearer(token) if token else (), certificate=certificate, key=key, expires=expires
    )


def _plugin_environment(user: Entry, plugin: Mapping[str, Any]) -> dict[str, str]:
    environment = {}
    for variable in plugin.get("env") or []:
        if not isinstance(variable, dict) or not variable.get("name"):
            raise KubeconfigError(
                f"exec.env of {user} has an entry without a name",
                remedy="each entry is a mapping of name and value",
            )
        environment[str(variable["name"])] = str(variable.get("value") or "")
    return environment


def _cluster_info(config: Kubeconfig) -> dict[str, Any]:
    """Return what a plugin may learn of the cluster, as client-go tells it."""
    cluster = config.cluster
    info: dict[str, Any] = {
        key: cluster.fields[key]
        for key in ("tls-server-name", "insecure-skip-tls-verify", "proxy-url")
        if cluster.fields.get(key)
    }
    info["server"] = config.server
    if authority := cluster.content("certificate-authority"):
        info["certificate-authority-data"] = base64.b64encode(authority).decode()
    for extension in cluster.fields.get("extensions") or []:
        if isinstance(extension, dict) and extension.get("name") == (
            "client.authentication.k8s.io/exec"
        ):
            info["config"] = extension.get("extension")
    return info


def _plugin_failed(command: str, user: Entry, found: str, remedy: str) -> KubeconfigError:
    return KubeconfigError(
        f'the credential plugin "{command}" of user "{user.name}" failed',
        found=found,
        remedy=remedy,
    )


# -- Auth providers --------------------------------------------------------------------------------


def _id_token(user: Entry, provider: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return the token of the auth-provider ``oidc`` and when it expires.

    It is not renewed here: a refresh token is often good for one use, and kubectl, which writes
    the new one into the kubeconfig, would be left with the old.
    """
    name = str(provider.get("name") or "")
    if name != "oidc":
        raise KubeconfigError(
            f'the auth-provider "{name}" of {user} is not supported',
            found="kubectl has dropped it, too (Kubernetes 1.26)",
            remedy="use the exec plugin that replaces it: gke-gcloud-auth-plugin, kubelogin ...",
        )
    token = str((provider.get("config") or {}).get("id-token") or "")
    expires = _jwt_expiry(token)
    if not token or (expires is not None and expires <= time.time()):
        raise KubeconfigError(
            f"the id-token of {user} {'has expired' if token else 'is missing'}",
            found="auth-provider: oidc",
            remedy="`kubectl get nodes` with this context renews it in the kubeconfig; for runs "
            "longer than it lasts, log in by an exec plugin (kubectl oidc-login)",
        )
    return token, expires


def _jwt_expiry(token: str) -> float | None:
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (IndexError, ValueError, KeyError, TypeError, binascii.Error):
        return None
