"""Tables fit a screen of 1280 px; on a narrow one they scroll in their own boxes and the page does not."""

import re
import shutil
import subprocess

import pytest
from rich.console import Console

from manifold_lora.experiments.reports.report import write_report
from manifold_lora.experiments.settings.arms import ARMS

MEASURE = """<script>addEventListener("load", () => {
  const boxes = [...document.querySelectorAll(".scroll, figure")]
  const wide = boxes.filter(box => box.scrollWidth > box.clientWidth)
  const page = document.documentElement
  document.title = `${page.scrollWidth > page.clientWidth} ${wide.map(box => box.closest("section").id)}`
})</script>"""


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    return found


@pytest.fixture(scope="module")
def folder(browser, report_on):
    """A report on every arm there is, with as many digits as they come to have."""
    levels = {arm: 0.2 + 0.02 * place for place, arm in enumerate(ARMS) if arm != "custom"}
    found = report_on(levels, rates=(3e-3, 1e-2), seeds=5)
    write_report(found, Console(quiet=True))
    return found


@pytest.mark.parametrize(
    ("width", "scrolling"), [(1280, set()), (500, {"scores", "comparisons", "endpoints", "costs", "origin"})]
)
def test_what_scrolls(browser, folder, width, scrolling, tmp_path):
    page = tmp_path / "page.html"
    page.write_text((folder / "report.html").read_text().replace("</body>", f"{MEASURE}</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--dump-dom"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", page.as_uri()]
    done = subprocess.run([browser, *flags], capture_output=True, text=True, timeout=120)
    message = re.search(r"<title>(true|false) (.*?)</title>", done.stdout)
    assert message is not None
    assert message[1] == "false"
    assert {name for name in message[2].split(",") if name} == scrolling
