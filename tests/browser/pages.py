"""Pages in headless Chromium: MLflow's, by the command that a sweep prints, and the report of a study."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 1600, 1100
"""Of the window, in pixels: MLflow renders only the rows that are visible, and 20 have to be."""
PATIENCE_S = 60
PICTURES = os.environ.get("EMBEDSWEEP_PICTURES")
"""The folder that screenshots are written into; None writes none."""
CHARTS = "[data-chart]"
"""The charts of a report."""


def find_chromium() -> str | None:
    """Return the path of a browser; None without one (Debian: chromium)."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def printed_hint(output: str) -> str:
    """Return what a sweep printed last about comparing its runs: a command, or an address."""
    return re.findall(r"^(?:\S+ )?compare: (.+)$", output, re.MULTILINE)[-1]


@contextmanager
def opened(folder: Path, hint: str) -> Iterator[str]:
    """Do in a sweep's folder what it printed; yield the address that this shows."""
    words = shlex.split(hint)
    if words[0].startswith("http"):
        yield words[0]
        return
    if words[:2] == ["make", "ui"]:  # whose recipe tests/test_docs.py has: it runs this
        words = ["embedsweep", "ui", *(word.removeprefix("STUDY=") for word in words[2:])]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", *words, "--port", str(port)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            # MLflow's server prints lines of its own before it answers.
            yield next(line.split()[1] for line in server.stdout if line.startswith("MLflow: http"))
        finally:
            server.terminate()


@contextmanager
def open_browser() -> Iterator[Any]:
    """Yield a headless Chromium; a process can have one at a time."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*flags, "--disable-sync"])
        try:
            yield browser
        finally:
            browser.close()


def new_page(browser: Any) -> Any:
    """Return a page of a browser, without what other pages have kept."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.set_default_timeout(PATIENCE_S * 1000)
    return page


def open_trials(page: Any, address: str) -> None:
    """Open the address that shows a study's trials, and wait for them."""
    page.goto(address)
    page.locator(".ag-center-cols-container .ag-row").first.wait_for()
    # A panel beside the page, which MLflow opens on the first visit of a server on this machine.
    panel = page.get_by_role("button", name="Close", exact=True)
    if panel.count():
        panel.first.click()
    page.get_by_text("matching runs").wait_for()
    page.wait_for_timeout(2000)


def cells(page: Any, column: str) -> list[str]:
    """Return the texts of a column of the table of runs, from the top to the bottom."""
    found = page.locator(f"""[role="row"] [col-id="{column}"][role="gridcell"]""")
    texts = [
        (int(cell.locator("xpath=ancestor::*[@row-index]").get_attribute("row-index")), cell.inner_text().strip())
        for cell in found.all()
    ]
    return [text for _, text in sorted(texts)]


@dataclass
class OpenedReport:
    """A report in a browser.

    Attributes:
        page: the browser's page.
        complaints: what its console said, and what it would have loaded from elsewhere.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)

    def show(self, path: Path) -> None:
        """Open a report, and wait for all its charts."""
        self.page.goto(path.as_uri())
        while self.page.locator(f"{CHARTS}:not([data-drawn])").count():
            self.page.wait_for_timeout(50)

    def check_first_screen(self, words: Iterable[str]) -> None:
        """Check that nothing complained, and that the answer and these words can be read without scrolling."""
        assert self.complaints == []
        page = self.page
        best, command = page.locator("#answer h2"), page.locator("#answer pre")
        assert re.match(r"Best: trial \d+, loss=\w+", best.inner_text())
        assert command.inner_text().startswith(("embedsweep train ", "python "))
        for place in (best, command, *(page.locator("#answer dd").get_by_text(each).first for each in words)):
            box = place.bounding_box()
            assert box["y"] + box["height"] < page.viewport_size["height"]

    def check_charts(self, sections: Iterable[str]) -> None:
        """Check that each of these sections has charts, with marks in them and a description."""
        for name in sections:
            charts = self.page.locator(f"#{name} {CHARTS}")
            assert charts.count() > 0, name
            for chart in charts.all():
                assert chart.locator(".scatterlayer path, .boxlayer path, .barlayer path").count() > 0, name
                described = self.page.locator(f"#{chart.get_attribute('aria-describedby')}")
                assert len(described.inner_text()) > 10, name


def new_report(browser: Any) -> OpenedReport:
    """Return a page of a browser for reports, in light colours, that notes every complaint."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(PATIENCE_S * 1000)
    opened = OpenedReport(page)
    page.on("console", lambda message: opened.complaints.append(message.text))
    page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    page.on("request", lambda request: opened.complaints.extend([request.url] * request.url.startswith("http")))
    return opened


def take_picture(page: Any, name: str) -> None:
    """Write what the window shows as a picture, if pictures are wanted."""
    if PICTURES is not None:
        page.screenshot(path=Path(PICTURES, name))
