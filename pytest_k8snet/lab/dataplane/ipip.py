"""tunl0 on every node: by the kernel's ipip driver where there is one, else by a forwarder.

The forwarder is a program of its own, IPIP in user space with a TUN device named ``tunl0`` on each
node: ``python -m pytest_k8snet.lab.dataplane.ipip MTU PRIORITY NAMESPACE=ADDRESS ...`` serves the
named nodes until its parent ends; the priority is ``realtime`` or ``normal``. It prints ``ready``
when all devices are there, and ends when one of them is deleted.

It does what the driver does: a packet routed to ``tunl0`` gets an outer header of IP protocol 4 to
the gateway of its own route, which is asked of the kernel; a packet of protocol 4 that arrives
loses that header and enters through ``tunl0``. So the node's routing table alone decides where
packets go, as with the real device.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Literal, NoReturn

from pytest_k8snet.errors import LabError
from pytest_k8snet.lab import namespaces
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.felix import BYPASS_MARK, IPIP_DEVICE, IPIP_OVERHEAD_BYTES
from pytest_k8snet.lab.dataplane.underlay import UNDERLAY, node_namespace
from pytest_k8snet.lab.spec import LabSpec

Choice = Literal["auto", "kernel", "tun"]

_PROBE_DEVICE = "k8snetprobe"


class Ipip:
    """IPIP of one lab.

    Attributes:
        implementation: ``kernel``, ``tun``, or ``unavailable: <why, and what to do>``.
        on_loss: called with the reason when every node has lost its tunl0, until ``ensure``.
    """

    def __init__(self, spec: LabSpec, implementation: str) -> None:
        self.implementation = implementation
        self.on_loss: Callable[[str], None] = lambda reason: None
        self._spec = spec
        self._forwarder: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._made = False

    @property
    def available(self) -> bool:
        """Whether nodes can have a tunl0."""
        return self.implementation in ("kernel", "tun")

    async def ensure(self) -> None:
        """Give every node its tunl0; once it has one, it keeps it, as a node with Calico does.

        Raises:
            DataplaneError: the kernel or the forwarder refused.
        """
        async with self._lock:
            if not self.available or self._made:
                return
            if self.implementation == "kernel":
                await self._make_kernel_devices()
            else:
                await self._start_forwarder()
            self._made = True

    async def close(self) -> None:
        """End the forwarder's processes, and the devices with them."""
        if self._watch is not None:
            self._watch.cancel()
        if self._forwarder is not None:
            with contextlib.suppress(ProcessLookupError):
                self._forwarder.kill()
            await self._forwarder.wait()
        self._forwarder = self._watch = None
        self._made = False

    async def _make_kernel_devices(self) -> None:
        def make() -> None:
            # Loading the driver gives each namespace its fallback device, unless a sysctl says no.
            argv = ["ip", "link", "show", IPIP_DEVICE]
            if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
                netns.output_here(["ip", "tunnel", "add", IPIP_DEVICE, "mode", "ipip"])
            netns.batch_here([f"link set {IPIP_DEVICE} up"])

        nodes = [node_namespace(node.name) for node in self._spec.nodes]
        await asyncio.gather(*(netns.run(node, make) for node in nodes))

    async def _start_forwarder(self) -> None:
        nodes = [f"{node_namespace(n.name)}={n.calico_address.ip}" for n in self._spec.nodes]
        mtu = str(self._spec.link_mtu_bytes - IPIP_OVERHEAD_BYTES)
        # Only a link's rate bounds what the forwarder takes: without one it could take all.
        priority = "normal" if self._spec.link_rate is None else "realtime"
        self._forwarder = forwarder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__, mtu, priority, *nodes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert forwarder.stdout is not None
        assert forwarder.stderr is not None
        if await forwarder.stdout.readline() != b"ready\n":
            problem = (await forwarder.stderr.read()).decode(errors="replace")
            await self.close()
            raise netns.DataplaneError("the lab's IPIP forwarder did not start", found=problem)
        self._watch = asyncio.create_task(self._tell_of_the_end(forwarder, forwarder.stderr))

    async def _tell_of_the_end(
        self, forwarder: asyncio.subprocess.Process, stderr: asyncio.StreamReader
    ) -> None:
        # Its end is that of all its workers, and of their devices.
        reason = (await stderr.read()).decode(errors="replace")
        await forwarder.wait()
        self._made = False
        self.on_loss(reason.strip())


async def detect(spec: LabSpec, choice: Choice = "auto") -> Ipip:
    """Find out how this machine can do IPIP. Makes no device that stays.

    Args:
        spec: the lab.
        choice: ``kernel`` or ``tun`` to insist on one of them.
    """
    problems = []
    if choice != "tun":
        problem = await netns.run(UNDERLAY, _try_kernel)
        if not problem:
            return Ipip(spec, "kernel")
        problems.append(f"no kernel driver ({problem})")
    if choice != "kernel":
        problem = await netns.run(UNDERLAY, _try_tun)
        if not problem:
            return Ipip(spec, "tun")
        problems.append(f"no TUN device ({problem})")
    remedy = f"modprobe ipip, or let this user open {TUN}"
    return Ipip(spec, f"unavailable: {'; '.join(problems)}; to do: {remedy}")


def _try_kernel() -> str:
    """Why the kernel's driver cannot be used, empty when it can."""
    addresses = ["local", "127.0.0.1", "remote", "127.0.0.2"]
    argv = ["ip", "link", "add", _PROBE_DEVICE, "type", "ipip", *addresses]
    try:
        netns.output_here(argv)
        netns.output_here(["ip", "link", "del", _PROBE_DEVICE])
    except netns.DataplaneError as error:
        return error.found.splitlines()[0] if error.found else str(error)
    return ""


def _try_tun() -> str:
    """Why a TUN device cannot be made, empty when it can."""
    try:
        os.close(open_tun(_PROBE_DEVICE))
    except OSError as error:
        return f"{TUN}: {os.strerror(error.errno or 0)}"
    return ""


# -- The forwarder: one node ---------------------------------------------------------------------

#: The device file.
TUN = "/dev/net/tun"

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x1, 0x1000
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
# The option that any user may set, up to the machine's limit, and the one that knows no limit.
_SEND, _RECEIVE = (socket.SO_SNDBUF, _SO_SNDBUFFORCE), (socket.SO_RCVBUF, _SO_RCVBUFFORCE)
_IP_MTU_DISCOVER, _IP_PMTUDISC_DO = 10, 2
_TTL = 64
_NICENESS = -15
# Both ends of a stream in one process would have one processor between them.
_MOST_WORKERS = 8
_LARGEST_PACKET_BYTES = 65535

# Enough that the system calls of epoll cost little beside those of the packets, and few enough
# that the other direction, where the acknowledgements are, never waits long.
_BATCH_PACKETS = 64
# The receiving side must ride out a burst of the link; what waits to be sent waits in tunl0's
# own queue, where the kernel counts what it drops.
_RECEIVE_BUFFER_BYTES = 4 << 20
_SEND_BUFFER_BYTES = 512 << 10


class Tunnel:
    """One node's tunl0 and its raw socket. Made in a thread that is in the node's namespace."""

    def __init__(self, address: str) -> None:
        self.tun = open_tun(IPIP_DEVICE)
        self.raw = _open_raw(address)
        self.routes = open_route_events()
        _enlarge(self.routes, _RECEIVE, _RECEIVE_BUFFER_BYTES)
        self._query = open_query()
        self._interface = socket.if_nametoindex(IPIP_DEVICE)
        self._hops: dict[bytes, tuple[str, int] | None] = {}
        self._pending: tuple[bytes, tuple[str, int]] | None = None

    def encapsulate(self) -> bool:
        """Send what waits in tunl0; False when the wire must take something first.

        Raises:
            LabError: tunl0 is no more.
        """
        read, tun, sendto, hops = os.read, self.tun, self.raw.sendto, self._hops
        try:
            if self._pending is not None:
                sendto(*self._pending)
                self._pending = None
            for _ in range(_BATCH_PACKETS):
                try:
                    packet = read(tun, _LARGEST_PACKET_BYTES)
                except BlockingIOError:
                    return True
                destination = packet[16:20]
                hop = hops[destination] if destination in hops else self._find_hop(destination)
                if hop is None:
                    continue
                try:
                    sendto(packet, hop)
                except BlockingIOError:
                    self._pending = packet, hop
                    return False
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise LabError(f"someone deleted {IPIP_DEVICE} of a node of the lab") from None
            # Unreachable, or too big for the path: lost, as on any other link.
            self._pending = None
        return True

    def decapsulate(self) -> None:
        """Hand over what arrived on the wire to tunl0."""
        receive, write, tun = self.raw.recv, os.write, self.tun
        for _ in range(_BATCH_PACKETS):
            try:
                packet = receive(_LARGEST_PACKET_BYTES)
            except BlockingIOError:
                return
            # tunl0 may be down, and what is inside may be no packet.
            with contextlib.suppress(OSError):
                write(tun, packet[(packet[0] & 0xF) * 4 :])

    def forget_routes(self) -> None:
        """The routing table has changed: ask it anew for each destination."""
        while True:
            try:
                self.routes.recv(_LARGEST_PACKET_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                # Events were lost. What they said does not matter here.
                if error.errno != errno.ENOBUFS:
                    raise
        self._hops.clear()

    def _find_hop(self, destination: bytes) -> tuple[str, int] | None:
        hop = gateway(self._query, destination, self._interface)
        if hop is None:
            # The routing table sends it elsewhere: it was led around that.
            hop = gateway(self._query, destination, self._interface, mark=BYPASS_MARK)
        found = (socket.inet_ntoa(hop), 0) if hop is not None else None
        self._hops[destination] = found
        return found


def open_tun(name: str) -> int:
    """Make a TUN device in the calling thread's namespace; it lives as long as the descriptor.

    Raises:
        OSError: the machine has no TUN, or does not let us use it.
    """
    descriptor = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    flags = _IFF_TUN | _IFF_NO_PI
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open_raw(address: str) -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IPIP)
    raw.setblocking(False)
    raw.bind((address, 0))
    raw.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, _TTL)
    raw.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO)
    _enlarge(raw, _RECEIVE, _RECEIVE_BUFFER_BYTES)
    _enlarge(raw, _SEND, _SEND_BUFFER_BYTES)
    return raw


def _enlarge(handle: socket.socket, options: tuple[int, int], size_bytes: int) -> None:
    plain, forced = options
    handle.setsockopt(socket.SOL_SOCKET, plain, size_bytes)
    with contextlib.suppress(PermissionError):
        handle.setsockopt(socket.SOL_SOCKET, forced, size_bytes)


# -- The forwarder: its processes ----------------------------------------------------------------


def serve(tunnels: list[Tunnel]) -> NoReturn:
    """Forward packets for ever.

    Raises:
        LabError: a tunl0 is no more.
    """
    poller = select.epoll()
    by_tun = {tunnel.tun: tunnel for tunnel in tunnels}
    by_raw = {tunnel.raw.fileno(): tunnel for tunnel in tunnels}
    by_routes = {tunnel.routes.fileno(): tunnel for tunnel in tunnels}
    for descriptor in (*by_tun, *by_raw, *by_routes):
        poller.register(descriptor, select.EPOLLIN)
    while True:
        for descriptor, event in poller.poll():
            if descriptor in by_raw:
                tunnel = by_raw[descriptor]
                if event & select.EPOLLIN:
                    tunnel.decapsulate()
                if event & select.EPOLLOUT and tunnel.encapsulate():
                    poller.modify(descriptor, select.EPOLLIN)
                    poller.modify(tunnel.tun, select.EPOLLIN)
            elif descriptor in by_tun:
                tunnel = by_tun[descriptor]
                if not tunnel.encapsulate():
                    poller.modify(descriptor, 0)
                    poller.modify(tunnel.raw.fileno(), select.EPOLLIN | select.EPOLLOUT)
            else:
                by_routes[descriptor].forget_routes()


def _preempt_everyone() -> None:
    """Run before all ordinary processes, if we may, else before most.

    The forwarder stands for a part of the kernel, which no busy program keeps waiting either.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)


def _be_worker(parent: int, mtu: str, nodes: list[str], ready: int) -> NoReturn:
    """Make the devices of some nodes, tell the parent, and serve them."""
    _die_with(parent)
    tunnels = []
    for node in nodes:
        namespace, _, address = node.partition("=")
        namespaces.enter_network(netns.path(namespace))
        tunnels.append(Tunnel(address))
        netns.batch_here([f"link set {IPIP_DEVICE} mtu {mtu} txqueuelen 1000 up"])
    os.write(ready, b".")
    os.close(ready)
    serve(tunnels)


def _die_with(parent: int) -> None:
    namespaces.die_with_parent(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> int:
    """Start workers for the nodes named on the command line, say so, and wait for the end."""
    parent = os.getppid()
    _die_with(parent)
    mtu, priority, *nodes = arguments
    if priority == "realtime":
        _preempt_everyone()
    count = min(len(nodes), _MOST_WORKERS)
    reports, ready = os.pipe()
    us = os.getpid()
    for index in range(count):
        if os.fork() == 0:
            try:
                _be_worker(us, mtu, nodes[index::count], ready)
            except LabError as error:
                sys.stderr.write(f"{error}\n")
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(1)
    os.close(ready)
    made = 0
    while made < count:
        news = os.read(reports, count)
        if not news:
            return 1
        made += len(news)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    # Workers end only by a fault of theirs, and then the lab must not seem whole.
    os.wait()
    return 1


# -- rtnetlink: which gateway a packet takes, and when a route changes ----------------------------
#
# Sockets belong to the network namespace of the thread that opens them, for good.

_NETLINK_ROUTE = 0
_GROUP_IPV4_ROUTE = 1 << 6
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_REQUEST = 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MARK = 1, 4, 5, 16
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


def open_query() -> socket.socket:
    """A socket to ask for routes."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)


def open_route_events() -> socket.socket:
    """A non-blocking socket that becomes readable when an IPv4 route changes."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE)
    events.bind((0, _GROUP_IPV4_ROUTE))
    events.setblocking(False)
    return events


def gateway(
    query: socket.socket, destination: bytes, interface: int, *, mark: int = 0
) -> bytes | None:
    """The gateway of the route that a packet to this address takes through an interface.

    Args:
        query: a socket of ``open_query``.
        destination: 4 bytes.
        interface: the interface's index.
        mark: of the packet; 0 for none.

    Returns:
        4 bytes; None when there is no such route or it leads elsewhere.
    """
    query.send(route_request(destination, mark))
    found, hop = route_answer(query.recv(65536))
    return hop if found == interface else None


def route_request(destination: bytes, mark: int = 0) -> bytes:
    """The RTM_GETROUTE message for one address, and the packet's mark if it has one. Pure."""
    body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
    body += _ATTRIBUTE.pack(_ATTRIBUTE.size + len(destination), _RTA_DST) + destination
    if mark:
        body += _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, _RTA_MARK) + struct.pack("=I", mark)
    return _HEADER.pack(_HEADER.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, 1, 0) + body


def route_answer(message: bytes) -> tuple[int | None, bytes | None]:
    """Interface index and gateway in the kernel's answer; None for what it does not say. Pure."""
    length, kind, *_ = _HEADER.unpack_from(message)
    if kind != _RTM_NEWROUTE:
        return None, None
    position, end = _HEADER.size + _ROUTE.size, min(length, len(message))
    interface = hop = None
    while position + _ATTRIBUTE.size <= end:
        size, name = _ATTRIBUTE.unpack_from(message, position)
        if size < _ATTRIBUTE.size:
            break
        value = message[position + _ATTRIBUTE.size : position + size]
        if name == _RTA_OIF:
            (interface,) = struct.unpack("=I", value)
        elif name == _RTA_GATEWAY:
            hop = value
        position += (size + 3) & ~3
    return interface, hop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
