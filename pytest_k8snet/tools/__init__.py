"""What runs in a pod or on a node: argv out, typed figures in. Pure: nothing here runs anything."""

from __future__ import annotations

from collections.abc import Mapping
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


def variant_of(sample: Mapping[str, Any]) -> str:
    """Return what makes the figures of a sample others than its tool's usual ones.

    Args:
        sample: its record, or what of it is known before it is taken: ``tool``, ``command``,
            ``pods_in`` where its way is in no mode, but its pods are, and ``at_once`` the
            scenes of all that was measured at once, where it was not alone.
    """
    tool, command = TOOLS.get(str(sample.get("tool"))), sample.get("command")
    words = [str(word) for word in command] if isinstance(command, list | tuple) else []
    pods_in = str(sample.get("pods_in") or "")
    scenes = sample.get("at_once")
    beside = f"part of {' + '.join(map(str, scenes))}" if isinstance(scenes, list) else ""
    own = tool.variant(words) if tool is not None else ""
    return ", ".join(filter(None, (own, pods_in, beside)))
