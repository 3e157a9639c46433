"""The report of a study of 1,000 trials: seconds to write it and to open it in Chromium, and its size."""

from __future__ import annotations

import math
import random
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from tests.browser.pages import find_chromium, open_browser

from benchmarks.figures import Figure, print_figures
from benchmarks.open_study import RESULT
from embedsweep.config.axes import distributions, optuna_params, random_cell
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.evaluation.scores import ItemScores, write_scores
from embedsweep.report.page.build import write_report
from embedsweep.report.results import study_results
from embedsweep.study.opening import open_study
from embedsweep.study.pruning import PRUNED
from embedsweep.study.record import FAILURE, cost_attributes
from embedsweep.study.record import RESULT as RESULT_ATTRIBUTE
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep

TRIALS, STEPS, ITEMS = 1_000, 320, 1_500
WORDS = ("loss=mnrl,cosent,cosine", "search=full", "study.name=thousand", "study.sampler=random")
METRIC = "dev/spearman_cosine"


def fill(study: Study) -> None:
    """Add finished trials: of twenty 12 complete, 7 pruned, 1 failed; the learning rate decides most of the score."""
    source, noise = random.Random(0), np.random.default_rng(0)
    gold = noise.random(ITEMS)
    texts = {"sentence1": [f"sentence {number}" for number in range(ITEMS)], "sentence2": ["another"] * ITEMS}
    after, before = (
        ItemScores({**texts, "gold": gold, "predicted_cosine": _near(gold, by, noise)}) for by in (0.2, 0.9)
    )
    untrained = float(before.statistic(METRIC)(np.ones((1, ITEMS)))[0])
    study._study.add_trials([_trial(study, number, untrained, source, noise) for number in range(TRIALS)])
    best = study.best
    assert best is not None
    write_scores(study.trial_folder(best.number), after)
    write_scores(study.trial_folder(best.number), before, "before")


def _near(gold: Any, by: float, noise: np.random.Generator) -> Any:
    return gold + by * noise.standard_normal(len(gold))


def _trial(
    study: Study, number: int, untrained: float, source: random.Random, noise: np.random.Generator
) -> FrozenTrial:
    axes = study.plan.axes
    params = optuna_params(axes, random_cell(axes, {}, source))
    rate = next(float(value) for name, value in params.items() if name.startswith("optimizer.lr") and value)
    score = 0.8 - 0.05 * (math.log10(rate) + 3) ** 2 + 0.01 * float(noise.standard_normal())
    of_twenty = number % 20
    state = TrialState.COMPLETE if of_twenty < 12 else TrialState.PRUNED if of_twenty < 19 else TrialState.FAIL
    result = _result(score, untrained, state, float(noise.random()))
    attributes: dict[str, Any] = {FAILURE: "the training loss is not finite at step 3"}
    if state is not TrialState.FAIL:
        attributes = {RESULT_ATTRIBUTE: asdict(result), **cost_attributes(result.emissions)}
    if state is TrialState.PRUNED:
        attributes[PRUNED] = f"at step {STEPS // 2} of {STEPS}: not among the best"
    every = distributions(axes)
    return optuna.trial.create_trial(
        state=state,
        params=params,
        distributions={name: every[name] for name in params},
        user_attrs=attributes,
        value=None if state is TrialState.FAIL else result.objective,
    )


def _result(score: float, untrained: float, state: TrialState, share: float) -> TrialResult:
    steps = STEPS if state is TrialState.COMPLETE else STEPS // 2
    curve = {METRIC: [(step, score - 0.3 * math.exp(-step / 60)) for step in range(32, steps + 1, 32)]}
    cost = Emissions(1e-5 * (1 + share) * steps, 1e-4 * (1 + share) * steps, 0.1 * steps, "FRA", ())
    dev = dict.fromkeys(RESULT.dev, score)
    interval = (score - 0.02, score + 0.02)
    return replace(
        RESULT,
        objective=score,
        before={METRIC: untrained},
        dev=dev,
        steps=steps,
        curve={**RESULT.curve, **curve},
        emissions=cost,
        interval=interval,
    )


def _opened(path: Path) -> float:
    """Return the seconds until a browser shows the page; it draws one chart after another from then on."""
    with open_browser() as browser:
        page = browser.new_page()
        started = time.monotonic()
        page.goto(path.resolve().as_uri())
        return time.monotonic() - started


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(pass_sweep([*WORDS, f"study.n_trials={TRIALS}"]))
    fill(study)
    started = time.monotonic()
    path = write_report(study_results(study), "embedsweep train")
    written = time.monotonic() - started
    opened = [Figure("opening it in Chromium", _opened(path), 3.0, "s")] if find_chromium() is not None else []
    print_figures(
        Figure(f"the report of {TRIALS:,} trials", written, 20.0, "s"),
        *opened,
        Figure("its size", path.stat().st_size / 1e6, 10.0, "MB"),
    )
