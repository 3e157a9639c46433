"""A small study whose trials stop early: its command, in child processes, and what Optuna and MLflow hold of it."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages._cached_storage import _CachedStorage as CachedStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

from embedsweep.study.reading import read_study
from embedsweep.study.record import StudyRecord
from embedsweep.tracking.names import SPOOL_ID
from tests.faults.forks import ForkedCommand, ForkServer

ROOT = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("driver.py")
WITHIN_S = 600.0
Command = subprocess.Popen[str] | ForkedCommand
_STARTING = threading.Lock()

PAIRS = ("data=csv", f"data.path={Path(__file__).with_name('pairs')}")
"""Demo pairs: the first 200 of train, 96 of dev and 96 of test. To score the 800 of the demo takes most of a trial."""

# With a learning rate this high the best model comes early: both trials stop well before their last step.
WORDS = (
    "loss=cosent,mnrl",
    "data=demo",
    "data.limit=200",
    "model=tiny",
    "optimizer.lr=1e-2",
    "trainer.device=cpu",
    "trainer.epochs=6",
    "trainer.eval_every=0.1",
    "trainer.early_stopping.patience=2",
)
N_TRIALS = 2

SHORT = (
    "loss=cosent,mnrl",
    "data.limit=64",
    "model=tiny",
    "optimizer.lr=1e-2",
    "trainer.device=cpu",
    "trainer.max_steps=30",
    "trainer.eval_every=0.2",
    "evaluation.before=false",
)
"""Two losses in as few steps as leave time for a fault, for studies whose workers are what is tested."""


each_storage = pytest.mark.parametrize("url", ["journal", "postgresql"], indirect=True)
"""On both storages."""
in_short = pytest.mark.parametrize(
    "url",
    [pytest.param("journal", marks=pytest.mark.slow), pytest.param("postgresql", marks=pytest.mark.faults)],
    indirect=True,
)
"""On the journal in CI, on both by ``make faults``: for faults that hardly involve the storage."""


@dataclass(frozen=True)
class Ended:
    """A command that has ended.

    Attributes:
        code: its exit code; of one that a signal killed, the signal's number, negative.
        output: stdout and stderr.
    """

    code: int
    output: str


def start(
    folder: Path,
    words: Sequence[str],
    fault: Sequence[str] = (),
    output: Path | None = None,
    *,
    fresh: bool = False,
    at: float | None = None,
) -> Command:
    """Start ``train.py -m words`` in ``folder``.

    Args:
        folder: its working directory, made if it is missing.
        words: what follows ``-m``.
        fault: action and place of a fault, for ``driver.py``.
        output: the file that gets what it prints; None is a pipe, which somebody has to read.
        fresh: start an interpreter of its own, where imports are part of the test.
        at: the moment at which a fork begins, by ``time.monotonic``; None is at once.
    """
    program = [str(DRIVER), *fault] if fault else [str(ROOT / "train.py")]
    return start_program(folder, [*program, "-m", *words], output, fresh=fresh, at=at)


def start_program(
    folder: Path,
    program: Sequence[str],
    output: Path | None = None,
    *,
    fresh: bool = False,
    at: float | None = None,
) -> Command:
    """Start what would follow ``python`` on a command line; arguments as those of ``start``."""
    folder.mkdir(parents=True, exist_ok=True)
    # One thread each: two commands can run side by side on two cores, and results are the same to the last bit.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    if not fresh:
        return fork_server().start(program, folder, environment, output, at)
    with output.open("wb") if output is not None else nullcontext(subprocess.PIPE) as printed:
        return subprocess.Popen(
            [sys.executable, *program], cwd=folder, env=environment, text=True, stdout=printed, stderr=subprocess.STDOUT
        )


@cache
def _fork_server() -> ForkServer:
    server = ForkServer()
    atexit.register(server.close)
    return server


def fork_server() -> ForkServer:
    """Return this process's only fork server, started by the first who needs it."""
    with _STARTING:
        return _fork_server()


def wait_for(command: Command, words: str) -> None:
    """Read a command's output up to a line that contains ``words``."""
    assert command.stdout is not None
    while words not in (line := command.stdout.readline()):
        assert line, f"the command ended before it printed {words!r}"


def finish(command: Command) -> Ended:
    """Wait for a command's end."""
    try:
        output, _ = command.communicate(timeout=WITHIN_S)
    except subprocess.TimeoutExpired:
        command.kill()
        output, _ = command.communicate()
        raise AssertionError(f"still running after {WITHIN_S:.0f} s:\n{output}") from None
    return Ended(command.wait(), output)


def run(folder: Path, words: Sequence[str] = WORDS, fault: Sequence[str] = (), *, fresh: bool = False) -> Ended:
    """Run a command to its end; arguments as those of ``start``."""
    return finish(start(folder, words, fault, fresh=fresh))


def storage_words(url: str | None) -> tuple[str, ...]:
    """Return the override that stores the study in a database; nothing for the journal."""
    return (f"study.storage={url}",) if url else ()


class Study:
    """What Optuna and MLflow now hold of the only study in a working directory.

    Args:
        folder: the working directory.
        url: Optuna's storage; None is the journal.
        tracking: MLflow's store; None is that of the working directory.

    Attributes:
        trials: Optuna's.
        runs: all runs of the whole store, without deleted ones; of a server, those of the study.
        client: MLflow's, on that store.
    """

    def __init__(self, folder: Path, url: str | None = None, tracking: str | None = None) -> None:
        (file,) = folder.glob("sweeps/*/study.yaml")
        self.folder = file.parent
        self.name = self.folder.name
        self.client = MlflowClient(tracking or f"sqlite:///{folder}/mlruns/mlflow.db")
        self.trials = read_trials(self.folder, url)
        self.runs = self._read_runs()

    def _read_runs(self) -> list[Run]:
        found = self.client.search_experiments(ViewType.ALL)
        is_shared = str(self.client.tracking_uri).startswith("http")
        experiments = [each.experiment_id for each in found if not is_shared or each.name == self.name]
        return list(self.client.search_runs(experiments, run_view_type=ViewType.ACTIVE_ONLY))

    @property
    def states(self) -> list[str]:
        return [trial.state.name for trial in self.trials]

    @property
    def parent(self) -> Run:
        (run,) = (run for run in self.runs if run.data.tags["embedsweep.kind"] == "study")
        return run

    def run_of(self, number: int) -> Run:
        """Return the run of a trial; there must be exactly one."""
        (run,) = (run for run in self.runs if run.data.tags.get("embedsweep.trial") == str(number))
        return run

    def history(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        """Return every point of every metric of a run, by step."""
        return {
            name: sorted((point.step, point.value) for point in self.client.get_metric_history(run.info.run_id, name))
            for name in run.data.metrics
        }

    def trial_folder(self, number: int) -> Path:
        return self.folder / "trials" / f"{number:04d}"

    def result(self, number: int) -> Mapping[str, Any]:
        return json.loads((self.trial_folder(number) / "result.json").read_text(encoding="utf-8"))


def read_trials(folder: Path, url: str | None) -> list[FrozenTrial]:
    """Return Optuna's trials of the study in ``sweeps/<study>``; ``url`` as for ``Study``."""
    if url is None:
        journal = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
        return optuna.load_study(study_name=folder.name, storage=journal).trials
    database = RDBStorage(url)
    try:
        return optuna.load_study(study_name=folder.name, storage=database).trials
    finally:
        database.remove_session()
        database.engine.dispose()


@contextmanager
def reading(folder: Path, url: str | None) -> Iterator[StudyRecord]:
    """Read the only study in a working directory; its connections are closed at the end of the block."""
    (file,) = folder.glob("sweeps/*/study.yaml")
    record = read_study(file.parent.name, storage=url, sweeps=folder / "sweeps")
    try:
        yield record
    finally:
        if isinstance(record._storage, CachedStorage):
            record._storage.remove_session()
            record._storage._backend.engine.dispose()


def params_in(folder: Path) -> dict[str, str]:
    """Return the MLflow params of the configuration in a trial's folder; a loss's parameters are directly below it."""
    params: dict[str, str] = {}

    def add(key: str, value: object) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                add(key if name == "parameters" else f"{key}.{name}".lstrip("."), inner)
        elif key.endswith(".inner") and value is None:
            return
        elif isinstance(value, list):
            params[key] = json.dumps(value, ensure_ascii=False)
        else:
            params[key] = value if isinstance(value, str) else json.dumps(value)

    add("", yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    return params


def check_whole(
    study: Study,
    n_trials: int = N_TRIALS,
    *,
    is_pruned: bool = False,
    earlier: Collection[int] = (),
    metric: str = "spearman_cosine",
) -> None:
    """Check that a study is complete, with each trial once, and that MLflow and Optuna agree.

    Args:
        study: the study.
        n_trials: how many trials it should have.
        is_pruned: whether trials, all but one at most, may have been pruned.
        earlier: those that an earlier version completed, which logged the value as the last point of the dev curve.
        metric: the objective, without ``dev/``.
    """
    assert len(study.states) == n_trials
    assert set(study.states) <= {"COMPLETE", *(["PRUNED"] if is_pruned else [])}, study.states
    assert "COMPLETE" in study.states
    assert len(study.runs) == n_trials + 1, [run.data.tags for run in study.runs]
    # Trials that were drawn while one with the same values was running have the same params.
    assert len({run.data.tags.get("embedsweep.trial") for run in study.runs}) == n_trials + 1
    assert study.parent.info.status == "FINISHED"
    for trial in study.trials:
        run = study.run_of(trial.number)
        assert run.info.status == "FINISHED"
        assert run.data.tags["embedsweep.kind"] == "trial"
        assert run.data.tags["embedsweep.state"] == trial.state.name
        assert run.data.tags["mlflow.parentRunId"] == study.parent.info.run_id
        # A run that the store could not open in time has an id of its own, which its tag keeps.
        assert trial.user_attrs["run_id"] in (run.info.run_id, run.data.tags.get(SPOOL_ID))
        swept = {"loss.name" if key == "loss" else key: value for key, value in trial.params.items()}
        written = params_in(study.trial_folder(trial.number))
        assert {key: run.data.params[key] for key in swept} == {key: _param(value) for key, value in swept.items()}
        assert run.data.params.items() <= written.items()  # a run of an earlier commit lacks later keys
        kind = "dev" if trial.number in earlier else "best"
        assert run.data.metrics[f"{kind}/{metric}"] == trial.value
        history = study.history(run)
        assert trial.number in earlier or [step for step, _ in history[f"best/{metric}"]] == [
            study.result(trial.number)["best_step"]
        ]
        assert {f"dev/{metric}", "train/loss", "emissions/co2eq_kg"} <= history.keys()
        for name, points in history.items():
            steps = [step for step, _ in points]
            assert len(steps) == len(set(steps)), f"{name} has two points at one step: {points}"


def _param(value: object) -> str:
    """Return a swept value as it is among the params of a run."""
    return value if isinstance(value, str) else json.dumps(value)


def check_equal(study: Study, reference: Study) -> None:
    """Check that every trial has exactly the result, step by step, that it has in the undisturbed study."""
    assert len(study.trials) == len(reference.trials)
    for trial, expected in zip(study.trials, reference.trials, strict=True):
        number = trial.number
        assert trial.params == expected.params
        assert trial.value == expected.value
        assert trial.intermediate_values == expected.intermediate_values
        result, wanted = study.result(number), reference.result(number)
        kept = ("objective", "dev", "best_step", "steps", "pruned", "conversion")
        assert {key: result[key] for key in kept} == {key: wanted[key] for key in kept}
        run, undisturbed = study.run_of(number), reference.run_of(number)
        assert run.data.params == undisturbed.data.params
        history, expected_history = study.history(run), reference.history(undisturbed)
        assert history.keys() == expected_history.keys()
        for name in history:
            if name.startswith(("dev/", "best/", "test/", "train/")):
                assert history[name] == expected_history[name], name
