"""Print every promised figure: ``python -m benchmarks [NAME ...]``."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = (
    "entered",
    "startup",
    "run",
    "scale",
    "repeated",
    "overhead",
    "goodput",
    "report",
    "verdict_time",
    "verdict_errors",
    "verdict_noise",
    "verdict_lab",
)


def main() -> int:
    """Run the benchmarks named, or all; exit status 1 when a promise is not kept."""
    names = sys.argv[1:] or NAMES
    missed = 0
    for name in names:
        for figure in import_module(f"benchmarks.{name}").figures():
            print(figure, flush=True)
            missed += not figure.holds
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
