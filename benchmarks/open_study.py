"""Seconds to open a study of 10,000 finished trials and to ask it for the next one."""

from __future__ import annotations

import json
import time

import optuna

from benchmarks.figures import Figure, print_figures
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep

WORDS = ["search=lr_warmup_batch", "loss=mnrl,cosent", "study.name=long", "study.sampler=random"]
FINISHED = 10_000


def fill() -> None:
    """Run one trial through the study's methods and repeat what it wrote to the journal, once for each trial."""
    study = open_study(pass_sweep([*WORDS, f"study.n_trials={FINISHED}"]))
    journal = study.folder / "journal.log"
    before = len(journal.read_text(encoding="utf-8").splitlines())
    trial = study.ask()
    assert trial is not None
    for step in range(1, 6):
        study.report(trial, step * 50, {"dev/spearman_cosine": 0.1 * step}, 250)
    study.set_run(trial, "0" * 32, "0" * 12)
    study._study.tell(trial.number, 0.5)
    steps = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()[before:]]
    with journal.open("a", encoding="utf-8") as file:
        for number in range(1, FINISHED):
            for step in steps:
                of_it = {"trial_id": number} if "trial_id" in step else {}
                file.write(json.dumps({**step, **of_it}) + "\n")


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    fill()
    request = pass_sweep([*WORDS, f"study.n_trials={FINISHED + 1}"])
    started = time.monotonic()
    study = open_study(request)
    opened = time.monotonic() - started
    assert sum(trial.state.is_finished() for trial in study.trials) == FINISHED
    trial = study.ask()
    asking = time.monotonic() - started - opened
    assert trial is not None
    assert trial.number == FINISHED
    print_figures(
        Figure(f"opening a study of {FINISHED:,} finished trials", opened, 15.0, "s"),
        Figure("then asking it for a trial", asking, 15.0, "s"),
    )
