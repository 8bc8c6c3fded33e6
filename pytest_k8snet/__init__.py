"""Network SLO assertions for Kubernetes clusters that run Calico, as ordinary pytest tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_k8snet.errors import Inconclusive, K8sNetError
from pytest_k8snet.units import BitRate, Gbit, Mbit, Ratio, Seconds, bit, kbit, ms, second, us

if TYPE_CHECKING:
    from pytest_k8snet.calico.modes import CalicoMode
    from pytest_k8snet.cluster.services import WebService
    from pytest_k8snet.measure.endpoint import Endpoint
    from pytest_k8snet.measure.pair import Pair
    from pytest_k8snet.measure.run import Run
    from pytest_k8snet.tools.curl import CurlSamples
    from pytest_k8snet.tools.iperf3 import Iperf3Result

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
    "WebService",
    "bit",
    "kbit",
    "ms",
    "second",
    "us",
]

#: Where the types that fixtures and helpers return live. Loaded on first use, because a pytest
#: run that measures nothing must not pay for them.
_LAZY = {
    "CalicoMode": "pytest_k8snet.calico.modes",
    "CurlSamples": "pytest_k8snet.tools.curl",
    "Endpoint": "pytest_k8snet.measure.endpoint",
    "Iperf3Result": "pytest_k8snet.tools.iperf3",
    "Pair": "pytest_k8snet.measure.pair",
    "Run": "pytest_k8snet.measure.run",
    "WebService": "pytest_k8snet.cluster.services",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
