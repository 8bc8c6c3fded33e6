"""How a program ended, as far as every tool shares it: not found, or killed at its time limit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_k8snet.errors import K8sNetError, ToolError, ToolMissingError, ToolNotRunnableError

#: ``timeout`` itself (124), SIGKILL and SIGTERM as a shell (128 + n) and as Python (-n) count them.
_KILLED = frozenset({124, 128 + 9, 128 + 15, -9, -15})

#: What shells, env, timeout (coreutils and busybox) and OCI runtimes say of a program that they did
#: not start: pattern, problem, remedy.
_START_FAILURES = (
    (
        r"exec format error|(?:line )?1: \S*ELF",
        "it is made for another architecture",
        "use an image for the node's architecture (uname -m), or a multi-platform one",
    ),
    (
        r"operation not permitted",
        "it may not be run there",
        "its file most likely has capabilities that the pod may not have (getcap shows them): use "
        "an image whose file has none (setcap -r), or add them to the pod's securityContext",
    ),
    (
        r"permission denied",
        "it may not be run there",
        "check the file's execute permission (chmod +x), the noexec option of the file system "
        "that it is on, and AppArmor or SELinux",
    ),
)
_NOT_FOUND = r"not found|no such file or directory"


def was_killed(exit_code: int | None) -> bool:
    """Whether a program was stopped from outside, most often by its time limit."""
    return exit_code in _KILLED


def under_timeout(seconds: float, *argv: str) -> tuple[str, ...]:
    """Let ``timeout`` end a command: closing an exec's stream does not end what it started.

    Two seconds after SIGTERM comes SIGKILL. Coreutils and busybox both have it.
    """
    return ("timeout", "-k", "2", f"{seconds:g}", *argv)


def start_failure(program: str, said: str, exit_code: int | None) -> ToolError | None:
    """Return the error of a command whose program was not started, or None if it was.

    Args:
        program: its name.
        said: stderr.
        exit_code: shells, env and timeout end with 126 where they may not start a program, and
            with 127 where there is none.

    Returns:
        ToolMissingError: it is not installed there; ToolNotRunnableError: it is, and cannot or may
        not be run.
    """
    if exit_code not in (126, 127):
        return None
    found = said or f"exit status {exit_code}"
    refusal = not_runnable(f"there is a {program} where the command ran", said, found=found)
    if refusal is not None:
        return refusal
    if exit_code == 127 or re.search(_NOT_FOUND, said, re.IGNORECASE):
        return ToolMissingError(
            f"there is no {program} where the command ran",
            found=found,
            remedy=f"use an image that has {program} (and timeout): -o k8snet_image=...; outside "
            "the cluster, install it",
        )
    return ToolNotRunnableError(
        f"{program} could not be run where the command ran",
        found=found,
        remedy=f"run it by hand there to see why, e.g. `kubectl exec -it POD -- {program}`",
    )


def not_runnable(there: str, said: str, *, found: str) -> ToolNotRunnableError | None:
    """Return the error of a program that is there and was not started, or None.

    Args:
        there: that there is one, in words.
        said: what whoever should have started it says: a shell, ``timeout``, an OCI runtime.
        found: what the error quotes of it.
    """
    for pattern, problem, remedy in _START_FAILURES:
        if re.search(pattern, said, re.IGNORECASE):
            return ToolNotRunnableError(f"{there}, but {problem}", found=found, remedy=remedy)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandWords:
    """A program's part of a command line, taken apart.

    Attributes:
        options: each option with its values, in the order of the command line; without a value,
            an empty text.
        rest: what belongs to no option, such as an address or a URL.
    """

    options: Mapping[str, Sequence[str]]
    rest: tuple[str, ...]

    def value(self, option: str) -> str | None:
        """Return an option's last value, which is the one that counts; None where it is absent."""
        return self.options[option][-1] if option in self.options else None


def words_of(command: Sequence[str], program: str, valued: Collection[str]) -> CommandWords:
    """Take a command line apart.

    Args:
        command: the program's name and its words, perhaps behind a prefix such as ``timeout 20``.
        program: its name.
        valued: options that a value follows.
    """
    begin = command.index(program) + 1 if program in command else len(command)
    words = iter(command[begin:])
    options: dict[str, list[str]] = {}
    rest = []
    for word in words:
        if word in valued:
            options.setdefault(word, []).append(next(words, ""))
        elif word.startswith("-"):
            options.setdefault(word, []).append("")
        else:
            rest.append(word)
    return CommandWords(options=options, rest=tuple(rest))


# -- Reads fields of a tool's JSON with their types checked, and names the field that is wrong

#: Makes the tool's own error from one sentence about what is wrong with the JSON.
Complaint = Callable[[str], K8sNetError]

#: An exabyte, an exabit a second: sums and quotients of what is below stay finite.
_LARGEST = 10**18


class Section:
    """One object within a tool's JSON.

    An absent field and ``null`` (how C writers print NaN) both read as None: unknown, never 0.

    Args:
        value: what the JSON has at ``path``; absent reads as an empty section.
        path: where it lies, for messages, e.g. ``end.sum_received``.
        complain: makes the error for a field of the wrong type.
    """

    __slots__ = ("_complain", "_fields", "path")

    def __init__(self, value: object, path: str, complain: Complaint) -> None:
        if value is not None and not isinstance(value, Mapping):
            raise complain(f"{path or 'the document'} is no JSON object")
        self._fields: Mapping[str, Any] = value or {}
        self._complain = complain
        self.path = path

    def __bool__(self) -> bool:
        return bool(self._fields)

    def __contains__(self, key: str) -> bool:
        return key in self._fields

    def number(self, key: str) -> float | None:
        """A finite number that is not negative, or None where there is none."""
        value = self._fields.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._complain(f"{self._name(key)} is no number: {value!r:.80}")
        if value > _LARGEST:
            raise self._complain(f"{self._name(key)} is too large to be true")
        if math.isnan(value) or value < 0:
            raise self._complain(f"{self._name(key)} cannot be {value!r:.80}")
        return float(value)

    def required_number(self, key: str) -> float:
        """Like :meth:`number`, but absence is an error as well."""
        value = self.number(key)
        if value is None:
            raise self._complain(f"{self._name(key)} is missing")
        return value

    def integer(self, key: str) -> int | None:
        """A whole number of any sign, or None where there is none."""
        value = self._fields.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._complain(f"{self._name(key)} is no whole number: {value!r:.80}")
        if value > _LARGEST:
            raise self._complain(f"{self._name(key)} is too large to be true")
        return value

    def count(self, key: str) -> int | None:
        """A count, or None where it is absent or negative: tools write -1 for "cannot tell"."""
        value = self.integer(key)
        return None if value is None or value < 0 else value

    def text(self, key: str) -> str | None:
        """A string, or None where there is none."""
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, str):
            raise self._complain(f"{self._name(key)} is no text: {value!r:.80}")
        return printable(value)

    def flag(self, key: str) -> bool:
        """A boolean, also one written as 0 or 1; absent means False."""
        value = self._fields.get(key)
        if value is None:
            return False
        if not isinstance(value, (bool, int)):
            raise self._complain(f"{self._name(key)} is neither true nor false: {value!r:.80}")
        return bool(value)

    def section(self, key: str) -> Section:
        """The object below ``key``; an empty section where there is none."""
        return Section(self._fields.get(key), self._name(key), self._complain)

    def sections(self, key: str) -> Iterator[Section]:
        """The objects of the list below ``key``; none where there is no list."""
        value = self._fields.get(key)
        if value is None:
            return
        if not isinstance(value, list):
            raise self._complain(f"{self._name(key)} is no list")
        for index, item in enumerate(value):
            yield Section(item, f"{self._name(key)}[{index}]", self._complain)

    def _name(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key


def printable(text: str) -> str:
    """Replace lone surrogates, which JSON can escape and no file can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
