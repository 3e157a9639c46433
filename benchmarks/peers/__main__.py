"""Run the searches, each as a user's command in its own process and folder, and compare time and scores."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from benchmarks.figures import Figure, print_figures
from benchmarks.peers.task import BATCH_SIZES, LEARNING_RATE, WARMUP
from embedsweep.data.examples import as_examples
from embedsweep.data.load import load_splits
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single

EPOCHS = 2  # of 8,000 pairs: 13 to 22 s on two cores
TRIALS = 16
REPOSITORY = Path(__file__).resolve().parents[2]

HYDRA = "hydra-optuna-sweeper==1.2.0"
SAME = ("hydra-core", "torch", "sentence-transformers", "transformers", "accelerate", "datasets")
"""Packages that the peer's environment gets in the installed versions."""

PEERS = {"trainer": "hyperparameter_search", "hydra": "hydra-optuna-sweeper"}
OURS = {"unpruned": "embedsweep", "pruned": "embedsweep with pruning"}
PROMISED = {"unpruned": 1 / 1.5, "pruned": 1 / 3}
PROMISED_POINTS = 0.5
SPACE = (
    f"optimizer.lr=tag(log,interval({LEARNING_RATE[0]},{LEARNING_RATE[1]}))",
    f"optimizer.warmup=interval({WARMUP[0]},{WARMUP[1]})",
    f"dataloader.batch_size=choice({','.join(map(str, BATCH_SIZES))})",
)
FASTER = ("workers=local", "workers.count=2", "trainer.merge_columns=true")
"""Options that make embedsweep faster. This model has no dropout, so merged columns differ only by rounding."""
PRUNING = ("study.pruner=successive_halving", "study.pruning.reduction_factor=4")
COLUMNS = ("sentence1", "sentence2", "score")


@dataclass(frozen=True)
class Task:
    """The task of every search.

    Attributes:
        folder: has the data as files.
        epochs: each trial is trained for.
        n_trials: of each search.
        limit: training pairs; None is all.
    """

    folder: Path
    epochs: float
    n_trials: int
    limit: int | None

    @property
    def words(self) -> list[str]:
        """Return the task as overrides of embedsweep."""
        limit = [] if self.limit is None else [f"data.limit={self.limit}"]
        # Scored only at rungs and at the end, like the others.
        training = ["loss=cosent", f"trainer.epochs={self.epochs}", "trainer.eval_every=1e6", "evaluation.before=false"]
        return ["model=tiny", "data=demo", *training, *limit]


@dataclass(frozen=True)
class Search:
    """The duration of a search, in seconds, and its best dev Spearman."""

    seconds: float
    best: float


def write_task(task: Task) -> None:
    """Write the pairs of train and dev as files for the other tools."""
    config = pass_single(task.words).config
    splits = load_splits(config.data, config.evaluation)
    for name, examples in (("train", splits.train), ("dev", as_examples(splits.dev))):
        rows = [
            dict(zip(COLUMNS, row, strict=True)) for row in zip(*examples.texts, examples.labels or (), strict=True)
        ]
        (task.folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf-8")


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> tuple[float, str]:
    """Return the seconds of a command, imports included, and its output."""
    folder.mkdir()
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds, done.stdout


def plain_environment(**more: str) -> dict[str, str]:
    """Return the environment without the number of torch's threads, which each search chooses itself."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OMP_")} | more


def by_trainer(task: Task, folder: Path) -> Search:
    words = [str(task.folder), str(tiny_model_path()), str(task.epochs), str(task.n_trials)]
    command = [sys.executable, "-m", "benchmarks.peers.trainer_search", *words]
    seconds, printed = run(command, folder, plain_environment(PYTHONPATH=str(REPOSITORY)))
    return Search(seconds, float(printed.splitlines()[-1]))


def by_hydra(task: Task, folder: Path) -> Search:
    settings = {
        "task": task.folder,
        "model": tiny_model_path(),
        "epochs": task.epochs,
        "hydra.sweeper.n_trials": task.n_trials,
    }
    words = [f"{key}={value}" for key, value in settings.items()]
    command = [str(hydra_python()), "-m", "benchmarks.peers.hydra_search", "-m", *words]
    seconds, _ = run(command, folder, plain_environment(PYTHONPATH=str(REPOSITORY)))
    (results,) = folder.glob("multirun/*/*/optimization_results.yaml")
    return Search(seconds, float(yaml.safe_load(results.read_text(encoding="utf-8"))["best_value"]))


def hydra_python() -> Path:
    """Return the peer's interpreter, in an environment under build/ that the first call creates."""
    wanted = [HYDRA, *(f"{name}=={version(name).partition('+')[0]}" for name in SAME)]
    venv = REPOSITORY / "build" / "peers" / "hydra"
    ready = venv / "installed.txt"
    if not ready.is_file() or ready.read_text(encoding="utf-8").splitlines() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(venv / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted], check=True, env=plain_environment(PYTHONPATH=""))
        ready.write_text("\n".join(wanted), encoding="utf-8")
    return venv / "bin" / "python"


def by_embedsweep(task: Task, folder: Path, *pruning: str) -> Search:
    words = [*task.words, *SPACE, f"study.n_trials={task.n_trials}", "study.name=peers"]
    command = [sys.executable, "-m", "embedsweep", "train", "-m", *words, *FASTER, *pruning]
    seconds, _ = run(command, folder, plain_environment())
    results = [
        json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("sweeps/peers/trials/*/result.json")
    ]
    assert len(results) == task.n_trials, f"{len(results)} of {task.n_trials} trials have a result"
    return Search(seconds, max(result["objective"] for result in results if not result["pruned"]))


SEARCHES: dict[str, Callable[[Task, Path], Search]] = {
    "trainer": by_trainer,
    "hydra": by_hydra,
    "unpruned": by_embedsweep,
    "pruned": lambda task, folder: by_embedsweep(task, folder, *PRUNING),
}


def figures(searches: Mapping[str, Search]) -> list[Figure]:
    """Compare each of our searches with each peer: ratio of wall times, and difference of the best scores in points."""
    made = []
    for ours, peer in ((ours, peer) for ours in OURS for peer in PEERS if {ours, peer} <= searches.keys()):
        mine, theirs = searches[ours], searches[peer]
        made += [
            Figure(
                f"{OURS[ours]}: time of {PEERS[peer]}'s ({mine.seconds:.0f} of {theirs.seconds:.0f} s)",
                mine.seconds / theirs.seconds,
                PROMISED[ours],
                "",
            ),
            Figure(
                f"  best dev Spearman below it ({100 * mine.best:.2f}, {100 * theirs.best:.2f})",
                100 * (theirs.best - mine.best),
                PROMISED_POINTS,
                "points",
            ),
        ]
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--limit", type=int, help="training pairs, for a try")
    parser.add_argument("--only", default=",".join(SEARCHES), help="searches, by comma: " + ", ".join(SEARCHES))
    options = parser.parse_args()
    task = Task(Path("task").resolve(), options.epochs, options.trials, options.limit)
    task.folder.mkdir()
    write_task(task)
    searches = {}
    for name in options.only.split(","):
        searches[name] = SEARCHES[name](task, Path(name).resolve())
        print(f"{name}: {searches[name].seconds:.1f} s, best dev Spearman {searches[name].best:.4f}", flush=True)
    print_figures(*figures(searches))


if __name__ == "__main__":
    main()
