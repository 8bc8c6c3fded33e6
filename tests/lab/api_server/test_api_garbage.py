"""Garbage in every field of every kind: refused or taken, never an internal error of the lab.

And never an answer in Python's words: a client of Kubernetes has never seen them.
"""

from __future__ import annotations

import http.client
import json
import random
import re
from collections.abc import Iterator
from typing import Any

import pytest

from .local_server import TOKEN, ApiServer

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}

GARBAGE: list[Any] = [
    None, 1, -1, 1.5, 10**30, True, "", "x", "A b", "x" * 300, [], {}, [1], ["a"], [None],
    {"a": 1}, [{}], {"a": None},
]  # fmt: skip

META: dict[str, Any] = {
    "name": "x",
    "labels": {"a": "b"},
    "annotations": {"c": "d"},
    "ownerReferences": [{"apiVersion": "v1", "kind": "k", "name": "n", "uid": "u"}],
}
CONTAINER = {
    "name": "c",
    "image": "i",
    "ports": [{"containerPort": 1, "name": "a"}],
    "env": [{"name": "a", "value": "b"}],
    "volumeMounts": [{"name": "v", "mountPath": "/x"}],
    "resources": {"limits": {"cpu": "1"}},
    "securityContext": {"runAsUser": 1},
    "readinessProbe": {"httpGet": {"port": 80}},
}
POD_SPEC = {
    "containers": [CONTAINER],
    "volumes": [{"name": "v", "emptyDir": {}}],
    "tolerations": [{"operator": "Exists"}],
    "nodeSelector": {"a": "b"},
}
POD_STATUS = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}],
    "containerStatuses": [{"name": "c", "ready": True, "restartCount": 1, "state": {}}],
}
WORKLOAD = {
    "replicas": 1,
    "selector": {
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}],
    },
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD_SPEC},
}
SERVICE_SPEC = {
    "ports": [{"port": 1, "name": "a", "targetPort": 3, "nodePort": 30001}],
    "type": "NodePort",
    "selector": {"a": "b"},
    "clusterIP": "10.96.0.1",
}
CALICO = "/apis/crd.projectcalico.org/v1"
CORE = "/api/v1/namespaces/default"

KINDS: dict[str, dict[str, Any]] = {
    f"{CORE}/pods": {"spec": POD_SPEC, "status": POD_STATUS},
    f"{CORE}/services": {"spec": SERVICE_SPEC, "status": {"loadBalancer": {"ingress": [{}]}}},
    f"{CORE}/configmaps": {"data": {"a": "b"}, "binaryData": {"a1": "YQ=="}},
    f"{CORE}/secrets": {"data": {"a": "Yg=="}, "stringData": {"c": "d"}},
    f"{CORE}/endpoints": {"subsets": [{"addresses": [{"ip": "1.1.1.1"}], "ports": [{"port": 1}]}]},
    f"{CORE}/events": {
        "involvedObject": {"kind": "Pod", "name": "a"},
        "lastTimestamp": "2026-01-01T00:00:00Z",
        "message": "m",
    },
    "/api/v1/nodes": {
        "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}],
        },
    },
    "/apis/apps/v1/namespaces/default/deployments": {"spec": WORKLOAD, "status": {"replicas": 1}},
    "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": {
        "endpoints": [{"addresses": ["1.1.1.1"]}],
        "ports": [{"port": 1}],
    },
    "/apis/coordination.k8s.io/v1/namespaces/default/leases": {
        "spec": {"leaseDurationSeconds": 1, "holderIdentity": "x"}
    },
    "/apis/batch/v1/namespaces/default/jobs": {
        "spec": {
            "completions": 1,
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {**POD_SPEC, "restartPolicy": "Never"},
            },
        }
    },
    f"{CORE}/resourcequotas": {"spec": {"hard": {"requests.cpu": "1", "pods": "9"}}},
    f"{CORE}/limitranges": {
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "9"}, "default": {"cpu": "1"}}]}
    },
    "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies": {
        "spec": {
            "podSelector": {"matchLabels": {"a": "b"}},
            "ingress": [{"ports": [{"port": 80}], "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
        }
    },
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions": {
        "spec": {
            "group": "example.org",
            "scope": "Cluster",
            "names": {"plural": "x", "kind": "X", "shortNames": ["y"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "required": ["a"]}},
                        }
                    },
                    "additionalPrinterColumns": [{"name": "A", "jsonPath": ".spec.a"}],
                }
            ],
        }
    },
    f"{CALICO}/ippools": {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "spec": {"cidr": "10.0.0.0/16", "blockSize": 26, "allowedUses": ["Workload"]},
    },
    f"{CALICO}/felixconfigurations": {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "FelixConfiguration",
        "spec": {"bpfEnabled": True},
    },
}

#: Python's own words for values, types and errors.
PYTHON = re.compile(
    r"\b(None|True|False|NoneType|Traceback|[A-Z][a-z]+Error|dict|str)\b"
    r"|<class|object at 0x|\{'|\['"
)

Path = tuple[str | int, ...]


class Conversation:
    """Many requests on one connection."""

    def __init__(self, api: ApiServer) -> None:
        self._connection = http.client.HTTPSConnection(
            "127.0.0.1", api.port, timeout=20, context=api.client_tls()
        )

    def ask(self, method: str, path: str, body: Any, media_type: str = "json") -> Any:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": f"application/{media_type}",
            **TABLE,
        }
        self._connection.request(method, path, json.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read().decode()
        told = json.loads(answer)
        asked = f"{method} {path} {json.dumps(body)}: {answer}"
        # What kube-apiserver has no reason for is 500 as well, without one.
        assert response.status < 500 or "reason" not in told, asked
        # What is quoted is the client's own.
        message = re.sub(r'"(\\.|[^"\\])*"', "", str(told.get("message", "")))
        assert not PYTHON.search(message), asked
        return told

    def close(self) -> None:
        self._connection.close()


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    yield at
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from paths(item, (*at, key))


def spoilt(value: Any, at: Path, garbage: Any) -> Any:
    """A copy with garbage at one place."""
    if not at:
        return garbage
    copy = json.loads(json.dumps(value))
    place = copy
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = garbage
    return copy


@pytest.fixture
def conversation(api: ApiServer) -> Iterator[Conversation]:
    talk = Conversation(api)
    yield talk
    talk.close()


@pytest.mark.parametrize("path", KINDS)
def test_garbage_is_never_an_internal_error(conversation: Conversation, path: str) -> None:
    chance = random.Random(path)
    whole = {"metadata": META, **KINDS[path]}
    if "customresourcedefinitions" in path:
        whole["metadata"] = {**META, "name": "x.example.org"}
    for at in paths(whole):
        for garbage in chance.sample(GARBAGE, 6):
            created = conversation.ask("POST", path, spoilt(whole, at, garbage))
            if created["kind"] == "Table":
                name = created["rows"][0]["object"]["metadata"]["name"]
                conversation.ask("DELETE", f"{path}/{name}", None)
    conversation.ask("POST", path, whole)
    for at in paths(whole):
        for garbage in chance.sample(GARBAGE, 4):
            patch = garbage
            for key in reversed(at):
                patch = {key: patch} if isinstance(key, str) else [patch]
            for media_type in ("merge-patch+json", "strategic-merge-patch+json"):
                for subresource in ("", "/status") if "status" in whole else ("",):
                    url = f"{path}/{whole['metadata']['name']}{subresource}?dryRun=All"
                    conversation.ask("PATCH", url, patch, media_type)
