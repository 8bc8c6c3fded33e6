"""Objects in Kubernetes' protobuf encoding, decoded by the numbers in the table of kinds.

kubectl sends so what it builds itself: ``kubectl create configmap``, ``auth can-i``, ``drain``.
Answers are always JSON, which every client accepts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pytest_k8snet.lab.api import status
from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.schema import Field, types

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"

_MAGIC = b"k8s\x00"

# Go writes every field that is not a pointer, zero or not. A zero is dropped as "not given", but
# for the pointers among the fields: there it was given, and differs from the default.
_ZERO_IS_GIVEN = {
    "allocateLoadBalancerNodePorts",
    "allowPrivilegeEscalation",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "gracePeriodSeconds",
    "replicas",
    "runAsGroup",
    "runAsUser",
    "terminationGracePeriodSeconds",
}


def decode(body: bytes) -> Object:
    """The object in a request body.

    Raises:
        StatusError: 400, it is not Kubernetes' protobuf; 415, of a kind or with a field that the
            lab knows in JSON only.
    """
    if not body.startswith(_MAGIC):
        raise status.bad_request("the body is not in Kubernetes' protobuf encoding")
    try:
        envelope = dict(_fields(body[len(_MAGIC) :]))
        type_meta = dict(_fields(envelope[1]))
        api_version, kind = type_meta[1].decode(), type_meta[2].decode()
        if kind not in types():
            raise status.unsupported_media_type(("application/json", "application/yaml"))
        return {"apiVersion": api_version, "kind": kind, **_decode_type(kind, envelope[2])}
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise status.bad_request(f"the protobuf body cannot be decoded: {error!r}") from None


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Number and raw value of each field: bytes, or an integer."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
        elif wire_type == 2:
            length, at = _varint(data, at)
            if at + length > len(data):
                raise ValueError("a field is cut off")
            yield number, data[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {wire_type}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at


def _decode_type(name: str, data: bytes) -> Object:
    known = types()[name]
    obj: Object = {}
    for number, raw in _fields(data):
        if number not in known.numbered:
            if known.open:
                continue
            raise ValueError(f"{name} has no field {number}")
        field_name, field = known.numbered[number]
        if field_name == "status" and field.of in ("*", "o"):
            # Clients send their zeros; what is in a status, the server decides.
            continue
        if field.shape == "inline":
            obj |= _decode_type(field.of, raw)
        elif field.shape == "list":
            obj.setdefault(field_name, []).append(_decode_value(field, raw))
        elif field.shape == "map":
            entry = dict(_fields(raw))
            value = _decode_value(field, entry.get(2, b""))
            obj.setdefault(field_name, {})[entry.get(1, b"").decode()] = value
        else:
            value = _decode_value(field, raw)
            if value not in (None, "", 0) or (value == 0 and field_name in _ZERO_IS_GIVEN):
                obj[field_name] = value
    return obj


def _decode_value(field: Field, raw: Any) -> Any:
    match field.of:
        case "s":
            return raw.decode()
        case "b":
            return bool(raw)
        case "i":
            return raw - (1 << 64) if raw >> 63 else raw
        case "x":
            return base64.b64encode(raw).decode()
        case "q":
            return dict(_fields(raw)).get(1, b"0").decode()
        case "is":
            parts = dict(_fields(raw))
            return parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
        case "t":
            seconds = dict(_fields(raw)).get(1)
            if seconds is None:
                return None
            return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case "*" | "o":
            if raw:
                raise status.unsupported_media_type(("application/json", "application/yaml"))
            return {}
    return _decode_type(field.of, raw)
