"""Why a wait ran out: the causes that evidence can point to, with one text for each.

What waits collects evidence, not guesses: where nothing points anywhere, the text says where to
look. Imports nothing of the project. ``docs/errors.md`` lists the same for readers.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Self


class Cause(StrEnum):
    """What a wait that ran out points to, and what to do; of several the first is told."""

    # -- A mode -------------------------------------------------------------------------------
    NO_KERNEL_SUPPORT = (
        "The node's kernel has no such tunnel, so Felix gets `operation not supported`: load its "
        "module there and at every boot (`modprobe ipip`, `modprobe vxlan`), or use another mode."
    )
    WRITTEN_BACK = (
        "Find out who keeps the pool in its mode: the operator (TigeraStatus, its Installation), "
        "or a GitOps controller; `kubectl get ippool -o yaml --show-managed-fields` names writers."
    )
    NO_TUNNEL_ADDRESS = (
        "calico-node takes a tunnel address from a pool of this mode: see its log on that node "
        "(allocate-tunnel-addrs), and whether the pool selects the node and has addresses left."
    )
    NO_TUNNEL_DEVICE = (
        "Felix of that node has not made the tunnel: see its calico-node's log; `operation not "
        "supported` there means that the kernel lacks it. Else delete that calico-node pod."
    )
    NO_ROUTE = (
        "The routes of that node are not those of the mode: see its calico-node's log (Felix, and "
        "BIRD where BGP carries the routes: `calicoctl node status`); one that lags by itself is "
        "made anew by deleting its calico-node pod."
    )
    FABRIC_VXLAN = (
        "Both nodes' routes are right and nothing arrives, so it is lost between them: let UDP "
        "port 4789 (VXLAN, or the port that Calico is set to) pass between all nodes, in "
        "firewalls and security groups, and compare the MTU of the network between."
    )
    FABRIC_IPIP = (
        "Both nodes' routes are right and nothing arrives, so it is lost between them: let IP "
        "protocol 4 (IPIP) pass between all nodes, in firewalls and security groups; networks "
        "that cannot (Azure's) need VXLAN."
    )
    FABRIC_DIRECT = (
        "Both nodes' routes are right and nothing arrives, so it is lost between them: the "
        "network must carry pod addresses. Clouds check source and destination of each NIC "
        "unless told otherwise; routers need routes to the pods."
    )
    CALICO_NODE = (
        "If one node lags, delete its calico-node pod; if all do, look at the logs of calico-node "
        "and, with the operator, at TigeraStatus."
    )

    # -- A Service ----------------------------------------------------------------------------
    PODS_NOT_READY = (
        "its pods were ready and are not any more: see their events and logs, and the readiness "
        "probe"
    )
    NO_ENDPOINTS = (
        "its pods are ready, so the endpoint controller is behind: see kube-controller-manager"
    )
    OTHER_DOMAIN = (
        "the cluster's domain is another, as /etc/resolv.conf of the client says: "
        '`dataclasses.replace(web_service, cluster_domain="example.org").dns_url`'
    )
    UNKNOWN_NAME = (
        "the name has no address: see whether CoreDNS's pods run and answer, and may list "
        "Services, and which server the client's /etc/resolv.conf names"
    )
    DNS_SILENT = (
        "DNS does not answer this client: see CoreDNS's pods and its Service, /etc/resolv.conf of "
        "the client, and NetworkPolicies that keep UDP and TCP port 53 from it"
    )
    KUBE_PROXY = (
        "the node refuses what kube-proxy should have passed on: see kube-proxy (or what stands "
        "for it) on the client's node, or of the URL for a node port"
    )
    BALANCER_REFUSES = (
        "the load balancer has no healthy target: see its health checks, and firewalls between it "
        "and the node ports"
    )
    DROPPED = (
        "what is sent is dropped without a word: see NetworkPolicies at both ends, and firewalls "
        "on the way"
    )
    BROKEN_ANSWERS = (
        "something accepts connections and gives no HTTP answer: see what listens behind the "
        "Service, and whether its port is the right one"
    )
    NO_BALANCER = (
        "the cluster needs a load balancer controller (a cloud's, MetalLB, kube-vip ...); without "
        "one, leave tests from outside out"
    )
    BALANCER_FAILS = (
        "the load balancer's controller says why it gives none: its events are the cause (quota, "
        "subnets and their tags, a pool of addresses that is used up)"
    )
    BALANCER_SLOW = (
        "the load balancer's controller is at work and slow, or waits for the cloud: see its log, "
        "and try again once `kubectl get service` shows an address"
    )
    BALANCER_UNKNOWN = (
        "events may not be read here, so who should give the address is not known: ask for the "
        "right to list events, and see whether a load balancer controller runs"
    )

    # -- A pod --------------------------------------------------------------------------------
    POD_NETWORK = (
        "its network could not be set up: see calico-node on that node, and whether its pool has "
        "addresses left"
    )
    POD_VOLUME = "a volume could not be mounted: see the kubelet of that node"
    NOT_SCHEDULED = "no node takes it: the scheduler's message says why"
    IMAGE_PULL = (
        "its image is still being pulled: `-o k8snet_pod_timeout=...` allows more time, a mirror "
        "nearby (`k8snet images`) takes less"
    )
    READINESS_PROBE = "its readiness probe fails: the kubelet's node must reach its pods"
    NO_SCHEDULER = "nothing has scheduled it, nor said why: see whether kube-scheduler runs"
    NO_KUBELET = (
        "the kubelet of its node has not begun with it: see whether it runs and is not busy"
    )
    POD_SLOW = "the events tell what it waits for; `-o k8snet_pod_timeout=...` allows more time"

    # -- The Lease ----------------------------------------------------------------------------
    LEASE_CONTESTED = (
        "Somebody else writes this Lease again and again: `kubectl get lease -n kube-system "
        "k8snet-change -o yaml --show-managed-fields` names who. Then run `k8snet restore`."
    )
    LEASE_FORBIDDEN = (
        "The right to update the Lease was taken away: have the role of `k8snet doctor` bound "
        "again, then run `k8snet restore`."
    )
    API_TROUBLE = "Run `k8snet restore` when the API server is well again."

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return self.value

    @property
    def final(self) -> bool:
        """Whether waiting longer changes nothing."""
        return self in _FINAL


_FINAL = frozenset(
    {
        *(Cause.NO_KERNEL_SUPPORT, Cause.FABRIC_VXLAN, Cause.FABRIC_IPIP, Cause.FABRIC_DIRECT),
        *(Cause.PODS_NOT_READY, Cause.OTHER_DOMAIN),
    }
)


class Evidence(str):
    """Something that is wrong, in words, and what it points to.

    Attributes:
        cause: what it points to.
    """

    cause: Cause

    def __new__(cls, text: str, cause: Cause) -> Self:
        """Make a text that knows its cause."""
        self = super().__new__(cls, text)
        self.cause = cause
        return self


#: Where what is sent between nodes is lost, by the path that it takes.
FABRIC = {
    "direct": Cause.FABRIC_DIRECT,
    "vxlan": Cause.FABRIC_VXLAN,
    "ipip": Cause.FABRIC_IPIP,
}


def causes_of(wrong: Iterable[str]) -> list[Cause]:
    """Return what evidence points to, the most telling cause first; texts without one are left."""
    found = {one.cause for one in wrong if isinstance(one, Evidence)}
    return [cause for cause in Cause if cause in found]
