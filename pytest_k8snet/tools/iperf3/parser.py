"""From iperf3's output to a result, or to the error that says why there is none. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pytest_k8snet.errors import Iperf3Error
from pytest_k8snet.tools.fields import Section
from pytest_k8snet.tools.iperf3.argv import client_argv
from pytest_k8snet.tools.iperf3.document import Ending, cut_off, read_document
from pytest_k8snet.tools.iperf3.errors import Garbage, NoData, Truncated
from pytest_k8snet.tools.iperf3.flows import read_flow, read_intervals, read_streams
from pytest_k8snet.tools.iperf3.options import Iperf3Options
from pytest_k8snet.tools.iperf3.result import Direction, Flow, Iperf3Result

#: A test may end this much earlier than asked: clocks, and the last interval's remainder.
_ENOUGH = 0.95


def parse(
    text: str,
    *,
    expected: Iperf3Options | None = None,
    stderr: str = "",
    exit_code: int | None = None,
    command: Sequence[str] = (),
) -> Iperf3Result:
    """Read the output of one iperf3 client run (``-J`` or ``--json-stream``), 3.9 and later.

    The exit status is no judge: 3.12 ends with 0 on a refused connection, 3.22 on a signal.

    Args:
        text: stdout.
        expected: what was asked for; without it, the document's own test parameters count.
        stderr: 3.9 says there what later versions say in the JSON.
        exit_code: tells a run that was stopped at its time limit.
        command: the exact command; taken from ``expected`` where that is given.

    Raises:
        Iperf3Error: there is no figure; the subclass and the text say what happened.
        ToolMissingError: iperf3 is not installed where it was to run.
    """
    ending = Ending(stderr=stderr, exit_code=exit_code)
    document = Section(read_document(text, ending), "", _not_iperf3)
    start, end = document.section("start"), document.section("end")
    if not end:
        raise cut_off("the test has a beginning and no end", ending)
    test = start.section("test_start")
    direction = _direction(test, end)
    version = _version(start.text("version"))
    protocol = (test.text("protocol") or ("UDP" if "sum" in end else "TCP")).upper()
    if expected is not None:
        _check_same_test(expected, test, protocol, direction)
    mss = start.count("tcp_mss") or start.count("tcp_mss_default") or None
    cpu = end.section("cpu_utilization_percent")
    result = Iperf3Result(
        flow=read_flow(end, direction, protocol=protocol, mss_bytes=mss, version=version),
        opposite=(
            read_flow(end, "opposite", protocol=protocol, mss_bytes=mss, version=version)
            if direction == "bidirectional"
            else None
        ),
        protocol=protocol,
        direction=direction,
        version=version,
        mss_bytes=mss,
        sender_congestion=end.text("sender_tcp_congestion"),
        receiver_congestion=end.text("receiver_tcp_congestion"),
        cpu_host_percent=cpu.number("host_total"),
        cpu_remote_percent=cpu.number("remote_total"),
        streams=read_streams(end, reverse=direction == "reverse"),
        intervals=read_intervals(document),
        raw=text,
        command=client_argv(expected) if expected is not None else tuple(command),
    )
    _check_data(result, start)
    _check_duration(result, expected, test)
    return result


def _direction(test: Section, end: Section) -> Direction:
    if test.flag("bidir") or "sum_received_bidir_reverse" in end:
        return "bidirectional"
    return "reverse" if test.flag("reverse") else "forward"


def _version(text: str | None) -> tuple[int, ...]:
    match = re.search(r"\b(\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?", text or "", re.ASCII)
    return tuple(int(part) for part in match.groups() if part) if match else ()


def _check_same_test(
    expected: Iperf3Options, test: Section, protocol: str, direction: Direction
) -> None:
    asked: Direction = (
        "bidirectional" if expected.bidirectional else "reverse" if expected.reverse else "forward"
    )
    pairs = {
        "protocol": ("UDP" if expected.udp else "TCP", protocol),
        "direction": (asked, direction),
        "streams": (expected.streams, test.count("num_streams")),
        "seconds": (expected.seconds, test.count("duration")),
    }
    wrong = [
        f"{name} {found}, asked for {wanted}"
        for name, (wanted, found) in pairs.items()
        if found is not None and found != wanted
    ]
    if wrong:
        raise Garbage(
            "iperf3's output is that of another test",
            found="; ".join(wrong),
            remedy="give parse() the options that this output was made with",
        )


def _check_data(result: Iperf3Result, start: Section) -> None:
    for flow, name in ((result.flow, "first"), (result.opposite, "reverse")):
        if flow is None or flow.bytes_received > 0:
            continue
        if "accepted_connection" in start:
            raise Garbage(
                "this is the output of an iperf3 server that sent: it cannot tell what arrived",
                found="sum_received has 0 bytes",
                remedy="parse the client's output",
            )
        raise _no_data(result, flow, name)


def _no_data(result: Iperf3Result, flow: Flow, name: str) -> Iperf3Error:
    where = f" in the {name} direction" if result.opposite is not None else ""
    found = f"0 bytes received in {flow.seconds}{where}"
    if result.protocol == "UDP":
        if flow.packets_sent:
            found += f", {flow.packets_sent} datagrams sent: loss 100 %"
        return NoData(
            "iperf3 connected, but not one datagram arrived",
            found=found,
            remedy="check NetworkPolicies and firewalls for UDP, and whether datagrams of this "
            "size fit the path MTU (length_bytes)",
        )
    if flow.retransmits:
        found += f", {flow.retransmits} retransmits"
    mss = "" if result.mss_bytes is None else f" (the connection's MSS is {result.mss_bytes} bytes)"
    return NoData(
        "iperf3 connected, but not one byte of payload arrived",
        found=found,
        remedy="small packets pass and full ones do not: compare the pods' MTU with the path MTU, "
        f"tunnel header included{mss}",
    )


def _check_duration(result: Iperf3Result, expected: Iperf3Options | None, test: Section) -> None:
    asked = expected.seconds if expected is not None else test.number("duration") or 0
    flows = [flow for flow in (result.flow, result.opposite) if flow is not None]
    shortest = min(flow.seconds for flow in flows)
    if float(shortest) < asked * _ENOUGH:
        raise Truncated(
            "the iperf3 test ended too early",
            found=f"{float(shortest):.2f} s measured, {asked:g} s asked for",
            remedy="look for what ended it: a limit of the server, a signal, a lost connection",
        )


def _not_iperf3(problem: str) -> Garbage:
    return Garbage(
        "iperf3's JSON is not as iperf3 writes it",
        found=problem,
        remedy="check that this is the unchanged output of iperf3 -J; "
        "if it is, report it with its version",
    )
