"""curl: command lines out, typed samples in. Pure.

    samples = parse(output_of(argv(CurlOptions(url="http://10.96.0.20/", requests=100))))
    samples.connect.p95, samples.total.mean, samples.failed

Every way in which the output cannot be used is a subclass of ``CurlError`` named here.
"""

from __future__ import annotations

from pytest_k8snet.errors import CurlError
from pytest_k8snet.tools.curl.distribution import Distribution
from pytest_k8snet.tools.curl.errors import (
    AllFailed,
    BadOption,
    BadUrl,
    BodyInOutput,
    CutOff,
    Garbage,
    MissingOutput,
    NoValue,
    RequestsFailed,
    TooOld,
)
from pytest_k8snet.tools.curl.options import CurlOptions, argv
from pytest_k8snet.tools.curl.parser import parse
from pytest_k8snet.tools.curl.request import CurlRequest
from pytest_k8snet.tools.curl.samples import CurlSamples

__all__ = [
    "AllFailed",
    "BadOption",
    "BadUrl",
    "BodyInOutput",
    "CurlError",
    "CurlOptions",
    "CurlRequest",
    "CurlSamples",
    "CutOff",
    "Distribution",
    "Garbage",
    "MissingOutput",
    "NoValue",
    "RequestsFailed",
    "TooOld",
    "argv",
    "parse",
]
