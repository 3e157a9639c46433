"""A training that sleeps, and records what a real one records: as many points, tags, data sets and files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from benchmarks.scale.plan import EVALUATIONS, LOGGED, STEPS, scores
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.evaluation.scores import DEV_TABLE, SCORES
from embedsweep.tracking.tables import Table
from embedsweep.training.folder import read_result, write_config, write_result
from embedsweep.training.trial import TrialSetup, log_result

ITEMS = 200
"""Rows of the table of dev scores."""


def fake_training(seconds: Callable[[int], float]) -> Callable[[TrialSetup], TrialResult]:
    """Return what stands in for ``run_trial``.

    Args:
        seconds: how long a trial sleeps, by its number.
    """

    def run(setup: TrialSetup) -> TrialResult:
        if (done := read_result(setup.folder)) is not None:
            return done
        setup.folder.mkdir(parents=True, exist_ok=True)
        (setup.folder / "train.log").write_text("a training that sleeps\n" * 60, encoding="utf-8")
        return _run(setup, seconds(int(setup.folder.name)))

    return run


def _run(setup: TrialSetup, seconds: float) -> TrialResult:
    number, run = int(setup.folder.name), setup.run
    write_config(setup.folder / "config.yaml", setup.config)
    for context in ("train", "dev", "test"):
        run.log_dataset(f"demo-{context}", f"{context:0<32}", "demo", context)
    run.set_tags({f"embedsweep.fake_{index}": "as many tags as a training has" for index in range(7)})
    before = scores(number, 0)
    run.log_metrics(0, before)
    setup.on_before(before)
    points: list[tuple[int, Mapping[str, float]]] = []
    for evaluation in range(1, EVALUATIONS + 1):
        time.sleep(seconds / EVALUATIONS)
        step = STEPS * evaluation // EVALUATIONS
        setup.progress(step, STEPS)
        new = list(_losses(evaluation))
        run.log_history(new)
        setup.report(step, scores(number, evaluation))
        run.log_metrics(step, scores(number, evaluation))
        points += [*new, (step, scores(number, evaluation))]
    result = _result(setup, number, points)
    _record_files(setup)
    run.log_history(points)
    log_result(run, result)
    write_result(setup.folder, result)
    return result


def _losses(evaluation: int) -> Iterator[tuple[int, dict[str, float]]]:
    each = LOGGED // EVALUATIONS
    for index in range((evaluation - 1) * each, evaluation * each):
        yield index * STEPS // LOGGED + 1, {"train/loss": 1 / (index + 1), "train/learning_rate": 1e-5 * index}


def _result(setup: TrialSetup, number: int, points: list[tuple[int, Mapping[str, float]]]) -> TrialResult:
    curve: dict[str, list[tuple[int, float]]] = {}
    for step, metrics in points:
        for name, value in metrics.items():
            curve.setdefault(name, []).append((step, value))
    dev = scores(number)
    return TrialResult(
        objective=dev[setup.config.objective],
        dev=dev,
        test={},
        before=scores(number, 0),
        benchmarks={},
        best_step=STEPS,
        steps=STEPS,
        emissions=Emissions(1e-6, 1e-6, 1.0, "world average", ("nothing was measured",)),
        pruned=False,
        conversion=None,
        examples_per_s=1000.0,
        curve=curve,
        context=setup.run.context,
    )


def _record_files(setup: TrialSetup) -> None:
    folder, run = setup.folder, setup.run
    (folder / "emissions.csv").write_text("duration\n1\n", encoding="utf-8")
    (folder / SCORES).mkdir(exist_ok=True)
    (folder / SCORES / "dev.parquet").write_bytes(bytes(20_000))
    for name in ("config.yaml", "train.log", "emissions.csv"):
        run.log_artifact(folder / name)
    run.log_artifact(folder / SCORES, SCORES)
    table: Table = {"sentence1": ["a sentence of the usual length"] * ITEMS, "predicted_cosine": [0.5] * ITEMS}
    run.log_table(DEV_TABLE, table)
