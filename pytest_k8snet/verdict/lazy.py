"""What all objects have in common that measure while they are compared."""

from __future__ import annotations

from typing import ClassVar, NoReturn

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import BitRate, Seconds
from pytest_k8snet.verdict.engine import Judging, settle
from pytest_k8snet.verdict.question import Question, Relation
from pytest_k8snet.verdict.sampler import Sampler
from pytest_k8snet.verdict.verdict import Claim, Verdict

_MIRROR: dict[str, Relation] = {">=": "<=", "<=": ">=", ">": "<", "<": ">"}


class NotANumber:
    """Refuses to be taken for a value, and says what to write instead."""

    #: What a reader may write, in messages.
    _example: ClassVar[str] = ""

    def __bool__(self) -> NoReturn:
        self._refuse("has no truth of its own")

    def __float__(self) -> NoReturn:
        self._refuse("is no number yet: it is measured while it is compared")

    def __eq__(self, other: object) -> NoReturn:
        self._refuse("cannot be compared with == or !=: no measurement is exactly equal")

    __hash__ = object.__hash__

    def _refuse(self, why: str) -> NoReturn:
        raise TypeError(f"{self!r} {why}; write {self._example}")


class Comparable(NotANumber):
    """Compares with ``>= <= > <``, and measures while it does."""

    def __init__(self, sampler: Sampler, judging: Judging) -> None:
        self._sampler = sampler
        self._judging = judging
        self._verdicts: list[Verdict] = []

    def __ge__(self, limit: float) -> Verdict:
        return self._settle(">=", limit)

    def __le__(self, limit: float) -> Verdict:
        return self._settle("<=", limit)

    def __gt__(self, limit: float) -> Verdict:
        return self._settle(">", limit)

    def __lt__(self, limit: float) -> Verdict:
        return self._settle("<", limit)

    def __repr__(self) -> str:
        return self._subject()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """The verdicts of the comparisons so far."""
        return tuple(self._verdicts)

    def explain_comparison(
        self, operator: str, limit: object, *, reflected: bool = False
    ) -> list[str] | None:
        """Explain a comparison for pytest's assertion report, or None if there was no such one.

        Args:
            operator: as it stands in the test.
            limit: the other operand.
            reflected: the limit stands on the left.
        """
        relation = _MIRROR.get(operator) if reflected else operator
        for verdict in reversed(self._verdicts):
            if verdict.claim.relation == relation and verdict.claim.limit == limit:
                return verdict.text.splitlines()
        return None

    def _question(self) -> Question:
        raise NotImplementedError

    def _subject(self) -> str:
        raise NotImplementedError

    def _baseline(self) -> str | None:
        arms = self._sampler.arms
        return (arms[1].scene or arms[1].label) if len(arms) == 2 else None

    def _settle(self, relation: Relation, limit: float) -> Verdict:
        question = self._question()
        arms = self._sampler.arms
        claim = Claim(
            question=question,
            subject=self._subject(),
            relation=relation,
            limit=self._checked(limit, question),
            context=arms[0].context,
            scene=arms[0].scene,
            mode=arms[0].mode,
            baseline=self._baseline(),
        )
        verdict = settle(claim, self._sampler, self._judging)
        self._verdicts.append(verdict)
        return verdict

    def _checked(self, limit: object, question: Question) -> float:
        """Return the limit in base units, if it has the question's unit."""
        wanted = {"bit/s": BitRate, "s": Seconds, "": float}[question.unit]
        foreign = isinstance(limit, bool) or not isinstance(limit, (int, float))
        if wanted is float:
            foreign = foreign or isinstance(limit, (BitRate, Seconds))
        else:
            foreign = not isinstance(limit, wanted)
        if foreign:
            raise TypeError(
                f"cannot compare {question.quantity} ({self!r}) with {limit!r}: "
                f"write {self._example}"
            )
        return float(limit)  # type: ignore[arg-type]


def same_terms(left: Judging, right: Judging) -> Judging:
    """Return the terms under which two measurements are compared.

    Raises:
        SettingsError: their plans differ.
    """
    if left.plan != right.plan:
        raise SettingsError(
            "the two sides of a ratio have different plans",
            found=f"{left.plan} / {right.plan}",
            remedy="give both the same plan",
        )
    return left
