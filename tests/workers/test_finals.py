"""Real trainings: finals of one recipe name no winner, those of a rate that is too low beside a good one do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.config.answer import Verdict
from embedsweep.study.reading import read_study
from tests.faults.studies import PAIRS

pytestmark = pytest.mark.slow

QUICK = (
    *PAIRS,
    "loss=cosent",
    "model=tiny",
    "trainer.device=cpu",
    "trainer.max_steps=8",
    "trainer.eval_every=0.5",
    "evaluation.before=false",
    "study.finals.top=2",
    "study.finals.seeds=5",
)


def verdict_of(name: str, folder: Path, mlflow_template: Path, *words: str) -> Verdict:
    (folder / "mlruns").mkdir(exist_ok=True)
    shutil.copy(mlflow_template, folder / "mlruns" / "mlflow.db")
    assert main(["train", "-m", f"study.name={name}", *QUICK, *words]) == 0
    answer = read_study(name).answer
    assert answer is not None
    assert answer.verdict is not None
    assert answer.verdict.look == 5
    return answer.verdict


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_no_winner_is_named_where_configurations_differ_only_in_which_rows_come_when(
    tmp_path: Path, mlflow_template: Path
) -> None:
    # Another number of rows is shuffled otherwise; the recipe is the same.
    verdict = verdict_of("same", tmp_path, mlflow_template, "data.limit=120,121,122")
    first, second = ([each.score for each in finalist.scores] for finalist in verdict.finalists)
    assert len(first) == len(second) == 5
    assert first != second
    assert len(set(first)) > 1
    assert verdict.winner is None
    assert set(verdict.group) == {finalist.trial for finalist in verdict.finalists}


def test_a_rate_that_trains_wins_over_one_that_does_not(
    tmp_path: Path, mlflow_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = verdict_of("rates", tmp_path, mlflow_template, "data.limit=128", "optimizer.lr=1e-6,1e-3")
    assert verdict.winner == 1
    assert verdict.comparisons[0].p == pytest.approx(2 / 252)  # all five above all five
    assert "winner: trial 1 differs from trial 0 over seeds" in capsys.readouterr().out
