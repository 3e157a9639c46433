"""Validate a command that resumes a single run: find the run, and check what may change."""

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
from embedsweep.config.training import TrainerConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.config.values import has_key, resolve, set_value, value_at
from embedsweep.errors import ConfigError, Problem, raise_problems
from embedsweep.files import SINGLE_RUNS, user_path
from embedsweep.tracking.spool import spooled_ids
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.validation.cells import Cell, Overrides, is_for_studies, section_of
from embedsweep.validation.rules import check_trial
from embedsweep.validation.sections import read_section

SHORTEST_PREFIX = 6
STATE = "trainer_state.json"


@dataclass(frozen=True)
class EarlierRun:
    """An earlier single run.

    Attributes:
        run_id: its MLflow run, and the name of its folder.
        folder: its own.
        config: its configuration.
    """

    run_id: str
    folder: Path
    config: TrialConfig

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """Its checkpoints."""
        return Checkpoints(self.folder / CHECKPOINTS)

    @cached_property
    def last_step(self) -> int | None:
        """The step of its last complete checkpoint; None without one."""
        return self.checkpoints.last_whole()

    @cached_property
    def state(self) -> dict[str, Any]:
        """The trainer's state at the last complete checkpoint; empty without one."""
        if self.last_step is None:
            return {}
        text = (self.checkpoints.path(self.last_step) / STATE).read_text(encoding="utf-8")
        state: dict[str, Any] = json.loads(text)
        return state


def find_run(name: str) -> EarlierRun:
    """Return the single run with an id, the beginning of an id, or a folder.

    Raises:
        ConfigError: there is none, there are several, or its configuration cannot be read.
    """
    folder = user_path(name) if "/" in name else _folder_of(name)
    if not folder.is_dir():
        raise ConfigError.single("resume", f"there is no folder {folder}; {_listed()}")
    if folder.resolve().parent.name == "trials":
        study = folder.resolve().parents[1].name
        raise ConfigError.single("resume", f"{folder} is a trial of a study, which is resumed by -m study.name={study}")
    path = folder / "config.yaml"
    if not path.is_file():
        message = f"{folder} has no config.yaml: it is not a run's folder, or the run ended too early; start a new run"
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
        message = f"must be a run's folder, or at least {SHORTEST_PREFIX} characters of its id, but got {prefix}"
        raise ConfigError.single("resume", message)
    spooled = spooled_ids(prefix)
    folders = [folder for folder in _runs() if folder.name.startswith(prefix) or folder.name in spooled]
    if len(folders) > 1:
        names = ", ".join(folder.name for folder in folders)
        raise ConfigError.single("resume", f"{prefix} is the beginning of the ids of {len(folders)} runs: {names}")
    if not folders:
        raise ConfigError.single("resume", f"there is no run {prefix} in {SINGLE_RUNS}; {_listed()}")
    return folders[0]


def _runs() -> list[Path]:
    """Folders of single runs in the working directory, the latest first."""
    folders = (folder for folder in SINGLE_RUNS.glob("*") if folder.is_dir())
    return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)


def _listed() -> str:
    latest = [folder.name[:8] for folder in _runs()[:5]]
    return f"the latest are {', '.join(latest)}" if latest else f"there are none in {Path.cwd() / SINGLE_RUNS}"


def why_not_resumable(run: EarlierRun, trainer: TrainerConfig) -> str | None:
    """Return why an earlier run cannot be resumed with a trainer's settings; None if it can."""
    if run.last_step is None:
        return f"run {run.run_id[:8]} has no complete checkpoint: start a new run"
    best = run.state["best_global_step"]
    if best is not None and not run.checkpoints.is_whole(best):
        return f"run {run.run_id[:8]} has lost its best checkpoint, of step {best}: start a new run"
    if trainer.max_steps is not None:
        if trainer.max_steps <= run.last_step:
            return f"run {run.run_id[:8]} has trained {run.last_step} steps: trainer.max_steps must be above that"
    elif trainer.epochs <= run.state["epoch"]:
        return f"run {run.run_id[:8]} has trained {run.state['epoch']:g} epochs: trainer.epochs must be above that"
    return None


def copy_training(run: EarlierRun, folder: Path) -> None:
    """Copy what another run needs to continue training: the last complete checkpoint, the best one, the emissions.

    Args:
        run: the earlier run, which stays as it is.
        folder: the new run's folder, without checkpoints.

    Raises:
        OSError: the disk is full, or a checkpoint was deleted in the meantime.
    """
    last = run.last_step
    assert last is not None, "validation refuses a run without a checkpoint"
    folder.mkdir(parents=True, exist_ok=True)
    if (costs := run.folder / "emissions.csv").is_file():
        shutil.copy(costs, folder)
    # Under another name until all of it is there: from half of it the run would be resumed without its best checkpoint.
    part = folder / "checkpoints.part"
    copied = run.checkpoints.copy({last, run.state["best_global_step"] or last}, part)
    # The former end of training no longer counts; the trainer sets the new one.
    state = {**run.state, "max_steps": 0, "best_model_checkpoint": None}
    (copied.path(last) / STATE).write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    copied.seal(last, run.checkpoints.times(last))
    part.rename(folder / CHECKPOINTS)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock a run's folder for the duration of the ``with`` block; the lock of a killed process is free.

    Raises:
        ConfigError: another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / ".lock", timeout=0).acquire()
    except Timeout:
        raise ConfigError.single("resume", f"run {folder.resolve().name[:8]} is in use by another process") from None
    with lock:
        yield


SERVICES = ("tracking", "emissions", "workers")
MAY_CHANGE = ("epochs", "max_steps", "eval_every", "log_every", "device", "early_stopping")
"""Keys of ``trainer`` that may change when a run is resumed."""

REASONS = {
    "model": "the checkpoint holds the weights of this model",
    "loss": "it has been trained by this loss so far",
    "data": "it has been trained on this data so far",
    "dataloader": "training continues in the middle of these batches",
    "optimizer": "the checkpoint holds the state of its optimizer and schedule, which would override it",
    "evaluation": "its best checkpoint was chosen by this evaluation",
    "study": "its best checkpoint was chosen by its own objective, at its own evaluations",
    "trainer": "it has been trained with its own value so far",
    "recipe": "a recipe sets the whole configuration",
}


@dataclass(frozen=True)
class Resumed:
    """An earlier run that a command resumes.

    Attributes:
        run: the earlier run.
        is_changed: whether the configuration has changed, so that a new run continues from a copy.
    """

    run: EarlierRun
    is_changed: bool


def resumed_name(words: Sequence[str], overrides: Overrides) -> str:
    """Return the value of ``resume`` as it was typed: an id such as 120e45 would be parsed as a number."""
    value = overrides.values["resume"]
    typed = [word.partition("=")[2].strip("'\"") for word in words if word.startswith("resume=")]
    return value if isinstance(value, str) or not typed else typed[-1]


def refuse_changes(overrides: Overrides) -> Iterator[Problem]:
    """Report every override that would change the training, and take them out of ``overrides``."""
    run_words = [key for key in (*overrides.choices, *overrides.values) if not _may_change(key, overrides)]
    for key in run_words:
        overrides.choices.pop(key, None)
        overrides.values.pop(key, None)
        if is_for_studies(key):
            continue  # reported already: these are for studies
        reason = REASONS.get(section_of(key), "the run has its own configuration")
        yield Problem(key, f"cannot change when a run is resumed: {reason}; leave it out, or start a new run")


def _may_change(key: str, overrides: Overrides) -> bool:
    if key == "resume" or section_of(key) in SERVICES:
        return True
    section, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    # An unknown key is reported as such, with the nearest one.
    known = {field.name for field in fields(TrainerConfig)}
    return key in overrides.values and section == "trainer" and rest != "" and (name in MAY_CHANGE or name not in known)


def read_resumed(name: str, overrides: Overrides, cell: Cell) -> tuple[TrialConfig, Resumed]:
    """Return the earlier run's own configuration, with the command's overrides.

    Raises:
        ConfigError: there is no such run, it cannot be resumed so, or its configuration is invalid on this machine.
    """
    run = find_run(name)
    problems: list[Problem] = []
    trainer: dict[str, Any] = {"trainer": asdict(run.config.trainer)}
    composed = resolve(cell.composed, {}, ("trainer",))
    for key in overrides.values:
        if section_of(key) == "trainer" and has_key(trainer, key):
            set_value(trainer, key, value_at(composed, key))
    config = replace(run.config, trainer=read_section(TrainerConfig, "trainer", trainer["trainer"], problems))
    problems += check_trial(config, broken={problem.where for problem in problems})
    is_changed = config != run.config
    if not problems and is_changed and (message := why_not_resumable(run, config.trainer)) is not None:
        problems.append(Problem("resume", message))
    raise_problems(problems)
    return config, Resumed(run, is_changed)


def service_overrides(words: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that a command which resumes the run must repeat."""
    return tuple(word for word in words if section_of(word.lstrip("+").partition("=")[0]) in SERVICES)
