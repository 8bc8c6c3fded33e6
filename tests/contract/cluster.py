"""The cluster that is to keep the contract: the lab, a real one, or kube-apiserver alone."""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import urllib3
import websocket
from kubernetes import config

Object = dict[str, Any]

#: What the suite may do to a cluster beside using namespaces of its own: write pools; make cluster
#: roles, nodes and the like.
POOLS, CLUSTER_WIDE = "pools", "cluster"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP response: JSON is parsed, a stream of JSON lines is a list."""

    status: int
    body: Any
    content_type: str = ""
    warnings: Sequence[str] = ()
    retry_after: str = ""


@dataclass(kw_only=True)
class Cluster:
    """One cluster, and namespaces of the suite's own in it.

    Attributes:
        kubeconfig: whose user may do all that the suite asks for; what it may not is skipped.
        may: what else than namespaces of its own the suite may touch: ``pools``, ``cluster``.
        has_nodes: whether controllers and kubelets work, or the API server is alone.
        is_lab: whether it is the lab.
        prefix: how the names of its own namespaces begin.
        nodes: the names of nodes that pods may run on.
    """

    kubeconfig: Path
    may: frozenset[str]
    has_nodes: bool
    prefix: str
    is_lab: bool = False
    nodes: list[str] = field(default_factory=list)
    _tokens: dict[str, str] = field(default_factory=dict)
    _made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        api = config.new_client_from_config(str(self.kubeconfig))
        self._config = api.configuration
        self._own_pool = api.rest_client.pool_manager
        # Another user's requests must not carry the client certificate of this one.
        self._pool = urllib3.PoolManager(ca_certs=self._config.ssl_ca_cert)
        if self.has_nodes:
            found = self.send("GET", "/api/v1/nodes").body
            self.nodes = [
                node["metadata"]["name"]
                for node in found["items"]
                if not any(taint["effect"] != "PreferNoSchedule" for taint in _taints(node))
            ]
        else:
            self.nodes = [f"node{number}" for number in (1, 2, 3)]
            for name in self.nodes:
                self.make("/api/v1/nodes", {"metadata": {"name": name}, "status": _AT_HOME})

    def headers(self, user: str) -> dict[str, str]:
        """What says who a request is made for."""
        if user == "admin":
            settings = self._config.auth_settings()
            return {entry["key"]: entry["value"] for entry in settings.values()}
        if user == "anonymous":
            return {}
        return {"Authorization": f"Bearer {self._tokens.get(user, 'nobody')}"}

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = "admin",
        headers: Mapping[str, str] = {},
    ) -> Answer:
        """Send one request; text is sent as it is, everything else as JSON."""
        pool = self._own_pool if user == "admin" else self._pool
        data = None if body is None else body if isinstance(body, str) else json.dumps(body)
        response = pool.request(
            method,
            self._config.host + path,
            body=data,
            headers={**self.headers(user), **headers},
            redirect=False,
            retries=False,
            timeout=30,
        )
        text = response.data.decode()
        kind = response.headers.get("Content-Type", "")
        return Answer(
            status=response.status,
            body=_parsed(text) if "json" in kind else text,
            content_type=kind,
            warnings=list(response.headers.getlist("Warning")),
            retry_after=response.headers.get("Retry-After", ""),
        )

    def make(self, path: str, body: Object) -> Object:
        """Create an object, and insist on it."""
        made = self.send("POST", path, body, headers={"Content-Type": "application/json"})
        assert made.status == 201, (path, made)
        return dict(made.body)

    def get(self, path: str) -> Object:
        """Read an object, and insist on it."""
        found = self.send("GET", path)
        assert found.status == 200, (path, found)
        return dict(found.body)

    def namespace(self, name: str, labels: Mapping[str, str] = {}) -> str:
        """A namespace of the suite's own, with the account that its pods run as."""
        self.make("/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        self.remove_later(f"/api/v1/namespaces/{name}")
        accounts = f"/api/v1/namespaces/{name}/serviceaccounts"
        if self.has_nodes:
            self.until(f"{accounts}/default", lambda _: True)
        else:
            self.make(accounts, {"metadata": {"name": "default"}})
        return name

    def remove_later(self, path: str) -> None:
        """Have an object deleted in the end."""
        self._made.append(path)

    def account(self, namespace: str, name: str) -> None:
        """A service account, whose name is a user from then on."""
        accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.make(accounts, {"metadata": {"name": name}})
        made = self.make(f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 3600}})
        self._tokens[name] = made["status"]["token"]

    def until(self, path: str, holds: Callable[[Object], Any]) -> Object:
        """Wait until something holds of an object; the object then."""
        for _ in waiting():
            found = self.send("GET", path)
            if found.status == 200 and holds(found.body):
                return dict(found.body)
        raise AssertionError((path, found))

    def stream(
        self, path: str, subprotocols: Sequence[str], user: str = "admin"
    ) -> websocket.WebSocket:
        """Open a WebSocket.

        Raises:
            websocket.WebSocketBadStatusException: the server answers without an upgrade.
        """
        own = user == "admin"
        return websocket.create_connection(
            self._config.host.replace("https:", "wss:") + path,
            header=[f"{key}: {value}" for key, value in self.headers(user).items()],
            subprotocols=list(subprotocols),
            sslopt={
                "ca_certs": self._config.ssl_ca_cert,
                "cert_reqs": ssl.CERT_REQUIRED,
                "certfile": self._config.cert_file if own else None,
                "keyfile": self._config.key_file if own else None,
            },
            timeout=30,
        )

    def close(self) -> None:
        """Delete what the suite has made."""
        for path in reversed(self._made):
            self.send("DELETE", path)
        self._own_pool.clear()
        self._pool.clear()


_AT_HOME = {
    "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
    "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
    "conditions": [{"type": "Ready", "status": "True"}],
}


def _taints(node: Object) -> list[Object]:
    return list(node["spec"].get("taints") or [])


def _parsed(text: str) -> Any:
    try:
        return json.loads(text) if text else ""
    except json.JSONDecodeError:
        # Many documents: a watch.
        pass
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def waiting(seconds: float = 30) -> Iterator[None]:
    """Beats at which to look again, until the time is over."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.05)


def own_prefix() -> str:
    """A name that no other run has."""
    return f"k8snet-contract-{os.getpid():x}-{int(time.time()) % 0xFFFF:x}"
