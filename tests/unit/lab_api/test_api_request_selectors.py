"""Label and field selectors."""

from __future__ import annotations

import pytest

from pytest_k8snet.lab.api.request import fields_matcher, labels_matcher, match_labels


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app=db", False),
        ("app!=db", True),
        ("missing!=db", True),
        ("app in (web, db)", True),
        ("app in (db)", False),
        ("app notin (db,cache)", True),
        ("missing notin (db)", True),
        ("app", True),
        ("!app", False),
        ("!missing", True),
        ("missing", False),
        ("example.com/role=x", True),
        ("app=web,size=5,tier in (a,b),!missing", True),
        ("app=web,tier in (c,d)", False),
        ("empty=", True),
    ],
)
def test_label_selectors(selector: str, chosen: bool) -> None:
    labels = {"app": "web", "size": "5", "tier": "a", "example.com/role": "x", "empty": ""}
    assert labels_matcher(selector)({"metadata": {"labels": labels}}) is chosen


@pytest.mark.parametrize(
    ("selector", "chosen"),
    [
        ("metadata.name=p", True),
        ("metadata.name!=p", False),
        ("spec.nodeName=node1,status.phase=Running", True),
        ("spec.nodeName=node2", False),
        ("status.podIP=", True),
        ("spec.hostNetwork=false", True),
    ],
)
def test_field_selectors(selector: str, chosen: bool) -> None:
    pod = {
        "metadata": {"name": "p"},
        "spec": {"nodeName": "node1"},
        "status": {"phase": "Running"},
    }
    assert fields_matcher(selector, "pods")(pod) is chosen


def test_events_are_found_by_what_they_are_about() -> None:
    event = {"involvedObject": {"kind": "Pod", "name": "p"}, "source": {"component": "kubelet"}}
    assert fields_matcher("involvedObject.name=p,source=kubelet", "events")(event)


def test_selector_objects() -> None:
    labels = {"app": "web"}

    def expression(operator: str, *values: str, key: str = "app") -> dict[str, object]:
        term = {"key": key, "operator": operator, "values": list(values)}
        return {"matchLabels": {"app": "web"}, "matchExpressions": [term]}

    assert match_labels({}, labels)
    assert not match_labels(None, labels)
    assert match_labels(expression("In", "web"), labels)
    assert not match_labels(expression("NotIn", "web"), labels)
    assert match_labels(expression("Exists"), labels)
    assert match_labels(expression("DoesNotExist", key="x"), labels)
    assert not match_labels({"matchLabels": {"app": "db"}}, labels)
