"""The one tree of errors. Each says what is wrong, what was found, and what to do.

    K8sNetError
    ├── SettingsError            an option, ini value, marker or argument that cannot work
    ├── ClusterError
    │   ├── KubeconfigError      no kubeconfig, unreadable, malformed, unknown context
    │   ├── ConnectError         the API server cannot be reached, or its certificate is not trusted
    │   ├── ApiError             the API server refused: carries .status and .reason
    │   │   ├── UnauthorizedError  401
    │   │   ├── ForbiddenError     403: names verb and resource
    │   │   ├── NotFoundError      404
    │   │   ├── ConflictError      409
    │   │   └── InvalidError       400, 422
    │   ├── NodesError           too few ready nodes, or none that fit the pair asked for
    │   ├── PodError             a pod that did not start, vanished or was evicted
    │   └── ExecError            a command that could not be run to its end in a pod
    │       ├── ExecTimeoutError
    │       └── ConnectionLostError
    ├── ToolError                iperf3, curl or ip gave nothing that can be used
    │   ├── ToolMissingError     the image (or machine) has no such program
    │   ├── ToolNotRunnableError it has the program, and cannot or may not run it
    │   ├── Iperf3Error          (its kinds are in pytest_k8snet.tools.iperf3)
    │   └── CurlError            (its kinds are in pytest_k8snet.tools.curl)
    ├── CalicoError
    │   ├── ModeUnavailableError this cluster cannot have the mode, or may not be changed
    │   ├── NothingSwitchedError no change of the cluster led to the mode, so none has a cost
    │   ├── NotConvergedError    the dataplane did not reach the mode in time
    │   ├── NotRecoveredError    other pods did not reach each other again after a change
    │   ├── DisruptionError      putting back cost other pods more than what tests had judged
    │   ├── PathError            the traffic did not take the path that the mode promises
    │   ├── LockedError          another run holds the cluster
    │   └── RestoreError         the cluster could not be put back
    ├── ResultsError             a results file or baseline that cannot be used
    └── LabError                 the embedded lab cannot start or has died

    Inconclusive                 the measurement did not decide: neither a pass nor a fault

``K8sNetError`` is infrastructure trouble: raised in a fixture it makes a test an ERROR, never a
FAILED. A missed target is an ordinary ``AssertionError``.

Imports nothing of the project.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

#: Longest piece of foreign text (tool output, API message) that an error quotes, in characters.
QUOTE_LIMIT = 2000
#: What each kind of error has its heading in.
_DOCUMENTED = "https://pytest-k8snet.github.io/pytest-k8snet/errors/"


def quote(text: str, limit: int = QUOTE_LIMIT) -> str:
    """Cut foreign text short enough for a message, and say how much was cut."""
    text = text.strip()
    if len(text) <= limit:
        return text
    return f"{text[:limit]} ... ({len(text) - limit} more characters)"


class K8sNetError(Exception):
    """Base of every error of this plugin.

    Args:
        problem: what is wrong, one sentence without a full stop.
        found: the evidence: what was seen instead of what was expected.
        remedy: what the reader can do about it.

    Attributes:
        during: what was being done; set by whoever knows, above where the error arose.
    """

    during = ""

    def __init__(self, problem: str, *, found: str = "", remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.found = quote(found)
        self.remedy = remedy
        _note(self)

    @property
    def brief(self) -> str:
        """Problem and evidence on one line, for an error that quotes this one."""
        found = " ".join(self.found.split())
        return f"{self.problem} ({found})" if found else self.problem

    @property
    def link(self) -> str:
        """Where the documentation tells what may be behind this kind of error."""
        return f"{_DOCUMENTED}#{type(self).__name__.lower()}"

    @property
    def told(self) -> str:
        """The whole message, as whoever runs something reads it: with the link."""
        return f"{self}\n  about: {self.link}"

    def __str__(self) -> str:
        lines = [self.problem]
        if self.during:
            lines.append("  while: " + self.during)
        if self.found:
            lines.append("  found: " + self.found.replace("\n", "\n         "))
        if self.remedy:
            lines.append("  to do: " + self.remedy.replace("\n", "\n         "))
        return "\n".join(lines)


class SettingsError(K8sNetError):
    """An option, ini value, marker or argument that cannot work."""


class ClusterError(K8sNetError):
    """Trouble with the Kubernetes cluster or on the way to it."""


class KubeconfigError(ClusterError):
    """No kubeconfig, or one that cannot be used."""


class ConnectError(ClusterError):
    """The API server cannot be reached or trusted."""


class ApiError(ClusterError):
    """The API server answered with an error Status.

    Attributes:
        status: the HTTP status code.
        reason: the Status object's reason, e.g. ``NotFound``.
    """

    def __init__(
        self, problem: str, *, status: int, reason: str = "", found: str = "", remedy: str = ""
    ) -> None:
        super().__init__(problem, found=found, remedy=remedy)
        self.status = status
        self.reason = reason


class UnauthorizedError(ApiError):
    """401: the credentials are not accepted."""


class ForbiddenError(ApiError):
    """403: the user lacks a permission; the message names verb and resource."""


class NotFoundError(ApiError):
    """404: no such object or resource.

    Attributes:
        absent: whether the server says that this very object is not there. Else it does not know
            the resource, as when an API group is gone, and nobody knows of the object.
    """

    absent = True


class ConflictError(ApiError):
    """409: the object exists already, or was changed by someone else."""


class InvalidError(ApiError):
    """400 or 422: the API server refuses the object."""


class NodesError(ClusterError):
    """Too few ready nodes, or none that fit what was asked for."""


class PodError(ClusterError):
    """A pod that did not start, vanished or was evicted."""


class ExecError(ClusterError):
    """A command that could not be run to its end in a pod."""


class ExecTimeoutError(ExecError):
    """The command was still running at its deadline; ``stdout`` and ``stderr`` hold what came."""

    def __init__(
        self, problem: str, *, stdout: str = "", stderr: str = "", remedy: str = ""
    ) -> None:
        super().__init__(problem, found=(stderr or stdout), remedy=remedy)
        self.stdout = stdout
        self.stderr = stderr


class ConnectionLostError(ExecError):
    """The exec stream broke off without an exit status."""


class ToolError(K8sNetError):
    """A measuring tool gave nothing that can be used."""


class ToolMissingError(ToolError):
    """The image or machine has no such program."""


class ToolNotRunnableError(ToolError):
    """The image or machine has the program, and cannot or may not run it."""


class Iperf3Error(ToolError):
    """iperf3 gave no usable figure."""


class CurlError(ToolError):
    """curl gave no usable figure."""


class CalicoError(K8sNetError):
    """Trouble with Calico: its state, or what was asked of it."""


class ModeUnavailableError(CalicoError):
    """This cluster cannot have the mode, or may not be changed."""


class NothingSwitchedError(CalicoError):
    """No change of the cluster led to the mode, so none has a cost."""


class NotConvergedError(CalicoError):
    """The dataplane did not reach the mode in time."""


class NotRecoveredError(CalicoError):
    """Pods that are not under test could not reach each other again after a change."""


class DisruptionError(CalicoError):
    """Putting everything back cost other pods more than the changes that tests judged."""


class PathError(CalicoError):
    """The traffic did not take the path that the mode promises."""


class LockedError(CalicoError):
    """Another run holds the cluster."""


class RestoreError(CalicoError):
    """The cluster could not be put back."""


class ResultsError(K8sNetError):
    """A results file or baseline that cannot be used."""


class LabError(K8sNetError):
    """The embedded lab cannot start, or has died."""


class Inconclusive(Exception):  # noqa: N818 -- an outcome beside pass and fail, not a fault
    """The measurement did not decide. Not a pass, and not a regression either.

    No ``AssertionError``: what expects or swallows one must not take it for a missed target.
    """

    def __init__(self, explanation: str) -> None:
        super().__init__(explanation)
        _note(self)


# -- What is swallowed by others ------------------------------------------------------------------

_noted: list[Exception] | None = None


@contextmanager
def noting() -> Generator[list[Exception]]:
    """Note the errors that are made in the block, whoever catches them."""
    global _noted
    outer, _noted = _noted, []
    try:
        yield _noted
    finally:
        _noted = outer


def _note(error: Exception) -> None:
    if _noted is not None:
        _noted.append(error)
