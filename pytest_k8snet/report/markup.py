"""HTML and SVG built so that nothing can be forgotten to escape: text is escaped, markup is a type.

Pure. A plain ``str`` given to :func:`element` is foreign text and is shown as text; only
:class:`Markup`, which :func:`element` itself makes, goes through as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Self

from pytest_k8snet.report.format import TEXT_LIMIT, visible

_VOID = frozenset({"br", "col", "hr", "meta", "circle", "line", "path", "polyline", "rect"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()

    def __add__(self, other: str) -> Self:
        if not isinstance(other, Markup):
            raise TypeError("markup grows by markup only: wrap foreign text in text()")
        return type(self)(str.__add__(self, other))


def text(foreign: object, limit: int | None = TEXT_LIMIT) -> Markup:
    """Foreign text as markup: hidden characters shown, cut, escaped."""
    return Markup(escape(visible(foreign, limit), quote=False))


def join(*contents: object) -> Markup:
    """Several contents one after the other."""
    return Markup("".join(_parts(contents)))


def element(name: str, /, *contents: object, **attributes: object) -> Markup:
    """One element.

    Args:
        name: its tag, e.g. ``td``.
        contents: markup, foreign text, numbers, iterables of these; None is nothing.
        attributes: a trailing underscore is dropped (``class_``) and others become hyphens
            (``stroke_width``); None and False leave the attribute out, True gives it no value.
    """
    opening = name + "".join(
        _attribute(key, value)
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{opening}/>")
    return Markup(f"<{opening}>{''.join(_parts(contents))}</{name}>")


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    if isinstance(value, float):
        value = number(value)
    return f' {name}="{escape(visible(value, None), quote=True)}"'


def _parts(contents: Iterable[object]) -> Iterable[str]:
    for content in contents:
        if content is None:
            continue
        if isinstance(content, Markup):
            yield content
        elif isinstance(content, (str, int, float)):
            yield text(content)
        elif isinstance(content, Iterable):
            yield from _parts(content)
        else:
            yield text(content)


def number(value: float) -> str:
    """A coordinate with one decimal at most: SVG needs no more, and the file stays small."""
    rounded = f"{value:.1f}"
    return rounded.removesuffix(".0") if rounded != "-0.0" else "0"
