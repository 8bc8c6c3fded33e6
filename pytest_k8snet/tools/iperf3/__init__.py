"""iperf3: command lines out, typed results in. Pure.

    argv = client_argv(Iperf3Options(server="10.244.1.3", port=20001, seconds=10))
    result = parse(output_of(argv))
    result.bandwidth, result.retransmit_ratio, result.intervals

Every way in which a run gives no figure is a subclass of ``Iperf3Error`` named here.
"""

from __future__ import annotations

from pytest_k8snet.errors import Iperf3Error
from pytest_k8snet.tools.iperf3.argv import check_server, client_argv, probe_argv, server_argv
from pytest_k8snet.tools.iperf3.errors import (
    BadOption,
    Busy,
    CutOff,
    Empty,
    Garbage,
    Interrupted,
    NameNotResolved,
    NoData,
    NoScratchSpace,
    PortInUse,
    Refused,
    ServerDied,
    ServerLimit,
    ServerNotReady,
    TimedOut,
    TooOld,
    Truncated,
    UdpBlocked,
    Unreachable,
)
from pytest_k8snet.tools.iperf3.options import Iperf3Options
from pytest_k8snet.tools.iperf3.parser import parse
from pytest_k8snet.tools.iperf3.result import Flow, Iperf3Interval, Iperf3Result, Iperf3Stream

__all__ = [
    "BadOption",
    "Busy",
    "CutOff",
    "Empty",
    "Flow",
    "Garbage",
    "Interrupted",
    "Iperf3Error",
    "Iperf3Interval",
    "Iperf3Options",
    "Iperf3Result",
    "Iperf3Stream",
    "NameNotResolved",
    "NoData",
    "NoScratchSpace",
    "PortInUse",
    "Refused",
    "ServerDied",
    "ServerLimit",
    "ServerNotReady",
    "TimedOut",
    "TooOld",
    "Truncated",
    "UdpBlocked",
    "Unreachable",
    "check_server",
    "client_argv",
    "parse",
    "probe_argv",
    "server_argv",
]
