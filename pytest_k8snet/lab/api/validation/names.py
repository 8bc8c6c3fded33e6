"""The forms that names take in Kubernetes, each with the sentence that explains it."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Form:
    """One form of names.

    Attributes:
        pattern: what the whole name must match.
        limit: the longest name, in characters.
        rule: the sentence up to the examples.
        examples: names of this form, as Kubernetes' messages show them.
    """

    pattern: str
    limit: int
    rule: str
    examples: tuple[str, ...]

    def faults(self, name: str) -> list[str]:
        """What is wrong with a name; empty when nothing is."""
        faults = []
        if len(name) > self.limit:
            faults.append(f"must be no more than {self.limit} characters")
        if not re.fullmatch(self.pattern, name):
            examples = " or ".join(f"'{example}', " for example in self.examples)
            faults.append(
                f"{self.rule} (e.g. {examples.strip()} "
                f"regex used for validation is '{self.pattern}')"
            )
        return faults


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"

DNS_LABEL = Form(
    _LABEL,
    63,
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and"
    " must start and end with an alphanumeric character",
    ("my-name", "123-abc"),
)
DNS_SUBDOMAIN = Form(
    rf"{_LABEL}(\.{_LABEL})*",
    253,
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or"
    " '.', and must start and end with an alphanumeric character",
    ("example.com",),
)
SERVICE = Form(
    "[a-z]([-a-z0-9]*[a-z0-9])?",
    63,
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an"
    " alphabetic character, and end with an alphanumeric character",
    ("my-name", "abc-123"),
)
LABEL_KEY_NAME = Form(
    _QUALIFIED,
    63,
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end"
    " with an alphanumeric character",
    ("MyName", "my.name", "123-abc"),
)
LABEL_VALUE = Form(
    "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
    63,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or"
    " '.', and must start and end with an alphanumeric character",
    ("MyValue", "my_value", "12345"),
)
CONFIG_KEY = Form(
    "[-._a-zA-Z0-9]+",
    253,
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
    ("key.name", "KEY_NAME", "key-name"),
)
PORT_NAME = Form(
    _LABEL,
    15,
    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
    ("http",),
)
# The API service of the core group is called "v1.", which is no domain name.
API_SERVICE = Form(
    r"[a-z0-9]+\.[-a-z0-9.]*", 253, "must be a version and a group", ("v1.apps", "v1.")
)
