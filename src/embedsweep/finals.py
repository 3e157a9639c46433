"""The end of a complete study: its best model is scored on test, once, and recorded.

Owns the rule that dev selects and test reports. Knows nothing of how trials run.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial

from embedsweep.card import write_card
from embedsweep.data import load_splits
from embedsweep.gate import cell_config
from embedsweep.schema import KeepModels, TrialConfig
from embedsweep.study import CONFIG_HASH, RUN_ID, Study
from embedsweep.tracking import Tracker
from embedsweep.train_log import train_log
from embedsweep.trial import MODEL, read_result


def score_winner(study: Study, tracker: Tracker, parent: str, keep_models: KeepModels) -> dict[str, float] | None:
    """Scores the best trial on test, unless that was done before.

    Returns:
        All test metrics; None where no trial is complete or the model lies on another machine.
    """
    winner = study.best
    if winner is None:
        return None
    if study.finals is not None and study.finals[0] == winner.number:
        return study.finals[1]
    folder = study.trial_folder(winner.number)
    result = read_result(folder)
    if result is None or not (folder / MODEL).is_dir():
        return None
    config = cell_config(study.plan, winner.params)
    with train_log(folder / "train.log"):
        scores = _score(folder / MODEL, config)
    selection = f"It is the best of {len(study.trials)} trials of study {study.name}, chosen on dev."
    write_card(folder / MODEL, config, replace(result, test=scores), selection)
    _record(study, tracker, parent, winner, config, result.steps, scores, keep_models)
    study.set_finals(winner.number, scores)
    if keep_models == "none":
        shutil.rmtree(folder / MODEL)
    return scores


def _score(model_folder: Path, config: TrialConfig) -> dict[str, float]:
    from embedsweep.evaluation import PairEvaluator, scores_of
    from embedsweep.models import load_trained, torch_device

    model = load_trained(model_folder, config.model, torch_device(config.trainer.device))
    return scores_of(PairEvaluator(load_splits(config.data, config.evaluation).test, "test", config.evaluation), model)


def _record(
    study: Study,
    tracker: Tracker,
    parent: str,
    winner: FrozenTrial,
    config: TrialConfig,
    step: int,
    scores: dict[str, float],
    keep_models: KeepModels,
) -> None:
    run_id = winner.user_attrs[RUN_ID]
    if not tracker.has_run(run_id):
        return  # it was recorded in another store; the study's own run carries the scores
    identity = winner.user_attrs[CONFIG_HASH]
    run = tracker.trial_run(study.name, winner.number, config, identity, parent=parent, run_id=run_id)
    run.log_metrics(step, scores)
    if keep_models != "none":
        run.log_artifacts(study.trial_folder(winner.number) / MODEL, MODEL)
    run.finish("COMPLETE")
