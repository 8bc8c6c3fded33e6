"""The Authorization header, kept fresh: tokens, exec credential plugins, in-cluster tokens.

The client library does the work; this makes it safe for threads, keeps it from running a plugin
for each request, and turns a plugin's failure, which the library only logs, into an error.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: How long a header is used before the library is asked again. The library runs a plugin anew for
#: each request once its token has less than five minutes left; a token outlives half a minute.
REUSE_SECONDS = 30.0


class Credentials:
    """The headers that authenticate this side; safe to use from several threads.

    Args:
        load: returns a client configuration with fresh credentials; called again after a 401.
    """

    def __init__(self, configuration: Any, load: Callable[[], Any]) -> None:
        self._configuration = configuration
        self._load = load
        self._lock = threading.Lock()
        self._headers: dict[str, str] = {}
        self._until = 0.0

    def headers(self) -> dict[str, str]:
        """The headers to send with a request."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._headers = _auth_headers(self._configuration)
                self._until = time.monotonic() + REUSE_SECONDS
            return dict(self._headers)

    def renew(self, refused: Mapping[str, str]) -> bool:
        """Load the credentials anew after a 401.

        Args:
            refused: the headers that the server did not accept.

        Returns:
            whether there are other headers to try now.
        """
        with self._lock:
            # Another thread may have renewed them while this one waited for its 401.
            if self._headers == dict(refused):
                self._configuration = self._load()
                self._headers = _auth_headers(self._configuration)
                self._until = time.monotonic() + REUSE_SECONDS
            return self._headers != dict(refused)


def _auth_headers(configuration: Any) -> dict[str, str]:
    with plugin_errors():
        settings = configuration.auth_settings()
    return {
        str(setting["key"]).lower(): str(setting["value"])
        for setting in settings.values()
        if setting["value"] and setting["in"] == "header"
    }


@contextmanager
def plugin_errors() -> Iterator[list[str]]:
    """Collect what the client library logs about a failing credential plugin in this thread.

    It catches every exception of a plugin, logs it on the root logger and goes on without
    credentials: the log is the only place where the plugin's own words appear.
    """
    collected: list[str] = []
    here = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == here and record.module == "kube_config":
                collected.append(record.getMessage())

    root = logging.getLogger()
    collector = Collector(logging.ERROR)
    root.addHandler(collector)
    try:
        yield collected
    finally:
        root.removeHandler(collector)
