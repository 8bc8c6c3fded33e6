"""From a kubeconfig (or a pod's service account) to an ``Api`` that has answered once.

The only module that imports the Kubernetes client, and only when a connection is made. It uses
the client for what it is good at: credentials of every kind, TLS files and urllib3's pool.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

from pytest_k8snet.cluster import kubeconfig as files
from pytest_k8snet.cluster import tls
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.credentials import Credentials, plugin_errors
from pytest_k8snet.cluster.kubeconfig import Kubeconfig
from pytest_k8snet.cluster.proxy import proxy_for
from pytest_k8snet.cluster.retry import PATIENCE_SECONDS
from pytest_k8snet.cluster.transport import Transport
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
    paths = files.locate(kubeconfig, os.environ)
    if paths:
        chosen = files.read(paths, context)
        return _greet(
            lambda directory: _from_files(chosen, directory),
            context=chosen.context,
            user=chosen.user or "(none)",
            proxy_url=chosen.cluster_entry.get("proxy-url"),
        )
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise files.nothing_found(os.environ)
    if context:
        raise KubeconfigError(
            f'there is no context "{context}": this is a pod without a kubeconfig',
            remedy="leave the context out, or give a kubeconfig",
        )
    return _greet(_from_service_account, context=IN_CLUSTER, user="(service account)")


def _greet(load: Load, *, context: str, user: str, proxy_url: str | None = None) -> Api:
    transport = _transport(load, proxy_url, os.environ)
    try:
        # No patience yet: a wrong address is told at once.
        first = Api(transport, context=context, user=user, patience_seconds=0.0)
        name = _who_am_i(first) or user
    except BaseException:
        transport.close()
        raise
    return Api(transport, context=context, user=name, patience_seconds=PATIENCE_SECONDS)


def _who_am_i(api: Api) -> str:
    """The user's name as the server knows it; empty when it does not tell (before 1.28)."""
    try:
        review = api.create(
            _SELF_REVIEWS,
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"},
        )
    except UnauthorizedError:
        raise
    except ApiError:
        api.get("/version")
        return ""
    return str(((review.get("status") or {}).get("userInfo") or {}).get("username") or "")


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


def _transport(load: Load, proxy_url: str | None, environ: Mapping[str, str]) -> Transport:
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
            tls.context(
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
    return Transport(
        host=host,
        pool=pool,
        tls=context,
        server_name=configuration.tls_server_name,
        proxy=proxy,
        credentials=Credentials(configuration, lambda: _reload(load)),
        user_agent=f"pytest-k8snet/{version('pytest-k8snet')}",
    )


def _reload(load: Load) -> Any:
    with tempfile.TemporaryDirectory(prefix="k8snet-") as directory:
        return load(directory)
