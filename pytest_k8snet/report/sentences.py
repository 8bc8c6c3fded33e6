"""Sentences of a report, for a reader who knows no networking; all drawings share them.

They may contain foreign names: each drawing makes them safe in its own way. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Literal

from pytest_k8snet.report.format import (
    counted,
    estimate_text,
    in_unit,
    own_unit,
    percent,
    promise_text,
    unit_of,
)
from pytest_k8snet.report.model import (
    BASELINE_SCENE,
    SWITCH_SCENE,
    ChangedObject,
    Comparison,
    GateResult,
    Key,
    Summary,
    admission,
)
from pytest_k8snet.report.records import mapping, objects, real, usable, whole, words
from pytest_k8snet.verdict.plan import written

#: Objects of Calico's IPAM, which go with the pool that they are cut from.
_BLOCKS = ("ipamblocks/", "blockaffinities/", "ipamhandles/")
#: What the Kubernetes version of the embedded lab ends with.
_LAB_VERSION = "+k8snet-lab"


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
    return f"Embedded lab on {where}: NO real cluster was tested. Do not approve on this report."


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
    tested = nodes_measured(summary)
    return f"{text} (measured on {', '.join(tested)})" if tested else text


def nodes_measured(summary: Summary) -> list[str]:
    """Return the nodes that a sample is of."""
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
TOO_CLOSE = "too close to the limit to be settled"
_STATES = {"pass": "kept", "fail": "missed"}
_LEAST = {">=": "at least ", ">": "more than ", "<=": "at most ", "<": "less than "}
_BETWEEN = {
    "pod-pod": "between pods",
    "node-node": "between the nodes",
    "pod-node": "from pods to nodes",
    "node-pod": "from nodes to pods",
    "same-node": "between pods on one node",
}
_WHOSE = {"node-node": "the nodes'", "pod-pod": "the pods'"}
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


def told_promises(summary: Summary, most: int) -> list[tuple[GateResult, str]]:
    """Return the promises to tell, with their sentences: the worst, and the worst of each kind.

    The mode that ordinary pods get is marked. Where figures are compared with an earlier run and
    with the nodes, each sentence begins with that.

    Args:
        summary: the run.
        most: how many.
    """
    promises = to_tell(summary)
    alike = [one for one in promises if one.state == promises[0].state]
    first = {(kind_of(one), one.unit): one for one in reversed(alike)}
    must = sorted(first.values(), key=promises.index)[:most]
    others = [one for one in promises if one not in must]
    shown = sorted([*must, *others[: most - len(must)]], key=promises.index)
    wholes = {_whole(one) for one in shown} - {""}
    found = []
    for gate in shown:
        told = promise_sentence(gate, whole_first=len(wholes) > 1)
        mode = gate.key.mode
        if mode and mode == mode_in_use(summary) and gate.key.scene != SWITCH_SCENE:
            here = "Never, in use" if mode == "Never" else f"{mode} (in use)"
            told = told.replace(mode, here, 1)
        found.append((gate, told))
    return found


def mode_in_use(summary: Summary) -> str:
    """Return the mode that ordinary pods get; empty where pools have several, or none is known."""
    modes = summary.pool_modes or ()
    return modes[0] if len(modes) == 1 else ""


def _whole(gate: GateResult) -> str:
    """Return whose bandwidth a figure is a share of; empty where it is none."""
    of = words(gate.record.get("baseline"))
    if gate.unit or not of or not gate.quantity.startswith("bandwidth"):
        return ""
    return _WHOSE.get(of, "the earlier run's" if "run" in of else f"{of}'s")


def kind_of(gate: GateResult) -> str:
    """Return what a promise is on, in a word: ``bandwidth``, ``response time``."""
    if gate.key.scene == SWITCH_SCENE:
        return "interruption"
    if gate.quantity.startswith("bandwidth") or gate.unit == "bit/s":
        return "bandwidth"
    return "response time" if gate.unit == "s" else gate.quantity or gate.subject


def promise_sentence(gate: GateResult, *, whole_first: bool = False) -> str:
    """Return a promise and what came of it for a reader who knows no networking.

    ``Pods in VXLAN-Always get 96.4 % of the bandwidth between the nodes; at least 90 % was
    promised: kept by 6.4 percentage points``
    """
    found = finding(gate, whole_first=whole_first)
    return f"{found}; {promised_text(gate)}: {_outcome(gate)}"


def to_tell(summary: Summary) -> list[GateResult]:
    """Return the promises that differ in words, the worst first: tests may promise the same."""
    found: dict[tuple[str, str], GateResult] = {}
    for one in summary.promises:
        found.setdefault((one.state, promise_sentence(one)), one)
    return list(found.values())


def finding(gate: GateResult, *, whole_first: bool = False) -> str:
    """Return what was measured of a promise: ``Pods in VXLAN-Always get 96.4 % of ...``."""
    if gate.estimate is None:
        return f"{gate.subject}{_in_mode(gate.key)}: no figure"
    who, figure = _who(gate.key), promise_text(gate).spoken
    of = words(gate.record.get("baseline"))
    if who and whole_first and (whose := _whole(gate)):
        return f"Of {whose} bandwidth, {who[0].lower()}{who[1:]} get {figure}"
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
    if noun is not None and statistic == "mean":
        return f"The {noun}{_from_to(gate.key)} took {figure} on average"
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


def promised_text(gate: GateResult) -> str:
    """Return ``at least 90 % was promised``."""
    if gate.limit is None:
        return "nothing was promised"
    return f"{_LEAST.get(gate.relation, '')}{promise_text(gate).limit} was promised"


def _outcome(gate: GateResult) -> str:
    if gate.state == "inconclusive":
        return ", ".join(filter(None, [undecided_text(gate) or "undecided", settled_by(gate)]))
    if gate.state == "monitor":
        return "only watched"
    apart = promise_text(gate).apart
    word = "kept" if gate.state == "pass" else "missed"
    return f"{word} by {apart}" if apart else word


def undecided_text(gate: GateResult) -> str:
    """Return ``between missed by 0.7 and kept by 1.5 percentage points``.

    Empty where the interval does not hold the limit: something else left the promise open.
    """
    if gate.low is None or gate.high is None or gate.limit is None:
        return ""
    if not gate.low <= gate.limit <= gate.high:
        return ""
    ends = (gate.low, gate.high) if gate.relation.startswith(">") else (gate.high, gate.low)
    unit = own_unit(gate)
    missed, kept = (promise_text(replace(gate, estimate=end), unit).apart for end in ends)
    name = kept.partition(" ")[2]
    return f"between missed by {missed.removesuffix(f' {name}')} and kept by {kept}"


def settled_by(gate: GateResult) -> str:
    """Return what would settle an undecided gate; empty where it does not know."""
    record, noun = gate.record, words(gate.record.get("noun"))
    if not undecided_text(gate) or "needed" not in record:
        return ""
    if (needed := whole(record["needed"])) is not None and needed > gate.count:
        return f"about {needed - gate.count:,} more {noun} would settle it"
    return TOO_CLOSE if "too close" in words(record.get("text")) else ""


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
        told = f"{who} had {share}, from {count} only: not finished, promise not known{promised}"
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
    return f" (other modes: {limits.pop()})" if len(limits) == 1 else ""


def more_text(more: int) -> str:
    """Return where the promises stand that are not told in a sentence."""
    return f"{more:,} more in the table Promises, none worse than these of its kind"


def beside_chart_text(promises: Sequence[GateResult]) -> str:
    """Return the promises that the chart above does not draw, so that the two counts meet."""
    if not promises:
        return ""
    told = "; ".join(
        f"{finding(one)}, {promised_text(one).removesuffix(' was promised')} promised: "
        f"{_STATES.get(one.state, _outcome(one))}"
        for one in promises[:3]
    )
    more = len(promises) - 3
    return f"Not in this chart: {told}{f'; {more} more in the table Promises' if more > 0 else ''}"


# -- The facts of a run ---------------------------------------------------------------------------


def compared_text(summary: Summary) -> str:
    """Return what the figures are compared with: an earlier run, and the nodes' own."""
    if not summary.samples:
        return "nothing: there is no figure"
    bases = _baselines(summary)
    found = [_earlier_run(summary)]
    if bases:
        found.append("between the nodes: " + ", ".join(bases))
    return "; ".join(found)


def _earlier_run(summary: Summary) -> str:
    """Return which run is the earlier one, and which Calico each had."""
    now = _cluster_fact(summary, "calico_version")
    measured = f"; measured now: Calico {now}" if now else ""
    if summary.baseline is None:
        return f"no earlier run was given{measured}"
    # Without a single difference, the facts of the earlier run may be unknown.
    calico = summary.then.get("calico_version", now) if summary.then else ""
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
    return [f"{name} {_range(found)}".lstrip() for name, found in values.items() if found]


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
    names = first_few([change.object for change in changes] if summary.restored else left)
    if summary.restored:
        told = f"yes, all of it ({counted(len(changes), 'object')})"
        return f"{told}{f': {names}' if names else ''}{_released(blocks)}"
    return f"NO: {names or 'the run says so'}. Run: k8snet restore"


def first_few(names: Sequence[str]) -> str:
    """Return names in a row; of many, how many more there are."""
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
    return _by_admission(summary, "distorted_by")


def altered_text(summary: Summary) -> str:
    """Return what else admission made different about the run's pods; empty where nothing."""
    return _by_admission(summary, "altered")


def _by_admission(summary: Summary, what: Literal["distorted_by", "altered"]) -> str:
    found = [one for sample in summary.samples for one in admission(sample, what)]
    return "; ".join(dict.fromkeys(found))


def path_text(summary: Summary) -> str:
    """Return how many figures are proven to have taken the path that their mode promises."""
    tally = summary.path
    if not tally.total:
        return "no sample was taken"
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
