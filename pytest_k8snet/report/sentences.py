"""Sentences of a report, for a reader who knows no networking; all drawings share them.

They may contain foreign names: each drawing makes them safe in its own way. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_k8snet.report.format import (
    counted,
    estimate_text,
    in_unit,
    limit_text,
    moment,
    percent,
    promise_text,
    unit_of,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    MODES,
    SWITCH_SCENE,
    ChangedObject,
    Comparison,
    FinishedTest,
    GateResult,
    Key,
    Summary,
    differences_of,
    distortions,
)
from pytest_k8snet.report.records import Record, mapping, objects, real, usable, whole, words
from pytest_k8snet.verdict.plan import written

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
#: Most unfinished tests that are named.
_MOST_NAMED = 6
#: Objects of Calico's IPAM, which go with the pool that they are cut from.
_BLOCKS = ("ipamblocks/", "blockaffinities/", "ipamhandles/")
#: What the Kubernetes version of the embedded lab ends with.
_LAB_VERSION = "+k8snet-lab"


# -- The answer -----------------------------------------------------------------------------------


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
    word = _outcome_text(summary)
    return f"Rehearsal: {word[0].lower()}{word[1:]} ({counts})"


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
            f"{_because(cause)} That proves nothing for or against the change: repair it and run "
            f"again.{_unfinished_text(summary)}"
        )
    elif summary.outcome == "failed":
        answer = "Do not approve on this: something beside its tests went wrong."
    elif summary.outcome == "inconclusive":
        answer = (
            f"Do not approve yet: {_undecided(summary)}. Measure again, longer or when the "
            f"machines are quieter.{_unfinished_text(summary)}"
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
    if summary.restored is False:
        answer += " The cluster was NOT put back as it was."
    return answer


def _of_passed(summary: Summary) -> str:
    """Return the answer where no test failed: on what of the cluster it rests, and on what not."""
    coverage, kept = summary.coverage, _kept(summary)
    if _missed(summary):
        # pytest calls that no failure.
        expected = f"{_missed_text(summary)}, as its test expects (xfail)"
        return f"Do not approve on this: {expected}."
    if on_lab(summary):
        return f"Approve nothing on this: {kept}, but on no real cluster."
    if not _measured(summary):
        return f"Do not approve on this: {kept}, but no figure of the network was measured."
    in_use = _tested_what_is_in_use(summary)
    missing = [mode for mode in summary.pool_modes or () if mode not in coverage.modes]
    if missing and coverage.modes and not in_use:
        were = "was" if len(missing) == 1 else "were"
        which = f"{_some(missing)}, which this cluster uses, {were} not tested"
        return f"Do not approve: {which}. Of what was, {kept}."
    if summary.outcome == "partly" and (not in_use or coverage.missing_beside_modes):
        return f"Do not approve on this alone: {_untested(summary)}. Of what was, {kept}."
    others = {*coverage.modes_skipped, *coverage.modes_left_out}
    if not (in_use and others):
        return f"Approve, as far as {_extent(summary)}: {kept}."
    return _answer_by_mode(summary, len(others), kept)


def _answer_by_mode(summary: Summary, others: int, kept: str) -> str:
    """Return the answer where only modes in use were tested: does the change switch the mode?"""
    now = summary.pool_modes or ()
    extent, names = _extent(summary), _some(now)
    tested = "that mode was tested" if len(now) == 1 else "those modes were tested"
    then = _earlier_modes(summary)
    if {*then.split(", ")} == {*now}:
        how = f"the change left the network mode as it was ({names})"
        return f"Approve, as far as {extent}: {how}, {tested}, and {kept}."
    if then:
        how = f"the change switched the network mode from {then} to {names}"
        return f"Approve, as far as {extent}: {how}, {tested}, and {kept}."
    left = "the 1 other mode was" if others == 1 else f"the {others} other modes were"
    lead = f"Approve, as far as {extent}," if summary.coverage.by else "Approve"
    return (
        f"{lead} if the answer to one question is no: does the change switch the network mode "
        f"(Calico's encapsulation, now {names})? {tested[0].upper()}{tested[1:]}, "
        f"and {kept}. If yes, do not approve: {left} not tested."
    )


def _earlier_modes(summary: Summary) -> str:
    """Return the modes of the pools in the earlier run; empty where that is not known."""
    differences = summary.baseline and differences_of(summary.baseline)
    if not differences:
        return ""
    then = {one.fact: one.before for one in differences}
    modes = then.get("pool_modes", ", ".join(summary.pool_modes or ()))
    return modes if {*modes.split(", ")} <= {*MODES} else ""


def _extent(summary: Summary) -> str:
    coverage, asked = summary.coverage, len(summary.tests)
    if coverage.deselected:
        return f"these {asked:,} of {asked + coverage.deselected:,} tests go"
    # What --last-failed leaves out is never collected, and cannot be counted.
    return f"these {counted(asked, 'test')} go" if coverage.by else "the network goes"


def _kept(summary: Summary) -> str:
    kept = [one for one in summary.promises if one.state == "pass"]
    if not kept:
        limit = ", though none put a limit on a figure" if _measured(summary) else ""
        return f"every test that ran passed{limit}"
    by = _nearest(kept, "the closest")
    if len(kept) == 1:
        return f"the one promise was kept{by}"
    return f"{'both' if len(kept) == 2 else f'all {len(kept)}'} promises were kept{by}"


def _nearest(promises: Sequence[GateResult], which: str) -> str:
    """Return by how much the first of each unit: points and milliseconds do not compare."""
    first: dict[str, GateResult] = {}
    for one in promises:
        if one.spare is not None:
            first.setdefault(one.unit, one)
    if not first:
        return ""
    by = " and ".join(f"by {promise_text(one).apart}" for one in first.values())
    return f", {which} {by}" if len(promises) > len(first) else f", {by}"


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
    """Return how many promises were kept, and between what the nearest undecided figure lies."""
    kept = sum(one.state == "pass" for one in summary.promises)
    open_ = [one for one in summary.promises if one.state == "inconclusive"]
    if not open_:
        return f"{counted(summary.counts.get('inconclusive', 0), 'test')} could not decide"
    told = f"{_finding(open_[0])}; {_promised(open_[0])}"
    more = f", and {len(open_) - 1} more" if len(open_) > 1 else ""
    return (
        f"{kept} of {counted(kept + len(open_), 'promise')} kept, {len(open_)} undecided: "
        f"{told}{more}"
    )


def _cut_off(summary: Summary) -> str:
    """Return that nothing is known of the whole, and how far the run came."""
    done = len(summary.tests)
    ended = "it was interrupted" if summary.ended else "it was killed, or still runs"
    left = summary.coverage.unfinished
    far = f"{done} of {counted(done + left, 'test')}" if left else counted(done, "test")
    return (
        "Do not approve: the result is not known, and neither is by how much. The run stopped "
        f"after {far} ({ended}): run it again."
    )


def _unfinished_text(summary: Summary) -> str:
    left = summary.coverage.unfinished
    return f" {left:,} of {counted(_asked(summary), 'test')} did not run to an end." if left else ""


def _because(reason: str) -> str:
    """Return the first line of a reason, and what is to do about it where it says so."""
    lines = [line.strip() for line in reason.strip().splitlines()]
    if not lines:
        return "."
    to_do = next((line[6:].strip() for line in lines if line.startswith("to do:")), "")
    told = f": {lines[0].rstrip('.')}."
    return f"{told} To do: {to_do.rstrip('.')}." if to_do else told


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
    tested = _nodes_measured(summary)
    nodes = objects(mapping(summary.facts).get("nodes"))
    left = [name for node in nodes if (name := words(node.get("name"))) not in tested]
    if tested and left:
        yield f"{'node' if len(left) == 1 else 'nodes'} {_some(left)}"
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


# -- Which cluster --------------------------------------------------------------------------------


def on_lab(summary: Summary) -> bool:
    """Return whether the run was on the embedded lab, or was to be."""
    asked = words(mapping(mapping(summary.run.get("settings")).get("lab")).get("value"))
    return asked == "True" or _cluster_fact(summary, "kubernetes_version").endswith(_LAB_VERSION)


def lab_text(summary: Summary) -> str:
    """Return the warning that no real cluster was tested; empty where one was."""
    if not on_lab(summary):
        return ""
    where = words(summary.run.get("host")) or "one machine"
    return f"Embedded lab on {where}: NO real cluster was tested. Approve nothing on this report."


def cluster_text(summary: Summary) -> str:
    """Return which cluster it was: context, server, versions and nodes."""
    if summary.facts is None:
        return "not known: no cluster was reached"
    context, server = _cluster_fact(summary, "context"), _cluster_fact(summary, "server")
    known = _cluster_fact(summary, "kubernetes_version") not in ("", "unknown")
    name = f"{'real cluster' if known else 'cluster'} {context}".rstrip()
    name = "EMBEDDED LAB, no real cluster" if on_lab(summary) else name
    versions = [
        f"{title} {version}"
        for title, key in (("Kubernetes", "kubernetes_version"), ("Calico", "calico_version"))
        if (version := _cluster_fact(summary, key))
    ]
    return ", ".join(filter(None, [name, server, *versions, _nodes_text(summary)]))


def _cluster_fact(summary: Summary, name: str) -> str:
    return words(mapping(mapping(summary.facts).get("cluster")).get(name))


def _nodes_text(summary: Summary) -> str:
    text = counted(len(objects(mapping(summary.facts).get("nodes"))), "node")
    tested = _nodes_measured(summary)
    return f"{text} (measured on {', '.join(tested)})" if tested else text


def _nodes_measured(summary: Summary) -> list[str]:
    found = dict.fromkeys(
        words(mapping(sample.get(end)).get("node"))
        for sample in summary.samples
        for end in ("client", "server")
    )
    return [name for name in found if name]


# -- One sentence per promise ---------------------------------------------------------------------

_PAIRS = {
    "pod-pod": "pods",
    "node-node": "nodes",
    "pod-node": "pods to nodes",
    "node-pod": "nodes to pods",
    "same-node": "pods on one node",
}
_STATES = {"pass": "kept", "fail": "missed"}
_LEAST = {">=": "at least ", ">": "more than ", "<=": "at most ", "<": "less than "}
_BETWEEN = {
    "pod-pod": "between pods",
    "node-node": "between the nodes",
    "pod-node": "from pods to nodes",
    "node-pod": "from nodes to pods",
    "same-node": "between pods on one node",
}
_PLACES = {
    "same-subnet": "on nodes in one IP subnet",
    "cross-subnet": "on nodes in different IP subnets, with a router between",
}
_CLIENTS = {"pod": "a pod", "node": "a node", "outside": "outside the cluster"}
_TARGETS = {
    "clusterip": "the Service's cluster address",
    "dns": "the Service's name",
    "nodeport": "a node's port",
    "loadbalancer": "the load balancer",
}
_PHASES = {
    "dns": "name look-ups",
    "connect": "connections",
    "tls": "TLS handshakes",
    "first_byte": "waits for the first byte",
    "total": "requests",
    "rtt": "pings",
}


def promise_sentence(gate: GateResult) -> str:
    """Return a promise and what came of it for a reader who knows no networking.

    ``Pods in VXLAN-Always get 96.4 % of the bandwidth between the nodes; at least 90 % was
    promised: kept by 6.4 percentage points``
    """
    return f"{_finding(gate)}; {_promised(gate)}: {_outcome(gate)}"


def _finding(gate: GateResult) -> str:
    if gate.estimate is None:
        return f"{gate.subject}{_in_mode(gate.key)}: no figure"
    who, figure = _who(gate.key), _figure(gate)
    of = words(gate.record.get("baseline"))
    if who and not gate.unit and gate.quantity.startswith("bandwidth") and of:
        whole = _BETWEEN.get(of, "of the earlier run" if "run" in of else f"of {of}")
        return f"{who} get {figure.replace(' %', f' % of the bandwidth {whole}', 1)}"
    if who and gate.unit == "bit/s":
        return f"{who} carry {figure}"
    if gate.unit == "s" and (text := _requests(gate, figure)):
        return text
    if gate.key.scene == SWITCH_SCENE and gate.unit == "s":
        to = f" to {gate.key.mode}" if gate.key.mode else ""
        return f"Switching{to} left pods beside the test without an answer for at most {figure}"
    if who and gate.quantity and not gate.unit and not of:
        return f"The {gate.quantity} of {who[0].lower()}{who[1:]} is {figure}"
    return f"{gate.subject}{_in_mode(gate.key)}: {figure}"


def _who(key: Key) -> str:
    pair = _PAIRS.get(key.scene, "")
    if not pair:
        return ""
    mode = _in_mode(key) if key.scene != BASELINE_SCENE else ""
    across = " across subnets" if key.placement == "cross-subnet" else ""
    variant = f" ({key.variant})" if key.variant else ""
    return f"{pair[0].upper()}{pair[1:]}{mode}{across}{variant}"


def _in_mode(key: Key) -> str:
    if key.mode == "Never":
        return " without a tunnel (Never)"
    return f" in {key.mode}" if key.mode else ""


def _requests(gate: GateResult, figure: str) -> str:
    """Return ``95 % of the connections from a node to the Service's name took at most 5 ms``."""
    phase, _, statistic = gate.quantity.partition(" ")
    share = {"p50": "Half", "median": "Half", "maximum": "All"}.get(statistic, "")
    if statistic[:1] == "p" and statistic[1:].replace(".", "").isdigit() and not share:
        share = f"{statistic[1:]} %"
    noun = _PHASES.get(phase)
    if not share or noun is None:
        return ""
    return f"{share} of the {noun}{_from_to(gate.key)} took at most {figure}"


def _from_to(key: Key) -> str:
    client, _, target = key.scene.partition("-")
    mode = _in_mode(key)
    if between := _BETWEEN.get(key.scene):
        return f" {between}{mode}"
    if client not in _CLIENTS:
        return ""
    return f" from {_CLIENTS[client]}{mode} to {_TARGETS.get(target, target)}"


def terms_text(keys: Iterable[Key]) -> str:
    """Return what the terms of a drawing mean: scenes, placements and modes that it has."""
    known = list(keys)
    terms = {
        **{key.scene: _from_to(replace(key, mode="")) for key in known},
        **{key.placement: _PLACES.get(key.placement, "") for key in known},
    }
    told = [f"{term}: {meaning.strip()}" for term, meaning in terms.items() if meaning]
    if any(key.mode for key in known):
        told.append(
            "Never, VXLAN-..., IPIP-...: the network mode, that is whether packets of pods travel "
            "inside other packets (a tunnel): never, always, or between subnets only (CrossSubnet)"
        )
    return "; ".join(["Nodes are the cluster's machines, pods run on them", *told]) if told else ""


def _figure(gate: GateResult) -> str:
    texts = promise_text(gate)
    if gate.state == "inconclusive" and texts.ends is not None:
        return f"{texts.spoken} (could be anything from {texts.ends[0]} to {texts.ends[1]})"
    return texts.spoken


def _promised(gate: GateResult) -> str:
    if gate.limit is None:
        return "nothing was promised"
    return f"{_LEAST.get(gate.relation, '')}{promise_text(gate).limit} was promised"


def _outcome(gate: GateResult) -> str:
    if gate.state == "inconclusive":
        return "too close or too noisy to decide"
    if gate.state == "monitor":
        return "only watched"
    apart = promise_text(gate).apart
    word = "kept" if gate.state == "pass" else "missed"
    return f"{word} by {apart}" if apart else word


def unfinished_sentences(summary: Summary) -> list[str]:
    """Return what tests that never ended had measured, the lowest ratio first; undecided it is."""
    ended = {test.name for test in summary.tests}
    found = []
    for one in (one for tool in summary.tools for one in tool.measurements):
        samples = [x for x in one.samples if usable(x) and words(x.get("test")) not in ended]
        if not samples or one.gates or one.key.scene == BASELINE_SCENE:
            continue
        ratio = one.rate.ratio if one.rate is not None else None
        who = _who(one.key) or one.key.text
        count = counted(len(samples), "sample")
        if ratio is None or one.key.scene not in _PAIRS:
            found.append((math.inf, f"{who}, from {count} only: not finished"))
            continue
        promised = _promised_of_the_same({words(x.get("test")) for x in samples}, summary)
        share = f"{percent(ratio.value)} of the bandwidth between the nodes"
        told = f"{who} had {share}{promised}, from {count} only: not finished"
        found.append((ratio.value, told))
    return [told for _, told in sorted(found, key=lambda one: one[0])]


def _promised_of_the_same(names: Collection[str], summary: Summary) -> str:
    """Return what a test promised in another mode: an unfinished one's own limit is not known."""
    functions = {name.partition("[")[0] for name in names}
    limits = {
        promise_text(one).limit
        for one in summary.promises
        if one.test.partition("[")[0] in functions
        and one.limit is not None
        and one.record.get("baseline") == BASELINE_SCENE
    }
    return f" ({limits.pop()} was promised of other modes)" if len(limits) == 1 else ""


def more_text(more: int) -> str:
    """Return where the promises stand that are not told in a sentence."""
    return f"{more:,} more in the table Promises, none worse than these"


def beside_chart_text(promises: Sequence[GateResult]) -> str:
    """Return the promises that the chart above does not draw, so that the two counts meet."""
    if not promises:
        return ""
    told = "; ".join(
        f"{_finding(one)}, {_promised(one).removesuffix(' was promised')} promised: "
        f"{_STATES.get(one.state, _outcome(one))}"
        for one in promises[:3]
    )
    more = len(promises) - 3
    return f"Not in this chart: {told}{f'; {more} more in the table Promises' if more > 0 else ''}"


# -- The facts of a run ---------------------------------------------------------------------------


def compared_text(summary: Summary) -> str:
    """Return what the figures are compared with: an earlier run, the limits, the nodes' own."""
    if not summary.samples:
        return "nothing: there is no figure"
    bases = _baselines(summary)
    limits = sorted({limit_text(gate) for gate in summary.promises if gate.limit is not None})
    found = [_earlier_run(summary)]
    if bases:
        found.append("node-node on the same nodes: " + ", ".join(bases))
    if limits:
        many = f"; {len(limits) - 6} more" if len(limits) > 6 else ""
        found.append("limits " + ", ".join(limits[:6]) + many)
    return "; ".join(found)


def _earlier_run(summary: Summary) -> str:
    """Return which run is the earlier one, and which Calico each had."""
    now = _cluster_fact(summary, "calico_version")
    measured = f"; measured now: Calico {now}" if now else ""
    if summary.baseline is None:
        return f"no earlier run was given, the limits only{measured}"
    # Without a single difference, the facts of the earlier run may be unknown.
    then = {one.fact: one.before for one in differences_of(summary.baseline)}
    calico = then.get("calico_version", now) if then else ""
    was = f" (Calico {calico})" if calico else ""
    changed = _most_changed(summary.comparisons)
    return f"earlier run {summary.baseline.get('source')}{was}{measured}{changed}"


def _most_changed(comparisons: Iterable[Comparison]) -> str:
    """Return the figure that differs most from the earlier run's, of those that chance is not."""
    found = [
        (abs(math.log(ratio.value)), one, ratio)
        for one in comparisons
        if (ratio := one.ratio) is not None and ratio.low is not None and ratio.high is not None
        if not ratio.low <= 1 <= ratio.high
    ]
    if not found:
        return ""
    _, one, ratio = max(found, key=lambda each: each[0])
    return f"; most changed: {one.key.text}, {one.quantity}: {estimate_text(ratio)} of then"


def _baselines(summary: Summary) -> list[str]:
    """Return node-node by placement, over all modes: no mode changes the path between nodes."""
    values: dict[str, list[float]] = {}
    for one in summary.rates:
        if one.key.scene == BASELINE_SCENE and one.rate is not None:
            name = replace(one.key, mode="", scene="").row_text.lstrip(", ")
            values.setdefault(name, []).extend(one.rate.values)
    return [
        f"{name} {_range(found)} ({counted(len(found), 'sample')})".lstrip()
        for name, found in values.items()
        if found
    ]


def _range(values: Sequence[float]) -> str:
    """Return ``284 to 287 Mbit/s``; one figure where both ends read the same."""
    unit = unit_of("bit/s", values)
    low, high = unit.number(min(values)), unit.text(max(values))
    return high if high.startswith(f"{low} ") else f"{low} to {high}"


def measured_text(summary: Summary) -> str:
    """Return how it was measured."""
    tools = [
        f"{counted(count, 'sample')} by {tool}"
        for tool, count in sorted(summary.counted.items(), reverse=True)
    ]
    if not tools:
        return "nothing"
    found = ", ".join(tools)
    if summary.gates:
        found += f"; {counted(len(summary.gates), 'verdict')}"
        found += f", {counted(summary.discarded, 'sample')} discarded" if summary.discarded else ""
    return found


def plan_text(summary: Summary) -> str:
    """Return the plan of the run's gates; empty where it has none."""
    plan = summary.run.get("plan") if summary.gates else None
    return written(plan) if isinstance(plan, dict) else words(plan)


def changed_text(summary: Summary) -> str:
    """Return what the run changed in the cluster."""
    if not summary.changes:
        # Without any fact of it, no cluster was reached.
        return "nothing but its own pods" if summary.facts is not None else "nothing"
    changes, blocks = changes_and_blocks(summary)
    shown = [_first_change(change) for change in changes[:3]]
    more = len(changes) - len(shown)
    return "; ".join(shown) + (f"; {more} more, see the list" if more else "") + _released(blocks)


def changes_and_blocks(
    summary: Summary,
) -> tuple[Sequence[ChangedObject], Sequence[ChangedObject]]:
    """Return what was changed, apart from address blocks that went with a pool of the run."""
    blocks = [one for one in summary.changes if one.object.startswith(_BLOCKS)]
    return [one for one in summary.changes if one not in blocks], blocks


def _released(blocks: Sequence[ChangedObject]) -> str:
    return f"; {counted(len(blocks), 'address block')} released with them" if blocks else ""


def _first_change(change: ChangedObject) -> str:
    # In place, one pool goes through all the modes.
    more = sum(one["state"] == "applied" for one in change.records) - 1
    return (change.what or change.object) + (
        f", then {counted(more, 'more change')} of it" if more > 0 else ""
    )


def restored_text(summary: Summary) -> str:
    """Return whether it was put back."""
    if summary.restored is None:
        return "there was nothing to put back"
    changes, blocks = changes_and_blocks(summary)
    left = [change.object for change in summary.changes if change.state != "restored"]
    names = _some([change.object for change in changes] if summary.restored else left)
    if summary.restored:
        told = f"yes, all of it ({counted(len(changes), 'object')})"
        return f"{told}{f': {names}' if names else ''}{_released(blocks)}"
    return f"NO: {names or 'the run says so'}. Run: k8snet restore"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def cost_text(summary: Summary) -> str:
    """Return what the changes cost two pods not under test; empty where none was watched."""
    total = len(summary.switches)
    gaps = [
        (gap, one)
        for one in summary.switches
        if (gap := real(one.get("longest_gap_seconds"))) is not None
    ]
    open_ = [words(one["what"]) for one in summary.switches if one.get("recovered") is False]
    found = [f"NOT RECOVERED after {what}" for what in open_]
    if gaps:
        lost, requests = (
            sum(whole(one.get(name)) or 0 for _, one in gaps) for name in ("lost", "requests")
        )
        longest, worst = max(gaps, key=lambda each: each[0])
        over = f" in {counted(len(gaps), 'switch', 'switches')}" if len(gaps) > 1 else ""
        found.append(f"{lost:,} of {counted(requests, 'request')} lost{over}")
        found.append(f"longest gap {in_unit(longest, 's')} ({words(worst['what'])})")
    if unknown := total - len(gaps) - len(open_):
        found.append(f"NOT KNOWN for {unknown} of {counted(total, 'switch', 'switches')}")
    return ", ".join(found)


def distorted_text(summary: Summary) -> str:
    """Return what admission did to the run's pods that changes figures; empty where nothing."""
    found = [one for sample in summary.samples for one in distortions(sample)]
    return "; ".join(dict.fromkeys(found))


def path_text(summary: Summary) -> str:
    """Return how many figures are proven to have taken the path that their mode promises."""
    tally = summary.path
    if tally.total == tally.not_applicable:
        return "no sample crossed a path that could be proven"
    parts = [f"proven for {tally.proven:,} of {counted(tally.total, 'sample')}"]
    if tally.contradicted:
        # One disagreement here; the sample's own error has them all.
        first, *others = tally.text.splitlines() or [""]
        more = f" (and {len(others)} more)" if others else ""
        parts.append(f"CONTRADICTED for {tally.contradicted:,}: {first}{more}")
    if tally.missing:
        parts.append(f"missing for {tally.missing:,}")
    if tally.not_applicable:
        parts.append(f"not applicable for {tally.not_applicable:,}")
    return "; ".join(parts)
