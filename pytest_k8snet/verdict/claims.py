"""What became of a test's gates: a claim that is never asked cannot pass.

A gate measures while it is compared, and its verdict counts when its truth is taken. Everything
that keeps one of the two from happening (a forgotten limit, a forgotten ``assert``, a verdict in a
list, an exception that is caught) would leave a test green that has claimed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.verdict.sampling import Arm
from pytest_k8snet.verdict.verdict import Verdict, claim_text

#: What to do where something would rerun a gate.
NO_RERUN = (
    "leave gates out of what reruns or repeats tests; a gate that is often undecided needs a "
    "larger plan (last=...), or goes on with --k8snet-resume"
)


class Claims:
    """The gates that one test has made, and the verdicts that it got of them."""

    def __init__(self) -> None:
        self._made: list[tuple[Callable[..., object], str, str]] = []
        self._compared: list[Callable[..., object]] = []
        self._verdicts: list[tuple[Verdict, str]] = []
        self._ended = self._again = False

    def begin(self) -> None:
        """Note that the test begins; once it has ended with verdicts, that is a rerun."""
        self._again = self._again or (self._ended and bool(self._verdicts))

    def end(self) -> None:
        """Note that the test has run."""
        self._ended = True

    def refuse_rerun(self) -> None:
        """Insist that the test has not measured before in this session.

        Raises:
            SettingsError: it has, and something runs it again.
        """
        if self._again:
            raise SettingsError(
                "a gate must not be rerun until it passes: that multiplies its risk of a wrong "
                "pass",
                found="the test has measured in this session already:\n"
                + "\n".join(verdict.text.partition("\n")[0] for verdict, _ in self._verdicts),
                remedy=NO_RERUN,
            )

    def made(self, arm: Arm, gate: str, example: str) -> None:
        """Note a gate.

        Args:
            arm: what it measures.
            gate: what it is called.
            example: how one of its kind is written.
        """
        self._made.append((arm.take, gate, example))

    def compared(self, arms: Iterable[Arm], verdict: Verdict, example: str) -> None:
        """Note the verdict of a comparison, and that these arms took part in it."""
        # Arms are renamed where two of one name meet; what takes their samples stays the same.
        self._compared += [one.take for arm in arms for one in (arm, *arm.of)]
        self._verdicts.append((verdict, example))

    def require_asked(self) -> None:
        """Insist that each gate was compared, and that the truth of each verdict was taken.

        Raises:
            SettingsError: one was not; with the line to write.
        """
        if not self._made:
            raise SettingsError(
                "the test asks for a gate and makes none",
                remedy="write assert bandwidth(pod_pair) / bandwidth(node_pair) >= 0.90, or leave "
                "the fixture out",
            )
        for take, gate, example in self._made:
            if take not in self._compared:
                raise SettingsError(
                    f"{gate} was never compared with a limit, so nothing was claimed of it",
                    remedy=f"write {example}",
                )
        for verdict, example in self._verdicts:
            if not verdict.asked:
                raise SettingsError(
                    f"it was measured and never asserted: {claim_text(verdict.claim)}",
                    found=verdict.text.partition("\n")[0],
                    remedy=f"write {example}, with nothing between assert and the comparison",
                )

    def missed(self) -> Verdict | None:
        """Return the first verdict that missed its target, whether asked for or not."""
        return next((verdict for verdict, _ in self._verdicts if verdict.state == "fail"), None)

    def passed_over(self) -> Verdict | None:
        """Return a verdict whose truth was taken and is no pass: a miss before an undecided one."""
        asked = [verdict for verdict, _ in self._verdicts if verdict.asked]
        wanted = (one for state in ("fail", "inconclusive") for one in asked if one.state == state)
        return next(wanted, None)
