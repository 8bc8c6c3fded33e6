"""The faults of one object, collected while it is checked, in Kubernetes' words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

from pytest_k8snet.lab.api.objects import Object
from pytest_k8snet.lab.api.status import Cause
from pytest_k8snet.lab.api.validation import names


class Causes:
    """Collects causes; each method adds one, or none when all is well.

    Attributes:
        found: what was collected, in order.
    """

    def __init__(self) -> None:
        self.found: list[Cause] = []

    def _add(self, reason: str, field: str, message: str) -> None:
        self.found.append(Cause(reason, field, message))

    def required(self, field: str, why: str = "") -> None:
        """A field that must be there is not."""
        self._add("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")

    def invalid(self, field: str, value: Any, why: str) -> None:
        """A value that is not acceptable."""
        self._add("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {why}")

    def duplicate(self, field: str, value: Any) -> None:
        """A value that may occur once only."""
        self._add("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")

    def forbidden(self, field: str, why: str) -> None:
        """A field that may not be set or changed here."""
        self._add("FieldValueForbidden", field, f"Forbidden: {why}")

    def unknown_reference(self, field: str, value: Any) -> None:
        """A name that refers to nothing."""
        self._add("FieldValueNotFound", field, f"Not found: {shown(value)}")

    def too_long(self, field: str, limit_bytes: int) -> None:
        """A value that is too large."""
        self._add("FieldValueTooLong", field, f"Too long: may not be more than {limit_bytes} bytes")

    def one_of(self, field: str, value: Any, supported: Sequence[str]) -> None:
        """A value that must be one of a few; an absent one passes."""
        if value is None or value in supported:
            return
        choice = ", ".join(shown(item) for item in supported)
        self._add(
            "FieldValueNotSupported",
            field,
            f"Unsupported value: {shown(value)}: supported values: {choice}",
        )

    def name(self, field: str, value: str, form: names.Form) -> None:
        """A name in one of Kubernetes' forms."""
        for why in form.faults(value):
            self.invalid(field, value, why)

    def between(self, field: str, value: Any, low: int, high: int) -> None:
        """A number within a range."""
        if not isinstance(value, int) or not low <= value <= high:
            self.invalid(field, value, f"must be between {low} and {high}, inclusive")

    def not_negative(self, field: str, value: Any) -> None:
        """A number that is at least 0; an absent one passes."""
        if value is not None and (not isinstance(value, int) or value < 0):
            self.invalid(field, value, "must be greater than or equal to 0")

    def port(self, field: str, value: Any) -> None:
        """A port number."""
        self.between(field, value, 1, 65535)

    def address(self, field: str, value: Any) -> None:
        """An IP address."""
        try:
            ip_address(str(value))
        except ValueError:
            self.invalid(
                field, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            )

    def unchanged(self, field: str, new: Any, old: Any) -> None:
        """A value that may not change."""
        if new != old:
            self.invalid(field, new, "field is immutable")


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    return "null" if value is None else json.dumps(value, separators=(",", ":"))


def objects(value: Any) -> list[Object]:
    """The objects of a list, skipping what is none; empty for anything but a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def repeated(values: Iterable[Any]) -> list[tuple[int, Any]]:
    """The values (with their index) that occurred before; empty ones do not count."""
    seen: list[Any] = []
    again = []
    for index, value in enumerate(values):
        if value in (None, ""):
            continue
        if value in seen:
            again.append((index, value))
        seen.append(value)
    return again
