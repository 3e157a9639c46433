"""The report of a study in a browser: offline, without errors, with every chart, in light and dark, by keyboard."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedsweep.config.answer import Answer, Comparison, Verdict
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests import seeing
from tests.browser.pages import OpenedReport, find_chromium, new_report, open_browser
from tests.report.page.studies import finalist

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (Debian: chromium)"),
]

SECTIONS = {"finals", "ranking", "options", "history", "curves", "parallel", "slices", "emissions", "items"}
"""Those that have charts in a study of twenty trials, too few for the importance of keys."""


def decide(study: Study) -> None:
    """Give a study finals of its best trial and another one, as if they had been held: the best one wins."""
    best = study.best
    assert best is not None
    other = next(trial.number for trial in study.complete_trials if trial.number != best.number)
    finalists = (
        finalist(best.number, 0.51, 0.52, 0.53, 0.54, 0.55),
        finalist(other, 0.41, 0.42, 0.43, 0.44, 0.45),
    )
    comparison = Comparison(other, 0.1, 0.00794, (0.08, 0.12), (0.05, 0.15))
    verdict = Verdict(
        "dev/spearman_cosine",
        5,
        5,
        0.05 / 3,
        best.number,
        best.number,
        5,
        (best.number,),
        None,
        finalists,
        (comparison,),
        (),
    )
    study.set_answer(dataclasses.replace(study.answer or Answer(), verdict=verdict))


@pytest.fixture(scope="module")
def report(swept: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenedReport]:
    """The report of the sweep of twenty trials, with finals, written anew by the verb into a copy."""
    folder = tmp_path_factory.mktemp("reported")
    shutil.copytree(swept / "sweeps", folder / "sweeps")
    with open_browser() as browser:
        opened = new_report(browser)
        with contextlib.chdir(folder):
            decide(open_study(pass_sweep([f"study.name={seeing.STUDY}"])))
        opened.show(_written(folder))
        yield opened


def _written(folder: Path) -> Path:
    """Write the report by the verb, and return where it says that it is."""
    words = [sys.executable, "-m", "embedsweep", "report", seeing.STUDY]
    said = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout
    return folder / re.findall(r"^report: (.+)$", said, re.MULTILINE)[0]


def test_it_says_the_answer_first_and_complains_of_nothing(report: OpenedReport) -> None:
    report.check_first_screen(("95 % interval", "winner: trial", "trials finished", "g CO2eq", "model"))


def test_every_section_has_its_charts_with_marks_in_them(report: OpenedReport) -> None:
    report.check_charts(SECTIONS)


def test_dark_and_printed_pages_have_colours_of_their_own(report: OpenedReport) -> None:
    page = report.page

    def label() -> str:
        """Return the colour of an axis's label."""
        return str(page.locator("#history .xtitle").first.evaluate("element => getComputedStyle(element).fill"))

    light = label()
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1000)
    assert label() != light
    page.emulate_media(media="print")
    page.wait_for_timeout(1000)
    assert label() == light
    assert page.locator("nav").is_hidden()
    page.emulate_media(media="screen", color_scheme="light")


def test_it_is_used_by_keyboard_and_fits_a_narrow_screen(report: OpenedReport) -> None:
    page = report.page
    page.locator("body").press("Tab")
    skip = page.locator(".skip")
    assert skip.evaluate("element => element === document.activeElement")
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    summary = page.locator("#ranking summary")
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("#ranking details tbody tr").count() == seeing.N_TRIALS
    assert page.locator("#ranking details tbody tr").first.is_visible()
    page.set_viewport_size({"width": 400, "height": 800})
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert report.complaints == []
