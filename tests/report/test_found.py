"""The card's section on how a study found its answer, of studies of known outcomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedsweep.config.answer import Answer, Soup
from embedsweep.config.study import DiscreteAxis
from embedsweep.report.costs import study_costs
from embedsweep.report.found import found_section
from embedsweep.report.results import study_results
from embedsweep.study.study import Study
from tests.report.studies import study_of, study_with_finals


@pytest.fixture(autouse=True)
def _workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def found(study: Study) -> str:
    return " ".join(found_section(study_results(study)).split())


def test_space_trials_and_selection_are_told() -> None:
    text = found(study_with_finals())
    assert "a study of 3 trials (2 complete, 1 failed) of `dev/spearman_cosine`, with sampler `exhaustive`" in text
    assert "| `optimizer.lr` | `0.0001, 0.0002, 0.0003, 0.0004` |" in text
    assert (
        "trial 1 has the best `dev/spearman_cosine`, 0.7000 with one seed (95 % interval over dev items 0.6500" in text
    )


def test_finals_are_told_with_every_finalist_and_the_looks_at_test() -> None:
    text = found(study_with_finals())
    assert "- Finals, trial 1: mean dev/spearman_cosine 0.6100 ± 0.0141 over 2 seeds" in text
    assert "- Finals, trial 0: mean dev/spearman_cosine 0.5100" in text
    assert "Test was looked at once: finals of trial 1." in text


def test_the_cost_is_that_of_the_whole_sweep_beside_that_of_the_one_training() -> None:
    study = study_with_finals()
    # Two trials of 2 g and 10 Wh, four trainings of the finals of 3 g and 20 Wh.
    assert sum(cost.co2eq_kg or 0 for cost in study_costs(study_results(study)).all) == pytest.approx(0.016)
    text = found(study)
    assert "Cost of all trials and of the finals (4 trainings): 10s, 16 g CO2eq, 100 Wh" in text
    assert "Of that, training this model took 3 g CO2eq, 20 Wh." in text


def test_without_finals_it_is_said_that_other_seeds_are_not_known() -> None:
    text = found(study_of(0.5, 0.7, name="alone"))
    assert "No finals were held: whether it would win again with other seeds is not known." in text
    assert "Test was not looked at in this study." in text
    assert "training this model took 2 g CO2eq, 10 Wh" in text
    assert "Its finals, with other seeds, are not over" in found(study_with_finals(is_over=False))


def test_finals_that_are_over_without_a_score_are_not_said_to_go_on() -> None:
    study = study_with_finals(is_over=False)
    study.set_answer(Answer(unknown={"verdict": "no training of the finals that counts has a score"}))
    text = found(study)
    assert "are not over" not in text
    assert "- Finals: no training of the finals that counts has a score." in text


def test_no_path_of_what_is_left_out_of_a_soup_gets_into_the_card() -> None:
    study = study_with_finals()
    left_out = {3: "as model.path is /home/me/encoder, not /home/me/other as in final 0"}
    soup = Soup((0, 1), (0,), (0.7, 0.6), left_out, {}, None, {}, "fewer than two models can be averaged")
    study.set_answer(replace(study.answer or Answer(), soup=soup))
    assert "- Left out of the soup: final 3, as model.path is encoder, not other as in final 0." in found(study)


def test_no_secret_no_path_and_no_markup_of_a_value_gets_into_the_card() -> None:
    study = study_of(0.5)
    choices = ("/home/me/a|b", "token=abcdef123456", "<b>")
    study.plan = replace(study.plan, axes=(DiscreteAxis("data.path", choices, {}),))
    text = found_section(replace(study_results(study_of(0.5, name="other")), study=study))
    (row,) = (line for line in text.splitlines() if "data.path" in line)
    assert row.count("|") == 3
    assert not any(word in row for word in ("/home/me", "abcdef123456", "<b>"))
