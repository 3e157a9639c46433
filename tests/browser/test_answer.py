"""A study with finals that is killed twice: its answer, its figures wherever they are shown, its report."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import pytest
from mlflow.entities import Run

from embedsweep.cli import main
from embedsweep.commands.api import load_study
from embedsweep.config.answer import Verdict
from embedsweep.report.verdict import answer_lines
from embedsweep.study.reading import read_study
from embedsweep.study.record import StudyRecord
from tests.browser.pages import CHARTS, OpenedReport, find_chromium, new_report, open_browser
from tests.faults import studies
from tests.faults.studies import PAIRS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="needs a Chromium (Debian: chromium)"),
]

METRIC = "spearman_cosine"
N_TRIALS, N_FINALISTS, N_SEEDS = 8, 2, 5
WORDS = (
    "loss=cosent,mnrl",
    "optimizer.lr=tag(log,interval(1e-4,1e-2))",
    *PAIRS,
    "data.limit=64",
    "model=tiny",
    "trainer.device=cpu",
    "trainer.max_steps=4",
    "trainer.eval_every=2",
    "study.name=night",
    f"study.n_trials={N_TRIALS}",
    f"study.finals.top={N_FINALISTS}",
    f"study.finals.seeds={N_SEEDS}",
)
SECTIONS = {"finals", "ranking", "options", "history", "curves", "parallel", "slices", "emissions", "items"}
"""Those that have charts in a study of eight trials, too few for the importance of keys."""


@dataclass(frozen=True)
class Answered:
    """A study with its answer.

    Attributes:
        folder: its working directory.
        record: the study, as its storage has it.
        verdict: that of its finals.
        trials: the runs of its trials, by number.
        finals: the runs of the trainings of its finals, by number.
        parent: its own run.
        printed: what the last command printed.
    """

    folder: Path
    record: StudyRecord
    verdict: Verdict
    trials: dict[int, Run]
    finals: dict[int, Run]
    parent: Run
    printed: str


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answered]:
    """The study: killed once a trial is recorded and not yet told, and once a final is; then resumed to its end."""
    folder = tmp_path_factory.mktemp("answered")
    for place in ("tell", "final"):
        assert studies.run(folder, WORDS, ("kill", place)).code == -9, place
    ended = studies.run(folder, WORDS)
    assert ended.code == 0, ended.output
    runs = studies.Study(folder).runs
    kinds = {kind: [each for each in runs if each.data.tags["embedsweep.kind"] == kind] for kind in KINDS}
    assert {kind: len(found) for kind, found in kinds.items()} == KINDS
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials, finals = (
        {int(run.data.tags["embedsweep.trial"]): run for run in kinds[kind]} for kind in ("trial", "final")
    )
    with contextlib.chdir(folder):
        record = read_study("night")
        assert record.answer is not None
        assert record.answer.verdict is not None
        yield Answered(folder, record, record.answer.verdict, trials, finals, kinds["study"][0], ended.output)


KINDS = {"study": 1, "trial": N_TRIALS, "final": N_FINALISTS * N_SEEDS}
"""How many runs of each kind there are: none is lost or doubled by the kills."""


@pytest.fixture(scope="module")
def report(answered: Answered) -> Iterator[OpenedReport]:
    """The report that the last command wrote."""
    with open_browser() as browser:
        opened = new_report(browser)
        opened.show(answered.folder / "sweeps/night/report/index.html")
        yield opened


def command(*words: str) -> str:
    """Run ``embedsweep`` and return what it prints."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(list(words)) == 0
    return printed.getvalue()


def test_kills_lose_and_double_nothing_and_test_was_looked_at_once(answered: Answered) -> None:
    record, finals = answered.record, answered.record.finals
    assert finals is not None
    assert [trial.state.name for trial in record.trials] == ["COMPLETE"] * N_TRIALS
    assert [trial.state.name for trial in finals.trials] == ["COMPLETE"] * (N_FINALISTS * N_SEEDS)
    seeds = [{each.seed for each in finalist.scores} for finalist in answered.verdict.finalists]
    assert len(seeds[0]) == N_SEEDS
    assert seeds == [seeds[0]] * N_FINALISTS
    assert (record.is_answered, answered.verdict.look) == (True, N_SEEDS)
    assert [look.what for look in record.looks] == [f"finals of trial {answered.verdict.best}"]


def test_scores_are_the_same_to_the_last_bit_in_storage_mlflow_json_and_python(answered: Answered) -> None:
    record, loaded = answered.record, load_study("night")
    tree = json.loads(command("show", "night", "--json", "-"))
    assert record.finals is not None
    for stored, runs, rows, frame in (
        (record.trials, answered.trials, tree["trials"], loaded.trials()),
        (record.finals.trials, answered.finals, tree["finals"], loaded.finals),
    ):
        values = [trial.value for trial in stored]
        assert [runs[trial.number].data.metrics[f"best/{METRIC}"] for trial in stored] == values
        assert [row["objectives"][f"dev/{METRIC}"] for row in rows] == values
        assert list(frame[f"dev/{METRIC}"]) == values
        kept = [trial.user_attrs["embedsweep.result"]["emissions"]["co2eq_kg"] for trial in stored]
        assert [runs[trial.number].data.metrics["emissions/co2eq_kg"] for trial in stored] == kept
        assert [row["cost"]["co2eq_kg"] for row in rows] == kept
    assert record.answer is not None
    assert tree["answer"] == json.loads(json.dumps(record.answer.tree()))
    assert loaded.answer == record.answer


def test_means_of_finals_follow_from_the_scores_that_are_stored(answered: Answered) -> None:
    record, verdict, metrics = answered.record, answered.verdict, answered.parent.data.metrics
    assert record.finals is not None
    scores: dict[int, list[float]] = {}
    for trial in record.finals.trials:
        point = record.finals.point_of(trial)
        assert point is not None
        assert trial.value is not None
        scores.setdefault(point.finalist, []).append(trial.value)
    assert {each.trial: each.mean for each in verdict.finalists} == {n: fmean(each) for n, each in scores.items()}
    assert {each.trial: each.spread for each in verdict.finalists} == {n: stdev(each) for n, each in scores.items()}
    assert metrics[f"study/finals/dev/{METRIC}"] == verdict.finalists[0].mean == max(map(fmean, scores.values()))
    assert metrics[f"study/dev/{METRIC}"] == max(trial.value or 0.0 for trial in record.trials)
    found = [run.data.metrics for run in answered.finals.values()]
    tested = [each[f"test/{METRIC}"] for each in found if f"test/{METRIC}" in each]
    assert len(tested) == N_SEEDS
    assert metrics[f"study/test/{METRIC}"] == fmean(tested)


def test_the_answer_is_said_in_the_same_words_by_terminal_card_and_report(
    answered: Answered, report: OpenedReport, tmp_path: Path
) -> None:
    lines = answer_lines(answered.record)
    finalists = [f"mean dev/{METRIC} {each.mean:.4f} ± {each.spread:.4f}" for each in answered.verdict.finalists]
    assert [number for number in finalists if not any(number in line for line in lines)] == []
    command("publish", "night", "--to", str(tmp_path / "published"))
    card = (tmp_path / "published" / "README.md").read_text(encoding="utf-8")
    page = report.page.locator("main").text_content()
    shown = {"sweep": answered.printed, "show": command("show", "night"), "card": card, "report": page}
    # Sentences of the card begin with a capital letter.
    missing = [(where, line) for where, text in shown.items() for line in lines if line[1:] not in text]
    assert missing == []


def test_the_report_complains_of_nothing_answers_first_and_has_every_chart(report: OpenedReport) -> None:
    report.check_first_screen(("95 % interval", "over seeds", "trials finished", "g CO2eq", "finals/trials"))
    report.check_charts(SECTIONS)


def test_the_report_draws_the_scores_that_are_stored(answered: Answered, report: OpenedReport) -> None:
    page = report.page
    number = int(page.locator(f"#finals {CHARTS}").get_attribute("data-chart"))
    figure = json.loads(page.locator("#figures").text_content())[number]
    drawn = {
        point: x
        for trace in figure["data"]
        for point, x in zip(trace.get("customdata") or (), trace["x"], strict=False)
    }
    assert drawn == {
        f"trial {each.trial}, seed {score.seed}": score.score
        for each in answered.verdict.finalists
        for score in each.scores
    }
    table = page.locator("#ranking").text_content()
    assert [trial.number for trial in answered.record.trials if f"{trial.value:.4f}" not in table] == []
