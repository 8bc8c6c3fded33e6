from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from pytest_k8snet.measure.run import interrupts_held_back


def interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers as a run has them."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def putting_back(*numbers: signal.Signals, trouble: Exception | None = None) -> list[str]:
    """What a block gets done while signals come."""
    done: list[str] = []
    try:
        with interrupts_held_back():
            for number in numbers:
                os.kill(os.getpid(), number)
                done.append(f"went on after {number.name}")
            if trouble is not None:
                raise trouble
    except KeyboardInterrupt as exc:
        done.append(f"ended by {exc}")
    return done


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_is_answered_after_the_block(number: signal.Signals) -> None:
    went_on = f"went on after {number.name}"
    assert putting_back(number, number) == [went_on, went_on, f"ended by {number.name}"]
    assert signal.getsignal(number) is interrupt


def test_trouble_in_the_block_is_told_rather_than_the_request_to_end() -> None:
    with pytest.raises(ValueError, match="not put back"):
        putting_back(signal.SIGTERM, trouble=ValueError("not put back"))


def test_an_impatient_key_passes_and_the_next_one_ends_the_block() -> None:
    assert putting_back(signal.SIGINT) == ["went on after SIGINT"]
    assert putting_back(signal.SIGINT, signal.SIGINT) == [
        "went on after SIGINT",
        "ended by SIGINT",
    ]


def test_what_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    assert putting_back(signal.SIGTERM) == ["went on after SIGTERM"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
