"""A page made comparable: as its parsed tokens."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = frozenset({"meta", "br", "hr", "col"})
#: What does not begin a line: a row of a table with all its cells is one line.
_INLINE = frozenset({"td", "th", "span", "strong", "bdi", "code", "mark", "a"})


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
