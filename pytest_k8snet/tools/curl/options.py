"""What one curl process shall request, checked and put into a command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.tools.process import under_timeout

#: Beyond this the output grows past what an exec stream should carry (1 to 4 KB a line).
_MOST_REQUESTS = 10_000
#: A whole process is not given more than this per request on average once it has a minute.
_SECONDS_PER_REQUEST = 1.0
_SHORTEST_LIMIT_SECONDS = 60.0

_URL = re.compile(r"https?://[^\s/?#\x00-\x1f\x7f]+[^\s\x00-\x1f\x7f]*", re.IGNORECASE)
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\x00]*")
_METHOD = re.compile(r"[A-Z]{3,16}")


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
        _check(
            isinstance(self.requests, int) and 1 <= self.requests <= _MOST_REQUESTS,
            f"requests={self.requests!r} is no whole number from 1 to {_MOST_REQUESTS}",
        )
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
            seconds = getattr(self, name)
            _check(0.001 <= seconds <= 3600, f"{name}={seconds!r} is not from 0.001 to 3600")
        limit = self.time_limit_seconds
        _check(limit is None or limit >= 1, f"time_limit_seconds={limit!r} is less than 1")

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


def argv(options: CurlOptions) -> tuple[str, ...]:
    """The command line: one process, one line of JSON per request on stdout."""
    words = ["curl", "-q", "-sS", "-o", "/dev/null", "-w", "%{json}\\n", *request_words(options)]
    words.append(f"{_without_globs(options.url)}#[1-{options.requests}]")
    return under_timeout(options.timeout_seconds, *words)


def request_words(options: CurlOptions) -> list[str]:
    """What makes one request what it is, apart from its URL: every way to run curl shares it."""
    # HTTP/2 would ignore the header and carry every request on one connection.
    words = ["--http1.1", "-H", "Connection: close"]
    # A proxy named by the environment would be measured in the service's place.
    words += ["--noproxy", "*"]
    words += ["--connect-timeout", f"{options.connect_timeout_seconds:g}"]
    words += ["-m", f"{options.max_time_seconds:g}"]
    if options.method == "HEAD":
        words.append("--head")
    elif options.method != "GET":
        words += ["-X", options.method]
    for header in options.headers:
        words += ["-H", header]
    for entry in options.resolve:
        words += ["--resolve", entry]
    if options.insecure:
        words.append("-k")
    if options.follow_redirects:
        words.append("-L")
    if options.ipv6 is not None:
        words.append("-6" if options.ipv6 else "-4")
    return words


def _without_globs(url: str) -> str:
    """Escape what curl would expand; the fragment makes room for the counter."""
    return re.sub(r"([\[\]{}])", r"\\\1", url.split("#", 1)[0])


def _check(sound: object, problem: str, remedy: str = "see what CurlOptions takes") -> None:
    if not sound:
        raise SettingsError(f"curl cannot be run like this: {problem}", remedy=remedy)
