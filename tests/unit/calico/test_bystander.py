from __future__ import annotations

import pytest

from pytest_k8snet.calico.bystander import Bystander, SwitchCost, account, total_cost
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.errors import CalicoError
from pytest_k8snet.tools.curl import CurlOptions
from pytest_k8snet.tools.curl.request import CurlRequest
from pytest_k8snet.tools.schedule import Schedule, ScheduledSamples, Slot
from pytest_k8snet.units import Seconds, ms, second

TEN_PER_SECOND = 10.0


def slot(total: float | None) -> Slot:
    """An answer after so many seconds; None for a lost request."""
    time = Seconds(total if total is not None else 1.0)
    return Slot(
        late=Seconds(0),
        request=CurlRequest(
            namelookup=Seconds(0),
            connect=time,
            pretransfer=time,
            starttransfer=time,
            total=time,
            http_code=200 if total is not None else 0,
            exit_code=0 if total is not None else 28,
            succeeded=total is not None,
            num_connects=1,
        ),
    )


def piece(*totals: float | None) -> tuple[Schedule, ScheduledSamples]:
    due = tuple(index / TEN_PER_SECOND for index in range(len(totals)))
    options = CurlOptions(url="http://10.0.0.1/", requests=len(totals))
    slots = tuple(map(slot, totals))
    return Schedule(options=options, due_seconds=due), ScheduledSamples(slots=slots)


def test_an_undisturbed_exchange_loses_nothing() -> None:
    cost = account([piece(0.002, 0.003, 0.002)], TEN_PER_SECOND)
    assert (cost.requests, cost.lost) == (3, 0)
    assert cost.longest_gap < 5 * ms
    assert str(cost) == "0 of 3 requests lost, longest gap 3 ms"


def test_lost_requests_make_a_gap_until_the_next_answer() -> None:
    cost = account([piece(0.002, None, None, None, 0.002, 0.002)], TEN_PER_SECOND)
    assert (cost.requests, cost.lost) == (6, 3)
    # From the first unanswered request, due at 0.1 s, to the answer of that due at 0.4 s.
    assert float(cost.longest_gap) == pytest.approx(0.302)


def test_a_late_answer_is_a_gap_without_a_loss() -> None:
    cost = account([piece(0.002, 0.8, 0.7, 0.002)], TEN_PER_SECOND)
    assert cost.lost == 0
    assert float(cost.longest_gap) == pytest.approx(0.8)


def test_a_gap_goes_on_over_the_seam_of_two_slices() -> None:
    cost = account([piece(0.002, None), piece(None, 0.002)], TEN_PER_SECOND)
    assert float(cost.longest_gap) == pytest.approx(0.202)


def test_silence_to_the_end_counts_as_far_as_it_was_watched() -> None:
    cost = account([piece(0.002, None, None)], TEN_PER_SECOND)
    assert float(cost.longest_gap) == pytest.approx(0.2)


def test_a_request_that_the_client_missed_says_nothing() -> None:
    wanted, samples = piece(0.002, 0.002)
    slots = (samples.slots[0], Slot())
    cost = account([(wanted, ScheduledSamples(slots=slots))], TEN_PER_SECOND)
    assert (cost.requests, cost.lost) == (1, 0)


def test_costs_add_up_and_the_longest_gap_stays_the_longest() -> None:
    one = SwitchCost(requests=10, lost=1, longest_gap=1 * second, seconds=2 * second)
    other = SwitchCost(requests=10, lost=2, longest_gap=3 * second, seconds=2 * second)
    assert total_cost([one, other]) == SwitchCost(
        requests=20, lost=3, longest_gap=3 * second, seconds=4 * second
    )


def test_an_exchange_that_never_worked_is_refused_before_the_switch() -> None:
    def dead(argv: object) -> Completed:
        lines = "\n".join(f"{n} 0 7 000 0 0 0 0 0 0 0.001 0 " for n in range(1, 21))
        return Completed(argv=(), exit_code=0, stdout=lines, stderr="", seconds=2.0)

    bystander = Bystander(dead, "http://10.0.0.1/")
    with pytest.raises(CalicoError, match="even while nothing is switched"):
        bystander.__enter__()
