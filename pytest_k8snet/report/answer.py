"""The first screen's answer: may the change be approved on this run, why, and what was not tested.

As all sentences it may hold foreign names, and each drawing makes them safe in its own way. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pytest_k8snet.report.format import counted, moment, promise_text
from pytest_k8snet.report.model import (
    MODES,
    FinishedTest,
    GateResult,
    Summary,
)
from pytest_k8snet.report.records import Record, mapping, objects, usable, words
from pytest_k8snet.report.sentences import (
    TOO_CLOSE,
    first_few,
    kind_of,
    nodes_measured,
    on_lab,
    settled_by,
    undecided_text,
)

OUTCOME_WORDS: Mapping[str, str] = {
    "passed": "Passed",
    "partly": "Passed what was tested",
    "failed": "Not passed",
    "inconclusive": "Inconclusive",
    "cut": "Cut off before its end",
    "running": "Running, no result yet",
    "empty": "Nothing was tested",
}
#: What a report of the embedded lab is called: no word of it may be taken for a cluster's.
REHEARSAL = "Rehearsal on the embedded lab: no real cluster was tested"
_COUNT_ORDER = ("failed", "error", "inconclusive", "passed", "skipped")
#: What comes first of several troubles: a missed promise says more than none that could be tested.
_TROUBLES = ("failed", "error", "inconclusive")
#: Who acts on trouble; how stands in the detail, for an engineer.
_REPAIR = "the requester has that repaired and runs the tests again"
#: Most unfinished tests that are named.
_MOST_NAMED = 6


def title_text(summary: Summary) -> str:
    """Return what became of the run, in the words that every drawing begins with."""
    return REHEARSAL if on_lab(summary) else _outcome_text(summary)


def _outcome_text(summary: Summary) -> str:
    """Return ``Passed what was tested: 1 of 5 modes``."""
    word = OUTCOME_WORDS[summary.outcome]
    if summary.outcome == "partly":
        return f"{word}: {_tested_share(summary)}"
    if summary.outcome == "passed" and not _measured(summary):
        return f"{word}, nothing was measured"
    return word


def look(summary: Summary) -> str:
    """Return the outcome whose colours the banner has: no green where nothing real was measured."""
    plain = title_text(summary) == OUTCOME_WORDS["passed"]
    return "partly" if summary.outcome == "passed" and not plain else summary.outcome


def result_text(summary: Summary) -> str:
    """Return the counts of tests; of a rehearsal also what became of it."""
    counts = counts_text(summary)
    if not on_lab(summary):
        return f"Tests: {counts}"
    return f"Rehearsal: {_outcome_text(summary)} ({counts})"


def when_text(summary: Summary) -> str:
    """Return when the run was, and when the one was that it is compared with."""
    told = f"Run of {moment(summary.begun)}"
    if summary.baseline is None:
        return told
    return f"{told}, compared with that of {moment(summary.baseline.get('baseline_time'))}"


def _measured(summary: Summary) -> bool:
    return bool(summary.counted or summary.promises or summary.switches)


def _tested_share(summary: Summary) -> str:
    modes, skipped = summary.coverage.modes, summary.coverage.modes_skipped
    if skipped:
        share = f"{len(modes)} of {counted(len(modes) + len(skipped), 'mode')}"
        in_use = "the one in use" if len(modes) == 1 else "all that are in use"
        return f"{share}, {in_use}" if _tested_what_is_in_use(summary) else share
    tried = len(summary.tests) - summary.counts.get("skipped", 0)
    return f"{tried:,} of {counted(_asked(summary), 'test')}"


def _asked(summary: Summary) -> int:
    return len(summary.tests) + summary.coverage.unfinished


def answer_text(summary: Summary) -> str:
    """Return whether the change may be approved on this run, and why; the answer comes first."""
    errors = summary.counts.get("error", 0)
    if summary.outcome in ("passed", "partly"):
        answer = _of_passed(summary)
    elif summary.outcome == "failed" and (summary.counts.get("failed") or _missed(summary)):
        answer = f"Do not approve: {_missed_text(summary)}.{_unfinished_text(summary)}"
        if errors:
            prove = "proves" if errors == 1 else "prove"
            answer += f" {counted(errors, 'more test')} could not measure, and {prove} nothing."
    elif summary.outcome == "failed" and errors:
        cause = next(test.reason for test in summary.tests if test.outcome == "error")
        answer = (
            f"Do not approve on this: {counted(errors, 'test')} met trouble and could not measure"
            f"{_because(cause)} That proves nothing for or against the change: {_REPAIR}."
            f"{_unfinished_text(summary)}"
        )
    elif summary.outcome == "failed" and any(test.xfail is not None for test in summary.tests):
        answer = f"Do not approve on this: {_untested(summary)}."
    elif summary.outcome == "failed":
        answer = "Do not approve on this: something beside its tests went wrong."
    elif summary.outcome == "inconclusive" and _missed(summary):
        answer = f"{_expected_miss(summary)}{_unfinished_text(summary)}"
    elif summary.outcome == "inconclusive":
        answer = (
            f"Do not approve yet: {_undecided(summary)}. {_settle(summary)}"
            f"{_unfinished_text(summary)}"
        )
    elif summary.outcome == "cut":
        answer = _cut_off(summary)
    elif summary.outcome == "running":
        answer = (
            f"Do not approve on this: written when the run began, {moment(summary.begun)}. If it "
            "does not run any more, it was killed before it measured anything."
        )
    else:
        cause = next((test.reason for test in summary.tests), "")
        answer = f"Do not approve: nothing was tested{_because(cause)}"
        answer += f" {_REPAIR[0].upper()}{_REPAIR[1:]}." if cause.strip() else ""
    if summary.restored is False:
        answer += " The cluster was NOT put back as it was."
    return answer


def _of_passed(summary: Summary) -> str:
    """Return the answer where no test failed: on what of the cluster it rests, and on what not."""
    coverage, kept = summary.coverage, _kept(summary)
    if _missed(summary):
        return _expected_miss(summary)
    if on_lab(summary):
        kept = _kept(summary, by_how_much=False)
        return (
            "Do not approve on this: no real cluster was measured (a rehearsal on the embedded "
            f"lab; in it {kept}). Run it on the cluster, with --kubeconfig."
        )
    if not _measured(summary):
        return f"Do not approve on this: {kept}, but no figure of the network was measured."
    in_use = _tested_what_is_in_use(summary)
    missing = [mode for mode in summary.pool_modes or () if mode not in coverage.modes]
    nodes_only = all(one.get("scene") == "node-node" for one in filter(usable, summary.samples))
    if missing and not in_use and (coverage.modes or nodes_only):
        were = "was" if len(missing) == 1 else "were"
        which = f"{first_few(missing)}, which this cluster uses, {were} not tested"
        return f"Do not approve: {which}. Of what was, {kept}."
    if summary.outcome == "partly" and (not in_use or coverage.missing_beside_modes):
        return f"Do not approve on this alone: {_untested(summary)}. Of what was, {kept}."
    others = {*coverage.modes_skipped, *coverage.modes_left_out}
    if not (in_use and others):
        return f"Approve, as far as {_extent(summary)}: {kept}."
    return _answer_by_mode(summary, len(others), kept)


def _expected_miss(summary: Summary) -> str:
    """Return the answer where promises were missed in tests that pytest calls no failure."""
    return f"Do not approve on this: {_missed_text(summary)}, as its test expects (xfail)."


def _answer_by_mode(summary: Summary, others: int, kept: str) -> str:
    """Return the answer where only modes in use were tested: does the change switch the mode?"""
    now = summary.pool_modes or ()
    extent, names = _extent(summary), first_few(now)
    tested = "that mode was tested" if len(now) == 1 else "those modes were tested"
    then = _earlier_modes(summary)
    if {*then.split(", ")} == {*now}:
        how = f"the change left the network mode as it was ({names})"
        return f"Approve, as far as {extent}: {how}, {tested}, and {kept}."
    if then:
        how = f"the change switched the network mode from {then} to {names}"
        return f"Approve, as far as {extent}: {how}, {tested}, and {kept}."
    left = "the 1 other mode was" if others == 1 else f"the {others} other modes were"
    approve = f"approve, as far as {extent}" if summary.coverage.by else "approve"
    return (
        "Ask the requester first: does the change switch the network mode (Calico's "
        f"encapsulation, now {names})? No: {approve}; {tested}, and {kept}. Yes: do not approve; "
        f"{left} not tested."
    )


def _earlier_modes(summary: Summary) -> str:
    """Return the modes of the pools in the earlier run; empty where that is not known."""
    if not summary.then:
        return ""
    modes = summary.then.get("pool_modes", ", ".join(summary.pool_modes or ()))
    return modes if {*modes.split(", ")} <= {*MODES} else ""


def _extent(summary: Summary) -> str:
    coverage, asked = summary.coverage, len(summary.tests)
    if coverage.deselected:
        return f"these {asked:,} of {asked + coverage.deselected:,} tests go"
    # What --last-failed leaves out is never collected, and cannot be counted.
    return f"these {counted(asked, 'test')} go" if coverage.by else "the network goes"


def _kept(summary: Summary, *, by_how_much: bool = True) -> str:
    kept = [one for one in summary.promises if one.state == "pass"]
    if not kept:
        limit = ", though none put a limit on a figure" if _measured(summary) else ""
        return f"every test that ran passed{limit}"
    by = _nearest(kept, "the closest") if by_how_much else ""
    if len(kept) == 1:
        return f"the one promise was kept{by}"
    return f"{'both' if len(kept) == 2 else f'all {len(kept)}'} promises were kept{by}"


def _nearest(promises: Sequence[GateResult], which: str) -> str:
    """Return by how much the first of each kind: points and milliseconds do not compare."""
    first: dict[tuple[str, str], GateResult] = {}
    for one in promises:
        if one.spare is not None:
            first.setdefault((kind_of(one), one.unit), one)
    if not first:
        return ""
    several = len(promises) > len(first)
    if len(first) == 1:
        by = f"by {promise_text(next(iter(first.values()))).apart}"
        return f", {which} {by}" if several else f", {by}"
    by = ", ".join(f"{kind_of(one)} by {promise_text(one).apart}" for one in first.values())
    return f", {which}: {by}" if several else f": {by}"


def _tested_what_is_in_use(summary: Summary) -> bool:
    """Return whether all modes of the cluster's pools, as far as known, were tested."""
    in_use, tested = summary.pool_modes, {*summary.coverage.modes}
    if in_use is not None and len(in_use) == 1 and any(map(_in_no_mode, summary.samples)):
        # Pods of no particular mode are in the one that there is.
        tested |= {*in_use}
    return in_use is not None and {*in_use} <= tested


def _in_no_mode(sample: Record) -> bool:
    ends = (mapping(sample.get("client")), mapping(sample.get("server")))
    return usable(sample) and not sample.get("mode") and all(x.get("kind") == "pod" for x in ends)


def _undecided(summary: Summary) -> str:
    """Return how many promises were kept, and how near the nearest undecided one is."""
    kept = sum(one.state == "pass" for one in summary.promises)
    open_ = [one for one in summary.promises if one.state == "inconclusive"]
    if not open_:
        return f"{counted(summary.counts.get('inconclusive', 0), 'test')} could not decide"
    told = f"{kept} of {counted(kept + len(open_), 'promise')} kept, {len(open_)} undecided"
    how = undecided_text(open_[0])
    return f"{told}{', the first' if len(open_) > 1 else ','} {how}" if how else told


def _settle(summary: Summary) -> str:
    """Return what settles the nearest undecided promise, as far as its gate knows."""
    needed = next((settled_by(x) for x in summary.promises if x.state == "inconclusive"), "")
    if needed == TOO_CLOSE:
        return "No measurement settles that: have the requester set the limit further off."
    return "Measure again, longer or when the machines are quieter."


def _cut_off(summary: Summary) -> str:
    """Return that nothing is known of the whole, and how far the run came."""
    done = len(summary.tests)
    ended = "it was interrupted" if summary.ended else "it was killed, or still runs"
    left = summary.coverage.unfinished
    far = f"{done} of {counted(done + left, 'test')}" if left else counted(done, "test")
    return (
        f"Do not approve: the result as a whole is not known. The run stopped after {far} "
        f"({ended}): run it again."
    )


def _unfinished_text(summary: Summary) -> str:
    left = summary.coverage.unfinished
    return f" {left:,} of {counted(_asked(summary), 'test')} did not run to an end." if left else ""


def _because(reason: str) -> str:
    """Return the first line of a reason: what is to do about it is for an engineer."""
    first = next((line.strip() for line in reason.strip().splitlines()), "")
    return f": {first.rstrip('.')}." if first else "."


def to_do_text(summary: Summary) -> str:
    """Return what an engineer is to do where tests met trouble, or where none could be run."""
    outcomes = ("error", "skipped") if summary.outcome == "empty" else ("error",)
    lines = [
        line.strip()
        for test in summary.tests
        if test.outcome in outcomes
        for line in test.reason.splitlines()
    ]
    return next((line[6:].strip() for line in lines if line.startswith("to do:")), "")


def _untested(summary: Summary) -> str:
    modes, skipped = summary.coverage.modes, summary.coverage.modes_skipped
    if skipped:
        were = "was" if len(skipped) == 1 else "were"
        return f"{len(skipped)} of {counted(len(modes) + len(skipped), 'mode')} {were} not tested"
    expected = sum(test.xfail is not None for test in summary.tests)
    if expected:
        return f"{expected:,} of {counted(_asked(summary), 'test')} failed as expected (xfail)"
    left = summary.counts.get("skipped", 0) + summary.coverage.unfinished
    were = "was" if left == 1 else "were"
    return f"{left:,} of {counted(_asked(summary), 'test')} {were} not run"


def _missed(summary: Summary) -> int:
    return sum(one.state == "fail" for one in summary.promises)


def _missed_text(summary: Summary) -> str:
    missed = [one for one in summary.promises if one.state == "fail"]
    failed = {test.name for test in summary.tests if test.outcome == "failed"}
    if not missed:
        return f"{counted(len(failed), 'test')} failed"
    decided = len(missed) + sum(one.state == "pass" for one in summary.promises)
    told = f"{len(missed)} of {counted(decided, 'promise')} {'was' if len(missed) == 1 else 'were'}"
    told += f" missed{_nearest(missed, 'the worst')}"
    if open_ := sum(one.state == "inconclusive" for one in summary.promises):
        told += f"; {open_} more {'is' if open_ == 1 else 'are'} undecided"
    if others := len(failed - {one.test for one in missed}):
        told += f"; {counted(others, 'more test')} failed"
    return told


def reason_lines(summary: Summary) -> list[str]:
    """Return why a run ended before its time, as far as pytest has said it."""
    return [line for line in summary.reason.splitlines() if line.strip()]


def counts_text(summary: Summary) -> str:
    """Return ``1 failed, 2 inconclusive, 10 passed, 3 skipped``."""
    expected = sum(test.xfail is not None for test in summary.tests)
    counts = {**summary.counts, "skipped": summary.counts.get("skipped", 0) - expected}
    found = [
        counted(counts[outcome], "error")
        if outcome == "error"
        else f"{counts[outcome]:,} {outcome}"
        for outcome in _COUNT_ORDER
        if counts.get(outcome)
    ]
    if expected:
        found.append(f"{expected:,} failed as expected")
    if summary.coverage.unfinished and summary.outcome not in ("running", "empty"):
        found.append(f"{summary.coverage.unfinished:,} not finished")
    return ", ".join(found) or "no test finished"


def worst_trouble(summary: Summary) -> FinishedTest | None:
    """Return the test that missed its promise by most, else one in trouble; None if all is well."""
    order = {one.test: rank for rank, one in reversed([*enumerate(summary.promises)])}
    return min(
        (test for test in summary.tests if test.outcome in _TROUBLES),
        key=lambda test: (_TROUBLES.index(test.outcome), order.get(test.name, len(order))),
        default=None,
    )


def not_tested_text(summary: Summary) -> str:
    """Return what was not tested, and why: modes, tests, nodes and pairs across subnets."""
    coverage = summary.coverage
    found = []
    if coverage.modes_skipped:
        found.append("modes " + ", ".join(coverage.modes_skipped))
    found += [
        f"{counted(count, 'test')} skipped: {reason}" for reason, count in coverage.skipped.items()
    ]
    found += [
        f"{counted(count, 'test')} failed as expected (xfail{f': {why}' if why else ''})"
        for why, count in coverage.expected.items()
    ]
    if coverage.unfinished and summary.outcome not in ("running", "empty"):
        found.append(f"{counted(coverage.unfinished, 'test')} not finished{_begun(summary)}")
    by = f" by {', '.join(coverage.by)}" if coverage.by else ""
    if by and not coverage.deselected:
        found.append(f"what was left out{by}")
    if coverage.deselected:
        modes = f" (modes {', '.join(coverage.modes_left_out)})" if coverage.modes_left_out else ""
        found.append(f"{counted(coverage.deselected, 'test')} left out{by}{modes}")
    return "; ".join([*found, *_places_not_measured(summary)])


def _places_not_measured(summary: Summary) -> Iterator[str]:
    """Yield the nodes and the placement that no sample was taken of, where any was."""
    tested = nodes_measured(summary)
    nodes = objects(mapping(summary.facts).get("nodes"))
    left = [name for node in nodes if (name := words(node.get("name"))) not in tested]
    if tested and left:
        yield f"{'node' if len(left) == 1 else 'nodes'} {first_few(left)}"
    subnets = {words(node.get("subnet")) for node in nodes} - {"", "unknown"}
    if tested and subnets and all(x.get("placement") != "cross-subnet" for x in summary.samples):
        why = " (the nodes lie in one)" if len(subnets) == 1 else ""
        yield f"pairs across subnets{why}"


def _begun(summary: Summary) -> str:
    """Return which tests are unfinished, where that is known, and which had measured something."""
    coverage, ended = summary.coverage, {test.name for test in summary.tests}
    begun = {words(x.get("test")) for x in summary.samples} - ended - {""}
    named = list(coverage.unfinished_names) or sorted(begun)
    told = [
        name.rpartition("::")[2] + (" (had begun to measure)" if name in begun else "")
        for name in sorted(named, key=lambda name: name not in begun)
    ]
    if not told:
        return ""
    more = coverage.unfinished - len(told[:_MOST_NAMED])
    rest = f" and {more:,} more" if more > 0 else ""
    return f": {', '.join(told[:_MOST_NAMED])}{rest}"
