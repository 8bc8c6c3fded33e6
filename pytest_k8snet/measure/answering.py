"""Whether a Service answers from where it will be measured: asked of the packets, before a sample.

Ready by the API is not programmed on the node: kube-proxy follows on each node by itself, a load
balancer and DNS later still. Without this, the first requests of a test would be refused and
counted as the network's.
"""

from __future__ import annotations

from pytest_k8snet.causes import Cause
from pytest_k8snet.cluster.services import ServiceUrl
from pytest_k8snet.errors import ClusterError, ExecError, K8sNetError, ToolError
from pytest_k8snet.measure.endpoints import UrlPair

#: Good answers in a row after which a Service counts as programmed: its pods take turns.
GOOD_ANSWERS = 6
#: How long it may take; on a real cluster kube-proxy took 0.2 to 1.5 s from the first ready pod.
LIMIT_SECONDS = 30
#: After so long it is looked whether waiting can change anything.
_CLOSER_SECONDS = 8

#: Any HTTP status is an answer. Prints how many were good in a row, how many were none, the status
#: of the last curl that gave none, and what it said; then the client's resolv.conf.
_SCRIPT = """
good=0; bad=0; code=0; said=
end=$(( $(date +%s) + $3 ))
while :; do
  if last=$(curl -gkSs -o /dev/null -m 2 "$1" 2>&1); then good=$((good + 1))
  else code=$?; good=0; bad=$((bad + 1)); said=$last; fi
  case $code in 2 | 3 | 126 | 127) break ;; esac
  [ "$good" -lt "$2" ] && [ "$(date +%s)" -lt "$end" ] || break
  sleep 0.05
done
echo "$good $bad $code" $said
[ "$code" != 6 ] || cat /etc/resolv.conf
"""
_NOT_RUNNABLE = ("2", "3", "126", "127")


def await_answers(pair: UrlPair, *, limit_seconds: int = LIMIT_SECONDS) -> None:
    """Wait until a Service of the run's own answers a client several times in a row.

    A Service of somebody else's is asked as long, and measured as it is.

    Args:
        pair: the client, and the Service's URL.
        limit_seconds: how long it may take.

    Raises:
        ClusterError: it does not; what curl said, and what that points to. Before the limit where
            waiting longer would change nothing.
    """
    url = pair.url
    if not isinstance(url, ServiceUrl):
        return
    bad = 0
    waited = first = min(_CLOSER_SECONDS, limit_seconds)
    for seconds in filter(None, (first, limit_seconds - first)):
        argv = ["sh", "-c", _SCRIPT, "k8snet", str(url), str(GOOD_ANSWERS), str(seconds)]
        try:
            done = pair.client.run(argv, timeout_seconds=seconds + 15.0)
        except (ExecError, ToolError):
            return  # the sample itself will say what keeps commands from running there
        line, _, resolver = done.stdout.strip().partition("\n")
        good, missed, code, said = (*line.split(" ", 3), "", "", "", "")[:4]
        if not good.isdigit() or int(good) >= GOOD_ANSWERS or code in _NOT_RUNNABLE:
            return
        bad += int(missed)
        cause = _cause(url, code, said, resolver)
        if cause.final:
            break
        waited = limit_seconds
    if not url.service.own:
        return
    raise ClusterError(
        f"{url} does not answer {pair.client} after {waited} s",
        found=f"{bad} requests without an answer; {said or 'curl said nothing'}",
        remedy=cause.remedy,
    )


def _cause(url: ServiceUrl, code: str, said: str, resolver: str) -> Cause:
    """Tell what it points to that a Service does not answer.

    Args:
        url: what was asked for.
        code: curl's exit status.
        said: what curl said.
        resolver: the client's resolv.conf, where the name was not found.
    """
    try:
        if not url.service.ready_addresses():
            return Cause.PODS_NOT_READY
    except K8sNetError:
        pass  # whether they are ready is not known
    if code == "6":
        domain = f"svc.{url.service.cluster_domain}"
        searched = [word.rstrip(".") for word in resolver.split() if word.startswith("svc.")]
        wrong = url.way == "dns" and searched and domain not in searched
        return Cause.OTHER_DOMAIN if wrong else Cause.UNKNOWN_NAME
    if code == "28":
        return Cause.DNS_SILENT if "esolving timed out" in said else Cause.DROPPED
    if code == "7":
        return Cause.BALANCER_REFUSES if url.way == "loadbalancer" else Cause.KUBE_PROXY
    return Cause.BROKEN_ANSWERS
