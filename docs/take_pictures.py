"""Take the README's pictures of the MLflow UI: ``python docs/take_pictures.py FOLDER`` after a sweep in FOLDER."""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.browser.pages import ask, browser_page, open_study, served

HIDDEN = ("Dataset", "Source", "Models")
COLUMNS = ("loss.name", "best/spearman_cosine", "test/spearman_cosine", "emissions/co2eq_kg")
TOP = {"x": 0, "y": 0, "width": 1600}
METRIC = "dev/spearman_cosine"
DOCS = Path(__file__).resolve().parent


def newest_study(address: str) -> str:
    """Return the id of the newest experiment, except ``single`` and MLflow's own."""
    studies = [each for each in ask(address, "experiments") if each["name"] not in ("single", "Default")]
    return str(max(studies, key=lambda each: int(each["creation_time"]))["experiment_id"])


def curves(address: str, study: str) -> str:
    """Return the address of the page that plots dev Spearman of all trials over their steps."""
    runs = ask(address, "runs", experiment_ids=[study], filter="tags.`embedsweep.kind` = 'trial'")
    question = {
        "runs": [run["info"]["run_id"] for run in runs],
        "metric": METRIC,
        "experiments": [study],
        "plot_metric_keys": [METRIC],
    }
    words = urllib.parse.urlencode({key: json.dumps(value) for key, value in question.items()})
    return f"{address}/#/metric?{words}&x_axis=step"


def toggle_columns(page: Any, names: tuple[str, ...]) -> None:
    """Add metrics and params to the table of runs, or remove those that are shown."""
    page.get_by_role("button", name="Columns").click()
    for name in names:
        page.get_by_placeholder("Search columns").fill(name)
        page.wait_for_timeout(1000)
        page.get_by_text(name, exact=True).last.click()
    page.keyboard.press("Escape")
    page.wait_for_timeout(2000)


def main(folder: Path) -> None:
    """Open the pages over the store in ``folder`` and write the pictures beside this file."""
    with served(folder) as address, browser_page() as page:
        study = newest_study(address)
        page.goto(f"{address}/#/experiments/{study}/runs")
        page.get_by_role("button", name="Close").first.click()
        open_study(page, address, study)
        toggle_columns(page, (*HIDDEN, *COLUMNS))
        page.screenshot(path=DOCS / "mlflow-runs.png", clip={**TOP, "height": 360})
        page.goto(curves(address, study))
        page.get_by_text("Latest").wait_for()
        page.wait_for_timeout(3000)
        page.screenshot(path=DOCS / "mlflow-chart.png", clip={**TOP, "height": 680})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
