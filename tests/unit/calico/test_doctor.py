from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from cluster_shapes import cluster, raw_pool, serve
from players import Players
from store_api import StoreApi
from store_sessions import VXLAN_CS, a_cluster, leave_changed, session

from pytest_k8snet.calico.kernel import Shell
from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.doctor import Examination, examine, kernel_lines
from pytest_k8snet.errors import ExecError

DEDICATED = "What pytest --k8snet-change=dedicated would do"
IN_PLACE = "What pytest --k8snet-change=in-place:POOL would do"


def ready(api: StoreApi, *, without: tuple[str, ...] = ()) -> StoreApi:
    """Make the nodes ready, and grant every permission but some (``verb resource``)."""
    for node in api.store.list("nodes"):
        node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        api.store.update("nodes", node, subresource="status")

    def can(verb: str, resource: str, **where: str) -> bool:
        return f"{verb} {resource}" not in without

    # The store has no users: what they may do is the test's word.
    api.can = can  # type: ignore[method-assign]
    return api


def section(examination: Examination, title: str) -> str:
    return "\n".join(dict(examination.sections)[title])


def prose(examination: Examination, title: str) -> str:
    """A section as if its lines were not broken."""
    return " ".join(section(examination, title).split())


def test_a_cluster_is_described_with_what_follows_from_it() -> None:
    found = examine(ready(a_cluster("operator-B")))
    assert found.usable
    assert section(found, "Calico").splitlines()[:2] == [
        "v3.31.2, operator install, backend bird, IPAM Calico, dataplane iptables",
        "API shape B: pools are written through projectcalico.org/v3",
    ]
    assert section(found, "Pairs").splitlines() == [
        "same-subnet   node1 -> node2",
        "cross-subnet  node1 -> node3",
    ]
    assert section(found, "Modes").splitlines()[:4] == [
        "mode               same subnet  between subnets  in pool              dedicated  in-place",
        "Never              direct       direct           -                    yes        no (1)",
        "VXLAN-CrossSubnet  direct       vxlan            default-ipv4-ippool  yes        yes",
        "VXLAN-Always       vxlan        vxlan            -                    yes        yes",
    ]
    assert "(1) Never on pool default-ipv4-ippool could cut the pods" in section(found, "Modes")
    assert "create IPPool RUN-never 198.18.0.0/24" in found.text()
    assert "; Felix restarts again at the end" in found.text()
    assert "its entry in the operator's Installation" in prose(found, IN_PLACE)
    assert section(found, "Other runs") == "none"


def test_what_a_flip_would_do_to_a_node_that_takes_no_pods_counts_as_well() -> None:
    api = ready(a_cluster("manifest-A"))
    node = api.store.get("nodes", "node3")
    node["spec"]["unschedulable"] = True
    api.store.update("nodes", node)
    found = examine(api)
    assert section(found, "Pairs").splitlines()[1].startswith("cross-subnet  none")
    assert "node1 -> node3, between subnets, would go direct" in prose(found, "Modes")


def test_a_dataplane_whose_routes_prove_nothing_is_told_with_what_does() -> None:
    api = ready(a_cluster("manifest-A"))
    assert "wire" not in section(examine(api), "Calico")
    path = "/apis/crd.projectcalico.org/v1/felixconfigurations"
    api.create(path, {"metadata": {"name": "default"}, "spec": {"bpfEnabled": True}})
    lines = section(examine(api), "Calico").splitlines()
    assert lines[0].endswith("dataplane eBPF")
    assert lines[1] == (
        "routes prove nothing on this dataplane: with -o k8snet_wire_proof=true captures on the "
        "wire prove paths"
    )


def test_who_else_keeps_a_pool_and_who_hears_of_it_is_told() -> None:
    labels = {"argocd.argoproj.io/instance": "net"}
    api = ready(cluster(pools=(raw_pool(mode=CalicoMode.IPIP_ALWAYS, labels=labels),)))
    peer = {"metadata": {"name": "tor"}, "spec": {"peerIP": "192.168.0.1"}}
    serve(api, "crd.projectcalico.org/v1", "bgppeers", [peer])
    found = examine(api)
    assert "kept by Argo CD (argocd.argoproj.io/instance: net)" in section(found, "Calico")
    router = "BGP with a router outside the cluster: tor (192.168.0.1)"
    assert router in section(found, "Calico")
    plan = prose(found, "What pytest --k8snet-change=dedicated would do")
    assert "BGP tells the addresses of pools in mode Never to routers outside" in plan


def test_it_changes_nothing() -> None:
    api = ready(a_cluster("manifest-A"))
    version = api.store.version
    examine(api)
    assert api.store.version == version


def test_missing_permissions_are_listed_by_what_they_are_needed_for() -> None:
    api = ready(a_cluster("manifest-A"), without=("patch ippools", "get events"))
    found = examine(api)
    assert found.usable
    assert "dedicated  missing: patch ippools.crd.projectcalico.org" in section(
        found, "Permissions"
    )
    assert not examine(ready(a_cluster("manifest-A"), without=("create pods",))).usable


def test_a_given_namespace_is_where_permissions_on_pods_are_asked_for() -> None:
    api = ready(a_cluster("manifest-A"))

    def can(verb: str, resource: str, **where: str) -> bool:
        # As RoleBindings grant it.
        return resource not in ("namespaces", "pods") or where["namespace"] == "mine"

    api.can = can  # type: ignore[method-assign]
    assert examine(api, namespace="mine").usable
    alone = examine(api)
    assert not alone.usable
    assert section(alone, "Permissions").splitlines()[0] == (
        "measure    missing: create/get/list/delete pods, create/get pods/exec, "
        "create/list/delete namespaces"
    )


def test_a_kubernetes_that_is_too_old_is_told_and_not_usable() -> None:
    api = ready(a_cluster("manifest-A"))
    get = api.get
    # No lab plays so old an API server.
    api.get = lambda path, **query: (  # type: ignore[method-assign]
        {"gitVersion": "v1.20.4"} if path == "/version" else get(path, **query)
    )
    found = examine(api)
    assert not found.usable
    assert section(found, "Cluster").splitlines()[-1] == (
        "problem     Kubernetes v1.20.4 is older than 1.21"
    )


def test_beneath_a_calico_api_server_the_pools_of_the_crds_are_asked_for_too() -> None:
    api = ready(a_cluster("operator-B"))

    def can(verb: str, resource: str, **where: str) -> bool:
        return (verb, resource, where["group"]) != ("get", "ippools", "crd.projectcalico.org")

    api.can = can  # type: ignore[method-assign]
    assert section(examine(api), "Permissions").splitlines()[2:4] == [
        "dedicated  all granted",
        "in-place   missing: get ippools.crd.projectcalico.org",
    ]


def test_permissions_are_told_with_the_namespace_that_they_are_missing_in() -> None:
    without = ("get leases", "update leases", "create configmaps")
    found = section(examine(ready(a_cluster("manifest-A"), without=without)), "Permissions")
    assert found.splitlines()[2] == (
        "dedicated  missing: create configmaps in kube-system, "
        "get/update leases.coordination.k8s.io k8snet-change in kube-system"
    )


@pytest.mark.parametrize(
    ("kind", "written"),
    [
        ("manifest-A", "both mode fields of the pool, through crd.projectcalico.org/v1"),
        ("operator-B", "the encapsulation of its entry in the operator's Installation"),
    ],
)
def test_what_would_be_written_in_place_follows_from_who_owns_the_pool(
    kind: str, written: str
) -> None:
    found = prose(examine(ready(a_cluster(kind))), IN_PLACE)
    assert f"on pool default-ipv4-ippool: write {written}, and the original back at" in found
    assert "connections through the pool may stall at each switch" in found


def test_the_window_of_stability_is_told_with_the_way_to_set_it() -> None:
    assert prose(examine(ready(a_cluster("manifest-A"))), "When a mode counts as entered") == (
        "once it has stayed good for twice the time that it took, 0.25 s to 10 s "
        "(pytest -o k8snet_stability=SECONDS sets another window)"
    )


def test_what_makes_a_cluster_special_is_said() -> None:
    api = ready(a_cluster("manifest-A"))
    felix = {"bpfEnabled": True, "vxlanEnabled": True, "ipipEnabled": False}
    api.create(
        "/apis/crd.projectcalico.org/v1/felixconfigurations",
        {"metadata": {"name": "default"}, "spec": felix},
    )
    found = examine(api)
    assert "routes prove nothing on this dataplane: with -o k8snet_wire_proof=true" in section(
        found, "Calico"
    )
    assert (
        "Felix is configured to keep IPIP off: ipipEnabled of FelixConfiguration default is"
        in prose(found, "Modes")
    )
    pinned = "vxlanEnabled of FelixConfiguration default is true: its device stays in every mode"
    assert pinned in prose(found, DEDICATED)


def test_before_v3_30_the_plan_says_who_else_may_get_addresses() -> None:
    note = "other pods that start on the nodes under test meanwhile may get addresses of the run's"
    old = ready(cluster(version="v3.29.1"))
    Players(old)
    assert note in prose(examine(old), DEDICATED)
    assert note not in prose(examine(ready(a_cluster("manifest-A"))), DEDICATED)


def test_a_cluster_that_a_dead_run_left_changed_is_not_usable_before_it_is_restored() -> None:
    api = ready(a_cluster("manifest-A"))
    leave_changed(api, "in-place")
    found = examine(api)
    assert not found.usable
    assert "and is gone\nto do: k8snet restore" in section(found, "Other runs")


def test_a_run_at_work_is_named() -> None:
    api = ready(a_cluster("manifest-A"))
    with session(api) as calico:
        calico.enter(CalicoMode.NEVER)
        found = examine(api)
    assert not found.usable
    assert "may be at work: Lease of k8snet-abc123" in section(found, "Other runs")


def test_a_range_in_use_is_said_where_the_pools_would_be() -> None:
    api = ready(a_cluster("manifest-A"))
    taken = raw_pool("bench", "198.18.0.0/16", VXLAN_CS)
    taken["metadata"].pop("resourceVersion")
    api.create("/apis/crd.projectcalico.org/v1/ippools", taken)
    assert "it overlaps with IPPool bench (198.18.0.0/16)" in prose(examine(api), DEDICATED)


@pytest.mark.parametrize("prefix", [16, 32])
def test_prefixes_that_make_pairs_odd_are_pointed_out(prefix: int) -> None:
    api = ready(a_cluster("manifest-A"))
    node = api.store.get("nodes", "node3")
    node["metadata"]["annotations"]["projectcalico.org/IPv4Address"] = f"192.168.1.13/{prefix}"
    api.store.update("nodes", node)
    pairs = section(examine(api), "Pairs")
    if prefix == 32:
        assert "node3 has a /32 prefix, so CrossSubnet modes encapsulate all" in pairs
    else:
        assert "node1 and node3 have prefixes that differ" in pairs


def test_of_many_nodes_a_few_are_shown_and_every_unusable_one_first() -> None:
    api = ready(a_cluster("manifest-A"))
    example = api.store.get("nodes", "node3")
    for number in range(4, 40):
        name = f"node{number}"
        labels = {"kubernetes.io/hostname": name}
        # Each sees all others in its /16; they see it in their /24 as far as it lies there.
        address = f"192.168.{number}.13/{16 if number == 39 else 24}"
        annotations = {"projectcalico.org/IPv4Address": address}
        meta = {"name": name, "labels": labels, "annotations": annotations}
        spec = {"unschedulable": number == 38}
        api.store.create("nodes", {**example, "metadata": meta, "spec": spec})
    found = examine(api)
    told = section(found, "Cluster").splitlines()
    named = [line.split()[0] for line in told if line.startswith("  ")]
    assert "node38" in named
    assert len(named) == 21
    assert named[-1] == "and"
    assert (
        told[-1].strip() == f"and {len(api.store.list('nodes')) - 20} more, see kubectl get nodes"
    )
    pairs = section(found, "Pairs")
    assert "node1 and node39 have prefixes that differ" in pairs
    assert pairs.count("have prefixes that differ") == 10
    assert "more like this" in pairs


def test_the_last_line_is_the_verdict_with_the_number_of_modes() -> None:
    found = examine(ready(a_cluster("operator-B")))
    assert found.text().splitlines()[-1] == (
        "A run can measure here, in 1 of 5 modes as it is, in 5 with --k8snet-change=dedicated, "
        "in 4 in place"
    )
    # A mode that takes a change which is not permitted is none that a run can measure.
    found = examine(ready(a_cluster("operator-B"), without=("create ippools",)))
    assert "in 0 with --k8snet-change=dedicated" in found.verdict


def test_the_verdict_of_a_cluster_that_cannot_be_measured_is_the_reason() -> None:
    found = examine(ready(a_cluster("manifest-A"), without=("create pods", "list nodes")))
    assert found.text().splitlines()[-1] == (
        "No run can measure here: missing: list nodes (and 2 more)"
    )
    api = ready(a_cluster("manifest-A"))
    leave_changed(api, "in-place")
    assert "No run can measure here: " in examine(api).verdict
    assert "has changed this cluster since" in examine(api).verdict


def test_fixtures_are_told_with_the_reason_where_they_would_not_work() -> None:
    api = ready(a_cluster("manifest-A"), without=("create services", "create ippools"))
    node = api.store.get("nodes", "node3")
    node["spec"]["unschedulable"] = True
    api.store.update("nodes", node)
    found = examine(api)
    lines = section(found, "Fixtures").splitlines()
    assert lines[0].startswith("these work: pod_pair, node_pair, pod_to_node, node_to_pod, ")
    assert "web_service: missing: create services" in lines
    assert any(line.startswith("cross_subnet_pair: no two ") for line in lines), lines
    assert found.fixtures["calico_mode"] == ""


def test_no_fixture_works_where_pods_may_not_be_made() -> None:
    found = examine(ready(a_cluster("manifest-A"), without=("create pods",)))
    works = {name for name, reason in found.fixtures.items() if not reason}
    assert works <= {"outside"}
    assert found.fixtures["pod_pair"] == "missing: create pods, create pods/exec"


def test_programs_get_the_same_as_json() -> None:
    found = examine(ready(a_cluster("operator-B"), without=("create services",)))
    answer = json.loads(json.dumps(found.to_json()))
    assert answer["usable"] is True
    assert answer["verdict"] == found.verdict
    assert answer["modes"]["VXLAN-CrossSubnet"]["none"] == {
        "possible": True,
        "pool": "default-ipv4-ippool",
        "reason": "",
    }
    never = answer["modes"]["Never"]["in-place"]
    assert never["possible"] is False
    assert "could cut the pods of this cluster off" in never["reason"]
    assert answer["fixtures"]["pod_pair"] == {"works": True, "reason": ""}
    assert answer["fixtures"]["web_service"]["reason"] == "missing: create services"
    assert answer["sections"]["Other runs"] == ["none"]


def test_of_each_kernel_it_is_said_which_tunnels_it_has() -> None:
    def shell(said: str) -> Shell:
        def run(argv: Sequence[str]) -> Completed:
            if said == "refused":
                raise ExecError("the pod is gone", found="404", remedy="run it again")
            family = "ipip" if "ipip_rcv" in argv else "vxlan"
            out = dict(one.split("=") for one in said.split())[family]
            return Completed(
                argv=tuple(argv), exit_code=0, stdout=f"{out}\n", stderr="", seconds=0.0
            )

        return run

    lines = kernel_lines(
        {
            "a": shell("vxlan=some ipip=some"),
            "b": shell("vxlan=some ipip=none"),
            "c": shell("vxlan=unknown ipip=unknown"),
            "d": shell("refused"),
        }
    )
    assert list(lines) == [
        "kernel     a has VXLAN and IPIP",
        "kernel     b has VXLAN, has not loaded IPIP (`modprobe --dry-run` on the node tells "
        "whether it could)",
        "kernel     c does not tell whether it has VXLAN and IPIP",
        "kernel     d does not tell whether it has VXLAN and IPIP",
    ]
