"""Milliseconds to ask a study of 1,000 finished trials for the next one: TPE, journal storage, conditional axes."""

from __future__ import annotations

import random
import time

import optuna

from benchmarks.figures import Figure, print_figures
from embedsweep.config.axes import distributions, optuna_params, random_cell
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep

WORDS = ["search=full", "loss=mnrl,cosent", "study.name=long", "study.n_trials=1040", "study.sampler=tpe"]
FINISHED, ASKED = 1000, 40


def fill(study: Study) -> None:
    """Add finished trials with invented results, without asking for them."""
    source = random.Random(1)
    space = distributions(study.plan.axes)
    for _ in range(FINISHED):
        params = optuna_params(study.plan.axes, random_cell(study.plan.axes, {}, source))
        of_trial = {name: space[name] for name in params}
        finished = optuna.trial.create_trial(params=params, distributions=of_trial, value=source.random())
        study._study.add_trial(finished)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(pass_sweep(WORDS))
    fill(study)
    asking = 0.0
    for result in range(ASKED):
        started = time.monotonic()
        trial = study.ask()
        asking += time.monotonic() - started
        assert trial is not None
        study._study.tell(trial.number, result / ASKED)
    print_figures(Figure("asking at 1,000 finished trials", 1000 * asking / ASKED, 50.0, "ms"))
