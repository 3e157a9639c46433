"""What MLflow's pages say of a study."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.report.description import best_tags, description, escaped, trials_table
from embedsweep.report.results import StudyResults, study_results
from tests.report.studies import study_of, study_with_finals


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def results() -> StudyResults:
    """Of three trials that ended and one that is left."""
    study = study_of(0.5, 0.75, "no | luck", words=("loss=cosent", "study.n_trials=4"), rates=4)
    return study_results(study)


def _described(results: StudyResults, experiment_id: str | None = "7", longest: int = 7900) -> str:
    return description(results, "python train.py", experiment_id, longest, with_answer=False)


def test_the_first_line_is_the_answer_so_far(results: StudyResults) -> None:
    first = _described(results).splitlines()[0]
    assert first == ("**Best so far: trial 1, dev/spearman&#95;cosine 0.7500** (lr=0.0002); 3 of 4 trials finished.")


def test_question_commands_ranking_and_links_are_there(results: StudyResults) -> None:
    text = _described(results)
    for part in (
        "[All trials, the best first](#/experiments/7/runs?workflowType=machine_learning&viewStateShareKey=embedsweep)",
        "again: ` python train.py loss=cosent optimizer.lr=0.0002 `",
        "` python train.py -m study.name=ranked `",
        "| 1 | lr=0.0002 | 0.7500 |",
        "Which of these gives the highest dev/spearman&#95;cosine?\n\n- optimizer.lr: 0.0001,0.0002,0.0003,0.0004",
        "The same for all trials: loss=cosent",
    ):
        assert part in text


def test_without_a_complete_trial_the_question_is_asked() -> None:
    text = _described(study_results(study_of(words=("study.n_trials=2",), rates=2)))
    assert text.startswith("No trial is complete yet; 0 of 2 trials finished.")
    assert "Which of these" in text
    assert "again:" not in text


def test_a_description_is_never_too_long(results: StudyResults) -> None:
    whole = _described(results)
    for longest in (len(whole) - 1, 300, 20):
        text = _described(results, longest=longest)
        assert len(text) <= longest
        assert text[:10] == whole[:10]


def test_nothing_from_the_data_means_anything_in_markdown_or_html() -> None:
    assert escaped("a|b\n<img src=x> *c* _d_ `e` [f](g) &amp; #1") == (
        "a&#124;b &lt;img src=x&gt; &#42;c&#42; &#95;d&#95; &#96;e&#96; &#91;f&#93;(g) &amp;amp; &#35;1"
    )


def test_a_secret_is_masked_before_its_characters_are_escaped(results: StudyResults) -> None:
    token = "hf_" + "ab12" * 8
    assert escaped(f"model.path={token}") == "model.path=&#42;&#42;&#42;"
    row = replace(results.rows[0], values={"model.path": token})
    assert trials_table(replace(results, rows=(row,), ranked=(row,)))["model.path"] == ["***"]


def test_the_best_trial_is_named_with_its_command(results: StudyResults) -> None:
    assert best_tags(results, "embedsweep train") == {
        "embedsweep.best_trial": "1",
        "embedsweep.best_run": "",
        "embedsweep.best_command": "embedsweep train loss=cosent optimizer.lr=0.0002",
    }
    assert best_tags(replace(results, best=None), "embedsweep train") == {}


def test_with_finals_the_first_line_says_what_they_found_and_a_winner_that_is_none_any_more_goes() -> None:
    study = study_with_finals(is_over=False)
    first = _described(study_results(study)).splitlines()[0]
    assert first.startswith("**Best so far: trial 1, ")
    study = study_with_finals(name="over")
    assert study.answer is not None
    assert study.answer.verdict is not None
    assert "; finals: no winner, the best mean is that of trial 1; 3 of 3" in _described(study_results(study))
    assert best_tags(study_results(study), "e")["embedsweep.winner"] == ""
    study.set_answer(replace(study.answer, verdict=replace(study.answer.verdict, winner=1)))
    assert "; finals: winner trial 1; 3 of 3" in _described(study_results(study))
    assert best_tags(study_results(study), "e")["embedsweep.winner"] == "1"


def test_the_table_has_every_trial_and_the_best_first(results: StudyResults) -> None:
    table = trials_table(results)
    assert table["rank"] == [1, 2, None]
    assert table["trial"] == [1, 0, 2]
    assert table["state"] == ["COMPLETE", "COMPLETE", "FAIL"]
    assert table["dev/spearman_cosine"] == [0.75, 0.5, None]
    assert table["optimizer.lr"] == [0.0002, 0.0001, 0.0003]
    assert table["reason"] == [None, None, "no | luck"]
    assert {len(column) for column in table.values()} == {3}
