"""Resolve a MODEL argument: a folder, a study's best model, the model of a run, or a model on the hub.

A run's model that is not in its folder is downloaded from MLflow's store. Studies are only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from embedsweep.commands.arguments import ParsedArguments, Positional
from embedsweep.config.compose import Composer, open_composer
from embedsweep.config.trial import ModelConfig
from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, EmbedsweepError, Problem, StudyError
from embedsweep.files import MODEL as MODEL_FOLDER
from embedsweep.files import SINGLE_RUNS, STUDY_FILE, SWEEPS, study_names, study_of, user_path
from embedsweep.hub import cached_model_path
from embedsweep.machine import prepare_process
from embedsweep.secrets import redact
from embedsweep.validation.resume import SHORTEST_PREFIX
from embedsweep.validation.rules.model import TRUST, check_model
from embedsweep.validation.sections import read_sections
from embedsweep.validation.single import read_store

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


MODEL = Positional("MODEL", "a folder, a study's name (its best), a run's id or its first 6 digits, or a hub id")

_RUN_ID = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},32}}")
_N_LISTED = 10


@dataclass(frozen=True)
class ResolvedModel:
    """A model that exists.

    Attributes:
        argument: the MODEL argument.
        source: its folder, or its id on the hub.
        description: what it is (``the best of study loss-12fca524, trial 1``).
        is_folder: whether it is on this disk, other than in the hub's cache.
        trust_remote_code: whether code that comes with it may run: if the run of this folder that trained it says so.
        is_provisional: whether it is the best of a study that has trials or finals left; the description says so, too.
        study: the study whose answer it is, or of which it is a trial; None of another model.
        is_answer: whether it is what the study found, not just one of its trials.
        run_id: MLflow's run that trained it; None if it is not known.
    """

    argument: str
    source: str
    description: str
    is_folder: bool
    trust_remote_code: bool = False
    is_provisional: bool = False
    study: str | None = None
    is_answer: bool = False
    run_id: str | None = None


@dataclass(frozen=True)
class _Run:
    """A run of this working directory.

    Attributes:
        run_id: MLflow's.
        folder: the folder of its model, if that was kept.
        description: what it is.
        study: its study; None of a single run.
    """

    run_id: str
    folder: Path
    description: str
    study: str | None


def read_model_argument(arguments: ParsedArguments) -> ResolvedModel | None:
    """Return the model of a verb whose first positional argument is MODEL; None where it is wrong, which is noted."""
    return next(iter(read_model_arguments(arguments)), None)


def read_model_arguments(arguments: ParsedArguments) -> list[ResolvedModel]:
    """Return the models of a verb whose first positional argument is MODEL or MODEL..., without those that are wrong.

    What is wrong with them is noted.
    """
    words = arguments.positionals[0]
    models: list[ResolvedModel] = []
    with open_composer() as composer:
        for word in dict.fromkeys(words):
            if words.count(word) > 1:
                arguments.add_problem("MODEL", f"{word} is given more than once")
            if (model := arguments.collect(resolve_model, word, composer)) is not None:
                models.append(model)
    return models


def resolve_model(argument: str, composer: Composer) -> ResolvedModel:
    """Find the model that a MODEL argument names.

    Args:
        argument: a folder of a model, or of a run or trial that has one; a study's name; a run's id or its first 6 or
            more digits; or a hub id.
        composer: composes the option as which a folder or a hub id is checked.

    Raises:
        ConfigError: there is none, or it cannot be loaded (no safetensors, a hub that does not answer).
        StudyError: a study's storage cannot be opened.
        TrackingError: a run's model cannot be downloaded from MLflow's store.
    """
    folder, study = user_path(argument), study_of(argument)
    if folder.exists() and not (folder / STUDY_FILE).is_file():
        inside = folder / MODEL_FOLDER
        has_model_inside = (inside / "modules.json").is_file() and not (folder / "modules.json").is_file()
        source = str(inside if has_model_inside else folder)
        if problems := _validate(source, composer):
            raise ConfigError(Problem(argument, problem.message.removesuffix(TRUST)) for problem in problems)
        return ResolvedModel(argument, source, f"the folder {source}", True)
    if (SWEEPS / study / STUDY_FILE).is_file():
        return _best_of(study)
    if _RUN_ID.fullmatch(argument) and (model := _model_of_run(argument, composer)) is not None:
        return model
    return _on_the_hub(argument, composer)


def load_model(model: ResolvedModel, device: str) -> SentenceTransformer:
    """Load a model; weights are read from safetensors only. Imports torch.

    Args:
        model: which.
        device: where it goes, as ``--device`` has it.

    Raises:
        EmbedsweepError: its files are broken, or are not a model's.
    """
    prepare_process(device)
    from embedsweep.models.build import torch_device
    from embedsweep.models.loading import load_model as load

    try:
        return load(model.source, device=torch_device(device), trust_remote_code=model.trust_remote_code)
    except Exception as error:  # several libraries read a model, and each raises its own exceptions
        reason = redact((str(error).strip().splitlines() or ["no reason given"])[0])
        message = f"the model {model.source} cannot be loaded: {type(error).__name__}: {reason}"
        raise EmbedsweepError(message) from error


def _validate(path: str, composer: Composer) -> list[Problem]:
    """Return what validation has against ``model=pretrained model.path=PATH``."""
    tree = composer.compose({"model": "pretrained"})
    tree["model"]["path"] = path
    problems: list[Problem] = []
    config = read_sections(tree, {"model": ModelConfig}, problems)["model"]
    return problems or list(check_model(config))


def _best_of(study: str) -> ResolvedModel:
    """Return the model that a study kept: of its finals, once they are decided, else of its best trial."""
    from embedsweep.report.verdict import unscored, what_is_left
    from embedsweep.study.reading import read_study
    from embedsweep.study.record import RUN_ID

    record = read_study(study)
    if record.is_finals:
        raise ConfigError.single(study, f"is the finals of study {record.experiment}; the model that they kept is its")
    kept = record.kept
    if kept is None and record.complete_trials:
        raise ConfigError.single(study, f"has no best model: {record.why_no_best}")
    if kept is None:
        raise ConfigError.single(study, f"has no complete trial yet; resume it: -m study.name={study}")
    trained_in, trial = kept
    what = f"{trained_in.unit} {trial.number}"
    folder = trained_in.trial_folder(trial.number) / MODEL_FOLDER
    if not folder.is_dir():
        message = f"the model of its best, {what}, is not in {folder}: it was not kept, or is elsewhere"
        raise ConfigError.single(study, f"{message} (study.keep_models)")
    left = what_is_left(record) or unscored(record)
    so_far = f" so far ({left})" if left else ""
    point = trained_in.point_of(trial)
    again = f" (trial {point.finalist} with another seed)" if point is not None else ""
    description = f"the best{so_far} of study {study}, {what}{again}"
    return ResolvedModel(
        study,
        str(folder),
        description,
        True,
        _trusts(folder),
        is_provisional=bool(left),
        study=study,
        is_answer=True,
        run_id=trial.user_attrs.get(RUN_ID),
    )


def _trusts(folder: Path) -> bool:
    """Return whether the run whose model is in ``folder`` was configured to run code that comes with the model."""
    try:
        tree = yaml.safe_load((folder.parent / "config.yaml").read_text(encoding="utf-8"))
        return tree["model"]["trust_remote_code"] is True
    except (OSError, yaml.YAMLError, TypeError, LookupError):
        return False


def _model_of_run(argument: str, composer: Composer) -> ResolvedModel | None:
    """Return the model of the run whose id starts with ``argument``; None where no run does."""
    runs = _runs_of(argument)
    _check_unique(argument, [run.run_id for run in runs])
    run = runs[0] if runs else None
    if run is not None and run.folder.is_dir():
        return ResolvedModel(
            argument, str(run.folder), run.description, True, _trusts(run.folder), study=run.study, run_id=run.run_id
        )
    model = _from_the_store(argument, run, composer)
    if model is None and run is not None:
        message = f"is {run.description}, whose model was not kept: it is neither in {run.folder} nor in MLflow's store"
        hint = f"; the study's best model is {run.study}" if run.study else ""
        raise ConfigError.single(argument, message + hint)
    return model


def _from_the_store(argument: str, run: _Run | None, composer: Composer) -> ResolvedModel | None:
    """Download a run's model from MLflow's store; None where the store has none.

    Args:
        argument: a run's id, or its first digits.
        run: the run, where it is known here; else it is one of another folder or machine.
        composer: composes the option as which the model is checked.
    """
    from embedsweep.tracking.browse import download_model, runs_with_model

    tracking = read_store([])
    ids = runs_with_model(tracking, run.run_id if run is not None else argument)
    _check_unique(argument, ids)
    if not ids:
        return None
    description = run.description if run is not None else f"run {ids[0]}"
    source = str(download_model(tracking, ids[0]))
    if problems := _validate(source, composer):
        raise ConfigError(Problem(argument, problem.message) for problem in problems)
    return ResolvedModel(argument, source, f"{description}, from MLflow's store", True, run_id=ids[0])


def _check_unique(argument: str, run_ids: list[str]) -> None:
    if len(run_ids) > 1:
        raise ConfigError.single(argument, f"{len(run_ids)} runs have ids that start so: {_listed(run_ids)}")


def _on_the_hub(argument: str, composer: Composer) -> ResolvedModel:
    problems = _validate(argument, composer)
    if not problems:
        cached = cached_model_path(argument, None)
        return ResolvedModel(argument, str(cached or argument), f"{argument} on the hub", False)
    studies, runs = study_names(), single_runs_with_model()
    known = f"studies: {_listed(studies)}; single runs: {_listed(run_id[:8] for run_id in runs)}"
    # The advice in them is for train.
    reasons = [problem.message.partition("; use ")[0].removesuffix(TRUST) for problem in problems]
    message = (
        f"is no folder, no study and no run here{nearest(argument, [*studies, *runs])} ({known}); "
        f"on the hub: {'; '.join(reasons)}"
    )
    raise ConfigError.single(argument, message)


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    rest = f" and {len(known) - _N_LISTED} more" if len(known) > _N_LISTED else ""
    return (", ".join(known[:_N_LISTED]) + rest) or "none"


def _runs_of(prefix: str) -> list[_Run]:
    """Return all runs whose id starts so: single runs by their folders, trials by what their studies record."""
    from embedsweep.study.reading import read_study
    from embedsweep.study.record import RUN_ID
    from embedsweep.tracking.spool import spooled_ids

    store_ids = spooled_ids(prefix)
    runs = [
        _Run(store_ids.get(path.name, path.name), path / MODEL_FOLDER, f"run {path.name}", None)
        for path in sorted(SINGLE_RUNS.glob("*"))
        if path.name.startswith(prefix) or path.name in store_ids
    ]
    for study in study_names():
        try:
            record = read_study(study)
        except (ConfigError, StudyError):
            continue  # the runs of a study that cannot be read are unknown; the study's own name gives the reason
        for trained_in in filter(None, (record, record.finals)):
            for trial in trained_in.trials:
                run_id = str(trial.user_attrs.get(RUN_ID, ""))
                if run_id.startswith(prefix) or run_id in store_ids:
                    folder = trained_in.trial_folder(trial.number) / MODEL_FOLDER
                    description = f"{trained_in.unit} {trial.number} of study {study}"
                    runs.append(_Run(store_ids.get(run_id, run_id), folder, description, study))
    return runs


def single_runs_with_model() -> list[str]:
    """Return the ids of the single runs of this working directory whose model was kept."""
    return sorted(path.parent.name for path in SINGLE_RUNS.glob(f"*/{MODEL_FOLDER}"))
