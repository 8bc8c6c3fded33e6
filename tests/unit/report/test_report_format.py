from __future__ import annotations

import pytest

from pytest_k8snet.report.charts import element
from pytest_k8snet.report.format import (
    bit_unit,
    clipped,
    columns,
    duration,
    in_unit,
    moment,
    padded,
    percent,
    significant,
    squeezed,
    time_unit,
    visible,
    visible_line,
)


def test_ordinary_text_stays_as_it_is() -> None:
    assert visible("pod-pod, Knoten Größe 5 µs 漢字") == "pod-pod, Knoten Größe 5 µs 漢字"


@pytest.mark.parametrize(
    ("hidden", "shown"),
    [
        ("\x1b[31m", "\\x1b[31m"),
        ("\x9b31m", "\\x9b31m"),
        ("a\rb", "a\\x0db"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\u200bb", "a\\u200bb"),
        ("\u2028", "\\u2028"),
        ("\udcff", "\\udcff"),
        ("\U000e0041", "\\U000e0041"),
        ("a\u3164b", "a\\u3164b"),
        ("a\u00a0b", "a b"),
    ],
)
def test_hidden_characters_are_shown(hidden: str, shown: str) -> None:
    assert visible(hidden) == shown


def test_line_breaks_and_tabs_stay_but_in_one_line_they_are_shown() -> None:
    assert visible("a\r\n\tb") == "a\n\tb"
    assert visible_line("a\n\tb") == "a\\n\\tb"


def test_a_long_text_is_cut_and_says_how_much() -> None:
    assert visible("x" * 10_240, 240) == "x" * 240 + " … (10,000 more characters)"
    assert visible("x" * 240, 240) == "x" * 240


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1
    assert padded("漢", 4) == "漢  "
    assert clipped("漢字漢字", 5) == "漢字…"
    assert clipped("short", 5) == "short"


def test_an_element_escapes_text_and_attributes_but_not_markup() -> None:
    made = element("text", "<b>", element("g", "&"), title='"<\x1b')
    assert made == '<text title="&#34;&lt;\\x1b">&lt;b&gt;<g>&amp;</g></text>'


def test_an_attribute_that_is_none_is_left_out() -> None:
    assert element("line", x1=1.04, stroke_width=None) == '<line x1="1"></line>'


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2.8512, "2.85"), (0.9783, "0.978"), (21.44, "21.4"), (284.2, "284"), (12345.6, "12,346")],
)
def test_figures_have_three_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_a_table_has_one_unit() -> None:
    unit = bit_unit([2.85e9, 9.78e8])
    assert (unit.number(9.78e8), unit.name) == ("0.978", "Gbit/s")
    assert time_unit([0.0025]).text(0.0005) == "0.500 ms"


@pytest.mark.parametrize(
    ("share", "shown"),
    [(-0.618, "\u221261.8 %"), (0.072, "7.2 %"), (0.0001, "0.010 %"), (0.0, "0 %")],
)
def test_percentages_have_few_digits(share: float, shown: str) -> None:
    assert percent(share) == shown


def test_no_figure_is_a_dash() -> None:
    assert in_unit(None, "s") == percent(None) == duration(None) == "\u2013"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0.4 s"), (42, "42 s"), (200, "3 min 20 s"), (3600, "1 h"), (3900, "1 h 5 min")],
)
def test_durations_read_as_people_say_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_a_moment_is_utc() -> None:
    assert moment("2026-11-23T01:02:03.456Z") == "2026-11-23 01:02:03 UTC"
    assert moment(None) == "\u2013"


@pytest.mark.parametrize("width", [9, 20, 44])
def test_a_long_claim_keeps_both_ends(width: int) -> None:
    claim = "connect p95 of node node1 -> http://10.96.0.64/漢字/index.html <= 20 ms"
    shown = squeezed(claim, width)
    assert columns(shown) <= width
    head, tail = shown.split("…")
    assert claim.startswith(head)
    assert claim.endswith(tail)
    assert tail.endswith("20 ms"[-(width // 2 - 1) :])
    assert squeezed("short", width) == "short"


@pytest.mark.parametrize("width", [44, 50, 57])
def test_of_a_claim_too_long_for_its_column_the_whole_limit_and_mode_stay(width: int) -> None:
    claim = "pod-pod, cross-subnet / node-node >= 0.90 [VXLAN-CrossSubnet]"
    shown = squeezed(claim, width)
    assert columns(shown) == width
    assert shown.endswith("… >= 0.90 [VXLAN-CrossSubnet]")
    assert shown.startswith("pod-pod")
