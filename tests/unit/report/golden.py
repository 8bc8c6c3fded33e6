"""Drawings made comparable: a page as its parsed tokens, and how two texts differ."""

from __future__ import annotations

import difflib
import re
from html.parser import HTMLParser

_VOID = frozenset({"meta", "br", "hr", "col"})
#: What does not begin a line: a row of a table with all its cells is one line.
_INLINE = frozenset({"td", "th", "span", "strong", "bdi", "code", "mark", "a"})
_MARKUP = r"<[^>]*>"
#: Of the terminal's tables and of Markdown's, in whose cells parts are joined by commas.
_COLUMNS = r" \| |\| | \|| {2,}|, "


class _Tokens(HTMLParser):
    """Lists tags with sorted attributes, and texts with white space folded (but within pre)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._open = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        if tag == "tspan" or tag not in _INLINE or not self.lines:
            self.lines.append("")
        shown = "".join(f" {name}={value!r}" for name, value in sorted(attrs))
        self.lines[-1] += f"<{tag}{shown}>"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        self._open = ""
        # Only what holds text is worth its end.
        if tag in _INLINE:
            self.lines[-1] += f"</{tag}>"

    def handle_data(self, data: str) -> None:
        folded = repr(data) if self._open == "pre" else " ".join(data.split())
        if folded and self.lines:
            self.lines[-1] += "(style)" if self._open == "style" else folded


def normalised(page: str) -> str:
    """Return an HTML page's tokens, a line for each block or row."""
    return "\n".join(_Tokens(page).lines) + "\n"


def differences(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return the lines that only the old text has, and those that only the new one has."""
    removed: list[str] = []
    added: list[str] = []
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0):
        if not line.startswith(("---", "+++", "@@")):
            (removed if line[0] == "-" else added).append(line[1:])
    return removed, added


def texts(lines: list[str]) -> set[str]:
    """Return the texts between tags, or in the columns of a table."""
    return {
        text.strip()
        for line in lines
        for text in re.split(_MARKUP if line.startswith("<") else _COLUMNS, line)
        if text.strip()
    }
