"""Finals that are killed, or run by two commands at once, lose nothing and double nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from embedsweep.study.record import StudyRecord
from tests.faults import studies
from tests.faults.studies import PAIRS, Study, in_short

WORDS = (
    "loss=cosent,mnrl",
    *PAIRS,
    "data.limit=64",
    "model=tiny",
    "trainer.device=cpu",
    "trainer.max_steps=4",
    "trainer.eval_every=2",
    "evaluation.before=false",
    "study.name=night",
    "study.finals.top=2",
    "study.finals.seeds=2",
)


def attributes(folder: Path, url: str | None) -> dict[str, Any]:
    with studies.reading(folder, url) as record:
        return dict(record._study.user_attrs)


def check(folder: Path, url: str | None) -> None:
    """Check that the study and its finals are complete, each trial with one run, and test was looked at once."""
    with studies.reading(folder, url) as record:
        check_record(folder, url, record)


def check_record(folder: Path, url: str | None, record: StudyRecord) -> None:
    finals = record.finals
    assert finals is not None
    assert [trial.state.name for trial in record.trials] == ["COMPLETE"] * 2
    assert [trial.state.name for trial in finals.trials] == ["COMPLETE"] * 4
    points = [finals.point_of(trial) for trial in finals.trials]
    assert len({(point.finalist, point.seed) for point in points if point is not None}) == 4
    assert record.is_answered
    assert record.answer is not None
    assert record.answer.verdict is not None
    assert [look.what for look in record.looks] == [f"finals of trial {record.answer.verdict.best}"]
    assert record.finals_test is not None
    assert len(record.finals_test.scores) == 2
    study = Study(folder, url)
    kinds = [run.data.tags["embedsweep.kind"] for run in study.runs]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {"study": 1, "trial": 2, "final": 4}
    assert {run.info.status for run in study.runs} == {"FINISHED"}
    by_number = {run.data.tags["embedsweep.trial"]: run for run in study.runs if "embedsweep.finalist" in run.data.tags}
    for trial in finals.trials:
        assert by_number[str(trial.number)].data.metrics["best/spearman_cosine"] == trial.value
    tested = {number for number, run in by_number.items() if "test/spearman_cosine" in run.data.metrics}
    assert tested == {str(number) for number in record.finals_test.scores}
    models = [trial.number for trial in finals.trials if (finals.trial_folder(trial.number) / "model").is_dir()]
    assert models == [record.finals_test.kept]


@in_short
def test_finals_that_are_killed_are_resumed_with_one_answer_and_one_look_at_test(
    tmp_path: Path, url: str | None
) -> None:
    words = (*WORDS, *studies.storage_words(url))
    for place in ("final", "answer", "look"):
        assert studies.run(tmp_path, words, ("kill", place)).code == -9, place
    again = studies.run(tmp_path, words)
    assert again.code == 0, again.output
    check(tmp_path, url)
    before = attributes(tmp_path, url)
    assert studies.run(tmp_path, ("study.name=night", *studies.storage_words(url))).code == 0
    assert attributes(tmp_path, url) == before


@pytest.mark.slow
def test_two_commands_with_workers_share_the_finals(tmp_path: Path) -> None:
    words = (*WORDS, "workers=local", "workers.count=1")
    commands = [studies.start(tmp_path, words), studies.start(tmp_path, words)]
    ended = [studies.finish(command) for command in commands]
    assert [each.code for each in ended] == [0, 0], [each.output for each in ended]
    check(tmp_path, None)
