"""curl outputs that no recording has, and what is said where there is nothing to say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from recorded import recording

from pytest_k8snet import ms
from pytest_k8snet.errors import SettingsError, ToolMissingError
from pytest_k8snet.tools import curl, curl_errors, tool

#: What 7.75 and later have, and 7.74 has not.
SINCE_775 = {"certs", "num_certs", "errormsg", "exitcode", "url", "urlnum", "num_headers", "method"}


def line(name: str = "7.88-ok.txt", **changes: Any) -> str:
    return json.dumps({**json.loads(recording("curl", name).text), **changes}) + "\n"


def old(name: str = "7.88-ok.txt", **changes: Any) -> str:
    fields = json.loads(line(name, **changes))
    return json.dumps({key: fields[key] for key in fields if key not in SINCE_775}) + "\n"


def seconds(*totals: float) -> str:
    return "".join(line(time_total=total) for total in totals)


def test_version_774_tells_failures_on_stderr_only() -> None:
    samples = curl.parse(
        old() + old("7.88-refused.txt") + old(),
        stderr="curl: (7) Failed to connect to 127.0.0.1 port 1: Connection refused\n",
        exit_code=0,
    )
    assert [request.exit_code for request in samples.requests] == [0, 7, 0]
    assert samples.failed[0].error == "Failed to connect to 127.0.0.1 port 1: Connection refused"
    assert len(samples.total) == 2


def test_version_774_with_one_request_is_judged_by_the_exit_status() -> None:
    assert not curl.parse(old(), exit_code=0).failed
    [cut_short] = curl.parse(old(), exit_code=18).failed
    assert cut_short.failure == "answer cut short"
    [unknown] = curl.parse(old("7.88-refused.txt")).failed
    assert unknown.failure == "no HTTP answer"


def test_version_774_that_hides_which_request_failed_is_too_old() -> None:
    with pytest.raises(curl_errors.TooOld) as caught:
        curl.parse(
            old() + old() + old(),
            stderr="curl: (18) transfer closed with 500 bytes remaining to read\n",
            exit_code=0,
        )
    assert str(caught.value) == (
        "this curl does not tell which of the requests failed\n"
        "  found: curl: (18) transfer closed with 500 bytes remaining to read; exit status 0\n"
        "  to do: use curl 7.75 or later, e.g. in an image of Debian 12 or later"
    )


def test_version_774_without_stderr_still_counts_unanswered_requests() -> None:
    samples = curl.parse(old() + old("7.88-refused.txt") + old("7.88-refused.txt") + old())
    assert [request.failure for request in samples.requests] == [
        None,
        "no HTTP answer",
        "no HTTP answer",
        None,
    ]


def test_a_statistic_without_any_success_names_the_failures() -> None:
    samples = curl.parse(
        line("7.88-refused.txt") * 2 + line("7.88-503.txt") + line("7.88-dns-failure.txt")
    )
    with pytest.raises(curl_errors.AllFailed) as caught:
        _ = samples.connect.p95
    assert str(caught.value) == (
        "there is no connect time: 4 of 4 requests failed\n"
        "  found: 2 x could not connect (refused, rejected or no route), 1 x HTTP 503, "
        "1 x name not resolved; first message: Failed to connect to 127.0.0.1 port 35971 after "
        "0 ms: Couldn't connect to server\n"
        "  to do: request http://127.0.0.1:35971/ by hand from the same place; check the "
        "service's endpoints, DNS and NetworkPolicies"
    )


@pytest.mark.parametrize(
    "statistic", ["mean", "median", "p90", "p95", "p99", "minimum", "maximum", "stdev"]
)
def test_no_statistic_of_nothing_is_zero(statistic: str) -> None:
    with pytest.raises(curl_errors.AllFailed):
        getattr(curl.parse(line("7.88-503.txt")).total, statistic)


def test_figures_of_nothing_are_counts_only() -> None:
    samples = curl.parse(line("7.88-503.txt"))
    assert samples.figures() == {"requests": 1, "failed": 1, "failure_ratio": 1.0}
    assert samples.distribution() == {}


def test_failed_requests_spoil_no_statistic() -> None:
    samples = curl.parse(seconds(0.001, 0.003) + line("7.88-timeout-max-time.txt"))
    assert float(samples.total.maximum) == 0.003
    assert samples.failure_counts == {"timed out": 1}


def test_a_reused_connection_gives_no_figure_and_says_why() -> None:
    with pytest.raises(tool.NoValue) as caught:
        _ = curl.parse(line(num_connects=0)).total.mean
    assert caught.value.found == "1 successful requests with num_connects 0"


def test_plain_http_has_no_tls_time_and_says_why() -> None:
    with pytest.raises(tool.NoValue, match="there is no tls time: the URL is not https"):
        _ = curl.parse(line()).tls.mean


def test_redirects_are_accepted_and_errors_are_not() -> None:
    assert curl.parse(line("7.88-503.txt")).failed
    assert not curl.parse(line()).failed
    assert not curl.parse(line("7.88-redirect-nofollow.txt")).failed


def test_raise_for_failures_tells_how_many_failed() -> None:
    samples = curl.parse(line() + line("7.88-503.txt"))
    with pytest.raises(curl_errors.RequestsFailed) as caught:
        samples.raise_for_failures()
    assert caught.value.problem == "1 of 2 requests failed"
    assert caught.value.found == "1 x HTTP 503"
    curl.parse(line()).raise_for_failures()


def test_percentiles_are_measured_values_by_nearest_rank() -> None:
    total = curl.parse(seconds(*(0.001 * n for n in range(20, 0, -1)))).total
    assert str(total.p95) == "19 ms"
    assert str(total.p90) == "18 ms"
    assert str(total.p99) == "20 ms"
    assert str(total.percentile(5)) == "1 ms"
    assert str(total.percentile(5.01)) == "2 ms"
    assert str(total.percentile(0.001)) == "1 ms"
    assert total.percentile(100) == total.maximum
    assert str(total.median) == "10.5 ms"
    assert str(total.mean) == "10.5 ms"
    assert str(total.stdev) == "5.92 ms"
    assert total.mean <= 11 * ms
    assert len(total) == 20
    assert [str(value) for value in total][:2] == ["20 ms", "19 ms"]


def test_every_percentile_of_a_hundred_values_is_its_own_number() -> None:
    total = curl.parse(seconds(*(0.001 * n for n in range(1, 101)))).total
    assert [round(float(total.percentile(q)) * 1000) for q in range(1, 101)] == list(range(1, 101))


@pytest.mark.parametrize("q", [0, -1, 100.1, float("nan")])
def test_a_percentile_that_there_is_not_is_refused(q: float) -> None:
    total = curl.parse(line()).total
    with pytest.raises(SettingsError) as caught:
        total.percentile(q)
    assert caught.value.problem == f"there is no {q!r}th percentile"


def test_one_value_has_no_deviation() -> None:
    with pytest.raises(tool.NoValue, match="needs at least two values"):
        _ = curl.parse(line()).total.stdev


def test_fewer_lines_than_requests_are_a_cut_off_run() -> None:
    with pytest.raises(curl_errors.CutOff) as caught:
        curl.parse(line() * 3, expected_requests=10, exit_code=124)
    assert caught.value.problem == "curl's output is cut off after 3 of 10 requests"
    assert caught.value.found == "stopped from outside, exit status 124"


def test_a_line_that_breaks_off_is_quoted_by_its_end() -> None:
    with pytest.raises(curl_errors.CutOff) as caught:
        curl.parse(line() + line()[:500], expected_requests=10)
    assert caught.value.problem == "curl's output is cut off after 1 of 10 requests"
    assert caught.value.found == f"it ends with: {line()[300:500]}"


def test_more_lines_than_requests_are_not_one_run() -> None:
    with pytest.raises(curl_errors.Garbage, match="3 lines for 2 requests"):
        curl.parse(line() * 3, expected_requests=2)


@pytest.mark.parametrize(
    "noise",
    [
        "*   Trying 127.0.0.1:18000...",
        "< HTTP/1.1 200 OK",
        "  % Total    % Received % Xferd  Average Speed",
        "<html>",
        '{"ok": true}',
        "[1, 2]",
    ],
)
def test_foreign_text_among_the_lines_is_quoted(noise: str) -> None:
    with pytest.raises(curl_errors.BodyInOutput) as caught:
        curl.parse(line() + noise + "\n" + line())
    assert caught.value.found == f"line 2: {noise.strip()}"
    assert "-o /dev/null" in caught.value.remedy
    assert "-v" in caught.value.remedy


def test_foreign_text_alone_is_quoted() -> None:
    with pytest.raises(curl_errors.Garbage) as caught:
        curl.parse("hello\n")
    assert caught.value.problem == "line 1 of curl's output is no measurement"
    assert caught.value.found == "line 1: hello"


def test_noise_on_stderr_is_no_fault() -> None:
    verbose = "*   Trying 127.0.0.1:18000...\n> GET /ok HTTP/1.1\n"
    assert not curl.parse(line(), stderr=verbose, exit_code=0).failed


def test_a_time_that_is_no_number_is_named() -> None:
    with pytest.raises(curl_errors.Garbage) as caught:
        curl.parse(line() + line(time_connect="soon"))
    assert caught.value.found == "line 2.time_connect is no number: 'soon'"


@pytest.mark.parametrize(
    ("stderr", "exit_code", "error", "found"),
    [
        ("", 0, curl_errors.MissingOutput, "exit status 0"),
        ("", None, curl_errors.MissingOutput, "empty stdout"),
        ("", 124, curl_errors.CutOff, "stopped from outside, exit status 124"),
        ("", 137, curl_errors.CutOff, "stopped from outside, exit status 137"),
        (
            "curl: (3) bad range specification in URL position 11:",
            3,
            curl_errors.BadUrl,
            "curl: (3) bad range specification in URL position 11:; exit status 3",
        ),
        (
            "curl: (49) Couldn't parse CURLOPT_RESOLVE entry 'foo'",
            49,
            curl_errors.BadOption,
            "curl: (49) Couldn't parse CURLOPT_RESOLVE entry 'foo'; exit status 49",
        ),
        (
            "sh: curl: not found",
            127,
            ToolMissingError,
            "sh: curl: not found",
        ),
    ],
)
def test_no_output_at_all_is_told_by_what_else_is_known(
    stderr: str, exit_code: int | None, error: type[Exception], found: str
) -> None:
    with pytest.raises(error) as caught:
        curl.parse("", stderr=stderr, exit_code=exit_code)
    assert type(caught.value) is error
    assert getattr(caught.value, "found") == found  # noqa: B009 -- the classes differ


def test_the_command_and_the_raw_output_are_kept() -> None:
    samples = curl.parse(line(), command=["curl", "http://h/"])
    assert samples.command == ("curl", "http://h/")
    assert samples.raw == line()


def test_samples_are_told_in_one_short_line() -> None:
    assert repr(curl.parse(seconds(0.001, 0.002))) == (
        "CurlSamples(2 requests, Distribution(total: n=2, median 1.5 ms, p95 2 ms, max 2 ms))"
    )
    assert repr(curl.parse(line() + line("7.88-503.txt"))) == (
        "CurlSamples(2 requests, failed: {'HTTP 503': 1})"
    )
    assert repr(curl.parse(line("7.88-503.txt")).total) == "Distribution(total: no values)"


def test_failed_requests_print_as_their_counted_reasons() -> None:
    samples = curl.parse(line() + line("7.88-refused.txt") + 2 * line("7.88-503.txt"))
    assert samples.failed[-1:] == [samples.requests[-1]]
    assert repr(samples.failed) == (
        "<3 of 4 requests: 2 x HTTP 503, 1 x could not connect (refused, rejected or no route); "
        f"first message: {samples.requests[1].error}>"
    )
    assert repr(samples.requests[3]).startswith("<HTTP 503 after ")
    assert repr(curl.parse(line()).failed) == "<0 of 1 requests>"
