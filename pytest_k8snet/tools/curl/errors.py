"""Every way in which curl's output cannot be used, and how failed requests are told.

A failed request is a result, not one of these errors: it is counted, and its times are in no
statistic. These are raised when curl's output says nothing, and when a statistic is asked for
that no request can give.
"""
# ruff: noqa: N818 -- the base class carries the word Error, and the module name says whose they are

from __future__ import annotations

from pytest_k8snet.errors import CurlError


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


class NoValue(CurlError):
    """A statistic was asked for that these requests cannot give."""


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
