"""The contract of a tool: options in, a command line out, figures with units back. Pure.

A tool says what it measures and how its figures are shown; it knows neither where it runs nor who
draws the tables. iperf3, curl and ping are three of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar, Generic, Literal, TypeVar

from pytest_k8snet.errors import SettingsError, ToolError

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
        parts: dict[str, Any] = {
            "seconds": run_seconds if self.seconds is None else self.seconds,
            "figures": self.figures,
        }
        if self.series is not None:
            parts["series"] = self.series
        if self.distribution is not None:
            parts["distribution"] = self.distribution
        return parts


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
