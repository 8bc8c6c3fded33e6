"""What runs have left, and whether they still work: read from labels and annotations."""

from __future__ import annotations

from typing import Any

from scripted_server import ScriptedServer

from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.pods import this_process
from pytest_k8snet.cluster.workspace import Leftover, find_leftovers

pytest_plugins = ["scripted_server_fixtures"]

ELSEWHERE = "other-boot/pid:[1]/7/9"


def left_by(run_id: str, process: str = "", *, name: str = "x", hour: int = 1) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": name,
            "labels": {"k8snet/run": run_id},
            "annotations": {"k8snet/process": process} if process else {},
            "creationTimestamp": f"2026-11-23T0{hour}:02:03Z",
        }
    }


def test_only_runs_known_to_be_dead_are_taken_for_dead(server: ScriptedServer, api: Api) -> None:
    me = this_process()
    machine, pid, _ = me.rsplit("/", 2)
    dead = f"{machine}/{pid}/1"
    server.on("GET /api/v1/namespaces", {"items": [left_by("dead", dead), left_by("mine", me)]})
    # Pods of the web service carry no process.
    pods = [left_by("dead"), left_by("mine"), left_by("far", ELSEWHERE), left_by("nameless")]
    server.on("GET /api/v1/pods", {"items": pods})
    assert {one.run_id: one.alive for one in find_leftovers(api)} == {
        "dead": False,
        "mine": True,
        "far": None,
        "nameless": None,
    }


def test_what_a_run_has_is_told_with_the_commands_that_delete_it(
    server: ScriptedServer, api: Api
) -> None:
    server.on("GET /api/v1/namespaces", {"items": [left_by("k8snet-1", name="own", hour=2)]})
    pods = [left_by("k8snet-1", name="own"), left_by("k8snet-1", name="shop", hour=3)]
    server.on("GET /api/v1/pods", {"items": pods})
    (found,) = find_leftovers(api)
    assert found == Leftover(
        run_id="k8snet-1",
        alive=None,
        since="2026-11-23T01:02:03Z",
        own=("own",),
        others=("shop",),
    )
    assert str(found) == (
        "namespace own and pods in namespace shop of run k8snet-1, since 2026-11-23T01:02:03Z"
    )
    assert found.by_hand == (
        "`kubectl delete namespace own` and "
        "`kubectl -n shop delete deployments,services,pods -l k8snet/run=k8snet-1`"
    )
