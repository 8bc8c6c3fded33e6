"""A stream is moderated, a short request is not."""

from __future__ import annotations

from pytest_k8snet.lab.dataplane.moderation import Moderation


class Clock:
    """Time that passes only when told to, or by sleeping."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept = 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept += 1


def forward(packets_per_second: float, *, rounds: int = 100) -> Clock:
    """Rounds a millisecond apart with so many packets; the clock afterwards."""
    clock = Clock()
    moderation = Moderation(clock=clock, sleep=clock.sleep)
    for _ in range(rounds):
        moderation.packets += round(packets_per_second / 1000)
        clock.now += 0.001
        moderation.pause()
    return clock


def test_a_stream_is_moderated() -> None:
    assert forward(25_000).slept > 90


def test_requests_one_after_the_other_are_never_kept_waiting() -> None:
    assert forward(6_000).slept == 0


def test_the_first_packet_after_a_stream_is_not_kept_waiting() -> None:
    clock = Clock()
    moderation = Moderation(clock=clock, sleep=clock.sleep)
    for _ in range(10):
        moderation.packets += 50
        clock.now += 0.001
        moderation.pause()
    assert clock.slept
    slept, clock.now = clock.slept, clock.now + 0.5
    moderation.packets += 1
    moderation.pause()
    assert clock.slept == slept
