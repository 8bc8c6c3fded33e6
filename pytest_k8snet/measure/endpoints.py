"""Where a client or server runs: in a pod, on a node (host network), or outside the cluster."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any, Generic, Literal, Protocol, TypeVar, Unpack
from urllib.parse import urlsplit

from pytest_k8snet.calico.modes import CalicoMode
from pytest_k8snet.cluster.api import Api
from pytest_k8snet.cluster.exec import Completed
from pytest_k8snet.cluster.pods import WEB_PORT, Pod
from pytest_k8snet.cluster.services import ServiceUrl, WebService
from pytest_k8snet.errors import (
    ExecError,
    ExecTimeoutError,
    PodError,
    SettingsError,
    ToolError,
    ToolMissingError,
    ToolNotRunnableError,
)
from pytest_k8snet.tools.curl import Curl, CurlKeywords, CurlOptions, CurlSamples
from pytest_k8snet.tools.iperf3 import Iperf3, Iperf3Keywords, Iperf3Options
from pytest_k8snet.tools.iperf3_result import Iperf3Result
from pytest_k8snet.tools.ping import Ping, PingKeywords, PingOptions, PingResult
from pytest_k8snet.tools.tool import Options, Result, Tool, options_of

Measured_co = TypeVar("Measured_co", covariant=True)

#: How long a command may go on after its own time limit before the exec is given up, in seconds.
GRACE_SECONDS = 10.0

#: What ssh itself ends with when it does not get to the command.
_SSH_FAILED = 255


class Shell(Protocol):
    """Runs a command somewhere and waits for its end."""

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        """Run ``argv``; raises ExecError when it could not be run to its end."""
        ...


@dataclass(frozen=True, slots=True)
class PodShell:
    """Runs commands in a pod by the API's exec."""

    api: Api
    pod: Pod

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        """Run ``argv`` in the pod."""
        return self.api.exec(
            self.pod.namespace,
            self.pod.name,
            argv,
            container=self.pod.container,
            timeout_seconds=timeout_seconds,
        )

    def trouble(self, found: str) -> PodError | None:
        """Return the pod failure that explains why something in it failed, or None."""
        return self.api.pod_trouble(self.pod.namespace, self.pod.name, found)


@dataclass(frozen=True, slots=True)
class LocalShell:
    """Runs commands on this machine, or wherever a command prefix (``ssh bastion``) leads."""

    prefix: tuple[str, ...] = ()

    @property
    def over_ssh(self) -> bool:
        """Whether the prefix leads to another machine's shell."""
        return any(PurePath(word).name == "ssh" for word in self.prefix)

    def __call__(self, argv: Sequence[str], *, timeout_seconds: float) -> Completed:
        """Run ``argv`` behind the prefix."""
        # ssh joins its arguments by blanks, and the shell over there takes them apart again.
        words = [shlex.join(argv)] if self.over_ssh else argv
        command = (*self.prefix, *words)
        begun = time.monotonic()
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_seconds,
                check=False,
            )
        except OSError as exc:
            kind: type[ToolError] = ToolNotRunnableError
            cannot, remedy = "may not", "check its execute permission (chmod +x)"
            if isinstance(exc, FileNotFoundError):
                kind, cannot, remedy = ToolMissingError, "cannot", "install it"
            raise kind(
                f"the outside client {cannot} run {command[0]!r}",
                found=f"{exc.strerror}; command: {' '.join(command)}",
                remedy=f"{remedy}, or name another outside client with --k8snet-outside",
            ) from None
        except subprocess.TimeoutExpired as exc:
            raise ExecTimeoutError(
                f"the outside client did not finish within {timeout_seconds:g} s: {argv[0]}",
                stdout=_text(exc.stdout),
                stderr=_text(exc.stderr),
                remedy="check that the outside client (--k8snet-outside) answers",
            ) from None
        if self.over_ssh and done.returncode == _SSH_FAILED:
            raise ExecError(
                f"the outside client cannot be reached: {' '.join(self.prefix)}",
                found=done.stderr or f"exit status {_SSH_FAILED}",
                remedy=f"`{' '.join(self.prefix)} true` must work without a question, e.g. by a "
                "key in the agent and a host key that is known",
            )
        return Completed(
            argv=tuple(argv),
            exit_code=done.returncode,
            stdout=done.stdout,
            stderr=done.stderr,
            seconds=time.monotonic() - begun,
        )


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Generic[Measured_co]):
    """One parsed result, and the record of it.

    Attributes:
        ended: when its command did, in seconds of a clock that only rises.
    """

    result: Measured_co
    record: Mapping[str, Any]
    ended: float = 0.0


class TakesSamples(Protocol):
    """What endpoints and pairs measure with: a :class:`~pytest_k8snet.measure.sampler.Sampler`."""

    def sample(
        self,
        tool: Tool[Options, Result],
        pair: Pair | UrlPair,
        options: Options,
        *,
        warmup: bool = False,
    ) -> Sample[Result]:
        """Run a tool once between the ends of a pair."""
        ...

    def at_once(
        self,
        tool: Tool[Options, Result],
        tests: Sequence[tuple[Pair | UrlPair, Options]],
        *,
        warmup: bool = False,
    ) -> list[Sample[Result]]:
        """Run a tool between several pairs at once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Endpoint:
    """One place to measure from or to.

    Attributes:
        kind: ``pod``, ``node`` (a host-network pod) or ``outside``.
        name: the pod's, node's or machine's name.
        node: the node it is on; empty outside.
        address: the IP address that a peer connects to; empty outside.
        pool: the IPPool of a pod's address, where one was asked for.
        mode: the Calico mode of that pool, where one was asked for.
        masqueraded: why a Service sees another address than this one; empty if it does not.
    """

    kind: Literal["pod", "node", "outside"]
    name: str
    shell: Shell = field(repr=False)
    sampler: TakesSamples = field(repr=False, compare=False)
    node: str = ""
    address: str = ""
    pool: str | None = None
    mode: CalicoMode | None = None
    masqueraded: str = ""

    def run(self, argv: Sequence[str], *, timeout_seconds: float = 30.0) -> Completed:
        """Run a command here and wait for its end.

        Raises:
            ExecError: it could not be run to its end.
        """
        return self.shell(argv, timeout_seconds=timeout_seconds)

    @property
    def distorted_by(self) -> tuple[str, ...]:
        """What admission has done to the pod that changes figures."""
        if not isinstance(self.shell, PodShell):
            return ()
        return tuple(f"{self}: {phrase}" for phrase in self.shell.pod.distorted_by)

    @property
    def altered(self) -> tuple[str, ...]:
        """What else admission has made different about the pod."""
        if not isinstance(self.shell, PodShell):
            return ()
        return tuple(f"{self}: {phrase}" for phrase in self.shell.pod.altered)

    def trouble(self, found: str) -> PodError | None:
        """Return the failure of the pod below this that explains a failed command, or None."""
        return self.shell.trouble(found) if isinstance(self.shell, PodShell) else None

    def curl(self, url: str, **options: Unpack[CurlKeywords]) -> CurlSamples:
        """Request a URL several times, each on a fresh connection, by one curl process.

        Args:
            url: what to request; its characters mean themselves (no globbing).
            options: as :class:`~pytest_k8snet.tools.curl.CurlOptions` has them: ``requests``
                (10), ``method``, ``headers``, ``resolve``, ``max_time_seconds``, ...

        Returns:
            Every request's times in seconds; failures are counted apart.

        Raises:
            CurlError: curl gave nothing that can be used.
            SettingsError: curl has no such option, or cannot take its value.
        """
        wanted = options_of(CurlOptions, CurlKeywords, options, url=url)
        return self.sampler.sample(Curl(), UrlPair(client=self, url=url), wanted).result

    def facts(self) -> dict[str, str]:
        """Return what a record says of this endpoint."""
        image = self.shell.pod.image if isinstance(self.shell, PodShell) else ""
        return {
            "kind": self.kind,
            "name": self.name,
            "node": self.node,
            "address": self.address,
            **({"image": image} if image else {}),
        }

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"

    def __repr__(self) -> str:
        return f"<{self} {self.address}>" if self.address else f"<{self}>"


# -- A client and a server to measure between -----------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Pair:
    """A client endpoint and a server endpoint, and what kind of path lies between them.

    Attributes:
        scene: the kinds of the two, as in the study's table: ``pod-pod``, ``node-node``,
            ``pod-node``, ``node-pod``.
        placement: ``same-subnet``, ``cross-subnet`` or ``same-node``.
        mode: the Calico mode of the pods' pool; None where none was asked for.
    """

    client: Endpoint
    server: Endpoint
    scene: str
    placement: str
    sampler: TakesSamples = field(repr=False, compare=False)
    make_baseline: Callable[[], Pair] = field(repr=False, compare=False)
    make_web: Callable[[], Pair] | None = field(default=None, repr=False, compare=False)
    mode: CalicoMode | None = None

    @property
    def web(self) -> Pair:
        """The same client, and a pod beside the server, in its pool, that serves HTTP.

        Raises:
            SettingsError: the server is no pod.
            PodError: the pod did not start.
        """
        if self.make_web is None:
            raise SettingsError(
                f"there is no web server at the far end of {self.label}",
                found=f"it is {self.server}",
                remedy="request a URL from the client instead: pair.client.curl(url)",
            )
        return self.make_web()

    @property
    def baseline(self) -> Pair:
        """The node-node pair on the same two nodes: what the wire itself gives."""
        return self if self.scene == "node-node" else self.make_baseline()

    @property
    def distorted_by(self) -> tuple[str, ...]:
        """What admission has done to either pod that changes figures."""
        return self.client.distorted_by + self.server.distorted_by

    @property
    def label(self) -> str:
        """Scene, nodes and mode in one line."""
        mode = f" [{self.mode}]" if self.mode is not None else ""
        return f"{self.scene} {self.nodes}{mode}"

    @property
    def nodes(self) -> str:
        """The node of the client and that of the server."""
        return f"{self.client.node} -> {self.server.node}"

    @property
    def ends(self) -> str:
        """The very two ends, whose names and addresses other runs do not have."""
        client, server = self.client, self.server
        return f"{client.name} {client.address} -> {server.name} {server.address}"

    def iperf3(self, **options: Unpack[Iperf3Keywords]) -> Iperf3Result:
        """Run iperf3 once, from the client to a one-off server.

        Args:
            options: as :class:`~pytest_k8snet.tools.iperf3.Iperf3Options` has them: ``seconds``
                (10), ``omit_seconds`` (1), ``streams``, ``reverse``, ``bidirectional``, ``udp``,
                ``bitrate``, ...

        Returns:
            The figures with the raw JSON and the exact command.

        Raises:
            Iperf3Error: iperf3 gave no usable figure.
            PathError: the traffic did not take the path that the mode promises.
            SettingsError: iperf3 has no such option, or cannot take its value.
        """
        wanted = options_of(Iperf3Options, Iperf3Keywords, options, server=self.server.address)
        return self.sampler.sample(Iperf3(), self, wanted).result

    def curl(self, path: str = "/", **options: Unpack[CurlKeywords]) -> CurlSamples:
        """Request a path of a web server beside the server, pod to pod: no Service, no NAT.

        Args:
            path: what to request.
            options: as for :meth:`Endpoint.curl`.

        Raises:
            CurlError: curl gave nothing that can be used.
            PathError: the traffic did not take the path that the mode promises.
            SettingsError: the server is no pod, or curl cannot take an option.
        """
        web = self.web
        wanted = options_of(CurlOptions, CurlKeywords, options, url=web.url_of(path))
        return self.sampler.sample(Curl(), web, wanted).result

    def url_of(self, path: str) -> str:
        """Return the URL of a path of the server, which serves HTTP."""
        host = self.server.address
        return f"http://{f'[{host}]' if ':' in host else host}:{WEB_PORT}/{path.lstrip('/')}"

    def ping(self, **options: Unpack[PingKeywords]) -> PingResult:
        """Ping the server's address from the client: round-trip times of the idle path, and loss.

        Args:
            options: as :class:`~pytest_k8snet.tools.ping.PingOptions` has them: ``count`` (20),
                ``interval_seconds`` (0.2), ``size_bytes`` (56), ``wait_seconds`` (2).

        Returns:
            The distribution ``rtt`` and the loss; a run without an answer has a loss of 100 %.

        Raises:
            PingError: ping sent nothing, e.g. because the pod may not.
            PathError: the traffic did not take the path that the mode promises.
            SettingsError: ping has no such option, or cannot take its value.
        """
        wanted = options_of(PingOptions, PingKeywords, options, address=self.server.address)
        return self.sampler.sample(Ping(), self, wanted).result

    def facts(self) -> dict[str, Any]:
        """Return what a sample's record says of the two ends, and of the path between them."""
        return {
            "label": self.label,
            "scene": self.scene,
            "placement": self.placement,
            "mode": str(self.mode) if self.mode is not None else None,
            "client": self.client.facts(),
            "server": self.server.facts(),
            "url": None,
            "distorted_by": list(self.distorted_by),
            "altered": [*self.client.altered, *self.server.altered],
        }

    def __str__(self) -> str:
        return self.label

    def __repr__(self) -> str:
        # A failing test prints its arguments: names and addresses are what a reader looks for.
        return f"<{self.label}: {self.ends}>"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlPair:
    """A client endpoint and a URL that it requests; which server answers is not known."""

    client: Endpoint
    url: str

    @property
    def distorted_by(self) -> tuple[str, ...]:
        """What admission has done to the client's pod, or those behind, that changes figures."""
        behind = self._service.distorted_by if self._service is not None else ()
        return self.client.distorted_by + behind

    @property
    def _masqueraded(self) -> tuple[str, ...]:
        """What kube-proxy does to these requests: it marks figures, and keeps no gate from them."""
        said = self.client.masqueraded
        return (f"{self.client}: {said}",) if said and self._way in ("clusterip", "dns") else ()

    @property
    def label(self) -> str:
        """Scene, client's node and URL in one line."""
        return f"{self.scene} {self.nodes or self.client.name} -> {self.url}"

    @property
    def nodes(self) -> str:
        """The client's node; which one answers is not known."""
        return self.client.node

    @property
    def ends(self) -> str:
        """The very client, which other runs do not have, and the URL."""
        return f"{self.client.name} -> {self.url}"

    @property
    def scene(self) -> str:
        """The client's kind, and what the URL leads to: a Service's way if known, else its host."""
        return f"{self.client.kind}-{self._way or urlsplit(self.url).netloc.rpartition('@')[2]}"

    @property
    def mode(self) -> CalicoMode | None:
        """The Calico mode, where both the client and the only pod behind are in it.

        Nodes and whatever is outside reach a Service by address translation on the way, and so do
        pods that kube-proxy masquerades: their replies go to a node's address.
        """
        in_it = self._served_in == str(self.client.mode) and not self._masqueraded
        return self.client.mode if in_it else None

    @property
    def pods_in(self) -> str:
        """In what mode the pods of either end are, where that is not the mode of the way."""
        if self.mode is not None:
            return ""
        client = f"client in {self.client.mode}" if self.client.mode is not None else ""
        served = f"served in {self._served_in}" if self._served_in else ""
        return ", ".join(filter(None, (client, served)))

    @property
    def _service(self) -> WebService | None:
        return self.url.service if isinstance(self.url, ServiceUrl) else None

    @property
    def _way(self) -> str:
        return self.url.way if isinstance(self.url, ServiceUrl) else ""

    @property
    def _served_in(self) -> str:
        return self._service.served_in if self._service is not None else ""

    @property
    def behind(self) -> Pair | None:
        """The client and the pod that answers, where both are in one mode; else None."""
        pod = self._service.replica if self._service is not None else None
        if pod is None or self.mode is None:
            return None
        found = Pair(
            client=self.client,
            server=replace(self.client, name=pod.name, node=pod.node, address=pod.address),
            scene=self.scene,
            placement="",
            mode=self.mode,
            sampler=self.client.sampler,
            make_baseline=lambda: found,
        )
        return found

    def facts(self) -> dict[str, Any]:
        """Return what a sample's record says of the two ends."""
        mode = self.mode
        behind = self._service.altered if self._service is not None else ()
        return {
            "label": self.label,
            "scene": self.scene,
            "placement": "",
            "mode": str(mode) if mode is not None else None,
            "client": self.client.facts(),
            "server": None,
            "url": self.url,
            "pods_in": self.pods_in or None,
            "distorted_by": [*self.distorted_by, *self._masqueraded],
            "altered": [*self.client.altered, *behind],
        }
