import json
import math

import pytest

from pytest_k8snet.units import BitRate, Gbit, Mbit, Ratio, Seconds, ms, second, us


def test_figures_print_with_their_unit_and_three_digits() -> None:
    assert str(2.85 * Gbit) == "2.85 Gbit/s"
    assert str(300 * Mbit) == "300 Mbit/s"
    assert str(BitRate(0)) == "0 bit/s"
    assert str(31.839 * ms) == "31.8 ms"
    assert str(1.5 * second) == "1.5 s"
    assert str(20 * us) == "20 us"


def test_a_quotient_of_like_figures_is_a_plain_ratio() -> None:
    ratio = (2.75 * Gbit) / (2.85 * Gbit)
    assert isinstance(ratio, Ratio)
    assert str(ratio) == "0.965"
    assert ratio >= 0.90


def test_sums_and_multiples_keep_the_unit() -> None:
    assert str(1 * Gbit + 500 * Mbit) == "1.5 Gbit/s"
    assert str(2 * second - 500 * ms) == "1.5 s"
    assert str((1 * Gbit) / 4) == "250 Mbit/s"
    assert str(sum([1 * ms, 2 * ms])) == "3 ms"
    assert max(1 * ms, 2 * ms) == 2 * ms


@pytest.mark.parametrize("compare", ["__lt__", "__le__", "__gt__", "__ge__"])
def test_a_bare_number_is_refused_with_the_way_to_write_it(compare: str) -> None:
    with pytest.raises(TypeError, match=r"bit rate \(5 Gbit/s\) and the bare number 900.*\* Mbit"):
        getattr(5 * Gbit, compare)(900)


def test_zero_and_infinity_need_no_unit() -> None:
    assert 5 * Gbit > 0
    assert 5 * ms < math.inf


def test_figures_of_different_dimensions_do_not_mix() -> None:
    with pytest.raises(TypeError, match="compare a bit rate"):
        assert 5 * Gbit > 5 * ms
    with pytest.raises(TypeError, match="the units differ"):
        (5 * Gbit) / (5 * ms)
    with pytest.raises(TypeError, match="no meaning"):
        (5 * Gbit) * (5 * ms)


def test_a_ratio_to_zero_is_an_error_and_not_infinity() -> None:
    with pytest.raises(ZeroDivisionError, match="says nothing"):
        (5 * Gbit) / BitRate(0)


def test_figures_are_plain_numbers_in_json() -> None:
    assert json.dumps({"rate": 2 * Gbit, "time": 5 * ms}) == '{"rate": 2000000000.0, "time": 0.005}'


@pytest.mark.parametrize(
    ("text", "bits_per_second"),
    [("300M", 3e8), ("2.5G", 2.5e9), ("1000", 1e3), ("10 Gbit/s", 1e10), ("5kbps", 5e3)],
)
def test_bit_rates_are_read(text: str, bits_per_second: float) -> None:
    assert float(BitRate.parse(text)) == bits_per_second


@pytest.mark.parametrize("text", ["", "fast", "-5M", "3 MB/s", "1e9", "٣M"])
def test_what_is_no_bit_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a bit rate"):
        BitRate.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5ms", 0.005), ("250 us", 0.00025), ("1.5s", 1.5), ("2min", 120.0), ("3", 3.0)],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert float(Seconds.parse(text)) == pytest.approx(seconds)


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="not a duration"):
        Seconds.parse("soon")


def test_a_missed_limit_explains_itself() -> None:
    ratio = (276 * Mbit) / (285 * Mbit)
    assert ratio.explain_comparison(">=", 0.98) == [
        "0.968 >= 0.98",
        "it is 276 Mbit/s / 285 Mbit/s",
        "the limit is missed: 1.2% below it",
    ]
    assert (12 * ms).explain_comparison("<=", 10 * ms) == [
        "12 ms <= 10 ms",
        "the limit is missed: 20.0% above it",
    ]
    assert (20.8 * ms).explain_comparison("<=", 1 * ms) == [
        "20.8 ms <= 1 ms",
        "the limit is missed: 20.8 times as much",
    ]
    assert ratio.explain_comparison("<=", 0.98, reflected=True) == [
        "0.968 >= 0.98",
        "it is 276 Mbit/s / 285 Mbit/s",
        "the limit is missed: 1.2% below it",
    ]
    assert ratio.explain_comparison("==", 1) is None


def test_approx_compares_figures_of_one_unit() -> None:
    assert 21 * Mbit == pytest.approx(20 * Mbit, rel=0.1)
    assert 21 * Mbit == pytest.approx(20 * Mbit, abs=2 * Mbit)
    assert 21 * Mbit != pytest.approx(20 * Mbit)
    with pytest.raises(TypeError, match="give it a unit"):
        assert 21 * Mbit == pytest.approx(20e6, rel=0.1)
    with pytest.raises(TypeError, match="cannot subtract a duration"):
        assert 21 * Mbit == pytest.approx(20 * ms, rel=0.1)


def test_a_missed_approximation_explains_itself() -> None:
    assert (25 * Mbit).explain_comparison("==", pytest.approx(20 * Mbit, rel=0.1)) == [
        "25 Mbit/s == 20 Mbit/s ± 2 Mbit/s",
        "it is 5 Mbit/s away",
    ]
