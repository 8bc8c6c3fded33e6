"""curl on a fixed schedule: requests start when they are due, whatever became of those before.

A loop that waits for each answer stops asking while the server stalls, and so hardly sees the
stall ("coordinated omission"). Here a small shell script starts one curl process per slot at its
time, and prints all results at the end: not a byte of output while the network is measured. Pure:
command line out, typed slots in.

    schedule = Schedule.jittered(CurlOptions(url="http://10.96.0.20/", requests=100), 20, seed=7)
    slots = parse(output_of(argv(schedule)), schedule)
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field

from pytest_k8snet.errors import CurlError, SettingsError
from pytest_k8snet.tools.curl.options import CurlOptions, request_words
from pytest_k8snet.tools.curl.request import CurlRequest
from pytest_k8snet.tools.curl.samples import CurlSamples
from pytest_k8snet.tools.curl.trouble import BAD_URL_EXITS, Trouble
from pytest_k8snet.tools.process import missing_program, under_timeout
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

    def values(self, phase: str) -> list[float]:
        """Return a phase's time in seconds for each slot, infinite where no answer came.

        Args:
            phase: ``dns``, ``tcp``, ``tls``, ``ttfb`` or ``total``.

        Raises:
            CurlError: there is no TLS here to take the time of.
        """
        values = []
        for slot in self.slots:
            if not slot.answered or slot.request is None:
                values.append(math.inf)
                continue
            value = getattr(slot.request, phase)
            if value is None:
                raise CurlError(
                    f"there is no {phase} time: the URL is not https",
                    found=slot.request.url,
                    remedy="take another phase",
                )
            values.append(float(value))
        return values

    def samples(self) -> CurlSamples:
        """Return the requests that were made, for a record."""
        return CurlSamples(
            requests=tuple(slot.request for slot in self.slots if slot.request is not None),
            raw=self.raw,
            command=self.command,
        )


def argv(schedule: Schedule) -> tuple[str, ...]:
    """The command line: one shell script, one line per slot on stdout at its end."""
    options = schedule.options
    write_out = " ".join(f"%{{{name}}}" for name in _FIELDS)
    due = " ".join(str(round(seconds * 1000)) for seconds in schedule.due_seconds)
    request = ["curl", "-q", "-s", "-g", "-o", "/dev/null", "-w", write_out]
    request += [*request_words(options), options.url]
    return under_timeout(
        schedule.timeout_seconds, "sh", "-c", _SCRIPT, "k8snet-schedule", due, *request
    )


def parse(
    text: str, schedule: Schedule, *, stderr: str = "", exit_code: int | None = None
) -> ScheduledSamples:
    """Read what the script printed.

    A slot without a line was missed; a request that failed is in its slot.

    Raises:
        CurlError: the output says nothing; the subclass and the text say why.
        ToolMissingError: sh, timeout or curl is not installed where it was to run.
    """
    trouble = Trouble(
        expected_requests=len(schedule.due_seconds), stderr=stderr, exit_code=exit_code
    )
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        raise trouble.no_lines()
    slots = [Slot()] * len(schedule.due_seconds)
    for index, line in enumerate(lines):
        words = line.split(" ")
        try:
            number, late_ms, code = (int(word) for word in words[:3])
            if not 1 <= number <= len(slots):
                raise ValueError(number)
            request = _request(words[3:], code, schedule.options.url)
        except ValueError:
            raise trouble.garbage(line, index + 1) from None
        if code in BAD_URL_EXITS:
            raise trouble.bad_url(schedule.options.url)
        missing = missing_program("curl", "", code)
        if missing is not None:
            raise missing
        slots[number - 1] = Slot(late=Seconds(late_ms / 1000), request=request)
    if not any(slot.request for slot in slots):
        raise trouble.no_lines()
    return ScheduledSamples(slots=tuple(slots), raw=text, command=argv(schedule))


def _request(words: list[str], code: int, url: str) -> CurlRequest | None:
    """One request; None where curl printed nothing (it was killed, or is not there)."""
    if len(words) < len(_FIELDS) - 1:
        return None
    told = dict(zip(_FIELDS, words, strict=False))
    appconnect = Seconds(float(told["time_appconnect"]))
    http_code = int(told["http_code"])
    return CurlRequest(
        namelookup=Seconds(float(told["time_namelookup"])),
        connect=Seconds(float(told["time_connect"])),
        appconnect=appconnect if appconnect > 0 else None,
        pretransfer=Seconds(float(told["time_pretransfer"])),
        starttransfer=Seconds(float(told["time_starttransfer"])),
        total=Seconds(float(told["time_total"])),
        http_code=http_code,
        exit_code=code,
        succeeded=code == 0 and http_code in range(200, 400),
        num_connects=int(told["num_connects"]),
        remote_ip=told.get("remote_ip", ""),
        local_port=int(told["local_port"]) or None,
        url=url,
    )
