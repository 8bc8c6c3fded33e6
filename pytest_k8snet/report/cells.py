"""iperf3 samples -> the cells of the bandwidth table, and the mesh."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from pytest_k8snet.calico.modes import (
    OVERHEAD_BYTES,
    CalicoMode,
    Path,
    goodput_ceiling,
    ratio_ceiling,
)
from pytest_k8snet.report.fields import (
    failed,
    figure,
    grouped,
    mapping,
    objects,
    path_tally,
    real,
    usable,
    words,
)
from pytest_k8snet.report.intervals import Estimate, mean, ratio_of_means
from pytest_k8snet.report.judged import of_cell
from pytest_k8snet.report.model import BASELINE_SCENE, BandwidthCell, Judged, Key, Mesh, State
from pytest_k8snet.report.record import Record

BANDWIDTH = "bandwidth_bits_per_second"
Outcome = Callable[[Key, Sequence[Record]], State]


def bandwidth_cells(
    samples: Sequence[Record],
    verdicts: Sequence[Judged],
    outcome: Outcome,
    link_rate: float | None,
) -> tuple[BandwidthCell, ...]:
    """All cells in the study's order."""
    groups = grouped(samples)
    baselines = {
        key: _values(group) for key, group in groups.items() if key.scene == BASELINE_SCENE
    }
    baseline_mss = _mss(
        [one for key, group in groups.items() if key.scene == BASELINE_SCENE for one in group]
    )
    cells = []
    for key, group in groups.items():
        values = _values(group)
        own = tuple(one for one in of_cell(verdicts, key) if "latency" not in one.quantity)
        base = _baseline_of(key, baselines)
        ceiling, kind = _ceiling(group, link_rate, base, baseline_mss)
        cells.append(
            BandwidthCell(
                key=key,
                values=values,
                figure=mean(values) if values else None,
                ratio=_ratio(own, values, base, key),
                judged=own,
                outcome=outcome(key, group),
                path=path_tally(group),
                retransmit_ratio=_mean_figure(group, "retransmit_ratio"),
                rtt_seconds=_mean_figure(group, "rtt_mean_seconds"),
                mss_bytes=_mss(group),
                ceiling=ceiling,
                ceiling_kind=kind,
                errors=sum(map(failed, group)),
                samples=tuple(group),
            )
        )
    return tuple(cells)


def _values(group: Sequence[Record]) -> tuple[float, ...]:
    figures = (figure(sample, BANDWIDTH) for sample in group if usable(sample))
    return tuple(value for value in figures if value is not None)


def _mean_figure(group: Sequence[Record], name: str) -> float | None:
    found = [value for one in group if usable(one) and (value := figure(one, name)) is not None]
    return fmean(found) if found else None


def _mss(group: Sequence[Record]) -> int | None:
    found = [int(value) for one in group if (value := figure(one, "mss_bytes"))]
    return min(found) if found else None


def _baseline_of(key: Key, baselines: Mapping[Key, tuple[float, ...]]) -> tuple[float, ...]:
    """All node-node samples of the same placement; pods on one node cross no wire to compare."""
    if key.scene == BASELINE_SCENE or key.placement == "same-node" or key.scene == "same-node":
        return ()
    return tuple(
        value
        for base, values in baselines.items()
        if base.placement in (key.placement, "") or not key.placement
        if base.mode in (key.mode, "")
        for value in values
    )


def _ratio(
    own: Sequence[Judged], values: Sequence[float], base: Sequence[float], key: Key
) -> Estimate | None:
    for verdict in own:
        against_node = verdict.record.get("baseline") == BASELINE_SCENE
        if against_node and "ratio" in verdict.quantity and verdict.estimate is not None:
            return Estimate(verdict.estimate, verdict.low, verdict.high)
    return ratio_of_means(values, base) if key.scene != BASELINE_SCENE else None


def _ceiling(
    group: Sequence[Record], link_rate: float | None, base: Sequence[float], base_mss: int | None
) -> tuple[float | None, str]:
    """The physical limit of a cell: what the link's rate, or else node-node, leaves for payload."""
    mss = _mss(group)
    path = _path(group[0])
    if mss is None or path is None or key_is_local(group[0]):
        return None, ""
    if link_rate:
        return float(goodput_ceiling(link_rate, mss, path)), "link"
    if base and base_mss:
        return fmean(base) * float(ratio_ceiling(mss, path, base_mss)), "headers"
    return None, ""


def key_is_local(sample: Record) -> bool:
    """Whether both ends are on one node, so that no link limits them."""
    return "same-node" in (sample.get("placement"), sample.get("scene"))


def _path(sample: Record) -> Path | None:
    expected = words(mapping(sample.get("path")).get("expected"))
    if expected in OVERHEAD_BYTES:
        return expected
    if mapping(sample.get("server")).get("kind") != "pod" or not sample.get("mode"):
        return "direct"
    try:
        mode = CalicoMode(sample["mode"])
    except ValueError:
        return None
    return mode.path(sample.get("placement") != "cross-subnet")


def link_rate_of(facts: Record | None) -> float | None:
    """The rate of the slowest link between nodes, where the facts name one, in bit/s."""
    if facts is None:
        return None
    rates = [
        rate
        for owner in (mapping(facts.get("cluster")), *objects(facts.get("nodes")))
        if (rate := real(owner.get("link_rate_bits_per_second")))
    ]
    return min(rates) if rates else None


def meshes(samples: Sequence[Record]) -> tuple[Mesh, ...]:
    """One mesh per scene and mode in which three nodes or more measured each other."""
    figures: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
    for sample in samples:
        value = figure(sample, BANDWIDTH)
        client, server = mapping(sample.get("client")), mapping(sample.get("server"))
        ends = words(client.get("node")), words(server.get("node"))
        if not usable(sample) or value is None or not all(ends):
            continue
        scene, mode = words(sample.get("scene")), words(sample.get("mode"))
        figures.setdefault((scene, mode), {}).setdefault(ends, []).append(value)
    found = []
    for (scene, mode), by_ends in figures.items():
        nodes = tuple(sorted({node for ends in by_ends for node in ends}))
        distinct = sum(1 for client, server in by_ends if client != server)
        if len(nodes) >= 3 and distinct >= 6:
            means = {ends: fmean(values) for ends, values in by_ends.items()}
            found.append(Mesh(scene=scene, mode=mode, nodes=nodes, figures=means))
    return tuple(sorted(found, key=lambda mesh: Key(mesh.scene, "", mesh.mode).order))
