"""Score the best trial of a complete study on test, once, and record it: dev selects, test reports."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from embedsweep.card.write import complete_card
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.evaluation.scores import SCORES, read_scores
from embedsweep.files import MODEL
from embedsweep.lease import Lease
from embedsweep.machine import training_gpus
from embedsweep.signals import shielded
from embedsweep.study.duplicates import CONFIG_HASH, trained_config
from embedsweep.study.finals import expects_finals
from embedsweep.study.keep import keep_text
from embedsweep.study.leases import LEASE
from embedsweep.study.record import RUN_ID
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from embedsweep.tracking.runs import Tracker
from embedsweep.training.folder import train_log
from embedsweep.workers.results_elsewhere import ResultsElsewhere

SCORING = "scoring.csv"
"""What it cost to score the winners of a study: a file of the study's folder, like a trial's ``emissions.csv``."""


def score_best(study: Study, tracker: Tracker, parent: str, say: Callable[[str], None]) -> None:
    """Score the best trial of a complete study as `score_complete`; fetch its model if it is elsewhere, or say why not.

    Args:
        study: the study.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        say: is told what takes time, and what cannot be done.
    """
    best = study.best
    if best is None or expects_finals(study):
        return
    elsewhere = ResultsElsewhere(study, study.services, say)
    # Not under the lock, for which others wait.
    where = "" if _is_scored(study) else elsewhere.fetch_model(best.number)
    if score_complete(study, tracker, parent) is None:
        host = Lease(**lease).host if (lease := best.user_attrs.get(LEASE)) is not None else "its machine"
        does = f"in its folder on {host}, embedsweep train -m study.name={study.name} scores it"
        say(f"test was not scored: the model of trial {best.number}, the best, {where or 'has no result'}; {does}")
    elif study.services.keep_models == "none":
        elsewhere.delete_models(lambda _: True)


def _is_scored(study: Study) -> bool:
    """Return whether the best trial has test scores, which say of how many trials it is the best."""
    winner, tested = study.best, study.test_scores
    if winner is None or tested is None:
        return False
    return (tested.number, tested.n_trials) == (winner.number, len(study.trials))


def score_complete(
    study: Study,
    tracker: Tracker,
    parent: str,
    allocation: Path | None = None,
    alive: Callable[[], None] = lambda: None,
) -> dict[str, float] | None:
    """Score the best trial of a complete study on test, unless that was done before, and complete its card.

    Where there will be finals, test waits for them, and this does nothing.

    Args:
        study: the study.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        allocation: the file with the energy allocated to this worker; None measures the machine.
        alive: is called after each batch of texts that is encoded.

    Returns:
        All test metrics; None before the study is complete, without a complete trial, or if the model is not here.
    """
    if not study.is_complete or study.is_finals or expects_finals(study):
        return None
    with study.lock():  # two workers, or commands, may see the last trial end at the same time
        return _score_winner(study, tracker, parent, allocation, alive)


def _score_winner(
    study: Study, tracker: Tracker, parent: str, allocation: Path | None, alive: Callable[[], None]
) -> dict[str, float] | None:
    winner = study.best
    if winner is None:
        return None
    tested = study.test_scores
    done = tested if tested is not None and tested.number == winner.number else None
    n_trials = len(study.trials)
    if done is not None and done.n_trials == n_trials:
        return done.scores
    folder, result = study.trial_folder(winner.number), study.result_of(winner)
    if result is None or not (folder / MODEL).is_dir():
        return done.scores if done is not None else None
    config = trained_config(study.plan, winner)
    if done is not None:  # the study has more trials and the same winner: the card must give the new number
        before = {**result.before, **done.before}
        scored, cost = replace(result, test=done.test, before=before, benchmarks=done.benchmarks), done.cost
    else:
        gpus = training_gpus(config.trainer.device)
        meter = EmissionsMeter(study.services.emissions, study.folder / SCORING, allocation, gpus)
        with train_log(folder / "train.log"), meter:
            scored = score_model(folder, config, result, alive)
        cost = all_scoring(study, meter)
    items = read_scores(folder, "test") if done is None else None
    interval = items.interval(config.objective) if items is not None else done.interval if done is not None else None
    of = f"{n_trials} trial{'s' if n_trials > 1 else ''} of study {study.name}"
    kept = f"; a trial that forgot {keep_text(keep)} could not be" if (keep := study.plan.keep) else ""
    complete_card(folder / MODEL, config, scored, f"It is the best of {of}, chosen on dev{kept}.")
    tested = TestScores(winner.number, scored.test, scored.benchmarks, scored.before, n_trials, cost, interval)
    with shielded():  # once a run is reopened, it must be ended
        run_id, identity = winner.user_attrs[RUN_ID], winner.user_attrs[CONFIG_HASH]
        if tracker.has_run(run_id):  # else it is in another store, and the study's own run alone has the scores
            run = tracker.trial_run(study.name, winner.number, config, identity, parent=parent, run_id=run_id)
            run.log_metrics(result.steps, tested.scores)
            if (folder / SCORES).is_dir():  # files of an older study may be lost
                run.log_artifact(folder / SCORES, SCORES)
            if study.services.keep_models != "none":
                run.log_artifact(folder / MODEL, MODEL)
            run.finish("COMPLETE")
        if done is None:
            study.add_look(f"trial {winner.number}")
        study.set_test_scores(tested)
    if study.services.keep_models == "none":
        shutil.rmtree(folder / MODEL)
    return tested.scores


def all_scoring(study: Study, meter: EmissionsMeter) -> Emissions:
    """Return what scoring cost so far, with what a meter measured: its file has only what ran on this machine."""
    here, known = meter.total(), study.scoring_cost
    if known is None:
        return here
    return max(here, Emissions.sum_of([known, meter.attempt()]), key=lambda cost: cost.duration_s)


def score_model(
    folder: Path, config: TrialConfig, result: TrialResult, alive: Callable[[], None] = lambda: None
) -> TrialResult:
    """Return the result with test scores: of the model, and of the untrained one if that was scored on dev.

    Args:
        folder: the trial's; the scores of the test items are written there.
        config: the trial.
        result: what was known before.
        alive: is called after each batch of texts that is encoded.
    """
    from transformers import set_seed

    from embedsweep.evaluation.encoding import signs_of_life
    from embedsweep.evaluation.evaluator import score_further, score_test
    from embedsweep.models.build import build_model, load_trained, torch_device

    device = torch_device(config.trainer.device)
    before = dict(result.before)
    if before:
        set_seed(config.trainer.seed)
        untrained = build_model(config.model, device)
        with signs_of_life(untrained, alive):
            before |= {**score_test(config, untrained), **score_further(config, untrained)}
    model = load_trained(folder / MODEL, config.model, device)
    with signs_of_life(model, alive):
        return replace(
            result, test=score_test(config, model, folder), before=before, benchmarks=score_further(config, model)
        )
