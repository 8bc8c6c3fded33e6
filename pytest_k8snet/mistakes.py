"""What a test's author has misspelt or miscalled: told with what there is, and what comes near.

No promise is missed where a name is wrong: such a test is an ERROR. Imported where a test fails.
"""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from types import TracebackType

from pytest_k8snet.errors import SettingsError

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Where a TypeError is meant for the author of a test; anywhere else it is a fault of our own.
_REFUSING = (f"{_HERE}units.py", f"{_HERE}verdict{os.sep}")
#: Python's words for a call that does not fit: what was called, and what is wrong.
_MISCALLED = re.compile(r"^(?P<name>[\w.<>]+)\(\) (?:got|missing|takes)\b")
_UNEXPECTED = re.compile(r"unexpected keyword argument '(?P<word>\w+)'")


def mistake_of(error: BaseException) -> SettingsError | None:
    """Return a test's mistake in how it uses this package, as an error that lists what there is."""
    if isinstance(error, AttributeError):
        return _misspelt(error)
    if isinstance(error, TypeError):
        return _miscalled(error)
    return None


def _misspelt(error: AttributeError) -> SettingsError | None:
    owner = type(error.obj)
    if not owner.__module__.startswith("pytest_k8snet."):
        return None
    names = [name for name in dir(error.obj) if not name.startswith("_")]
    return SettingsError(
        f"{owner.__name__} has no {error.name!r}", remedy=_choice(error.name or "", names)
    )


def _miscalled(error: TypeError) -> SettingsError | None:
    text = str(error)
    if _raised_here(error.__traceback__):
        # A bare number beside a unit, a gate that is divided by one: it says what to write.
        problem, _, remedy = text.partition(": ")
        return SettingsError(problem, remedy=remedy)
    called = _MISCALLED.match(text)
    function = _function(called["name"]) if called is not None else None
    if called is None or function is None:
        return None
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    word = _UNEXPECTED.search(text)
    return SettingsError(text, remedy=_choice(word["word"] if word else "", names))


def _choice(word: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, names, n=3)
    return (f"perhaps {' or '.join(near)}; " if near else "") + f"there are {', '.join(names)}"


def _raised_here(traceback: TracebackType | None) -> bool:
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    where = traceback.tb_frame.f_code.co_filename if traceback is not None else ""
    return where.startswith(_REFUSING)


def _function(qualified_name: str) -> Callable[..., object] | None:
    """Return the function of this package that has a qualified name."""
    first, *rest = qualified_name.split(".")
    for name, module in list(sys.modules.items()):
        if not name.startswith("pytest_k8snet."):
            continue
        found = getattr(module, first, None)
        for part in rest:
            found = getattr(found, part, None)
        if inspect.isroutine(found) and found.__module__.startswith("pytest_k8snet."):
            return found
    return None
