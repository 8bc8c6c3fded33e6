"""IPPools as IPAM and Felix see them. Pure."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Literal, cast

from pytest_k8snet.lab.dataplane.felix import Encapsulation, Family, Pool

#: The storage key of pools.
POOLS = "ippools.crd.projectcalico.org"

#: The annotation by which a pod, or a namespace for all its pods, asks for pools.
POOLS_ANNOTATION = "cni.projectcalico.org/ipv4pools"

#: The operator's mark on a pool that it rules.
OWNER_LABEL = ("app.kubernetes.io/managed-by", "tigera-operator")
#: Where objects of the v1 CRDs keep the labels that they got through ``projectcalico.org/v3``.
METADATA_ANNOTATION = "projectcalico.org/metadata"

Use = Literal["Workload", "Tunnel"]
_MODES = ("Never", "CrossSubnet", "Always")


@dataclass(frozen=True, slots=True, kw_only=True)
class IPPool(Pool):
    """One IPv4 pool, with Calico's defaults filled in: what routes depend on, and IPAM's part."""

    block_size: int = 26
    disabled: bool = False
    node_selector: str = "all()"
    manual: bool = False

    @classmethod
    def read(cls, obj: Mapping[str, Any]) -> IPPool:
        """Read an IPPool object; an unknown mode means Never, as Calico's syncer has it.

        Raises:
            ValueError: its addresses or block size are none that Calico could use.
        """
        spec = obj["spec"]
        return cls(
            name=obj["metadata"]["name"],
            cidr=IPv4Network(spec["cidr"]),
            block_size=_block_size(spec.get("blockSize", 26)),
            ipip_mode=_mode(spec.get("ipipMode")),
            vxlan_mode=_mode(spec.get("vxlanMode")),
            nat_outgoing=bool(spec.get("natOutgoing", False)),
            disabled=bool(spec.get("disabled", False)),
            node_selector=spec.get("nodeSelector") or "all()",
            manual=spec.get("assignmentMode", "Automatic") == "Manual",
            uses=tuple(spec.get("allowedUses") or ("Workload", "Tunnel")),
        )

    def gives(self, use: Use, labels: Mapping[str, str]) -> bool:
        """Whether a node with these labels may take new addresses from it without being asked."""
        if self.disabled or use not in self.uses:
            return False
        try:
            return selects(self.node_selector, labels)
        except SelectorError:
            return False


def _mode(text: object) -> Encapsulation:
    return cast(Encapsulation, text) if text in _MODES else "Never"


def _block_size(value: int) -> int:
    if not 20 <= value <= 32:
        raise ValueError(f"an IPv4 block has a prefix of 20 to 32, not {value}")
    return value


def read_pools(objects: Sequence[Mapping[str, Any]]) -> list[IPPool]:
    """The usable IPv4 pools among IPPool objects, by name.

    Before v3.32 the API takes what Calico cannot use; Calico then passes it over, and so does this.
    """
    pools = []
    for obj in objects:
        with contextlib.suppress(ValueError):
            pools.append(IPPool.read(obj))
    return sorted(pools, key=lambda pool: pool.name)


def is_owned(pool: Mapping[str, Any]) -> bool:
    """Whether the operator's label is on a pool object, in either of the two places it can be."""
    key, value = OWNER_LABEL
    meta = pool["metadata"]
    if (meta.get("labels") or {}).get(key) == value:
        return True
    return bool((_hidden(meta).get("labels") or {}).get(key) == value)


def mark_owned(meta: dict[str, Any], api_shape: Literal["A", "B", "C"]) -> None:
    """Put the operator's label on a pool, by its metadata, where this API shape keeps it."""
    key, value = OWNER_LABEL
    if api_shape == "C":
        meta["labels"] = {**(meta.get("labels") or {}), key: value}
        return
    hidden = _hidden(meta)
    hidden["labels"] = {**(hidden.get("labels") or {}), key: value}
    annotations = meta.get("annotations") or {}
    meta["annotations"] = {**annotations, METADATA_ANNOTATION: json.dumps(hidden)}


def _hidden(meta: Mapping[str, Any]) -> dict[str, Any]:
    try:
        hidden = json.loads((meta.get("annotations") or {}).get(METADATA_ANNOTATION, "{}"))
    except ValueError:
        return {}
    return hidden if isinstance(hidden, dict) else {}


class PoolRequestError(ValueError):
    """A pod asks for pools that it cannot have."""


def pools_for_pod(
    pools: Sequence[IPPool], annotation: str | None, node_labels: Mapping[str, str]
) -> list[IPPool]:
    """The pools that a pod's address may come from, in order.

    Args:
        pools: all there are.
        annotation: the value of ``cni.projectcalico.org/ipv4pools``, a JSON list of names or CIDRs.
        node_labels: the labels of the pod's node. Pools asked for by name serve every node.

    Raises:
        PoolRequestError: the annotation cannot be read, or names no usable pool.
    """
    if annotation is None:
        return [p for p in pools if not p.manual and p.gives("Workload", node_labels)]
    try:
        wanted = json.loads(annotation)
    except ValueError:
        wanted = None
    if not isinstance(wanted, list) or not all(isinstance(item, str) for item in wanted):
        raise PoolRequestError(f"failed to parse {POOLS_ANNOTATION!r} as JSON list: {annotation}")
    chosen = []
    for text in wanted:
        match = [pool for pool in pools if text in (pool.name, str(pool.cidr))]
        if not match:
            raise PoolRequestError(f"the given pool ({text}) does not exist")
        if match[0].disabled:
            raise PoolRequestError(f"the given pool ({text}) is disabled")
        chosen += match
    allowed = [pool for pool in chosen if "Workload" in pool.uses]
    if chosen and not allowed:
        raise PoolRequestError(
            "cannot find a qualified ippool, no pools match the required use (Workload)"
        )
    return allowed


def tunnel_pools(
    pools: Sequence[IPPool], family: Family, node_labels: Mapping[str, str]
) -> list[IPPool]:
    """The pools that a node's tunnel address of a family may come from."""
    return [pool for pool in pools if pool.family == family and pool.gives("Tunnel", node_labels)]


# -- Calico's selectors ----------------------------------------------------------------------------
#
# ``all()``, ``global()``, ``has(label)``, ``label == 'value'``, ``label != 'value'``,
# ``label in { 'a', 'b' }``, ``label not in { ... }``; joined by ``&&``, which binds closer, and
# ``||``; negated by ``!``; grouped by parentheses.

_TOKEN = re.compile(
    r"\s*(?:(?P<mark>&&|\|\||==|!=|[!(){},])"
    r"|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\""
    r"|(?P<word>[\w./-]+))"
)
_END = ("end", "")


class SelectorError(ValueError):
    """Not a selector that the lab understands."""


def selects(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether a selector picks something with these labels; an empty one picks everything.

    Raises:
        SelectorError: it cannot be read.
    """
    if not selector.strip():
        return True
    reader = _Reader(selector, labels)
    found = reader.either()
    reader.expect(_END)
    return found


class _Reader:
    """Reads and judges at once, from left to right."""

    def __init__(self, selector: str, labels: Mapping[str, str]) -> None:
        self._selector = selector
        self._labels = labels
        self._tokens = list(self._split(selector.rstrip()))

    def _split(self, text: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error()
            position = match.end()
            kind = str(match.lastgroup)
            tokens.append(("value" if kind in ("single", "double") else kind, match[kind]))
        return [*tokens, _END]

    def _error(self) -> SelectorError:
        return SelectorError(f"not a selector that the lab understands: {self._selector!r}")

    def _take(self, token: tuple[str, str]) -> bool:
        if self._tokens[0] != token:
            return False
        del self._tokens[0]
        return True

    def expect(self, token: tuple[str, str]) -> None:
        """Pass over a token that must come now."""
        if not self._take(token):
            raise self._error()

    def _text(self, kind: str) -> str:
        found, text = self._tokens[0]
        if found != kind:
            raise self._error()
        del self._tokens[0]
        return text

    def either(self) -> bool:
        """Terms joined by ``||``."""
        found = self._both()
        while self._take(("mark", "||")):
            found = self._both() or found
        return found

    def _both(self) -> bool:
        found = self._single()
        while self._take(("mark", "&&")):
            found = self._single() and found
        return found

    def _single(self) -> bool:
        if self._take(("mark", "!")):
            return not self._single()
        if self._take(("mark", "(")):
            found = self.either()
            self.expect(("mark", ")"))
            return found
        word = self._text("word")
        if word in ("all", "global", "has") and self._take(("mark", "(")):
            found = word != "has" or self._text("word") in self._labels
            self.expect(("mark", ")"))
            return found
        return self._comparison(word)

    def _comparison(self, label: str) -> bool:
        value = self._labels.get(label)
        if self._take(("mark", "==")):
            return value == self._text("value")
        if self._take(("mark", "!=")):
            return value != self._text("value")
        wanted = not self._take(("word", "not"))
        self.expect(("word", "in"))
        return (value in self._values()) == wanted

    def _values(self) -> set[str]:
        self.expect(("mark", "{"))
        found = {self._text("value")}
        while self._take(("mark", ",")):
            found.add(self._text("value"))
        self.expect(("mark", "}"))
        return found
