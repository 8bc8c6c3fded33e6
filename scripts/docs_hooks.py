"""What MkDocs does not do by itself: links out of docs/, and the help of our commands."""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
from typing import Any

#: A line of a page that stands for what a command prints.
_OUTPUT = re.compile(r"^<!-- output of: k8snet (.*) -->$", re.MULTILINE)
_RELATIVE_LINK = re.compile(r"\]\((\.\./[^)#]+)((?:#[^)]*)?)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Complete a page before it is drawn."""
    folder = posixpath.dirname(page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        if target.startswith("docs/"):
            return match[0]
        # On GitHub the link works as it stands; on the site it leads there.
        return f"]({config.repo_url}/blob/main/{target}{match[2]})"

    return _OUTPUT.sub(
        lambda match: _output_of(match[1].split()), _RELATIVE_LINK.sub(link, markdown)
    )


def _output_of(arguments: list[str]) -> str:
    printed = subprocess.run(
        [sys.executable, "-m", "pytest_k8snet.cli", *arguments],
        env={**os.environ, "COLUMNS": "96", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return f"```text\n{printed.rstrip()}\n```"
