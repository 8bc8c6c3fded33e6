"""The lab's own log: its standard error, of which the launcher quotes the end when the lab dies."""

from __future__ import annotations

import sys

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab.api.status import StatusError


def log(line: str) -> None:
    """Write one line, now."""
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def explain(exc: Exception) -> str:
    """What was wrong, in one text: each error of a group, and the kind of what nobody foresaw."""
    if isinstance(exc, ExceptionGroup):
        return "; ".join(explain(one) for one in exc.exceptions)
    if isinstance(exc, LabError | StatusError):
        return str(exc)
    return repr(exc)
