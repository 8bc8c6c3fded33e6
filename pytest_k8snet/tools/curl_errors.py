"""What can be wrong with curl's output, told from all that is known of its process. Pure.

A failed request is a result, not one of these errors: it is counted, and its times are in no
statistic. These are raised when curl's output says nothing, and when a statistic is asked for
that no request can give.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_k8snet.errors import CurlError, K8sNetError, quote
from pytest_k8snet.tools.tool import Output, as_written_by, printable, start_failure

# ruff: noqa: N818 -- the base class carries the word Error, and the module name says whose they are

#: What curl's exit status means for one request; 28 and HTTP errors are told apart by the caller.
EXIT_MEANINGS = {
    1: "protocol not supported",
    3: "bad URL",
    5: "proxy name not resolved",
    6: "name not resolved",
    7: "could not connect (refused, rejected or no route)",
    16: "HTTP/2 error",
    18: "answer cut short",
    22: "HTTP error",
    23: "could not write the answer",
    35: "TLS handshake failed",
    47: "too many redirects",
    52: "empty answer",
    55: "connection lost while sending",
    56: "connection lost while receiving",
    60: "server certificate not trusted",
}
#: curl's exit status for a protocol or URL that it does not take.
BAD_URL_EXITS = frozenset({1, 3})
#: For options: unknown, not built in, bad arguments.
_BAD_OPTION_EXITS = frozenset({2, 4, 43, 48, 49})
_MESSAGE = re.compile(r"^curl: \((\d{1,4})\) (.*)$", re.MULTILINE | re.ASCII)
_QUOTE_LIMIT = 200


class MissingOutput(CurlError):
    """curl printed no line at all."""


class BadUrl(CurlError):
    """curl does not accept the URL."""


class BadOption(CurlError):
    """curl does not know or accept an option."""


class CutOff(CurlError):
    """Fewer lines than requests: curl was stopped, or the output did not arrive whole."""


class Garbage(CurlError):
    """A line is not one that ``-w '%{json}'`` prints."""


class BodyInOutput(Garbage):
    """The answers' bodies are mixed into the measurement."""


class TooOld(CurlError):
    """This version does not tell which of the requests failed."""


class RequestsFailed(CurlError):
    """Some requests failed where none may."""


class AllFailed(RequestsFailed):
    """A statistic was asked for, and no request succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Makes the error for output that cannot be used."""

    output: Output
    expected_requests: int | None = None

    @property
    def messages(self) -> list[tuple[int | None, str]]:
        """The exit status and text of each failed transfer that curl named on stderr, in order."""
        return [(int(code), message) for code, message in _MESSAGE.findall(self.output.stderr)]

    @property
    def found(self) -> str:
        """What the process said besides its output."""
        code = self.output.exit_code
        status = "" if code is None else f"exit status {code}"
        return "; ".join(filter(None, (self.output.stderr.strip(), status)))

    def no_lines(self) -> K8sNetError:
        """There is no output at all."""
        missing = start_failure("curl", self.output.stderr, self.output.exit_code)
        if missing is not None:
            return missing
        codes = {code for code, _ in self.messages} | {self.output.exit_code}
        if codes & BAD_URL_EXITS:
            return self.bad_url("")
        if codes & _BAD_OPTION_EXITS:
            return BadOption(
                "curl does not accept an option",
                found=self.found,
                remedy="check the option against `curl --help all` where it runs; "
                "curl 7.75 or later is wanted",
            )
        if self.output.killed:
            return self.cut_off(0)
        return MissingOutput(
            "curl printed no measurement",
            found=self.found or "empty stdout",
            remedy="run it with -w '%{json}\\n' -o /dev/null, and without --retry, which loses "
            "the line in curl 7.88 and older",
        )

    def wrong_count(self, rows: int) -> CurlError:
        """There are more or fewer lines than requests were asked for."""
        if self.expected_requests is None or rows < self.expected_requests:
            return self.cut_off(rows)
        return Garbage(
            f"curl's output has {rows} lines for {self.expected_requests} requests",
            found="more measurements than were asked for",
            remedy="parse each run's output by itself",
        )

    def cut_off(self, rows: int, tail: str = "") -> CutOff:
        """Make the error of output that ends after so many whole lines."""
        of = "" if self.expected_requests is None else f" of {self.expected_requests}"
        quoted = f"it ends with: {printable(tail)[-_QUOTE_LIMIT:]}" if tail else ""
        return CutOff(
            f"curl's output is cut off after {rows}{of} requests",
            found="; ".join(filter(None, (self.output.killed, quoted))) or self.found,
            remedy="if its time limit ended it, ask for fewer requests or raise "
            "time_limit_seconds; else look for an eviction or a lost exec stream",
        )

    def bad_url(self, message: str) -> BadUrl:
        """Make the error of a URL that is refused by curl."""
        return BadUrl(
            "curl does not accept the URL",
            found=message or self.found,
            remedy="write it whole, e.g. http://10.96.0.20:80/",
        )

    def mixed(self, line: str, number: int) -> BodyInOutput:
        """Make the error of a line that is no measurement, while another one is."""
        return BodyInOutput(
            "other text, most likely the answer's body, is mixed into curl's measurement",
            found=_line(line, number),
            remedy="send the body away with -o /dev/null, once for each URL; keep stderr (-v, "
            "the progress meter) apart from stdout",
        )

    def garbage(self, line: str, number: int) -> Garbage:
        """Make the error of a line that is no measurement, nor is any other."""
        return Garbage(
            f"line {number} of curl's output is no measurement",
            found=_line(line, number),
            remedy="print one JSON object per request with -w '%{json}\\n' and send the body "
            "to /dev/null",
        )


not_curl = as_written_by("curl", Garbage, "-w '%{json}\\n'")


def _line(line: str, number: int) -> str:
    return f"line {number}: {quote(printable(line), _QUOTE_LIMIT)}"
