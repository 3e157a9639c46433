"""Finalists, seeds and points of finals, a study of their own in the study's storage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.answer import Answer, TestLook
from embedsweep.config.finals import FinalsConfig
from embedsweep.config.result import TrialResult
from embedsweep.errors import ConfigError
from embedsweep.files import study_names
from embedsweep.report.verdict import what_is_left
from embedsweep.study.finals import expects_finals, open_finals
from embedsweep.study.opening import find_study, open_study
from embedsweep.study.reading import read_study
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.winner import score_complete
from tests.report.studies import Outcome, finish, result, study_of
from tests.study.test_keep import WORDS as KEEP
from tests.study.test_keep import watched

TOP_2 = ("study.finals.top=2", "study.finals.seeds=2")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def finals_of(study: Study) -> Study:
    finals = open_finals(study)
    assert finals is not None
    return finals


def trained(finals: Study) -> list[tuple[int, int]]:
    """Finish all trials of finals; return the finalist and the seed of each, by number."""
    finish(finals, [0.5] * finals.n_left)
    found = [finals.point_of(trial) for trial in finals.trials]
    return [(point.finalist, point.seed) for point in found if point is not None]


def test_no_finals_are_held_before_the_study_is_complete_or_where_none_are_asked_for() -> None:
    assert open_finals(study_of(0.1, 0.3)) is None
    running = study_of(0.1, words=(*TOP_2, "study.n_trials=2"), name="running", rates=3)
    assert open_finals(running) is None
    assert running.finals is None


def test_the_best_configurations_are_trained_with_the_same_other_seeds() -> None:
    study = study_of(0.1, 0.4, 0.3, 0.2, words=TOP_2)
    finals = finals_of(study)
    assert (finals.name, finals.folder, finals.n_trials) == ("ranked/finals", study.folder / "finals", 4)
    points = trained(finals)
    seeds = [seed for finalist, seed in points if finalist == 1]
    assert points == [(1, seeds[0]), (2, seeds[0]), (1, seeds[1]), (2, seeds[1])]
    assert len({*seeds, 42}) == 3
    for trial, (finalist, seed) in zip(finals.trials, points, strict=True):
        config = cell_config(finals.plan, finals.params_of(trial))
        before = cell_config(study.plan, study.params_of(study.trials[finalist]))
        assert config == replace(before, trainer=replace(before.trainer, seed=seed))
    assert finals.is_complete
    assert len(study.trials) == study.n_trials == 4


def test_trials_of_one_configuration_are_one_finalist_of_their_mean() -> None:
    words = ("optimizer.lr=1e-4,2e-4", "trainer.seed=1,2", "study.name=seeds", "study.n_trials=4", *TOP_2)
    # The rate 1e-4 has the best trial, 2e-4 the better mean.
    study = finish(open_study(pass_sweep(words)), [0.50, 0.30, 0.45, 0.44])
    finals = finals_of(study)
    assert [point.finalist for point in finals.points] == [2, 0, 2, 0]
    assert not {point.seed for point in finals.points} & {1, 2}


def test_five_seeds_are_the_first_of_ten_and_a_later_finalist_gets_them_all() -> None:
    study = study_of(0.1, 0.4, 0.3, words=TOP_2, rates=6)
    first = trained(finals_of(study))
    more = open_study(pass_sweep(("study.name=ranked", "study.n_trials=5", "study.finals.seeds=3")))
    finish(more, [0.45, 0.2])
    finals = finals_of(more)
    points = trained(finals)
    assert points[:4] == first
    assert sorted(points) == sorted(
        (finalist, point.seed) for finalist in (1, 2, 3) for point in finals.points[::3][:3]
    )
    assert len(points) == len(set(points)) == 9


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("study.finals.seeds=4", r"study\.finals\.seeds.* is 5 in the finals .* cannot become 4"),
        ("study.finals.top=1", r"study\.finals\.top.* is 2 in the finals .* cannot become 1"),
    ],
)
def test_fewer_seeds_or_finalists_than_the_finals_have_are_refused(word: str, said: str) -> None:
    study = study_of(0.1, 0.4, words=("study.finals.top=2",))
    assert finals_of(study).n_trials == 10
    fewer = pass_sweep(("study.name=ranked", word))
    for opens in (find_study, open_study):  # find_study is what a dry run asks
        with pytest.raises(ConfigError, match=said):
            opens(fewer)
    # What was refused is not what the next command, which names no number, gets.
    assert open_study(pass_sweep(("study.name=ranked",))).finals_config == FinalsConfig(2, 5, soup=False)


def test_finals_that_get_more_seeds_are_not_complete_for_who_read_them_before() -> None:
    study = study_of(0.1, 0.4, words=TOP_2)
    trained(finals_of(study))
    assert study.finals is not None
    assert (study.finals.is_complete, study.is_answered) == (True, False)
    assert finals_of(open_study(pass_sweep(("study.name=ranked", "study.finals.seeds=3")))).n_left == 2
    assert (study.finals.n_trials, study.finals.is_complete) == (6, False)


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ((), FinalsConfig(2, 2, soup=False)),
        (("study.finals.top=3",), FinalsConfig(3, 2, soup=False)),
        (("study.finals.soup=true",), FinalsConfig(2, 2, soup=True)),
        (("study.finals.top=null",), None),
    ],
)
def test_a_later_command_changes_what_it_names(words: tuple[str, ...], asked: FinalsConfig | None) -> None:
    study_of(0.1, words=TOP_2)
    assert open_study(pass_sweep(("study.name=ranked", *words))).finals_config == asked
    assert read_study("ranked").finals_config == asked


@pytest.mark.parametrize("word", ["study.finals.top=0", "study.finals.seeds=1", "study.finals.seeds=21"])
def test_values_out_of_bounds_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        pass_sweep(("study.name=ranked", word))


@pytest.mark.parametrize("key", ["seeds=10", "soup=true"])
@pytest.mark.parametrize("start", ["optimizer.lr=1e-4,2e-4", "study.name=ranked"])
def test_keys_of_finals_that_nobody_asks_for_are_refused(key: str, start: str) -> None:
    study_of(0.1)
    with pytest.raises(ConfigError, match=rf"study.finals.{key.partition('=')[0]}.* add study.finals.top=3"):
        open_study(pass_sweep((start, f"study.finals.{key}")))


def test_keys_of_finals_that_nobody_asks_for_any_more_are_refused() -> None:
    study_of(0.1, words=TOP_2)
    open_study(pass_sweep(("study.name=ranked", "study.finals.top=null")))
    with pytest.raises(ConfigError, match=r"study.finals.seeds.* add study.finals.top=3"):
        open_study(pass_sweep(("study.name=ranked", "study.finals.seeds=10")))


def test_whoever_reads_the_study_finds_its_finals_its_answer_and_the_looks_at_test() -> None:
    study = study_of(0.1, 0.4, words=TOP_2)
    assert (read_study("ranked").finals, read_study("ranked").answer, read_study("ranked").looks) == (None, None, ())
    finals = finish(finals_of(study), [0.5, 0.6, 0.7])
    study.set_answer(Answer(expected_best={1: 0.25, 2: 0.4}))
    study.add_look("trial 1")
    answered = [study.is_answered]
    finish(finals, [0.8])
    study.add_look("finals of trial 1")
    assert [*answered, study.is_answered] == [True, False]
    record = read_study("ranked")
    assert record.finals is not None
    assert [trial.value for trial in record.finals.trials] == [0.5, 0.6, 0.7, 0.8]
    assert record.answer == Answer(expected_best={1: 0.25, 2: 0.4})
    assert record.looks == (TestLook("trial 1", 2, 3), TestLook("finals of trial 1", 2, 4))
    assert study_names() == ["ranked"]


def test_the_look_of_an_older_version_counts() -> None:
    study = study_of(0.1, 0.4)
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.3}, {}, {}, 2, None))
    assert study.looks == (TestLook("trial 1", 2, 0),)


def test_what_failed_or_was_pruned_is_no_finalist() -> None:
    outcomes: list[Outcome] = [0.1, 0.4, "it failed", result(0.9, pruned=True)]
    study = study_of(*outcomes, words=("study.finals.top=5", "study.finals.seeds=2"))
    assert {point.finalist for point in finals_of(study).points} == {0, 1}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        ([watched(0.5, 0.4)], True),  # a trial is left
        ([watched(0.5, 0.4), watched(0.6, 0.4)], False),
        ([watched(0.5, 0.4), watched(0.6, 0.5)], False),
        ([watched(0.5, 0.5), watched(0.6, 0.5)], True),
    ],
)
def test_test_waits_for_finals_unless_of_each_configuration_a_trial_forgets_too_much(
    other: list[TrialResult], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored: list[Study] = []
    monkeypatch.setattr("embedsweep.workers.winner._score_winner", lambda study, *_: scored.append(study))
    seeds = ("optimizer.lr=1e-4,2e-4", "trainer.seed=1,2", "study.name=seeds", "study.n_trials=4")
    study = open_study(pass_sweep([*seeds, *KEEP, *TOP_2]))
    finish(study, [watched(0.7, 0.5), watched(0.9, 0.4), *other])  # the first is the best: it forgets nothing
    assert expects_finals(study) is expected
    score_complete(study, None, "")  # type: ignore[arg-type]  # whoever scores was replaced
    assert scored == ([] if expected else [study])
    if not expected:
        assert open_finals(study) is None
        study.set_answer(Answer())
        assert what_is_left(study) is None
