"""What RBAC allows those whom the administrator impersonates."""

from __future__ import annotations

import pytest

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.apiserver.access import Access, User
from pytest_k8snet.lab.faults import ApiFaults
from pytest_k8snet.lab.kube.system import objects
from pytest_k8snet.lab.spec import LabSpec, study_nodes

RBAC = "rbac.authorization.k8s.io"


@pytest.fixture
def store() -> Store:
    made = Store()
    for name in ("default", "shop"):
        made.create("namespaces", {"metadata": {"name": name}})
    return made


def role(store: Store, name: str, rule: Object, namespace: str = "", **meta: Object) -> None:
    kind = "roles" if namespace else "clusterroles"
    body = {"metadata": {"name": name, **meta}, "rules": [{"apiGroups": [""], **rule}]}
    store.create(f"{kind}.{RBAC}", body, namespace or None)


def bind(
    store: Store, role_name: str, subject: Object, namespace: str = "", kind: str = ""
) -> None:
    resource = "rolebindings" if namespace else "clusterrolebindings"
    reference = {"kind": kind or "ClusterRole", "name": role_name}
    body = {"metadata": {"name": role_name}, "roleRef": reference, "subjects": [subject]}
    store.create(f"{resource}.{RBAC}", body, namespace or None)


def may(
    store: Store,
    verb: str,
    resource: str,
    *,
    namespace: str = "default",
    name: str = "",
    user: str = "jane",
    groups: tuple[str, ...] = (),
) -> bool:
    access = Access(store, ApiFaults(store), User(user, groups))
    return access.allows(verb, "", resource, namespace, name)


JANE = {"kind": "User", "name": "jane"}
READ = {"resources": ["pods"], "verbs": ["get", "list"]}


def test_nobody_may_anything_before_a_binding(store: Store) -> None:
    role(store, "reader", READ)
    assert not may(store, "list", "pods")
    assert may(store, "list", "pods", groups=("system:masters",))


def test_a_cluster_role_holds_everywhere_or_in_the_namespace_it_is_bound_in(store: Store) -> None:
    role(store, "reader", READ)
    bind(store, "reader", JANE, namespace="shop")
    assert may(store, "list", "pods", namespace="shop")
    assert not may(store, "list", "pods")
    assert not may(store, "list", "pods", namespace="")
    bind(store, "reader", JANE)
    assert may(store, "list", "pods", namespace="")


def test_every_cluster_has_the_role_of_those_who_ask_who_others_are(store: Store) -> None:
    # kubernetes v1.34, plugin/pkg/auth/authorizer/rbac/bootstrappolicy/policy.go
    for resource, made in objects(LabSpec(nodes=study_nodes())):
        if resource == f"clusterroles.{RBAC}":
            store.create(resource, made)
    bind(store, "system:auth-delegator", JANE)
    access = Access(store, ApiFaults(store), User("jane", ()))
    for group, reviews in (
        ("authentication", "tokenreviews"),
        ("authorization", "subjectaccessreviews"),
    ):
        assert access.allows("create", f"{group}.k8s.io", reviews, "", "")
        assert not access.allows("delete", f"{group}.k8s.io", reviews, "", "")


def test_a_role_holds_in_its_own_namespace(store: Store) -> None:
    role(store, "reader", READ, namespace="shop")
    bind(store, "reader", JANE, namespace="shop", kind="Role")
    assert may(store, "get", "pods", namespace="shop", name="p")
    assert not may(store, "delete", "pods", namespace="shop", name="p")
    assert not may(store, "get", "pods/log", namespace="shop", name="p")


@pytest.mark.parametrize(
    ("subject", "user", "groups"),
    [
        ({"kind": "Group", "name": "net"}, "x", ("net",)),
        (
            {"kind": "ServiceAccount", "name": "tests", "namespace": "shop"},
            "system:serviceaccount:shop:tests",
            (),
        ),
    ],
)
def test_groups_and_service_accounts_are_subjects(
    store: Store, subject: Object, user: str, groups: tuple[str, ...]
) -> None:
    role(store, "reader", READ)
    bind(store, "reader", subject)
    assert may(store, "list", "pods", user=user, groups=groups)
    assert not may(store, "list", "pods")


def test_resource_names_grant_those_objects_only(store: Store) -> None:
    rule = {"resources": ["configmaps"], "verbs": ["get", "list"], "resourceNames": ["one"]}
    role(store, "one", rule)
    bind(store, "one", JANE)
    assert may(store, "get", "configmaps", name="one")
    assert not may(store, "get", "configmaps", name="two")
    assert not may(store, "list", "configmaps")


def test_subresources_are_granted_by_name_or_for_every_resource(store: Store) -> None:
    role(store, "exec", {"resources": ["pods/exec", "*/scale"], "verbs": ["create", "get"]})
    bind(store, "exec", JANE)
    assert may(store, "create", "pods/exec", name="p")
    assert may(store, "get", "deployments/scale", name="d")
    assert not may(store, "get", "pods", name="p")


def test_a_role_that_aggregates_has_the_rules_of_others(store: Store) -> None:
    selector = {"matchLabels": {"to": "all"}}
    store.create(
        f"clusterroles.{RBAC}",
        {
            "metadata": {"name": "all"},
            "aggregationRule": {"clusterRoleSelectors": [selector]},
        },
    )
    bind(store, "all", JANE)
    assert not may(store, "list", "pods")
    role(store, "reader", READ, labels={"to": "all"})
    assert may(store, "list", "pods")


def test_a_binding_to_a_role_that_is_not_there_grants_nothing(store: Store) -> None:
    bind(store, "gone", JANE)
    assert not may(store, "list", "pods")
