"""The words of a command that resumes an earlier single run.

Owns what may differ then, and why all else may not. Knows nothing of how a run goes on.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from embedsweep.config.identity import trial_config_of
from embedsweep.config.trial import TrainerConfig, TrialConfig
from embedsweep.config.values import has_key, resolve, set_value, value_at
from embedsweep.errors import ConfigError, Problem
from embedsweep.files import SINGLE_RUNS
from embedsweep.tracking.spool import spooled_ids
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.validation.rules import check_trial
from embedsweep.validation.sections import read_section
from embedsweep.validation.words import STUDY_KEYS_OF_A_TRIAL, Cell, Words, section_of

SHORTEST_PREFIX = 6
STATE = "trainer_state.json"


@dataclass(frozen=True)
class EarlierRun:
    """A run by itself that was begun before.

    Attributes:
        run_id: its MLflow run, and the name of its folder.
        folder: its own.
        config: what it is.
    """

    run_id: str
    folder: Path
    config: TrialConfig

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Where its checkpoints lie."""
        return Checkpoints(self.folder / CHECKPOINTS)

    @cached_property
    def last_step(self) -> int | None:
        """The step of its last whole checkpoint; None without one."""
        return self.checkpoints.last_whole()

    @cached_property
    def state(self) -> dict[str, Any]:
        """The trainer's state at the last whole checkpoint; empty without one."""
        if self.last_step is None:
            return {}
        text = (self.checkpoints.path(self.last_step) / STATE).read_text(encoding="utf-8")
        state: dict[str, Any] = json.loads(text)
        return state


def find_run(asked: str) -> EarlierRun:
    """The single run of an id, the beginning of one, or a folder.

    Raises:
        ConfigError: there is none, there are several, or it left no configuration that can be read back.
    """
    folder = Path(asked).expanduser() if "/" in asked else _folder_of(asked)
    if not folder.is_dir():
        raise ConfigError.single("resume", f"there is no folder {folder}; {_listed()}")
    if folder.resolve().parent.name == "trials":
        study = folder.resolve().parents[1].name
        raise ConfigError.single("resume", f"{folder} is a trial of a study, which goes on by -m study.name={study}")
    path = folder / "config.yaml"
    if not path.is_file():
        message = f"{folder} has no config.yaml: it is no run's, or the run ended before it began; start it anew"
        raise ConfigError.single("resume", message)
    try:
        config = trial_config_of(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (ConfigError, yaml.YAMLError) as error:
        message = (
            f"{path} cannot be read: another version wrote it, or it was edited: {'; '.join(str(error).splitlines())}"
        )
        raise ConfigError.single("resume", message) from error
    return EarlierRun(folder.resolve().name, folder, config)


def _folder_of(prefix: str) -> Path:
    if len(prefix) < SHORTEST_PREFIX:
        message = f"takes at least {SHORTEST_PREFIX} characters of a run's id, or its folder, but got {prefix}"
        raise ConfigError.single("resume", message)
    begun = spooled_ids(prefix)
    found = [folder for folder in _runs() if folder.name.startswith(prefix) or folder.name in begun]
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise ConfigError.single("resume", f"{prefix} begins the ids of {len(found)} runs: {names}")
    if not found:
        raise ConfigError.single("resume", f"there is no run {prefix} in {SINGLE_RUNS}; {_listed()}")
    return found[0]


def _runs() -> list[Path]:
    """Folders of single runs in the working directory, the latest first."""
    folders = (folder for folder in SINGLE_RUNS.glob("*") if folder.is_dir())
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _listed() -> str:
    latest = [folder.name[:8] for folder in _runs()[:5]]
    return f"the latest are {', '.join(latest)}" if latest else f"there are none in {Path.cwd() / SINGLE_RUNS}"


def why_it_cannot_go_on(run: EarlierRun, trainer: TrainerConfig) -> str | None:
    """Why an earlier run cannot be trained on in this way; None where it can."""
    if run.last_step is None:
        return f"run {run.run_id[:8]} has no whole checkpoint: start a new run"
    best = run.state["best_global_step"]
    if best is not None and not run.checkpoints.is_whole(best):
        return f"run {run.run_id[:8]} has lost its best checkpoint, of step {best}: start a new run"
    if trainer.max_steps is not None:
        if trainer.max_steps <= run.last_step:
            return f"run {run.run_id[:8]} has trained {run.last_step} steps: trainer.max_steps must be more"
    elif trainer.epochs <= run.state["epoch"]:
        return f"run {run.run_id[:8]} has trained {run.state['epoch']:g} epochs: trainer.epochs must be more"
    return None


def history_of(run: EarlierRun) -> list[tuple[int, dict[str, float]]]:
    """What an earlier run logged up to its last whole checkpoint, by optimizer step: training and dev metrics."""
    from embedsweep.evaluation.pairs import metric_names

    points: list[tuple[int, dict[str, float]]] = []
    for entry in run.state["log_history"]:
        if "loss" in entry:
            metrics = {"train/loss": entry["loss"], "train/learning_rate": entry["learning_rate"]}
        else:
            metrics = metric_names(entry, "dev")
        points.append((entry["step"], metrics))
    return points


def copy_training(run: EarlierRun, folder: Path) -> None:
    """Copies what another run needs to train on: the last whole checkpoint, the best one, what it cost so far.

    Args:
        run: the earlier one; stays as it is.
        folder: the new run's, without checkpoints.

    Raises:
        OSError: the disk is full, or a checkpoint was deleted meanwhile.
    """
    last = run.last_step
    assert last is not None, "the gate lets no run pass without one"
    folder.mkdir(parents=True, exist_ok=True)
    if (costs := run.folder / "emissions.csv").is_file():
        shutil.copy(costs, folder)
    # By another name until all of it is there: half of it would be gone on with, and without the best.
    part = folder / "checkpoints.part"
    copied = run.checkpoints.copy({last, run.state["best_global_step"] or last}, part)
    # The end that was reached is not the end any more; the trainer sets the new one.
    state = {**run.state, "max_steps": 0, "best_model_checkpoint": None}
    (copied.path(last) / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    copied.seal(last, run.checkpoints.times(last))
    part.rename(folder / CHECKPOINTS)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds a run's folder for the duration of the ``with`` block; a killed process lets go of it.

    Raises:
        ConfigError: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError.single("resume", f"run {folder.resolve().name[:8]} is in use by another process") from None
    try:
        yield
    finally:
        lock.release()


SERVICES = ("tracking", "emissions", "workers")
MAY_CHANGE = ("epochs", "max_steps", "eval_every", "log_every", "device", "early_stopping")
"""Keys of ``trainer`` that a checkpoint can be trained on under."""

REASONS = {
    "model": "the checkpoint has the weights of the model as it is",
    "loss": "it has been trained by this loss so far",
    "data": "it has been trained on this data so far",
    "dataloader": "training goes on in the middle of these batches",
    "optimizer": "the checkpoint brings the state of its optimizer and schedule, which would ignore it",
    "evaluation": "its best checkpoint was chosen by this evaluation",
    "study": "its best checkpoint was chosen by its own objective, at its own evaluations",
    "trainer": "it has been trained so far with the one it has",
    "recipe": "a recipe sets all of a configuration",
}


@dataclass(frozen=True)
class Resumed:
    """An earlier run that a command goes on with.

    Attributes:
        run: the earlier one.
        is_changed: whether the configuration is another now, so that a new run goes on from a copy.
    """

    run: EarlierRun
    is_changed: bool


def resumed_name(words: Sequence[str], said: Words) -> str:
    """What ``resume`` names, as it was typed: an id such as 120e45 would be read as a number."""
    value = said.values["resume"]
    typed = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("resume=")]
    return value if isinstance(value, str) or not typed else typed[-1]


def refuse_changes(said: Words) -> Iterator[Problem]:
    """Every word that would make another training of it; takes them out of ``said``."""
    run_words = [key for key in (*said.choices, *said.values) if not _may_change(key, said)]
    for key in run_words:
        said.choices.pop(key, None)
        said.values.pop(key, None)
        if section_of(key) == "search" or (section_of(key) == "study" and key not in STUDY_KEYS_OF_A_TRIAL):
            continue  # told already: these belong to no single run
        reason = REASONS.get(section_of(key), "the run has a configuration of its own")
        yield Problem(key, f"cannot change when a run is resumed: {reason}; leave it out, or start a new run")


def _may_change(key: str, said: Words) -> bool:
    if key == "resume" or section_of(key) in SERVICES:
        return True
    section, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    # A key that there is not is told as such, with the nearest.
    known = {field.name for field in fields(TrainerConfig)}
    return key in said.values and section == "trainer" and rest != "" and (name in MAY_CHANGE or name not in known)


def read_resumed(name: str, said: Words, cell: Cell) -> tuple[TrialConfig, Resumed]:
    """The earlier run's own configuration, with what the command says on top.

    Raises:
        ConfigError: there is no such run, it cannot go on so, or its configuration does not hold on this machine.
    """
    run = find_run(name)
    problems: list[Problem] = []
    trainer: dict[str, Any] = {"trainer": asdict(run.config.trainer)}
    asked = resolve(cell.composed, {}, ("trainer",))
    for key in said.values:
        if section_of(key) == "trainer" and has_key(trainer, key):
            set_value(trainer, key, value_at(asked, key))
    config = replace(run.config, trainer=read_section(TrainerConfig, "trainer", trainer["trainer"], problems))
    problems += check_trial(config, broken={problem.where for problem in problems})
    is_changed = config != run.config
    if not problems and is_changed and (message := why_it_cannot_go_on(run, config.trainer)) is not None:
        problems.append(Problem("resume", message))
    if problems:
        raise ConfigError(problems)
    return config, Resumed(run, is_changed)


def services_said(words: Sequence[str]) -> tuple[str, ...]:
    """The words that a command which resumes the run has to say again."""
    return tuple(word for word in words if section_of(word.lstrip("+").partition("=")[0]) in SERVICES)
