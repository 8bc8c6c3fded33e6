"""A steady exchange: curl on a fixed schedule, in the background, until it is told to stop.

The client runs by itself where it was started. Nothing of it goes through the API server while the
cluster changes, and it is one client from start to end: there is no moment between two commands in
which nobody asks. Pure: command lines out, typed attempts in.

    exchange = SteadyExchange(url="http://10.244.1.5:8080/", name="a1b2c3")
    run(start_argv(exchange))
    ...
    attempts = parse(output_of(stop_argv(exchange)), exchange)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_k8snet.errors import CurlError
from pytest_k8snet.tools.curl.options import CurlOptions, request_words
from pytest_k8snet.tools.process import under_timeout
from pytest_k8snet.tools.schedule import SHELL_CLOCK, Schedule

#: The pattern of jittered instants repeats after so many requests.
_LAP_REQUESTS = 100
#: A client that nobody stops, because the run was killed, ends by itself after this time.
_LONGEST_SECONDS = 3600.0
#: How long the start and the end of it may take where commands are slow, in seconds.
_GRACE_SECONDS = 10.0

# Constant, as all scripts: data comes in by the arguments.
_CLIENT = (
    SHELL_CLOCK
    + r"""
file=$1 slots=$2 lap=$3 laps=$4 tail=$5
shift 5
one() {
  line=$("$@" 2>/dev/null)
  printf '%s %s %s %s\n' "$slot" "$late" "$?" "$line" >>"$file"
}
clock
start=$now
slot=0
left_to_do=-1
while [ "$laps" -gt 0 ]; do
  for due in $slots; do
    if [ "$left_to_do" -lt 0 ] && [ -e "$file.stop" ]; then left_to_do=$tail; fi
    if [ "$left_to_do" -eq 0 ]; then break 2; fi
    left_to_do=$((left_to_do - 1))
    wait_until "$((start + due))"
    slot=$((slot + 1))
    one "$@" &
  done
  start=$((start + lap))
  laps=$((laps - 1))
done
wait
printf 'end %s\n' "$slot" >>"$file"
: >"$file.done"
"""
)
# What holds the streams of an exec keeps the exec open: the client has none of them.
_START = r"""
: >"$3" || exit 1
sh -c "$@" </dev/null >/dev/null 2>&1 &
"""
_STOP = r"""
: >"$1.stop" || exit 1
until [ -e "$1.done" ]; do sleep 0.05; done
cat "$1"
rm -f "$1" "$1.stop" "$1.done"
"""

_LINE = re.compile(r"(\d+) (-?\d+) (\d+) ?(?:(\d{3}) (\d+\.\d+))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class SteadyExchange:
    """One request after the other, each on a connection of its own.

    Attributes:
        url: what is requested.
        name: of the client's file below ``/tmp`` where it runs; tells it from others.
        per_second: how many requests per second.
        give_up_seconds: when a request counts as lost.
        tail_seconds: for how long it goes on after it was told to stop.
    """

    url: str
    name: str
    per_second: float = 10.0
    give_up_seconds: float = 1.0
    tail_seconds: float = 1.0

    @property
    def file(self) -> str:
        """Where the client writes down what became of each request."""
        return f"/tmp/k8snet-steady-{self.name}"

    @property
    def options(self) -> CurlOptions:
        """One request."""
        return CurlOptions(
            url=self.url,
            requests=_LAP_REQUESTS,
            connect_timeout_seconds=self.give_up_seconds,
            max_time_seconds=self.give_up_seconds,
        )

    @property
    def lap_seconds(self) -> float:
        """After this time the pattern of instants repeats."""
        return _LAP_REQUESTS / self.per_second

    def lap(self) -> tuple[float, ...]:
        """When the requests of the first lap are due, in seconds from the start.

        Jittered, so that they do not beat with whatever is periodic in the cluster.
        """
        return Schedule.jittered(self.options, self.per_second, seed=0).due_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request of a steady exchange.

    Attributes:
        due_seconds: when it was due, from the start of the exchange.
        answered_seconds: when its answer was complete, from the start; None: it was lost.
    """

    due_seconds: float
    answered_seconds: float | None = None


def start_argv(exchange: SteadyExchange) -> tuple[str, ...]:
    """The command that starts the client and leaves it running."""
    due = " ".join(str(round(seconds * 1000)) for seconds in exchange.lap())
    tail = max(1, round(exchange.tail_seconds * exchange.per_second))
    laps = max(1, round(_LONGEST_SECONDS / exchange.lap_seconds))
    numbers = (str(round(exchange.lap_seconds * 1000)), str(laps), str(tail))
    request = ["curl", "-q", "-s", "-g", "-o", "/dev/null", "-w", "%{http_code} %{time_total}"]
    request += [*request_words(exchange.options), exchange.url]
    client = (_CLIENT, "k8snet-steady", exchange.file, due, *numbers, *request)
    return under_timeout(_GRACE_SECONDS, "sh", "-c", _START, "k8snet-start", *client)


def stop_argv(exchange: SteadyExchange) -> tuple[str, ...]:
    """The command that ends the client once its tail is over, and prints all that it saw."""
    longest = exchange.tail_seconds + exchange.give_up_seconds + _GRACE_SECONDS
    return under_timeout(longest, "sh", "-c", _STOP, "k8snet-stop", exchange.file)


def parse(text: str, exchange: SteadyExchange) -> tuple[Attempt, ...]:
    """Read what the client wrote down, in the order of the requests.

    A request of which nothing is written was not answered: it is lost.

    Raises:
        CurlError: the client did not come to its end, or this is not what it writes.
    """
    *lines, end = [line for line in text.split("\n") if line.strip()] or [""]
    count = re.fullmatch(r"end (\d+)", end, flags=re.ASCII)
    if count is None:
        raise CurlError(
            "the steady exchange did not come to its end",
            found=end or "no output",
            remedy="see whether its client's pod was evicted or restarted",
        )
    lap = exchange.lap()
    answered: dict[int, float] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        number = int(match[1]) if match is not None else 0
        if match is None or not 1 <= number <= int(count[1]):
            raise CurlError(
                "a line of the steady exchange's client is none of its own",
                found=line,
                remedy="see who else writes there",
            )
        if match[3] == "0" and match[4] is not None and match[4][0] in "23":
            late = max(0, int(match[2])) / 1e3
            answered[number] = _due(number, lap, exchange) + late + float(match[5])
    return tuple(
        Attempt(due_seconds=_due(number, lap, exchange), answered_seconds=answered.get(number))
        for number in range(1, int(count[1]) + 1)
    )


def _due(number: int, lap: tuple[float, ...], exchange: SteadyExchange) -> float:
    laps, index = divmod(number - 1, len(lap))
    return laps * exchange.lap_seconds + lap[index]
