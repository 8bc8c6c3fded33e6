"""From what iperf3 printed to one document: plain -J, --json-stream, or the reason for neither."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.errors import K8sNetError, quote
from pytest_k8snet.tools.fields import printable
from pytest_k8snet.tools.iperf3.errors import (
    BadOption,
    CutOff,
    Empty,
    Garbage,
    Interrupted,
    error_of,
    messages_on_stderr,
)
from pytest_k8snet.tools.process import missing_program, was_killed

#: 3.9 prints these twice in a bidirectional test; later versions name the second like this.
_SUMS = frozenset({"sum", "sum_sent", "sum_received"})
_REVERSE = "_bidir_reverse"
#: Holds every value of a repeated ``error`` key: 3.22 gives the server's and the client's.
_ERRORS = "error (all)"
#: A decoder that fails this close to the end has met a cut, not garbage.
_CUT_DISTANCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the process ended, besides what it printed on stdout."""

    stderr: str = ""
    exit_code: int | None = None

    @property
    def note(self) -> str:
        """One phrase on the exit status where it says something."""
        if was_killed(self.exit_code):
            return f"stopped from outside, exit status {self.exit_code}"
        return ""


def read_document(text: str, ending: Ending) -> dict[str, Any]:
    """Read iperf3's one document: ``start``, ``intervals``, ``end``.

    Raises:
        Iperf3Error: there is none, or it speaks of an error.
        ToolMissingError: iperf3 is not installed.
    """
    parts = _decode(text, ending)
    said = [message for part in parts for message in _errors_in(part)]
    said += messages_on_stderr(ending.stderr)
    if said:
        raise error_of(said, note=ending.note)
    return _one(parts, ending)


def _decode(text: str, ending: Ending) -> list[dict[str, Any]]:
    text = text.strip()
    if not text.startswith("{"):
        raise _no_document(text, ending)
    decoder = json.JSONDecoder(object_pairs_hook=_keep_repeated)
    parts: list[dict[str, Any]] = []
    position = 0
    while position < len(text):
        try:
            part, position = decoder.raw_decode(text, position)
        # RecursionError: nested too deeply; ValueError: also a number of too many digits.
        except (ValueError, RecursionError) as exc:
            raise _undecodable(text, exc, ending) from None
        if not isinstance(part, dict):
            raise _garbage("a JSON value that is no object", text)
        parts.append(part)
        while position < len(text) and text[position].isspace():
            position += 1
    return parts


def _keep_repeated(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for key, value in pairs:
        if key == "error":
            merged.setdefault(_ERRORS, []).append(value)
        elif key in merged and key in _SUMS:
            merged[key + _REVERSE] = value
        else:
            merged[key] = value
    return merged


def _errors_in(part: dict[str, Any]) -> list[str]:
    errors = list(part.get(_ERRORS, ()))
    if part.get("event") == "error":
        errors.append(part.get("data"))
    return [printable(error) if isinstance(error, str) else repr(error) for error in errors]


def _one(parts: list[dict[str, Any]], ending: Ending) -> dict[str, Any]:
    documents = [part for part in parts if "event" not in part]
    if len(documents) == 1:
        return documents[0]
    if documents:
        raise Garbage(
            f"{len(documents)} iperf3 documents in a row where one was expected",
            found="the output of a server that served several tests, or of several runs",
            remedy="parse each run's output by itself",
        )
    events = [(part["event"], part.get("data")) for part in parts]
    if not any(name == "end" for name, _ in events):
        raise cut_off("its event stream has no end event", ending)
    return {
        "start": next((data for name, data in events if name == "start"), None),
        "intervals": [data for name, data in events if name == "interval"],
        "end": next(data for name, data in events if name == "end"),
    }


def _no_document(text: str, ending: Ending) -> K8sNetError:
    missing = missing_program("iperf3", ending.stderr, ending.exit_code)
    if missing is not None:
        return missing
    said = messages_on_stderr(ending.stderr)
    if text.startswith(("Usage:", "iperf3: ")) and not said:
        said = messages_on_stderr(text) or [text.split("\n", 1)[0]]
    if said:
        return error_of(said, note=ending.note)
    if text:
        return _garbage("text that is no JSON", text)
    if was_killed(ending.exit_code):
        return Interrupted(
            "iperf3 was stopped before it printed anything",
            found=ending.note,
            remedy="it most often hangs on a server that accepts connections and does not "
            "answer: check that the server's process runs, and the path's MTU",
        )
    status = "" if ending.exit_code is None else f", exit status {ending.exit_code}"
    return Empty(
        "iperf3 printed nothing",
        found=ending.stderr.strip() or f"empty stdout and stderr{status}",
        remedy="a server prints nothing when its idle timeout ends it; a client that was "
        "killed prints nothing either",
    )


def _undecodable(text: str, exc: Exception, ending: Ending) -> K8sNetError:
    said = messages_on_stderr(ending.stderr)
    if said:
        return error_of(said, note=ending.note)
    if "\nUsage: iperf3" in text:
        return BadOption("iperf3 printed its usage", found=text, remedy="check the options")
    if isinstance(exc, json.JSONDecodeError) and (
        exc.pos >= len(text) - _CUT_DISTANCE or exc.msg.startswith("Unterminated string")
    ):
        return cut_off("the JSON ends in the middle", ending, tail=text[-120:])
    return _garbage(f"JSON that cannot be read ({exc or type(exc).__name__})", text)


def cut_off(how: str, ending: Ending, *, tail: str = "") -> K8sNetError:
    """Make the error for output that stops before its end."""
    found = "; ".join(part for part in (how, ending.note) if part)
    if tail:
        found += f"; it ends with: {tail}"
    return CutOff(
        "iperf3's output is cut off",
        found=found,
        remedy="the process or the connection to it was ended early: look for an eviction, "
        "an out-of-memory kill or a time limit",
    )


def _garbage(what: str, text: str) -> Garbage:
    return Garbage(
        f"iperf3's output is {what}",
        found=quote(printable(text), 300),
        remedy="something else wrote to stdout (a wrapper, a shell profile), or this is not "
        "the output of iperf3 -J",
    )
