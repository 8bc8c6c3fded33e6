"""Every recorded curl output gives its own times and failures, or the error that names it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import Recording, recording, recordings

from pytest_k8snet.errors import CurlError
from pytest_k8snet.tools import curl, curl_errors

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
    for phase in ("namelookup", "connect", "pretransfer", "starttransfer", "total"):
        values = [float(value) for value in getattr(samples, phase)]
        assert values == [line[f"time_{phase}"] for line in fresh]
    assert [float(value) for value in samples.tcp] == pytest.approx(
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
    assert request.connect < request.pretransfer
    assert float(samples.tls.mean) == pytest.approx(float(request.tls))
    assert samples.figures()["appconnect_mean_seconds"] == float(samples.appconnect.mean)


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
