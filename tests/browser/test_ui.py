"""MLflow's pages after a sweep."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser.pages import ask, browser_page, find_chromium, open_study, served

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (Debian: chromium)"),
]

SWEEP = ("-m", "loss=mnrl,cosent", "study.name=seen", "data.limit=200", "trainer.max_steps=6", "trainer.eval_every=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory after a small sweep."""
    folder = tmp_path_factory.mktemp("swept")
    subprocess.run([sys.executable, "-m", "embedsweep", "train", *SWEEP], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Any:
    with served(folder) as address:
        yield address


def test_a_study_is_an_experiment_whose_run_expands_into_its_trials(address: str) -> None:
    (study,) = (each for each in ask(address, "experiments") if each["name"] == "seen")
    with browser_page() as page:
        open_study(page, address, study["experiment_id"])
        page.get_by_role("link", name="00 mnrl").wait_for()
        page.get_by_role("link", name="01 cosent").wait_for()


def test_the_sweep_writes_only_into_its_own_folders(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"sweeps", "mlruns"}
