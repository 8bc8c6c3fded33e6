"""Every recorded answer, word for word: what a client reads, and programs decide by."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .recording import (
    Exchange,
    Play,
    comparable,
    managers,
    recorded,
    recording,
    told,
    unequal,
)
from .scenes import SCENES


def exchanges(*stems: str) -> pytest.MarkDecorator:
    """A test for each exchange of the recordings."""
    found = [(stem, one) for stem in stems for one in recording(stem)]
    return pytest.mark.parametrize(
        ("stem", "exchange"), found, ids=[f"{stem}: {one.name}" for stem, one in found]
    )


def _play(played: Callable[[str], Play], stem: str, exchange: Exchange) -> Play:
    play = played(stem)
    if exchange.name in play.skipped:
        pytest.skip(play.skipped[exchange.name])
    return play


@exchanges(*(stem for stem in SCENES if stem != "exec"))
def test_an_answer_is_as_recorded(
    played: Callable[[str], Play], stem: str, exchange: Exchange
) -> None:
    play = _play(played, stem, exchange)
    wanted = recorded(play.expected(exchange), form=exchange.form_only)
    found = told(play.answers[exchange.name], form=exchange.form_only)
    assert not list(unequal(found, wanted)), "\n".join(unequal(found, wanted))


@exchanges("managed-fields")
def test_the_managers_of_fields_are_as_recorded(
    played: Callable[[str], Play], stem: str, exchange: Exchange
) -> None:
    play = _play(played, stem, exchange)
    wanted = managers(play.expected(exchange)["body"])
    found = managers(play.answers[exchange.name].body)
    assert not list(unequal(found, wanted)), "\n".join(unequal(found, wanted))


@exchanges("exec")
def test_a_stream_is_as_recorded(
    played: Callable[[str], Play], stem: str, exchange: Exchange
) -> None:
    play = _play(played, stem, exchange)
    wanted, found = play.expected(exchange), play.answers[exchange.name]
    frames = wanted.pop("frames", None)
    if frames is None:
        wanted["content type"] = wanted.pop("headers", {}).get("content-type", "")
    else:
        wanted = {
            "status": 101,
            "subprotocol": wanted["subprotocol"],
            "first": (1, b""),
            "error": next(frame["json"] for frame in frames if "json" in frame),
            "close": frames[-1]["close"],
        }
        for channel in ("stdout", "stderr"):
            data = [frame["data"] for frame in frames if frame.get("channel") == channel]
            # What a terminal says last may be lost on the way, and was once.
            if not (exchange.what == "terminal" and channel == "stdout"):
                wanted[channel] = "".join(data)
            else:
                del found[channel]
    found, wanted = comparable(found), comparable(wanted)
    assert not list(unequal(found, wanted)), "\n".join(unequal(found, wanted))
