from __future__ import annotations

from collections.abc import Sequence

import pytest

from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.errors import (
    CalicoError,
    CurlError,
    DisruptionError,
    K8sNetError,
    NotConvergedError,
    NotRecoveredError,
)
from pytest_k8snet.measure.disruption import DisruptionWatch, SwitchCost, account, require_no_worse
from pytest_k8snet.tools.schedule import Attempt, SteadyExchange
from pytest_k8snet.units import Seconds, ms, second

EXCHANGE = SteadyExchange(url="http://10.0.0.1/", name="test")


def seen(*answers: float | None) -> SwitchCost:
    """What ten requests per second make of these answering times; None for a lost request."""
    attempts = [
        Attempt(
            due_seconds=index / 10,
            answered_seconds=None if answer is None else index / 10 + answer,
        )
        for index, answer in enumerate(answers)
    ]
    return account(attempts, EXCHANGE, what="entering Never")


def test_an_undisturbed_exchange_loses_nothing() -> None:
    cost = seen(0.002, 0.003, 0.002)
    assert (cost.requests, cost.lost) == (3, 0)
    assert cost.longest_gap == pytest.approx(3 * ms)
    assert cost.seconds == pytest.approx(0.2 * second)


def test_lost_requests_make_a_gap_until_the_next_answer() -> None:
    cost = seen(0.002, None, None, None, 0.002, 0.002)
    assert (cost.requests, cost.lost) == (6, 3)
    # From the first unanswered request, due at 0.1 s, to the answer of that due at 0.4 s.
    assert cost.longest_gap == pytest.approx(302 * ms)


def test_a_stall_that_all_requests_wait_out_is_a_gap_without_a_loss() -> None:
    cost = seen(0.002, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.002)
    assert cost.lost == 0
    assert cost.longest_gap == pytest.approx(800 * ms)


def test_a_gap_ends_with_a_later_requests_answer_though_an_earlier_one_still_waits() -> None:
    assert seen(0.002, 0.9, 0.002, 0.002).longest_gap == pytest.approx(102 * ms)


@pytest.mark.parametrize(
    "answers", [(0.002, None, None), (None, None), (0.002, None, 0.002, None, None)]
)
def test_a_gap_that_was_open_at_the_end_is_no_figure(answers: tuple[float | None, ...]) -> None:
    with pytest.raises(
        NotRecoveredError, match=r"had not recovered .* after entering Never"
    ) as told:
        seen(*answers)
    assert f"{answers.count(None)} of {len(answers)} requests were lost" in told.value.found


def test_a_single_request_that_is_lost_at_the_end_counts_for_as_long_as_it_was_waited_for() -> None:
    cost = seen(0.002, 0.002, None)
    assert cost.lost == 1
    assert cost.longest_gap == pytest.approx(1 * second)


def test_the_time_without_an_answer_is_told_from_the_last_answer_on() -> None:
    with pytest.raises(NotRecoveredError, match=r"had not recovered 1\.2 s after"):
        seen(0.002, None, None)


def cost(lost: int, gap_seconds: float) -> SwitchCost:
    return SwitchCost(
        what="a switch",
        requests=50,
        lost=lost,
        longest_gap=Seconds(gap_seconds),
        seconds=Seconds(5),
    )


def test_a_way_back_that_is_no_worse_than_the_worst_way_there_is_accepted() -> None:
    require_no_worse(cost(3, 3.4), [cost(0, 0.2), cost(3, 2.9)])


@pytest.mark.parametrize(
    ("back", "found"),
    [
        (
            cost(4, 0.2),
            "4 of 50 requests lost, longest gap 200 ms; the worst that a test was told: ",
        ),
        (
            cost(0, 1.3),
            "0 of 50 requests lost, longest gap 1.3 s; the worst that a test was told: ",
        ),
        (CalicoError("no curl"), "no curl"),
        (None, "it was not watched"),
    ],
)
def test_a_way_back_that_is_worse_or_unknown_is_no_success(
    back: SwitchCost | K8sNetError | None, found: str
) -> None:
    with pytest.raises(DisruptionError, match="cost other pods more") as told:
        require_no_worse(back, [cost(3, 0.2)])
    assert told.value.found.startswith(found)


def test_the_longest_of_several_gaps_counts() -> None:
    assert seen(None, 0.002, None, None, 0.002, None, 0.002).longest_gap == pytest.approx(202 * ms)


def test_a_failed_assertion_names_the_switch_and_what_it_cost() -> None:
    cost = seen(0.002, None, None, None, 0.002)
    said = "SwitchCost(entering Never: 3 of 5 requests lost, longest gap 302 ms)"
    assert repr(cost) == said


class Pod:
    """A client pod whose commands print what the test says."""

    def __init__(self, *, http_code: int = 200, seen_seconds: float = 60.0, start: int = 0) -> None:
        code = 0 if http_code else 7
        self._asked = (
            f'{{"http_code":{http_code},"exitcode":{code},"errormsg":null,"time_total":0.002,'
            '"time_namelookup":0,"time_connect":0.001,"time_pretransfer":0.001,'
            '"time_starttransfer":0.002,"time_appconnect":0,"num_connects":1,'
            '"curl_version":"libcurl/8.9.1"}\n'
        )
        count = round(seen_seconds * 10)
        lines = [f"{number} 0 0 200 0.002\n" for number in range(1, count + 1)]
        self.written = "".join(lines) + f"end {count}\n"
        self._start = start

    def __call__(self, argv: Sequence[str]) -> Completed:
        said, code = self._asked, 0
        if "k8snet-start" in argv:
            said, code = "", self._start
        elif "k8snet-stop" in argv:
            said = self.written
        return Completed(argv=tuple(argv), exit_code=code, stdout=said, stderr="", seconds=0.1)


def watch(pod: Pod) -> DisruptionWatch:
    return DisruptionWatch(pod, EXCHANGE.url, what="entering Never")


def test_a_watch_that_saw_everything_has_a_cost() -> None:
    watching = watch(Pod(seen_seconds=60))
    watching.start()
    assert str(watching.stop()) == "0 of 600 requests lost, longest gap 2 ms"


def test_a_watch_that_saw_less_than_the_switch_took_is_refused() -> None:
    watching = watch(Pod(seen_seconds=0))
    watching.start()
    with pytest.raises(CalicoError, match="Not the whole switch was watched") as caught:
        watching.stop()
    assert "it watched for 0 s of " in caught.value.found


def test_a_client_that_did_not_come_to_its_end_is_an_error() -> None:
    pod = Pod()
    pod.written = "1 0 0 200 0.002\n"
    watching = watch(pod)
    watching.start()
    with pytest.raises(CurlError, match="did not come to its end"):
        watching.stop()


def test_an_exchange_that_never_worked_is_refused_before_the_switch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ten seconds of patience would be ten seconds of this test.
    monkeypatch.setattr("pytest_k8snet.measure.disruption._READY_SECONDS", 0.0)
    with pytest.raises(NotConvergedError, match="while nothing is switched") as caught:
        watch(Pod(http_code=0)).start()
    assert "http://10.0.0.1/: 1 x " in caught.value.found


def test_a_client_that_cannot_be_started_is_an_error() -> None:
    with pytest.raises(CalicoError, match="watches for disruption cannot be started") as caught:
        watch(Pod(start=1)).start()
    assert caught.value.found == "exit status 1"
