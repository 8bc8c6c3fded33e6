"""curl on a fixed schedule: requests start when they are due, whatever became of those before.

A loop that waits for each answer stops asking while the server stalls, and so hardly sees the
stall ("coordinated omission"). Here a small shell script starts one curl process per slot at its
time, and prints all results at the end: not a byte of output while the network is measured. Pure:
command line out, typed slots in.

    schedule = Schedule.jittered(CurlOptions(url="http://10.96.0.20/", requests=100), 20, seed=7)
    slots = ScheduledCurl().parse(output_of(ScheduledCurl().argv(schedule)), schedule).slots
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from pytest_k8snet.errors import CurlError, SettingsError
from pytest_k8snet.tools.curl import (
    Curl,
    CurlOptions,
    CurlRequest,
    CurlSamples,
    CurlTool,
    read_request,
    request_words,
)
from pytest_k8snet.tools.curl_errors import BAD_URL_EXITS, Trouble, not_curl
from pytest_k8snet.tools.tool import (
    Measured,
    Output,
    Payload,
    Section,
    start_failure,
    under_timeout,
)
from pytest_k8snet.units import Seconds

#: A slot that starts later than this was missed: the client had no CPU for it at its time.
LATEST_START_SECONDS = 0.25
#: Most requests that may be under way at once, each with two processes.
_MOST_AT_ONCE = 100
#: From the start of the script to the first slot.
_LEAD_SECONDS = 0.05

_FIELDS = (
    "http_code",
    "num_connects",
    "time_namelookup",
    "time_connect",
    "time_appconnect",
    "time_pretransfer",
    "time_starttransfer",
    "time_total",
    "local_port",
    "remote_ip",
)

#: Shell functions: ``clock`` reads the milliseconds since the machine's start into ``$now``, and
#: ``wait_until`` waits for such a moment and says in ``$late`` how far behind it is. /proc/uptime
#: is read by the shell itself, without a process.
SHELL_CLOCK = r"""
clock() {
  read -r up rest </proc/uptime || exit 1
  now=${up%.*}${up#*.}0
}
wait_until() {
  clock
  left=$(($1 - now))
  if [ "$left" -gt 0 ]; then
    part=$((1000 + left % 1000))
    sleep "$((left / 1000)).${part#1}"
    clock
  fi
  late=$((now - $1))
}
"""

# Constant: data comes in by the arguments. $1 holds the slots' times in milliseconds, the others
# are curl's command line.
_SCRIPT = (
    SHELL_CLOCK
    + r"""
slots=$1
shift
one() {
  line=$("$@" 2>/dev/null)
  printf '%s %s %s %s\n' "$slot" "$late" "$?" "$line"
}
all() {
  clock
  start=$now
  slot=0
  for due in $slots; do
    wait_until "$((start + due))"
    slot=$((slot + 1))
    one "$@" &
  done
  wait
}
results=$(all "$@") || exit 1
printf '%s\n' "$results"
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When each request is due, and what it is.

    Attributes:
        options: the request; ``options.requests`` is the number of slots.
        due_seconds: when each slot is due, from the start of the script, rising.
    """

    options: CurlOptions
    due_seconds: tuple[float, ...]

    @classmethod
    def jittered(cls, options: CurlOptions, per_second: float, *, seed: int) -> Schedule:
        """Return a schedule with one request at a random instant of each 1/per_second.

        The jitter keeps the schedule from beating with whatever is periodic in the cluster.

        Args:
            options: what is requested, and for how long at most.
            per_second: how many requests start in a second, on average.
            seed: of the random instants: equal seeds give equal schedules.

        Raises:
            SettingsError: so many requests could be under way at once that the client would be
                measured instead of the network.
        """
        most = math.ceil(per_second * options.max_time_seconds)
        if most > _MOST_AT_ONCE:
            raise SettingsError(
                f"the schedule could have {most} requests under way at once",
                found=f"{per_second:g} requests per second, each given "
                f"{options.max_time_seconds:g} s",
                remedy=f"keep rate x max_time_seconds at or below {_MOST_AT_ONCE}",
            )
        draws = random.Random(seed)
        return cls(
            options=options,
            due_seconds=tuple(
                _LEAD_SECONDS + (slot + draws.random()) / per_second
                for slot in range(options.requests)
            ),
        )

    @property
    def timeout_seconds(self) -> float:
        """The longest that a sound run can take: the last slot's request, and a little."""
        return max(self.due_seconds, default=0.0) + self.options.max_time_seconds + 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """One slot of the schedule.

    Attributes:
        late: how late its request started, at a resolution of 10 ms; None if it never did.
        request: what became of it; None if it never started or did not end.
    """

    late: Seconds | None = None
    request: CurlRequest | None = None

    @property
    def missed(self) -> bool:
        """Whether the client failed to make a request at its time, so that nothing is known."""
        return self.late is None or float(self.late) > LATEST_START_SECONDS

    @property
    def answered(self) -> bool:
        """Whether a complete answer came to a request made in time."""
        return not self.missed and self.request is not None and self.request.succeeded


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledSamples:
    """All slots of a schedule, in order.

    Attributes:
        slots: one for each request that was due.
        raw: what the script printed.
        command: the exact command.
    """

    slots: tuple[Slot, ...]
    raw: str = field(default="", compare=False)
    command: tuple[str, ...] = ()

    @property
    def missed(self) -> int:
        """Slots that the client itself missed."""
        return sum(slot.missed for slot in self.slots)

    @property
    def latest(self) -> Seconds:
        """The latest start of a request after its time."""
        return max((slot.late for slot in self.slots if slot.late is not None), default=Seconds(0))

    def values(self, phase: str) -> list[float | None]:
        """Return a phase's time in seconds for each slot.

        Infinite where no answer came; None where the client missed the slot, or curl told no time
        for the phase: neither says anything of the network.

        Args:
            phase: ``dns``, ``connect``, ``tls``, ``first_byte`` or ``total``.
        """
        values: list[float | None] = []
        for slot in self.slots:
            if slot.missed:
                values.append(None)
            elif slot.answered and slot.request is not None:
                value = getattr(slot.request, phase)
                values.append(None if value is None else float(value))
            else:
                values.append(math.inf)
        return values

    def samples(self) -> CurlSamples:
        """Return the requests that were made, for a record."""
        return CurlSamples(
            requests=tuple(slot.request for slot in self.slots if slot.request is not None),
            raw=self.raw,
            command=self.command,
        )


class ScheduledCurl(CurlTool[Schedule, ScheduledSamples]):
    """curl on a fixed schedule, one process per request."""

    def argv(self, options: Schedule) -> tuple[str, ...]:
        """Return the command line: one shell script, one line per slot on stdout at its end."""
        request = _curl(options.options, " ".join(f"%{{{name}}}" for name in _FIELDS))
        script = (_SCRIPT, "k8snet-schedule", _milliseconds(options.due_seconds), *request)
        return under_timeout(options.timeout_seconds, "sh", "-c", *script)

    def usual_seconds(self, options: Schedule) -> float:
        """Return when the last request is due."""
        return options.due_seconds[-1]

    def limit_seconds(self, options: Schedule) -> float:
        """Return the time limit of the command line."""
        return options.timeout_seconds

    def parse(self, output: Output, options: Schedule) -> ScheduledSamples:
        """Read one line per slot.

        A slot without a line was missed; a request that failed is in its slot.

        Raises:
            CurlError: the output says nothing; the subclass and the text say why.
            ToolMissingError: sh, timeout or curl is not installed where it was to run.
        """
        trouble = Trouble(output=output, expected_requests=len(options.due_seconds))
        lines = [line for line in output.stdout.split("\n") if line.strip()]
        if not lines:
            raise trouble.no_lines()
        slots = [Slot()] * len(options.due_seconds)
        for index, line in enumerate(lines):
            words = line.split(" ")
            try:
                number, late_ms, code = (int(word) for word in words[:3])
                if not 1 <= number <= len(slots):
                    raise ValueError(number)
                request = _request(words[3:], code, options.options)
            except ValueError:
                raise trouble.garbage(line, index + 1) from None
            if code in BAD_URL_EXITS:
                raise trouble.bad_url(options.options.url)
            failure = start_failure("curl", "", code)
            if failure is not None:
                raise failure
            slots[number - 1] = Slot(late=Seconds(late_ms / 1000), request=request)
        if not any(slot.request for slot in slots):
            raise trouble.no_lines()
        return ScheduledSamples(slots=tuple(slots), raw=output.stdout, command=self.argv(options))

    def measured(self, result: ScheduledSamples) -> Measured:
        """Return what curl's samples have, and how well the schedule was kept."""
        made = result.samples()
        kept = {"missed": result.missed, "latest_start_seconds": float(result.latest)}
        return Measured(figures={**made.figures(), **kept}, distribution=made.distribution())

    def payload(self, result: ScheduledSamples) -> Payload | None:
        """Return that something was answered; of what size is not told here."""
        return Curl().payload(result.samples())


def _curl(options: CurlOptions, write_out: str) -> list[str]:
    words = ["curl", "-q", "-s", "-g", "-o", "/dev/null", "-w", write_out]
    return [*words, *request_words(options), options.url]


def _milliseconds(instants_seconds: Iterable[float]) -> str:
    return " ".join(str(round(seconds * 1000)) for seconds in instants_seconds)


def _request(words: Sequence[str], code: int, options: CurlOptions) -> CurlRequest | None:
    """Read one request; None where curl printed nothing (it was killed, or is not there)."""
    if len(words) < len(_FIELDS) - 1:
        return None
    row: dict[str, object] = {"url": options.url}
    for name, word in zip(_FIELDS, words, strict=False):
        row[name] = float(word) if "time" in name else word if name == "remote_ip" else int(word)
    return read_request(Section(row, "", not_curl), code, looks_up=options.looks_up)


# -- A steady exchange: curl on a fixed schedule, in the background, until it is stopped ----------
#
# The client runs by itself where it was started. Nothing of it goes through the API server while
# the cluster changes, and it is one client from start to end: there is no moment between two
# commands in which nobody asks. Pure: command lines out, typed attempts in.
#
#     exchange = SteadyExchange(url="http://10.244.1.5:8080/", name="a1b2c3")
#     run(start_argv(exchange))
#     ...
#     attempts = parse(output_of(stop_argv(exchange)), exchange)

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
file=$1 slots=$2 lap=$3 laps=$4 tail=$5 longest=$6 recent=$7
shift 7
one() {
  line=$("$@" 2>/dev/null)
  code=$?
  printf '%s %s %s %s\n' "$slot" "$late" "$code" "$line" >>"$file"
  case "$code $line" in
    "0 "[23]*) printf '%s\n' "$slot" >"$file.answered" ;;
    *) printf '%s\n' "$slot" >"$file.lost" ;;
  esac
}
# What cannot be read is just being written: that is no reason to end.
over() {
  since=$((slot - stopped))
  if [ "$since" -ge "$longest" ]; then return 0; fi
  if [ "$since" -lt "$tail" ]; then return 1; fi
  read -r answered <"$file.answered"
  read -r lost <"$file.lost"
  [ $((slot - ${answered:-0})) -le "$recent" ] && [ $((slot - ${lost:-$slot})) -ge "$tail" ]
}
# None yet: longer ago than any patience.
echo -100000 >"$file.answered"
echo 0 >"$file.lost"
clock
start=$now
slot=0
stopped=-1
while [ "$laps" -gt 0 ]; do
  for due in $slots; do
    if [ "$stopped" -lt 0 ] && [ -e "$file.stop" ]; then stopped=$slot; fi
    if [ "$stopped" -ge 0 ] && over; then break 2; fi
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
rm -f "$1" "$1".*
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
        tail_seconds: for how long it goes on after it is stopped, and after the last request that
            was lost: it ends when answers come again.
        longest_tail_seconds: when it ends all the same, if none come.
    """

    url: str
    name: str
    per_second: float = 10.0
    give_up_seconds: float = 1.0
    tail_seconds: float = 1.0
    longest_tail_seconds: float = 30.0

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
    """Return the command that starts the client and leaves it running."""
    laps = max(1, round(_LONGEST_SECONDS / exchange.lap_seconds))
    numbers = [_milliseconds([exchange.lap_seconds]), str(laps)]
    numbers += [
        str(max(1, round(seconds * exchange.per_second)))
        for seconds in (
            exchange.tail_seconds,
            exchange.longest_tail_seconds,
            # Half of a request's patience: an answer so old is none of now.
            exchange.give_up_seconds / 2,
        )
    ]
    request = _curl(exchange.options, "%{http_code} %{time_total}")
    due = _milliseconds(exchange.lap())
    client = (_CLIENT, "k8snet-steady", exchange.file, due, *numbers, *request)
    return under_timeout(_GRACE_SECONDS, "sh", "-c", _START, "k8snet-start", *client)


def stop_argv(exchange: SteadyExchange) -> tuple[str, ...]:
    """Return the command that ends the client after its tail, and prints all that it saw."""
    longest = longest_stop_seconds(exchange)
    return under_timeout(longest, "sh", "-c", _STOP, "k8snet-stop", exchange.file)


def longest_stop_seconds(exchange: SteadyExchange) -> float:
    """Return how long the command that ends the client may take."""
    return exchange.longest_tail_seconds + exchange.give_up_seconds + _GRACE_SECONDS


def parse_steady(text: str, exchange: SteadyExchange) -> tuple[Attempt, ...]:
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
