"""What the cluster's DNS knows: the names of services, written where the DNS servers read it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

from pytest_k8snet.lab.api.objects import Object, dig, name_of, namespace_of
from pytest_k8snet.lab.api.store import Store
from pytest_k8snet.lab.dataplane import netns
from pytest_k8snet.lab.dataplane.underlay import node_namespace
from pytest_k8snet.lab.kube.reconcile import reconcile_on_change
from pytest_k8snet.lab.spec import LabSpec

#: What the DNS servers answer from: a JSON object of names and their addresses.
ZONE_FILE = Path("/run/k8snet/zone.json")

_RETRY_SECONDS = 0.1
_PAUSE_SECONDS = 0.01


def records(
    services: Sequence[Object], endpoints: Sequence[Object], domain: str
) -> dict[str, list[str]]:
    """Every name and its addresses: services, and the pods behind headless ones.

    Args:
        services: the Service objects.
        endpoints: the Endpoints objects.
        domain: of the cluster.
    """
    found = {(namespace_of(one), name_of(one)): one for one in endpoints}
    names: dict[str, list[str]] = {}
    for service in services:
        key = (namespace_of(service), name_of(service))
        name = f"{key[1]}.{key[0]}.svc.{domain}"
        address = dig(service, "spec.clusterIP")
        if address and address != "None":
            names[name] = [address]
            continue
        for subset in dig(found.get(key), "subsets", []):
            for entry in subset.get("addresses") or []:
                names.setdefault(name, []).append(entry["ip"])
                host = entry.get("hostname") or entry["ip"].replace(".", "-")
                names[f"{host}.{name}"] = [entry["ip"]]
        # A headless service without pods exists, and has no address.
        names.setdefault(name, [])
    return names


async def until_answered(spec: LabSpec) -> None:
    """Wait until the first node gets an answer from the cluster's DNS."""
    name = f"kubernetes.default.svc.{spec.cluster_domain}"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    request = struct.pack(">6H", 1, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, 1, 1)
    node = node_namespace(spec.nodes[0].name)
    client = await netns.run(node, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    loop = asyncio.get_running_loop()
    with client:
        client.setblocking(False)
        while True:
            # Refused, or lost, as long as the way there is not programmed.
            with contextlib.suppress(OSError, TimeoutError):
                await loop.sock_connect(client, (str(spec.dns_address), 53))
                await loop.sock_sendall(client, request)
                await asyncio.wait_for(loop.sock_recv(client, 512), _RETRY_SECONDS)
                return
            await asyncio.sleep(_PAUSE_SECONDS)


class Zone:
    """Keeps the zone file up to date.

    Args:
        store: the cluster's objects.
        spec: the cluster's domain.
    """

    def __init__(self, store: Store, spec: LabSpec) -> None:
        self._store = store
        self._domain = spec.cluster_domain

    async def run(self) -> None:
        """Reconcile for ever."""
        await reconcile_on_change(self._store, ("services", "endpoints"), self.write)

    def write(self) -> None:
        """Write the file; readers see the old one or the new one, whole."""
        names = records(self._store.list("services"), self._store.list("endpoints"), self._domain)
        draft = ZONE_FILE.with_suffix(".new")
        draft.write_text(json.dumps({"domain": self._domain, "names": names}))
        os.replace(draft, ZONE_FILE)
