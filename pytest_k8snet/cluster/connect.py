"""From a kubeconfig (or a pod's service account) to an ``Api`` that has answered once.

The only module that imports the Kubernetes client, and only when a connection is made. It uses
the client for what it is good at: credentials of every kind, TLS files and urllib3's pool.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.http import PATIENCE_SECONDS, Credentials, HttpClient, plugin_errors
from pytest_k8snet.errors import ApiError, KubeconfigError, UnauthorizedError

#: Makes a client configuration; writes certificates and keys into the directory given.
Load: TypeAlias = Callable[[str], Any]

IN_CLUSTER = "in-cluster"
_SELF_REVIEWS = "/apis/authentication.k8s.io/v1/selfsubjectreviews"


def connect(*, kubeconfig: Path | None = None, context: str | None = None) -> Api:
    """Connect to a cluster and prove that it answers and knows this user.

    Args:
        kubeconfig: the file; None takes ``KUBECONFIG`` (read now, several files merged), then
            ``~/.kube/config``, then a pod's service account.
        context: the context's name; None takes the current one.

    Raises:
        KubeconfigError: there is none, or it cannot be used.
        ConnectError: the API server cannot be reached or trusted.
        UnauthorizedError: the server does not accept the credentials.
    """
    paths = locate(kubeconfig, os.environ)
    if paths:
        chosen = read(paths, context)
        return _greet(
            lambda directory: _from_files(chosen, directory),
            context=chosen.context,
            user=chosen.user or "(none)",
            proxy_url=chosen.cluster_entry.get("proxy-url"),
        )
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise nothing_found(os.environ)
    if context:
        raise KubeconfigError(
            f'there is no context "{context}": this is a pod without a kubeconfig',
            remedy="leave the context out, or give a kubeconfig",
        )
    return _greet(_from_service_account, context=IN_CLUSTER, user="(service account)")


def _greet(load: Load, *, context: str, user: str, proxy_url: str | None = None) -> Api:
    client = _client(load, user, proxy_url, os.environ)
    try:
        # A single try: a wrong address is told at once.
        client.user = _who_am_i(client) or user
    except BaseException:
        client.close()
        raise
    return Api(client, context=context)


def _who_am_i(client: HttpClient) -> str:
    """Return the user's name as the server knows it; empty when it does not say (before 1.28)."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        answer = client.once("POST", _SELF_REVIEWS, body=review).object
    except UnauthorizedError:
        raise
    except ApiError:
        _ = client.once("GET", "/version").object
        return ""
    return str(((answer.get("status") or {}).get("userInfo") or {}).get("username") or "")


def _from_files(chosen: Kubeconfig, directory: str) -> Any:
    from kubernetes.client.configuration import Configuration
    from kubernetes.config import kube_config
    from kubernetes.config.config_exception import ConfigException

    for path in chosen.paths:
        if os.pathsep in str(path):
            raise KubeconfigError(
                f"the kubeconfig's path {path} contains {os.pathsep!r}, which separates paths",
                remedy="move or link it to a path without it",
            )
    configuration = Configuration()
    with plugin_errors() as logged:
        try:
            kube_config.load_kube_config(
                config_file=os.pathsep.join(str(path) for path in chosen.paths),
                context=chosen.context,
                client_configuration=configuration,
                temp_file_path=directory,
            )
        except (ConfigException, OSError, ValueError, KeyError, TypeError) as error:
            raise KubeconfigError(
                f'context "{chosen.context}" of {", ".join(map(str, chosen.paths))} cannot be used',
                found=str(error),
                remedy="`kubectl get nodes` with the same kubeconfig and context must work first",
            ) from error
        finally:
            # The client remembers the files that it wrote, and release 31 insists on them at the
            # next load; these are about to vanish with their directory.
            getattr(kube_config, "_temp_files", {}).clear()
    plugin = chosen.user_entry.get("exec")
    if isinstance(plugin, Mapping) and not configuration.api_key and not configuration.cert_file:
        raise _plugin_failed(chosen, plugin, logged)
    return configuration


def _plugin_failed(
    chosen: Kubeconfig, plugin: Mapping[str, Any], logged: list[str]
) -> KubeconfigError:
    words = "\n".join(logged) or "it gave neither a token nor a client certificate"
    if "'NoneType' object has no attribute 'strip'" in words:
        # The client library's own slip when it has sent the plugin's stderr to the terminal.
        words = "the plugin's message is on the terminal above"
    hint = str(plugin.get("installHint") or "").strip()
    return KubeconfigError(
        f'the credential plugin "{plugin.get("command")}" of user "{chosen.user}" failed',
        found=words,
        remedy=hint or "log in by hand, and see that `kubectl get nodes` works with this context",
    )


def _from_service_account(_directory: str) -> Any:
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError) as error:
        raise KubeconfigError(
            "this pod's service account cannot be used",
            found=str(error),
            remedy="set automountServiceAccountToken: true for the pod, or give a kubeconfig",
        ) from error
    return configuration


def _client(load: Load, user: str, proxy_url: str | None, environ: Mapping[str, str]) -> HttpClient:
    from kubernetes.client.rest import RESTClientObject

    # The client writes keys from the kubeconfig to files. They are gone as soon as the TLS context
    # has read them, instead of lying about until the process ends, or for ever after kill -9.
    with tempfile.TemporaryDirectory(prefix="k8snet-") as directory:
        configuration = load(directory)
        host = str(configuration.host).rstrip("/")
        proxy = proxy_for(host, proxy_url=proxy_url, environ=environ)
        # The releases of the client disagree on the environment; this has been decided above.
        configuration.proxy, configuration.no_proxy = proxy, None
        configuration.retries = False
        configuration.connection_pool_maxsize = 32
        secure = host.startswith("https://")
        context = (
            tls_context(
                verify=bool(configuration.verify_ssl),
                ca_file=configuration.ssl_ca_cert,
                cert_file=configuration.cert_file,
                key_file=configuration.key_file,
            )
            if secure
            else None
        )
    pool = RESTClientObject(configuration).pool_manager
    if context is not None:
        for key in ("ca_certs", "ca_cert_data", "cert_file", "key_file"):
            pool.connection_pool_kw.pop(key, None)
        pool.connection_pool_kw["ssl_context"] = context
    return HttpClient(
        host=host,
        pool=pool,
        tls=context,
        server_name=configuration.tls_server_name,
        proxy=proxy,
        credentials=Credentials(configuration, lambda: _reload(load)),
        user_agent=f"pytest-k8snet/{version('pytest-k8snet')}",
        user=user,
        patience_seconds=PATIENCE_SECONDS,
    )


def _reload(load: Load) -> Any:
    with tempfile.TemporaryDirectory(prefix="k8snet-") as directory:
        return load(directory)


# -- The kubeconfig --------------------------------------------------------------------------------
#
# Read at call time, without a connection and without the Kubernetes client: which files, context,
# cluster and user are meant, and that the client library will understand them.

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
    """Find the kubeconfig files to read, in order of precedence.

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
    """Return the entries of a list of all files by name; the first file to name one wins."""
    found: dict[str, Mapping[str, Any]] = {}
    for _, config in files:
        for entry in config.get(key) or []:
            value = entry.get(inner)
            found.setdefault(entry["name"], value if isinstance(value, dict) else {})
    return found


# -- TLS -------------------------------------------------------------------------------------------
#
# One context for requests and exec, made once: a new one for each exec would read the authority's
# certificates again (several milliseconds). Built without OpenSSL's strict X.509 mode, which
# Python 3.13 turns on by default and which refuses the certificates of many real clusters that
# kubectl accepts.


def tls_context(
    *, verify: bool, ca_file: str | None, cert_file: str | None, key_file: str | None
) -> ssl.SSLContext:
    """Make a client context for one cluster.

    Args:
        verify: False accepts any certificate (``insecure-skip-tls-verify``).
        ca_file: PEM file with the authorities; None takes the system's.
        cert_file: PEM file with the client certificate, if any.
        key_file: PEM file with its key; None when it is in ``cert_file``.

    Raises:
        KubeconfigError: a certificate or key cannot be used.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    try:
        if verify and ca_file:
            made.load_verify_locations(cafile=ca_file)
        elif verify:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except (OSError, ssl.SSLError) as error:
        raise KubeconfigError(
            "the certificate authority of the kubeconfig's cluster cannot be used",
            found=str(error),
            remedy="certificate-authority(-data) must hold PEM certificates (the data in base64)",
        ) from error
    if cert_file:
        try:
            made.load_cert_chain(cert_file, key_file)
        except (OSError, ssl.SSLError) as error:
            raise KubeconfigError(
                "the client certificate of the kubeconfig's user cannot be used",
                found=str(error),
                remedy="client-certificate(-data) and client-key(-data) must be PEM, belong "
                "together, and the key must have no passphrase",
            ) from error
    return made


# -- Proxies ---------------------------------------------------------------------------------------
#
# By the rules that kubectl follows. The client library's releases disagree here (31 ignores the
# environment, 35 ignores ``NO_PROXY``, 37 reads both), so the choice is made once, for requests
# and exec.


def proxy_for(server: str, *, proxy_url: str | None, environ: Mapping[str, str]) -> str | None:
    """Return the proxy's URL, or None for a direct connection.

    Args:
        server: the API server's URL.
        proxy_url: ``proxy-url`` of the kubeconfig's cluster entry; it ignores ``NO_PROXY``.
        environ: the environment.
    """
    if proxy_url:
        return proxy_url
    parts = urlsplit(server)
    name = f"{parts.scheme}_proxy"
    proxy = environ.get(name) or environ.get(name.upper())
    if not proxy:
        return None
    no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
    host = (parts.hostname or "").lower()
    if host == "localhost" or _is_loopback(host) or _bypassed(host, parts.port, no_proxy):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _bypassed(host: str, port: int | None, no_proxy: str) -> bool:
    for entry in (part.strip().lower() for part in no_proxy.split(",")):
        if entry == "*":
            return True
        name, _, wanted_port = entry.partition(":") if entry.count(":") == 1 else (entry, "", "")
        if not name or (wanted_port and wanted_port != str(port or "")):
            continue
        name = name.removeprefix("*")
        if host == name.lstrip(".") or host.endswith("." + name.lstrip(".")):
            return True
        try:
            if ip_address(host) in ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False
