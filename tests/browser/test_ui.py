"""MLflow's pages after a sweep, opened by what the sweep printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import seeing
from tests.browser.pages import (
    cells,
    find_chromium,
    new_page,
    open_browser,
    open_trials,
    opened,
    printed_hint,
    take_picture,
)
from tests.tracking.stores import child, free_port, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (Debian: chromium)"),
]

SMALL = ("-m", "loss=mnrl,cosent", "study.name=served", "data.limit=64", "trainer.max_steps=4")
OBJECTIVE = "metrics.`best/spearman_cosine`"


@dataclass(frozen=True)
class OpenedStudy:
    """A study in MLflow's pages.

    Attributes:
        page: the browser's page, where the printed address was opened.
        address: that address.
        n_trials: how many trials the study has.
        losses: the losses that it compares.
        searched: the params that differ between trials.
    """

    page: Any
    address: str
    n_trials: int
    losses: set[str]
    searched: set[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def on_sqlite(browser: Any, swept: Path) -> Iterator[OpenedStudy]:
    searched = {"loss.name", "optimizer.lr", "optimizer.warmup", "loss.scale"}
    searched |= {"dataloader.batch_size", "dataloader.batch_sampler"}
    *_, last = json.loads((swept.parent / "seen.json").read_text(encoding="utf-8"))
    hint = printed_hint(last["printed"])
    assert hint == f"make ui STUDY={seeing.STUDY}"
    page = new_page(browser)
    with opened(swept, hint) as address:
        open_trials(page, address)
        yield OpenedStudy(page, address, seeing.N_TRIALS, {"mnrl", "cosent", "cosine"}, searched)


@pytest.fixture(scope="module")
def on_a_server(browser: Any, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedStudy]:
    folder = tmp_path_factory.mktemp("served")
    shutil.copy(mlflow_template, folder / "server.db")
    uri = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts"), "--workers", "1", "--port", str(port)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with child(command, environment, folder / "server.log"):
        wait_for(f"{uri}/health", 180)
        words = [sys.executable, "-m", "embedsweep", "train", *SMALL, f"tracking.uri={uri}"]
        ended = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        assert {path.name for path in folder.iterdir()} == {"sweeps", "server.db", "server.log", "artifacts"}
        hint = printed_hint(ended.stdout)
        assert hint.startswith(uri)
        page = new_page(browser)
        with opened(folder, hint) as address:
            open_trials(page, address)
            yield OpenedStudy(page, address, 2, {"mnrl", "cosent"}, {"loss.name"})


@pytest.fixture(params=["on_sqlite", "on_a_server"])
def opened_study(request: pytest.FixtureRequest) -> OpenedStudy:
    """Each of the two, on the page of its trials."""
    study = request.getfixturevalue(request.param)
    assert isinstance(study, OpenedStudy)
    study.page.goto("about:blank")
    open_trials(study.page, study.address)
    return study


def test_the_first_screen_compares_the_trials(opened_study: OpenedStudy) -> None:
    """With a row for each, the best first, and with what was searched."""
    page = opened_study.page
    assert page.get_by_role("dialog").locator("visible=true").count() == 0
    assert page.get_by_text("Best: trial").locator("visible=true").count() > 0
    take_picture(page, "mlflow-runs.png")
    scores = [float(text) for text in cells(page, OBJECTIVE)]
    assert len(scores) == opened_study.n_trials
    assert scores == sorted(scores, reverse=True)
    assert set(cells(page, "params.`loss.name`")) == opened_study.losses
    assert all(float(text) > 0 for text in cells(page, "metrics.`emissions/co2eq_kg`"))
    for header in ("best/spearman_cosine", "loss.name", "emissions/co2eq_kg"):
        box = page.locator(".ag-header-cell").get_by_text(header, exact=True).bounding_box()
        assert 0 < box["x"] < box["x"] + box["width"] < page.viewport_size["width"], header
    names = [re.findall(r"^(\d+) (\w+)", name, re.MULTILINE)[0] for name in cells(page, "attributes.`Run Name`")]
    assert [loss for _, loss in names] == cells(page, "params.`loss.name`")
    assert {int(number) for number, _ in names} == set(range(opened_study.n_trials))


def test_comparing_runs_begins_with_what_was_searched_and_the_objective(opened_study: OpenedStudy) -> None:
    page = opened_study.page
    page.get_by_label("Select all runs").click()
    page.get_by_role("button", name="Compare").click()
    page.get_by_text("Parallel Coordinates Plot").wait_for()
    page.wait_for_timeout(2000)
    chosen = page.locator("[class$=select-selection-item-content]").all_inner_texts()
    assert set(chosen) - {"dev/spearman_cosine"} <= opened_study.searched
    assert chosen[-1] == "dev/spearman_cosine"
    assert len(chosen) > 1


def test_charts_begin_with_the_objective_of_every_trial(opened_study: OpenedStudy) -> None:
    page = opened_study.page
    page.goto("about:blank")
    page.goto(f"{opened_study.address}&compareRunsMode=CHART")
    card = page.get_by_test_id("experiment-view-compare-runs-card").first
    card.locator(".scatterlayer .trace").first.wait_for()
    page.wait_for_timeout(3000)
    take_picture(page, "mlflow-chart.png")
    assert card.locator(".scatterlayer .trace").count() >= opened_study.n_trials
    text = card.inner_text()
    assert "dev/spearman_cosine" in text
    assert all(loss in text for loss in opened_study.losses)
