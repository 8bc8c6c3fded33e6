"""The pings of iputils, busybox and inetutils: outputs of real runs, and one run on loopback."""

from __future__ import annotations

import math
import re
import subprocess

import pytest
from recorded import Recording, recording, recordings

from pytest_k8snet.errors import SettingsError, ToolNotRunnableError
from pytest_k8snet.tools import TOOLS, ping
from pytest_k8snet.tools.ping import Ping, PingOptions, PingResult
from pytest_k8snet.tools.tool import Output, Payload
from pytest_k8snet.units import ms

IPUTILS, BUSYBOX, INETUTILS = "iputils-20221126", "busybox-1.35", "inetutils-2.4"
OPTIONS = PingOptions(address="10.9.0.2", count=5)


def output(name: str) -> Output:
    found = recording("ping", f"{name}.txt")
    return Output(stdout=found.text, stderr=found.stderr, exit_code=found.exit_code)


def parsed(name: str, options: PingOptions = OPTIONS) -> PingResult:
    return Ping().parse(output(name), options)


@pytest.mark.parametrize("program", [IPUTILS, BUSYBOX, INETUTILS])
def test_each_answer_has_its_time(program: str) -> None:
    result = parsed(f"{program}-ok")
    text = recording("ping", f"{program}-ok.txt").text
    shortest, mean, longest = (text.split(" = ")[1].split(" ms")[0].split("/"))[:3]
    assert (result.sent, result.received, result.lost) == (5, 5, 0)
    assert float(result.rtt.minimum) * 1000 == pytest.approx(float(shortest))
    assert float(result.rtt.maximum) * 1000 == pytest.approx(float(longest))
    assert float(result.rtt.mean) * 1000 == pytest.approx(float(mean), abs=0.001)
    assert result.rtt.p95 == result.rtt.maximum
    assert float(result.lost_ratio) == 0
    assert result.values() == [float(one) for one in result.rtt]


@pytest.mark.parametrize("program", [IPUTILS, BUSYBOX])
def test_ipv6_reads_alike(program: str) -> None:
    assert parsed(f"{program}-ipv6").received == 3


def test_an_address_that_has_a_name_reads_alike() -> None:
    told = output(f"{IPUTILS}-ok").stdout.replace("from 10.9.0.2:", "from node-2 (10.9.0.2):")
    assert Ping().parse(Output(stdout=told), OPTIONS).received == 5


@pytest.mark.parametrize(
    ("program", "lost", "first"), [(IPUTILS, 7, 1), (BUSYBOX, 6, 2), (INETUTILS, 7, 0)]
)
def test_a_lost_request_has_no_time_and_stays_in_its_place(
    program: str, lost: int, first: int
) -> None:
    result = parsed(f"{program}-loss")
    assert (result.sent, result.lost) == (20, lost)
    assert float(result.lost_ratio) == lost / 20
    values = result.values()
    # One answer of three was dropped on its way.
    assert all(map(math.isinf, values[first::3]))
    assert sum(map(math.isinf, values)) == lost
    assert len(values) == 20
    assert result.figures()["lost_ratio"] == lost / 20
    assert len(result.rtt.distribution()["rtt_seconds"]) == 20 - lost


@pytest.mark.parametrize("program", [IPUTILS, BUSYBOX])
def test_a_second_answer_to_a_request_counts_as_duplicate_only(program: str) -> None:
    result = parsed(f"{program}-duplicates")
    assert (result.sent, result.received, result.duplicates) == (5, 5, 4)
    # The first answer is the quicker one.
    assert max(map(float, result.rtt)) < 0.17e-3 + 1e-9


@pytest.mark.parametrize(
    ("name", "errors"),
    [
        (f"{IPUTILS}-silent", ()),
        (f"{BUSYBOX}-silent", ()),
        (f"{INETUTILS}-silent", ()),
        (f"{IPUTILS}-unreachable", ("Destination Host Unreachable",) * 3),
        (f"{IPUTILS}-too-big", ("local error: message too long, mtu=1500",) * 3),
    ],
)
def test_a_run_without_an_answer_is_a_result(name: str, errors: tuple[str, ...]) -> None:
    result = parsed(name)
    assert (result.sent, result.lost, float(result.lost_ratio)) == (3, 3, 1)
    assert result.errors == errors
    assert result.figures() == {"sent": 3, "lost": 3, "duplicates": 0, "lost_ratio": 1.0}
    assert result.values() == [math.inf] * 3
    with pytest.raises(ping.AllLost) as caught:
        assert result.rtt.p95 <= 5 * ms
    assert caught.value.problem == "there is no rtt: not one of 3 pings was answered"
    assert caught.value.found == (f"3 x {errors[0]}" if errors else "no ICMP error either")


@pytest.mark.parametrize(
    ("name", "error", "found"),
    [
        (f"{IPUTILS}-no-socket", ping.NotPermitted, "missing cap_net_raw"),
        (f"{BUSYBOX}-no-socket", ping.NotPermitted, "are you root"),
        (f"{BUSYBOX}-unprivileged", ping.NotPermitted, "are you root"),
        (f"{IPUTILS}-file-capabilities", ToolNotRunnableError, "Operation not permitted"),
        (f"{IPUTILS}-no-route", ping.Unreachable, "Network is unreachable"),
        (f"{BUSYBOX}-no-route", ping.Unreachable, "Network is unreachable"),
        (f"{IPUTILS}-no-name", ping.Unreachable, "name resolution"),
        (f"{IPUTILS}-too-fast", ping.BadOption, "minimal interval allowed for user is 2ms"),
        (f"{IPUTILS}-bad-option", ping.BadOption, "invalid option"),
        (f"{BUSYBOX}-bad-option", ping.BadOption, "invalid option"),
        (f"{IPUTILS}-ttl", ping.BadOption, "out of range"),
        (f"{IPUTILS}-killed", ping.CutOff, "exit status 124"),
        (f"{BUSYBOX}-killed", ping.CutOff, "exit status 124"),
        (f"{INETUTILS}-no-socket", ping.NotPermitted, "Lacking privilege for icmp socket"),
        (f"{INETUTILS}-no-route", ping.Unreachable, "Network is unreachable"),
        (f"{INETUTILS}-no-name", ping.Unreachable, "unknown host"),
        (f"{INETUTILS}-too-fast", ping.BadOption, "option value too small"),
        (f"{INETUTILS}-bad-option", ping.BadOption, "invalid option"),
        (f"{INETUTILS}-killed", ping.CutOff, "exit status 124"),
    ],
)
def test_a_run_that_measured_nothing_is_an_error(
    name: str, error: type[Exception], found: str
) -> None:
    with pytest.raises(error) as caught:
        parsed(name)
    assert found in caught.value.found  # type: ignore[attr-defined]
    assert caught.value.remedy  # type: ignore[attr-defined]


def test_what_a_pod_lacks_and_what_to_do_is_said() -> None:
    with pytest.raises(ping.NotPermitted) as caught:
        parsed(f"{IPUTILS}-no-socket")
    text = str(caught.value)
    assert text.startswith("ping may open no socket for ICMP where it ran\n")
    assert 'net.ipv4.ping_group_range = "0 65535"' in text
    assert "capability NET_RAW" in text


def test_a_pod_whose_group_may_ping_needs_no_capability() -> None:
    assert parsed(f"{IPUTILS}-unprivileged").received == 3


@pytest.mark.parametrize("found", recordings("ping"), ids=lambda one: one.name)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_output_that_is_cut_off_is_no_result(found: Recording, share: float) -> None:
    text = found.text[: int(len(found.text) * share)].rsplit("packets transmitted", 1)[0]
    with pytest.raises((ping.PingError, ToolNotRunnableError)):
        Ping().parse(Output(stdout=text, stderr=found.stderr, exit_code=found.exit_code), OPTIONS)


def test_statistics_without_their_answers_are_no_result() -> None:
    told = output(f"{IPUTILS}-ok")
    quiet = Output(stdout=told.stdout[told.stdout.index("---") :], exit_code=0)
    with pytest.raises(ping.Garbage, match="contradicts itself") as caught:
        Ping().parse(quiet, OPTIONS)
    assert caught.value.found == "0 answers; 5 packets transmitted, 5 received"


def test_what_is_echoed_went_both_ways() -> None:
    result = parsed(f"{IPUTILS}-large", PingOptions(address="10.9.0.2", size_bytes=1400))
    assert Ping().payload(result) == Payload(to_server_bytes=4200, to_client_bytes=4200)


def test_the_record_has_every_time_and_its_statistics() -> None:
    measured = Ping().measured(parsed(f"{BUSYBOX}-ok"))
    text = recording("ping", f"{BUSYBOX}-ok.txt").text
    times = [float(word) / 1000 for word in re.findall(r"time=(\S+)", text)]
    assert len(times) == 5
    assert measured.figures["rtt_p95_seconds"] == pytest.approx(max(times))
    assert measured.distribution is not None
    assert measured.distribution["rtt_seconds"] == pytest.approx(times)
    sources = {column.source for column in TOOLS["ping"].columns}
    assert sources <= {*measured.figures, *measured.distribution}


def test_the_command_line() -> None:
    options = PingOptions(address="fd00::1", count=100, interval_seconds=0.05, size_bytes=1400)
    assert Ping().argv(options) == (
        *("timeout", "-k", "2", "16.95", "ping", "-c", "100", "-i", "0.05"),
        *("-s", "1400", "-W", "2", "fd00::1"),
    )


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"address": "-c"}, "no IP address: '-c'"),
        ({"address": "10.0.0.1 -f"}, "no IP address"),
        ({"count": 0}, "count=0 is no whole number from 1 to 10000"),
        ({"count": True}, "count=True is no whole number"),
        ({"size_bytes": 8}, "size_bytes=8 is no whole number from 16 to 65507"),
        ({"wait_seconds": 0.5}, "wait_seconds=0.5 is no whole number from 1 to 60"),
        ({"interval_seconds": 0}, "interval_seconds=0 is not from 0.002 to 60"),
    ],
)
def test_what_ping_cannot_take_is_refused(changes: dict[str, object], problem: str) -> None:
    options: dict[str, object] = {"address": "10.0.0.1", **changes}
    with pytest.raises(SettingsError) as caught:
        PingOptions(**options)  # type: ignore[arg-type]
    assert problem in caught.value.problem


def test_a_result_is_printed_in_a_line() -> None:
    assert repr(parsed(f"{IPUTILS}-unreachable")) == (
        "PingResult(3 sent, 3 lost, 3 x Destination Host Unreachable)"
    )
    assert repr(parsed(f"{IPUTILS}-ok")).startswith("PingResult(5 sent, 0 lost, Distribution(rtt:")


@pytest.mark.parametrize("busybox", [False, True])
def test_the_ping_of_this_machine_is_understood(busybox: bool) -> None:
    options = PingOptions(address="127.0.0.1", count=3, interval_seconds=0.01)
    argv = list(Ping().argv(options))
    if busybox:
        argv.insert(argv.index("ping"), "busybox")
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    try:
        result = Ping().parse(
            Output(stdout=done.stdout, stderr=done.stderr, exit_code=done.returncode), options
        )
    except (ping.NotPermitted, ToolNotRunnableError) as exc:
        pytest.skip(f"no ping for this user: {exc.problem}")
    except Exception:
        if done.returncode == 127:
            pytest.skip("needs ping and busybox: apt-get install iputils-ping busybox")
        raise
    assert (result.sent, result.lost) == (3, 0)
    assert 0 < float(result.rtt.median) < 1
