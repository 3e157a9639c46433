"""Seconds to open a study of 1,000 finished trials, asked for the next one included."""

from __future__ import annotations

import time

import optuna

from benchmarks.figures import Figure, hand_on
from embedsweep.gate import pass_sweep
from embedsweep.study import open_study

WORDS = ["search=lr_warmup_batch", "loss=mnrl,cosent", "study.name=long"]


def fill(n_trials: int) -> None:
    """A study with that many finished trials, each with five reported evaluations."""
    study = open_study(pass_sweep([*WORDS, f"study.n_trials={n_trials}", "study.sampler=random"]))
    while (trial := study.ask()) is not None:
        for step in range(1, 6):
            study.report(trial, step * 50, {"dev/spearman_cosine": 0.1 * step}, 250)
        study.identify(trial, "0" * 32, "0" * 12)
        study._study.tell(trial.number, 0.5)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fill(1000)
    asked = pass_sweep([*WORDS, "study.n_trials=1001", "study.sampler=random"])
    begun = time.monotonic()
    study = open_study(asked)
    opened = time.monotonic() - begun
    study.ask()
    hand_on(
        Figure("opening a study of 1,000 finished trials", opened, 3.0, "s"),
        Figure("and asking it for a trial", time.monotonic() - begun - opened, 3.0, "s"),
    )
