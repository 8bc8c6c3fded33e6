"""The documentation says what the code does: options, fixtures, permissions, schema, links."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import re
import tomllib
from dataclasses import asdict, fields
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import pytest_k8snet
from pytest_k8snet import Gbit, Mbit, cli, errors, fixtures, ms, second
from pytest_k8snet.causes import Cause
from pytest_k8snet.change.journal import JOURNAL_NAME
from pytest_k8snet.change.lease import LEASE_NAME
from pytest_k8snet.cluster.access import CRD_GROUP, LEVELS, Permission, permissions
from pytest_k8snet.lab import cli as lab_cli
from pytest_k8snet.lab.faults import NAMES as FAULTS
from pytest_k8snet.lab.launcher import PROGRAMS
from pytest_k8snet.options import MARKERS, OPTIONS
from pytest_k8snet.settings import Settings
from pytest_k8snet.tools import TOOLS, curl, iperf3, ping
from pytest_k8snet.tools.iperf3_result import Iperf3Result
from pytest_k8snet.verdict import (
    NEW_CONNECTIONS,
    Arm,
    Bandwidth,
    Connections,
    Judging,
    Latency,
    Observation,
    Plan,
    SampleRequest,
)

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("conftest_examples/*/*.md")])
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]
#: The plan's short names, as users write them.
LONG_NAMES = {
    "omit": "omit_seconds",
    "proof": "require_proof",
    "budget": "budget_seconds",
    "span": "span_seconds",
    "spell": "spell_seconds",
    "between": "between_runs",
    "warmup": "warmup_pairs",
    "rate": "requests_per_second",
    "steal": "most_steal",
    "idle": "least_idle",
}
V3_GROUP = "projectcalico.org"
#: Read through and stored in, for each way in which Calico's API can be served.
GROUPS = [(CRD_GROUP, CRD_GROUP), (V3_GROUP, CRD_GROUP), (V3_GROUP, V3_GROUP)]


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
    assert set(rows) == {option.name for option in OPTIONS}
    assert set(rows) == {field.name for field in fields(Settings)} - {"origins"}
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
        ("`pair.iperf3`", iperf3.Iperf3Options, {"server", "port"}),
        ("`pair.ping`", ping.PingOptions, {"address"}),
        ("`Endpoint`", curl.CurlOptions, {"url"}),
    ],
)
def test_every_option_of_a_measurement_is_documented(
    heading: str, options: Any, given: set[str]
) -> None:
    names = {field.name for field in fields(options)} - given
    assert set(first_cells(section(page("fixtures.md"), heading))) == names


@pytest.mark.parametrize("name", [one.name for one in fields(Iperf3Result)])
def test_every_attribute_of_an_iperf3_result_is_documented(name: str) -> None:
    assert f"`{name}`" in section(page("metrics.md"), "iperf3")


@pytest.mark.parametrize("name", ["rtt", "lost_ratio", *ping.PingResult.__slots__])
def test_every_attribute_of_a_ping_result_is_documented(name: str) -> None:
    assert f"`{name}`" in section(page("metrics.md"), "ping")


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, value in vars(curl.CurlSamples).items()
        if isinstance(value, property | curl.Phase)
    ],
)
def test_every_attribute_of_curl_samples_is_documented(name: str) -> None:
    assert f"`{name}`" in section(page("metrics.md"), "curl")


def plugin_modules() -> list[ModuleType]:
    found = pkgutil.walk_packages(pytest_k8snet.__path__, "pytest_k8snet.")
    names = [module.name for module in found if not module.name.startswith("pytest_k8snet.lab")]
    return [importlib.import_module(name) for name in names]


def public_errors() -> set[str]:
    """The names of all errors that a user can meet."""
    return {
        value.__name__
        for module in plugin_modules()
        for value in vars(module).values()
        if inspect.isclass(value) and issubclass(value, errors.K8sNetError | errors.Inconclusive)
    }


def test_the_report_is_documented_section_by_section() -> None:
    template = (ROOT / "pytest_k8snet" / "report" / "templates" / "sections.html.j2").read_text()
    titles = re.findall(r'm\.section\("\w+", "([^"]+)"', template)
    titles += [tool.title.split()[0] for tool in TOOLS.values()]
    shown = re.findall(r"^- \*\*(.*?)\*\*", page("report.md"), re.MULTILINE)
    assert len(titles) > 5
    assert set(shown) == {"The verdict", *titles}


def test_the_packages_that_the_lab_needs_are_documented() -> None:
    text = page("lab.md").split("Debian packages", 1)[1].split(";", 1)[0]
    assert set(re.findall(r"[\w-]+", text)) - {"and"} == set(PROGRAMS.values())


def roles() -> dict[str, dict[str, Any]]:
    return {role["metadata"]["name"]: role for role in yaml.safe_load_all(page("rbac.yaml"))}


def roles_for(permission: Permission) -> set[str]:
    """The roles of which each alone has to grant a permission."""
    if permission.own_namespace:
        return {"k8snet-namespaces"}
    if permission.place == "state":
        return {"k8snet-state"}
    if permission.levels == ("measure",):
        return {"k8snet-pods" if permission.place == "pods" else "k8snet-measure"}
    return {f"k8snet-{level}" for level in permission.levels}


def grants(role: dict[str, Any], permission: Permission) -> bool:
    resource = permission.resource
    if permission.subresource:
        resource += f"/{permission.subresource}"
    return any(
        permission.group in rule["apiGroups"]
        and resource in rule["resources"]
        and permission.verb in rule["verbs"]
        and rule.get("resourceNames", [""]) == [permission.name]
        for rule in role["rules"]
    )


@pytest.mark.parametrize("groups", GROUPS)
def test_the_roles_grant_what_each_level_needs(groups: tuple[str, str]) -> None:
    needed = permissions(*groups)
    assert len(needed) > 30
    missing = {
        (name, str(one))
        for one in needed
        for name in roles_for(one)
        if not grants(roles()[name], one)
    }
    assert missing == set()


def test_what_is_needed_in_all_of_the_cluster_is_never_bound_to_a_namespace() -> None:
    namespaced = {"k8snet-pods", "k8snet-service", "k8snet-state"}
    for one in permissions():
        assert (one.place == "cluster") is roles_for(one).isdisjoint(namespaced), str(one)


def test_the_state_of_changes_is_granted_by_the_names_that_the_code_gives_it() -> None:
    names = {one.name for one in permissions() if one.place == "state"}
    assert names == {"", JOURNAL_NAME, LEASE_NAME}


def test_every_role_is_in_the_table_of_levels_or_beside_it() -> None:
    text = section(page("real-cluster.md"), "Before the first run")
    assert {name for name in roles() if f"`{name}`" not in text} == set()
    kinds = {name: role["kind"] for name, role in roles().items()}
    assert {name for name, kind in kinds.items() if kind == "Role"} == {"k8snet-state"}
    assert {f"k8snet-{level}" for level in LEVELS} < set(kinds)


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
    linked = set(re.findall(r"\(([\w/-]+\.md)\)", page("index.md")))
    assert linked == {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")} - {"index.md"}


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text().split("\nnav:\n", 1)[1]
    listed = re.findall(r"([\w/-]+\.md)$", navigation, re.MULTILINE)
    assert sorted(listed) == sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md"))


def readme_targets(start: str) -> list[str]:
    """What the README links to below a URL, without the URL."""
    return re.findall(rf"\]\({re.escape(start)}([^)]*)\)", (ROOT / "README.md").read_text())


def test_the_readme_works_where_there_is_no_repository_around_it() -> None:
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith("https://")] == []


def test_links_of_the_readme_lead_to_pages_of_the_site() -> None:
    for target in readme_targets(URLS["Documentation"]):
        path, _, anchor = target.partition("#")
        text = page(f"{path.rstrip('/') or 'index'}.md")
        assert not anchor or f"#{anchor}" in anchors(text), target


def test_links_of_the_readme_lead_to_files_of_the_repository() -> None:
    raw = URLS["Source"].replace("github.com", "raw.githubusercontent.com")
    targets = [
        *readme_targets(f"{URLS['Source']}/blob/main/"),
        *readme_targets(f"{URLS['Source']}/tree/main/"),
        *readme_targets(f"{raw}/main/"),
    ]
    assert len(targets) > 5
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_link_of_the_readme_is_one_of_these() -> None:
    known = (URLS["Documentation"], URLS["Source"], "https://raw.githubusercontent.com/")
    links = re.findall(r"\]\(([^)]*)\)", (ROOT / "README.md").read_text())
    assert [link for link in links if not link.startswith(known)] == []


def test_the_address_of_the_project_is_the_one_of_its_package_everywhere() -> None:
    site = (ROOT / "mkdocs.yml").read_text()
    assert f"site_url: {URLS['Documentation']}\n" in site
    assert f"repo_url: {URLS['Source']}\n" in site
    assert errors.K8sNetError("x").link.startswith(f"{URLS['Documentation']}errors/#")
    text = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    links = re.findall(r"https://github\.com/pytest-k8s[^)\s]*", text)
    assert [one for one in links if not one.startswith(f"{URLS['Source']}/")] == []


def test_the_readme_shows_a_picture_and_what_happens_on_a_cluster_on_its_first_screen() -> None:
    first_screen = (ROOT / "README.md").read_text().splitlines()[:40]
    assert any(line.startswith("![") for line in first_screen)
    assert any("On a real cluster" in line for line in first_screen)


def test_every_error_has_a_heading_to_link_to() -> None:
    headings = re.findall(r"^### `(\w+)`$", page("errors.md"), re.MULTILINE)
    assert len(headings) == len(set(headings))
    assert {f"#{name.lower()}" for name in headings} <= anchors(page("errors.md"))
    assert sorted(headings) == sorted(public_errors() - {"K8sNetError"})


def test_every_cause_of_a_wait_that_ran_out_is_documented_with_its_evidence() -> None:
    table = page("errors.md").partition("## When a wait runs out")[2].partition("\n## ")[0]
    assert re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", table) == [cause.name for cause in Cause]


def test_every_public_name_is_in_the_reference_of_the_api() -> None:
    classes = {
        name
        for name in dir(pytest_k8snet)
        if not name.startswith("_") and inspect.isclass(getattr(pytest_k8snet, name))
    }
    assert set(re.findall(r"^::: pytest_k8snet\.(\w+)$", page("api.md"), re.MULTILINE)) == classes


def test_the_help_of_every_command_is_in_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    commands = re.findall(r"^    (\w+)\b", capsys.readouterr().out, re.MULTILINE)
    shown = re.findall(r"^<!-- output of: k8snet (\w+) --help -->$", page("command-line.md"), re.M)
    assert len(commands) >= 5
    assert shown == commands


def test_nothing_of_the_site_comes_from_elsewhere() -> None:
    settings = (ROOT / "mkdocs.yml").read_text()
    assert "  font: false\n" in settings
    assert "extra_javascript" not in settings
    assert "extra_css" not in settings


def paths_named(text: str) -> set[str]:
    """What looks like a file or folder of the project, in code quotes or in a drawing."""
    return set(re.findall(r"[\w./-]+/(?![\w-])|[\w./-]+\.(?:py|pyi|md|yaml|json)\b", text))


@pytest.mark.parametrize("name", ["docs/design.md", "CONTRIBUTING.md"])
def test_every_file_that_a_contributor_is_sent_to_exists(name: str) -> None:
    # A file of the package that was just named needs no folder: `change/session.py -> pools.py`.
    files = {path.name for path in (ROOT / "pytest_k8snet").rglob("*.py")}
    named = paths_named((ROOT / name).read_text())
    assert len(named) > 5
    missing = {
        path
        for path in named
        if not (ROOT / path).exists()
        and not (ROOT / "pytest_k8snet" / path).exists()
        and path not in files
    }
    assert missing == set()


def test_every_layer_and_package_is_in_the_design() -> None:
    shown = section((DOCS / "design.md").read_text(), "The layers")
    package = ROOT / "pytest_k8snet"
    parts = [f"{path.parent.name}/" for path in package.glob("*/__init__.py")]
    parts += [path.name for path in package.glob("*.py") if path.name != "__init__.py"]
    assert {part for part in parts if f"`{part}`" not in shown} == set()


def test_every_function_that_the_design_names_is_where_it_says() -> None:
    rows = re.findall(
        r"`([\w/]+\.py)` \(([^)]*)\)",
        section((DOCS / "design.md").read_text(), "Where it is decided"),
    )
    missing = [
        f"{file}: {name}"
        for file, names in rows
        for name in re.findall(r"`(\w+)`", names)
        if f"def {name}(" not in (ROOT / "pytest_k8snet" / file).read_text()
    ]
    assert rows
    assert missing == []


def test_the_plan_is_documented_with_its_defaults() -> None:
    rows = {
        cells[1].strip(" `"): cells[2].strip()
        for line in section(page("verdicts.md"), "The plan").splitlines()
        if len(cells := line.split("|")) == 5 and line.startswith("| `")
    }
    words = {
        None: ("none", "drawn and recorded", "what the percentile needs", "what the gate needs"),
        False: ("no",),
        "mode": ("mode",),
    }
    plan = asdict(Plan())
    assert {LONG_NAMES.get(short, short) for short in rows} == set(plan)
    for short, shown in rows.items():
        value = plan[LONG_NAMES.get(short, short)]
        assert shown in words[value] if value in words else float(shown) == value, short


def arm(name: str, spread: int) -> Arm:
    """A client or a pair whose figures hardly vary."""
    turns = count()

    def take(turn: SampleRequest) -> Observation:
        nearly_one = 1 + next(turns) * spread % 7 / 1000
        answers = (0.001 * nearly_one,) * (turn.requests or 1)
        times = dict.fromkeys(("connect", "total", "rtt"), answers)
        beside = {"loss": (0.0,), "jitter": (0.0005,), "retransmit_ratio": (0.0001,)}
        rates = {"bandwidth": (1e9 * nearly_one,), NEW_CONNECTIONS: (300 * nearly_one,)}
        return Observation(figures={**rates, **beside, **times})

    return Together(label=name, take=take)


class Together(Arm):
    """An arm that can be measured at once with another."""

    def at_once(self, other: Arm) -> Arm:
        def take(turn: SampleRequest) -> Observation:
            got = sum(one.take(turn).figures["bandwidth"][0] for one in (self, other))
            return Observation(figures={"bandwidth": (got,)})

        return Arm(label=f"{self.label} + {other.label}", take=take, of=(self, other))


def test_the_default_plan_decides_the_gates_that_are_shown_as_they_are_written() -> None:
    def terms(plan: str) -> Judging:
        return Judging(plan=Plan.parse(plan, Plan(seed=1, span_seconds=0)))

    names = {
        "bandwidth": lambda one, plan="", **flow: Bandwidth(one, terms(plan)),
        "connections": lambda one, url: Connections(one, terms("")),
        "latency": lambda one, url="", plan="": Latency(one, terms(plan)),
        **{name: arm(name, 3) for name in ("a", "pair", "pod_pair", "client", "pod")},
        **{name: arm(name, 5) for name in ("b", "c", "node")},
        "url": "http://web",
        "Gbit": Gbit,
        "Mbit": Mbit,
        "ms": ms,
        "second": second,
    }
    shown = section(page("verdicts.md"), "Gates")
    table = shown.split("| written | asks |")[1].split("\n\n")[0]
    written = re.findall(r"^\| `(.*?)` \|", table, re.MULTILINE)
    assert len(written) == 17
    for expression in written:
        verdict = eval(expression, names)
        assert verdict.state == "pass", f"{expression}: {verdict.text}"


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


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has no workflows")
def test_workflows_call_scripts_and_targets_that_exist() -> None:
    texts = [path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")]
    texts.append((ROOT / ".ci/run").read_text())
    scripts = {name for text in texts for name in re.findall(r"scripts/[\w-]+", text)}
    targets = {name for text in texts for name in re.findall(r"\bmake ([a-z]+)", text)}
    assert {"scripts/check-wheel", "scripts/real-cluster-check"} <= scripts
    assert {name for name in scripts if not os.access(ROOT / name, os.X_OK)} == set()
    made = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"lint", "test", "docs"} <= targets <= made


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has no workflows")
def test_workflows_pin_what_they_run_and_may_write_nothing_by_default() -> None:
    pinned = r"[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+"
    for path in ROOT.glob(".github/workflows/*.yml"):
        text = path.read_text()
        used = re.findall(r"uses: (.*)", text)
        assert [one for one in used if not re.fullmatch(pinned, one)] == [], path.name
        # A checkout leaves no token for the steps behind it.
        assert text.count("actions/checkout@") == text.count("persist-credentials: false")
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {"contents": "read"}, path.name
        assert all("timeout-minutes" in job for job in workflow["jobs"].values()), path.name
