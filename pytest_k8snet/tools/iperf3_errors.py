"""Every way in which an iperf3 run gives no figure, recognised by its messages.

The kinds read as ``iperf3.Refused``; ``except Iperf3Error`` catches them all. One version says
on stdout what another says on stderr, with the same words, so a message alone decides.
"""

from __future__ import annotations

from collections.abc import Iterable

from pytest_k8snet.errors import Iperf3Error, ToolError
from pytest_k8snet.tools import tool
from pytest_k8snet.tools.tool import Kind, kind_of

# ruff: noqa: N818 -- the base class carries the word Error, and the module name says whose they are


class Refused(Iperf3Error):
    """Nothing listens on the server's port, or something answers with a reset."""


class Busy(Iperf3Error):
    """The server is serving another client."""


class Unreachable(Iperf3Error):
    """The server's address cannot be reached."""


class TimedOut(Unreachable):
    """No answer to the connection attempt: it is dropped somewhere on the way."""


class NameNotResolved(Iperf3Error):
    """The server's name has no address."""


class UdpBlocked(Iperf3Error):
    """The control connection (TCP) works, the datagrams do not get through."""


class CutOff(Iperf3Error):
    """The test began and did not come to its end."""


class ServerDied(CutOff):
    """The server, or the connection to it, went away during the test."""


class Interrupted(CutOff):
    """iperf3 was stopped by a signal, most often that of its time limit."""


class Truncated(CutOff):
    """The test ended in good order, but long before the time that was asked for."""


class ServerLimit(Iperf3Error):
    """The server does not allow this bit rate or duration."""


class NoData(Iperf3Error):
    """Connected, but not one byte arrived: the sign of a path MTU black hole."""


class TooOld(Iperf3Error):
    """This version's output cannot tell what was asked for."""


class BadOption(Iperf3Error):
    """iperf3, or the kernel below it, does not accept an option."""


class NoScratchSpace(Iperf3Error):
    """iperf3 could not write the temporary file that each of its streams needs."""


class PortInUse(Iperf3Error, tool.PortInUse):
    """The server's port is taken."""


class ServerNotReady(Iperf3Error):
    """The server did not begin to listen."""


class Garbage(Iperf3Error):
    """The output is not what iperf3 -J prints."""


class Empty(Iperf3Error):
    """iperf3 printed nothing at all."""


#: The first pattern that fits a message wins, so the special ones come before the general.
_KINDS = (
    Kind(
        r"^interrupt\b|the client has terminated",
        Interrupted,
        "iperf3 was interrupted before its test ended",
        "if its time limit ended it, look for a server or path that stopped answering; "
        "else find out who sent the signal",
    ),
    Kind(
        r"server is busy running a test",
        Busy,
        "the iperf3 server is busy with another client",
        "give each measurement a server of its own; no other run may use this port",
    ),
    Kind(
        r"larger than server limit|exceeds the server's maximum",
        ServerLimit,
        "the iperf3 server does not allow this bit rate or duration",
        "ask for less, or start the server without --server-bitrate-limit "
        "and --server-max-duration",
    ),
    Kind(
        r"stream(?: socket)?: Resource temporarily unavailable",
        UdpBlocked,
        "UDP datagrams do not reach the iperf3 server, though its TCP control connection works",
        "check NetworkPolicies and firewalls for UDP on this port",
    ),
    Kind(
        r"(?:read from|write to) stream socket: Connection refused",
        UdpBlocked,
        "UDP datagrams to the iperf3 server are rejected, though its TCP control connection works",
        "check NetworkPolicies and firewalls for UDP on this port",
    ),
    Kind(
        r"Connection refused|send control message: Bad file descriptor",
        Refused,
        "the iperf3 server refused the connection",
        "check that a server listens on this port, and that no NetworkPolicy or firewall "
        "rejects with a reset",
    ),
    Kind(
        r"unable to connect.*(?:timed out|Operation now in progress)",
        TimedOut,
        "the iperf3 server did not answer the connection attempt",
        "check routes, NetworkPolicies and firewalls between the two ends: the packets "
        "are dropped without a word",
    ),
    Kind(
        r"(?:read from|write to) stream socket: (?:Connection|Operation) timed out|idle timeout",
        CutOff,
        "the iperf3 test stalled: its peer or the path stopped answering",
        "check whether the server pod was stopped or moved, and the path's routes and MTU",
    ),
    Kind(
        r"(?:Connection|Operation) timed out",
        TimedOut,
        "the iperf3 server did not answer the connection attempt",
        "check routes, NetworkPolicies and firewalls between the two ends",
    ),
    Kind(
        r"No route to host|(?:Network|Host) is unreachable|Network unreachable",
        Unreachable,
        "the iperf3 server cannot be reached",
        "check the routes on the client's side; an ICMP reject by a policy looks the same",
    ),
    Kind(
        r"Name or service not known|Temporary failure in name resolution|Name does not resolve"
        r"|No address associated with hostname|nodename nor servname|Unknown host"
        r"|unable to connect.*: Try again|Address family for hostname not supported",
        NameNotResolved,
        "the name of the iperf3 server cannot be resolved",
        "check the name and the DNS service, or give the server's address",
    ),
    Kind(
        r"unable to create a new stream: (?:Read-only file system|Permission denied"
        r"|No such file or directory|No space left)",
        NoScratchSpace,
        "iperf3 cannot write the temporary file that each of its streams needs",
        "mount an emptyDir at /tmp, or set TMPDIR to a writable directory in the container",
    ),
    Kind(
        r"Address already in use",
        PortInUse,
        "the port is in use",
        "choose another port, or end what listens on this one",
    ),
    Kind(
        r"unable to set (?:TCP_CONGESTION|TCP/SCTP MSS|TCP MSS|TCP_NODELAY|socket buffer|TOS|IP)"
        r"|Protocol not supported|parameter error|unrecognized option|invalid option"
        r"|requires an argument|^Usage:|bad TOS|some option you are trying to set",
        BadOption,
        "iperf3 does not accept an option of this test",
        "check the option against `iperf3 --help` and the kernel (e.g. "
        "net.ipv4.tcp_available_congestion_control) where it runs",
    ),
    Kind(
        r"control socket has closed|Connection reset by peer|the server has terminated"
        r"|Broken pipe|unable to (?:receive|send) (?:control message|results|parameters|cookie)",
        ServerDied,
        "the iperf3 server went away during the test",
        "check whether the server pod was killed, evicted or out of memory, whether "
        "a policy cut the connection, and whether the server limits its bit rate",
    ),
)


def error_of(messages: Iterable[str], *, note: str = "") -> ToolError:
    """Make the error that iperf3's own messages speak of.

    Args:
        messages: what iperf3 said; 3.22 gives two, the server's and then the client's.
        note: what else is known of the run, put behind the messages.
    """
    said = list(dict.fromkeys(message.removeprefix("SERVER ERROR - ") for message in messages))
    found = "; ".join(said) + (f" ({note})" if note else "")
    kinds = (kind_of(message.removeprefix("error - "), _KINDS) for message in said)
    if (kind := next(filter(None, kinds), None)) is not None:
        return kind.made(found)
    return Iperf3Error(
        "iperf3 reports an error",
        found=found,
        remedy="run the command by hand in the same place to see more",
    )
