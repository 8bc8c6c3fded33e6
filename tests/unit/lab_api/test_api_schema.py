"""The table of kinds, and objects held against it; protobuf by its numbers."""

from __future__ import annotations

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.resources import Registry
from pytest_k8snet.lab.api.schema import conform, decode, types
from pytest_k8snet.lab.api.status import StatusError
from pytest_k8snet.lab.spec import CalicoSpec

LETTERS = {"s", "i", "b", "t", "u", "q", "is", "x", "o", "*"}


def test_every_type_that_is_referred_to_is_in_the_table() -> None:
    for known in types().values():
        for field in known.fields.values():
            assert field.of in LETTERS or field.of in types(), (known.name, field)
        merged = [field for field in known.fields.values() if field.merge_key not in ("", "+")]
        for field in merged:
            if field.of in types():
                assert field.merge_key in types()[field.of].fields


def test_the_kinds_that_users_write_are_in_the_table() -> None:
    registry = Registry(CalicoSpec(install="operator"))
    for key in ("pods", "services", "configmaps", "secrets", "deployments.apps", "nodes"):
        known = types()[registry.stored(key).kind]
        assert {"apiVersion", "kind", "metadata"} <= set(known.fields)


def test_numbers_count_gaps_and_inlined_types() -> None:
    assert types()["ObjectMeta"].numbered[17][0] == "managedFields"
    assert types()["ServiceSpec"].numbered[17][0] == "ipFamilyPolicy"
    assert types()["Volume"].numbered[2][1].shape == "inline"
    assert "emptyDir" in types()["Volume"].fields


def test_unknown_fields_are_found_wherever_they_are_and_dropped() -> None:
    container = {"name": "c", "imagee": "x", "ports": [{"containerPort": 1, "color": "red"}]}
    pod: Object = {"kind": "Pod", "spec": {"containers": [container], "volumes": [{"name": "v"}]}}
    pod["spec"]["nodeSelector"] = {"any": "key"}
    problems = conform("Pod", pod)
    assert [(problem.kind, problem.path) for problem in problems] == [
        ("unknown", "spec.containers[0].imagee"),
        ("unknown", "spec.containers[0].ports[0].color"),
    ]
    assert container == {"name": "c", "ports": [{"containerPort": 1}]}
    assert conform("Pod", pod) == []


@pytest.mark.parametrize(
    ("spec", "path", "wanted", "found"),
    [
        ({"containers": {}}, "spec.containers", "[]v1.Container", "object"),
        ({"containers": ["a"]}, "spec.containers[0]", "v1.Container", "string"),
        ({"hostNetwork": "yes"}, "spec.hostNetwork", "bool", "string"),
        ({"priority": 1.5}, "spec.priority", "int32", "number 1.5"),
        ({"priority": True}, "spec.priority", "int32", "bool"),
        ({"nodeName": 1}, "spec.nodeName", "string", "number"),
        ({"nodeSelector": []}, "spec.nodeSelector", "map[string]string", "array"),
        ({"overhead": {"cpu": "much"}}, "spec.overhead", "resource.Quantity", "string"),
    ],
)
def test_values_of_a_wrong_type_are_found(spec: Object, path: str, wanted: str, found: str) -> None:
    (problem,) = conform("Pod", {"spec": spec})
    assert (problem.kind, problem.path, problem.wanted, problem.found) == (
        "type",
        path,
        wanted,
        found,
    )


@pytest.mark.parametrize(
    ("given", "kept"),
    [(1, "1"), (0.5, "500m"), ("250m", "250m"), ("1Gi", "1Gi"), ("1e3", "1e3"), (".5", ".5")],
)
def test_quantities_are_kept_as_text(given: object, kept: str) -> None:
    pod: Object = {"spec": {"overhead": {"cpu": given}}}
    assert conform("Pod", pod) == []
    assert pod["spec"]["overhead"]["cpu"] == kept


def test_null_is_absent_and_open_kinds_take_anything() -> None:
    assert conform("Pod", {"spec": None, "metadata": {"labels": None}}) == []
    assert conform("FelixConfiguration", {"spec": {"bpfEnabled": True}}) == []
    assert conform("Pod", {"status": {"anything": 1}}) == []


# -- protobuf --------------------------------------------------------------------------------------


def field(number: int, payload: bytes | int) -> bytes:
    if isinstance(payload, int):
        return bytes([number << 3]) + varint(payload)
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def envelope(kind: str, raw: bytes) -> bytes:
    type_meta = field(1, b"v1") + field(2, kind.encode())
    return b"k8s\x00" + field(1, type_meta) + field(2, raw)


def test_an_object_is_decoded_by_its_numbers() -> None:
    meta = (
        field(1, b"m") + field(2, b"") + field(8, b"") + field(11, field(1, b"a") + field(2, b"b"))
    )
    raw = (
        field(1, meta)
        + field(2, field(1, b"key") + field(2, "wört".encode()))
        + field(3, field(1, b"bytes") + field(2, b"\xff"))
    )
    assert decode(envelope("ConfigMap", raw)) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "m", "labels": {"a": "b"}},
        "data": {"key": "wört"},
        "binaryData": {"bytes": "/w=="},
    }


def test_zeros_count_only_where_they_were_given() -> None:
    # replicas is a pointer in Go, minReadySeconds is not: one zero was meant, the other is noise.
    spec = field(1, 0) + field(5, 0)
    assert decode(envelope("Deployment", field(2, spec)))["spec"] == {"replicas": 0}


def test_ports_that_are_numbers_or_names() -> None:
    number = field(4, field(1, 0) + field(2, 8080) + field(3, b""))
    name = field(4, field(1, 1) + field(2, 0) + field(3, b"http"))
    ports = b"".join(field(1, field(3, 80) + target) for target in (number, name))
    decoded = decode(envelope("Service", field(2, ports)))["spec"]["ports"]
    assert [port["targetPort"] for port in decoded] == [8080, "http"]


def test_negative_numbers_and_times() -> None:
    begun = field(3, field(1, 1_700_000_000) + field(2, 0))
    renewed = field(4, field(1, 1_700_000_000) + field(2, 250_000_000))
    spec = field(2, (1 << 64) - 5) + begun + renewed
    assert decode(envelope("Lease", field(2, spec)))["spec"] == {
        "leaseDurationSeconds": -5,
        "acquireTime": "2023-11-14T22:13:20.000000Z",
        "renewTime": "2023-11-14T22:13:20.250000Z",
    }


def test_a_pod_comes_back_with_all_of_its_status() -> None:
    """As a client of client-go sends it that has read the pod and changes something."""
    began, probed = field(5, field(1, 1_700_000_000)), field(3, b"")
    ended = field(1, 0) + field(3, b"Completed") + began
    ready = field(1, b"Ready") + field(2, b"False") + probed + field(5, b"PodCompleted")
    container = (
        field(1, b"c") + field(2, field(3, ended)) + field(4, 0) + field(5, 0) + field(6, b"x")
    )
    raw = field(2, ready) + field(8, container) + field(12, field(1, b"10.244.0.5"))
    assert decode(envelope("Pod", field(3, raw)))["status"] == {
        "conditions": [
            {
                "type": "Ready",
                "status": "False",
                "reason": "PodCompleted",
            }
        ],
        "containerStatuses": [
            {
                "name": "c",
                "state": {
                    "terminated": {
                        "exitCode": 0,
                        "reason": "Completed",
                        "startedAt": "2023-11-14T22:13:20Z",
                    }
                },
                "ready": False,
                "restartCount": 0,
                "image": "x",
            }
        ],
        "podIPs": [{"ip": "10.244.0.5"}],
    }


def test_affinity_between_pods_is_decoded() -> None:
    selector = field(1, field(1, field(1, b"app") + field(2, b"web")))
    term = selector + field(3, b"kubernetes.io/hostname")
    affinity = field(3, field(1, term))
    spec = decode(envelope("Pod", field(2, field(18, affinity))))["spec"]
    assert spec["affinity"]["podAntiAffinity"] == {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {
                "labelSelector": {"matchLabels": {"app": "web"}},
                "topologyKey": "kubernetes.io/hostname",
            }
        ]
    }


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{}", 400),
        (b"k8s\x00", 400),
        (b"k8s\x00\xff", 400),
        (envelope("ConfigMap", b"\x0a\x7f"), 400),
        (envelope("ConfigMap", field(9, b"x")), 400),
        (envelope("ConfigMap", b"\x0d\x00\x00\x00\x00"), 400),
        (envelope("Banana", b""), 415),
        (envelope("Pod", field(2, field(14, field(8, b"\x0a\x00")))), 415),
    ],
)
def test_what_cannot_be_decoded_is_refused(body: bytes, code: int) -> None:
    with pytest.raises(StatusError) as refused:
        decode(body)
    assert refused.value.code == code
