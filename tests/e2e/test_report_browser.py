"""The report as a reader sees it: in Chromium with scripts, without, narrow, dark and on paper."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

FIXTURES = Path(__file__).parent.parent / "unit" / "report"
sys.path.insert(0, str(FIXTURES))

from hostile_records import hostile  # noqa: E402
from study_records import study, with_baseline, with_mesh  # noqa: E402

from pytest_k8snet.report.documents import render_page  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
#: axe.min.js, which audits pages: of a package, or of axe-core as it is now, by this variable.
_PACKAGED = find_spec("axe_core_python")
AXE = os.environ.get("K8SNET_AXE") or (
    _PACKAGED and str(Path(str(_PACKAGED.origin)).parent / "axe.min.js")
)

pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="chromium is not installed (apt-get install chromium)"
)

PAGES = {
    "study": study(),
    "mesh": with_mesh(),
    "baseline": with_baseline(),
    "hostile": hostile(),
}
# Runs in the page after it was drawn, and leaves what it saw in the page's text.
PROBE = """
<script>
window.alerts = 0; window.alert = () => { window.alerts += 1; };
window.addEventListener("load", async () => {
  const root = document.documentElement;
  const seen = {
    width: root.scrollWidth, window: window.innerWidth, alerts: window.alerts,
    text: document.body.innerText.slice(0, 3000),
    background: getComputedStyle(document.querySelector(".k8snet")).backgroundColor,
    fetched: performance.getEntriesByType("resource").map(one => one.name),
    axe: typeof axe === "undefined" ? [] : (await axe.run()).violations.map(
      one => ({id: one.id, impact: one.impact, html: one.nodes[0].html})),
  };
  const out = document.createElement("script");
  out.type = "application/json"; out.id = "seen";
  out.textContent = encodeURIComponent(JSON.stringify(seen));
  // Of a page in a frame, the window's own page has what was seen.
  window.parent.document.body.append(out);
});
</script>
"""


def chromium(profile: Path, *arguments: str) -> str:
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={profile}",
            "--virtual-time-budget=10000",
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def framed(page: str, width: int) -> str:
    """A page in a frame: no window of Chromium is narrower than 500 pixels."""
    return f'<body><iframe width="{width}" height="900" srcdoc="{escape(page)}"></iframe>'


def seen(
    tmp_path: Path, page: str, *arguments: str, axe: bool = False, width: int | None = None
) -> dict[str, Any]:
    audit = f"<script>{Path(AXE).read_text(encoding='utf-8')}</script>" if axe and AXE else ""
    probed = tmp_path / "probed.html"
    page = page.replace("<title", audit + PROBE + "<title", 1)
    probed.write_text(framed(page, width) if width is not None else page, encoding="utf-8")
    dom = chromium(tmp_path / "profile", "--dump-dom", *arguments, probed.as_uri())
    found = re.search(r'id="seen">(.*?)</script>', dom, flags=re.DOTALL)
    assert found is not None, dom[-2000:]
    result: dict[str, Any] = json.loads(unquote(found[1]))
    return result


@pytest.mark.parametrize("records", PAGES.values(), ids=PAGES.keys())
def test_the_verdict_is_first_and_nothing_runs_is_fetched_or_scrolls_sideways(
    tmp_path: Path, records: list[dict[str, Any]]
) -> None:
    found = seen(tmp_path, render_page(records), width=400)
    assert found["window"] == 400
    check(found)


def check(found: dict[str, Any]) -> None:
    assert re.match(r"\s*(✗ Not passed|✓ Passed)\s", found["text"])
    assert found["alerts"] == 0
    assert found["fetched"] == []
    assert found["width"] <= found["window"]


def test_dark_mode_is_dark(tmp_path: Path) -> None:
    dark = seen(tmp_path, render_page(study()), "--blink-settings=preferredColorScheme=0")
    assert dark["background"] == "rgb(20, 23, 27)"


def test_it_prints(tmp_path: Path) -> None:
    page, paper = tmp_path / "page.html", tmp_path / "page.pdf"
    page.write_text(render_page(study()), encoding="utf-8")
    chromium(
        tmp_path / "profile", f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri()
    )
    pages = re.findall(rb"/Type\s*/Page\b", paper.read_bytes())
    assert 3 <= len(pages) <= 12


@pytest.mark.parametrize("page", ["mesh", "baseline", "hostile"])
@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_a_wide_page_is_as_sound_and_axe_finds_no_serious_fault(
    tmp_path: Path, page: str, scheme: str
) -> None:
    found = seen(
        tmp_path,
        render_page(PAGES[page]),
        f"--blink-settings=preferredColorScheme={scheme}",
        "--window-size=1280,1000",
        axe=True,
    )
    check(found)
    if not AXE:
        pytest.skip("there is no axe.min.js: pip install axe-core-python")
    assert [one for one in found["axe"] if one["impact"] in ("serious", "critical")] == []
