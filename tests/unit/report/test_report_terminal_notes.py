"""What gates that passed warn of, and what their samples cannot show: told wherever a run is."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_k8snet.report.documents import markdown, render_fragment
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import notes_of_passes

TWO_GROUPS = "two groups: 8 and 12 of 20 pairs lie apart"
UNSEEN = (
    "0 of 4 pairs lay more than 10 % below the rest; a share of up to 53 % could have gone unseen"
)
CLAIM = "pod-pod / node-node >= 0.95"


def records(**verdict: Any) -> list[dict[str, Any]]:
    usual = {"kind": "verdict", "claim": CLAIM, "scene": "pod-pod", "mode": None, "baseline": None}
    return [{"kind": "run", "id": "r"}, {**usual, **verdict}]


@pytest.mark.parametrize(
    ("verdict", "told"),
    [
        ({"state": "pass", "found": "pass", "warnings": [], "unseen": UNSEEN}, [UNSEEN]),
        ({"state": "monitor", "found": "pass", "unseen": UNSEEN}, [UNSEEN]),
        ({"state": "pass", "found": "pass", "warnings": [TWO_GROUPS]}, [TWO_GROUPS]),
        ({"state": "monitor", "found": "fail", "unseen": UNSEEN}, []),
        ({"state": "fail", "found": "fail", "warnings": [TWO_GROUPS], "unseen": UNSEEN}, []),
        ({"state": "pass"}, []),
    ],
)
def test_a_pass_says_everywhere_what_it_does_not_show(
    verdict: dict[str, Any], told: list[str]
) -> None:
    made = records(**verdict)
    assert notes_of_passes(summarise(made).gates) == [f"{CLAIM}: {note}" for note in told]
    page, text = render_fragment(made), markdown(made)
    for note in (UNSEEN, TWO_GROUPS):
        assert (note in page) is (note in told)
        assert (note in text) is (note in told)
