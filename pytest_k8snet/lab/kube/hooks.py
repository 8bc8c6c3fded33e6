"""What a container asks for before it is stopped: ``lifecycle.preStop``."""

from __future__ import annotations

import asyncio
import time

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.kube.container import Container


async def pre_stop(spec: Object, container: Container, grace_seconds: float) -> float:
    """Run the hook, within the grace period; what is left of that, in seconds.

    A hook that fails, or is of another kind than ``exec`` and ``sleep``, delays nothing, and none
    outlasts the container.
    """
    hook = dig(spec, "lifecycle.preStop", {})
    if grace_seconds <= 0 or not hook or not container.running:
        return grace_seconds
    begun = time.monotonic()
    waits = [asyncio.ensure_future(one) for one in (_run(hook, container), container.wait())]
    try:
        await asyncio.wait(waits, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waits:
            one.cancel()
    await asyncio.gather(*waits, return_exceptions=True)
    # A kubelet leaves at least two seconds for the signal itself.
    return max(2.0, grace_seconds - (time.monotonic() - begun))


async def _run(hook: Object, container: Container) -> None:
    if "sleep" in hook:
        await asyncio.sleep(float(hook["sleep"]["seconds"]))
    elif "exec" in hook:
        await container.execute(hook["exec"]["command"], output=False)
