"""What MLflow's pages show of a study is kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from embedsweep.commands.study_page import StudyPage
from embedsweep.errors import UnreachableError
from embedsweep.report.results import StudyResults, study_results
from embedsweep.study.record import StudyRecord
from embedsweep.tracking.runs import Tracker
from tests.report.studies import finish, study_of

NOTE, VIEW = "mlflow.note.content", "mlflow.sharedViewState.embedsweep"


class Recorded:
    """A tracker that keeps what is recorded of the study."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tags: dict[str, str] = {}
        self.tables: dict[str, Mapping[str, Any]] = {}
        self.files: list[Path] = []
        self.id: str | None = None

    def experiment_id(self, _: str) -> str | None:
        return self.id

    def study_run(self, _: str) -> Recorded:
        return self

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def set_experiment_tags(self, tags: Mapping[str, str]) -> None:
        self.notes += [value for name, value in tags.items() if name == NOTE]
        self.tags |= {name: value for name, value in tags.items() if name == VIEW}

    def log_artifact(self, path: Path, folder: str) -> None:
        assert folder == "report"
        self.files.append(path)

    def log_table(self, name: str, table: Mapping[str, Any]) -> None:
        self.tables[name] = table


def test_it_is_updated_after_trials_but_not_more_often_than_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    study, recorded = study_of(words=("study.n_trials=4",), rates=4), Recorded()
    page = StudyPage(study, cast("Tracker", recorded), "parent", "embedsweep train", pytest.fail)
    page.open()
    assert VIEW in recorded.tags
    assert [note.splitlines()[0] for note in recorded.notes] == ["No trial is complete yet; 0 of 4 trials finished."]
    finish(study, [0.5])
    page.update()
    assert len(recorded.notes) == 1
    now = 110.0
    page.update()
    page.update()
    assert len(recorded.notes) == 2
    assert "trial 0" in recorded.notes[-1]
    assert recorded.tags[NOTE] == recorded.notes[-1]
    finish(study, [0.75])
    assert page.close().best is not None
    assert "trial 1" in recorded.notes[-1]
    assert recorded.tags["embedsweep.best_trial"] == "1"
    assert recorded.tables["ranking.json"]["trial"] == [1, 0]
    assert recorded.files == []  # the study goes on
    finish(study, [0.6, 0.55])
    results = page.close()
    assert recorded.files == [Path("sweeps/ranked/report/index.html")]
    assert recorded.files[0].is_file()
    assert results.kept_differences == dict.fromkeys((2, 3, 0))  # whose scores of single items are not here


def test_an_update_that_takes_long_is_made_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    now = 100.0

    def reading(study: StudyRecord) -> StudyResults:
        nonlocal now
        now += 2
        return study_results(study)

    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr("embedsweep.commands.study_page.study_results", reading)
    recorded = Recorded()
    page = StudyPage(study_of(0.5), cast("Tracker", recorded), "parent", "embedsweep train", pytest.fail)
    page.open()
    now += 99
    page.update()
    assert len(recorded.notes) == 1
    now += 1
    page.update()
    assert len(recorded.notes) == 2


def test_a_description_that_cannot_be_made_is_told_of_once_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now, told, recorded = 100.0, list[str](), Recorded()
    monkeypatch.setattr("time.monotonic", lambda: now)

    def broken(*_: object, **__: object) -> str:
        raise KeyError("loss")

    monkeypatch.setattr("embedsweep.commands.study_page.description", broken)
    page = StudyPage(study_of(0.5), cast("Tracker", recorded), "parent", "embedsweep train", told.append)
    page.open()
    now += 10
    page.update()
    assert page.close().best is not None
    assert told == ["the description of the study in MLflow is not up to date (KeyError: 'loss')"]
    assert recorded.tags["embedsweep.best_trial"] == "0"


def test_a_record_that_cannot_be_kept_ends_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = Recorded()

    def refused(_: object) -> None:
        raise UnreachableError("the records of run 1 cannot be kept")

    monkeypatch.setattr(recorded, "set_tags", refused)
    with pytest.raises(UnreachableError):
        StudyPage(study_of(0.5), cast("Tracker", recorded), "parent", "embedsweep train", pytest.fail).open()


def test_a_description_has_links_once_the_store_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recorded = Recorded()
    page = StudyPage(study_of(0.5), cast("Tracker", recorded), "parent", "embedsweep train", pytest.fail)
    page.open()
    recorded.id = "7"
    page.close()
    assert ["#/experiments/7/runs" in note for note in recorded.notes] == [False, True]
