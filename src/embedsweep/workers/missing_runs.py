"""Find what MLflow lacks of finished trials, and record it again from the study's storage and folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from optuna.trial import FrozenTrial

from embedsweep.evaluation.scores import DEV_TABLE, SCORES, read_scores
from embedsweep.files import MODEL
from embedsweep.study.comparison import is_local
from embedsweep.study.duplicates import CONFIG_HASH, Duplicate, trained_config
from embedsweep.study.keep import forgets_text, forgotten
from embedsweep.study.leases import LEASE
from embedsweep.study.pruning import PRUNED
from embedsweep.study.record import FAILURE, RETRY_OF, RUN_ID, StudyRecord
from embedsweep.study.storage import repair_hint
from embedsweep.study.study import Study
from embedsweep.tracking.lookup import KnownRun
from embedsweep.tracking.names import FORGETS, FORMER_ID, best_metrics, color_tags, option_tags, trial_name
from embedsweep.tracking.runs import Tracker, TrialState, TrialTracker
from embedsweep.tracking.spool import SPOOL, spooled_ids
from embedsweep.training.curve import points_of_curve
from embedsweep.training.trial import log_result

FILES = ("config.yaml", "train.log", "emissions.csv")
FOLDERS = (SCORES,)


@dataclass(frozen=True)
class MissingRun:
    """A finished trial whose run is gone.

    Attributes:
        trial: the trial.
        deleted: the store's id of its run, if it was deleted there and can be restored; None if the store lacks it.
    """

    trial: FrozenTrial
    deleted: str | None


def missing_runs(study: Study, tracker: Tracker) -> list[MissingRun]:
    """Return the finished trials whose runs are gone; none while the store is unreachable."""
    missing = []
    for trial, run in _recorded(study, tracker):
        if run is not None and run.is_deleted:
            missing.append(MissingRun(trial, run.store_id))
        elif run is None:
            missing.append(MissingRun(trial, None))
    return missing


def without_best(study: StudyRecord, tracker: Tracker) -> list[FrozenTrial]:
    """Return the finished trials whose runs lack scores of their results: earlier versions logged no ``best/...``."""
    waiting = tracker.waiting(study.experiment)
    found = []
    for trial, run in _recorded(study, tracker):
        if run is None or run.is_deleted or {trial.user_attrs[RUN_ID], run.store_id} & waiting.keys():
            continue
        result = study.result_of(trial)
        if result is not None and not best_metrics(result.dev).keys() <= run.metrics:
            found.append(trial)
    return found


def add_best(study: StudyRecord, tracker: Tracker, trial: FrozenTrial) -> None:
    """Log the scores of a trial's result to its run, which has ended and stays so."""
    result = study.result_of(trial)
    assert result is not None, "`without_best` returns trials with a result"
    tracker.finished_run(study.experiment, trial.user_attrs[RUN_ID]).log_metrics(
        result.best_step, best_metrics(result.dev)
    )


def _recorded(study: StudyRecord, tracker: Tracker) -> Iterator[tuple[FrozenTrial, KnownRun | None]]:
    """Yield the finished trials, each with its run in the store; None if the store lacks it and no record of it waits.

    Nothing while the store is unreachable.
    """
    waiting = tracker.waiting(study.experiment)
    finished = [trial for trial in study.trials if trial.state.is_finished() and RUN_ID in trial.user_attrs]
    known = tracker.known_runs(study.experiment) if finished else None
    if known is None:
        return
    for trial in finished:
        run_id = trial.user_attrs[RUN_ID]
        run = known.get(run_id)
        if run is not None or (run_id not in waiting and not tracker.has_run(run_id)):
            yield trial, run


def owner_of(study: StudyRecord, run_id: str) -> str:
    """Return whose run it is, in words: ``trial 3``, ``final 4``."""
    for each in (study, study.finals):
        numbers = {trial.user_attrs.get(RUN_ID): trial.number for trial in (each.trials if each is not None else ())}
        number = numbers.get(run_id, numbers.get(spooled_ids("").get(run_id, run_id)))
        if each is not None and number is not None:
            return f"{each.unit} {number}"
    return "the study itself"


def refusals(study: StudyRecord, tracker: Tracker) -> list[str]:
    """Return in words the records that MLflow's store refuses, and why; mostly nothing."""
    return [
        f"MLflow's store refuses a record of {owner_of(study, run_id)}: {reason}. It waits in "
        f"{study.folder / SPOOL}, with those after it"
        for run_id, reason in tracker.refusals().items()
    ]


def damage(study: Study, tracker: Tracker) -> list[str]:
    """Return in words which records of finished trials are gone, with the command that rebuilds them; mostly nothing.

    Folders are looked for where this machine trained the trials.
    """
    lines = []
    if runs := missing_runs(study, tracker):
        numbers = _counted("run", study.unit, [each.trial.number for each in runs])
        lines.append(f"MLflow's store does not have {numbers}")
    with_result = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    here = [trial.number for trial in with_result if is_local(trial, study.url)]
    if gone := [number for number in here if not study.trial_folder(number).is_dir()]:
        lines.append(f"{study.folder / 'trials'} does not have {_counted('folder', study.unit, gone)}")
    return [*lines, repair_hint(study.experiment)] if lines else []


def _counted(noun: str, unit: str, numbers: Sequence[int]) -> str:
    plural = "s" if len(numbers) > 1 else ""
    return f"the {noun}{plural} of {unit}{plural} {', '.join(map(str, numbers))}"


def origin_tags(study: StudyRecord, number: int) -> dict[str, str]:
    """Return tags about a trial that was not simply sampled and trained."""
    trial = study.trial(number)
    tags: dict[str, str] = {}
    if (failed := trial.user_attrs.get(RETRY_OF)) is not None:
        tags["embedsweep.retry_of"] = str(failed)
    if (duplicate := Duplicate.of(trial)) is not None:
        name = "embedsweep.reused_from" if duplicate.replicate is None else "embedsweep.replicate_of"
        tags[name] = study.trial(duplicate.original).user_attrs[RUN_ID]
        tags[f"{name}_trial"] = str(duplicate.original)
    return tags


def record_again(study: Study, tracker: Tracker, parent: str, trial: FrozenTrial, of: StudyRecord) -> None:
    """Record a finished trial whose run is lost in a new run, which is found by the lost one's id.

    Args:
        study: the study of the trial, or the finals.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        trial: the trial.
        of: the study; the one whose finals these are.

    Raises:
        TrackingError: the store refuses it.
    """
    attributes, context = trial.user_attrs, study.context_of(trial)
    tags = {"embedsweep.study": study.experiment, **option_tags(study.options_of(study.params_of(trial)))}
    if lease := attributes.get(LEASE):
        tags["embedsweep.host"] = lease["host"]
    tags |= {name: attributes[name] for name in (PRUNED, FAILURE) if name in attributes}
    if forgets := forgets_text(forgotten(study.plan.keep, trial.constraints)):
        tags[FORGETS] = forgets
    tags |= origin_tags(study, trial.number) | (dict(context.tags) if context is not None else {})
    tags |= color_tags(study.plan, study.params_of(trial), trial.number)
    point = study.point_of(trial)
    run = tracker.trial_run(
        study.experiment,
        trial.number,
        trained_config(study.plan, trial),
        attributes[CONFIG_HASH],
        parent=parent,
        run_name=trial_name(trial.number, study.params_of(trial), study.plan.groups, point),
        tags={**tags, FORMER_ID: attributes[RUN_ID]},
        finalist=point.finalist if point is not None else None,
        started_ms=_ms(trial.datetime_start),
    )
    _log_all(study, run, trial, of)
    run.finish(cast("TrialState", trial.state.name), _ms(trial.datetime_complete))


def record_fetched(study: Study, run: TrialTracker, number: int) -> None:
    """Record whatever a run may lack of a trial that another machine trained and did not tell of, and that is open."""
    trial = study.trial(number)
    if (context := study.context_of(trial)) is not None:
        run.set_tags(context.tags)
    _log_all(study, run, trial, study, with_model=False)  # that is logged when the trial ends


def _log_all(study: Study, run: TrialTracker, trial: FrozenTrial, of: StudyRecord, *, with_model: bool = True) -> None:
    """Log data sets, scores and files; what the run has already stays as it is."""
    context = study.context_of(trial)
    for data_set in context.data_sets if context is not None else ():
        run.log_dataset(**data_set)
    _log_scores(study, run, trial, of)
    _log_files(study, run, trial, of, with_model=with_model)


def _log_scores(study: Study, run: TrialTracker, trial: FrozenTrial, of: StudyRecord) -> None:
    result, duplicate = study.result_of(trial), Duplicate.of(trial)
    if result is None:
        if study.plan.pruner == "none":  # else the reports are under rungs, not under steps
            run.log_history(
                [(step, {study.plan.objective: value}) for step, value in trial.intermediate_values.items()]
            )
        return
    if duplicate is not None and duplicate.replicate is None:
        run.log_metrics(result.best_step, best_metrics(result.dev))
        return
    run.set_tags({"embedsweep.conversion": result.conversion or "none"})
    log_result(run, result)
    run.log_metrics(0, result.before)
    run.log_history(points_of_curve(result.curve))
    if scores := _test_scores(study, trial.number, of):
        run.log_metrics(result.steps, scores)


def _test_scores(study: StudyRecord, number: int, of: StudyRecord) -> Mapping[str, float]:
    """Return a trial's metrics on test and further benchmarks; none where it was not scored there."""
    if study.is_finals:
        return of.finals_test.scores.get(number, {}) if of.finals_test is not None else {}
    tested = of.test_scores
    return tested.scores if tested is not None and tested.number == number else {}


def _log_files(study: Study, run: TrialTracker, trial: FrozenTrial, of: StudyRecord, *, with_model: bool) -> None:
    folder = study.trial_folder(trial.number)
    for name in FILES:
        if (folder / name).is_file():
            run.log_artifact(folder / name)
    is_winner = bool(_test_scores(study, trial.number, of))
    is_kept = is_winner or study.services.keep_models == "all"
    folders = (*FOLDERS, *([MODEL] if with_model and is_kept else []))
    for name in folders:
        if (folder / name).is_dir():
            run.log_artifact(folder / name, name)
    if (scores := read_scores(folder)) is not None:
        run.log_table(DEV_TABLE, scores.table())


def missing_files(study: Study, trial: FrozenTrial, of: StudyRecord) -> list[str]:
    """Return the files and folders that a finished trial, if it was trained, has beside its result and now lacks.

    Args: as those of `record_again`.
    """
    duplicate = Duplicate.of(trial)
    if (duplicate is not None and duplicate.replicate is None) or not is_local(trial, study.url):
        return []
    best, test = study.best, of.finals_test
    kept = best.number if best is not None else None
    if study.is_finals:
        kept = test.kept if test is not None else None
    is_best = kept == trial.number and study.services.keep_models != "none"
    names = (*FILES, *FOLDERS, *([MODEL] if is_best else []))
    return [name for name in names if not (study.trial_folder(trial.number) / name).exists()]


def _ms(time: datetime | None) -> int | None:
    return int(time.timestamp() * 1000) if time is not None else None
