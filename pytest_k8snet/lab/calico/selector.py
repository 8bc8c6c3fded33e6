"""Calico's selector language, as far as pools use it. Pure.

``all()``, ``has(label)``, ``label == 'value'``, ``label != 'value'``, ``label in { 'a', 'b' }``,
``label not in { ... }``, joined by ``&&`` and ``||``, negated by ``!``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_LABEL = r"[\w./-]+"
_SET = re.compile(rf"({_LABEL})\s+(not\s+in|in)\s*\{{([^}}]*)\}}")
_EQUAL = re.compile(rf"({_LABEL})\s*(==|!=)\s*['\"]([^'\"]*)['\"]")
_HAS = re.compile(rf"has\(\s*({_LABEL})\s*\)")


class SelectorError(ValueError):
    """Not a selector that the lab understands."""


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector picks something with these labels; an empty one picks everything.

    Raises:
        SelectorError: it cannot be read.
    """
    text = selector.strip()
    if not text:
        return True
    if "||" in text:
        return any(selects(part, labels) for part in text.split("||"))
    if "&&" in text:
        return all(selects(part, labels) for part in text.split("&&"))
    if text.startswith("!"):
        return not selects(text[1:], labels)
    return _term(text, labels)


def _term(text: str, labels: Mapping[str, str]) -> bool:
    if text in ("all()", "global()"):
        return True
    if match := _HAS.fullmatch(text):
        return match[1] in labels
    if match := _EQUAL.fullmatch(text):
        return (labels.get(match[1]) == match[3]) == (match[2] == "==")
    if match := _SET.fullmatch(text):
        values = {value.strip().strip("'\"") for value in match[3].split(",")}
        return (labels.get(match[1]) in values) == (match[2] == "in")
    raise SelectorError(f"not a selector that the lab understands: {text!r}")
