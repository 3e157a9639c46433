"""The end of a complete study: its best model is scored on test, once, and recorded.

Owns the rule that dev selects and test reports. Knows nothing of how trials run.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from optuna.trial import FrozenTrial

from embedsweep.card.write import complete_card
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import KeepModels, TrialConfig
from embedsweep.files import MODEL
from embedsweep.signals import shielded
from embedsweep.study.duplicates import CONFIG_HASH, trained_config
from embedsweep.study.record import RUN_ID, Finals
from embedsweep.study.study import Study
from embedsweep.tracking.runs import Tracker
from embedsweep.training.folder import read_result, train_log


def score_complete(study: Study, tracker: Tracker, parent: str, keep_models: KeepModels) -> dict[str, float] | None:
    """Scores the winner of a study once it is complete; None before, and otherwise as :func:`score_winner`."""
    if not study.is_complete:
        return None
    with study.lock():  # two workers, or commands, may see the last trial end in the same moment
        return score_winner(study, tracker, parent, keep_models)


def score_winner(study: Study, tracker: Tracker, parent: str, keep_models: KeepModels) -> dict[str, float] | None:
    """Scores the best trial on test, unless that was done before; its card says of how many trials it is the best.

    Returns:
        All test metrics; None where no trial is complete or the model lies on another machine.
    """
    winner = study.best
    if winner is None:
        return None
    finals = study.finals
    done = finals if finals is not None and finals.number == winner.number else None
    n_trials = len(study.trials)
    if done is not None and done.n_trials == n_trials:
        return done.scores
    folder = study.trial_folder(winner.number)
    result = read_result(folder)
    if result is None or not (folder / MODEL).is_dir():
        return done.scores if done is not None else None
    config = trained_config(study.plan, winner)
    if done is not None:  # the study has more trials and the same winner, whose card must not say less
        before = {**result.before, **done.before}
        reported = replace(result, test=done.test, before=before, benchmarks=done.benchmarks)
    else:
        with train_log(folder / "train.log"):
            reported = _reported(folder / MODEL, config, result)
    of = f"{n_trials} trial{'s' if n_trials > 1 else ''} of study {study.name}"
    complete_card(folder / MODEL, config, reported, f"It is the best of {of}, chosen on dev.")
    finals = Finals(winner.number, reported.test, reported.benchmarks, reported.before, n_trials)
    with shielded():  # a run that is reopened is ended again
        _record(study, tracker, parent, winner, config, result.steps, finals.scores, keep_models)
        study.set_finals(finals)
    if keep_models == "none":
        shutil.rmtree(folder / MODEL)
    return finals.scores


def _reported(model_folder: Path, config: TrialConfig, result: TrialResult) -> TrialResult:
    """The result with the scores that report: of the model, and of the untrained one where that was scored on dev."""
    from transformers import set_seed

    from embedsweep.models import build_model, load_trained, torch_device
    from embedsweep.training.scoring import score_further, score_test

    device = torch_device(config.trainer.device)
    before = dict(result.before)
    if before:
        set_seed(config.trainer.seed)
        untrained = build_model(config.model, device)
        before |= {**score_test(config, untrained), **score_further(config, untrained)}
    model = load_trained(model_folder, config.model, device)
    return replace(result, test=score_test(config, model), before=before, benchmarks=score_further(config, model))


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
