"""What one iperf3 run shall do, checked before anything is started."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pytest_k8snet.errors import SettingsError
from pytest_k8snet.units import BitRate

#: Fits every encapsulation that Calico has on a 1280-byte path or more, so nothing fragments.
_UDP_LENGTH_BYTES = 1200
#: iperf3's own default for UDP, made visible in the command.
_UDP_BITRATE = BitRate(1e6)
#: A blocked UDP test says so only after 30 to 32 seconds.
_UDP_BUDGET_SECONDS = 40.0
_TCP_BUDGET_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Iperf3Options:
    """One iperf3 client run.

    Attributes:
        server: address or name to connect to.
        port: the server's port.
        seconds: measured time, in whole seconds.
        omit_seconds: time before it that does not count (TCP slow start), in whole seconds.
        streams: parallel connections (``-P``).
        reverse: the server sends (``-R``); then there are no RTT figures.
        bidirectional: both ends send at once (``--bidir``).
        udp: datagrams instead of TCP.
        bitrate: target **per stream**, as iperf3's ``-b``; with ``reverse`` it limits the server.
            None means unlimited for TCP and iperf3's own 1 Mbit/s for UDP.
        length_bytes: payload of one write, and of one datagram; UDP takes 1200 by itself.
        window_bytes: socket buffers (``-w``).
        congestion: TCP congestion control on both ends, e.g. ``cubic``.
        mss_bytes: TCP maximum segment size (``-M``).
        interval_seconds: length of one interval of the series; 0 means none.
        dscp: 0 to 63, or a name such as ``EF``.
        ipv6: only IPv6 (True), only IPv4 (False), or what the name gives (None).
        connect_timeout_seconds: for the control connection.

    Raises:
        SettingsError: a value that iperf3 cannot take, or two that exclude each other.
    """

    server: str
    port: int
    seconds: int = 10
    omit_seconds: int = 1
    streams: int = 1
    reverse: bool = False
    bidirectional: bool = False
    udp: bool = False
    bitrate: BitRate | None = None
    length_bytes: int | None = None
    window_bytes: int | None = None
    congestion: str | None = None
    mss_bytes: int | None = None
    interval_seconds: float = 1.0
    dscp: int | str | None = None
    ipv6: bool | None = None
    connect_timeout_seconds: float = 5.0

    def __post_init__(self) -> None:
        _check(
            re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.:%_-]*|::[0-9A-Fa-f:.]*", self.server),
            f"no address or name of a server: {self.server!r}",
        )
        _check_whole("port", self.port, 1, 65535)
        _check_whole("seconds", self.seconds, 1, 86400)
        # 3.17 and older refuse more.
        _check_whole("omit_seconds", self.omit_seconds, 0, 60)
        _check_whole("streams", self.streams, 1, 128)
        _check_whole("length_bytes", self.length_bytes, 16, 65507 if self.udp else 1 << 20)
        _check_whole("window_bytes", self.window_bytes, 1, 512 << 20)
        _check_whole("mss_bytes", self.mss_bytes, 88, 9216)
        _check(
            not (self.reverse and self.bidirectional),
            "reverse and bidirectional exclude each other",
            "bidirectional measures both directions at once",
        )
        _check(
            not (self.udp and (self.congestion or self.mss_bytes)),
            "congestion and mss_bytes are TCP's; udp has neither",
        )
        _check(
            self.bitrate is None or (isinstance(self.bitrate, BitRate) and self.bitrate > 0),
            f"no bit rate: bitrate={self.bitrate!r}",
            "give it a unit, as in 100 * Mbit",
        )
        _check(
            self.congestion is None or re.fullmatch(r"[a-z][a-z0-9_-]*", self.congestion),
            f"no congestion control: {self.congestion!r}",
            "name one of net.ipv4.tcp_available_congestion_control, e.g. cubic",
        )
        _check(
            self.interval_seconds == 0 or 0.1 <= self.interval_seconds <= 60,
            f"interval_seconds={self.interval_seconds!r} is not 0 or from 0.1 to 60",
        )
        if isinstance(self.dscp, str):
            _check(re.fullmatch(r"[A-Za-z]+[0-9]*", self.dscp), f"no DSCP: {self.dscp!r}")
        else:
            _check_whole("dscp", self.dscp, 0, 63)
        _check(
            0.1 <= self.connect_timeout_seconds <= 600,
            f"connect_timeout_seconds={self.connect_timeout_seconds!r} is not from 0.1 to 600",
        )

    @property
    def timeout_seconds(self) -> float:
        """The longest that a sound run can take, in seconds; ``timeout`` ends it then."""
        budget = _UDP_BUDGET_SECONDS if self.udp else _TCP_BUDGET_SECONDS
        return self.seconds + self.omit_seconds + self.connect_timeout_seconds + budget

    @property
    def wire_bitrate(self) -> BitRate | None:
        """What ``-b`` is given; None leaves TCP unlimited."""
        return self.bitrate if self.bitrate is not None or not self.udp else _UDP_BITRATE

    @property
    def wire_length_bytes(self) -> int | None:
        """What ``-l`` is given.

        iperf3's UDP default is the path's MSS, which differs by mode and would fragment where
        the two ends see different MTUs.
        """
        if self.length_bytes is not None or not self.udp:
            return self.length_bytes
        return _UDP_LENGTH_BYTES


def _check(
    sound: object, problem: str, remedy: str = "see Iperf3Options for what it can be"
) -> None:
    if not sound:
        raise SettingsError(f"iperf3 cannot be run like this: {problem}", remedy=remedy)


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        _check(False, f"{name}={value!r} is no whole number from {low} to {high}")
