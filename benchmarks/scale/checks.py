"""Check that no trial was lost, doubled or changed on its way into the study and into MLflow."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.scale.plan import EVALUATIONS, LOGGED, Order, scores
from benchmarks.scale.servers import Servers

if TYPE_CHECKING:
    from mlflow.entities import Run
    from optuna.trial import FrozenTrial

OBJECTIVE = "dev/spearman_cosine"
SAMPLE = 20
"""How many runs' points are read."""


def check(servers: Servers, order: Order, folder: Path) -> Iterator[str]:
    """Yield what holds, in words.

    Raises:
        AssertionError: something does not.
    """
    trials = _trials(servers, order)
    assert [trial.number for trial in trials] == list(range(order.trials))
    states = Counter(trial.state.name for trial in trials)
    assert states == {"COMPLETE": order.trials}, states
    wrong = [trial.number for trial in trials if not _is_told(trial)]
    assert not wrong, f"told with other values: {wrong}"
    yield f"study: {order.trials} trials, 0 to {order.trials - 1}, each complete with what its training returned"

    runs = _runs(servers, order)
    numbers = sorted(int(run.data.tags["embedsweep.trial"]) for run in runs)
    assert numbers == list(range(order.trials)), "not one run a trial"
    of_trial = {trial.number: trial for trial in trials}
    wrong = [run.info.run_id for run in runs if not _is_whole(run, of_trial[int(run.data.tags["embedsweep.trial"])])]
    assert not wrong, f"runs that differ: {wrong}"
    for run in runs[:: max(1, len(runs) // SAMPLE)]:
        _check_points(servers, run)
    yield f"MLflow: {len(runs)} runs, one a trial, each finished, with its id, scores, tags, params and state"
    waiting = [path.name for path in folder.glob("sweeps/*/spool/*.jsonl")]
    assert not waiting, waiting
    yield "nothing waits in a spool"


def _trials(servers: Servers, order: Order) -> list[FrozenTrial]:
    import optuna

    return optuna.load_study(study_name=order.job.sweep.study.name, storage=servers.storage).trials


def _is_told(trial: FrozenTrial) -> bool:
    return trial.values == [scores(trial.number)[OBJECTIVE]] and len(trial.params) > 0


def _runs(servers: Servers, order: Order) -> list[Run]:
    from mlflow import MlflowClient

    client = MlflowClient(servers.tracking)
    experiment = client.get_experiment_by_name(str(order.job.sweep.study.name))
    runs: list[Run] = []
    token: str | None = ""
    while token is not None:
        page = client.search_runs(
            [experiment.experiment_id], "tags.`embedsweep.kind` = 'trial'", max_results=1000, page_token=token or None
        )
        runs += page
        token = page.token or None
    return runs


def _is_whole(run: Run, trial: FrozenTrial) -> bool:
    """Return whether a run says what its trial and the training say."""
    from embedsweep.tracking.names import SPOOL_ID

    wanted = {name.replace("dev/", "best/"): value for name, value in scores(trial.number).items()}
    found = {name: run.data.metrics.get(name) for name in wanted}
    tags = run.data.tags
    return (
        run.info.status == "FINISHED"
        and tags["embedsweep.state"] == "COMPLETE"
        and trial.user_attrs["run_id"] in (run.info.run_id, tags.get(SPOOL_ID))
        and found == wanted
        and all(f"embedsweep.fake_{index}" in tags for index in range(7))
        and math.isclose(float(run.data.params["optimizer.lr"]), trial.params["optimizer.lr"], rel_tol=1e-12)
    )


def _check_points(servers: Servers, run: Run) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(servers.tracking)
    for name, count in ((OBJECTIVE, EVALUATIONS + 1), ("train/loss", LOGGED)):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert len(steps) == len(set(steps)) == count, (run.info.run_id, name, steps)
    names = {entry.path for entry in client.list_artifacts(run.info.run_id)}
    assert {"config.yaml", "train.log", "emissions.csv", "scores"} <= names, names
    assert len(run.inputs.dataset_inputs) == 3
