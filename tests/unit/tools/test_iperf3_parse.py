"""iperf3 outputs that no recording has: other versions, and trouble made by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import recording

from pytest_k8snet.errors import Iperf3Error, ToolMissingError
from pytest_k8snet.tools import iperf3, iperf3_errors


def document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(recording("iperf3", name).text)
    return loaded


def as_39_bidirectional(name: str) -> str:
    """A recording rewritten as 3.9 prints it: the reverse sums under the same keys again."""
    loaded = document(name)
    loaded["start"]["version"] = "iperf 3.9"
    text = json.dumps(loaded)
    assert "_bidir_reverse" in text
    return text.replace("_bidir_reverse", "")


def as_39_udp() -> str:
    loaded = document("3.12-udp-data-dropped-100pct.json")
    loaded["start"]["version"] = "iperf 3.9"
    del loaded["end"]["sum_sent"], loaded["end"]["sum_received"]
    return json.dumps(loaded)


def failed_39() -> str:
    return json.dumps(
        {"start": {"connected": [], "version": "iperf 3.9"}, "intervals": [], "end": {}}
    )


def test_version_39_names_both_directions_by_the_same_keys() -> None:
    result = iperf3.parse(as_39_bidirectional("3.12-tcp-bidir.json"))
    end = document("3.12-tcp-bidir.json")["end"]
    assert result.version == (3, 9)
    assert result.direction == "bidirectional"
    assert result.bandwidth == end["sum_received"]["bits_per_second"]
    assert result.reverse_bandwidth == end["sum_received_bidir_reverse"]["bits_per_second"]
    assert result.opposite is not None
    assert result.opposite.retransmits == end["sum_sent_bidir_reverse"]["retransmits"]


def test_version_39_has_no_tcp_trouble_with_one_direction() -> None:
    loaded = document("3.12-tcp.json")
    loaded["start"]["version"] = "iperf 3.9"
    assert iperf3.parse(json.dumps(loaded)).version == (3, 9)


def test_version_39_cannot_tell_udp_loss() -> None:
    with pytest.raises(iperf3_errors.TooOld) as caught:
        iperf3.parse(as_39_udp())
    assert str(caught.value) == (
        "iperf3 3.9 does not tell what arrived in a UDP test\n"
        "  found: its one sum has the sender's bit rate, and 0 % loss where everything is lost\n"
        "  to do: use iperf3 3.12 or later for UDP, e.g. in an image of Debian 12 or later"
    )


@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        (
            "iperf3: error - unable to send control message: Bad file descriptor",
            iperf3_errors.Refused,
        ),
        (
            "iperf3: error - unable to connect to server: Connection timed out",
            iperf3_errors.TimedOut,
        ),
        ("iperf3: error - control socket has closed unexpectedly", iperf3_errors.ServerDied),
        ("iperf3: error - the server is busy running a test. try again later", iperf3_errors.Busy),
        (
            "iperf3: error - unable to connect to server: Name does not resolve",
            iperf3_errors.NameNotResolved,
        ),
        ("iperf3: interrupt - the client has terminated", iperf3_errors.Interrupted),
    ],
)
def test_version_39_tells_errors_on_stderr_only(stderr: str, error: type[Iperf3Error]) -> None:
    with pytest.raises(Iperf3Error) as caught:
        iperf3.parse(failed_39(), stderr=stderr + "\n", exit_code=1)
    assert type(caught.value) is error


def test_an_empty_end_without_any_message_is_a_cut_off_test() -> None:
    with pytest.raises(iperf3_errors.CutOff, match="iperf3's output is cut off"):
        iperf3.parse(failed_39())


def test_a_warning_on_stderr_is_no_error() -> None:
    good = recording("iperf3", "3.12-tcp.json")
    assert iperf3.parse(good.text, stderr="warning: this system does not seem to support IPv6\n")


@pytest.mark.parametrize("name", ["3.12-tcp.json", "3.22-tcp-json-stream.json"])
@pytest.mark.parametrize(
    ("before", "behind"),
    [
        ("", "ok\n"),
        ("", "warning: x"),
        ("", "command terminated\n"),
        ("warning: UDP block size 1500 exceeds TCP MSS 1448\n", ""),
        ("Welcome {user} to node1\n\n", "\nbye {}\n"),
        ("  ", "\n\n"),
    ],
)
def test_text_around_a_whole_document_does_not_spoil_it(
    name: str, before: str, behind: str
) -> None:
    good = recording("iperf3", name).text
    assert iperf3.parse(before + good + behind).bandwidth == iperf3.parse(good).bandwidth


def test_text_between_the_events_of_a_stream_does_not_spoil_it() -> None:
    good = recording("iperf3", "3.22-tcp-json-stream.json").text
    between = good.replace('{"event":"end"', 'warning: slow\n{"event":"end"')
    assert iperf3.parse(between).bandwidth == iperf3.parse(good).bandwidth


def test_an_error_of_iperf3_behind_a_whole_document_spoils_it() -> None:
    good = recording("iperf3", "3.12-tcp.json").text
    with pytest.raises(iperf3_errors.ServerDied):
        iperf3.parse(good + "iperf3: error - control socket has closed unexpectedly\n")


def test_a_document_that_is_cut_is_cut_off_whatever_stands_before_it() -> None:
    good = recording("iperf3", "3.12-tcp.json").text
    with pytest.raises(iperf3_errors.CutOff):
        iperf3.parse("warning: x\n" + good[: len(good) // 2])


def test_an_error_on_stderr_spoils_even_a_whole_document() -> None:
    good = recording("iperf3", "3.12-tcp.json")
    with pytest.raises(iperf3_errors.ServerDied):
        iperf3.parse(good.text, stderr="iperf3: error - control socket has closed unexpectedly\n")


def test_the_exit_status_is_no_judge() -> None:
    good = recording("iperf3", "3.12-tcp.json")
    assert iperf3.parse(good.text, exit_code=1).bandwidth > 0
    refused = recording("iperf3", "3.12-err-refused.json")
    with pytest.raises(iperf3_errors.Refused):
        iperf3.parse(refused.text, exit_code=0)


def test_both_of_two_error_keys_are_told() -> None:
    text = '{"start": {}, "end": {}, "error": "SERVER ERROR - odd thing", "error": "other thing"}'
    with pytest.raises(Iperf3Error) as caught:
        iperf3.parse(text)
    assert caught.value.found == "odd thing; other thing"
    assert caught.value.problem == "iperf3 reports an error"


def test_the_client_s_error_decides_where_the_server_s_says_nothing_known() -> None:
    text = '{"start": {}, "error": "SERVER ERROR - odd thing", "error": "unable to send results"}'
    with pytest.raises(iperf3_errors.ServerDied):
        iperf3.parse(text)


def test_two_documents_in_a_row_are_not_taken_for_one() -> None:
    good = recording("iperf3", "3.12-tcp.json").text
    with pytest.raises(iperf3_errors.Garbage, match="2 iperf3 documents in a row"):
        iperf3.parse(good + good)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"seconds": 5}, "seconds 2, asked for 5"),
        ({"streams": 4}, "streams 1, asked for 4"),
        ({"udp": True}, "protocol TCP, asked for UDP"),
        ({"reverse": True}, "direction forward, asked for reverse"),
    ],
)
def test_the_output_of_another_test_is_refused(asked: dict[str, Any], found: str) -> None:
    good = recording("iperf3", "3.12-tcp.json").text
    options = iperf3.Iperf3Options(server="127.0.0.1", port=1, **{"seconds": 2, **asked})
    with pytest.raises(iperf3_errors.Garbage) as caught:
        iperf3.parse(good, expected=options)
    assert found in caught.value.found


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("3.12-tcp-get-server-output.json", "@"),
        ("3.12-tcp-get-server-output-serverjson.json", "@"),
        ("3.12-tcp.json", ""),
    ],
)
def test_the_servers_output_says_as_whom_it_saw_the_client(name: str, address: str) -> None:
    # Between two ends without NAT the client knows its own address as well.
    local = document(name)["start"]["connected"][0]["local_host"]
    result = iperf3.parse(recording("iperf3", name).text)
    assert result.client_address == address.replace("@", local)
    assert iperf3.Iperf3().payload(result).client_address == result.client_address


def test_an_ipv4_client_of_an_ipv6_socket_is_told_by_its_ipv4_address() -> None:
    loaded = document("3.12-tcp.json")
    loaded["server_output_text"] = "Accepted connection from ::ffff:10.1.2.3, port 5\n[  5] local"
    assert iperf3.parse(json.dumps(loaded)).client_address == "10.1.2.3"


def test_the_command_is_kept_with_the_result() -> None:
    good = recording("iperf3", "3.12-tcp.json").text
    options = iperf3.Iperf3Options(server="127.0.0.1", port=15228, seconds=2, omit_seconds=0)
    assert iperf3.parse(good, expected=options).command == iperf3.Iperf3().argv(options)
    assert iperf3.parse(good).command == ()


def test_a_test_that_ended_early_has_no_figure() -> None:
    loaded = document("3.12-tcp.json")
    loaded["end"]["sum_received"]["seconds"] = 1.89
    with pytest.raises(iperf3_errors.Truncated) as caught:
        iperf3.parse(json.dumps(loaded))
    assert caught.value.found == "1.89 s measured, 2 s asked for"
    loaded["end"]["sum_received"]["seconds"] = 1.91
    assert iperf3.parse(json.dumps(loaded)).seconds < iperf3.parse(json.dumps(loaded)).seconds * 2


def test_no_data_in_one_of_two_directions_names_the_direction() -> None:
    loaded = document("3.12-tcp-bidir.json")
    loaded["end"]["sum_received_bidir_reverse"]["bytes"] = 0
    with pytest.raises(iperf3_errors.NoData) as caught:
        iperf3.parse(json.dumps(loaded))
    assert "0 bytes received in 1 s in the reverse direction" in caught.value.found


def test_no_data_speaks_of_the_path_mtu() -> None:
    sample = recording("iperf3", "3.12-err-mtu-blackhole.json")
    with pytest.raises(iperf3_errors.NoData) as caught:
        iperf3.parse(sample.text)
    assert str(caught.value) == (
        "iperf3 connected, but not one byte of payload arrived\n"
        "  found: 0 bytes received in 2 s, 3 retransmits\n"
        "  to do: small packets pass and full ones do not: compare the pods' MTU with the path "
        "MTU, tunnel header included (the connection's MSS is 1448 bytes)"
    )


def test_all_datagrams_lost_is_no_loss_of_zero() -> None:
    sample = recording("iperf3", "3.12-udp-data-dropped-100pct.json")
    with pytest.raises(iperf3_errors.NoData) as caught:
        iperf3.parse(sample.text)
    assert caught.value.found == "0 bytes received in 1 s, 1041 datagrams sent: loss 100 %"


def test_retransmits_that_the_sender_cannot_tell_are_unknown() -> None:
    loaded = document("3.12-tcp.json")
    del loaded["end"]["sum_sent"]["retransmits"]
    assert iperf3.parse(json.dumps(loaded)).retransmits is None
    loaded["end"]["sum_sent"]["retransmits"] = -1
    result = iperf3.parse(json.dumps(loaded))
    assert result.retransmits is None
    assert result.retransmit_ratio is None
    assert "retransmits" not in result.figures()


def test_the_server_sending_in_its_own_output_cannot_be_judged() -> None:
    loaded = document("3.12-server-side.json")
    loaded["end"]["sum_received"]["bytes"] = 0
    with pytest.raises(iperf3_errors.Garbage, match="it cannot tell what arrived"):
        iperf3.parse(json.dumps(loaded))


def test_an_interval_that_is_printed_twice_counts_once() -> None:
    loaded = document("3.12-tcp.json")
    loaded["intervals"].append(loaded["intervals"][-1])
    assert len(iperf3.parse(json.dumps(loaded)).intervals) == 2


def test_an_unknown_event_of_a_stream_is_passed_over() -> None:
    text = recording("iperf3", "3.22-tcp-json-stream.json").text
    more = '{"event":"server_output_text","data":"text"}\n' + text
    assert iperf3.parse(more).bandwidth == iperf3.parse(text).bandwidth


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"bits_per_second": "fast"}, "end.sum_received.bits_per_second is no number: 'fast'"),
        ({"bits_per_second": None}, "end.sum_received.bits_per_second is missing"),
        ({"bits_per_second": True}, "end.sum_received.bits_per_second is no number: True"),
        ({"bits_per_second": -1.0}, "end.sum_received.bits_per_second cannot be -1.0"),
        ({"bits_per_second": float("nan")}, "end.sum_received.bits_per_second cannot be nan"),
        ({"bits_per_second": 10**400}, "end.sum_received.bits_per_second is too large to be true"),
        ({"bytes": []}, "end.sum_received.bytes is no number: []"),
    ],
)
def test_a_field_of_the_wrong_type_is_named(change: dict[str, Any], found: str) -> None:
    loaded = document("3.12-tcp.json")
    loaded["end"]["sum_received"].update(change)
    with pytest.raises(iperf3_errors.Garbage) as caught:
        iperf3.parse(json.dumps(loaded))
    assert caught.value.found == found


def test_missing_sums_are_named() -> None:
    loaded = document("3.12-tcp.json")
    del loaded["end"]["sum_received"]
    with pytest.raises(iperf3_errors.Garbage) as caught:
        iperf3.parse(json.dumps(loaded))
    assert caught.value.found == "end.sum_received is missing"


def test_text_that_is_no_json_is_quoted() -> None:
    with pytest.raises(iperf3_errors.Garbage) as caught:
        iperf3.parse("Connecting to host 10.0.0.1, port 5201\n[  5] local ...")
    assert caught.value.problem == "iperf3's output is text that is no JSON"
    assert "Connecting to host 10.0.0.1" in caught.value.found


def test_a_program_that_is_not_there_is_no_fault_of_iperf3() -> None:
    said = "timeout: failed to run command 'iperf3': No such file or directory"
    with pytest.raises(ToolMissingError) as caught:
        iperf3.parse("", stderr=said, exit_code=127)
    assert str(caught.value) == (
        "there is no iperf3 where the command ran\n"
        f"  found: {said}\n"
        "  to do: use an image that has iperf3 (and timeout): -o k8snet_image=...; outside the "
        "cluster, install it"
    )


def test_a_silent_end_at_the_time_limit_is_told_as_such() -> None:
    with pytest.raises(iperf3_errors.Interrupted) as caught:
        iperf3.parse("", exit_code=124)
    assert caught.value.found == "stopped from outside, exit status 124"
    assert "accepts connections and does not answer" in caught.value.remedy


def test_a_read_only_root_is_told_with_its_remedy() -> None:
    with pytest.raises(iperf3_errors.NoScratchSpace) as caught:
        iperf3.parse('{"error": "unable to create a new stream: Read-only file system"}')
    assert "mount an emptyDir at /tmp" in caught.value.remedy


def test_the_result_is_told_in_one_short_line() -> None:
    result = iperf3.parse(recording("iperf3", "3.12-udp-loss5pct-bidir.json").text)
    assert repr(result) == (
        "Iperf3Result(UDP bidirectional, 19 Mbit/s / 20 Mbit/s back, lost 0.050, 1 s)"
    )
    tcp = iperf3.parse(recording("iperf3", "3.12-tcp.json").text)
    assert repr(tcp) == "Iperf3Result(TCP forward, 17.7 Gbit/s, 1 retransmit, 2 s)"
