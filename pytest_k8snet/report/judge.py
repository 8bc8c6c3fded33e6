"""``k8snet judge``: the verdicts of a results file again, offline, perhaps with other limits."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_k8snet.errors import ResultsError, SettingsError
from pytest_k8snet.report.format import counted, visible
from pytest_k8snet.report.model import worst_first
from pytest_k8snet.report.records import Record, Results, read
from pytest_k8snet.report.summary import summarise
from pytest_k8snet.report.terminal import gate_lines
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.verdict import judge

_FORM = """a TOML file of claims and limits, for all modes or under a mode's name:
"pod-pod / node-node" = 0.85
"connect p95 of node-clusterip" = "5ms"
[VXLAN-Always]
"pod-pod / node-node" = 0.30"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reevaluation:
    """The verdicts of a results file, reached again from its samples.

    Attributes:
        records: the run's records, its verdicts replaced.
        differing: the claims whose state is not the recorded one.
        relimited: how many verdicts have another limit.
    """

    results: Results
    records: tuple[Record, ...]
    differing: tuple[str, ...]
    relimited: int

    @property
    def passed(self) -> bool:
        """Return whether no verdict is a fail or undecided."""
        states = {record["state"] for record in self.records if record["kind"] == "verdict"}
        return not {"fail", "inconclusive"} & states

    def text(self, width: int = 100) -> str:
        """Return the verdicts as a table, and those that are no pass explained."""
        summary = summarise(self.records)
        lines = gate_lines(summary.gates, width)
        if self.relimited:
            lines += ["", f"judged against other limits: {self.relimited}"]
        if self.differing:
            lines += ["", "not as recorded: " + visible("; ".join(self.differing))]
        if self.results.cut_line is not None:
            lines += ["", self.results.note]
        if summary.ended == "":
            lines += ["", "the run was cut off before its end: later gates have no verdict here"]
        for gate in worst_first(summary.gates):
            if gate.state in ("fail", "inconclusive"):
                lines += ["", visible(gate.record.get("text") or gate.claim, None)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, object]:
        """The same for programs: the verdicts as records, without the values they rest on."""
        left_out = ("values", "samples", "discarded", "labels")
        return {
            "passed": self.passed,
            "run": self.results.runs[-1],
            "differing": list(self.differing),
            "verdicts": [
                {name: value for name, value in record.items() if name not in left_out}
                for record in self.records
                if record["kind"] == "verdict"
            ],
        }


def reevaluate(path: Path, limits: Path | None = None) -> Reevaluation:
    """Reach every verdict of the newest run in a results file again.

    Args:
        path: the results file.
        limits: other limits; None for the recorded ones.

    Raises:
        ResultsError: the file cannot be used, holds no verdict (nothing judged is no pass), or
            one whose samples are incomplete.
        SettingsError: the limits cannot be read, or name a claim that the file does not have.
    """
    results = read(path)
    wanted = Limits.load(limits) if limits is not None else Limits({}, {})
    records: list[Record] = []
    differing: list[str] = []
    relimited = 0
    for record in results.records:
        if record["kind"] != "verdict":
            records.append(record)
            continue
        limit = wanted.of(record)
        relimited += limit is not None
        again = {**record, **judge(record, limit=limit).to_record()}
        records.append(again)
        if again["state"] != record["state"]:
            differing.append(f"{record['claim']}: {record['state']}, now {again['state']}")
    verdicts = [record for record in results.records if record["kind"] == "verdict"]
    if not verdicts:
        samples = sum(record["kind"] == "sample" for record in results.records)
        raise ResultsError(
            f"{path} holds no verdict to repeat",
            found=f"run {results.runs[-1]} with {counted(samples, 'sample')}: its tests compared "
            "figures themselves, or never came to a gate",
            remedy="let the tests ask the fixtures bandwidth and latency, whose comparisons are "
            f"kept with their samples; k8snet report {path} -o FILE draws what is there",
        )
    wanted.require_used(verdicts)
    return Reevaluation(
        results=results, records=tuple(records), differing=tuple(differing), relimited=relimited
    )


class Limits:
    """Other limits by claim, for all modes or for one."""

    def __init__(
        self, general: Mapping[str, Any], by_mode: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self._general = general
        self._by_mode = by_mode
        self._used: set[tuple[str, str]] = set()

    @classmethod
    def load(cls, path: Path) -> Limits:
        """Read a limits file.

        Raises:
            SettingsError: it cannot be read.
        """
        try:
            document = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as exc:
            found = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise SettingsError(
                f"the limits file {path} cannot be read", found=found or "", remedy=_FORM
            ) from None
        tables = {name: value for name, value in document.items() if isinstance(value, dict)}
        plain = {name: value for name, value in document.items() if name not in tables}
        return cls(plain, tables)

    def of(self, verdict: Record) -> float | None:
        """Return the other limit of a verdict in base units; None where it keeps its own."""
        mode = str(verdict.get("mode") or "")
        for place, table in ((mode, self._by_mode.get(mode, {})), ("", self._general)):
            for name in _names(verdict):
                if name in table:
                    self._used.add((place, name))
                    return _number(table[name], str(verdict.get("unit") or ""), name)
        return None

    def require_used(self, verdicts: Sequence[Record]) -> None:
        """Insist that every limit met a verdict: a misspelt claim must not pass silently.

        Raises:
            SettingsError: one did not.
        """
        given = {("", name) for name in self._general}
        given |= {(mode, name) for mode, table in self._by_mode.items() for name in table}
        unused = [f"[{mode}] {name}" if mode else name for mode, name in given - self._used]
        if unused:
            claims = sorted({_names(verdict)[-1] for verdict in verdicts})
            raise SettingsError(
                "the limits file names what the results file does not have",
                found="; ".join(sorted(unused)),
                remedy="it has: " + "; ".join(claims),
            )


def _names(verdict: Record) -> list[str]:
    """Return what a limits file may call a verdict, the narrowest name first.

    Its claim as reports write it, with mode and nodes behind it, so that of a mesh each pair can
    have a limit of its own; or without them; either with its limit or without.
    """
    claim = str(verdict["claim"])
    subject = str(verdict.get("subject") or claim)
    where = f" ({verdict['context']})" if verdict.get("context") else ""
    return [claim + where, subject + where, claim, subject]


def _number(value: object, unit: str, name: str) -> float:
    try:
        if isinstance(value, str) and unit == "s":
            return float(Seconds.parse(value))
        if isinstance(value, str) and unit == "bit/s":
            return float(BitRate.parse(value))
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not unit:
            return float(value)
        wanted = {"s": 'a text such as "5ms"', "bit/s": 'a text such as "900M"'}
        raise ValueError(f"{value!r}; wanted {wanted.get(unit, 'a number')}")
    except ValueError as exc:
        raise SettingsError(
            f"the limit of {name!r} cannot be read", found=str(exc), remedy=_FORM
        ) from None
