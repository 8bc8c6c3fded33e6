"""``python -m pytest_k8snet.lab``: how :func:`pytest_k8snet.lab.start` starts a lab."""

from __future__ import annotations

import sys

from pytest_k8snet.lab.launcher import main

if __name__ == "__main__":
    sys.exit(main())
