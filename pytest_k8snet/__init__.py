"""Network SLO assertions for Kubernetes clusters that run Calico, as ordinary pytest tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.services import WebService
    from pytest_k8snet.errors import Inconclusive, K8sNetError
    from pytest_k8snet.measure.disruption import SwitchCost
    from pytest_k8snet.measure.endpoints import Endpoint, Pair
    from pytest_k8snet.measure.run import Run
    from pytest_k8snet.tools.curl import CurlSamples
    from pytest_k8snet.tools.iperf3 import Iperf3Result
    from pytest_k8snet.units import (
        BitRate,
        Gbit,
        Mbit,
        Ratio,
        Seconds,
        bit,
        kbit,
        ms,
        second,
        us,
    )

__version__ = "0.1.0"

__all__ = [
    "BitRate",
    "CalicoMode",
    "CurlSamples",
    "Endpoint",
    "Gbit",
    "Inconclusive",
    "Iperf3Result",
    "K8sNetError",
    "Mbit",
    "Pair",
    "Ratio",
    "Run",
    "Seconds",
    "SwitchCost",
    "WebService",
    "bit",
    "kbit",
    "ms",
    "second",
    "us",
]

#: Where each public name lives. Loaded on first use, because every pytest run of the environment
#: imports this package, and one that measures nothing must not pay for it.
_HOMES = {
    "pytest_k8snet.measure.disruption": ("SwitchCost",),
    "pytest_k8snet.calico.modes": ("CalicoMode",),
    "pytest_k8snet.cluster.services": ("WebService",),
    "pytest_k8snet.errors": ("Inconclusive", "K8sNetError"),
    "pytest_k8snet.measure.endpoints": ("Endpoint", "Pair"),
    "pytest_k8snet.measure.run": ("Run",),
    "pytest_k8snet.tools.curl": ("CurlSamples",),
    "pytest_k8snet.tools.iperf3": ("Iperf3Result",),
    "pytest_k8snet.units": (
        *("BitRate", "Ratio", "Seconds"),
        *("Gbit", "Mbit", "kbit", "bit", "second", "ms", "us"),
    ),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            from importlib import import_module

            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
