"""Before and now: the figures of a baseline record beside those of this run; facts that differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pytest_k8snet.report.fields import figure, flat, mapping, objects, reals, usable, words
from pytest_k8snet.report.intervals import mean, quantile, ratio_of_means
from pytest_k8snet.report.model import BandwidthCell, Compared, Difference, Key, LatencyRow
from pytest_k8snet.report.record import Record

#: The quantities that are compared, with their units.
BANDWIDTH = "bandwidth"
QUANTITIES: Mapping[str, str] = {
    BANDWIDTH: "bit/s",
    "median connect time": "s",
    "median starttransfer time": "s",
    "median total time": "s",
}
#: Most values that a baseline record keeps of one figure.
KEPT_VALUES = 200
_ABSENT = "(absent)"
#: Facts of a node that are never the same twice.
_FLEETING = ("load_1_minute", "softnet_dropped")


def figures_of(
    bandwidth: Iterable[BandwidthCell], latency: Iterable[LatencyRow]
) -> dict[tuple[Key, str], tuple[float, ...]]:
    """All values of a run by cell and quantity: what can be compared."""
    found: dict[tuple[Key, str], tuple[float, ...]] = {}
    for cell in bandwidth:
        if cell.values:
            found[cell.key, BANDWIDTH] = cell.values
    for row in latency:
        for name in row.phases:
            medians = [_median(one, name) for one in row.samples if usable(one)]
            values = tuple(value for value in medians if value is not None)
            if values:
                found[row.key, f"median {name} time"] = values
    return found


def _median(sample: Record, phase: str) -> float | None:
    """One value per sample: requests of one sample follow each other and share its disturbances."""
    stated = figure(sample, f"{phase}_median_seconds")
    ordered = sorted(reals(mapping(sample.get("distribution")).get(f"{phase}_seconds")))
    return stated if stated is not None or not ordered else quantile(ordered, 0.5)


def thinned(values: Sequence[float]) -> list[float]:
    """At most ``KEPT_VALUES`` of them, evenly from the sorted whole: records stay small."""
    if len(values) <= KEPT_VALUES:
        return list(values)
    ordered = sorted(values)
    return [quantile(ordered, (index + 0.5) / KEPT_VALUES) for index in range(KEPT_VALUES)]


def compared(
    baseline: Record, bandwidth: Sequence[BandwidthCell], latency: Sequence[LatencyRow]
) -> tuple[Compared, ...]:
    """Each figure that both runs have; a ratio with the interval for two unpaired runs."""
    now = figures_of(bandwidth, latency)
    found = []
    for entry in objects(baseline.get("figures")):
        key = Key(
            words(entry.get("scene")), words(entry.get("placement")), words(entry.get("mode"))
        )
        quantity = words(entry.get("quantity"))
        before, after = reals(entry.get("values")), now.get((key, quantity))
        if not before or not after:
            continue
        found.append(
            Compared(
                key=key,
                quantity=quantity,
                unit=QUANTITIES.get(quantity, words(entry.get("unit"))),
                before=mean(before),
                now=mean(after),
                ratio=ratio_of_means(after, before),
                count_before=len(before),
                count_now=len(after),
            )
        )
    order = list(QUANTITIES)
    return tuple(
        sorted(found, key=lambda one: (order.index(one.quantity), one.key.order))
        if all(one.quantity in order for one in found)
        else found
    )


def differences_between(before: Record, now: Record) -> tuple[Difference, ...]:
    """The facts that are not the same in two facts records."""
    old, new = _facts(before), _facts(now)
    return tuple(
        Difference(fact=name, before=old.get(name, _ABSENT), now=new.get(name, _ABSENT))
        for name in dict.fromkeys([*old, *new])
        if old.get(name, _ABSENT) != new.get(name, _ABSENT)
        # A tunnel comes and goes with the pools that need it.
        and not (": tunnels." in name and (name not in old or name not in new))
    )


def differences_of(record: Record) -> tuple[Difference, ...]:
    """The differences that a baseline record names."""
    return tuple(
        Difference(
            fact=words(entry.get("fact")),
            before=words(entry.get("before")),
            now=words(entry.get("now")),
        )
        for entry in objects(record.get("differences"))
    )


def _facts(record: Record) -> dict[str, str]:
    facts = flat(mapping(record.get("cluster")))
    for node in objects(record.get("nodes")):
        name = words(node.get("name"))
        rest = {key: value for key, value in node.items() if key not in ("name", *_FLEETING)}
        facts |= flat(rest, f"node {name}: ")
    return facts
