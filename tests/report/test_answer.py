"""What is said about a study's results: the winning option and trial, by how much, how certain."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.cli import main
from embedsweep.files import SWEEPS
from embedsweep.report.answer import answer
from embedsweep.report.description import description
from embedsweep.report.export import tree_of
from embedsweep.report.loaded_study import LoadedStudy
from embedsweep.report.results import study_results
from embedsweep.report.status import result_fields, status_line, study_status
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import Outcome, finish, keep_scores, study_of, study_with_finals


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def of_losses(*outcomes: Outcome) -> Study:
    """Trials of mnrl, mnrl, cosent, cosent, cosine, cosine."""
    words = ["study.name=losses", "loss=mnrl,cosent,cosine", "optimizer.lr=1e-4,2e-4"]
    return finish(open_study(pass_sweep(words)), outcomes)


@pytest.mark.parametrize(
    ("noise", "verdict"),
    [
        (0.6, "certain as far as dev items go: 95 % interval of the difference 0."),
        (0.2, "not certain: 95 % interval of the difference 0.0000"),
    ],
)
def test_the_best_option_is_named_with_the_next_one_and_how_certain_it_is(noise: float, verdict: str) -> None:
    study = of_losses(0.7, 0.6, 0.65, 0.5, "no", "pruned")
    keep_scores(study, (0.2, 0.9, noise, 0.9))
    (line,) = (line for line in answer(study_results(study)) if line.startswith("best loss"))
    assert line.startswith(f"best loss: mnrl; the best trial of cosent, 2, is 0.0500 below it ({verdict}")


def test_the_best_trial_of_an_option_is_compared_even_if_many_others_are_better() -> None:
    rates = ",".join(f"{number + 1}e-5" for number in range(11))
    study = open_study(pass_sweep(["study.name=many", "loss=mnrl,cosent", f"optimizer.lr={rates}"]))
    finish(study, [*(0.9 - number / 100 for number in range(11)), *(0.5 - number / 100 for number in range(11))])
    keep_scores(study, [0.2 + number / 10 for number in range(22)])
    results = study_results(study)
    assert list(results.differences) == [*range(1, 10), 11]
    assert any("the best trial of cosent, 11, is 0.4000 below it (certain" in line for line in answer(results))


def test_without_scores_of_items_nothing_is_said_to_be_certain() -> None:
    lines = answer(study_results(of_losses(0.7, 0.6, 0.65, 0.5, "no", "pruned")))
    assert lines[0].startswith("best loss: mnrl; the best trial of cosent, 2, is 0.0500 below it (how certain that is")
    assert lines[1] == "trial 0 is not compared with trials 1, 2 and 3: the scores of its single items are not here"
    assert len(lines) == 3


def test_trials_that_cannot_be_told_apart_are_named() -> None:
    study = study_of(0.7, 0.65, 0.6, 0.5)
    keep_scores(study, (0.2, 0.2, 0.2, 0.9))
    line = "cannot be told apart from trial 0: trials 1 and 2; on other dev items one of them might be the best"
    assert answer(study_results(study))[0].startswith(line)


def test_beside_a_verdict_of_finals_what_single_seeds_say_is_of_the_search() -> None:
    study = study_with_finals()
    for noises, line in (
        ((0.2, 0.2), "cannot be told apart from trial 1"),
        ((0.9, 0.2), "trial 1 is better than trial"),
    ):
        keep_scores(study, noises)
        assert [each.startswith(f"in the search, {line}") for each in answer(study_results(study))].count(True) == 1


def test_an_option_without_another_that_is_complete_has_nothing_to_be_compared_with() -> None:
    lines = answer(study_results(of_losses(0.7, 0.6, "no", "no", "no", "no")))
    assert lines[0] == "best loss: mnrl; cosent and cosine have no complete trial"
    assert answer(study_results(study_of("no", name="failed"))) == []


def test_a_study_that_stopped_says_why_and_whether_the_last_improvement_is_certain() -> None:
    words = ("study.n_trials=6", "study.patience=2", "study.min_delta=0.001")
    study = study_of(0.6, 0.7, 0.65, "pruned", words=words, rates=6)
    keep_scores(study, (0.9, 0.2, 0.5))
    lines = [line for line in answer(study_results(study)) if line.startswith("stopped")]
    assert len(lines) == 1
    assert lines[0].startswith(
        "stopped by study.patience=2: as many finished trials brought no improvement of more than 0.001; the last was "
        "trial 1, 0.1000 above trial 0 (certain as far as dev items go: 95 % interval of the difference 0."
    )


def test_a_stopped_study_looks_the_same_wherever_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    study = study_of(0.6, 0.5, name="calm", words=("study.n_trials=6", "study.patience=1"), rates=6)
    results = study_results(study)
    for tree in (tree_of(results), result_fields(study, "embedsweep train")):
        assert (tree["n_trials"], tree["n_expected"], tree["stopped"]) == (6, 2, True)
    said = "2 of 6 trials finished, stopped by study.patience"
    assert f"; {said}." in description(results, "embedsweep train", None, 5000, with_answer=False)
    assert f": {said}, in " in repr(LoadedStudy.read("calm", SWEEPS, None))
    assert main(["show", "calm"]) == 0
    assert capsys.readouterr().out.startswith(f"{said}; complete\n")
    assert status_line(study_status(study), None, None).startswith("2/2: 2 complete")


def test_a_study_that_never_improved_on_its_first_trial_says_so() -> None:
    study = study_of(0.6, 0.5, words=("study.n_trials=6", "study.patience=1"), rates=6)
    said = "stopped by study.patience=1: as many finished trials brought no improvement"
    assert said in answer(study_results(study))
