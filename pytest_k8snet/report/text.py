"""Foreign text made safe to look at: every hidden character shown, long text cut with a note.

Names, error texts and tool output come from a cluster. Whoever can name a pod must not be able to
colour the reader's terminal, reverse the reading order, or hide a word. Pure.
"""

from __future__ import annotations

import unicodedata

#: Longest piece of foreign text shown in running text, in characters.
TEXT_LIMIT = 1200
#: Longest name (pod, node, test id) shown, in characters.
NAME_LIMIT = 240

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Fillers that have no ink although Unicode counts them as letters or symbols.
_BLANKS = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def visible(text: object, limit: int | None = TEXT_LIMIT) -> str:
    r"""Show control characters, bidi marks and other hidden characters, and cut what is too long.

    New lines and tabs stay. An escape character becomes the four characters ``\x1b``, a
    right-to-left override ``\u202e``: ASCII, so that every font and every terminal has it.

    Args:
        text: anything; its ``str`` is shown.
        limit: most characters to show; None for all.
    """
    whole = text if isinstance(text, str) else str(text)
    left = 0
    if limit is not None and len(whole) > limit:
        left = len(whole) - limit
        whole = whole[:limit]
    if not (whole.isascii() and whole.isprintable()):
        whole = "".join(map(_shown, whole.replace("\r\n", "\n")))
    return f"{whole} … ({left:,} more characters)" if left else whole


def visible_line(text: object, limit: int | None = NAME_LIMIT) -> str:
    """The same in one line: new lines and tabs are shown as signs, too."""
    return visible(text, limit).replace("\n", "\\n").replace("\t", "\\t")


def _shown(char: str) -> str:
    if char in "\n\t":
        return char
    if char.isprintable() and char not in _BLANKS:
        return char
    if unicodedata.category(char) in _HIDDEN or char in _BLANKS:
        code = ord(char)
        width, letter = (2, "x") if code < 0x100 else (4, "u") if code < 0x10000 else (8, "U")
        return f"\\{letter}{code:0{width}x}"
    # What is left are spaces of unusual width.
    return " "


def columns(text: str) -> int:
    """How many terminal columns a text takes: wide characters count twice, combining ones not."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text filled with spaces to a number of terminal columns."""
    fill = " " * max(0, width - columns(text))
    return fill + text if right else text + fill


def clipped(text: str, width: int) -> str:
    """A text cut to a number of terminal columns, with an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    kept = ""
    used = 0
    for char in text:
        step = columns(char)
        if used + step > width - 1:
            break
        kept += char
        used += step
    return kept + "…"


def squeezed(text: str, width: int) -> str:
    """The same with its middle left out: of a claim, both what it is about and its limit stay."""
    if columns(text) <= width:
        return text
    tail = ""
    for char in reversed(text):
        if columns(char + tail) > (width - 1) // 2:
            break
        tail = char + tail
    return clipped(text, width - columns(tail)) + tail
