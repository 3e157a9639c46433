"""A trial's configuration, and helpers to look into MLflow's stores."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

from mlflow import MlflowClient

from embedsweep.config.study import TrackingConfig
from embedsweep.config.training import DataloaderConfig, EarlyStoppingConfig, OptimizerConfig, TrainerConfig
from embedsweep.config.trial import BenchmarkConfig, ConvertConfig, LossConfig, TrialConfig
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.tracking.spool import all_spools
from tests.configs import EVALUATION, PLAIN, SCORED

CONFIG = TrialConfig(
    objective="dev/spearman_cosine",
    rungs=(),
    model=replace(PLAIN, name="tiny", pooling="mean", max_seq_length=128, prompts={"query": "q: "}),
    loss=LossConfig("matryoshka", {"matryoshka_dims": (64, 32)}, LossConfig("mnrl", {"scale": 20.0}, None)),
    data=replace(
        SCORED,
        path="data/é",
        columns=("sentence1", "sentence2", 2),
        where={"language": "es"},
        delimiter="\t",
        convert=ConvertConfig(None, 0.8, both_directions=True, seed=42),
    ),
    dataloader=DataloaderConfig("default", 16, None, "no_duplicates", "proportional", drop_last=False, num_workers=0),
    optimizer=OptimizerConfig("adamw", 2e-5, 0.01, 0.1, "linear", 1.0),
    trainer=TrainerConfig(
        name="default",
        epochs=1.0,
        max_steps=None,
        precision="fp32",
        device="cpu",
        seed=42,
        eval_every=0.1,
        log_every=0.02,
        load_best_model_at_end=True,
        merge_columns=False,
        cuda_graphs="auto",
        early_stopping=EarlyStoppingConfig(None, 0.0),
    ),
    evaluation=replace(
        EVALUATION, benchmarks=(BenchmarkConfig("sts2017-es", "sts2017_es", "test", SCORED, "sts", None),)
    ),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def child(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process in its own process group, and end it with all of its children."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(20)


def wait_for(url: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fetch(url)
        except OSError:
            assert time.monotonic() < deadline, f"{url} did not answer within {seconds:.0f} s"
            time.sleep(0.1)
        else:
            return


def fetch(url: str) -> str:
    with urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def reader(config: TrackingConfig) -> MlflowClient:
    """Return a client of the store, once all that was recorded is written."""
    wait_written()
    return MlflowClient(config.uri)


def wait_written() -> None:
    """Wait until no record waits in the working directory."""
    until = time.monotonic() + 30
    while all_spools():
        assert time.monotonic() < until, "records still wait"
        time.sleep(0.01)


def begin(tracker: Tracker, experiment: str = "study-a", run_id: str | None = None) -> TrialTracker:
    return tracker.trial_run(experiment, 7, CONFIG, "abc123", run_id=run_id)


def history(config: TrackingConfig, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in reader(config).get_metric_history(run_id, metric)]
