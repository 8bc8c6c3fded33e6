"""Connections that are broken off, as a lost network would."""

from __future__ import annotations

import asyncio
import contextlib


def abort(transport: asyncio.BaseTransport | None) -> None:
    """Break a connection off; one that is closed already, or not there, is fine."""
    if isinstance(transport, asyncio.WriteTransport):
        # Early Python 3.11, as Debian 12 has it, says so of TLS that has been closed before.
        with contextlib.suppress(AttributeError):
            transport.abort()
