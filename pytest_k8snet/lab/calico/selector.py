"""Calico's selector language, as far as pools use it. Pure.

``all()``, ``global()``, ``has(label)``, ``label == 'value'``, ``label != 'value'``,
``label in { 'a', 'b' }``, ``label not in { ... }``; joined by ``&&``, which binds closer, and
``||``; negated by ``!``; grouped by parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\s*(?:(?P<mark>&&|\|\||==|!=|[!(){},])"
    r"|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\""
    r"|(?P<word>[\w./-]+))"
)
_END = ("end", "")


class SelectorError(ValueError):
    """Not a selector that the lab understands."""


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector picks something with these labels; an empty one picks everything.

    Raises:
        SelectorError: it cannot be read.
    """
    if not selector.strip():
        return True
    reader = _Reader(selector, labels)
    found = reader.either()
    reader.expect(_END)
    return found


class _Reader:
    """Reads and judges at once, from left to right."""

    def __init__(self, selector: str, labels: Mapping[str, str]) -> None:
        self._selector = selector
        self._labels = labels
        self._tokens = list(self._split(selector.rstrip()))

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error()
            position = match.end()
            kind = str(match.lastgroup)
            tokens.append(("value" if kind in ("single", "double") else kind, match[kind]))
        return [*tokens, _END]

    def _error(self) -> SelectorError:
        return SelectorError(f"not a selector that the lab understands: {self._selector!r}")

    def _take(self, token: tuple[str, str]) -> bool:
        if self._tokens[0] != token:
            return False
        del self._tokens[0]
        return True

    def expect(self, token: tuple[str, str]) -> None:
        """Pass over a token that must come now."""
        if not self._take(token):
            raise self._error()

    def _text(self, kind: str) -> str:
        found, text = self._tokens[0]
        if found != kind:
            raise self._error()
        del self._tokens[0]
        return text

    def either(self) -> bool:
        """Terms joined by ``||``."""
        found = self._both()
        while self._take(("mark", "||")):
            found = self._both() or found
        return found

    def _both(self) -> bool:
        found = self._single()
        while self._take(("mark", "&&")):
            found = self._single() and found
        return found

    def _single(self) -> bool:
        if self._take(("mark", "!")):
            return not self._single()
        if self._take(("mark", "(")):
            found = self.either()
            self.expect(("mark", ")"))
            return found
        word = self._text("word")
        if word in ("all", "global", "has") and self._take(("mark", "(")):
            found = word != "has" or self._text("word") in self._labels
            self.expect(("mark", ")"))
            return found
        return self._comparison(word)

    def _comparison(self, label: str) -> bool:
        value = self._labels.get(label)
        if self._take(("mark", "==")):
            return value == self._text("value")
        if self._take(("mark", "!=")):
            return value != self._text("value")
        wanted = not self._take(("word", "not"))
        self.expect(("word", "in"))
        return (value in self._values()) == wanted

    def _values(self) -> set[str]:
        self.expect(("mark", "{"))
        found = {self._text("value")}
        while self._take(("mark", ",")):
            found.add(self._text("value"))
        self.expect(("mark", "}"))
        return found
