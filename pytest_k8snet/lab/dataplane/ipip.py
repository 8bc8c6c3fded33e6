"""tunl0 on every node: by the kernel's ipip driver where there is one, else by the forwarder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Literal

from pytest_k8snet.lab.dataplane import ipip_tun, netns
from pytest_k8snet.lab.dataplane.felix import IPIP_DEVICE, IPIP_OVERHEAD_BYTES
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
        nodes = [f"{node_namespace(n.name)}={n.address.ip}" for n in self._spec.nodes]
        mtu = str(self._spec.link_mtu_bytes - IPIP_OVERHEAD_BYTES)
        # Only a link's rate bounds what the forwarder takes: without one it could take all.
        priority = "normal" if self._spec.link_rate is None else "realtime"
        self._forwarder = forwarder = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", ipip_tun.__name__, mtu, priority, *nodes),
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
    remedy = f"modprobe ipip, or let this user open {ipip_tun.TUN}"
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
        os.close(ipip_tun.open_tun(_PROBE_DEVICE))
    except OSError as error:
        return f"{ipip_tun.TUN}: {os.strerror(error.errno or 0)}"
    return ""
