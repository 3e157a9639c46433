"""Milliseconds to ask a study of 10,000 finished trials in PostgreSQL for the next one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import optuna
from sqlalchemy import create_engine, text

from benchmarks.figures import Figure
from benchmarks.open_study import RESULT
from benchmarks.scale.servers import running_database
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep

WORDS = ("search=lr_warmup_batch", "loss=mnrl,cosent", "model=tiny", "data=demo")
SAMPLERS = ("tpe", "random")
ASKED = 20

COPIES = (
    "INSERT INTO trials (trial_id, number, study_id, state, datetime_start, datetime_complete) "
    "SELECT trial_id + n, n, study_id, state, datetime_start, datetime_complete "
    "FROM trials, generate_series(1, :n) AS n WHERE trial_id = :first",
    "INSERT INTO trial_values (trial_id, objective, value, value_type) "
    "SELECT trial_id + n, objective, random(), value_type "
    "FROM trial_values, generate_series(1, :n) AS n WHERE trial_id = :first",
    "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
    "SELECT trial_id + n, param_name, CASE WHEN param_name = 'optimizer.lr' THEN exp(ln(param_value) + random()) "
    "WHEN param_name = 'optimizer.warmup' THEN random() / 5 ELSE floor(random() * 2) END, distribution_json "
    "FROM trial_params, generate_series(1, :n) AS n WHERE trial_id = :first",
    "INSERT INTO trial_user_attributes (trial_id, key, value_json) SELECT trial_id + n, key, value_json "
    "FROM trial_user_attributes, generate_series(1, :n) AS n WHERE trial_id = :first",
    "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) "
    "SELECT trial_id + n, step, random(), intermediate_value_type "
    "FROM trial_intermediate_values, generate_series(1, :n) AS n WHERE trial_id = :first",
    "SELECT setval('trials_trial_id_seq', (SELECT max(trial_id) FROM trials))",
)
"""Repeat a trial with all it has and other values, :n times."""


def asking(finished: int) -> Iterator[Figure]:
    """Yield how long asking takes, with each sampler."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with running_database() as database:
        for sampler in SAMPLERS:
            yield _asking(database.new_database(), sampler, finished)


def _asking(url: str, sampler: str, finished: int) -> Figure:
    words = [*WORDS, f"study.sampler={sampler}", f"study.name=long-{sampler}", f"study.storage={url}"]
    words.append(f"study.n_trials={finished + ASKED}")
    fill(open_study(pass_sweep(words)), url, finished)
    study = open_study(pass_sweep(words))
    assert sum(trial.state.is_finished() for trial in study.trials) == finished
    asking: list[float] = []
    for _ in range(ASKED):
        started = time.monotonic()
        trial = study.ask()
        asking.append(1000 * (time.monotonic() - started))
        assert trial is not None
        study.report(trial, 250, RESULT.dev, 250)
        study.complete(trial, RESULT)
    median = statistics.median(asking)
    print(f"{sampler}: median of {ASKED} asks {median:.0f} ms, most {max(asking):.0f} ms", flush=True)
    return Figure(f"asking at {finished:,} finished trials ({sampler})", median, 200.0, "ms")


def fill(study: Study, url: str, finished: int) -> None:
    """Run one trial through the study's methods and repeat what it wrote, once for each further trial."""
    trial = study.ask()
    assert trial is not None
    for step in range(50, 300, 50):
        study.report(trial, step, RESULT.dev, 250)
    study.set_run(trial, "0" * 32, "0" * 12)
    study.complete(trial, RESULT)
    first = study.trials[0]._trial_id
    engine = create_engine(url)
    with engine.begin() as connection:
        for copy in COPIES:
            connection.execute(text(copy), {"n": finished - 1, "first": first} if ":n" in copy else {})
    engine.dispose()
