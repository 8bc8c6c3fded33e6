"""Every recorded iperf3 output gives its own figures, or the error that names what happened."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from recorded import DATA, Recording, recordings

from pytest_k8snet.errors import Iperf3Error
from pytest_k8snet.tools import iperf3, iperf3_errors
from pytest_k8snet.tools.iperf3_result import Iperf3Result

SAMPLES = recordings("iperf3")

#: By case, for both versions; a version's own answer comes first.
ERRORS: dict[str, type[Iperf3Error]] = {
    "3.12-err-bad-duration": iperf3_errors.Refused,  # 3.12 took -5 and went on to connect
    "3.12-err-server-bitrate-limit": iperf3_errors.ServerDied,  # 3.12 gives no reason
    "3.12-err-server-frozen-midtest-snd-timeout": iperf3_errors.CutOff,
    "3.22-err-server-frozen-midtest-snd-timeout": iperf3_errors.Empty,  # the option did not help
    "err-bad-congestion": iperf3_errors.BadOption,
    "err-bad-duration": iperf3_errors.BadOption,
    "err-bad-option-mix": iperf3_errors.BadOption,
    "err-busy": iperf3_errors.Busy,
    "err-client-coreutils-timeout": iperf3_errors.Interrupted,
    "err-client-int-midtest": iperf3_errors.Interrupted,
    "err-client-int-serverside": iperf3_errors.Interrupted,
    "err-client-kill-midtest": iperf3_errors.Interrupted,
    "err-client-term-midtest": iperf3_errors.Interrupted,
    "err-dns": iperf3_errors.NameNotResolved,
    "err-json-stream-client-kill": iperf3_errors.CutOff,
    "err-json-stream-forceflush-client-kill": iperf3_errors.CutOff,
    "err-json-stream-refused": iperf3_errors.Refused,
    "err-json-stream-server-kill": iperf3_errors.ServerDied,
    "err-mtu-blackhole": iperf3_errors.NoData,
    "err-refused": iperf3_errors.Refused,
    "err-reverse-rcv-timeout": iperf3_errors.CutOff,
    "err-server-bitrate-limit": iperf3_errors.ServerLimit,
    "err-server-frozen": iperf3_errors.Empty,
    "err-server-frozen-midtest": iperf3_errors.Empty,
    "err-server-idle-timeout": iperf3_errors.Empty,
    "err-server-int-midtest": iperf3_errors.ServerDied,
    "err-server-kill-midtest": iperf3_errors.ServerDied,
    "err-server-max-duration": iperf3_errors.ServerLimit,
    "err-server-port-in-use": iperf3_errors.PortInUse,
    "err-server-term-midtest": iperf3_errors.ServerDied,
    "err-tcp-blackhole-connect-timeout": iperf3_errors.TimedOut,
    "err-tcp-icmp-reject": iperf3_errors.Unreachable,
    "err-tcp-reset": iperf3_errors.Refused,
    "err-udp-blocked": iperf3_errors.UdpBlocked,
    "err-udp-rejected": iperf3_errors.UdpBlocked,
    "err-udp-server-kill-midtest": iperf3_errors.ServerDied,
    "err-unknown-option": iperf3_errors.BadOption,
    "sctp-unsupported": iperf3_errors.BadOption,
    "udp-data-dropped-100pct": iperf3_errors.NoData,
}


def expected_error(sample: Recording) -> type[Iperf3Error] | None:
    return ERRORS.get(f"{sample.version}-{sample.case}") or ERRORS.get(sample.case)


FAILED = [sample for sample in SAMPLES if expected_error(sample)]
GOOD = [sample for sample in SAMPLES if not expected_error(sample)]


def parse(sample: Recording) -> Iperf3Result:
    return iperf3.parse(sample.text, stderr=sample.stderr, exit_code=sample.exit_code)


def raw_end(sample: Recording) -> dict[str, Any]:
    """The document's "end", read without any code under test."""
    for line in sample.text.splitlines():
        if line.startswith('{"event":"end"'):
            end: dict[str, Any] = json.loads(line)["data"]
            return end
    document: dict[str, dict[str, Any]] = json.loads(sample.text)
    return document["end"]


def test_the_table_and_the_recordings_cover_each_other() -> None:
    cases = {sample.case for sample in SAMPLES} | {
        f"{sample.version}-{sample.case}" for sample in SAMPLES
    }
    assert set(ERRORS) <= cases
    assert (len(SAMPLES), len(GOOD)) == (144, 77)


@pytest.mark.parametrize("sample", FAILED, ids=lambda sample: sample.name)
def test_an_unusable_output_raises_the_error_that_names_what_happened(sample: Recording) -> None:
    with pytest.raises(Iperf3Error) as caught:
        parse(sample)
    assert type(caught.value) is expected_error(sample)
    assert caught.value.found
    assert caught.value.remedy


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_a_good_output_gives_the_figures_of_its_receiver(sample: Recording) -> None:
    result, end = parse(sample), raw_end(sample)
    received = end["sum_received"]
    assert float(result.bandwidth) == received["bits_per_second"]
    assert float(result.seconds) == received["seconds"]
    assert result.bytes_received == received["bytes"]
    assert result.version == tuple(int(part) for part in sample.version.split("."))
    assert result.raw == sample.text
    if result.protocol == "TCP" and "server-side" not in sample.name:
        assert result.retransmits == end["sum_sent"]["retransmits"]
        assert result.sender_congestion == end["sender_tcp_congestion"]
        assert result.mss_bytes in (1000, 1448, 32768)
        assert result.lost_ratio is None
        assert result.jitter is None
    if result.protocol == "UDP":
        sent, lost = end["sum_sent"]["packets"], received["lost_packets"]
        assert result.lost_ratio == pytest.approx(
            (sent - received["packets"] + lost) / sent, abs=1e-12
        )
        assert result.retransmits is None
        assert result.jitter == pytest.approx(received["jitter_ms"] / 1000)


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_the_direction_is_that_of_the_arguments(sample: Recording) -> None:
    words = sample.arguments.split()
    result = parse(sample)
    if "--bidir" in words:
        assert result.direction == "bidirectional"
        reverse = raw_end(sample)["sum_received_bidir_reverse"]["bits_per_second"]
        assert result.reverse_bandwidth == reverse
        assert result.to_client_bytes > 0
        assert result.to_server_bytes > 0
    elif "-R" in words:
        assert result.direction == "reverse"
        assert result.to_server_bytes == 0
        assert result.rtt_mean is None  # printed as 0, which means "not measured"
    else:
        assert result.direction == "forward"
        assert result.to_client_bytes == 0
        assert result.reverse_bandwidth is None


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_records_are_plain_json(sample: Recording) -> None:
    result = parse(sample)
    for record in (result.figures(), result.series()):
        assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert all(type(value) in (int, float) for value in result.figures().values())
    assert result.figures()["bandwidth_bits_per_second"] == float(result.bandwidth)


def sample_result(name: str) -> Iperf3Result:
    return parse(next(sample for sample in SAMPLES if sample.name == name))


@pytest.mark.parametrize("version", ["3.12", "3.22"])
def test_omitted_intervals_are_not_in_the_series(version: str) -> None:
    result = sample_result(f"{version}-tcp-omit1.json")
    assert [round(float(one.start)) for one in result.intervals] == [0, 1]


def test_intervals_have_rtt_window_and_retransmits() -> None:
    first, second = sample_result("3.12-tcp.json").intervals
    assert (first.retransmits, second.retransmits) == (0, 1)
    assert (str(first.rtt), str(second.rtt)) == ("52 us", "86 us")
    assert first.cwnd_bytes == 1047728
    assert sample_result("3.12-tcp.json").series() == {
        "bandwidth_bits_per_second": [18515223400.726677, 16863813919.88975],
        "retransmits": [0, 1],
        "rtt_seconds": pytest.approx([52e-6, 86e-6]),
        "cwnd_bytes": [1047728, 1047728],
    }


def test_round_trip_times_are_seconds() -> None:
    result = sample_result("3.12-tcp.json")
    assert [str(rtt) for rtt in (result.rtt_min, result.rtt_mean, result.rtt_max)] == [
        "52 us",
        "69 us",
        "86 us",
    ]


def test_retransmit_ratio_is_of_the_segments_sent() -> None:
    result = sample_result("3.12-tcp-loss5pct.json")
    sent = raw_end(next(s for s in SAMPLES if s.name == "3.12-tcp-loss5pct.json"))["sum_sent"]
    assert result.retransmit_ratio == pytest.approx(sent["retransmits"] * 1448 / sent["bytes"])
    assert result.retransmit_ratio == pytest.approx(0.05, abs=0.01)


def test_udp_bandwidth_is_what_arrived_and_not_what_was_sent() -> None:
    result = sample_result("3.12-udp-flood-loss.json")
    assert float(result.bandwidth) == pytest.approx(3.67e9, rel=0.01)
    assert result.sent_bandwidth is not None
    assert float(result.sent_bandwidth) == pytest.approx(11.2e9, rel=0.01)
    assert result.lost_ratio == pytest.approx(0.672, abs=0.001)
    (stream,) = result.streams
    assert stream.bandwidth is not None
    assert float(stream.bandwidth) == pytest.approx(float(result.bandwidth), rel=0.01)


def test_datagrams_lost_at_the_very_end_count_as_lost() -> None:
    # The receiver saw number 20191 of 20192 last, and calls nothing lost.
    assert sample_result("3.12-udp-overrate.json").lost_ratio == pytest.approx(1 / 20192)


def omitting(name: str) -> Iperf3Result:
    """A run of 3.12 on both ends over a path that drops 3 %: O omitted and t measured seconds."""
    return iperf3.parse((DATA / "iperf3" / "udp-omit" / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("O3_t1_1", 0.03697),
        ("O3_t1_2", 0.03265),
        ("O1_t2_1", 0.02904),
        ("O2_t1_rev", 0.025),
        ("O2_t1_p3", 0.02678),
        ("O2_t1_bidir", 0.02783),
        # Nothing omitted; 31 of its datagrams were lost at the very end.
        ("O0_t2_3", 0.04322),
    ],
)
def test_what_was_lost_while_nothing_counted_is_no_loss(name: str, lost: float) -> None:
    assert omitting(name).lost_ratio == pytest.approx(lost, abs=1e-4)


def test_the_way_back_has_its_own_loss_without_the_omitted_seconds() -> None:
    opposite = omitting("O2_t1_bidir").opposite
    assert opposite is not None
    assert opposite.lost_ratio == pytest.approx(0.03452, abs=1e-4)


def test_a_newer_client_that_does_not_know_an_older_servers_losses_has_them_by_bytes() -> None:
    # iperf3's get_results: a peer that tells no omitted counts has all its losses taken off.
    loaded = json.loads(next(s for s in SAMPLES if s.name == "3.12-udp-loss5pct.json").text)
    loaded["start"]["version"] = "iperf 3.17"
    for part in (loaded["end"]["sum"], loaded["end"]["sum_received"]):
        part["lost_packets"] = 0
    loaded["end"]["streams"][0]["udp"]["lost_packets"] = 0
    result = iperf3.parse(json.dumps(loaded))
    assert result.lost_ratio == pytest.approx(0.05209, abs=1e-4)
    assert result.streams[0].bandwidth is None
    loaded["end"]["sum_received"]["packets"] = 0
    assert iperf3.parse(json.dumps(loaded)).lost_ratio == result.lost_ratio


def test_streams_have_no_bandwidth_where_their_losses_are_of_the_omitted_time_too() -> None:
    assert [one.bandwidth for one in omitting("O3_t1_1").streams] == [None]
    assert all(one.bandwidth for one in omitting("O2_t1_p3").streams)


def test_a_loss_that_the_sender_did_not_tell_is_unknown() -> None:
    loaded = json.loads(next(s for s in SAMPLES if s.name == "3.12-udp.json").text)
    loaded["end"]["sum_sent"]["bytes"] = 0
    assert iperf3.parse(json.dumps(loaded)).lost_ratio is None


def test_more_that_arrived_than_was_sent_is_no_negative_loss() -> None:
    loaded = json.loads(next(s for s in SAMPLES if s.name == "3.12-udp.json").text)
    loaded["end"]["sum_received"]["bytes"] += 1200
    assert iperf3.parse(json.dumps(loaded)).lost_ratio == pytest.approx(0)


def wrapped(change: Callable[[dict[str, Any]], object]) -> Iperf3Result:
    loaded = json.loads(next(s for s in SAMPLES if s.name == "3.12-tcp-P4.json").text)
    change(loaded)
    return iperf3.parse(json.dumps(loaded))


def test_a_count_below_nothing_in_32_bits_is_no_figure() -> None:
    recorded = (DATA / "iperf3" / "retransmits-uint32.json").read_text()
    result = iperf3.parse(recorded)
    assert (result.retransmits, result.retransmit_ratio) == (None, None)
    assert result.streams[0].retransmits is None
    assert result.intervals[0].retransmits == 6
    assert not [name for name in result.figures() if name.startswith("retransmit")]


@pytest.mark.parametrize(
    "change",
    [
        lambda loaded: loaded["end"]["sum_sent"].update(retransmits=2**32 - 2),
        lambda loaded: loaded["end"]["sum_sent"].update(retransmits=2 * (2**32 - 2)),
        # The sum has wrapped once more, and looks sound.
        lambda loaded: loaded["end"]["streams"][0]["sender"].update(retransmits=2**32 - 1),
        lambda loaded: loaded["end"]["sum_sent"].update(retransmits=-2),
        # More segments sent again than were sent.
        lambda loaded: loaded["end"]["sum_sent"].update(retransmits=2**31 - 1),
    ],
)
def test_retransmits_that_cannot_be_are_unknown(change: Callable[[dict[str, Any]], object]) -> None:
    result = wrapped(change)
    assert (result.retransmits, result.retransmit_ratio) == (None, None)


def test_other_figures_that_have_wrapped_are_unknown() -> None:
    def change(loaded: dict[str, Any]) -> None:
        for stream in loaded["end"]["streams"]:
            stream["sender"]["max_rtt"] = 2**32 - 1
        for interval in loaded["intervals"]:
            interval["sum"]["retransmits"] = 2**32 - 3
            for stream in interval["streams"]:
                stream["rtt"] = 2**32 - 1

    result = wrapped(change)
    assert result.rtt_max is None
    assert result.rtt_min is not None
    assert {(one.retransmits, one.rtt) for one in result.intervals} == {(None, None)}


def test_each_direction_of_a_bidirectional_udp_test_has_its_own_loss() -> None:
    result = sample_result("3.12-udp-loss5pct-bidir.json")
    assert result.lost_ratio == pytest.approx(0.05, abs=0.001)
    assert result.opposite is not None
    assert result.opposite.lost_ratio == pytest.approx(0)
    assert result.figures()["reverse_lost_ratio"] == 0


def test_out_of_order_is_known_only_where_the_client_receives() -> None:
    assert sample_result("3.12-udp.json").out_of_order is None
    assert sample_result("3.12-udp-reverse.json").out_of_order == 0


def test_parallel_streams_are_told_one_by_one() -> None:
    result = sample_result("3.12-tcp-P4.json")
    assert len(result.streams) == 4
    assert sum(float(one.bandwidth or 0) for one in result.streams) == pytest.approx(
        float(result.bandwidth), rel=0.01
    )
    both = sample_result("3.12-tcp-bidir-P2.json").streams
    assert [one.from_client for one in both] == [True, True, False, False]
    assert {one.from_client for one in sample_result("3.12-tcp-reverse-P2.json").streams} == {False}


def test_what_a_server_did_not_tell_is_unknown_and_not_zero() -> None:
    result = sample_result("3.12-server-side.json")
    assert result.sent_bandwidth is None
    assert result.retransmits is None
    assert result.retransmit_ratio is None
    assert "sent_bandwidth_bits_per_second" not in result.figures()


def test_a_last_interval_of_a_clock_tick_is_not_in_the_series() -> None:
    result = sample_result("3.12-server-side.json")
    assert len(result.intervals) == 2
    assert len(result.series()["bandwidth_bits_per_second"]) == 1
