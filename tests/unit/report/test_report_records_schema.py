from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hostile_records import hostile
from jsonschema import Draft202012Validator
from study_records import study, with_baseline, with_mesh

from pytest_k8snet.report.promises import _promise
from pytest_k8snet.report.records import KINDS, REQUIRED, SCHEMA
from pytest_k8snet.tools.host import Device, Machine
from pytest_k8snet.units import Comparison

DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / "results.schema.json").read_text("utf-8"))
    return loaded


def test_the_schema_is_a_schema(schema: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema)


def of_pytest() -> list[dict[str, Any]]:
    """Records as a run of pytest leaves them, whatever it measured."""
    head = {"schema": SCHEMA, "run": "k8snet-abc123", "time": "2026-11-23T01:02:03.456Z"}
    compared = [
        Comparison(
            left=0.9, relation=">=", right=0.5, holds=True, file=__file__, line=1, columns=(0, 1)
        )
    ]
    promised = [_promise(compared[0], [])]
    selection = {"selected": 1, "deselected": 2, "tests": ["t"], "modes": [], "by": ["-k x"]}
    selection["modes_left_out"] = []
    return [
        {**head, "kind": "run", "tool_version": "1", "selection": selection},
        {**head, "kind": "test", "test": "t", "outcome": "passed", "promises": promised},
        {**head, "kind": "test", "test": "t.py", "outcome": "error", "phase": "collect"},
        {**head, "kind": "end", "exit_status": 4, "reason": "no such file"},
    ]


@pytest.mark.parametrize("records", [study(), with_mesh(), with_baseline(), of_pytest()])
def test_every_record_of_a_run_fits_the_schema(
    schema: dict[str, Any], records: list[dict[str, Any]]
) -> None:
    validator = Draft202012Validator(schema)
    for record in records:
        assert [error.message for error in validator.iter_errors(record)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "gossip"},
        {"schema": 2},
        {"kind": "sample", "id": "s", "tool": 5, "scene": "x"},
        {"kind": "test", "test": "t"},
        {"kind": "verdict", "claim": "c", "state": "maybe"},
    ],
)
def test_what_is_no_record_does_not_fit(schema: dict[str, Any], change: dict[str, Any]) -> None:
    assert not Draft202012Validator(schema).is_valid({**study()[0], **change})


def test_hostile_texts_are_valid_texts(schema: dict[str, Any]) -> None:
    records = [one for one in hostile() if one["kind"] in ("run", "facts", "test", "change")]
    assert all(Draft202012Validator(schema).is_valid(record) for record in records)


def test_schema_and_code_name_the_same_kinds_and_fields(schema: dict[str, Any]) -> None:
    assert tuple(schema["properties"]["kind"]["enum"]) == KINDS
    assert schema["$defs"]["common"]["properties"]["schema"]["const"] == SCHEMA
    for kind, names in REQUIRED.items():
        assert set(schema["$defs"][kind]["required"]) == {"kind", *names}


def test_the_page_on_results_names_every_field(schema: dict[str, Any]) -> None:
    page = (DOCS / "results.md").read_text("utf-8")
    for kind in KINDS:
        assert f"### `{kind}`" in page
        for name in schema["$defs"][kind]["properties"]:
            assert f"`{name}`" in page, f"{kind}: {name}"


def test_the_page_on_results_names_every_fact_of_a_node(schema: dict[str, Any]) -> None:
    page = (DOCS / "results.md").read_text("utf-8")
    node = schema["$defs"]["facts"]["properties"]["nodes"]["items"]
    for name in [*node["properties"], *schema["$defs"]["device"]["properties"]]:
        assert f"`{name}`" in page, name


def test_every_fact_of_a_machine_is_in_the_schema(schema: dict[str, Any]) -> None:
    device = Device(
        name="eth0",
        driver="vmxnet3",
        mtu_bytes=1500,
        speed_bits_per_second=1e10,
        qdisc="mq",
        offload={"tcp-segmentation-offload": True, "tx-udp_tnl-segmentation": False},
    )
    known = Machine(
        kernel="6.12.1",
        cpu_model="x",
        cpu_count=8,
        platform="y",
        governor="performance",
        congestion_control="cubic",
        tcp_rmem="1 2 3",
        tcp_wmem="1 2 3",
        load_1_minute=0.5,
        softnet_dropped=0,
        nic=device,
        tunnels={"vxlan.calico": device},
    ).to_record()
    node = schema["$defs"]["facts"]["properties"]["nodes"]["items"]["properties"]
    assert set(known) == set(node) - {
        *("name", "internal_ip", "address", "subnet", "kernel", "os", "kubelet"),
        *("architecture", "zone"),
    }
    assert set(known["nic"]) == set(schema["$defs"]["device"]["properties"])
    record = {**study()[1], "nodes": [{"name": "node1", **known}]}
    assert record["kind"] == "facts"
    assert [error.message for error in Draft202012Validator(schema).iter_errors(record)] == []


def test_the_example_in_the_page_is_a_record(schema: dict[str, Any]) -> None:
    page = (DOCS / "results.md").read_text("utf-8")
    lines = [line for line in page.splitlines() if line.startswith('{"schema"')]
    assert lines
    for line in lines:
        Draft202012Validator(schema).validate(json.loads(line))
