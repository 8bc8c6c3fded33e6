"""Journals that no run has written: nothing is done that the objects themselves do not bear out."""

from __future__ import annotations

import pytest
from cluster_shapes import DEFAULT_POOL
from forged_journals import (
    DEDICATED,
    IN_PLACE,
    POOL,
    POOLS,
    RUN,
    UNUSED,
    Json,
    a_production_cluster,
    forge,
    with_original,
)
from store_api import StoreApi
from store_sessions import (
    IPIP,
    JOURNAL,
    NEVER,
    VXLAN,
    a_cluster,
    leave_changed,
    objects,
    raw_spec,
    session,
)

from pytest_k8snet.calico.installation import INSTALLATION_PATH
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster.pods import RUN_LABEL, run_labels
from pytest_k8snet.errors import RestoreError
from pytest_k8snet.report.summary import changed_objects

INVALID: list[tuple[object, str]] = [
    ({**DEDICATED, "run": None, "own_pools": [DEFAULT_POOL]}, "run: None, expected the id of a"),
    ({**DEDICATED, "run": "", "own_pools": [DEFAULT_POOL]}, "run: '', expected the id of a run"),
    ({**DEDICATED, "run": ["k8snet-abc123"]}, "run: ['k8snet-abc123'], expected the id"),
    ({**DEDICATED, "run": "k8snet-abc123\n"}, r"run: 'k8snet-abc123\n', expected the id"),
    ({**DEDICATED, "own_pools": [UNUSED]}, "own_pools[0]: 'unused-pool', expected one of"),
    ({**DEDICATED, "own_pools": [DEFAULT_POOL]}, "own_pools[0]: 'default-ipv4-ippool', expected"),
    ({**DEDICATED, "own_pools": ["../ipamblocks/10-9-0-0-26"]}, "own_pools[0]: '../ipamblocks/10"),
    ({**DEDICATED, "own_pools": ["..%2fipamblocks%2f10"]}, "own_pools[0]: '..%2fipamblocks%2f10'"),
    ({**DEDICATED, "own_pools": [f"{RUN}-never/../x"]}, "own_pools[0]: 'k8snet-abc123-never/../x'"),
    ({**DEDICATED, "own_pools": ["k8snet-ffffff-never"]}, "own_pools[0]: 'k8snet-ffffff-never'"),
    ({**DEDICATED, "own_pools": [""]}, "own_pools[0]: '', expected one of"),
    ({**DEDICATED, "own_pools": DEFAULT_POOL}, "own_pools: 'default-ipv4-ippool', expected a list"),
    ({**DEDICATED, "own_pools": [None]}, "own_pools: [None], expected a list of texts"),
    ({**DEDICATED, "own_pools": [f"{RUN}-never"] * 2}, "own_pools: ['k8snet-abc123-never', 'k8s"),
    ({**DEDICATED, "own_pools": []}, "own_pools: [], expected the run's pools"),
    ({**DEDICATED, "strategy": "none"}, "strategy: 'none', expected one of dedicated, in-place"),
    ({**DEDICATED, "group": "v1/../../v1"}, "group: 'v1/../../v1', expected one of crd.pro"),
    ({**DEDICATED, "shape": "D"}, "shape: 'D', expected one of A, B, C"),
    ({**DEDICATED, "shape": "C"}, "group: 'crd.projectcalico.org/v1', expected one of proj"),
    ({**DEDICATED, "owner": "you\x1b[2J"}, r"owner: 'you\x1b[2J', expected who wrote it"),
    ({**DEDICATED, "owner": "x\u202egnp.exe"}, r"owner: 'x\u202egnp.exe', expected who"),
    ({**DEDICATED, "time": "now\r\n"}, r"time: 'now\r\n', expected a time"),
    ({**DEDICATED, "extra\x07": 1}, r"'extra\x07' is no field of a journal"),
    ({key: DEDICATED[key] for key in DEDICATED if key != "original"}, "original is missing"),
    ({**IN_PLACE, "own_pools": [f"{RUN}-never"]}, "original: {'name': 'default-ipv4-ippool', "),
    ({**IN_PLACE, "written": []}, "written: [], expected modes of the original pool"),
    ({**IN_PLACE, "written": ["Off"]}, "written[0]: 'Off', expected one of VXLAN-Always, "),
    (with_original(name="../ipamblocks/10-9-0-0-26"), "original.name: '../ipamblocks/10-9-0-0-26'"),
    (with_original(name="a%2f..%2fb"), "original.name: 'a%2f..%2fb', expected the name of a pool"),
    (with_original(name="Default"), "original.name: 'Default', expected the name of a pool"),
    (with_original(name="a" * 254), "original.name: 'aaaa"),
    (with_original(cidr="10.244.0.0/99"), "original.cidr: '10.244.0.0/99', expected an IPv4"),
    (with_original(cidr=None), "original.cidr: None, expected an IPv4 network"),
    (with_original(spec={"ipipMode": "always"}), "original.spec.ipipMode: 'always', expected one"),
    (with_original(spec={"disabled": True}), "'original.spec.disabled' is no field of a journal"),
    (with_original(spec=None), "original.spec: None, expected the pool's mode fields"),
    (with_original(spec=[["ipipMode", "Never"]]), "original.spec: [['ipipMode', 'Never']], exp"),
    (with_original(v1_spec={}), "original.v1_spec: {}, expected one just where the shape is B"),
    (with_original(written_directly=1), "original.written_directly: 1, expected true or false"),
    (with_original(written_directly=False), "original.written_directly: False, expected true"),
    (with_original(installation_entry={"cidr": "x"}), "'original.installation_entry.cidr' is no"),
    (with_original(uid="/../x"), "original.uid: '/../x', expected the id of the object"),
    (with_original(metadata={"labels": {}}), "'original.metadata' is no field of a journal"),
    ("\x1b[2J\x1b]0;owned\x07 no json", r"no JSON: '\x1b[2J\x1b]0;owned\x07 no json'"),
    ("[" * 100_000, "no JSON: '[[["),
    ("[1]", "no object with a schema: [1]"),
    ('"text"', "no object with a schema: 'text'"),
    ("", "no JSON: ''"),
]


@pytest.mark.parametrize(("journal", "found"), INVALID, ids=[found for _, found in INVALID])
def test_a_journal_that_no_run_can_have_written_stops_with_what_is_wrong_in_it(
    journal: object, found: str
) -> None:
    api = a_production_cluster()
    forge(api, journal)
    before = objects(api)
    with pytest.raises(RestoreError, match="is no journal of pytest-k8snet") as caught:
        restore_cluster(api, force=True)
    assert caught.value.found.startswith(found)
    assert all(char.isprintable() or char == "\n" for char in str(caught.value))
    for strategy in ("dedicated", "in-place"):
        with session(api, strategy) as calico, pytest.raises(RestoreError, match="is no journal"):
            calico.enter(IPIP)
    assert objects(api) == before


@pytest.mark.parametrize("schema", [0, 1, 3, "2", 2.0, True, None, [2]])
def test_a_schema_that_is_not_known_is_left_to_the_version_that_wrote_it(schema: object) -> None:
    api = a_production_cluster()
    forge(api, {**DEDICATED, "schema": schema})
    before = objects(api)
    with pytest.raises(RestoreError, match="another version of pytest-k8snet") as caught:
        restore_cluster(api, force=True)
    assert caught.value.found == f"schema {schema!r}, this version knows 2"
    assert objects(api) == before


def test_a_pool_without_the_runs_label_is_not_deleted_for_its_name() -> None:
    api = a_production_cluster()
    forge(api, DEDICATED)
    before = objects(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "label k8snet/run is missing" in caught.value.found
    assert objects(api) == before


@pytest.mark.parametrize(
    "labels", [{RUN_LABEL: RUN}, run_labels("k8snet-ffffff"), {RUN_LABEL: ""}, {RUN_LABEL: "null"}]
)
def test_a_pool_is_a_runs_own_by_both_labels_and_its_name(labels: dict[str, str]) -> None:
    api = a_production_cluster()
    api.patch(f"{POOLS}/{RUN}-never", {"metadata": {"labels": labels}})
    forge(api, DEDICATED)
    before = objects(api)
    with pytest.raises(RestoreError, match="could not all be restored"):
        restore_cluster(api, force=True)
    assert objects(api) == before


@pytest.mark.parametrize("journal", [IN_PLACE, {**IN_PLACE, "written": ["IPIP-Always"]}])
def test_a_forged_original_does_not_flip_the_pool(journal: Json) -> None:
    api = a_production_cluster()
    forge(api, journal)
    before = objects(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert f"IPPool {DEFAULT_POOL} is not put back to IPIP-Always: " in caught.value.found
    assert "`k8snet restore --force` puts it back all the same" in caught.value.found
    with session(api, "in-place") as calico, pytest.raises(RestoreError, match="could not all be"):
        calico.enter(NEVER)
    assert objects(api) == before
    restore_cluster(api, force=True)
    assert raw_spec(api)["ipipMode"] == "Always"


def test_a_journal_does_not_end_a_run_that_only_measures() -> None:
    api = a_production_cluster()
    api.delete(f"{POOLS}/{RUN}-never")
    api.create("/api/v1/namespaces", {"metadata": {"name": RUN, "labels": run_labels(RUN)}})
    forge(api, DEDICATED)
    assert any(line.startswith(f"Left alone: namespace {RUN}") for line in restore_cluster(api))
    assert "deletionTimestamp" not in api.get(f"/api/v1/namespaces/{RUN}")["metadata"]


def lasting(api: StoreApi) -> Json:
    """All but the Lease, which the restore of a dead run takes over and gives back."""
    return {at: found for at, found in objects(api).items() if "/leases/" not in at}


@pytest.mark.parametrize(
    ("collection", "name", "stays"),
    [
        ("namespaces", "production", True),
        ("pods", "database", True),
        ("services", "shop", True),
        ("services", "web", False),
        ("services", "web-0a1b2c", False),
    ],
)
def test_a_label_alone_makes_nothing_a_runs_own(collection: str, name: str, stays: bool) -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "in-place")
    place = "/api/v1" if collection == "namespaces" else "/api/v1/namespaces/kube-system"
    spec = {"nodeName": "node1", "containers": [{"name": "main", "image": "x"}]}
    body: Json = {"metadata": {"name": name, "labels": run_labels(RUN)}}
    if collection == "pods":
        body["spec"] = spec
    if collection == "services":
        body["spec"] = {"ports": [{"port": 80}]}
    api.create(f"{place}/{collection}", body)
    restore_cluster(api)
    there = [one["metadata"] for one in api.list(f"{place}/{collection}")]
    found = [one for one in there if one["name"] == name and "deletionTimestamp" not in one]
    assert bool(found) is stays


# -- A journal that somebody has overtaken ---------------------------------------------------------


def change_mode(api: StoreApi, ipip: str, vxlan: str, manager: str = "") -> None:
    api.patch(POOL, {"spec": {"ipipMode": ipip, "vxlanMode": vxlan}})
    keep(api, *([written(manager)] if manager else []))


def written(
    manager: str, *fields: str, at: str = "2026-03-01T10:00:00Z", operation: str = "Update"
) -> Json:
    """What the server keeps of who wrote fields; both of the mode where none is named."""
    own: Json = {f"f:{one}": {} for one in fields or ("ipipMode", "vxlanMode")}
    return {"manager": manager, "operation": operation, "time": at, "fieldsV1": {"f:spec": own}}


def keep(api: StoreApi, *entries: Json) -> None:
    """Have a server that keeps this of who wrote the pool's fields."""
    read = api.get

    def get(path: str, **query: str) -> Json:
        found = read(path, **query)
        if path == POOL:
            found["metadata"]["managedFields"] = [*entries]
        return found

    api.get = get  # type: ignore[method-assign]


LATER = "2026-03-01T11:00:00Z"


# k8s.io/apimachinery v0.34, util/managedfields: an update owns what it has changed; who applies
# owns what it names, beside others.
@pytest.mark.parametrize(
    ("entries", "who"),
    [
        # What the run wrote in a recorded cluster was written by Calico before.
        ([written("Go-http-client", "cidr", "ipipMode"), written("pytest-k8snet")], ""),
        ([written("calico-node", "ipipMode"), written("pytest-k8snet", "vxlanMode")], ""),
        ([written("pytest-k8snet"), written("kubectl-edit", "natOutgoing", at=LATER)], ""),
        ([written("kubectl-edit", at=LATER), written("pytest-k8snet", at=LATER)], ""),
        ([], ""),
        ([written("kubectl-edit")], "'kubectl-edit' at 2026-03-01T10:00:00Z"),
        ([written("calico-node", at="")], "'calico-node' at "),
        (
            [written("pytest-k8snet"), written("kubectl", at=LATER, operation="Apply")],
            f"'kubectl' at {LATER}",
        ),
    ],
)
def test_a_mode_that_somebody_else_wrote_is_theirs_though_a_run_wrote_the_same(
    entries: list[Json], who: str
) -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "in-place")
    keep(api, *entries)
    if not who:
        restore_cluster(api)
        assert raw_spec(api)["vxlanMode"] == "CrossSubnet"
        return
    before = lasting(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert f"got its vxlanMode Always from {who}, and from no run" in caught.value.found
    assert lasting(api) == before
    restore_cluster(api, force=True)
    assert raw_spec(api)["vxlanMode"] == "CrossSubnet"


def test_a_forged_journal_with_the_right_id_claims_a_mode_that_no_run_wrote() -> None:
    api = a_production_cluster()
    keep(api, written("Go-http-client"))
    forge(api, with_original(uid=api.get(POOL)["metadata"]["uid"]))
    before = lasting(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "got its ipipMode Never from 'Go-http-client'" in caught.value.found
    assert lasting(api) == before


@pytest.mark.parametrize(
    ("manager", "who"),
    [
        ("kubectl-edit", "'kubectl-edit' at 2026-03-01T10:00:00Z"),
        ("a\x1b[2J", r"'a\x1b[2J' at 2026-03-01T10:00:00Z"),
        ("", "somebody (the API server does not say who)"),
    ],
)
def test_what_somebody_has_decided_since_stays(manager: str, who: str) -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "in-place")
    change_mode(api, "Always", "Never", manager)
    before = lasting(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert (
        f"IPPool {DEFAULT_POOL} was changed by {who} since: ipipMode Always, vxlanMode Never, "
        "expected VXLAN-Always or VXLAN-CrossSubnet. It is left as it is." in caught.value.found
    )
    assert lasting(api) == before
    restore_cluster(api, force=True)
    assert raw_spec(api)["vxlanMode"] == "CrossSubnet"
    assert not [one for one in objects(api) if "k8snet-journal" in one]


def test_a_mode_that_the_run_has_left_behind_is_somebody_elses_decision() -> None:
    api = a_cluster("manifest-A")
    calico = session(api, "in-place")
    for mode in (VXLAN, IPIP):
        calico.enter(mode)
    change_mode(api, "Never", "Always")
    with pytest.raises(RestoreError, match="could not all be restored") as caught:
        calico.close()
    assert "vxlanMode Always, expected IPIP-Always or VXLAN-CrossSubnet" in caught.value.found
    assert raw_spec(api)["vxlanMode"] == "Always"
    assert api.get(JOURNAL)


def test_what_is_left_alone_is_recorded_as_not_put_back() -> None:
    api = a_cluster("manifest-A")
    told: list[Json] = []
    calico = session(api, "in-place", told)
    calico.enter(IPIP)
    change_mode(api, "Never", "Always")
    with pytest.raises(RestoreError):
        calico.close()
    assert [(one["object"], one["state"]) for one in told] == [
        (f"ippools/{DEFAULT_POOL}", "applied"),
        (f"ippools/{DEFAULT_POOL}", "failed"),
    ]
    assert told[-1]["what"].startswith(f"not put back: IPPool {DEFAULT_POOL} was changed by ")
    (summary,) = changed_objects([{**one, "kind": "change", "time": ""} for one in told])
    assert (summary.state, summary.what) == ("failed", told[-1]["what"])


def test_an_installation_that_somebody_has_changed_since_stays() -> None:
    api = a_cluster("operator-B")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    own, api.manager = api.manager, "kubectl-edit"
    place = "/spec/calicoNetwork/ipPools/0/encapsulation"
    change = [{"op": "replace", "path": place, "value": "None"}]
    api.patch(INSTALLATION_PATH, change, kind="json")
    api.manager = own
    with pytest.raises(RestoreError) as caught:
        calico.close()
    found = caught.value.found
    assert (
        "pool 10.244.0.0/16 of the operator's Installation was changed by 'kubectl-edit'" in found
    )
    assert "since: encapsulation None, expected IPIP or VXLANCrossSubnet" in found
    assert raw_spec(api).get("ipipMode", "Never") == raw_spec(api).get("vxlanMode", "Never")


def test_a_pool_that_was_made_anew_is_another() -> None:
    api = a_cluster("manifest-A")
    leave_changed(api, "in-place")
    body = api.get(POOL)
    api.delete(POOL)
    api.create(POOLS, {"metadata": {"name": DEFAULT_POOL}, "spec": body["spec"]})
    before = lasting(api)
    with pytest.raises(RestoreError) as caught:
        restore_cluster(api)
    assert "is another than the run has read, or the journal is not the run's" in caught.value.found
    assert lasting(api) == before
