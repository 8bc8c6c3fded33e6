"""Whether a Service answers from where it will be measured: asked of the packets, before a sample.

Ready by the API is not programmed on the node: kube-proxy follows on each node by itself, a load
balancer and DNS later still. Without this, the first requests of a test would be refused and
counted as the network's.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytest_k8snet.cluster.services import ServiceUrl
from pytest_k8snet.errors import ClusterError, ExecError, ToolError
from pytest_k8snet.measure.endpoints import UrlPair

#: Good answers in a row after which a Service counts as programmed: its pods take turns.
GOOD_ANSWERS = 6
#: How long it may take; on a real cluster kube-proxy took 0.2 to 1.5 s from the first ready pod.
LIMIT_SECONDS = 30

#: Any HTTP status is an answer. Ends with the last thing that curl said, if it was no answer.
_SCRIPT = """
good=0; bad=0; said=
end=$(( $(date +%s) + $3 ))
while [ "$good" -lt "$2" ] && [ "$(date +%s)" -lt "$end" ]; do
  if last=$(curl -gkSs -o /dev/null -m 2 "$1" 2>&1); then good=$((good + 1))
  else good=0; bad=$((bad + 1)); said=$last; fi
  sleep 0.05
done
echo "$good $bad $said"
"""

_CAUSES: Mapping[str, str] = {
    "clusterip": "see kube-proxy (or what stands for it) on that node, and NetworkPolicies",
    "dns": "see CoreDNS and its Service, and the pod's /etc/resolv.conf",
    "nodeport": "see kube-proxy on the node of the URL, and firewalls before it",
    "loadbalancer": "see the load balancer's health checks, and firewalls before it",
}


def await_answers(pair: UrlPair, *, limit_seconds: int = LIMIT_SECONDS) -> None:
    """Wait until a Service of the run's own answers a client several times in a row.

    A Service of somebody else's is asked as long, and measured as it is.

    Args:
        pair: the client, and the Service's URL.
        limit_seconds: how long it may take.

    Raises:
        ClusterError: it does not, though its pods are ready; what curl said.
    """
    url = pair.url
    if not isinstance(url, ServiceUrl):
        return
    argv = ["sh", "-c", _SCRIPT, "k8snet", str(url), str(GOOD_ANSWERS), str(limit_seconds)]
    try:
        done = pair.client.run(argv, timeout_seconds=limit_seconds + 15.0)
    except (ExecError, ToolError):
        return  # the sample itself will say what keeps commands from running there
    good, _, rest = done.stdout.strip().partition(" ")
    bad, _, said = rest.partition(" ")
    if not good.isdigit() or int(good) >= GOOD_ANSWERS or not url.own:
        return
    raise ClusterError(
        f"{url} does not answer {pair.client} after {limit_seconds} s, though its pods are ready",
        found=f"{bad} requests without an answer; {said or 'curl said nothing'}",
        remedy=_CAUSES.get(url.way, _CAUSES["clusterip"]),
    )
