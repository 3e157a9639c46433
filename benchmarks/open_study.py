"""Seconds to open a study of 10,000 finished trials and to ask it for the next one."""

from __future__ import annotations

import json
import time

import optuna

from benchmarks.figures import Figure, print_figures
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.study.opening import open_study
from embedsweep.study.trial_file import TRIAL_FILE
from embedsweep.validation.sweep import pass_sweep

WORDS = ["search=lr_warmup_batch", "loss=mnrl,cosent", "study.name=long", "study.sampler=random"]
FINISHED = 10_000

DEV = {
    f"dev/{kind}_{by}": 0.5 for kind in ("pearson", "spearman") for by in ("cosine", "dot", "euclidean", "manhattan")
}
CURVE = {
    **{name: [(step, value) for step in range(50, 300, 50)] for name, value in DEV.items()},
    **{name: [(step, 0.123456789) for step in range(1, 51)] for name in ("train/loss", "train/learning_rate")},
}
RESULT = TrialResult(
    objective=0.5,
    dev=DEV,
    test={},
    before=DEV,
    benchmarks={},
    best_step=250,
    steps=250,
    emissions=Emissions(1e-5, 1e-4, 10.0, "world average", ("CPU power estimated",)),
    pruned=False,
    conversion=None,
    examples_per_s=1000.0,
    curve=CURVE,
)
"""What a trial with the defaults of five evaluations and a loss each fiftieth keeps."""


def fill() -> None:
    """Run one trial through the study's methods and repeat what it wrote, once for each trial."""
    study = open_study(pass_sweep([*WORDS, f"study.n_trials={FINISHED}"]))
    journal = study.folder / "journal.log"
    before = len(journal.read_text(encoding="utf-8").splitlines())
    trial = study.ask()
    assert trial is not None
    for step in range(1, 6):
        study.report(trial, step * 50, {"dev/spearman_cosine": 0.1 * step}, 250)
    study.set_run(trial, "0" * 32, "0" * 12)
    study.complete(trial, RESULT)
    steps = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()[before:]]
    with journal.open("a", encoding="utf-8") as file:
        for number in range(1, FINISHED):
            for step in steps:
                of_it = {"trial_id": number} if "trial_id" in step else {}
                file.write(json.dumps({**step, **of_it}) + "\n")
    record = json.loads((trial.folder / TRIAL_FILE).read_text(encoding="utf-8"))
    for number in range(1, FINISHED):
        folder = study.trial_folder(number)
        folder.mkdir()
        (folder / TRIAL_FILE).write_text(json.dumps({**record, "number": number}), encoding="utf-8")


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
