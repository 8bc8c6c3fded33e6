"""Sentences of a report, for a reader who knows no networking; all drawings share them.

They may contain foreign names: each drawing makes them safe in its own way. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from pytest_k8snet.report.format import (
    counted,
    in_unit,
    limit_text,
    moment,
    unit_of,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    ChangedObject,
    FinishedTest,
    GateResult,
    Key,
    Summary,
    differences_of,
    distortions,
)
from pytest_k8snet.report.records import mapping, objects, usable, words
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
    """Return what a report is called: its headline, or that it is a rehearsal only."""
    if on_lab(summary):
        return "Rehearsal on the embedded lab: no real cluster was tested"
    return headline(summary)


def headline(summary: Summary) -> str:
    """Return what became of the run: ``Passed what was tested: 1 of 5 modes``."""
    word = OUTCOME_WORDS[summary.outcome]
    if summary.outcome == "partly":
        word = f"{word}: {_tested_share(summary)}"
    return f"{word}, on the embedded lab only" if on_lab(summary) else word


def _tested_share(summary: Summary) -> str:
    modes, skipped = summary.coverage.modes, summary.coverage.modes_skipped
    if skipped:
        share = f"{len(modes)} of {counted(len(modes) + len(skipped), 'mode')}"
        in_use = "the one in use" if len(modes) == 1 else "all that are in use"
        return f"{share}, {in_use}" if _tested_what_is_in_use(summary) else share
    tried = len(summary.tests) - summary.counts.get("skipped", 0)
    return f"{tried:,} of {counted(len(summary.tests) + summary.coverage.unfinished, 'test')}"


def answer_text(summary: Summary) -> str:
    """Return whether the change may be approved on this run, and why; the answer comes first."""
    errors = summary.counts.get("error", 0)
    if summary.outcome in ("passed", "partly") and on_lab(summary):
        answer = f"Approve nothing on this: {_kept(summary)}, but on no real cluster."
    elif summary.outcome == "passed":
        answer = f"Approve, as far as {_extent(summary)}: {_kept(summary)}."
    elif summary.outcome == "partly":
        answer = _partly(summary)
    elif summary.outcome == "failed" and (summary.counts.get("failed") or _missed(summary)):
        answer = f"Do not approve: {_missed_text(summary)}."
        if errors:
            answer += f" {counted(errors, 'more test')} could not measure, and prove nothing."
    elif summary.outcome == "failed" and errors:
        cause = next(test.reason for test in summary.tests if test.outcome == "error")
        answer = (
            f"Do not approve on this: {counted(errors, 'test')} met trouble and could not measure"
            f"{_because(cause)} That proves nothing for or against the change: repair it and run "
            "again."
        )
    elif summary.outcome == "failed":
        answer = "Do not approve on this: something beside its tests went wrong."
    elif summary.outcome == "inconclusive":
        answer = (
            f"Do not approve yet: {_undecided(summary)}. Measure again, longer or when the "
            "machines are quieter."
        )
    elif summary.outcome == "cut":
        answer = f"Do not approve: {_cut_off(summary)} Run it again."
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


def _extent(summary: Summary) -> str:
    if not summary.coverage.deselected:
        return "the network goes"
    asked = len(summary.tests)
    return f"these {asked:,} of {asked + summary.coverage.deselected:,} tests go"


def _kept(summary: Summary) -> str:
    kept = [one for one in summary.promises if one.state == "pass"]
    if not kept:
        return "every test that ran passed"
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
    by = " and ".join(f"by {_distance(one)}" for one in first.values())
    return f", {which} {by}" if len(promises) > len(first) else f", {by}"


def _tested_what_is_in_use(summary: Summary) -> bool:
    """Return whether all modes of the cluster's pools, as far as known, were tested."""
    return summary.pool_modes is not None and {*summary.pool_modes} <= {*summary.coverage.modes}


def _partly(summary: Summary) -> str:
    """Return whether what was not tested matters: a mode that no pool has does not, as it is."""
    coverage, in_use = summary.coverage, summary.pool_modes or ()
    kept = _kept(summary)
    if _tested_what_is_in_use(summary) and not coverage.missing_beside_modes:
        one = len(in_use) == 1
        others = len(coverage.modes_skipped)
        return (
            "Approve, unless the change switches the network mode: "
            f"{'the only mode' if one else f'the {len(in_use)} modes'} that this cluster uses "
            f"({', '.join(in_use)}) {'was' if one else 'were'} tested and passed; "
            f"{counted(others, 'other was', 'others were')} not tested (not in use). "
            f"{kept[0].upper()}{kept[1:]}."
        )
    missing = [mode for mode in in_use if mode not in coverage.modes]
    if missing:
        which = f"{_some(missing)}, which this cluster uses,"
        were = "was" if len(missing) == 1 else "were"
        return f"Do not approve: {which} {were} not tested. Of what was, {kept}."
    return f"Do not approve on this alone: {_untested(summary)}. Of what was, {kept}."


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
    """Return why a run ended, what of its tests is not finished, and what it had seen by then."""
    coverage, tests = summary.coverage, len(summary.tests) + summary.coverage.unfinished
    ended = "was interrupted" if summary.ended else "recorded no end (killed, or it still runs)"
    told = f"the run {ended}"
    if coverage.unfinished:
        told += (
            f", and {coverage.unfinished} of {counted(tests, 'test')} did not finish: no figure is "
            "sure"
        )
    seen = unfinished_sentences(summary)
    return f"{told}. Seen by then: {seen[0][0].lower()}{seen[0][1:]}." if seen else f"{told}."


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
    left = summary.counts.get("skipped", 0) + summary.coverage.unfinished
    tests = counted(len(summary.tests) + summary.coverage.unfinished, "test")
    return f"{left:,} of {tests} {'was' if left == 1 else 'were'} not run"


def _missed(summary: Summary) -> int:
    return sum(one.state == "fail" for one in summary.promises)


def _missed_text(summary: Summary) -> str:
    missed, decided = _missed(summary), [x for x in summary.promises if x.state in ("pass", "fail")]
    if not missed:
        return f"{counted(summary.counts.get('failed', 0), 'test')} failed"
    which = "was" if missed == 1 else "were"
    by = _nearest(decided[:missed], "the worst")
    return f"{missed} of {counted(len(decided), 'promise')} {which} missed{by}"


def reason_lines(summary: Summary) -> list[str]:
    """Return why a run ended before its time, as far as pytest has said it."""
    return [line for line in summary.reason.splitlines() if line.strip()]


def counts_text(summary: Summary) -> str:
    """Return ``1 failed, 2 inconclusive, 10 passed, 3 skipped``."""
    found = [
        counted(summary.counts[outcome], "error")
        if outcome == "error"
        else f"{summary.counts[outcome]:,} {outcome}"
        for outcome in _COUNT_ORDER
        if summary.counts.get(outcome)
    ]
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
    if coverage.unfinished and summary.outcome not in ("running", "empty"):
        found.append(f"{counted(coverage.unfinished, 'test')} not finished{_begun(summary)}")
    if coverage.deselected:
        by = f" by {', '.join(coverage.by)}" if coverage.by else ""
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
        return f"{gate.claim}: no figure"
    who, figure = _who(gate.key), _figure(gate)
    of = words(gate.record.get("baseline"))
    if who and not gate.unit and gate.quantity.startswith("bandwidth") and of:
        whole = _BETWEEN.get(of, "of the earlier run" if "run" in of else f"of {of}")
        return f"{who} get {figure.replace(' %', f' % of the bandwidth {whole}', 1)}"
    if who and gate.unit == "bit/s":
        return f"{who} carry {figure}"
    if gate.unit == "s" and (text := _requests(gate, figure)):
        return text
    if who and gate.quantity and not gate.unit and not of:
        return f"The {gate.quantity} of {who[0].lower()}{who[1:]} is {figure}"
    return f"{gate.claim}{_in_mode(gate.key)}: {figure}"


def _who(key: Key) -> str:
    pair = _PAIRS.get(key.scene, "")
    if not pair:
        return ""
    mode = _in_mode(key) if key.scene != BASELINE_SCENE else ""
    across = " across subnets" if key.placement == "cross-subnet" else ""
    return f"{pair[0].upper()}{pair[1:]}{mode}{across}"


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
    return f"{share} of the {noun}{_from_to(gate)} took at most {figure}"


def _from_to(gate: GateResult) -> str:
    client, _, target = gate.key.scene.partition("-")
    mode = _in_mode(gate.key)
    if pair := _PAIRS.get(gate.key.scene):
        return f" between {pair}{mode}"
    if client not in _CLIENTS:
        return ""
    return f" from {_CLIENTS[client]}{mode} to {_TARGETS.get(target, target)}"


def _figure(gate: GateResult) -> str:
    figure = _amount(gate.estimate or 0.0, gate)
    if gate.state == "inconclusive" and gate.low is not None and gate.high is not None:
        low, high = _amount(gate.low, gate), _amount(gate.high, gate)
        return f"{figure} (could be anything from {low} to {high})"
    return figure


def _amount(value: float, gate: GateResult) -> str:
    if gate.unit:
        return in_unit(value, gate.unit)
    return f"{value * 100:,.{_digits(value, gate)}f} %"


def _digits(value: float, gate: GateResult) -> int:
    """Return as many decimals of a percentage as tell the figure from its limit."""
    return next((n for n in (1, 2, 3) if round((value - (gate.limit or 0.0)) * 100, n)), 1)


def _distance(gate: GateResult) -> str:
    """Return how far the figure is from its limit: the difference of the two as they are shown."""
    if gate.estimate is None or gate.limit is None:
        return "an unknown distance"
    if gate.unit:
        return in_unit(abs(gate.estimate - gate.limit), gate.unit)
    digits = _digits(gate.estimate, gate)
    distance = abs(round(gate.estimate * 100, digits) - gate.limit * 100)
    return f"{distance:,.{digits}f} percentage points"


def _promised(gate: GateResult) -> str:
    if gate.limit is None:
        return "nothing was promised"
    limit = limit_text(gate, as_percent=True).partition(" ")[2]
    return f"{_LEAST.get(gate.relation, '')}{limit} was promised"


def _outcome(gate: GateResult) -> str:
    if gate.state == "inconclusive":
        return "too close or too noisy to decide"
    if gate.state == "monitor":
        return "only watched"
    if gate.spare is None:
        return "kept" if gate.state == "pass" else "missed"
    distance = _distance(gate)
    return f"{'kept' if gate.state == 'pass' else 'missed'} by {distance}"


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
        share = f"{ratio.value * 100:,.1f} % of the bandwidth between the nodes"
        told = f"{who} had {share}{promised}, from {count} only: not finished"
        found.append((ratio.value, told))
    return [told for _, told in sorted(found, key=lambda one: one[0])]


def _promised_of_the_same(names: Collection[str], summary: Summary) -> str:
    """Return what a test promised in another mode: an unfinished one's own limit is not known."""
    functions = {name.partition("[")[0] for name in names}
    limits = {
        limit_text(one, as_percent=True).partition(" ")[2]
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
    limits = sorted(
        {limit_text(gate, as_percent=True) for gate in summary.promises if gate.limit is not None}
    )
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
    return f"earlier run {summary.baseline.get('source')}{was}{measured}"


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
    if not summary.switches:
        return ""
    known = [one for one in summary.switches if one.longest_gap_seconds is not None]
    cut_off = [one.what for one in summary.switches if not one.recovered]
    unknown = len(summary.switches) - len(known) - len(cut_off)
    found = [f"NOT RECOVERED after {what}" for what in cut_off]
    if known:
        lost = sum(one.lost or 0 for one in known)
        requests = sum(one.requests or 0 for one in known)
        worst = max(known, key=lambda one: one.longest_gap_seconds or 0.0)
        over = f" in {counted(len(known), 'switch', 'switches')}" if len(known) > 1 else ""
        found.append(f"{lost:,} of {counted(requests, 'request')} lost{over}")
        found.append(f"longest gap {in_unit(worst.longest_gap_seconds, 's')} ({worst.what})")
    if unknown:
        found.append(
            f"NOT KNOWN for {unknown} of {counted(len(summary.switches), 'switch', 'switches')}"
        )
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
