"""Bad objects, and the fields that the refusal names."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.spec import CalicoSpec

POOLS = "ippools.crd.projectcalico.org"


def store_of(version: str = "v3.31.2", **more: Any) -> Store:
    store = Store(calico=CalicoSpec(version=version, install="operator", **more))
    store.create("namespaces", {"metadata": {"name": "default"}})
    return store


def causes(store: Store, resource: str, body: Object) -> list[tuple[str, str]]:
    """Field and message of each cause; empty when the object is accepted."""
    try:
        store.create(resource, body)
    except StatusError as error:
        refused = error
    else:
        return []
    assert (refused.code, refused.reason) == (422, "Invalid")
    return [(cause["field"], cause["message"]) for cause in causes_of(refused)]


def causes_of(error: StatusError) -> list[dict[str, str]]:
    assert error.details is not None
    return list(error.details["causes"])


def named(name: str = "x", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}}


def pod(container: dict[str, Any] | None = None, **spec: Any) -> Object:
    one = {"name": "main", "image": "tools"} | (container or {})
    return {**named(), "spec": {"containers": [one], **spec}}


@pytest.mark.parametrize(
    ("metadata", "field", "message"),
    [
        ({}, "metadata.name", "Required value: name or generateName is required"),
        ({"name": "A"}, "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
        ({"name": "a" * 254}, "metadata.name", "must be no more than 253 characters"),
        ({"name": "x", "labels": {"a": "-"}}, "metadata.labels", "a valid label must be"),
        ({"name": "x", "labels": {"a": "b" * 64}}, "metadata.labels", "no more than 63"),
        ({"name": "x", "labels": {"-/a": "b"}}, "metadata.labels", "name part must consist"),
        ({"name": "x", "labels": {"a/": "b"}}, "metadata.labels", "name part must consist"),
        ({"name": "x", "annotations": {"a b": "c"}}, "metadata.annotations", "name part must"),
        (
            {"name": "x", "annotations": {"a": "b" * 300_000}},
            "metadata.annotations",
            "Too long: may not be more than 262144 bytes",
        ),
    ],
)
def test_metadata(metadata: dict[str, Any], field: str, message: str) -> None:
    found = causes(store_of(), "configmaps", {"metadata": metadata})
    assert field in {where for where, _ in found}
    assert any(message in what for _, what in found)


def test_names_have_the_form_of_their_kind() -> None:
    store = store_of()
    assert causes(store, "namespaces", named("a.b"))[0][0] == "metadata.name"
    service = {**named("1a"), "spec": {"ports": [{"port": 80}]}}
    assert "a DNS-1035 label must consist of" in causes(store, "services", service)[0][1]
    assert causes(store, "nodes", named("a.b")) == []


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({**named(), "spec": {}}, "spec.containers", "Required value"),
        (pod({"name": ""}), "spec.containers[0].name", "Required value"),
        (pod({"name": "A"}), "spec.containers[0].name", "a lowercase RFC 1123 label must"),
        (pod({"image": ""}), "spec.containers[0].image", "Required value"),
        (
            pod({"imagePullPolicy": "x"}),
            "spec.containers[0].imagePullPolicy",
            'Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never"',
        ),
        (
            pod({"ports": [{"containerPort": 70000}]}),
            "spec.containers[0].ports[0].containerPort",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            pod({"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}),
            "spec.containers[0].ports[1].name",
            'Duplicate value: "a"',
        ),
        (
            pod({"lifecycle": {"preStop": {"exec": {}}}}),
            "spec.containers[0].lifecycle.preStop.exec.command",
            "Required value",
        ),
        (
            pod({"livenessProbe": {"exec": {"command": []}}}),
            "spec.containers[0].livenessProbe.exec.command",
            "Required value",
        ),
        (pod({"env": [{"value": "x"}]}), "spec.containers[0].env[0].name", "Required value"),
        (
            pod({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}),
            "spec.containers[0].volumeMounts[0].name",
            'Not found: "v"',
        ),
        (
            pod(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]),
            "spec.volumes[0].hostPath",
            "Forbidden: may not specify more than 1 volume type",
        ),
        (pod(restartPolicy="x"), "spec.restartPolicy", 'Unsupported value: "x"'),
        (pod(activeDeadlineSeconds=0), "spec.activeDeadlineSeconds", "between 1 and 2147483647"),
        (
            pod(terminationGracePeriodSeconds=-1),
            "spec.terminationGracePeriodSeconds",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            pod(tolerations=[{"key": "a", "effect": "x"}]),
            "spec.tolerations[0].effect",
            'Unsupported value: "x"',
        ),
        (
            pod({"securityContext": {"runAsUser": -1}}),
            "spec.containers[0].securityContext.runAsUser",
            "between 0 and 2147483647",
        ),
    ],
)
def test_pods(body: Object, field: str, message: str) -> None:
    found = dict(causes(store_of(), "pods", body))
    assert message in found[field]


def test_a_hardened_pod_is_accepted() -> None:
    body = pod(
        {
            "command": ["sleep", "infinity"],
            "securityContext": {
                "runAsUser": 65532,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            },
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        },
        volumes=[{"name": "tmp", "emptyDir": {}}],
        terminationGracePeriodSeconds=0,
        activeDeadlineSeconds=3600,
        hostNetwork=True,
        tolerations=[{"operator": "Exists"}],
    )
    store = store_of()
    assert causes(store, "pods", body) == []
    # The one toleration of everything stands for those that would be added.
    assert store.get("pods", "x")["spec"]["tolerations"] == [{"operator": "Exists"}]


def test_of_a_pod_little_may_change() -> None:
    store = store_of()
    store.create("pods", pod(tolerations=[{"key": "a", "operator": "Exists"}]))
    store.patch(
        "pods", "x", {"spec": {"containers": [{"name": "main", "image": "b"}]}}, "strategic"
    )
    changes: list[Object] = [{"nodeName": "n"}, {"tolerations": []}, {"hostNetwork": True}]
    for patch in changes:
        with pytest.raises(StatusError) as refused:
            store.patch("pods", "x", {"spec": patch}, "merge")
        assert "Forbidden" in refused.value.message


def service(port: dict[str, Any] | None = None, **spec: Any) -> Object:
    return {**named(), "spec": {"ports": [{"port": 80} | (port or {})], **spec}}


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({**named(), "spec": {}}, "spec.ports", "Required value"),
        (service({"port": 0}), "spec.ports[0].port", "must be between 1 and 65535"),
        (service({"protocol": "x"}), "spec.ports[0].protocol", "Unsupported value"),
        (service({"targetPort": 0}), "spec.ports[0].targetPort", "must be between 1 and 65535"),
        (service({"nodePort": 30000}), "spec.ports[0].nodePort", "may not be used when `type`"),
        (
            service({"nodePort": 80}, type="NodePort"),
            "spec.ports[0].nodePort",
            "The range of valid ports is 30000-32767",
        ),
        (service(type="x"), "spec.type", 'supported values: "ClusterIP", "ExternalName"'),
        (service(type="ExternalName"), "spec.externalName", "Required value"),
        (service(clusterIP="x"), "spec.clusterIPs[0]", "must be a valid IP address"),
        (service(clusterIP="None", type="NodePort"), "spec.clusterIPs[0]", "may not be set to"),
        (
            {**named(), "spec": {"ports": [{"port": 80}, {"port": 81}]}},
            "spec.ports[0].name",
            "Required value",
        ),
        (
            {**named(), "spec": {"ports": [{"port": 80, "name": n} for n in "ab"]}},
            "spec.ports[1]",
            'Duplicate value: {"protocol":"TCP","port":80}',
        ),
    ],
)
def test_services(body: Object, field: str, message: str) -> None:
    assert message in dict(causes(store_of(), "services", body))[field]


def test_a_service_keeps_what_was_allocated() -> None:
    store = store_of()
    given = {"clusterIP": "10.96.0.5", "type": "NodePort"}
    store.create("services", service({"nodePort": 30080}, **given))
    updated = store.update("services", service(type="NodePort"))
    assert updated["spec"]["clusterIP"] == "10.96.0.5"
    assert updated["spec"]["ports"][0]["nodePort"] == 30080
    with pytest.raises(StatusError) as refused:
        store.patch("services", "x", {"spec": {"clusterIP": "10.96.0.6"}}, "merge")
    assert causes_of(refused.value)[0]["field"] == "spec.clusterIP"
    assert "field is immutable" in refused.value.message


def deployment(**spec: Any) -> Object:
    template = {
        "metadata": {"labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return {
        **named(),
        "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template, **spec},
    }


@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        (deployment(selector=None), "spec.selector", "Required value"),
        (
            deployment(selector={"matchLabels": {"app": "b"}}),
            "spec.template.metadata.labels",
            "`selector` does not match template `labels`",
        ),
        (deployment(replicas=-1), "spec.replicas", "must be greater than or equal to 0"),
        (
            deployment(strategy={"type": "x"}),
            "spec.strategy.type",
            'supported values: "Recreate", "RollingUpdate"',
        ),
        (deployment(template={}), "spec.template.spec.containers", "Required value"),
    ],
)
def test_deployments(body: Object, field: str, message: str) -> None:
    assert message in dict(causes(store_of(), "deployments.apps", body))[field]


def test_other_kinds() -> None:
    store = store_of()
    large = {**named(), "data": {"a": "x" * (1024 * 1024 + 1)}}
    assert causes(store, "configmaps", large)[0][1].startswith("Too long")
    taint = {**named(), "spec": {"taints": [{"key": "a", "effect": "x"}]}}
    assert causes(store, "nodes", taint)[0][0] == "spec.taints[0].effect"
    endpoints = {**named(), "subsets": [{"addresses": [{"ip": "x"}], "ports": [{"port": 0}]}]}
    assert [field for field, _ in causes(store, "endpoints", endpoints)] == [
        "subsets[0].addresses[0].ip",
        "subsets[0].ports[0].port",
    ]
    pools = [{"cidr": "10.0.0.0/16", "encapsulation": "vxlan"}]
    installation = {**named(), "spec": {"calicoNetwork": {"ipPools": pools}}}
    found = causes(store, "installations.operator.tigera.io", installation)
    assert found[0][0] == "spec.calicoNetwork.ipPools[0].encapsulation"


def pool(**spec: Any) -> Object:
    return {**named(), "spec": {"cidr": "198.18.0.0/24", **spec}}


BAD_POOLS = [
    (pool(ipipMode="always"), "spec.ipipMode", 'Unsupported value: "always"'),
    (pool(vxlanMode="off"), "spec.vxlanMode", 'Unsupported value: "off"'),
    (pool(ipipMode="Always", vxlanMode="CrossSubnet"), "spec", "cannot both be enabled"),
    (pool(cidr="198.18.0.1/24"), "spec.cidr", "must be of type cidr"),
    (pool(blockSize=33), "spec", "must be between 20 and 32"),
    (pool(cidr="198.18.0.0/28", blockSize=26), "spec", "IP pool size is too small"),
    (pool(cidr="fd00::/64", ipipMode="Always"), "spec", "not supported on an IPv6"),
]


@pytest.mark.parametrize(("body", "field", "message"), BAD_POOLS)
def test_pools_are_checked_closely_from_3_32_on(body: Object, field: str, message: str) -> None:
    assert message in dict(causes(store_of("v3.32.0"), POOLS, body))[field]


@pytest.mark.parametrize("body", [body for body, _, _ in BAD_POOLS])
def test_older_calico_stores_raw_pools_unseen(body: Object) -> None:
    assert causes(store_of("v3.31.7"), POOLS, body) == []


def test_even_raw_pools_have_types_and_a_cidr() -> None:
    store = store_of("v3.25.0")
    assert causes(store, POOLS, {**named(), "spec": {}}) == [("spec.cidr", "Required value")]
    found = causes(store, POOLS, pool(blockSize="26"))
    assert "spec.blockSize in body must be of type integer" in found[0][1]


def test_a_pool_keeps_its_addresses_where_it_is_checked() -> None:
    move = {"spec": {"cidr": "198.19.0.0/24"}}
    older, newer = store_of("v3.31.0"), store_of("v3.32.0")
    for store in (older, newer):
        store.create(POOLS, pool())
    assert older.patch(POOLS, "x", move, "merge")["spec"]["cidr"] == "198.19.0.0/24"
    with pytest.raises(StatusError) as refused:
        newer.patch(POOLS, "x", move, "merge")
    assert causes_of(refused.value)[0]["field"] == "spec.cidr"
