"""The words of a command that resumes an earlier single run.

Owns what may differ then, and why all else may not. Knows nothing of how a run goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from embedsweep.config import has_key, resolve, set_value, value_at
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.reader import Reader
from embedsweep.gate.rules import check_trial
from embedsweep.gate.sections.training import read_trainer
from embedsweep.gate.words import STUDY_KEYS_OF_A_TRIAL, Cell, Words, section_of
from embedsweep.resume import EarlierRun, find_run, why_it_cannot_go_on
from embedsweep.schema import TrainerConfig, TrialConfig

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
    config = replace(run.config, trainer=read_trainer(Reader(trainer["trainer"], "trainer", problems)))
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
