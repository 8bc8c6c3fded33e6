"""IP pools and the operator's Installation: as strict as the Calico version that is played.

Up to v3.31 a raw ``crd.projectcalico.org/v1`` object is stored almost unseen; the aggregated API
server has always looked closely, and since v3.32 the custom resource itself does.
"""

from __future__ import annotations

import re
from ipaddress import ip_network

from pytest_k8snet.lab.api.objects import Object, dig
from pytest_k8snet.lab.api.resources import CALICO_V3, Resource
from pytest_k8snet.lab.api.validation.causes import Causes, objects
from pytest_k8snet.lab.spec import CalicoSpec

_MODES = ("Never", "Always", "CrossSubnet")


def strict_pools(resource: Resource, calico: CalicoSpec) -> bool:
    """Whether pools written as this resource are checked closely."""
    return resource.group == CALICO_V3 or version_tuple(calico.version) >= (3, 32)


def version_tuple(version: str) -> tuple[int, int]:
    """``v3.31.2`` as (3, 31)."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def check_pool(causes: Causes, pool: Object, *, strict: bool) -> None:
    """An IP pool."""
    spec = pool.get("spec")
    if not isinstance(spec, dict):
        causes.required("spec")
        return
    for field, letter, wanted in (
        ("cidr", str, "string"),
        ("ipipMode", str, "string"),
        ("vxlanMode", str, "string"),
        ("blockSize", int, "integer"),
        ("natOutgoing", bool, "boolean"),
        ("disabled", bool, "boolean"),
    ):
        value = spec.get(field)
        if value is not None and not isinstance(value, letter):
            at = f"spec.{field}"
            causes.invalid(at, value, f"{at} in body must be of type {wanted}")
    if "cidr" not in spec:
        causes.required("spec.cidr")
    elif strict:
        _check_closely(causes, spec)


def _check_closely(causes: Causes, spec: Object) -> None:
    for field in ("ipipMode", "vxlanMode"):
        causes.one_of(f"spec.{field}", spec.get(field), _MODES)
    causes.one_of("spec.assignmentMode", spec.get("assignmentMode"), ("Automatic", "Manual"))
    ipip, vxlan = (spec.get(field) or "Never" for field in ("ipipMode", "vxlanMode"))
    if "Never" not in (ipip, vxlan):
        causes.invalid("spec", "object", "ipipMode and vxlanMode cannot both be enabled")
    try:
        network = ip_network(str(spec["cidr"]))
    except ValueError:
        causes.invalid("spec.cidr", spec["cidr"], "must be a valid CIDR without host bits")
        return
    if network.version == 6 and ipip != "Never":
        causes.invalid("spec.ipipMode", ipip, "IP-in-IP is not supported on an IPv6 pool")
    size, (low, high) = spec.get("blockSize"), (20, 32) if network.version == 4 else (116, 128)
    if isinstance(size, int):
        causes.between("spec.blockSize", size, low, high)
        if network.prefixlen > size:
            causes.invalid(
                "spec.cidr",
                spec["cidr"],
                f"IP pool is too small: its prefix must not be longer than the block size {size}",
            )


def check_pool_update(causes: Causes, new: Object, old: Object) -> None:
    """A pool keeps its addresses and the size of its blocks."""
    for field in ("cidr", "blockSize"):
        before, after = dig(old, f"spec.{field}"), dig(new, f"spec.{field}")
        if before is not None and after != before:
            causes.invalid(f"spec.{field}", after, "field is immutable")


def check_installation(causes: Causes, installation: Object) -> None:
    """The operator's Installation: the encapsulation of its pools."""
    choices = ("IPIPCrossSubnet", "IPIP", "VXLAN", "VXLANCrossSubnet", "None")
    for index, pool in enumerate(objects(dig(installation, "spec.calicoNetwork.ipPools"))):
        field = f"spec.calicoNetwork.ipPools[{index}].encapsulation"
        causes.one_of(field, pool.get("encapsulation"), choices)
