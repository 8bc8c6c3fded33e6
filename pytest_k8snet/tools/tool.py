"""The contract of a tool: options in, a command line out, figures with units back. Pure.

A tool says what it measures and how its figures are shown; it knows neither where it runs nor who
draws the tables. iperf3, curl and ping are three of them.
"""

from __future__ import annotations

import math
import re
import statistics
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pytest_k8snet.errors import (
    K8sNetError,
    SettingsError,
    ToolError,
    ToolMissingError,
    ToolNotRunnableError,
)
from pytest_k8snet.units import Seconds

Unit = Literal["count", "ratio", "seconds", "bit/s", "bytes"]
#: How the samples of one cell are put together.
Statistic = Literal["sum", "mean", "minimum", "median", "p95", "p99"]

Options = TypeVar("Options")
Result = TypeVar("Result")


class PortInUse(ToolError):  # noqa: N818 -- named as the errors of the tools are
    """The port that a tool's server should listen on is taken; another one may do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a finished command left; the exit status is None where it is not known."""

    stdout: str
    stderr: str = ""
    exit_code: int | None = 0

    @property
    def killed(self) -> str:
        """That it was stopped from outside, most often by its time limit; empty if it was not."""
        stopped = self.exit_code in _KILLED
        return f"stopped from outside, exit status {self.exit_code}" if stopped else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the tables that show a tool's samples.

    Attributes:
        heading: as tables show it.
        source: the name of a distribution or else of a figure in a sample's record.
        statistic: over all values of the distribution, whichever sample they came from, or over
            the samples' figures.
        unit: of the source.
    """

    heading: str
    source: str
    statistic: Statistic
    unit: Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A result in JSON-safe parts, as a sample's record keeps it; absent parts stay out of it."""

    figures: Mapping[str, Any]
    seconds: float | None = None
    series: Mapping[str, Any] | None = None
    distribution: Mapping[str, list[float]] | None = None

    def to_record(self, run_seconds: float) -> dict[str, Any]:
        """Return those parts of a sample's record; the run's time where nothing else is known."""
        parts = {
            "seconds": run_seconds if self.seconds is None else self.seconds,
            "figures": self.figures,
            "series": self.series,
            "distribution": self.distribution,
        }
        return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Payload that a sample moved, per direction, in bytes, and what is known of its connection.

    The proof of path holds the devices' counters against it.

    Attributes:
        mss_bytes: the connection's maximum segment size.
        client_address: by which the server saw the client; empty where it did not say.
    """

    to_server_bytes: int = 0
    to_client_bytes: int = 0
    mss_bytes: int | None = None
    client_address: str = ""


class Tool(ABC, Generic[Options, Result]):
    """A program that measures, run on a client's side once per sample.

    Attributes:
        name: the program, and the ``tool`` of its samples' records.
        title: of its table in reports, with the unit where that is fixed.
        columns: of its table: one row per scene and mode.
        rate: the column that is drawn as scenes by modes with the ratio to node-node, for a tool
            that measures a rate; None for one whose table has one row per scene and mode.
        curves: distributions that reports may draw as the share of values within a time, most
            telling first: source -> what gates call it.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    columns: ClassVar[tuple[Column, ...]]
    rate: ClassVar[Column | None] = None
    curves: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def argv(self, options: Options) -> tuple[str, ...]:
        """Return the command line of one sample."""

    @abstractmethod
    def variant(self, command: Sequence[str]) -> str:
        """Return what of a command line makes its figures others than the tool's usual ones.

        Samples of one scene, placement and mode are repetitions of each other where this is the
        same text. Where and for how long is no part of it. It is read from the command line, which
        records have always held, so that one function serves what is measured and what was.

        Args:
            command: as :meth:`argv` makes it, perhaps behind a prefix.

        Returns:
            In words that last from run to run, such as ``UDP, 10 Mbit/s``; empty for the usual.
        """

    @abstractmethod
    def usual_seconds(self, options: Options) -> float:
        """Return how long the command takes when all is well, for whoever shows progress."""

    @abstractmethod
    def limit_seconds(self, options: Options) -> float:
        """Return how long the command may take at most before it is taken for stuck."""

    @abstractmethod
    def parse(self, output: Output, options: Options) -> Result:
        """Read what the command printed.

        Raises:
            ToolError: it holds no usable figure.
        """

    @abstractmethod
    def measured(self, result: Result) -> Measured:
        """Return the parts of a result that its record keeps."""

    def payload(self, result: Result) -> Payload | None:
        """Return what the sample moved between its two ends; None if the tool cannot tell."""
        return None


class ServedTool(Tool[Options, Result]):
    """A tool whose client needs a server of its own, which is started for each sample."""

    @abstractmethod
    def server_argv(self, port: int) -> tuple[str, ...]:
        """Return the command that starts a server for one sample; it listens when that ends."""

    @abstractmethod
    def check_server(self, output: Output, port: int) -> None:
        """Judge the outcome of the command of :meth:`server_argv`.

        Raises:
            PortInUse: something listens on the port already; another one may do.
            ToolError: there is no server.
        """

    @abstractmethod
    def at_port(self, options: Options, port: int) -> Options:
        """Return the options of a client whose server listens on a port."""


def options_of(
    kind: type[Options], keywords: type[Any], given: Mapping[str, object], **fixed: object
) -> Options:
    """Make a tool's options from keyword arguments.

    Args:
        kind: the dataclass of the options.
        keywords: the ``TypedDict`` of those that are free.
        given: the keyword arguments of whoever asks for a sample.
        fixed: options that are not theirs to choose, such as the server's address.

    Raises:
        SettingsError: there is no such option, or it cannot have this value.
    """
    refuse_unknown(kind.__name__.removesuffix("Options").lower(), keywords.__annotations__, given)
    return kind(**given, **fixed)


def refuse_unknown(what: str, known: Iterable[str], given: Iterable[str]) -> None:
    """Refuse options that there are not, with those that there are.

    Args:
        what: takes the options, in a word.
        known: the names of its options.
        given: the names that it was given.

    Raises:
        SettingsError: a name is not known; says which are near to it.
    """
    names = sorted(known)
    for name in given:
        if name not in names:
            near = get_close_matches(name, names, n=3)
            raise SettingsError(
                f"{what} has no option {name!r}",
                found=f"near to it: {', '.join(near)}" if near else "",
                remedy=f"take one of: {', '.join(names)}",
            )


@dataclass(frozen=True, slots=True)
class Check:
    """Insists on what a program can be run with; each way raises ``SettingsError``."""

    program: str

    def __call__(self, sound: object, problem: str, remedy: str = "") -> None:
        """Insist that something holds."""
        if not sound:
            raise SettingsError(
                f"{self.program} cannot be run like this: {problem}",
                remedy=remedy or f"see what {self.program.capitalize()}Options takes",
            )

    def whole(
        self, name: str, value: object, low: int, high: int, *, or_none: bool = False
    ) -> None:
        """Insist on a whole number within bounds."""
        whole = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        problem = f"{name}={value!r} is no whole number from {low} to {high}"
        self(whole or (or_none and value is None), problem)

    def within(self, name: str, value: float, low: float, high: float) -> None:
        """Insist on a number within bounds."""
        self(low <= value <= high, f"{name}={value!r} is not from {low:g} to {high:g}")


# -- How a program ended, as far as every tool shares it -------------------------------------------

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


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of failure, told by what a program says; the first that fits wins."""

    pattern: str
    error: type[ToolError]
    problem: str
    remedy: str

    def made(self, found: str) -> ToolError:
        """Return the error."""
        return self.error(self.problem, found=found, remedy=self.remedy)


def kind_of(said: str, kinds: Iterable[Kind]) -> Kind | None:
    """Return the kind of failure that a message tells of, or None."""
    return next((one for one in kinds if re.search(one.pattern, said, re.IGNORECASE)), None)


def option_words(options: Mapping[str, object]) -> Iterator[str]:
    """Yield options of a command line with their values; True has none, None and False are not.

    A list gives its option once for each value.
    """
    for option, value in options.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            if one is True:
                yield option
            elif one is not None and one is not False:
                yield from (option, str(one))


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


# -- Fields of a tool's JSON, with their types checked ---------------------------------------------

#: Makes the tool's own error from one sentence about what is wrong with the JSON.
Complaint = Callable[[str], K8sNetError]

#: An exabyte, an exabit a second: sums and quotients of what is below stay finite.
_LARGEST = 10**18


#: What reading JSON raises: it is none, has a number of too many digits, is nested too deeply.
UNREADABLE = (ValueError, RecursionError)


def as_written_by(program: str, error: type[ToolError], command: str) -> Complaint:
    """Make the errors of JSON whose fields are not a program's, as its command should print it."""
    return lambda problem: error(
        f"{program}'s JSON is not as {program} writes it",
        found=problem,
        remedy=f"check that this is the unchanged output of {command}; if it is, report it with "
        "its version",
    )


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
        """Read a finite number that is not negative, or None where there is none."""
        value = self._read(key, (int, float), "no number")
        if value is not None and (math.isnan(value) or value < 0):
            raise self._complain(f"{self._name(key)} cannot be {value!r:.80}")
        return None if value is None else float(value)

    def required_number(self, key: str) -> float:
        """Like :meth:`number`, but absence is an error as well."""
        value = self.number(key)
        if value is None:
            raise self._complain(f"{self._name(key)} is missing")
        return value

    def count(self, key: str) -> int | None:
        """Read a count; None where it is absent or negative: tools write -1 for "cannot tell"."""
        value: int | None = self._read(key, (int,), "no whole number")
        return None if value is None or value < 0 else value

    def text(self, key: str) -> str | None:
        """Read a string, or None where there is none."""
        value = self._read(key, (str,), "no text")
        return None if value is None else printable(value)

    def flag(self, key: str) -> bool:
        """Read a boolean, also one written as 0 or 1; absent means False."""
        return bool(self._read(key, (bool, int), "neither true nor false"))

    def _read(self, key: str, kinds: tuple[type, ...], what_else: str) -> Any:
        value = self._fields.get(key)
        if value is None:
            return None
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise self._complain(f"{self._name(key)} is {what_else}: {value!r:.80}")
        if isinstance(value, int | float) and value > _LARGEST:
            raise self._complain(f"{self._name(key)} is too large to be true")
        return value

    def section(self, key: str) -> Section:
        """Return the object below ``key``; an empty section where there is none."""
        return Section(self._fields.get(key), self._name(key), self._complain)

    def sections(self, key: str) -> Iterator[Section]:
        """Return the objects of the list below ``key``; none where there is no list."""
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


# -- Distributions of durations --------------------------------------------------------------------

#: What a record gets of each distribution.
_RECORDED = ("mean", "median", "p90", "p95", "p99", "minimum", "maximum")


class NoValue(ToolError):  # noqa: N818 -- named as the errors of the tools are
    """A statistic was asked for that these requests cannot give."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Distribution:
    """The durations of one kind over all requests that count, in the order they were made.

    A statistic of an empty distribution raises instead of giving 0 or NaN, because either would
    pass for a figure.

    Attributes:
        name: what took so long, e.g. ``connect`` or ``rtt``.
        values: one per request that counts.
        why_empty: makes the error for a statistic of no values, from the name.
    """

    name: str
    values: tuple[Seconds, ...]
    why_empty: Callable[[str], ToolError] = field(compare=False)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Seconds]:
        return iter(self.values)

    @property
    def mean(self) -> Seconds:
        """The arithmetic mean; one retransmitted SYN (1 s) in 100 requests moves it by 10 ms."""
        return Seconds(statistics.fmean(self._known()))

    @property
    def median(self) -> Seconds:
        """The middle value, or the mean of the two middle ones."""
        return Seconds(statistics.median(map(float, self._known())))

    @property
    def minimum(self) -> Seconds:
        """The shortest."""
        return min(self._known())

    @property
    def maximum(self) -> Seconds:
        """The longest."""
        return max(self._known())

    @property
    def stdev(self) -> Seconds:
        """The sample standard deviation (n - 1); needs two values."""
        values = self._known()
        if len(values) < 2:
            raise NoValue(
                f"the standard deviation of {self.name} needs at least two values",
                found="one successful request",
                remedy="make more requests",
            )
        return Seconds(statistics.stdev(map(float, values)))

    @property
    def p90(self) -> Seconds:
        """The 90th percentile by nearest rank."""
        return self.percentile(90)

    @property
    def p95(self) -> Seconds:
        """The 95th percentile by nearest rank."""
        return self.percentile(95)

    @property
    def p99(self) -> Seconds:
        """The 99th percentile by nearest rank; under 100 values it is their maximum."""
        return self.percentile(99)

    def percentile(self, q: float) -> Seconds:
        """Return a percentile by nearest rank: of n sorted values, number ``ceil(q / 100 * n)``.

        It is always one of the measured values, never an interpolation between two.

        Raises:
            SettingsError: q is not above 0 and at most 100.
            ToolError: there is no value.
        """
        if not 0 < q <= 100:
            raise SettingsError(
                f"there is no {q!r}th percentile",
                remedy="ask for more than 0 and at most 100, e.g. percentile(99.9)",
            )
        values = sorted(self._known())
        # q * n first: 0.95 * 20 is a little more than 19 in binary, and would give rank 20.
        return values[max(1, math.ceil(q * len(values) / 100)) - 1]

    def figures(self) -> dict[str, float]:
        """Return its statistics in seconds under names for a record, as plain numbers."""
        return {
            f"{self.name}_{statistic}_seconds": float(getattr(self, statistic))
            for statistic in _RECORDED
        }

    def distribution(self) -> dict[str, list[float]]:
        """Return its values in seconds under its name for a record, as plain numbers."""
        return {f"{self.name}_seconds": [float(one) for one in self.values]}

    def _known(self) -> tuple[Seconds, ...]:
        if not self.values:
            raise self.why_empty(self.name)
        return self.values

    def __repr__(self) -> str:
        if not self.values:
            return f"Distribution({self.name}: no values)"
        return (
            f"Distribution({self.name}: n={len(self)}, median {self.median}, p95 {self.p95}, "
            f"max {self.maximum})"
        )
