"""Drawings made comparable: a page as its parsed tokens, one a line, and how two texts differ."""

from __future__ import annotations

import difflib
from html.parser import HTMLParser


class _Tokens(HTMLParser):
    """Lists tags with sorted attributes, and texts with white space folded (but within pre)."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._pre = False
        self._style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        shown = "".join(f" {name}={value!r}" for name, value in sorted(attrs))
        self.lines.append(f"<{tag}{shown}>")
        self._pre = self._pre or tag == "pre"
        self._style = tag == "style"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self.lines.append(f"</{tag}>")
        self._pre = self._pre and tag != "pre"
        self._style = False

    def handle_data(self, data: str) -> None:
        if self._pre:
            self._add(repr(data))
        elif folded := " ".join(data.split()):
            self._add("(style)" if self._style else folded)

    def _add(self, text: str) -> None:
        """Texts that touch are one text, however many pieces the parser was given."""
        if self.lines and not self.lines[-1].startswith("<"):
            self.lines[-1] += f" {text}"
        else:
            self.lines.append(text)


def normalised(page: str) -> str:
    """Return an HTML page's tokens, one a line."""
    return "\n".join(_Tokens(page).lines) + "\n"


def differences(old: str, new: str) -> tuple[list[str], list[str]]:
    """Return the lines that only the old text has, and those that only the new one has."""
    removed: list[str] = []
    added: list[str] = []
    for line in difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0):
        if line.startswith(("---", "+++", "@@")):
            continue
        (removed if line[0] == "-" else added).append(line[1:])
    return removed, added
