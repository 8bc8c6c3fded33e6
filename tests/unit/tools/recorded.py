"""The recorded outputs of real tools in tests/data, with what their index says of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

DATA = Path(__file__).parents[2] / "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What one run printed, and how it ended."""

    name: str
    arguments: str
    text: str
    stderr: str
    #: None where the recorder had to end the process itself.
    exit_code: int | None

    @property
    def case(self) -> str:
        """The name without the version, e.g. ``err-refused``."""
        return self.name.split("-", 1)[1].rsplit(".", 1)[0]

    @property
    def version(self) -> str:
        return self.name.split("-", 1)[0]


def recordings(tool: Literal["iperf3", "curl", "ping"]) -> list[Recording]:
    """Every recording of a tool that its index lists."""
    lines = (DATA / tool / "index.ndjson").read_text().splitlines()
    found = []
    for entry in map(json.loads, lines):
        exit_code = entry["exit"] if isinstance(entry["exit"], int) else None
        found.append(
            Recording(
                name=entry["file"],
                arguments=entry["args"],
                text=(DATA / tool / entry["file"]).read_text(),
                stderr=entry.get("stderr", ""),
                exit_code=exit_code,
            )
        )
    return found


def recording(tool: Literal["iperf3", "curl", "ping"], name: str) -> Recording:
    """One recording by its file name."""
    return next(one for one in recordings(tool) if one.name == name)
