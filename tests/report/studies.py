"""Studies of known outcomes, stored as real ones are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from embedsweep.config.answer import Answer, Comparison, Finalist, FinalsTest, SeedScore, Verdict
from embedsweep.config.result import Emissions, Interval, TrialResult
from embedsweep.evaluation.scores import ItemScores, write_scores
from embedsweep.study.finals import open_finals
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests.configs import DEV_METRICS

COST = Emissions(0.002, 0.01, 1.0, "world average", ())
Outcome = float | str | TrialResult


def result(
    objective: float, *, pruned: bool = False, interval: Interval | None = None, steps: int = 1, co2eq_kg: float = 0.002
) -> TrialResult:
    dev = dict.fromkeys(DEV_METRICS, objective)
    cost = dataclasses.replace(COST, co2eq_kg=co2eq_kg)
    return TrialResult(objective, dev, {}, {}, {}, 1, steps, cost, pruned, None, None, interval=interval)


def finish(study: Study, outcomes: Sequence[Outcome]) -> Study:
    """Run trials that end so: a result, a value, ``pruned``, or a reason to fail."""
    for outcome in outcomes:
        trial = study.ask()
        assert trial is not None
        if isinstance(outcome, TrialResult):
            study.complete(trial, outcome)
        elif isinstance(outcome, float):
            study.complete(trial, result(outcome))
        elif outcome == "pruned":
            study.complete(trial, result(0.99, pruned=True))
        else:
            study.fail(trial, outcome)
    return study


def study_of(*outcomes: Outcome, name: str = "ranked", words: tuple[str, ...] = (), rates: int = 0) -> Study:
    """A study over that many rates, or one for each outcome, whose trials ended so."""
    lr = ",".join(f"{number + 1}e-4" for number in range(rates or len(outcomes) + 1))
    words = (f"study.name={name}", f"optimizer.lr={lr}", f"study.n_trials={len(outcomes)}", *words)
    return finish(open_study(pass_sweep(words)), outcomes)


def study_with_finals(*, is_over: bool = True, name: str = "ranked") -> Study:
    """A study of three trials whose finals have two finalists of two seeds; trial 1 wins them."""
    words = ("study.finals.top=2", "study.finals.seeds=2")
    study = study_of(result(0.6), result(0.7, interval=(0.65, 0.74)), "no", name=name, words=words)
    finals = open_finals(study)
    assert finals is not None
    cost = dataclasses.replace(COST, co2eq_kg=0.003, energy_kwh=0.02, duration_s=2.0)
    scores = {trial: [0.5 + trial / 10, 0.52 + trial / 10] for trial in (0, 1)}
    finish(
        finals, [dataclasses.replace(result(scores[point.finalist].pop()), emissions=cost) for point in finals.points]
    )
    if not is_over:
        return study
    trainings = {
        finalist: tuple(
            SeedScore(trial.number, point.seed, trial.value or 0.0, None)
            for trial in finals.trials
            if (point := finals.point_of(trial)) is not None and point.finalist == finalist
        )
        for finalist in (0, 1)
    }
    finalists = tuple(
        Finalist(trial, trainings[trial], 0.51 + trial / 10, 0.0141, (0.4, 0.6) if trial else None) for trial in (1, 0)
    )
    compared = (Comparison(0, 0.1, 0.3333, (0.04, 0.16), None),)
    verdict = Verdict("dev/spearman_cosine", 2, 0, 0.0167, 1, None, None, (1, 0), 5, finalists, compared, ())
    study.set_answer(Answer(verdict=verdict))
    kept = max(trainings[1], key=lambda each: each.score).number
    test = {each.number: {"test/spearman_cosine": 0.6} for each in trainings[1]}
    study.add_look("finals of trial 1")
    study.set_finals_test(FinalsTest(1, kept, test, {}))
    return study


def scored_items(noise: float, *, n_items: int = 200, seed: int = 3) -> ItemScores:
    """Scores of the same items, the further from the gold scores the larger ``noise`` is; errors differ by ``seed``."""
    gold = np.random.default_rng(3).random(n_items)
    errors = np.random.default_rng(seed).normal(0, 1, n_items)
    texts = {"sentence1": [str(number) for number in range(n_items)], "sentence2": ["b"] * n_items}
    return ItemScores({**texts, "gold": gold, "predicted_cosine": gold + noise * errors})


def keep_scores(study: Study, noises: Sequence[float | None]) -> None:
    """Write the scores of the items into the trials' folders, by number; of None there are none here."""
    for number, noise in enumerate(noises):
        if noise is not None:
            write_scores(study.trial_folder(number), scored_items(noise))
