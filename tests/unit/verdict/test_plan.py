from __future__ import annotations

import pytest

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict import Plan


def test_defaults_are_those_of_the_documentation() -> None:
    plan = Plan()
    assert (plan.first, plan.last, plan.seconds, plan.omit_seconds) == (4, 20, 5, 1)
    assert (plan.alpha, plan.warmup_pairs, plan.monitor) == (0.05, 1, False)
    assert (
        str(plan)
        == "4 to 20 pairs x 5 s (+ 1 s omitted), 0.05 risk each side, to survive one 35 % off"
    )


def test_a_text_changes_what_it_names() -> None:
    plan = Plan.parse("last=12, seconds=3s omit=0,budget=10min alpha=0.01 seed=7 warmup=0")
    assert plan == Plan(
        last=12,
        seconds=3,
        omit_seconds=0,
        budget_seconds=600.0,
        alpha=0.01,
        seed=7,
        warmup_pairs=0,
    )
    assert str(plan).endswith(", within 600 s")


def test_a_guard_that_was_changed_is_told_with_the_plan() -> None:
    plan = Plan.parse("idle=0 steal=0.5 monitor=yes")
    assert str(plan).endswith(
        ", to survive one 35 % off, nodes 0% idle before a sample, 50% stolen at most, "
        "monitored only"
    )


def test_a_text_goes_over_another_plan() -> None:
    base = Plan(last=12, seed=7)
    plan = Plan.parse("seed=none requests=600 rate=20 idle=0.5 monitor=yes", base)
    assert plan == Plan(
        last=12,
        seed=None,
        requests=600,
        requests_per_second=20,
        least_idle=0.5,
        monitor=True,
    )
    assert str(plan).endswith(
        "600 requests at most, nodes 50% idle before a sample, monitored only"
    )


def test_an_empty_text_changes_nothing() -> None:
    assert Plan.parse("  ") == Plan()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("pairs=4", "the plan has no setting 'pairs=4'"),
        ("last", "the plan has no setting 'last'"),
        ("last=many", "the plan's last cannot be 'many'"),
        ("seconds=1.5s", "the plan's seconds cannot be '1.5s'"),
        ("budget=soon", "the plan's budget cannot be 'soon'"),
        ("monitor=perhaps", "the plan's monitor cannot be 'perhaps'"),
        ("first=2", "the plan cannot work: first must be 3 or more"),
        ("first=9 last=8", "the plan cannot work: last must be first (9) or more"),
        ("last=500", "the plan cannot work: last must be 120 or less"),
        ("seconds=0", "the plan cannot work: seconds must be 1 or more"),
        ("omit=-1", "the plan's omit cannot be '-1'"),
        ("alpha=0", "the plan cannot work: alpha must be above 0 and at most 0.25"),
        ("alpha=0.5", "the plan cannot work: alpha must be above 0 and at most 0.25"),
        ("alpha=nan", "the plan cannot work: alpha must be above 0 and at most 0.25"),
        ("outlier=1", "the plan cannot work: outlier must be from 0 to below 1"),
        ("warmup=-1", "the plan cannot work: warmup must be 0 or more"),
        ("requests=0", "the plan cannot work: requests must be 1 or more"),
        ("idle=1.1", "the plan cannot work: idle must be from 0 to 1"),
        ("rate=0", "the plan cannot work: rate must be above 0, at most 1000"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(text: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Plan.parse(text)
    assert caught.value.problem == problem


def test_a_budget_below_the_first_look_is_refused_with_the_sum() -> None:
    with pytest.raises(SettingsError) as caught:
        Plan(budget_seconds=40)
    assert str(caught.value) == (
        "the plan cannot decide anything within its time budget\n"
        "  found: budget 40 s, but the first look comes after 4 pairs of 2 x 6 s = 48 s\n"
        "  to do: raise the budget, or shorten the samples (seconds=...)"
    )


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(SettingsError, match="the plan has no field 'pairs'"):
        Plan().with_changes(pairs=3)
    assert Plan().with_changes(last=6).last == 6


def test_a_plan_survives_its_record() -> None:
    plan = Plan(last=12, budget_seconds=600.0, seed=3)
    assert Plan.from_record({**plan.to_record(), "added by a later version": 1}) == plan


def test_spells_that_must_not_be_missed_bring_the_pairs_that_they_need() -> None:
    plan = Plan.parse("spell=2min")
    assert (plan.first, plan.last, plan.spell_seconds) == (12, 30, 120.0)
    assert Plan.parse("spell=2min last=40").last == 40
    assert "spells of 120 s not to be missed" in str(plan)
    assert Plan.from_record(plan.to_record()) == plan
    with pytest.raises(SettingsError, match="first must be 12 or more, to meet spells of 120 s"):
        Plan.parse("spell=2min first=4")
