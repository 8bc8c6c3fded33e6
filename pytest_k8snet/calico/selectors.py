"""Calico's label selectors: which nodes a pool serves, which endpoints a policy is about. Pure.

The grammar is that of ``libcalico-go/lib/selector/parser`` (v3.32): comparisons, ``in``, ``has``,
``all()`` and ``global()``, joined by ``!``, ``&&``, ``||`` and parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(
    r"\s*(?:(?P<sign>==|!=|&&|\|\||[!(){},])"
    r"|(?P<call>(?:all|global)\(\s*\)|has\(\s*[\w./-]+\s*\))"
    r"|(?P<word>not\s+in\s*(?=\{)|in\s*(?=\{)|contains\b|starts\s+with\b|ends\s+with\b)"
    r"|(?P<text>'[^']*'|\"[^\"]*\")"
    r"|(?P<label>[\w./-]+))"
)


class SelectorError(ValueError):
    """A selector cannot be read."""


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Return whether something with these labels is selected; an empty selector selects everything.

    Raises:
        SelectorError: it is none that Calico would understand.
    """
    parser = _Parser(selector, labels)
    if not parser.tokens:
        return True
    found = parser.either()
    if parser.tokens:
        raise parser.error()
    return found


class _Parser:
    """Reads a selector and judges it for one set of labels at once."""

    def __init__(self, selector: str, labels: Mapping[str, str]) -> None:
        self.selector = selector
        self.labels = labels
        self.tokens: list[tuple[str, str]] = []
        position, end = 0, len(selector.rstrip())
        while position < end:
            match = _TOKEN.match(selector, position)
            if match is None or match.lastgroup is None:
                raise self.error()
            self.tokens.append((match.lastgroup, " ".join(match[match.lastgroup].split())))
            position = match.end()

    def error(self) -> SelectorError:
        return SelectorError(f"the selector {self.selector!r} cannot be read")

    def either(self) -> bool:
        found = self.both()
        while self.taken("||"):
            # Both sides are read, whatever the first one says.
            found = self.both() or found
        return found

    def both(self) -> bool:
        found = self.one()
        while self.taken("&&"):
            found = self.one() and found
        return found

    def one(self) -> bool:
        if self.taken("!"):
            return not self.one()
        if self.taken("("):
            found = self.either()
            if not self.taken(")"):
                raise self.error()
            return found
        kind, token = self.next()
        if kind == "call":
            name = token[token.index("(") + 1 : -1].strip()
            return name in self.labels if token.startswith("has") else True
        if kind != "label":
            raise self.error()
        return self.comparison(self.labels.get(token))

    def comparison(self, value: str | None) -> bool:
        _, operator = self.next()
        if operator in ("in", "not in"):
            return (value in self.values()) is (operator == "in")
        text = self.text()
        compared = {
            "==": value == text,
            "!=": value != text,
            "contains": value is not None and text in value,
            "starts with": value is not None and value.startswith(text),
            "ends with": value is not None and value.endswith(text),
        }
        if operator not in compared:
            raise self.error()
        return compared[operator]

    def values(self) -> set[str]:
        found: set[str] = set()
        if not self.taken("{"):
            raise self.error()
        while not self.taken("}"):
            found.add(self.text())
            self.taken(",")
        return found

    def text(self) -> str:
        kind, token = self.next()
        if kind != "text":
            raise self.error()
        return token[1:-1]

    def taken(self, sign: str) -> bool:
        if self.tokens and self.tokens[0] == ("sign", sign):
            del self.tokens[0]
            return True
        return False

    def next(self) -> tuple[str, str]:
        if not self.tokens:
            raise self.error()
        return self.tokens.pop(0)
