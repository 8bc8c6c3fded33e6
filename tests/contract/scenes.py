"""What stood in the recorded cluster before a recording began, made in another one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import websocket

from .cluster import CLUSTER_WIDE, Answer, Cluster, Object, waiting

#: The image of the recorded pods, and what is put in its place.
_RECORDED_IMAGE = "docker.io/nicolaka/netshoot:v0.13"
IMAGE = os.environ.get("CONTRACT_IMAGE", _RECORDED_IMAGE)
_SLEEP = ["sh", "-c", "sleep 3600 & wait"]


@dataclass
class Scene:
    """A place for one recording.

    Attributes:
        absent: what of it cannot be asked here, and why.
        known: what this cluster calls what the recorded one called otherwise.
    """

    cluster: Cluster
    prefix: str
    nodes: dict[str, str]
    known: dict[str, str]
    absent: dict[str, str] = field(default_factory=dict)

    def here(self, text: str) -> str:
        """A text of the recording, with this cluster's names."""
        text = text.replace(_RECORDED_IMAGE, IMAGE)
        text = re.sub(r"\bk8(?:real|snet-rbac)(?=[-/\"\\: ,.?]|$)", self.prefix, text)
        for before, now in self.nodes.items():
            text = re.sub(rf"\b{before}\b", now, text)
        for before, now in self.known.items():
            text = re.sub(rf"(?<![\w-]){before}(?![\w-])", now, text)
        return text

    def namespace(self, suffix: str = "", **labels: str) -> str:
        """One of the recorded namespaces: ``k8real``, or with a suffix."""
        name = f"{self.prefix}-{suffix}" if suffix else self.prefix
        levels = {f"pod-security.kubernetes.io/{key}": value for key, value in labels.items()}
        self.cluster.namespace(name, levels)
        return f"/api/v1/namespaces/{name}"

    def pod(self, namespace: str, name: str, command: list[str] = _SLEEP, **spec: Any) -> None:
        """A pod as the recorder made it; on a node, whether or not there is a scheduler."""
        labels = spec.pop("labels", {"t": "api"})
        container = {
            "name": "c",
            "image": spec.pop("image", IMAGE),
            "imagePullPolicy": "IfNotPresent",
            "command": command,
        }
        body = {
            "metadata": {"name": name, "labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
        }
        self.cluster.make(f"{namespace}/pods", body)

    def running(self, namespace: str, *names: str) -> None:
        """Wait until pods run, where there is somebody to run them."""
        for name in names if self.cluster.has_nodes else ():
            self.cluster.until(
                f"{namespace}/pods/{name}", lambda pod: pod["status"]["phase"] == "Running"
            )

    def converse(self, request: Object) -> Object:
        """A recorded exec, held again: its output by channel, its status, and how it ended."""
        path, protocols = request["websocket"], request["subprotocols"]
        try:
            stream = self.cluster.stream(path, protocols, request["user"])
        except websocket.WebSocketBadStatusException as error:
            body = bytes(error.resp_body or b"").decode()
            headers = {name.lower(): value for name, value in (error.resp_headers or {}).items()}
            kind = headers.get("content-type", "")
            return {
                "status": error.status_code,
                "content type": kind,
                "body": json.loads(body) if "json" in kind else body,
            }
        if text := request.get("stdin sent"):
            stream.send_binary(b"\0" + text.encode())
            if protocols == ["v5.channel.k8s.io"]:
                stream.send_binary(b"\xff\0")
        if "/gone/" in path:
            pod = path.partition("/exec?")[0]
            assert self.cluster.send("DELETE", pod).status == 200
        frames = []
        while True:
            opcode, data = stream.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                break
            frames.append((data[0], data[1:]))
        stream.shutdown()
        output = {
            name: b"".join(data for number, data in frames if number == channel).decode()
            for channel, name in ((1, "stdout"), (2, "stderr"))
        }
        return {
            "status": 101,
            "subprotocol": stream.getsubprotocol(),
            "first": frames[0],
            **output,
            "error": json.loads(b"".join(data for number, data in frames if number == 3)),
            "close": int.from_bytes(data[:2], "big"),
        }


# -- The scenes ------------------------------------------------------------------------------------
#
# Each returns why its recording cannot be played here at all, or nothing.


def _reads(scene: Scene) -> str:
    space = scene.namespace()
    node = scene.nodes["node1"]
    labels = {"app": "probe", "node": "node1"}
    scene.pod(space, f"{node}-a", labels=labels, nodeName=node)
    version = scene.cluster.get("/api/v1/nodes")["metadata"]["resourceVersion"]
    scene.known["17153"] = str(version)
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": IMAGE, "command": _SLEEP}]},
    }
    deployment = {
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
        },
    }
    path = f"{space.replace('/api/', '/apis/apps/')}/deployments"
    scene.cluster.make(path, deployment)
    scene.running(space, f"{node}-a")
    if scene.cluster.has_nodes:
        scene.cluster.until(f"{path}/web", lambda found: found["status"].get("replicas") == 3)
    else:
        nobody = "no controller writes them"
        young = "the server has just begun, and has forgotten nothing"
        scene.absent |= {
            "scale of a deployment": nobody,
            "events of one object by name alone": nobody,
            "watch from an old resourceVersion": young,
            "list at an old resourceVersion, Exact": young,
        }
    served = scene.cluster.send("GET", "/apis/crd.projectcalico.org/v1")
    names = [one["name"] for one in served.body["resources"]] if served.status == 200 else []
    for what, plural in _OF_CALICO.items():
        if plural not in names:
            scene.absent[what] = f"this cluster has no {plural}"
    if "bgppeers" in names and not scene.cluster.get(_PEERS)["items"]:
        if CLUSTER_WIDE in scene.cluster.may:
            # Of no node: it changes nothing.
            spec = {"asNumber": 64512, "peerIP": "192.0.2.1", "nodeSelector": "!all()"}
            meta = {"apiVersion": "crd.projectcalico.org/v1", "kind": "BGPPeer"}
            name = f"{scene.prefix}-fabric"
            scene.cluster.make(_PEERS, {**meta, "metadata": {"name": name}, "spec": spec})
            scene.cluster.remove_later(f"{_PEERS}/{name}")
        else:
            scene.absent["watch with initial events and bookmark"] = "this cluster has no BGPPeer"
    return ""


_PEERS = "/apis/crd.projectcalico.org/v1/bgppeers"
_OF_CALICO = {
    "watch of a custom resource from an old resourceVersion": "ippools",
    "watch with initial events and bookmark": "bgppeers",
    "watch with sendInitialEvents alone": "bgppeers",
}


def _kinds(scene: Scene) -> str:
    found = scene.cluster.send("GET", "/apis")
    groups = [group["name"] for group in found.body["groups"]]
    if "crd.projectcalico.org" not in groups:
        scene.absent["unknown resource of a known group"] = "this cluster has no Calico"
    if "projectcalico.org" not in groups:
        name = "group of the aggregated API: list of its versions"
        scene.absent[name] = "this cluster has no aggregated Calico API"
    if "operator.tigera.io" in groups:
        scene.absent["operator.tigera.io, which is not installed"] = "it is installed here"
    return ""


def _reviews(scene: Scene) -> str:
    scene.namespace()
    _users(scene)
    return ""


def _forbidden(scene: Scene) -> str:
    space = scene.namespace()
    node = scene.nodes["node1"]
    command = ["sh", "-c", "echo hello; echo err >&2; sleep 36000 & wait"]
    scene.pod(space, f"{node}-a", command, nodeName=node)
    scene.running(space, f"{node}-a")
    _users(scene)
    if not scene.cluster.has_nodes:
        scene.absent["logs"] = "no kubelet has any"
    return ""


def _users(scene: Scene) -> None:
    """The accounts ``nothing`` and ``measure``, with the rights that were recorded."""
    for name in ("nothing", "measure"):
        scene.cluster.account(scene.prefix, name)
    if CLUSTER_WIDE not in scene.cluster.may:
        return
    group = "rbac.authorization.k8s.io"
    account = {"kind": "ServiceAccount", "name": "measure", "namespace": scene.prefix}
    for name, rules in _MEASURE.items():
        made = [dict(zip(_OF_A_RULE, rule, strict=False)) for rule in rules]
        role: Object = {"metadata": {"name": name}, "rules": made}
        binding: Object = {
            "metadata": {"name": f"{name}-measure"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
            "subjects": [account],
        }
        for plural, body in (("clusterroles", role), ("clusterrolebindings", binding)):
            path = f"/apis/{group}/v1/{plural}"
            own = f"{path}/{body['metadata']['name']}"
            scene.cluster.send("DELETE", own)
            scene.cluster.make(path, body)
            scene.cluster.remove_later(own)


_OF_A_RULE = ("verbs", "apiGroups", "resources", "resourceNames")
_CALICO = ["crd.projectcalico.org", "projectcalico.org"]
#: Of the recorded cluster's docs/rbac.yaml.
_MEASURE: dict[str, list[tuple[list[str], ...]]] = {
    "k8snet-pods": [
        (["create", "get", "list", "delete"], [""], ["pods"]),
        (["create", "get"], [""], ["pods/exec"]),
        (["get"], [""], ["pods/log"]),
        (["list"], [""], ["events"]),
    ],
    "k8snet-measure": [
        (["list"], [""], ["nodes"]),
        (["list"], _CALICO, ["ippools", "felixconfigurations", "bgppeers", "ipamblocks"]),
        (["get"], _CALICO, ["clusterinformations"]),
        (["get"], ["operator.tigera.io"], ["installations", "tigerastatuses"]),
        (["list"], ["operator.tigera.io"], ["apiservers"]),
        (["get"], ["apps"], ["daemonsets"]),
        (["get"], [""], ["configmaps"], ["calico-config"]),
        (["get", "list"], [""], ["services"]),
        (["list"], ["networking.k8s.io"], ["servicecidrs"]),
        (["get"], ["apiregistration.k8s.io"], ["apiservices"]),
        (["list"], ["migration.projectcalico.org"], ["datastoremigrations"]),
    ],
    "k8snet-namespaces": [(["create", "get", "list", "delete"], [""], ["namespaces"])],
}


def _refused(scene: Scene) -> str:
    space = scene.namespace("api")
    scene.pod(space, "p1", nodeName=scene.nodes["node1"])
    dns = scene.cluster.send("GET", "/api/v1/namespaces/kube-system/services/kube-dns")
    if dns.status == 200:
        scene.known["10.96.0.10"] = str(dns.body["spec"]["clusterIP"])
    else:
        address = scene.cluster.get("/api/v1/namespaces/default/services/kubernetes")
        scene.known["10.96.0.10"] = str(address["spec"]["clusterIP"])
    return ""


def _admission(scene: Scene) -> str:
    quota = scene.namespace("quota")
    _quota(scene, quota, {"pods": "0"})
    limits = scene.namespace("limits")
    limit = {"type": "Container", "max": {"cpu": "200m"}, "default": {"cpu": "100m"}}
    body = {"metadata": {"name": "l"}, "spec": {"limits": [limit]}}
    scene.cluster.make(f"{limits}/limitranges", body)
    scene.namespace("baseline", enforce="baseline")
    scene.namespace("restricted", enforce="restricted")
    if not scene.cluster.has_nodes:
        for what in ("the deployment", "its events"):
            name = f"quota: a deployment whose pods are refused: {what}"
            scene.absent[name] = "no controller makes its pods"
    return ""


def _plugins(scene: Scene) -> str:
    scene.namespace("baseline", enforce="baseline")
    scene.namespace("restricted", enforce="restricted")
    bounds = {
        "max": {"cpu": "200m", "memory": "1Gi"},
        "min": {"cpu": "10m", "memory": "8Mi"},
        "default": {"cpu": "100m"},
        "defaultRequest": {"memory": "32Mi"},
        "maxLimitRequestRatio": {"memory": "4"},
    }
    items = [{"type": "Container", **bounds}, {"type": "Pod", "max": {"cpu": "500m"}}]
    space = scene.namespace("limits")
    made = {"metadata": {"name": "l"}, "spec": {"limits": items}}
    scene.cluster.make(f"{space}/limitranges", made)
    hard = {"requests.cpu": "1", "limits.memory": "1Gi", "pods": "5", "count/configmaps": "0"}
    hard |= {"services.nodeports": "0", "secrets": "0"}
    _quota(scene, scene.namespace("quota"), hard)
    _wait_for_admission(scene, space, {"ratio": ""})
    return ""


def _quota(scene: Scene, namespace: str, hard: Object) -> None:
    """Put a quota in place of the one there was, and wait until it rules."""
    path = f"{namespace}/resourcequotas"
    scene.cluster.send("DELETE", f"{path}/q")
    for _ in waiting():
        if scene.cluster.send("GET", f"{path}/q").status == 404:
            break
    made = scene.cluster.make(path, {"metadata": {"name": "q"}, "spec": {"hard": hard}})
    if not scene.cluster.has_nodes:
        # What the controller of quotas would write; admission reads nothing else.
        status = {"hard": hard, "used": dict.fromkeys(hard, "0")}
        assert (
            scene.cluster.send("PUT", f"{path}/q/status", {**made, "status": status}).status == 200
        )
    scene.cluster.until(f"{path}/q", lambda quota: quota.get("status", {}).get("hard") == hard)
    if not scene.cluster.has_nodes:
        _wait_for_admission(scene, namespace, hard)


def _wait_for_admission(scene: Scene, namespace: str, hard: Object) -> None:
    """Admission reads quotas through a cache, which follows in a moment."""
    sample = {"containers": [{"name": "c", "image": "x"}]}
    word = next(iter(hard))
    for _ in waiting():
        pod = {"metadata": {"name": "sample"}, "spec": sample}
        answer = scene.cluster.send("POST", f"{namespace}/pods?dryRun=All", pod)
        if word in answer.body.get("message", ""):
            return


def _between_quotas(scene: Scene) -> None:
    namespace = f"/api/v1/namespaces/{scene.prefix}-quota"
    _quota(scene, namespace, {"limits.cpu": "1", "requests.memory": "1Gi"})


def _refused_pods(scene: Scene) -> None:
    if not scene.cluster.has_nodes:
        return
    path = f"/apis/apps/v1/namespaces/{scene.prefix}-quota/deployments"
    template = {
        "metadata": {"labels": {"a": "d"}},
        "spec": {"containers": [{"name": "c", "image": "x"}]},
    }
    spec = {"selector": {"matchLabels": {"a": "d"}}, "template": template}
    scene.cluster.make(path, {"metadata": {"name": "d"}, "spec": spec})
    scene.cluster.until(f"{path}/d", lambda found: "ReplicaFailure" in json.dumps(found["status"]))


def _warnings(scene: Scene) -> str:
    scene.namespace("warn", warn="restricted")
    api = scene.namespace("api")
    scene.pod(api, "p1", nodeName=scene.nodes["node1"])
    space = scene.namespace()
    subset = {"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}
    scene.cluster.make(f"{space}/endpoints", {"metadata": {"name": "web"}, "subsets": [subset]})
    return ""


def _deletes(scene: Scene) -> str:
    space = scene.namespace("api")
    for index, name in enumerate(("d1", "d2", "d3", "p1")):
        scene.pod(space, name, nodeName=scene.nodes[f"node{index % 3 + 1}"])
    container = {"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent"}
    template = {
        "metadata": {"labels": {"a": "dep"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{**container, "command": _SLEEP}],
        },
    }
    spec = {"selector": {"matchLabels": {"a": "dep"}}, "template": template}
    apps = space.replace("/api/", "/apis/apps/")
    scene.cluster.make(f"{apps}/deployments", {"metadata": {"name": "dep"}, "spec": spec})
    scene.cluster.make(
        f"{space}/services", {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    )
    scene.cluster.make(f"{space}/configmaps", {"metadata": {"name": "c"}})
    held = {"name": "f", "finalizers": ["example.org/hold"]}
    scene.cluster.make(f"{space}/configmaps", {"metadata": held})
    scene.running(space, "d1", "d2", "d3", "p1")
    if scene.cluster.has_nodes:
        scene.cluster.until(
            f"{apps}/deployments/dep", lambda found: found["status"].get("replicas") == 1
        )
    else:
        scene.absent["pod after grace 0"] = "asked of a kubelet that is not there"
    return ""


def _custom(scene: Scene) -> str:
    if CLUSTER_WIDE not in scene.cluster.may:
        return "the suite may make no definitions here"
    scene.namespace("own")
    scene.cluster.remove_later(f"{_DEFINITIONS}/boxes.stable.example.org")
    return ""


_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def _established(scene: Scene) -> None:
    """Wait until what was defined is served."""
    for _ in waiting():
        path = f"/apis/stable.example.org/v1/namespaces/{scene.prefix}-own/boxes"
        if scene.cluster.send("GET", path).status == 200:
            return


def _own(scene: Scene) -> str:
    scene.namespace("own")
    return ""


def _options(scene: Scene) -> str:
    space = scene.namespace("own")
    labels = {"a": {"t": "x", "u": "2"}, "b": {"t": "y"}, "c2": {"v": "w"}}
    for name, own in labels.items():
        meta = {"name": name, "labels": own}
        scene.cluster.make(f"{space}/configmaps", {"metadata": meta, "data": {"k": "v"}})
    template = {
        "metadata": {"labels": {"r": "2"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"r": "2"}}, "template": template}
    body = {"metadata": {"name": "d1"}, "spec": spec}
    scene.cluster.make(f"{space.replace('/api/', '/apis/apps/')}/deployments", body)
    return ""


def _leases(scene: Scene) -> str:
    scene.namespace("api")
    return ""


def _pods(scene: Scene) -> str:
    """The pods that commands run in, and those that are in trouble."""
    if not scene.cluster.has_nodes:
        return "no kubelet runs pods"
    scene.namespace()
    space = scene.namespace("exec")
    for name in ("run", "gone"):
        scene.pod(space, name)
    second = {"name": "d", "image": IMAGE, "command": _SLEEP}
    first = {"name": "c", "image": IMAGE, "command": _SLEEP}
    scene.pod(space, "two", containers=[first, second])
    scene.pod(space, "pending", nodeSelector={"no": "such"})
    scene.pod(space, "noimage", image="example.invalid/no:such")
    scene.pod(space, "ended", ["sh", "-c", "echo bye; exit 3"], restartPolicy="Never")
    _users(scene)
    scene.running(space, "run", "gone", "two")
    scene.cluster.until(f"{space}/pods/ended", lambda pod: pod["status"]["phase"] == "Failed")
    scene.cluster.until(f"{space}/pods/pending", lambda pod: pod["status"].get("conditions"))
    scene.cluster.until(f"{space}/pods/noimage", lambda pod: pod["status"].get("containerStatuses"))
    return ""


def _without_upgrade(scene: Scene) -> str:
    space = scene.namespace("exec")
    scene.pod(space, "run", nodeName=scene.nodes["node1"])
    scene.running(space, "run")
    return ""


def _pools(scene: Scene) -> str:
    path = "/apis/crd.projectcalico.org/v1/ippools/default-ipv4-ippool"
    answer: Answer = scene.cluster.send("GET", path)
    return "" if answer.status == 200 else "this cluster has no Calico"


def _pools_v3(scene: Scene) -> str:
    path = "/apis/projectcalico.org/v3/ippools/default-ipv4-ippool"
    answer: Answer = scene.cluster.send("GET", path)
    return "" if answer.status == 200 else "this cluster has no aggregated Calico API"


SCENES: dict[str, Callable[[Scene], str]] = {
    "reads-and-watches": _reads,
    "kinds-not-found": _kinds,
    "self-reviews": _reviews,
    "forbidden": _forbidden,
    "pods-refused": _refused,
    "admission": _admission,
    "admission-plugins": _plugins,
    "warnings": _warnings,
    "deletes": _deletes,
    "leases": _leases,
    "refusals": _own,
    "managed-fields": _own,
    "options": _options,
    "custom-resources": _custom,
    "exec-without-upgrade": _without_upgrade,
    "pools-crd": _pools,
    "pools-aggregated-v3": _pools_v3,
    "exec": _pods,
    "logs": _pods,
    "pods-in-trouble": _pods,
}

_BETWEEN: dict[tuple[str, str], Callable[[Scene], None]] = {
    ("custom-resources", "discovery"): _established,
    ("admission", "quota: must specify limits"): _between_quotas,
    (
        "admission",
        "quota: a deployment whose pods are refused: the deployment",
    ): _refused_pods,
}


def between(scene: Scene, stem: str, what: str) -> None:
    """Do what was done just before an exchange of a recording."""
    step = _BETWEEN.get((stem, what))
    if step is not None:
        step(scene)
