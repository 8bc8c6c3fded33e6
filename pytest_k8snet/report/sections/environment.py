"""Run, cluster, nodes and settings; what differs is marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_k8snet.report.format import NONE, moment
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import Difference, Summary
from pytest_k8snet.report.sections.parts import (
    code,
    facts,
    fold,
    name,
    paragraph,
    row_head,
    table,
)
from pytest_k8snet.report.summary import differences_of, flat, mapping, objects, words

#: More nodes than this make no readable table; the results file has them all.
_MOST_NODES = 12


def differences_table(caption: str, then: str, differences: Sequence[Difference]) -> Markup:
    """Facts that are not the same in two places."""
    return table(
        caption,
        ["Fact", then.capitalize(), "Now"],
        [
            element(
                "tr",
                row_head(name(one.fact)),
                element("td", name(one.before)),
                element("td", element("mark", name(one.now))),
            )
            for one in differences
        ],
        class_="k-differences",
    )


def environment_section(summary: Summary) -> list[Markup]:
    """Run, cluster, nodes, settings."""
    found = [
        facts(
            [
                ("Run", code(summary.run.get("run"))),
                ("pytest-k8snet", name(summary.run.get("tool_version"))),
                (
                    "Command",
                    code(" ".join(map(str, summary.run.get("command_line") or [])), 1000),
                ),
                ("Begun", moment(summary.begun)),
                ("Ended", moment(summary.ended) if summary.ended else "did not end in order"),
            ]
        )
    ]
    if summary.drift:
        found.append(
            differences_table("Facts that changed during the run", "before", summary.drift)
        )
    if summary.facts is None:
        return [*found, paragraph("No facts of the cluster were recorded.")]
    differing = (
        {one.fact: one.before for one in differences_of(summary.baseline)}
        if summary.baseline is not None
        else {}
    )
    found.append(_cluster(mapping(summary.facts.get("cluster")), differing))
    nodes = objects(summary.facts.get("nodes"))
    if nodes:
        found += _nodes(nodes, differing)
    settings = mapping(summary.run.get("settings"))
    if settings:
        found.append(fold("Settings and where each came from", _settings(settings)))
    return found


def _cluster(cluster: Mapping[str, Any], differing: Mapping[str, str]) -> Markup:
    rows = [
        element("tr", row_head(name(fact)), element("td", _fact(fact, value, differing)))
        for fact, value in flat(cluster).items()
    ]
    return table("Cluster", ["Fact", "Value"], rows, class_="k-environment") if rows else Markup("")


def _fact(fact: str, value: str, differing: Mapping[str, str]) -> Markup:
    if fact not in differing:
        return name(value)
    return element(
        "span",
        element("mark", name(value)),
        element("span", " differs from the baseline run: ", name(differing[fact])),
    )


def _nodes(nodes: Sequence[Mapping[str, Any]], differing: Mapping[str, str]) -> list[Markup]:
    """One column per node: facts are many and long, nodes under test are few."""
    flattened = {words(node.get("name")): flat(node) for node in nodes[:_MOST_NODES]}
    keys = dict.fromkeys(key for node in flattened.values() for key in node if key != "name")
    flags = [key for key in keys if ".offload." in key]
    more = f" (the first {_MOST_NODES} of {len(nodes)})" if len(nodes) > _MOST_NODES else ""
    rest = [key for key in keys if key not in flags]
    found = [_node_table(f"Nodes{more}", rest, flattened, differing)]
    if flags:
        caption = "Offload flags of NICs and tunnels"
        found.append(fold(caption, _node_table(f"{caption}{more}", flags, flattened, differing)))
    return found


def _node_table(
    caption: str,
    keys: Sequence[str],
    flattened: Mapping[str, Mapping[str, str]],
    differing: Mapping[str, str],
) -> Markup:
    return table(
        caption,
        ["Fact", *flattened],
        [
            element(
                "tr",
                row_head(name(key)),
                [
                    element("td", _fact(f"node {node}: {key}", found.get(key, NONE), differing))
                    for node, found in flattened.items()
                ],
            )
            for key in keys
        ],
        class_="k-environment",
    )


def _settings(settings: Mapping[str, Any]) -> Markup:
    return table(
        "Settings",
        ["Setting", "Value", "From"],
        [
            element(
                "tr",
                row_head(name(key)),
                element("td", name(mapping(value).get("value") or NONE)),
                element("td", name(mapping(value).get("origin") or NONE)),
            )
            for key, value in settings.items()
        ],
    )
