"""The plan of a verdict: how much is measured at most, and at what risk. Said before measuring.

A plan that cannot decide is refused when it is made, or when it meets the limit it should decide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import Seconds
from pytest_k8snet.verdict.sequential import per_look_level

#: Fewer pairs than this show no spread worth the name.
FEWEST_PAIRS = 3
#: More looks than this would make the level too strict, and its calculation slow.
MOST_PAIRS = 120
#: Pairs before the first look, and at most, where spells of bad network must not be missed: a spell
#: that fills three tenths of the time misses twelve pairs far apart in 1.4 % of the runs.
FIRST_FOR_SPELLS, LAST_FOR_SPELLS = 12, 30
#: More chances of error than this are not worth the name of a verdict.
LARGEST_ALPHA = 0.25


_PROOF = ("mode", "yes", "no")


def _seconds(text: str) -> float:
    return float(Seconds.parse(text))


def _whole_seconds(text: str) -> int:
    seconds = _seconds(text)
    if seconds != int(seconds):
        raise ValueError("iperf3 counts whole seconds")
    return int(seconds)


def _yes_or_no(text: str) -> bool:
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError("write yes or no")
    return words[text.lower()]


def _setting(default: Any, read: Callable[[str], Any], *, short: str = "") -> Any:
    """Make a field that is read from text, in which it may have a shorter name."""

    def optional(text: str) -> Any:
        return None if default is None and text in ("", "none") else read(text)

    return field(default=default, metadata={"read": optional, "short": short})


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a gate may spend, and what risk it may run.

    Attributes:
        first: pairs before the first look.
        last: pairs at most.
        seconds: length of one bandwidth sample, without the omitted start.
        omit_seconds: start of each bandwidth sample that is left out (TCP's slow start).
        alpha: the risk of a wrong verdict on each side, when the true figure is at the limit.
        budget_seconds: wall time at most, or None.
        span_seconds: time over which the samples are spread, with random gaps; None takes what the
            question needs, 0 takes one sample right after the other.
        spell_seconds: length of spells of bad network that no verdict may miss: it needs pairs that
            lie far apart, and many of them; None asks for none.
        outlier: a verdict has to survive one more sample that lies so far off, as a share, and
            speaks against it: slow samples that come rarely, or in spells, are not met by a few.
            0 leaves that out.
        between_runs: how much runs of one cluster differ when nothing was changed (a standard
            deviation, as a share), for comparing with earlier runs; None takes it from them.
        seed: of the order of the arms and the jitter of requests; None draws one and records it.
        warmup_pairs: pairs measured first and left out; they are short.
        requests: requests at most for one percentile; None takes what the percentile needs.
        requests_per_second: rate of the schedule of requests. Starting a curl costs the client
            about 10 ms of CPU, so the default leaves most of a core alone.
        most_steal: share of CPU time that the hypervisor may take from a client or server during a
            sample that counts.
        least_idle: share of its node's CPU time that must be idle just before a sample that counts.
        require_proof: whether samples whose path is not proven keep a gate from being decided:
            ``mode`` where a mode is claimed, ``yes`` always, ``no`` never; said it is anyway.
        monitor: report the verdict, but let nothing fail.
    """

    first: int = _setting(4, int)
    last: int = _setting(20, int)
    seconds: int = _setting(5, _whole_seconds)
    omit_seconds: int = _setting(1, _whole_seconds, short="omit")
    alpha: float = _setting(0.05, float)
    budget_seconds: float | None = _setting(None, _seconds, short="budget")
    span_seconds: float | None = _setting(None, _seconds, short="span")
    spell_seconds: float | None = _setting(None, _seconds, short="spell")
    outlier: float = _setting(0.35, float)
    between_runs: float | None = _setting(None, float, short="between")
    seed: int | None = _setting(None, int)
    warmup_pairs: int = _setting(1, int, short="warmup")
    requests: int | None = _setting(None, int)
    requests_per_second: float = _setting(20.0, float, short="rate")
    most_steal: float = _setting(0.10, float, short="steal")
    least_idle: float = _setting(0.20, float, short="idle")
    require_proof: str = _setting("mode", str, short="proof")
    monitor: bool = _setting(False, _yes_or_no)

    def __post_init__(self) -> None:
        for name, holds, need in self._rules():
            if not holds:
                shown = _SHORT[name]
                raise SettingsError(
                    f"the plan cannot work: {shown} must be {need}",
                    found=f"{shown}={getattr(self, name)} in the plan {self}",
                )
        cheapest = 2 * self.first * (self.seconds + self.omit_seconds)
        if self.budget_seconds is not None and self.budget_seconds < cheapest:
            raise SettingsError(
                "the plan cannot decide anything within its time budget",
                found=f"budget {Seconds(self.budget_seconds)}, but the first look comes after "
                f"{self.first} pairs of 2 x {self.seconds + self.omit_seconds} s = {cheapest} s",
                remedy="raise the budget, or shorten the samples (seconds=...)",
            )

    def _rules(self) -> tuple[tuple[str, bool, str], ...]:
        budget, requests, span = self.budget_seconds, self.requests, self.span_seconds
        between, spell = self.between_runs, self.spell_seconds
        spells = f"{FIRST_FOR_SPELLS} or more, to meet spells of {spell or 0:g} s"
        return (
            ("first", self.first >= FEWEST_PAIRS, f"{FEWEST_PAIRS} or more"),
            ("last", self.last >= self.first, f"first ({self.first}) or more"),
            ("last", self.last <= MOST_PAIRS, f"{MOST_PAIRS} or less"),
            ("seconds", self.seconds >= 1, "1 or more"),
            ("omit_seconds", self.omit_seconds >= 0, "0 or more"),
            ("alpha", 0 < self.alpha <= LARGEST_ALPHA, f"above 0 and at most {LARGEST_ALPHA}"),
            ("budget_seconds", budget is None or 0 < budget < math.inf, "positive"),
            ("span_seconds", span is None or 0 <= span < math.inf, "0 or more"),
            ("spell_seconds", spell is None or 0 < spell < math.inf, "positive"),
            ("first", spell is None or self.first >= FIRST_FOR_SPELLS, spells),
            ("outlier", 0 <= self.outlier < 1, "from 0 to below 1"),
            ("between_runs", between is None or 0 < between < 1, "above 0 and below 1"),
            ("warmup_pairs", self.warmup_pairs >= 0, "0 or more"),
            ("requests", requests is None or requests >= 1, "1 or more"),
            ("most_steal", 0 <= self.most_steal <= 1, "from 0 to 1"),
            ("require_proof", self.require_proof in _PROOF, "mode, yes or no"),
            ("least_idle", 0 <= self.least_idle <= 1, "from 0 to 1"),
            ("requests_per_second", 0 < self.requests_per_second <= 1000, "above 0, at most 1000"),
        )

    @property
    def outlier_log(self) -> float:
        """How far off the sample is that a verdict has to survive, as a logarithm."""
        return -math.log1p(-self.outlier)

    @property
    def level(self) -> float:
        """The one-sided level of the looks after every pair from first to last."""
        return per_look_level(self.first, self.last, self.alpha)

    @classmethod
    def parse(cls, text: str, base: Plan | None = None) -> Plan:
        """Read ``last=12 seconds=3, budget=10min``: names and values, over those of ``base``.

        ``omit``, ``budget``, ``span``, ``spell``, ``between``, ``warmup``, ``rate``, ``steal``,
        ``idle`` and ``proof`` may stand for the long names. ``spell`` brings the pairs that it
        needs with it, where the text names none.

        Raises:
            SettingsError: an unknown name, a value that cannot be read, or no workable plan.
        """
        changes: dict[str, Any] = {}
        readers = {one.name: one.metadata["read"] for one in fields(cls)}
        for word in re.split(r"[,\s]+", text.strip()):
            if not word:
                continue
            name, equals, value = word.partition("=")
            shown, name = name, _NAMED.get(name, name)
            if not equals or name not in readers:
                raise SettingsError(
                    f"the plan has no setting {word!r}",
                    found=f"{text!r}",
                    remedy="write name=value with the names " + ", ".join(_NAMED),
                )
            try:
                changes[name] = readers[name](value)
            except ValueError as error:
                raise SettingsError(
                    f"the plan's {shown} cannot be {value!r}", found=str(error) or repr(text)
                ) from error
        plan = base or cls()
        if changes.get("spell_seconds"):
            first = max(FIRST_FOR_SPELLS, plan.first)
            changes = {"first": first, "last": max(LAST_FOR_SPELLS, plan.last)} | changes
        return replace(plan, **changes)

    def with_changes(self, **changes: Any) -> Plan:
        """Return this plan with some fields changed.

        Raises:
            SettingsError: an unknown field, or no workable plan.
        """
        names = [one.name for one in fields(self)]
        unknown = sorted(set(changes) - set(names))
        if unknown:
            raise SettingsError(
                f"the plan has no field {unknown[0]!r}",
                remedy="the fields are " + ", ".join(names),
            )
        return replace(self, **changes)

    def to_record(self) -> dict[str, Any]:
        """Return what is set, as a JSON-safe dict."""
        # A zero is a setting; None and False are the absence of one.
        return {
            name: value
            for name, value in asdict(self).items()
            if value is not None and value is not False
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Plan:
        """Return the plan that :meth:`to_record` stored; unknown names are left out."""
        known = {one.name for one in fields(cls)}
        # Nothing had to be survived before plans could say so.
        recorded = {"outlier": 0.0, **record}
        return cls(**{name: value for name, value in recorded.items() if name in known})

    def __str__(self) -> str:
        text = (
            f"{self.first} to {self.last} pairs x {self.seconds} s "
            f"(+ {self.omit_seconds} s omitted), {self.alpha:g} risk each side"
        )
        if self.span_seconds is not None:
            text += f", spread over {Seconds(self.span_seconds)}"
        if self.spell_seconds is not None:
            text += f", spells of {Seconds(self.spell_seconds)} not to be missed"
        if self.outlier:
            text += f", to survive one {self.outlier * 100:g} % off"
        if self.requests is not None:
            text += f", {self.requests} requests at most"
        if self.budget_seconds is not None:
            text += f", within {Seconds(self.budget_seconds)}"
        # A guard that is not as it was made is part of what a verdict is worth.
        if self.least_idle != type(self)().least_idle:
            text += f", nodes {self.least_idle:.0%} idle before a sample"
        if self.most_steal != type(self)().most_steal:
            text += f", {self.most_steal:.0%} stolen at most"
        if self.require_proof != type(self)().require_proof:
            text += f", path to be proven: {self.require_proof}"
        return text + (", monitored only" if self.monitor else "")


#: What a user may write -> the field, and the other way round.
_NAMED = {one.metadata["short"] or one.name: one.name for one in fields(Plan)}
_SHORT = {name: short for short, name in _NAMED.items()}


def written(record: Mapping[str, Any]) -> str:
    """Return a recorded plan as a user would write it: ``first=4 last=20 omit=1``."""
    return " ".join(f"{_SHORT.get(name, name)}={value}" for name, value in record.items())
