"""The documentation says what the code does: options, fixtures, permissions, schema, links."""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_k8snet import errors, fixtures
from pytest_k8snet.cluster.preflight import LEVELS, Permission, permissions
from pytest_k8snet.lab import cli as lab_cli
from pytest_k8snet.lab.trouble import NAMES as FAULTS
from pytest_k8snet.options import MARKERS, OPTIONS
from pytest_k8snet.settings import READERS
from pytest_k8snet.tools import curl, iperf3
from pytest_k8snet.verdict import Plan

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("conftest_examples/*/*.md")])
#: The plan's short names, as users write them.
LONG_NAMES = {
    "omit": "omit_seconds",
    "budget": "budget_seconds",
    "warmup": "warmup_pairs",
    "rate": "requests_per_second",
    "steal": "most_steal",
    "idle": "least_idle",
}
GROUPS = ("crd.projectcalico.org", "projectcalico.org")


def page(name: str) -> str:
    return (DOCS / name).read_text()


def first_cells(text: str) -> list[str]:
    """The words in code quotes in the first column of every table of a page."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return [word for cell in rows for word in re.findall(r"`([^`]+)`", cell)]


def section(text: str, heading: str) -> str:
    """One section of a page, without those that follow."""
    body = text.split(f"\n## {heading}\n", 1)[1]
    return body.split("\n## ", 1)[0]


def test_every_option_is_documented_with_its_flags() -> None:
    rows = {
        line.split("|")[1].strip(" `"): line
        for line in page("options.md").splitlines()
        if line.startswith("| `")
    }
    assert set(rows) == {option.name for option in OPTIONS} == set(READERS)
    for option in OPTIONS:
        assert all(f"`{flag}`" in rows[option.name] for flag in option.flags), option.name
        assert option.variable in rows[option.name]


def test_every_fixture_is_documented_with_its_scope() -> None:
    rows = {
        cells[1].strip(" `"): cells[2].strip()
        for line in page("fixtures.md").splitlines()
        if len(cells := line.split("|")) == 6 and line.startswith("| `")
    }
    assert rows == defined_fixtures()


def test_every_fixture_is_in_the_readme() -> None:
    documented = first_cells(section((ROOT / "README.md").read_text(), "Fixtures"))
    assert sorted(documented) == sorted(defined_fixtures())


def defined_fixtures() -> dict[str, str]:
    """Name and scope of each fixture, from the source: pytest's own objects are private."""
    found = {}
    for node in ast.parse(inspect.getsource(fixtures)).body:
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
            continue
        for decorator in node.decorator_list:
            if "fixture" in ast.unparse(decorator):
                scope = re.search(r"scope='(\w+)'", ast.unparse(decorator))
                found[node.name] = scope[1] if scope else "function"
    return found


@pytest.mark.parametrize(
    ("heading", "options", "given"),
    [
        ("`Pair`", iperf3.Iperf3Options, {"server", "port"}),
        ("`Endpoint`", curl.CurlOptions, {"url"}),
    ],
)
def test_every_option_of_a_measurement_is_documented(
    heading: str, options: Any, given: set[str]
) -> None:
    names = {field.name for field in fields(options)} - given
    assert set(first_cells(section(page("fixtures.md"), heading))) == names


@pytest.mark.parametrize("name", ["bandwidth", *iperf3.parse.__globals__["Iperf3Result"].__slots__])
def test_every_attribute_of_an_iperf3_result_is_documented(name: str) -> None:
    assert f"`{name}`" in section(page("metrics.md"), "iperf3")


@pytest.mark.parametrize(
    "name",
    [name for name, value in vars(curl.CurlSamples).items() if isinstance(value, property)],
)
def test_every_attribute_of_curl_samples_is_documented(name: str) -> None:
    assert f"`{name}`" in section(page("metrics.md"), "curl")


def test_every_error_is_documented() -> None:
    text = page("errors.md")
    classes = [
        value
        for module in (errors, iperf3, curl)
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]
    general = {"K8sNetError", "ClusterError", "ApiError", "CalicoError"}
    missing = {error.__name__ for error in classes} - general
    assert {name for name in missing if f"`{name}`" not in text} == set()


def roles() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(page("rbac.yaml")))


def granted(permission: Permission, group: str) -> bool:
    """Whether the roles up to the permission's level grant it."""
    levels = LEVELS[: LEVELS.index(permission.level) + 1]
    names = {f"k8snet-{level}" for level in levels} | {"k8snet-state"}
    resource = permission.resource
    if permission.subresource:
        resource += f"/{permission.subresource}"
    return any(
        group in rule["apiGroups"]
        and resource in rule["resources"]
        and permission.verb in rule["verbs"]
        and "resourceNames" not in rule
        for role in roles()
        if role["metadata"]["name"] in names
        for rule in role["rules"]
    )


@pytest.mark.parametrize("calico_group", GROUPS)
def test_the_roles_grant_what_each_level_needs(calico_group: str) -> None:
    needed = permissions(calico_group)
    assert len(needed) > 30
    assert [str(one) for one in needed if not granted(one, one.group)] == []


def test_there_is_one_cluster_role_per_level() -> None:
    kinds = [(role["kind"], role["metadata"]["name"]) for role in roles()]
    assert kinds == [("ClusterRole", f"k8snet-{level}") for level in LEVELS] + [
        ("Role", "k8snet-state")
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(#[^)]*)?\)", path.read_text()):
        file = path.parent / target[0] if target[0] else path
        assert file.exists(), target
        if target[1]:
            assert target[1] in anchors(file.read_text()), target


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {"#" + re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_examples_are_python(path: Path) -> None:
    for code in re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL):
        compile(code, str(path), "exec")


def test_the_readme_is_short_and_shows_a_failing_test_early() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("E       assert") for line in lines[:40])
    assert any(line.startswith("def test_") for line in lines[:40])


def test_every_page_is_in_the_overview() -> None:
    linked = set(re.findall(r"\((\w[\w-]*\.md)\)", page("index.md")))
    assert linked == {path.name for path in DOCS.glob("*.md")} - {"index.md"}


def test_the_plan_is_documented_with_its_defaults() -> None:
    rows = {
        cells[1].strip(" `"): cells[2].strip()
        for line in section(page("verdicts.md"), "The plan").splitlines()
        if len(cells := line.split("|")) == 5 and line.startswith("| `")
    }
    words = {None: ("none", "drawn and recorded", "what the percentile needs"), False: ("no",)}
    plan = asdict(Plan())
    assert {LONG_NAMES.get(short, short) for short in rows} == set(plan)
    for short, shown in rows.items():
        value = plan[LONG_NAMES.get(short, short)]
        assert shown in words[value] if value in words else float(shown) == value, short


def test_every_marker_is_documented() -> None:
    shown = section(page("fixtures.md"), "Markers")
    assert [line for line in MARKERS if f"@pytest.mark.{line.split('(')[0]}(" not in shown] == []


def test_every_fault_of_the_lab_is_documented() -> None:
    rows = set(first_cells(section(page("lab.md"), "Trouble on request")))
    assert rows == FAULTS


def test_every_option_of_the_lab_is_documented() -> None:
    shown = section(page("lab.md"), "Options of `k8snet lab`")
    flags = set(re.findall(r'add\(\s*"(--[\w-]+)"', inspect.getsource(lab_cli)))
    assert {flag for flag in flags if f"`{flag}" not in shown} == set()
    assert len(flags) > 5
