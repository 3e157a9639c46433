"""MLflow's pages over a store, served by ``embedsweep ui`` and opened in headless Chromium."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH, HEIGHT = 1600, 900
PATIENCE_S = 60


def find_chromium() -> str | None:
    """Return the path of a browser; None without one (Debian: chromium)."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Run ``embedsweep ui`` over the store in ``folder``; yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "embedsweep", "ui", f"port={port}"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(address)
        yield address
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


def _wait_for(address: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


@contextmanager
def browser_page() -> Iterator[Any]:
    """Yield a page of headless Chromium."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[*flags, "--disable-sync"])
        try:
            yield browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        finally:
            browser.close()


def ask(address: str, what: str, **question: object) -> Any:
    """Search MLflow by its REST API."""
    request = urllib.request.Request(
        f"{address}/ajax-api/2.0/mlflow/{what}/search",
        data=json.dumps({"max_results": 100, **question}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)[what]


def open_study(page: Any, address: str, study: str) -> None:
    """Open the study's runs as a table, with the trials expanded below their parent."""
    page.goto(f"{address}/#/experiments/{study}/runs")
    page.get_by_role("link", name=re.compile("^(?!Experiments)")).first.wait_for()
    page.locator(".ag-row button:has(svg)").locator("visible=true").last.click()
    page.wait_for_timeout(5000)
