"""What MLflow's pages show of a study is kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from embedsweep.commands.study_page import StudyPage
from embedsweep.tracking.runs import Tracker
from tests.report.studies import finish, study_of

NOTE, VIEW = "mlflow.note.content", "mlflow.sharedViewState.embedsweep"


class Recorded:
    """A tracker that keeps what is recorded of the study."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.tags: dict[str, str] = {}
        self.tables: dict[str, Mapping[str, Any]] = {}

    def experiment_id(self, _: str) -> str | None:
        return None

    def study_run(self, _: str) -> Recorded:
        return self

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags |= tags

    def set_experiment_tags(self, tags: Mapping[str, str]) -> None:
        self.notes += [value for name, value in tags.items() if name == NOTE]
        self.tags |= {name: value for name, value in tags.items() if name == VIEW}

    def log_table(self, name: str, table: Mapping[str, Any]) -> None:
        self.tables[name] = table


def test_it_is_updated_after_trials_but_not_more_often_than_every_ten_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    study, recorded = study_of(words=("study.n_trials=4",), rates=4), Recorded()
    page = StudyPage(study, cast("Tracker", recorded), "parent", "embedsweep train")
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
