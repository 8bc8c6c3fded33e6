"""What runs in a pod or on a node: argv out, typed figures in. Pure: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pytest_k8snet.tools.curl import Curl
from pytest_k8snet.tools.iperf3 import Iperf3
from pytest_k8snet.tools.ping import Ping
from pytest_k8snet.tools.tool import Tool

#: Every tool whose samples a record may hold, by its ``tool``; reports show them in this order.
TOOLS: Mapping[str, Tool[Any, Any]] = MappingProxyType(
    {tool.name: tool for tool in (Iperf3(), Curl(), Ping())}
)


def variant_of(tool: str, command: Iterable[object]) -> str:
    """Return what a command line says of its figures' kind; empty for a tool that is not known."""
    known = TOOLS.get(tool)
    return known.variant([str(word) for word in command]) if known is not None else ""
