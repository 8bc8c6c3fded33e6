"""Every recorded curl output gives its own times and failures, or the error that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import Recording, recording, recordings

from pytest_k8snet.errors import CurlError, ToolError
from pytest_k8snet.tools import curl, curl_errors
from pytest_k8snet.tools.curl import CurlOptions, CurlSamples

SAMPLES = recordings("curl")

#: By case, for both versions; a version's own answer comes first.
ERRORS: dict[str, type[CurlError]] = {
    "7.88-503-retry": curl_errors.MissingOutput,  # --retry loses the line
    "503-fail-with-body": curl_errors.BodyInOutput,
    "bad-url": curl_errors.BadUrl,
    "failed-refused-text": curl_errors.Garbage,  # another -w format
    "no-output-option": curl_errors.BodyInOutput,
    "ok-text": curl_errors.Garbage,
    "unknown-option": curl_errors.BadOption,
}

COULD_NOT_CONNECT = "could not connect (refused, rejected or no route)"
#: What fails in the cases where something does, request by request.
FAILURES: dict[str, list[str | None]] = {
    "503": ["HTTP 503"],
    "503-fail": ["HTTP 503"],
    "dns-failure": ["name not resolved"],
    "empty-reply": ["empty answer"],
    "fail-early": [None, COULD_NOT_CONNECT],
    "http-to-https-port": ["empty answer"],
    "https-bad-cert": ["server certificate not trusted"],
    "icmp-reject": [COULD_NOT_CONNECT],
    "mixed-ok-refused-ok": [None, COULD_NOT_CONNECT, "HTTP 503"],
    "mixed-parallel": [COULD_NOT_CONNECT, None, None],
    "no-route": [COULD_NOT_CONNECT],
    "partial-body": ["answer cut short"],
    "refused": [COULD_NOT_CONNECT],
    "refused-retry": [COULD_NOT_CONNECT],
    "timeout-connect-blackhole": ["timed out while connecting"],
    "timeout-max-time": ["timed out"],
}


def expected_error(sample: Recording) -> type[CurlError] | None:
    return ERRORS.get(f"{sample.version}-{sample.case}") or ERRORS.get(sample.case)


FAILED = [sample for sample in SAMPLES if expected_error(sample)]
GOOD = [sample for sample in SAMPLES if not expected_error(sample)]


def parse(sample: Recording) -> curl.CurlSamples:
    return curl.parse(sample.text, stderr=sample.stderr, exit_code=sample.exit_code)


def raw_lines(sample: Recording) -> list[dict[str, Any]]:
    return [json.loads(line) for line in sample.text.splitlines()]


def test_the_tables_and_the_recordings_cover_each_other() -> None:
    cases = {sample.case for sample in SAMPLES} | {
        f"{sample.version}-{sample.case}" for sample in SAMPLES
    }
    assert set(ERRORS) | set(FAILURES) <= cases
    assert (len(SAMPLES), len(GOOD)) == (80, 67)


@pytest.mark.parametrize("sample", FAILED, ids=lambda sample: sample.name)
def test_an_unusable_output_raises_the_error_that_names_what_happened(sample: Recording) -> None:
    with pytest.raises(CurlError) as caught:
        parse(sample)
    assert type(caught.value) is expected_error(sample)
    assert caught.value.found
    assert caught.value.remedy


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_every_request_is_kept_with_its_outcome(sample: Recording) -> None:
    samples, lines = parse(sample), raw_lines(sample)
    expected = FAILURES.get(sample.case, [None] * len(lines))
    assert [request.failure for request in samples.requests] == expected
    assert len(samples.failed) == sum(failure is not None for failure in expected)
    assert len(samples.succeeded) + len(samples.failed) == len(lines)
    assert samples.failure_ratio == len(samples.failed) / len(lines)
    assert [request.http_code for request in samples.requests] == [
        line["http_code"] for line in lines
    ]


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_the_times_are_those_of_good_requests_on_fresh_connections(sample: Recording) -> None:
    samples = parse(sample)
    fresh = [
        line
        for line in raw_lines(sample)
        if line["exitcode"] == 0 and 200 <= line["http_code"] < 400 and line["num_connects"]
    ]
    for phase in ("namelookup", "connect", "pretransfer", "starttransfer"):
        values = [float(value) for value in getattr(samples, f"time_{phase}")]
        assert values == [line[f"time_{phase}"] for line in fresh]
    assert [float(value) for value in samples.total] == [line["time_total"] for line in fresh]
    assert [float(value) for value in samples.connect] == pytest.approx(
        [line["time_connect"] - line["time_namelookup"] for line in fresh]
    )
    assert [float(value) for value in samples.body] == pytest.approx(
        [line["time_total"] - line["time_starttransfer"] for line in fresh]
    )


@pytest.mark.parametrize("sample", GOOD, ids=lambda sample: sample.name)
def test_records_are_plain_json(sample: Recording) -> None:
    samples = parse(sample)
    for record in (samples.figures(), samples.distribution()):
        assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert samples.figures()["requests"] == len(samples.requests)
    assert samples.figures()["failed"] == len(samples.failed)
    assert all(type(value) in (int, float) for value in samples.figures().values())


@pytest.mark.parametrize(("version", "full"), [("7.88", "7.88.1"), ("8.23", "8.23.0")])
def test_the_version_is_told(version: str, full: str) -> None:
    assert parse(recording("curl", f"{version}-ok.txt")).version == full


@pytest.mark.parametrize("version", ["7.88", "8.23"])
def test_connections_used_again_have_no_connection_time(version: str) -> None:
    samples = parse(recording("curl", f"{version}-reuse-3-urls.txt"))
    assert len(samples.succeeded) == 3
    assert [request.fresh for request in samples.requests] == [True, False, False]
    assert len(samples.connect) == 1


@pytest.mark.parametrize("version", ["7.88", "8.23"])
def test_tls_is_a_phase_of_its_own(version: str) -> None:
    samples = parse(recording("curl", f"{version}-https-insecure.txt"))
    [request] = samples.requests
    assert request.tls is not None
    assert request.time_connect is not None
    assert request.time_connect < request.time_pretransfer
    assert float(samples.tls.mean) == pytest.approx(float(request.tls))
    assert samples.figures()["time_appconnect_mean_seconds"] == float(samples.time_appconnect.mean)


def test_where_a_request_went_is_told() -> None:
    [request] = parse(recording("curl", "7.88-ok.txt")).requests
    assert (request.remote_ip, request.remote_port, request.local_port) == (
        "127.0.0.1",
        18000,
        44740,
    )
    assert (request.size_bytes, request.url) == (27, "http://127.0.0.1:18000/ok")
    [refused] = parse(recording("curl", "8.23-refused.txt")).requests
    assert (refused.remote_ip, refused.remote_port, refused.local_port) == ("", None, None)


def changed(**fields: Any) -> CurlSamples:
    """Two requests for a name, the second of which told something else."""
    first = json.loads(recording("curl", "8.23-ok.txt").text)
    first |= {"url": "http://web.example/", "url_effective": "http://web.example/"}
    lines = [json.dumps(first), json.dumps({**first, **fields})]
    return curl.parse("\n".join(lines))


@pytest.mark.parametrize(
    "fields", [{"time_connect": 0.0}, {"time_namelookup": 0.001, "time_connect": 0.001}]
)
def test_a_new_connection_that_took_no_time_has_no_connect_time(fields: dict[str, float]) -> None:
    samples = changed(**fields)
    assert [request.succeeded for request in samples.requests] == [True, True]
    assert samples.requests[1].connect is None
    assert len(samples.connect) == 1
    assert len(samples.total) == 2
    assert len(samples.distribution()["tcp_seconds"]) == 1


def test_connect_times_that_curl_never_told_are_an_error_and_not_zero() -> None:
    line = json.loads(recording("curl", "8.23-ok.txt").text) | {"time_connect": 0}
    with pytest.raises(ToolError) as caught:
        _ = curl.parse(json.dumps(line)).connect.p95
    assert caught.value.problem == (
        "there is no connect time: curl told 0 for it, which no new connection takes"
    )


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("http://web.example/", True),
        ("https://user:pw@web.example.:8443/a:b?c=[1]", True),
        ("http://10-0-0-1.ip.example/", True),
        ("http://1.example/", True),
        ("http://10.96.0.20/", False),
        ("http://10.96.0.20:8080/a", False),
        ("http://user@10.96.0.20?x", False),
        ("http://10.96.0.20./", False),
        ("http://127.1/", False),
        ("http://2130706433/", False),
        ("http://0x7f.0.0.1/", False),
        ("http://[fd00::1]/", False),
        ("http://[fd00::1]:8080/", False),
        ("http://[fe80::1%25eth0]/", False),
        ("HTTP://[fe80::1%eth0]:80/", False),
        ("http://[::ffff:10.0.0.1]/", False),
        ("http://fd00::1/", False),
    ],
)
def test_nothing_is_looked_up_for_an_address(url: str, names: bool) -> None:
    assert CurlOptions(url=url).looks_up is names
    samples = changed(url=url, url_effective=url)
    assert [request.dns is not None for request in samples.requests] == [True, names]
    assert len(samples.time_namelookup) == 2


def test_nothing_is_looked_up_where_the_address_is_given() -> None:
    given = ["web.example:80:10.0.0.1"]
    assert not CurlOptions(url="http://web.example/", resolve=given).looks_up
    assert CurlOptions(url="http://other.example/", resolve=given).looks_up


def test_a_name_lookup_of_an_address_is_refused() -> None:
    samples = curl.parse(recording("curl", "8.23-ok.txt").text)
    with pytest.raises(ToolError) as caught:
        _ = samples.dns.mean
    assert str(caught.value) == (
        "there is no dns time: the URL has an address, so nothing is looked up\n"
        "  found: http://127.0.0.1:18000/ok\n"
        "  to do: request a name, such as web_service.dns_url"
    )
    assert "namelookup_seconds" not in samples.distribution()
