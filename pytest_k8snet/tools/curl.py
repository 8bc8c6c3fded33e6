"""curl: requests one after the other by one process, and the times of each. Pure.

Options first, then the command line, the requests and samples that they give, and the parser.
"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, TypedDict, overload

from pytest_k8snet.errors import ToolError
from pytest_k8snet.tools.curl_errors import (
    BAD_URL_EXITS,
    EXIT_MEANINGS,
    AllFailed,
    RequestsFailed,
    TooOld,
    Trouble,
    not_curl,
)
from pytest_k8snet.tools.tool import (
    UNREADABLE,
    Check,
    Column,
    Distribution,
    Measured,
    NoValue,
    Options,
    Output,
    Payload,
    Result,
    Section,
    Tool,
    option_words,
    under_timeout,
    words_of,
)
from pytest_k8snet.units import Ratio, Seconds

#: Beyond this the output grows past what an exec stream should carry (1 to 4 KB a line).
_MOST_REQUESTS = 10_000
#: A whole process is not given more than this per request on average once it has a minute.
_SECONDS_PER_REQUEST = 1.0
_SHORTEST_LIMIT_SECONDS = 60.0

_URL = re.compile(r"https?://[^\s/?#\x00-\x1f\x7f]+[^\s\x00-\x1f\x7f]*", re.IGNORECASE)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\x00]*")
_METHOD = re.compile(r"[A-Z]{3,16}")
#: The HTTP status codes of a request that succeeded.
ACCEPTED = range(200, 400)
#: curl's "Operation timed out": in the connection attempt or later, which num_connects says.
_TIMED_OUT = 28
#: Every line of ``%{json}`` has these, from 7.70 on.
_ALWAYS = ("http_code", "time_total", "num_connects")
_check = Check("curl")


class ScheduledKeywords(TypedDict, total=False):
    """The options of requests on a schedule, as :class:`CurlOptions` explains them."""

    method: str
    headers: Sequence[str]
    resolve: Sequence[str]
    insecure: bool
    follow_redirects: bool
    ipv6: bool | None
    connect_timeout_seconds: float
    max_time_seconds: float


class CurlKeywords(ScheduledKeywords, total=False):
    """The options of ``endpoint.curl``, as :class:`CurlOptions` explains them."""

    requests: int
    time_limit_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CurlOptions:
    """A number of equal requests by one curl process, each on a connection of its own.

    Attributes:
        url: what to request; its characters mean themselves (no globbing). A fragment is dropped:
            it is never sent.
        requests: how many, one after the other.
        method: e.g. ``GET`` or ``HEAD``.
        headers: lines such as ``Host: example.test``.
        resolve: ``host:port:address`` entries that replace DNS; name and SNI stay.
        insecure: accept any server certificate.
        follow_redirects: times are then those of the last hop.
        ipv6: only IPv6 (True), only IPv4 (False), or what the name gives (None).
        connect_timeout_seconds: of each request, name lookup and TLS included.
        max_time_seconds: of each request, as a whole.
        time_limit_seconds: of the whole process; None derives it from the others.

    Raises:
        SettingsError: a value that curl cannot take.
    """

    url: str
    requests: int = 10
    method: str = "GET"
    headers: Sequence[str] = ()
    resolve: Sequence[str] = ()
    insecure: bool = False
    follow_redirects: bool = False
    ipv6: bool | None = None
    connect_timeout_seconds: float = 5.0
    max_time_seconds: float = 10.0
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        _check(
            _URL.fullmatch(self.url),
            f"no URL: {self.url!r}",
            "write it whole, e.g. http://10.96.0.20:80/; percent-encode spaces",
        )
        _check.whole("requests", self.requests, 1, _MOST_REQUESTS)
        _check(_METHOD.fullmatch(self.method), f"no HTTP method: {self.method!r}")
        for name, lines in (("headers", self.headers), ("resolve", self.resolve)):
            _check(
                not isinstance(lines, str),
                f"{name} is one text, and should be a list of them",
                f"write {name}=[{lines!r}]",
            )
        for header in self.headers:
            _check(_HEADER.fullmatch(header), f"no header line: {header!r}", "write Name: value")
            _check(
                not header.lower().startswith("connection:"),
                "the Connection header is not free: it makes every request a fresh connection",
            )
        for entry in self.resolve:
            _check(
                re.fullmatch(r"[^\s:]+:\d+:\S+", entry),
                f"no resolve entry: {entry!r}",
                "write host:port:address",
            )
        for name in ("connect_timeout_seconds", "max_time_seconds"):
            _check.within(name, getattr(self, name), 0.001, 3600)
        limit = self.time_limit_seconds
        _check(limit is None or limit >= 1, f"time_limit_seconds={limit!r} is less than 1")

    @property
    def looks_up(self) -> bool:
        """Whether a name has to be resolved: no address in the URL, and no ``resolve`` for it."""
        given = {entry.partition(":")[0].lower() for entry in self.resolve}
        return names_host(self.url) and host_of(self.url).lower() not in given

    @property
    def timeout_seconds(self) -> float:
        """When ``timeout`` ends the process.

        Long enough for ten requests that all time out, and not for a thousand: those would
        keep a run waiting for hours.
        """
        if self.time_limit_seconds is not None:
            return self.time_limit_seconds
        longest = self.requests * self.max_time_seconds
        usual = max(_SHORTEST_LIMIT_SECONDS, self.requests * _SECONDS_PER_REQUEST)
        return min(longest, usual) + 5.0


def request_words(options: CurlOptions) -> list[str]:
    """What makes one request what it is, apart from its URL: every way to run curl shares it."""
    # HTTP/2 would ignore the header and carry every request on one connection.
    words = ["--http1.1", "-H", _OWN_HEADER]
    # A proxy named by the environment would be measured in the service's place.
    words += ["--noproxy", "*"]
    method = options.method
    words += option_words(
        {
            "--connect-timeout": f"{options.connect_timeout_seconds:g}",
            "-m": f"{options.max_time_seconds:g}",
            "--head": method == "HEAD",
            "-X": method if method not in ("GET", "HEAD") else None,
            "-H": list(options.headers),
            "--resolve": list(options.resolve),
            "-k": options.insecure,
            "-L": options.follow_redirects,
            "-6": options.ipv6 is True,
            "-4": options.ipv6 is False,
        }
    )
    return words


def host_of(url: str) -> str:
    """Return the host in a URL, without user, port and brackets."""
    authority = re.sub(r"^[a-z]+://", "", url, flags=re.IGNORECASE)
    authority = re.split(r"[/?#]", authority, maxsplit=1)[0].rpartition("@")[2]
    bracketed = re.match(r"\[([^\]]*)\]", authority)
    if bracketed:
        return bracketed[1]
    return authority if authority.count(":") > 1 else authority.partition(":")[0]


def names_host(url: str) -> bool:
    """Return whether a URL's host is a name, and no address in any spelling that curl takes."""
    host = host_of(url).partition("%")[0]
    if ":" in host:
        return False
    try:
        # Takes 127.1, 0x7f.0.0.1 and 2130706433 as well, as curl does.
        socket.inet_aton(host.removesuffix("."))
    except OSError:
        return True
    return False


# -- One request that curl made: its phases, its outcome, its connection --------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CurlRequest:
    """One request.

    Times named ``time_...`` are curl's own: **cumulative**, from the request's start. They mean
    something only where the request succeeded; of a failed one only ``total`` does, the time until
    it failed. ``dns``, ``connect``, ``tls``, ``first_byte`` and ``body`` are the parts, under the
    names that gates, charts and tables have for them.

    Attributes:
        time_namelookup: until the name was resolved.
        time_connect: until the TCP connection stood; None where curl told 0.
        time_appconnect: until the TLS handshake was done; None without TLS.
        time_pretransfer: until the request was ready to be sent.
        time_starttransfer: until the first byte of the answer.
        total: until the end.
        looked_up: whether the URL has a name, which had to be resolved.
        http_code: 0 where there was no answer.
        exit_code: curl's for this request; None where an old version did not tell.
        error: curl's message, empty where there is none.
        succeeded: curl was content and the status was an accepted one.
        num_connects: 0 means that an older connection was used again, or none was made.
        remote_ip: empty where no connection was made.
        size_bytes: of the answer's body.
    """

    time_namelookup: Seconds
    time_connect: Seconds | None
    time_appconnect: Seconds | None = None
    time_pretransfer: Seconds
    time_starttransfer: Seconds
    total: Seconds
    looked_up: bool = True
    http_code: int
    exit_code: int | None
    error: str = ""
    succeeded: bool
    num_connects: int
    remote_ip: str = ""
    remote_port: int | None = None
    local_port: int | None = None
    size_bytes: int = 0
    url: str = ""

    @property
    def fresh(self) -> bool:
        """Whether it made a connection of its own, so that its connection time is one."""
        return self.num_connects > 0

    @property
    def dns(self) -> Seconds | None:
        """The name lookup; None where the URL has an address, so that nothing was looked up."""
        return self.time_namelookup if self.looked_up else None

    @property
    def connect(self) -> Seconds | None:
        """The TCP handshake; None where curl told no time for it: none takes no time."""
        return _part(self.time_namelookup, self.time_connect)

    @property
    def tls(self) -> Seconds | None:
        """The TLS handshake; None without TLS."""
        return None if self.time_connect is None else _part(self.time_connect, self.time_appconnect)

    @property
    def first_byte(self) -> Seconds | None:
        """From the request being ready to the first byte of the answer: network and server."""
        return _part(self.time_pretransfer, self.time_starttransfer)

    @property
    def body(self) -> Seconds:
        """From the first byte of the answer to its last."""
        # Two of curl's clocks may round apart by a microsecond.
        return max(Seconds(0), self.total - self.time_starttransfer)

    @property
    def failure(self) -> str | None:
        """Why it failed, in a few words fit for counting; None where it succeeded."""
        if self.succeeded:
            return None
        if self.exit_code == _TIMED_OUT:
            return "timed out" if self.num_connects else "timed out while connecting"
        if self.exit_code == 22 or (not self.exit_code and self.http_code):
            return f"HTTP {self.http_code}"
        if self.exit_code:
            return EXIT_MEANINGS.get(self.exit_code, f"curl exit status {self.exit_code}")
        return "no HTTP answer"

    def __repr__(self) -> str:
        return f"<{self.failure or f'HTTP {self.http_code}'} after {self.total}>"


class FailedRequests(list[CurlRequest]):
    """The requests of a series that failed; printed as their reasons, counted.

    ``assert not samples.failed`` then says why it does not hold.

    Args:
        failed: the failed requests.
        asked: how many requests there were in all.
    """

    def __init__(self, failed: Iterable[CurlRequest], asked: int) -> None:
        super().__init__(failed)
        self.asked = asked

    @property
    def counts(self) -> dict[str, int]:
        """How many requests failed for which reason, the most frequent first."""
        counts = Counter(request.failure for request in self)
        return {str(reason): count for reason, count in counts.most_common()}

    @property
    def reasons(self) -> str:
        """The counted reasons, and curl's first message."""
        counted = ", ".join(f"{count} x {reason}" for reason, count in self.counts.items())
        said = next((one.error for one in self if one.error), "")
        return counted + (f"; first message: {said}" if said else "")

    def __repr__(self) -> str:
        return f"<{len(self)} of {self.asked} requests{f': {self.reasons}' if self else ''}>"


def _part(start: Seconds, end: Seconds | None) -> Seconds | None:
    """Return what lies between two of curl's times; None where that would be no time at all."""
    return None if end is None or end <= start else end - start


# -- What a series of requests measured: distributions of the good ones, a count of the others


#: Phases in records, and the attributes that they are. Cumulative ones have curl's names.
_RECORDED = MappingProxyType(
    {
        "namelookup": "dns",
        "time_connect": "time_connect",
        "time_appconnect": "time_appconnect",
        "time_starttransfer": "time_starttransfer",
        "total": "total",
        "tcp": "connect",
        "tls": "tls",
        "ttfb": "first_byte",
    }
)


class Phase:
    """An attribute of :class:`CurlSamples`: the distribution of the times of that name.

    It is over the successful requests that made a connection of their own.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, samples: None, owner: type) -> Phase: ...

    @overload
    def __get__(self, samples: CurlSamples, owner: type) -> Distribution: ...

    def __get__(self, samples: CurlSamples | None, owner: type) -> Phase | Distribution:
        if samples is None:
            return self
        counted = (one for one in samples.requests if one.succeeded and one.fresh)
        times = (getattr(one, self._name) for one in counted)
        return Distribution(
            name=self._name,
            values=tuple(time for time in times if time is not None),
            why_empty=samples.why_empty,
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CurlSamples:
    """All requests of one curl process, in order.

    The distributions hold the successful requests that made a connection of their own, in
    seconds, under the names that :class:`CurlRequest` explains: ``dns``, ``connect``, ``tls``,
    ``first_byte`` and ``body`` are the parts, ``total`` is the whole, and ``time_...`` are curl's
    cumulative times. Failed requests are in none of them, and never dropped: see ``failed`` and
    ``failure_ratio``.

    Attributes:
        requests: each one, failed ones included.
        version: of curl, e.g. ``7.88.1``; empty where it did not say.
        raw: what curl printed.
        command: the exact command, where it is known.
    """

    requests: tuple[CurlRequest, ...]
    version: str = ""
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def succeeded(self) -> list[CurlRequest]:
        """The successful requests."""
        return [request for request in self.requests if request.succeeded]

    @property
    def failed(self) -> FailedRequests:
        """The requests that failed; empty, and so false, when all is well."""
        failed = (request for request in self.requests if not request.succeeded)
        return FailedRequests(failed, len(self.requests))

    @property
    def failure_ratio(self) -> Ratio:
        """Failed requests of all requests."""
        return Ratio(len(self.failed) / len(self.requests))

    @property
    def failure_counts(self) -> dict[str, int]:
        """How many requests failed for which reason, the most frequent first."""
        return self.failed.counts

    dns = Phase()
    connect = Phase()
    tls = Phase()
    first_byte = Phase()
    body = Phase()
    total = Phase()
    time_namelookup = Phase()
    time_connect = Phase()
    time_appconnect = Phase()
    time_pretransfer = Phase()
    time_starttransfer = Phase()

    def raise_for_failures(self) -> None:
        """Insist that every request succeeded.

        Raises:
            RequestsFailed: names the reasons with their counts (AllFailed: not one succeeded).
        """
        if self.failed:
            raise self._failures(
                f"{len(self.failed)} of {len(self.requests)} requests failed",
            )

    def figures(self) -> dict[str, float]:
        """Return counts and statistics under names with units, as plain numbers for a record."""
        figures: dict[str, float] = {
            "requests": len(self.requests),
            "failed": len(self.failed),
            "failure_ratio": float(self.failure_ratio),
        }
        for phase in self._recorded():
            figures |= phase.figures()
        return figures

    def distribution(self) -> dict[str, list[float]]:
        """Return the values of each phase as plain lists of seconds, for a record."""
        found: dict[str, list[float]] = {}
        for phase in self._recorded():
            found |= phase.distribution()
        return found

    def _recorded(self) -> Iterator[Distribution]:
        for recorded, attribute in _RECORDED.items():
            phase: Distribution = getattr(self, attribute)
            if len(phase):
                yield replace(phase, name=recorded)

    def why_empty(self, name: str) -> ToolError:
        """Make the error for a statistic of a phase that no request has."""
        if not self.succeeded:
            return self._failures(
                f"there is no {name} time: {len(self.failed)} of {len(self.requests)} "
                "requests failed"
            )
        if not any(request.fresh for request in self.succeeded):
            return NoValue(
                f"there is no {name} time: no request made a connection of its own",
                found=f"{len(self.succeeded)} successful requests with num_connects 0",
                remedy="send Connection: close over HTTP/1.1, as argv() does",
            )
        if name == "dns":
            return NoValue(
                "there is no dns time: the URL has an address, so nothing is looked up",
                found=self.requests[0].url.partition("#")[0],
                remedy="request a name, such as web_service.dns_url",
            )
        if name in ("tls", "time_appconnect"):
            return NoValue(
                f"there is no {name} time: the URL is not https",
                remedy="use connect for the TCP handshake",
            )
        return NoValue(
            f"there is no {name} time: curl told 0 for it, which no new connection takes",
            found=f"{len(self.succeeded)} successful requests",
            remedy="use another version of curl",
        )

    def _failures(self, problem: str) -> RequestsFailed:
        kind = RequestsFailed if self.succeeded else AllFailed
        # The fragment is how one curl is made to send many requests.
        url = self.failed[0].url.partition("#")[0] or "the URL"
        return kind(
            problem,
            found=self.failed.reasons,
            remedy=f"request {url} by hand from the same place; "
            "check the service's endpoints, DNS and NetworkPolicies",
        )

    def __repr__(self) -> str:
        if self.failed:
            return f"CurlSamples({len(self.requests)} requests, failed: {self.failure_counts})"
        return f"CurlSamples({len(self.requests)} requests, {self.total!r})"


# -- What sets requests apart, as a command line says it ------------------------------------------

_OWN_HEADER = "Connection: close"
#: Options of the command line that a value follows.
_VALUED = frozenset({"-o", "-w", "-H", "-X", "-m", "--noproxy", "--connect-timeout", "--resolve"})
#: Options without a value that make a request another one.
_SAID = MappingProxyType(
    {"-k": "any certificate", "-L": "following redirects", "-4": "IPv4 only", "-6": "IPv6 only"}
)
#: A URL's path and query, as far as they are sent.
_PLAIN_URL = re.compile(r"http(?P<s>s?)://[^/?#]*(?P<path>[^#]*)", re.IGNORECASE)
_SECRET = re.compile(r"authorization|cookie|token|key|secret|password", re.IGNORECASE)


def _said_header(line: str) -> str:
    name, _, _ = line.partition(":")
    return name if _SECRET.search(name) else line


# -- The tool: one process, one line of JSON per request -------------------------------------------


class CurlTool(Tool[Options, Result]):
    """What the two ways to run curl have in common: how reports show its requests."""

    name = "curl"
    title = "Latency by curl in ms: means of its times from the start of a request"
    columns = (
        Column(heading="requests", source="requests", statistic="sum", unit="count"),
        Column(heading="failed", source="failed", statistic="sum", unit="count"),
        # Cumulative, in curl's own words; connect is the TCP handshake alone.
        Column(
            heading="time_connect", source="time_connect_seconds", statistic="mean", unit="seconds"
        ),
        Column(
            heading="time_starttransfer",
            source="time_starttransfer_seconds",
            statistic="mean",
            unit="seconds",
        ),
        Column(heading="time_total", source="total_seconds", statistic="mean", unit="seconds"),
        Column(heading="total p50", source="total_seconds", statistic="median", unit="seconds"),
        Column(heading="total p95", source="total_seconds", statistic="p95", unit="seconds"),
    )
    curves = MappingProxyType(
        {
            "total_seconds": "total",
            "tcp_seconds": "connect",
            "ttfb_seconds": "first_byte",
            "namelookup_seconds": "dns",
            "tls_seconds": "tls",
        }
    )

    def variant(self, command: Sequence[str]) -> str:
        """Return what sets requests apart from ``GET /`` by plain HTTP.

        Of a header that may hold a secret the name is told and not the value.
        """
        words = words_of(command, self.name, _VALUED)
        options = words.options
        url = _PLAIN_URL.match(re.sub(r"\\([\[\]{}])", r"\1", " ".join(words.rest)))
        parts = ["HEAD" if "--head" in options else words.value("-X") or ""]
        if url is not None:
            parts += [url["path"] if url["path"] != "/" else "", "https" if url["s"] else ""]
        parts += [_said_header(one) for one in options.get("-H", ()) if one != _OWN_HEADER]
        parts += [f"resolve {entry}" for entry in options.get("--resolve", ())]
        parts += [said for option, said in _SAID.items() if option in options]
        return ", ".join(filter(None, parts))


class Curl(CurlTool[CurlOptions, CurlSamples]):
    """curl, one request after the other by one process."""

    def argv(self, options: CurlOptions) -> tuple[str, ...]:
        """Return the command line: one process, one line of JSON per request."""
        words = ["curl", "-q", "-sS", "-o", "/dev/null", "-w", "%{json}\\n"]
        # What curl would expand is escaped; the fragment makes room for the counter.
        url = re.sub(r"([\[\]{}])", r"\\\1", options.url.split("#", 1)[0])
        words += [*request_words(options), f"{url}#[1-{options.requests}]"]
        return under_timeout(options.timeout_seconds, *words)

    def usual_seconds(self, options: CurlOptions) -> float:
        """Return a guess: nobody knows how fast the server is."""
        return 1.0

    def limit_seconds(self, options: CurlOptions) -> float:
        """Return the time limit of the command line."""
        return options.timeout_seconds

    def parse(self, output: Output, options: CurlOptions) -> CurlSamples:
        """Read one line per request."""
        return parse(
            output.stdout,
            expected_requests=options.requests,
            stderr=output.stderr,
            exit_code=output.exit_code,
            command=self.argv(options),
            looks_up=options.looks_up,
        )

    def measured(self, result: CurlSamples) -> Measured:
        """Return counts and statistics, and every request's times."""
        return Measured(figures=result.figures(), distribution=result.distribution())

    def payload(self, result: CurlSamples) -> Payload | None:
        """Return the bodies of all answers; None where nothing was answered."""
        answered = result.succeeded
        size_bytes = sum(one.size_bytes for one in answered)
        return Payload(to_client_bytes=size_bytes) if answered else None


def parse(
    text: str,
    *,
    expected_requests: int | None = None,
    stderr: str = "",
    exit_code: int | None = None,
    command: Sequence[str] = (),
    looks_up: bool = True,
) -> CurlSamples:
    """Read what curl printed for the format ``%{json}`` and a newline; 7.70 and later.

    The exit status is no judge: of several requests it is the last one's.

    Args:
        text: stdout.
        expected_requests: how many were asked for; fewer lines are an error then.
        stderr: has the messages that 7.74 and older leave out of the JSON.
        exit_code: of the process; tells a run that was stopped at its time limit.
        command: the exact command, to be kept with the result.
        looks_up: whether a name in the URL had to be resolved.

    Raises:
        CurlError: the output says nothing; the subclass and the text say why. Failed requests
            do not raise: they are counted in the result.
        ToolMissingError: curl is not installed where it was to run.
    """
    output = Output(stdout=text, stderr=stderr, exit_code=exit_code)
    trouble = Trouble(output=output, expected_requests=expected_requests)
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise trouble.no_lines()
    rows = [_row(lines, index, trouble) for index in range(len(lines))]
    if expected_requests is not None and len(rows) != expected_requests:
        raise trouble.wrong_count(len(rows))
    outcomes = _outcomes(rows, trouble)
    requests = tuple(
        read_request(row, code, message, looks_up=looks_up)
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
    except UNREADABLE:
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
    status = trouble.output.exit_code
    if not said and status and (last == 0 or last in unanswered):
        # The process ends with the last request's status.
        said = [(None, "")] * (len(unanswered) - 1) + [(status, "")]
        unanswered = unanswered or [last]
    if last == 0 and said:
        return said[-1:]
    if len(said) > len(unanswered) or (status and last not in unanswered):
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


def read_request(
    row: Section, exit_code: int | None, message: str = "", *, looks_up: bool = True
) -> CurlRequest:
    """Read one request from curl's variables, by their names.

    ``looks_up`` says whether a name in its URL has to be resolved.
    """

    def seconds(name: str) -> Seconds:
        return Seconds(row.number(f"time_{name}") or 0.0)

    def port(name: str) -> int | None:
        return row.count(name) or None

    http_code = row.count("http_code") or 0
    # The last hop's, where redirects were followed.
    url = row.text("url_effective") or row.text("url") or ""
    return CurlRequest(
        time_namelookup=seconds("namelookup"),
        time_connect=seconds("connect") or None,
        time_appconnect=seconds("appconnect") or None,
        time_pretransfer=seconds("pretransfer"),
        time_starttransfer=seconds("starttransfer"),
        looked_up=looks_up and names_host(url),
        total=Seconds(row.required_number("time_total")),
        http_code=http_code,
        exit_code=exit_code,
        error=message,
        succeeded=exit_code == 0 and http_code in ACCEPTED,
        num_connects=row.count("num_connects") or 0,
        remote_ip=row.text("remote_ip") or "",
        remote_port=port("remote_port"),
        local_port=port("local_port"),
        size_bytes=int(row.number("size_download") or 0),
        url=row.text("url") or row.text("url_effective") or "",
    )
