"""What a container asks for before it is stopped: ``lifecycle.preStop``."""

from __future__ import annotations

import asyncio
import contextlib
import time

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.streams import ExecutableNotFound
from pytest_k8snet.lab.kube.container import Container


async def pre_stop(spec: Object, container: Container, grace_seconds: float) -> float:
    """Run the hook, within the grace period; what is left of that, in seconds.

    A hook that fails, or is of another kind than ``exec`` and ``sleep``, delays nothing.
    """
    hook = dig(spec, "lifecycle.preStop", {})
    if grace_seconds <= 0 or not hook or not container.running:
        return grace_seconds
    begun = time.monotonic()
    with contextlib.suppress(TimeoutError, ExecutableNotFound):
        async with asyncio.timeout(grace_seconds):
            if "sleep" in hook:
                await asyncio.sleep(float(hook["sleep"]["seconds"]))
            elif "exec" in hook:
                await _run(hook["exec"]["command"], container)
    # A kubelet leaves at least two seconds for the signal itself.
    return max(2.0, grace_seconds - (time.monotonic() - begun))


async def _run(argv: list[str], container: Container) -> None:
    process = await asyncio.create_subprocess_exec(
        *container.enter(argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=container.plan.environment,
    )
    await process.wait()
