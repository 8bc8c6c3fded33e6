"""The mesh as a heat map: a table of figures, shaded by how far each lies below the best."""

from __future__ import annotations

from pytest_k8snet.report.format import bit_unit
from pytest_k8snet.report.markup import Markup, element
from pytest_k8snet.report.model import Mesh
from pytest_k8snet.report.sections.parts import name, row_head, table

#: Shades; a figure tells the same as its shade.
_SHADES = 6


def mesh_table(mesh: Mesh) -> Markup:
    """One mesh; rows send, columns receive."""
    unit = bit_unit(mesh.figures.values())
    between = [value for (client, server), value in mesh.figures.items() if client != server]
    low, high = min(between), max(between)
    mode = f" [{mesh.mode}]" if mesh.mode else ""
    return table(
        f"Mesh {mesh.scene}{mode}: goodput in {unit.name}; rows send, columns receive; "
        "the darker, the further below the best",
        ["from \\ to", *((node, "num") for node in mesh.nodes)],
        [
            element(
                "tr",
                row_head(name(client)),
                [_cell(mesh, client, server, unit.number, low, high) for server in mesh.nodes],
            )
            for client in mesh.nodes
        ],
        class_="k-mesh",
    )


def _cell(mesh: Mesh, client: str, server: str, shown: object, low: float, high: float) -> Markup:
    value = mesh.figures.get((client, server))
    if value is None or not callable(shown):
        return element("td", element("span", "·", class_="k-muted"), class_="k-num")
    # Differences of a few per cent are noise: they stay unshaded.
    span = max(high - low, high * 0.2)
    share = min(max((high - value) / span, 0.0), 1.0) if client != server and span else 0.0
    return element("td", shown(value), class_=f"k-num k-heat{round(share * (_SHADES - 1))}")
