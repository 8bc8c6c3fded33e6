"""A LabSpec as JSON and back: how the host side tells the lab's process what to be. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from pytest_k8snet.lab.spec import CalicoSpec, LabSpec, NodeSpec
from pytest_k8snet.units import BitRate


def to_json(spec: LabSpec) -> str:
    """The spec on one line of JSON; addresses become text, the rate a number of bit/s."""
    return json.dumps(asdict(spec), default=str)


def from_json(text: str) -> LabSpec:
    """The spec that :func:`to_json` wrote."""
    fields = json.loads(text)
    rate = fields["link_rate"]
    first, last = fields["load_balancer_range"]
    return LabSpec(
        nodes=tuple(
            NodeSpec(**{**node, "address": IPv4Interface(node["address"])})
            for node in fields["nodes"]
        ),
        link_rate=None if rate is None else BitRate(rate),
        link_mtu_bytes=fields["link_mtu_bytes"],
        pod_cidr=IPv4Network(fields["pod_cidr"]),
        service_cidr=IPv4Network(fields["service_cidr"]),
        dns_address=IPv4Address(fields["dns_address"]),
        cluster_domain=fields["cluster_domain"],
        load_balancer_range=(IPv4Address(first), IPv4Address(last)),
        outside_address=IPv4Interface(fields["outside_address"]),
        calico=CalicoSpec(**fields["calico"]),
        ipip_driver=fields["ipip_driver"],
        faults=tuple((name, value) for name, value in fields["faults"]),
    )
