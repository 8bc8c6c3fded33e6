"""How a link gets an exact rate: the token bucket, and windows that fit its queue. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_k8snet.units import BitRate

#: Ethernet's header, which ``tbf`` counts: a full frame is 14 bytes longer than its IP packet.
ETHERNET_HEADER_BYTES = 14

# The bucket fills while the processor is busy elsewhere: with less, a late wake-up of a few
# milliseconds loses bandwidth for good. The first burst adds this much to a measurement: under
# one percent of a second.
_BURST_SECONDS = 0.008
_QUEUE_SECONDS = 0.040
_LEAST_QUEUE_BYTES = 65536
_INITIAL_WINDOW_BYTES = 131072
_LEAST_WINDOW_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Shaper:
    """A token bucket filter for one direction of a link.

    Attributes:
        rate: bits of whole Ethernet frames per second, as ``tc`` counts them.
        mtu_bytes: the link's MTU.
    """

    rate: BitRate
    mtu_bytes: int

    @property
    def burst_bytes(self) -> int:
        """The depth of the bucket."""
        frame = self.mtu_bytes + ETHERNET_HEADER_BYTES
        return max(2 * frame, round(self.rate / 8 * _BURST_SECONDS))

    @property
    def queue_bytes(self) -> int:
        """What the link holds before it drops."""
        return max(_LEAST_QUEUE_BYTES, round(self.rate / 8 * _QUEUE_SECONDS))

    @property
    def tcp_rmem_bytes(self) -> tuple[int, int, int]:
        """``net.ipv4.tcp_rmem`` that keeps the windows of three connections within the queue.

        About half of the largest value becomes window. So a measurement meets the rate of the
        link, and no losses that the size of its queue made.
        """
        largest = max(2 * _LEAST_WINDOW_BYTES, self.queue_bytes // 2)
        return _LEAST_WINDOW_BYTES, min(_INITIAL_WINDOW_BYTES, largest), largest

    def command(self, interface: str) -> str:
        """The ``tc`` command, without the word ``tc``."""
        return (
            f"qdisc replace dev {interface} root tbf rate {round(self.rate)}bit"
            f" burst {self.burst_bytes} limit {self.queue_bytes}"
        )
