"""The contract of a tool: options in, a command line out, figures with units back. Pure.

A tool says what it measures and how its figures are shown; it knows neither where it runs nor who
draws the tables. iperf3, curl and ping are three of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, TypeVar

Unit = Literal["count", "ratio", "seconds", "bit/s", "bytes"]
#: How the samples of one cell are put together: a figure's sum or mean over the samples, or a
#: statistic over all values of a distribution, whichever sample they came from.
Statistic = Literal["sum", "mean", "minimum", "median", "p95", "p99"]

Options = TypeVar("Options")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a finished command left."""

    stdout: str
    stderr: str = ""
    exit_code: int | None = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the tables that show a tool's samples.

    Attributes:
        heading: as tables show it.
        source: the name of a figure ("sum", "mean") or of a distribution (the others, and "mean"
            where a distribution of that name is recorded) in a sample's record.
        statistic: how the samples of a cell are put together.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Payload that a sample moved, per direction, in bytes, and the MSS of its connection.

    The proof of path holds the devices' counters against it.
    """

    to_server_bytes: int = 0
    to_client_bytes: int = 0
    mss_bytes: int | None = None


class Tool(ABC, Generic[Options, Result]):
    """A program that measures, run on a client's side once per sample.

    Attributes:
        name: the program, and the ``tool`` of its samples' records.
        title: of its table in reports, with the unit of its figures.
        options: the dataclass of its options; those of a sample are keyword arguments.
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
        """The command line of one sample."""

    @abstractmethod
    def limit_seconds(self, options: Options) -> float:
        """How long the command may take at most before it is taken for stuck."""

    @abstractmethod
    def parse(self, output: Output, options: Options) -> Result:
        """Read what the command printed.

        Raises:
            ToolError: it holds no usable figure.
        """

    @abstractmethod
    def measured(self, result: Result) -> Measured:
        """The parts of a result that its record keeps."""

    def payload(self, result: Result) -> Payload | None:
        """What the sample moved between its two ends; None if the tool does not know."""
        return None
