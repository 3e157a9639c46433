"""Each section of a configuration as its frozen type.

Owns which keys a section has and the type and range of each. Knows nothing of how sections go together; that is
``rules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedsweep.config.reader import Reader
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Problem
from embedsweep.validation.sections.data import read_data
from embedsweep.validation.sections.evaluation import read_evaluation
from embedsweep.validation.sections.loss import read_loss
from embedsweep.validation.sections.model import read_model
from embedsweep.validation.sections.training import read_dataloader, read_optimizer, read_trainer

TRIAL_SECTIONS = ("model", "loss", "data", "dataloader", "optimizer", "trainer", "evaluation")


def read_trial(
    tree: Mapping[str, Any], objective: str, rungs: tuple[float, ...], problems: list[Problem]
) -> TrialConfig:
    """The part of a resolved configuration that decides a trial's result; what is wrong goes to ``problems``."""
    root = Reader({name: tree.get(name) for name in TRIAL_SECTIONS}, "", problems)
    return TrialConfig(
        objective=objective,
        rungs=rungs,
        model=read_model(root.section("model")),
        loss=read_loss(root.section("loss")),
        data=read_data(root.section("data")),
        dataloader=read_dataloader(root.section("dataloader")),
        optimizer=read_optimizer(root.section("optimizer")),
        trainer=read_trainer(root.section("trainer")),
        evaluation=read_evaluation(root.section("evaluation")),
    )
