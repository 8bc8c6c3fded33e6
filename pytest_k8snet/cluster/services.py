"""The HTTP target of measurements: a Service made for the run, or one that exists.

A ``WebService`` gives the URL of each way to it, or says why there is no such way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster import pods
from pytest_k8snet.cluster.access import alterations, distortions
from pytest_k8snet.cluster.api import pauses
from pytest_k8snet.cluster.api_errors import admission_remedy, collection, object_path
from pytest_k8snet.cluster.nodes import measured_address, usable_nodes
from pytest_k8snet.cluster.pods import Pod, PodRequest
from pytest_k8snet.cluster.startup import Event, StartFailure, events_of, wait_ready
from pytest_k8snet.errors import ClusterError, NotFoundError

if TYPE_CHECKING:
    from pytest_k8snet.cluster.api import Api
    from pytest_k8snet.cluster.workspace import Workspace

#: How long a load balancer may take to give an address. Clouds take a minute or two.
EXTERNAL_SECONDS = 120.0
#: How long its controller may stay silent, or its last word a failure, before nothing is expected.
_SILENCE_SECONDS = 30.0
_ENDPOINTS_SECONDS = 30.0
#: How many pods serve, spread over the nodes.
_REPLICAS = 3
_HTTPS_PORT = 443


class ServiceUrl(str):
    """A URL that remembers which of a Service's ways it takes.

    Attributes:
        way: ``clusterip``, ``dns``, ``nodeport`` or ``loadbalancer``.
        service: whose URL it is.
    """

    way: str
    service: WebService

    def __new__(cls, url: str, way: str, service: WebService) -> Self:
        """Make a URL that knows its way."""
        self = super().__new__(cls, url)
        self.way, self.service = way, service
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class WebService:
    """A Service that speaks HTTP.

    Attributes:
        cluster_domain: the domain of the cluster's DNS.
        distorted_by: what admission has done to its pods that changes figures; of those that the
            run made.
        altered: what else admission has made different about them.
        own: whether the run has made it.
        replica: its only pod; None where there are several, or it is not known.
        served_in: the Calico mode of that pod's pool; empty where none was asked for.
    """

    namespace: str
    name: str
    port: int = 80
    path: str = "/"
    scheme: str = "http"
    cluster_domain: str = "cluster.local"
    distorted_by: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    own: bool = False
    replica: Pod | None = None
    served_in: str = ""
    _api: Api = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"service {self.namespace}/{self.name}"

    @property
    def cluster_ip_url(self) -> ServiceUrl:
        """The URL by the cluster IP, without DNS.

        Raises:
            ClusterError: the Service is headless or an ExternalName.
        """
        spec = self._read().get("spec") or {}
        address = spec.get("clusterIP") or ""
        if not address or address == "None":
            raise ClusterError(
                f"{self} has no cluster IP",
                found=f"clusterIP: {address or 'none'}, type: {spec.get('type')}",
                remedy="a headless Service is reached by its name only: use dns_url",
            )
        return self._url("clusterip", address, self.port)

    @property
    def dns_url(self) -> ServiceUrl:
        """The URL by its full name; the final dot keeps resolvers from trying search domains."""
        host = f"{self.name}.{self.namespace}.svc.{self.cluster_domain}."
        return self._url("dns", host, self.port)

    @property
    def node_port_url(self) -> ServiceUrl:
        """The URL by the first usable node's address and the node port.

        Raises:
            ClusterError: the Service has no node port, or no node an address.
        """
        spec = self._read().get("spec") or {}
        entries = [one for one in spec.get("ports") or [] if one.get("port") == self.port]
        if not entries:
            raise ClusterError(f"{self} has no port {self.port} any more")
        if not (number := entries[0].get("nodePort")):
            raise ClusterError(
                f"{self} has no node port",
                found=f"type: {spec.get('type', 'ClusterIP')}",
                remedy="only Services of type NodePort or LoadBalancer have one",
            )
        (node, *_) = usable_nodes(self._api, at_least=1)
        # kube-proxy may listen on a node's primary address alone.
        address = node.internal_ip or measured_address(node, ())
        return self._url("nodeport", address, int(number))

    @property
    def external_url(self) -> ServiceUrl:
        """The URL by the load balancer's address; waits for it.

        Raises:
            ClusterError: the Service is of another type, or no address came in time.
        """
        began = time.monotonic()
        sleep = pauses(2.0)
        while True:
            service = self._read()
            spec = service.get("spec") or {}
            if spec.get("type") != "LoadBalancer":
                raise ClusterError(
                    f"{self} has no external address",
                    found=f"type: {spec.get('type', 'ClusterIP')}",
                    remedy="only Services of type LoadBalancer have one",
                )
            balancer = (service.get("status") or {}).get("loadBalancer") or {}
            for ingress in balancer.get("ingress") or []:
                if address := ingress.get("ip") or ingress.get("hostname"):
                    return self._url("loadbalancer", address, self.port)
            events = events_of(self._api, service, "Service")
            cause = _missing_balancer(events)
            waited = time.monotonic() - began
            hopeless = cause in (Cause.NO_BALANCER, Cause.BALANCER_FAILS)
            if waited >= (_SILENCE_SECONDS if hopeless else EXTERNAL_SECONDS):
                raise ClusterError(
                    f"{self} got no external address within {waited:.0f} s",
                    found="\n".join(map(str, events or ())) or _NO_EVENT[cause],
                    remedy=cause.remedy,
                )
            sleep()

    def ready_addresses(self) -> set[str]:
        """Return the addresses that the Service passes requests on to."""
        try:
            slices = self._api.list(
                collection("endpointslices", namespace=self.namespace, group="discovery.k8s.io"),
                labels=f"kubernetes.io/service-name={self.name}",
            )
        except NotFoundError:
            # Before Kubernetes 1.21.
            path = object_path(collection("endpoints", namespace=self.namespace), self.name)
            try:
                subsets = self._api.get(path).get("subsets") or []
            except NotFoundError:
                return set()
            return {one["ip"] for subset in subsets for one in subset.get("addresses") or []}
        return {
            address
            for piece in slices
            for endpoint in piece.get("endpoints") or []
            # Unknown counts as ready (``EndpointConditions`` of discovery.k8s.io/v1).
            if (endpoint.get("conditions") or {}).get("ready") is not False
            for address in endpoint.get("addresses") or []
        }

    def _url(self, way: str, host: str, port: int) -> ServiceUrl:
        host = f"[{host}]" if ":" in host else host
        usual = _HTTPS_PORT if self.scheme == "https" else 80
        colon_port = "" if port == usual else f":{port}"
        url = f"{self.scheme}://{host}{colon_port}{self.path}"
        return ServiceUrl(url, way, self)

    def _read(self) -> dict[str, Any]:
        return self._api.get(
            object_path(collection("services", namespace=self.namespace), self.name)
        )


def begin_web_service(workspace: Workspace) -> dict[str, Any]:
    """Ask for the Deployment and Service of :func:`make_web_service`, and wait for nothing.

    Returns:
        the Deployment's manifest.
    """
    space, run_id, name = workspace.namespace, workspace.run_id, pods.WEB_NAME
    deployment = pods.web_deployment(
        name, space, run_id, settings=workspace.settings, replicas=_REPLICAS
    )
    workspace.make(collection("deployments", namespace=space, group="apps"), deployment)
    services = collection("services", namespace=space)
    workspace.make(services, pods.web_service(name, space, run_id))
    return deployment


def make_web_service(workspace: Workspace) -> WebService:
    """Make a Deployment of a small HTTP server and a Service before it, and wait until it serves.

    Raises:
        PodError: a replica does not start, with the scheduler's or kubelet's reason.
        ClusterError: the Service found no endpoints.
    """
    api, space, run_id = workspace.api, workspace.namespace, workspace.run_id
    name = pods.WEB_NAME
    deployments = collection("deployments", namespace=space, group="apps")
    deployment = begin_web_service(workspace)
    replicas_made = wait_ready(
        api,
        space,
        labels=f"{pods.selector(run_id)},{pods.ROLE_LABEL}={name}",
        count=_REPLICAS,
        timeout_seconds=workspace.pod_timeout_seconds,
        maker=lambda: _replica_failure(api.get(object_path(deployments, name))),
    )
    template = deployment["spec"]["template"]
    distorting = (phrase for pod in replicas_made for phrase in distortions(template, pod))
    altered = (phrase for pod in replicas_made for phrase in alterations(template, pod))
    return replace(
        _serve(workspace, name, lambda ready: len(ready) >= _REPLICAS),
        distorted_by=_of_web_pods(distorting),
        altered=_of_web_pods(altered),
    )


def serve_from(workspace: Workspace, request: PodRequest, *, served_in: str = "") -> WebService:
    """Make one pod that serves HTTP, of a role that no other has, and a Service before it.

    Raises:
        PodError: the pod does not start, with the scheduler's or kubelet's reason.
        ClusterError: the Service found another endpoint.
    """
    (pod,) = workspace.ensure_pods([request])
    return replace(
        # The modes are those of IPv4 pools, whichever family of a dual stack is its first.
        _serve(
            workspace,
            request.role,
            lambda ready: ready == {pod.address},
            ipv4=":" not in pod.address,
        ),
        distorted_by=_of_web_pods(pod.distorted_by),
        altered=_of_web_pods(pod.altered),
        replica=pod,
        served_in=served_in,
    )


def _of_web_pods(phrases: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"web pods: {phrase}" for phrase in dict.fromkeys(phrases))


def _serve(
    workspace: Workspace, name: str, served: Callable[[set[str]], bool], *, ipv4: bool = False
) -> WebService:
    """Make a Service of a run's pods of one role, and wait for its endpoints."""
    space = workspace.namespace
    services = collection("services", namespace=space)
    workspace.make(services, pods.web_service(name, space, workspace.run_id, ipv4=ipv4))
    service = WebService(namespace=space, name=name, own=True, _api=workspace.api)
    deadline = time.monotonic() + _ENDPOINTS_SECONDS
    sleep = pauses()
    while not served(ready := service.ready_addresses()):
        if time.monotonic() >= deadline:
            raise ClusterError(
                f"{service} has not the endpoints of its pods after {_ENDPOINTS_SECONDS:g} s",
                found=", ".join(sorted(ready)) or "no endpoint",
                remedy=Cause.NO_ENDPOINTS.remedy,
            )
        sleep()
    return service


def existing_web_service(api: Api, reference: str) -> WebService:
    """Find a Service by ``namespace/name`` or ``namespace/name:port``, the port by number or name.

    Raises:
        ClusterError: the reference is malformed, there is no such Service, or its port is not
            clear.
    """
    space, slash, rest = reference.partition("/")
    name, _, port = rest.partition(":")
    if not space or not slash or not name or "/" in rest:
        raise ClusterError(
            f'"{reference}" names no Service',
            remedy="write namespace/name or namespace/name:port",
        )
    services = collection("services", namespace=space)
    try:
        service = api.get(object_path(services, name))
    except NotFoundError as error:
        known = ", ".join(sorted(item["metadata"]["name"] for item in api.list(services)))
        raise ClusterError(
            f'there is no Service "{name}" in namespace "{space}"',
            found=f"Services there: {known or 'none'}",
            remedy="name one of these, as namespace/name or namespace/name:port",
        ) from error
    entry = _choose_port(service, reference, port)
    number = int(entry["port"])
    secure = number == _HTTPS_PORT or "https" in (entry.get("name"), entry.get("appProtocol"))
    return WebService(
        namespace=space,
        name=name,
        port=number,
        scheme="https" if secure else "http",
        _api=api,
    )


def _choose_port(service: Mapping[str, Any], reference: str, wanted: str) -> Mapping[str, Any]:
    ports: list[Mapping[str, Any]] = [
        port
        for port in (service.get("spec") or {}).get("ports") or []
        if port.get("protocol", "TCP") == "TCP"
    ]
    known = ", ".join(
        f"{port['port']}" + (f" ({port['name']})" if port.get("name") else "") for port in ports
    )
    if wanted:
        for port in ports:
            if wanted in (str(port["port"]), port.get("name")):
                return port
        raise ClusterError(
            f'the Service of "{reference}" has no TCP port {wanted}',
            found=f"its TCP ports: {known or 'none'}",
            remedy="name one of these after the colon",
        )
    http = [port for port in ports if port.get("name") == "http" or port["port"] == 80]
    for candidates in (ports, http):
        if len(candidates) == 1:
            return candidates[0]
    raise ClusterError(
        f'the Service "{reference}" does not tell by itself which port to use',
        found=f"its TCP ports: {known or 'none'}",
        remedy="write namespace/name:port",
    )


_NO_EVENT = {
    Cause.NO_BALANCER: "no load balancer controller has reported anything about it",
    Cause.BALANCER_UNKNOWN: "events about it may not be read",
}


def _missing_balancer(events: Sequence[Event] | None) -> Cause:
    """Tell what it points to that a load balancer has no address yet."""
    if events is None:
        return Cause.BALANCER_UNKNOWN
    if not events:
        return Cause.NO_BALANCER
    return Cause.BALANCER_FAILS if events[-1].warning else Cause.BALANCER_SLOW


def _replica_failure(deployment: Mapping[str, Any]) -> StartFailure | None:
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            return StartFailure(
                reason=condition.get("reason", "ReplicaFailure"),
                message=condition.get("message", ""),
                remedy=admission_remedy(condition.get("message", "")),
            )
    return None
