"""The five states of an IPPool's encapsulation, and the path that each promises. Pure.

"Mode" is a property of a pool. The pool of a packet's *destination* decides its path, on the
*sending* node, by whether the sender's own subnet contains the receiving node.
"""

from __future__ import annotations

import enum
import re
from typing import Literal

from pytest_k8snet.errors import SettingsError

#: How a packet crosses from node to node.
Path = Literal["direct", "vxlan", "ipip"]
#: What must be switched on in Felix for a mode; two modes of one family switch without a restart.
Family = Literal["none", "vxlan", "ipip"]


class CalicoMode(enum.Enum):
    """One of the five distinct encapsulation states of an IPv4 pool.

    The values are the names that options, test ids and reports use. Members are in canonical
    order: walking them from first to last changes the family as seldom as possible, and each
    change of family restarts Felix.
    """

    VXLAN_ALWAYS = "VXLAN-Always"
    VXLAN_CROSS_SUBNET = "VXLAN-CrossSubnet"
    NEVER = "Never"
    IPIP_CROSS_SUBNET = "IPIP-CrossSubnet"
    IPIP_ALWAYS = "IPIP-Always"

    def __str__(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return f"CalicoMode({self.value!r})"

    @property
    def family(self) -> Family:
        """The encapsulation that must be enabled for this mode."""
        if self is CalicoMode.NEVER:
            return "none"
        return "vxlan" if self.value.startswith("VXLAN") else "ipip"

    @property
    def cross_subnet(self) -> bool:
        """Whether only packets that leave the sender's subnet are encapsulated."""
        return self.value.endswith("CrossSubnet")

    @property
    def pool_fields(self) -> dict[str, str]:
        """The two fields of ``IPPool.spec`` that make this mode; always written together."""
        state = self.value.rpartition("-")[2]
        return {
            "ipipMode": state if self.family == "ipip" else "Never",
            "vxlanMode": state if self.family == "vxlan" else "Never",
        }

    @property
    def encapsulation(self) -> str:
        """The name of this mode in ``Installation.spec.calicoNetwork.ipPools[].encapsulation``."""
        if self is CalicoMode.NEVER:
            return "None"
        return self.family.upper() + ("CrossSubnet" if self.cross_subnet else "")

    def path(self, same_subnet: bool) -> Path:
        """How a packet to a pod in such a pool travels.

        Args:
            same_subnet: whether the *sending* node's subnet contains the receiving node.
        """
        family = self.family
        if family == "none" or (self.cross_subnet and same_subnet):
            return "direct"
        return family

    @classmethod
    def of_pool(cls, ipip_mode: str | None, vxlan_mode: str | None) -> CalicoMode:
        """The mode that Felix makes of a pool's two fields.

        Absent means Never, and so does a value that Calico doesn't know. A pool with both
        encapsulations, which old versions accept, is treated as VXLAN.
        """
        for family, state in (("VXLAN", vxlan_mode), ("IPIP", ipip_mode)):
            if state in ("Always", "CrossSubnet"):
                return cls(f"{family}-{state}")
        return cls.NEVER

    @classmethod
    def of_encapsulation(cls, encapsulation: str | None) -> CalicoMode:
        """The mode of an Installation's pool entry; absent means IPIP, as the operator defaults.

        Raises:
            SettingsError: the operator has no such value.
        """
        return cls.parse(encapsulation or "IPIP")

    @classmethod
    def parse(cls, text: str) -> CalicoMode:
        """Read a mode's name: ``VXLAN-CrossSubnet``, in any case and with any separator.

        The Installation's own names are understood as well: ``VXLAN``, ``VXLANCrossSubnet``,
        ``IPIP``, ``IPIPCrossSubnet`` and ``None``. As there, a bare family means Always.

        Raises:
            SettingsError: no such mode; the message lists the five.
        """
        key = re.sub(r"[\s_/:-]", "", text).lower()
        for mode in cls:
            if key in (re.sub("-", "", mode.value).lower(), mode.encapsulation.lower()):
                return mode
        raise SettingsError(
            f"There is no Calico mode {text.strip()!r}",
            remedy="Name one of " + ", ".join(mode.value for mode in STUDY_ORDER) + ".",
        )


#: The order for tables and messages: no encapsulation first, then as Calico's manual lists them.
STUDY_ORDER = (
    CalicoMode.NEVER,
    CalicoMode.VXLAN_CROSS_SUBNET,
    CalicoMode.VXLAN_ALWAYS,
    CalicoMode.IPIP_CROSS_SUBNET,
    CalicoMode.IPIP_ALWAYS,
)
