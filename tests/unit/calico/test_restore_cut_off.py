"""Putting back without what usually carries it out: Calico's API server, the operator."""

from __future__ import annotations

import pytest
from players import Players
from store_sessions import IPIP, JOURNAL, NEVER, VXLAN_CS, a_cluster, objects, session

from pytest_k8snet.calico.detect import inspect
from pytest_k8snet.change import restore
from pytest_k8snet.change.decision import Strategy
from pytest_k8snet.change.restore import restore_cluster
from pytest_k8snet.cluster.api_errors import Answer, error_of, parse
from pytest_k8snet.errors import ApiError, ConnectError, ForbiddenError, RestoreError


def page(body: bytes, method: str, path: str) -> ApiError | ConnectError:
    """What a 404 without a Status object is told as."""
    return error_of(Answer(host="h", status=404, body=body), parse(method, path), user="me")


#: A group that is not served any more, as the API server itself says it (shared/real/api/
#: kinds-not-found.json): of its objects nobody knows whether they are there.
NOT_SERVED = page(b"404 page not found\n", "GET", "/apis/x/v3/ippools/a")
CUT_OFF = (
    NOT_SERVED,
    ApiError("the server is currently unable to handle the request", status=503),
    ConnectError("the API server does not answer"),
)


@pytest.mark.parametrize("trouble", CUT_OFF, ids=["404", "503", "no-answer"])
@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_restore_uses_the_v1_objects_when_the_calico_api_server_is_cut_off(
    strategy: Strategy, trouble: Exception
) -> None:
    api = a_cluster("manifest-B")
    before = objects(api)
    calico = session(api, strategy)
    calico.enter(NEVER)

    def refuse(method: str, path: str) -> None:
        if path.startswith("/apis/projectcalico.org/v3"):
            raise trouble

    api.refuse = refuse
    calico.close()
    api.refuse = lambda method, path: None
    assert objects(api) == before


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
@pytest.mark.parametrize("kind", ["manifest-A", "manifest-C"])
def test_pools_whose_group_is_not_served_are_not_taken_for_gone(
    kind: str, strategy: Strategy
) -> None:
    api = a_cluster(kind)
    before = objects(api)
    calico = session(api, strategy)
    calico.enter(NEVER)

    def refuse(method: str, path: str) -> None:
        if "/ippools" in path:
            raise NOT_SERVED

    api.refuse = refuse
    with pytest.raises(RestoreError, match="could not all be restored"):
        calico.close()
    api.refuse = lambda method, path: None
    assert api.get(JOURNAL)
    restore_cluster(api)
    assert objects(api) == before


def test_a_journal_that_nobody_lets_through_is_not_taken_for_none() -> None:
    api = a_cluster("manifest-A")

    def refuse(method: str, path: str) -> None:
        if "/configmaps/" in path:
            raise page(b"<html>default backend - 404</html>", method, path)

    api.refuse = refuse
    with pytest.raises(ApiError, match="something between here and the API server"):
        restore_cluster(api)


@pytest.mark.parametrize("strategy", ["in-place", "dedicated"])
def test_a_refusal_of_the_calico_api_server_is_not_got_round(strategy: Strategy) -> None:
    api = a_cluster("manifest-B")
    calico = session(api, strategy)
    calico.enter(NEVER)
    api.requests.clear()

    def refuse(method: str, path: str) -> None:
        if method in ("PATCH", "DELETE") and path.startswith("/apis/projectcalico.org/v3"):
            raise ForbiddenError('user "tester" may not change ippools', status=403)

    api.refuse = refuse
    with pytest.raises(RestoreError, match='user "tester" may not change ippools'):
        calico.close()
    v1 = "/apis/crd.projectcalico.org/v1/ippools"
    assert not [one for one in api.requests if one[0] != "GET" and one[1].startswith(v1)]


def test_an_operator_that_has_gone_has_its_pool_put_back_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restore, "_OPERATOR_SECONDS", 0.1)  # 20 seconds in earnest
    api = a_cluster("operator-B")
    calico = session(api, "in-place")
    calico.enter(IPIP)
    Players(api)  # from here on nobody carries the Installation over
    calico.close()
    assert inspect(api).pools[0].mode is VXLAN_CS
