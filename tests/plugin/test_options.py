from pathlib import Path

import pytest

PROBE = """
    from pytest_k8snet import settings

    def test_show(pytestconfig):
        for name, entry in settings.of(pytestconfig).described().items():
            print(f"<{name}> {entry['value']} <{entry['origin']}>")
"""


def shown(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    pytester.makepyfile(PROBE)
    return pytester.runpytest_inprocess("-s", *args)


def test_defaults_change_nothing_and_print_no_header(pytester: pytest.Pytester) -> None:
    result = shown(pytester)
    result.stdout.fnmatch_lines(["*<pod_timeout> 120 s <default>", "*<change> none <default>"])
    result.stdout.no_fnmatch_line("k8snet: *")


def test_the_header_names_each_value_and_its_origin(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All tests have quick labs by this variable; here it is none of the values.
    monkeypatch.delenv("K8SNET_LAB_TIMING")
    pytester.makeini("[pytest]\nk8snet_nodes = node1 node2\n")
    result = shown(pytester, "--k8snet-change=dedicated")
    result.stdout.fnmatch_lines(
        ["k8snet: nodes node1 node2 (ini k8snet_nodes), change dedicated (--k8snet-change)"]
    )


def test_the_command_line_wins_over_the_ini_file(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nk8snet_context = from-ini\n")
    shown(pytester, "--k8snet-context=from-flag").stdout.fnmatch_lines(
        ["*<context> from-flag <--k8snet-context>"]
    )


def test_the_outside_prefix_comes_from_the_environment_too(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K8SNET_OUTSIDE", "ssh 'my bastion'")
    shown(pytester).stdout.fnmatch_lines(["*<outside> ssh my bastion <K8SNET_OUTSIDE>"])


def test_the_lab_allows_every_change_by_itself(pytester: pytest.Pytester) -> None:
    shown(pytester, "--k8snet-lab").stdout.fnmatch_lines(
        ["*<change> dedicated <the lab allows it>", "*<fabric_routes_pods> True <the lab's *>"]
    )


@pytest.mark.parametrize(
    ("plan", "idle"), [((), "0%"), (("last=9",), "0%"), (("idle=0.5",), "50%")]
)
def test_gates_on_the_lab_do_not_wait_for_a_quiet_machine_unless_they_are_told(
    pytester: pytest.Pytester, plan: tuple[str, ...], idle: str
) -> None:
    # Of whoever else is busy on this machine the lab's nodes can know nothing.
    shown(pytester, "--k8snet-lab", *(f"--k8snet-plan={one}" for one in plan)).stdout.fnmatch_lines(
        [f"*<plan> *nodes {idle} idle before a sample*"]
    )


def test_every_option_without_a_flag_is_set_by_o(pytester: pytest.Pytester) -> None:
    shown(pytester, "-o", "k8snet_pod_timeout=2min").stdout.fnmatch_lines(
        ["*<pod_timeout> 120 s <ini k8snet_pod_timeout>"]
    )


def test_the_stability_window_is_in_proportion_unless_it_is_set(pytester: pytest.Pytester) -> None:
    shown(pytester).stdout.fnmatch_lines(["*<stability>  <default>"])
    shown(pytester, "-o", "k8snet_stability=10s").stdout.fnmatch_lines(
        ["*<stability> 10 s <ini k8snet_stability>"]
    )


def test_a_relative_path_counts_from_where_pytest_was_called(pytester: pytest.Pytester) -> None:
    shown(pytester, "--kubeconfig=prod.yaml").stdout.fnmatch_lines(
        [f"*<kubeconfig> {pytester.path / 'prod.yaml'} <--kubeconfig>"]
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--k8snet-change=all"], "*--k8snet-change cannot be read*'all' is none of*"),
        (["--k8snet-change=in-place"], "*in-place needs the name of the pool*"),
        (["-o", "k8snet_lab_rate=fast"], "*ini k8snet_lab_rate cannot be read*"),
        (["--k8snet-lab", "--kubeconfig=x"], "*both a lab and a cluster were asked for*"),
        (
            ["-o", "k8snet_pool_cidr=198.18.0.1/15"],
            "*ini k8snet_pool_cidr cannot be read*host bits*",
        ),
        (["--k8snet-nodes=node1"], "*one node makes no pair*"),
        (["--k8snet-baseline=none.jsonl"], "*the baseline file does not exist*none.jsonl*"),
        (["--k8snet-results=no/such/r.jsonl"], "*the folder of the results file does not exist*"),
        (["--kubeconfig="], "*--kubeconfig is given without a value*leave it out*"),
        (["--k8snet-ticket=: title"], "*has no ticket id*"),
    ],
)
def test_a_bad_value_is_one_usage_error_with_the_way_out(
    pytester: pytest.Pytester, args: list[str], message: str
) -> None:
    result = shown(pytester, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = " ".join(result.stderr.str().split())
    assert "Traceback" not in text
    assert "to do:" in text
    for part in filter(None, message.split("*")):
        assert part in text


def test_an_unknown_mode_is_refused_with_the_five_names(pytester: pytest.Pytester) -> None:
    result = shown(pytester, "--k8snet-modes=Sometimes")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*Sometimes*", "*VXLAN-CrossSubnet*"])


OWNER = "def pytest_addoption(parser): parser.addoption('--kubeconfig')"
ASIDE = "k8snet: --kubeconfig is another plugin's here, ours is --k8snet-kubeconfig"


def test_the_short_option_steps_aside_for_a_conftest(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(OWNER)
    pytester.makepyfile(PROBE)
    result = pytester.runpytest_subprocess("-s", "--kubeconfig=a", "--k8snet-kubeconfig=b")
    result.stdout.fnmatch_lines([ASIDE])
    result.stdout.fnmatch_lines([f"*<kubeconfig> {pytester.path / 'b'} <--kubeconfig>"])


@pytest.mark.parametrize("name", ["aaa_first", "zzz_last"])
def test_the_short_option_steps_aside_for_a_plugin_whenever_that_is_loaded(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytester.makepyfile(**{name: OWNER})
    pytester.makepyfile("def test_it(pytestconfig): assert pytestconfig.option.kubeconfig == 'a'")
    monkeypatch.setenv("PYTEST_PLUGINS", name)
    monkeypatch.syspath_prepend(pytester.path)
    result = pytester.runpytest_subprocess("--kubeconfig", "a")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([ASIDE])


def test_an_environment_with_an_owner_of_the_option_runs_as_without_us(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        "def pytest_addoption(parser):\n"
        "    parser.addoption('--kubeconfig', type=int, required=True)\n"
    )
    pytester.makepyfile("def test_it(pytestconfig): assert pytestconfig.option.kubeconfig == 7")
    pytester.runpytest_subprocess("--kubeconfig=7").assert_outcomes(passed=1)


def test_a_kubeconfig_behind_a_blank_is_no_folder_of_tests(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = pytester.mkdir("elsewhere")
    (elsewhere / "prod.yaml").write_text("")
    suite = pytester.mkdir("suite")
    (suite / "conftest.py").write_text(
        "def pytest_addoption(parser): parser.addoption('--of-the-conftest')"
    )
    (suite / "test_it.py").write_text("def test_it(): pass")
    monkeypatch.chdir(suite)
    result = pytester.runpytest_subprocess(
        "--of-the-conftest=x", "--kubeconfig", "../elsewhere/prod.yaml"
    )
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line(ASIDE)


def test_help_lists_the_options_and_touches_no_cluster(
    pytester: pytest.Pytester, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing.yaml"))
    result = pytester.runpytest_inprocess("--help")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--k8snet-change=CHANGE*", "*--kubeconfig=KUBECONFIG*"])


def test_a_plan_that_cannot_work_ends_the_run_with_one_message(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_subprocess("--k8snet-plan=first=9 last=4")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the plan cannot work: last must be first (9) or more*"])


def test_what_pods_need_at_a_site_is_set_in_kubernetes_own_words(pytester: pytest.Pytester) -> None:
    options = {
        "pod_limits": "cpu=4,memory=1.5Gi",
        "pod_requests": "cpu=500m",
        "tolerations": "dedicated=net:NoSchedule gpu",
        "node_labels": "pool=net,kubernetes.io/arch=arm64",
        "zones": "eu-1a eu-1b",
        "priority_class": "high",
    }
    args = [arg for name, value in options.items() for arg in ("-o", f"k8snet_{name}={value}")]
    printed = shown(pytester, *args).stdout.str()
    for name, value in options.items():
        assert (
            f"<{name}> {value.replace(', ', ' ').replace('1a,', '1a ')} <ini k8snet_{name}>"
            in printed
        )


@pytest.mark.parametrize(
    ("option", "found"),
    [
        ("pod_limits=cpu", "'cpu' is no NAME=VALUE"),
        ("pod_limits=cpu=4 cores", "'cores' is no NAME=VALUE"),
        ("pod_requests=cpu=many", "cpu=many is no quantity like 500m"),
        ("tolerations=a:Never", "'a:Never' is no taint"),
        ("zones=a,b,c", "a pair lies in two zones at most"),
        ("image_pull_secrets=s", "image pull secrets are read in the pods' own namespace"),
    ],
)
def test_what_pods_cannot_have_is_refused_before_the_run(
    pytester: pytest.Pytester, option: str, found: str
) -> None:
    pytester.makepyfile("")
    result = pytester.runpytest_inprocess("-o", f"k8snet_{option}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert found in result.stderr.str()
