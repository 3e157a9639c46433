"""``study.keep``: a trial whose score on a watched benchmark fell too far is never the best, and samplers know."""

from __future__ import annotations

import html
import io
from dataclasses import replace
from pathlib import Path

import pytest
from optuna.trial import TrialState
from rich.console import Console

from embedsweep.commands.models import resolve_model
from embedsweep.config.compose import open_composer
from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.study import KeepConfig, plan_differences, study_name
from embedsweep.errors import ConfigError, TrialError
from embedsweep.report.answer import answer
from embedsweep.report.description import description
from embedsweep.report.difference import difference
from embedsweep.report.export import tree_of
from embedsweep.report.ranking import print_best, print_ranking
from embedsweep.report.results import study_results
from embedsweep.report.status import study_status
from embedsweep.study.keep import constraints_of, forgets_text, forgotten, is_kept, keeps_so_far
from embedsweep.study.opening import open_study, place
from embedsweep.study.pruning import PRUNED
from embedsweep.study.repair import StudyRepair
from embedsweep.study.services import frozen_attributes
from embedsweep.study.study import Study
from embedsweep.validation.sweep import Sweep, pass_sweep
from tests.report.studies import Outcome, finish, result, study_of

SCORE = "dev/demo-dev/spearman_cosine"
KEEP = KeepConfig("demo-dev", "spearman_cosine", 0.01)
WORDS = (
    "evaluation.watch=[demo-dev]",
    "study.keep=[{benchmark:demo-dev,metric:spearman_cosine,drop_at_most:0.01}]",
)


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def watched(objective: float, after: float, *, pruned: bool = False) -> TrialResult:
    """A result whose watched score was 0.5 before training."""
    made = result(objective, pruned=pruned)
    return replace(made, dev={**made.dev, SCORE: after}, before={"dev/spearman_cosine": 0.3, SCORE: 0.5})


def kept(*outcomes: Outcome, name: str = "kept", words: tuple[str, ...] = WORDS) -> Study:
    return study_of(*outcomes, name=name, words=words, rates=max(4, len(outcomes)))


FORGETFUL = (watched(0.6, 0.5), watched(0.7, 0.49), watched(0.9, 0.4787), "no", watched(0.99, 0.1, pruned=True))
"""Trial 1 loses just what it may, and is the best; 2 has the best score and forgets."""


@pytest.mark.parametrize(
    ("after", "constraint", "text"),
    [
        (0.52, -0.03, ""),
        (0.5, -0.01, ""),
        (0.49, 0.0, ""),  # as much as allowed, though 0.5 - 0.49 is more than 0.01 in binary
        (0.4899, 0.0001, "forgets: demo-dev -0.0101"),
        (0.4787, 0.0113, "forgets: demo-dev -0.0213"),
    ],
)
def test_a_constraint_is_how_much_further_a_score_fell_than_it_may(after: float, constraint: float, text: str) -> None:
    constraints = constraints_of([KEEP], watched(0.7, after))
    assert constraints == {SCORE: pytest.approx(constraint, abs=1e-12)}
    assert forgets_text(forgotten([KEEP], constraints)) == text
    assert constraints_of([KEEP], watched(0.7, after, pruned=True)) == {}


@pytest.mark.parametrize("lacking", [result(0.7), watched(0.7, float("nan")), replace(watched(0.7, 0.5), before={})])
def test_a_score_that_is_not_known_fails_the_trial_for_good(lacking: TrialResult) -> None:
    with pytest.raises(TrialError, match=f"{SCORE} is not known before and after training") as raised:
        constraints_of([KEEP], lacking)
    assert raised.value.fails_again
    study = kept(words=(*WORDS, "study.n_trials=1"))
    trial = study.ask()
    assert trial is not None
    with pytest.raises(TrialError):
        study.complete(trial, lacking)
    assert study.holds(trial)


def test_a_trial_that_forgets_is_ranked_and_never_the_best() -> None:
    study = kept(*FORGETFUL)
    assert [is_kept(trial) for trial in study.trials] == [True, True, False, True, True]
    assert [trial.constraints for trial in study.trials] == [
        {SCORE: -0.01},
        {SCORE: 0.0},
        {SCORE: 0.0113},
        {},
        {},
    ]
    assert study.best is not None
    assert study.best.number == study._study.best_trial.number == 1
    assert study_status(study).best == (1, 0.7)
    results = study_results(study)
    assert [row.number for row in results.ranked] == [2, 1, 0]
    assert [row.reason for row in results.rows[:4]] == [None, None, "forgets: demo-dev -0.0213", "no"]
    assert results.rows[2].forgets == {"demo-dev/spearman_cosine": pytest.approx(-0.0213)}
    assert (results.best, list(results.differences)) == (results.rows[1], [0])
    tree = tree_of(results)
    assert (tree["best"], tree["trials"][2]["reason"]) == (1, "forgets: demo-dev -0.0213")
    assert [trial["forgets"] for trial in tree["trials"]] == [{}, {}, dict(results.rows[2].forgets), {}, {}]
    told = "trial 2 forgets demo-dev spearman_cosine by more than 0.01 and cannot be the best (study.keep); "
    assert told + "it is 0.2000 above the best trial" in answer(results)
    output = io.StringIO()
    print_ranking(Console(file=output, width=200), results)
    first, second = (line for line in output.getvalue().splitlines() if line.startswith(("1 ", "2 ")))
    assert first.endswith("lr=0.0003 (forgets: demo-dev -0.0213)")
    assert second.endswith("lr=0.0002")


def test_what_a_score_to_keep_lacks_is_named() -> None:
    with pytest.raises(ConfigError) as error:
        pass_sweep(["loss=mnrl,cosent", WORDS[0], "study.keep=[{benchmark:demo-dev,metric:spearman_cosine}]"])
    (problem,) = error.value.problems
    assert str(problem) == "study.keep.0.drop_at_most: is missing: each has benchmark, metric, drop_at_most"


def test_two_trials_are_told_apart_by_what_they_forget() -> None:
    lines = difference(kept(*FORGETFUL), 1, 2)
    assert [SCORE, "0.4900", "0.4787"] in [line.split() for line in lines]
    assert ["forgets", "-", "demo-dev", "-0.0213"] in [line.split() for line in lines]
    assert "trial 2 forgets too much and cannot be the best (study.keep)" in lines
    assert not any("forget" in line for line in difference(kept(*FORGETFUL, name="both"), 0, 1))


def test_a_trial_that_forgets_is_not_on_the_pareto_front() -> None:
    objective = "study.objective=[dev/spearman_cosine,emissions/co2eq_kg]"
    study = kept(*FORGETFUL[:3], words=(*WORDS, objective))
    assert study.front == {1}
    assert study.best is not None
    assert study.best.number == 1


def test_the_best_trial_of_an_option_is_one_that_may_be_the_best() -> None:
    words = ["study.name=losses", "loss=mnrl,cosent,angle", "optimizer.lr=1e-4,2e-4", *WORDS]
    outcomes = (watched(0.6, 0.5), watched(0.9, 0.4), watched(0.7, 0.4), watched(0.8, 0.4), "no")
    study = finish(open_study(pass_sweep(words)), outcomes)
    mnrl, cosent, angle = study_results(study).groups["loss"]
    assert (mnrl.option, mnrl.best_trial, mnrl.best, mnrl.median) == ("mnrl", 0, 0.6, 0.75)
    assert (cosent.option, cosent.best_trial, cosent.best, cosent.complete) == ("cosent", None, None, 2)
    told = "best loss: mnrl; cosent has no trial that may be the best (study.keep); angle has no complete trial"
    assert (angle.best_trial, angle.complete) == (None, 0)
    assert told in answer(study_results(study))


def test_where_every_trial_forgets_there_is_no_best_and_it_is_said() -> None:
    study = kept(watched(0.7, 0.4), watched(0.6, 0.3))
    why = "no trial is the best: each complete one forgets demo-dev spearman_cosine by more than 0.01 (study.keep)"
    assert (study.best, study.why_no_best, study.is_complete) == (None, why, True)
    results = study_results(study)
    assert (results.best, results.differences, tree_of(results)["best"]) == (None, {}, None)
    output = io.StringIO()
    print_best(Console(file=output, width=200), results, "embedsweep train")
    assert output.getvalue().splitlines()[0] == why
    shown = description(results, "embedsweep train", None, 5000, with_answer=True)
    assert html.unescape(shown).startswith(f"N{why[1:]}; 2 of 2 trials finished.")
    with open_composer() as composer, pytest.raises(ConfigError, match="kept: has no best model: no trial is the best"):
        resolve_model("kept", composer)


def test_a_trial_that_reuses_the_scores_of_one_that_forgets_forgets_too() -> None:
    study = kept(*FORGETFUL[:3], words=(*WORDS, "study.n_trials=4"))
    trial = study.ask()
    assert trial is not None
    study.reuse(trial, study.trials[2], None)
    assert study.trials[3].constraints == study.trials[2].constraints == {SCORE: 0.0113}


def test_a_trial_whose_worker_was_killed_before_it_told_keeps_what_was_set() -> None:
    study = kept(words=(*WORDS, "study.n_trials=1"))
    trial = study.ask()
    assert trial is not None
    study._open[0].set_constraint(SCORE, 0.5)
    study.complete(trial, watched(0.7, 0.5))
    assert (study.trials[0].state, study.trials[0].constraints) == (TrialState.COMPLETE, {SCORE: 0.5})


def test_a_repair_brings_back_what_trials_forget() -> None:
    study = kept(*FORGETFUL)
    constraints = [trial.constraints for trial in study.trials]
    (study.folder / "journal.log").unlink()
    sweep = pass_sweep(["study.name=kept"])
    for finding in StudyRepair(*place(sweep), frozen_attributes(sweep)).findings():
        assert finding.act is not None
        finding.act()
    repaired = open_study(sweep)
    assert [trial.constraints for trial in repaired.trials] == constraints
    assert repaired.plan == study.plan


@pytest.mark.parametrize(
    ("outcomes", "first"), [(FORGETFUL, 2e-4), ((watched(0.9, 0.4),), "forgets more than its study.keep allows")]
)
def test_a_warm_start_takes_the_best_trial_that_may_be(outcomes: tuple[Outcome, ...], first: float | str) -> None:
    kept(*outcomes)
    words = ["study.name=second", "optimizer.lr=interval(1e-5,1e-2)", "study.n_trials=2", "study.warm_start=kept"]
    if isinstance(first, str):
        with pytest.raises(ConfigError, match=first):
            open_study(pass_sweep(words))
        return
    trial = open_study(pass_sweep(words)).ask()
    assert trial is not None
    assert trial.params == {"optimizer.lr": first}


def test_a_warm_start_from_several_objectives_takes_the_best_by_dev() -> None:
    cheap = result(0.7, co2eq_kg=0.001)
    objective = "study.objective=[emissions/co2eq_kg,dev/spearman_cosine]"
    study_of(result(0.6), cheap, result(0.5), name="several", words=(objective,))
    words = ["study.name=second", "optimizer.lr=interval(1e-5,1e-2)", "study.n_trials=2", "study.warm_start=several"]
    trial = open_study(pass_sweep(words)).ask()
    assert trial is not None
    assert trial.params == {"optimizer.lr": 2e-4}


@pytest.mark.parametrize("pruner", ["successive_halving", "hyperband", "median", "wilcoxon"])
def test_a_trial_that_keeps_is_not_pruned_because_of_trials_that_forget(pruner: str) -> None:
    """Trials that forget have better scores; each rung has the same one, and of two that keep the better is second."""
    pruning = ("study.pruning.reduction_factor=2", "study.pruning.n_startup_trials=1")
    words = (*WORDS, f"study.pruner={pruner}", *pruning, "study.n_trials=12")
    study = study_of(name="pruned", words=words, rates=12)
    pruned = []
    for number in range(12):
        forgets, value = number % 2 == 0, 0.9 if number % 2 == 0 else 0.5 + number / 100
        trial = study.ask()
        assert trial is not None
        result = watched(value, 0.4 if forgets else 0.5)
        decisions = [study.report(trial, step, result.dev, 80, keeps=not forgets) for step in (10, 20, 40, 80)]
        if Decision.PRUNE in decisions:
            pruned.append(number)
        study.complete(trial, replace(result, pruned=Decision.PRUNE in decisions))
    assert not [number for number in pruned if number % 2]
    assert study.best is not None
    assert study.best.number == 11


@pytest.mark.parametrize(("keeps", "reason"), [(True, "of 2 trials there"), (False, "of 3 trials there")])
def test_a_trial_that_keeps_is_pruned_among_those_that_keep_and_one_that_forgets_among_all(
    keeps: bool, reason: str
) -> None:
    study = kept(words=(*WORDS, "study.pruner=successive_halving", "study.n_trials=3"))
    for value, is_kept_so_far, expected in ((0.9, False, None), (0.6, True, None), (0.5, keeps, reason)):
        trial = study.ask()
        assert trial is not None
        decision = study.report(trial, 10, watched(value, 0.5).dev, 80, keeps=is_kept_so_far)
        assert (decision is Decision.PRUNE) is (expected is not None)
    assert reason in study.trials[2].user_attrs[PRUNED]


@pytest.mark.parametrize(("after", "keeps"), [(0.49, True), (0.4899, False), (float("nan"), False)])
def test_a_running_trial_keeps_as_its_result_would(after: float, keeps: bool) -> None:
    running = watched(0.7, after)
    assert keeps_so_far([KEEP], running.before, running.dev) is keeps
    assert keeps_so_far([], {}, running.dev)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_samplers_that_understand_constraints_avoid_what_forgets(sampler: str) -> None:
    """The objective rises with the rate, and rates above 1e-4 forget."""

    def rates(name: str, *words: str) -> list[float]:
        searched = ["optimizer.lr=tag(log,interval(1e-6,1e-2))", f"study.sampler={sampler}", "study.n_trials=30"]
        study = open_study(pass_sweep([f"study.name={name}", *searched, *words]))
        while (trial := study.ask()) is not None:
            rate = float(str(trial.params["optimizer.lr"]))
            study.complete(trial, watched(rate, 0.5 if rate <= 1e-4 else 0.3))
        return [trial.params["optimizer.lr"] for trial in study.trials]

    without, with_keep = (sum(rate > 1e-4 for rate in rates(*words)[15:]) for words in (("free",), ("kept", *WORDS)))
    assert with_keep < without


def checked(*words: str) -> Sweep:
    return pass_sweep(["loss=mnrl,cosent", *words])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study.keep=[{benchmark:demo-dev,metric:spearman_cosine}]"], "study.keep.0.drop_at_most: is missing"),
        ([WORDS[1].replace("0.01", "-1")], "study.keep.0.drop_at_most: must be a number of at least 0, but got -1"),
        ([WORDS[1].replace("demo-dev", "demo-test")], "demo-test is a test benchmark, and dev selects"),
        ([WORDS[1].replace("demo-dev", "demo")], "study.keep: demo: no such benchmark (did you mean demo-dev?)"),
        ([WORDS[1]], "study.keep: demo-dev is not watched: add it to evaluation.watch: 'evaluation.watch=[demo-dev]'"),
        ([WORDS[0], WORDS[1].replace("cosine", "cos")], "demo-dev has no metric spearman_cos (did you mean"),
        ([*WORDS, "evaluation.before=false"], "study.keep: compares with the untrained model, which evaluation.before"),
        ([WORDS[0], f"study.keep=[{','.join(2 * [WORDS[1][12:-1]])}]"], "names demo-dev spearman_cosine twice"),
        (["study.keep=demo-dev"], "study.keep: must be a list of sections, but got 'demo-dev'"),
    ],
)
def test_what_cannot_be_kept_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        checked(*words)
    assert message in str(raised.value)


def test_what_is_kept_is_part_of_the_plan_and_of_its_name() -> None:
    free, watching, keeping = (checked(*words).plan for words in ((), WORDS[:1], WORDS))
    assert free is not None
    assert watching is not None
    assert keeping is not None
    assert study_name(free) == "loss-ad07fc5f"
    assert len({study_name(free), study_name(watching), study_name(keeping)}) == 3
    assert [line.partition(" ")[0] for line in plan_differences(watching, keeping)] == ["keep"]
    open_study(checked("study.name=here", *WORDS))
    with pytest.raises(ConfigError, match=r"study.keep: is \[.*demo-dev.*\] in this study and cannot be changed to"):
        open_study(pass_sweep(["study.name=here", "study.keep=[]"]))
