"""From curl's output, one line of JSON per request, to samples or to the error. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Sequence
from typing import Any

from pytest_k8snet.tools.curl.errors import TooOld
from pytest_k8snet.tools.curl.request import CurlRequest
from pytest_k8snet.tools.curl.samples import CurlSamples
from pytest_k8snet.tools.curl.trouble import BAD_URL_EXITS, Trouble, not_curl
from pytest_k8snet.tools.fields import Section
from pytest_k8snet.units import Seconds

#: Every line of ``%{json}`` has these, from 7.70 on.
_ALWAYS = ("http_code", "time_total", "num_connects")


def parse(
    text: str,
    *,
    expected_requests: int | None = None,
    stderr: str = "",
    exit_code: int | None = None,
    accept: Container[int] = range(200, 400),
    command: Sequence[str] = (),
) -> CurlSamples:
    """Read what curl printed for the format ``%{json}`` and a newline; 7.70 and later.

    The exit status is no judge: of several requests it is the last one's.

    Args:
        text: stdout.
        expected_requests: how many were asked for; fewer lines are an error then.
        stderr: has the messages that 7.74 and older leave out of the JSON.
        exit_code: of the process; tells a run that was stopped at its time limit.
        accept: the HTTP status codes that count as success.
        command: the exact command, to be kept with the result.

    Raises:
        CurlError: the output says nothing; the subclass and the text say why. Failed requests
            do not raise: they are counted in the result.
        ToolMissingError: curl is not installed where it was to run.
    """
    trouble = Trouble(expected_requests=expected_requests, stderr=stderr, exit_code=exit_code)
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise trouble.no_lines()
    rows = [_row(lines, index, trouble) for index in range(len(lines))]
    if expected_requests is not None and len(rows) != expected_requests:
        raise trouble.wrong_count(len(rows))
    outcomes = _outcomes(rows, trouble)
    requests = tuple(
        _request(row, code, message, accept)
        for row, (code, message) in zip(rows, outcomes, strict=True)
    )
    for request in requests:
        if request.exit_code in BAD_URL_EXITS:
            raise trouble.bad_url(request.error)
    version = re.match(r"libcurl/(\S+)", rows[0].text("curl_version") or "")
    return CurlSamples(
        requests=requests,
        version=version[1] if version else "",
        raw=text,
        command=tuple(command),
    )


def _row(lines: Sequence[str], index: int, trouble: Trouble) -> Section:
    line = lines[index].strip()
    try:
        fields: Any = json.loads(line)
    # RecursionError: nested too deeply; ValueError: also a number of too many digits.
    except (ValueError, RecursionError):
        if index == len(lines) - 1 and line.startswith("{") and not line.endswith("}"):
            raise trouble.cut_off(index, line) from None
        fields = None
    if not isinstance(fields, dict) or not all(name in fields for name in _ALWAYS):
        if any('"time_total":' in one for one in lines):
            raise trouble.mixed(line, index + 1)
        raise trouble.garbage(line, index + 1)
    # The server's whole certificate chain, in every line.
    fields.pop("certs", None)
    return Section(fields, f"line {index + 1}", not_curl)


def _outcomes(rows: Sequence[Section], trouble: Trouble) -> list[tuple[int | None, str]]:
    """Each request's exit status and message: in the JSON, or from stderr for 7.74 and older."""
    if all("exitcode" in row for row in rows):
        return [(row.count("exitcode"), row.text("errormsg") or "") for row in rows]
    said = trouble.messages
    unanswered = [index for index, row in enumerate(rows) if not row.count("http_code")]
    last = len(rows) - 1
    if not said and trouble.exit_code and (last == 0 or last in unanswered):
        # The process ends with the last request's status.
        said = [(None, "")] * (len(unanswered) - 1) + [(trouble.exit_code, "")]
        unanswered = unanswered or [last]
    if last == 0 and said:
        return said[-1:]
    if len(said) > len(unanswered) or (trouble.exit_code and last not in unanswered):
        raise TooOld(
            "this curl does not tell which of the requests failed",
            found=trouble.found,
            remedy="use curl 7.75 or later, e.g. in an image of Debian 12 or later",
        )
    # One message per failed request, in their order: only as many as there are tell which is whose.
    known = dict(zip(unanswered, said, strict=True)) if len(said) == len(unanswered) else {}
    return [
        known.get(index, (None, "")) if index in unanswered else (0, "")
        for index in range(len(rows))
    ]


def _request(
    row: Section, exit_code: int | None, message: str, accept: Container[int]
) -> CurlRequest:
    def seconds(name: str) -> Seconds:
        return Seconds(row.number(f"time_{name}") or 0.0)

    def port(name: str) -> int | None:
        return row.count(name) or None

    http_code = row.count("http_code") or 0
    appconnect = seconds("appconnect")
    return CurlRequest(
        namelookup=seconds("namelookup"),
        connect=seconds("connect"),
        appconnect=appconnect if appconnect > 0 else None,
        pretransfer=seconds("pretransfer"),
        starttransfer=seconds("starttransfer"),
        total=Seconds(row.required_number("time_total")),
        http_code=http_code,
        exit_code=exit_code,
        error=message,
        succeeded=exit_code == 0 and http_code != 0 and http_code in accept,
        num_connects=row.count("num_connects") or 0,
        remote_ip=row.text("remote_ip") or "",
        remote_port=port("remote_port"),
        local_port=port("local_port"),
        size_bytes=int(row.number("size_download") or 0),
        url=row.text("url") or row.text("url_effective") or "",
    )
