"""Which model a word means: a folder, a study's best, the model of a run, or a model on the hub.

Owns that order and what there is instead of a word that means nothing. A run's model that is not in its folder comes
from MLflow's store. Reads studies; changes nothing in them. Knows nothing of what is done with the model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from embedsweep.config.compose import Composer
from embedsweep.config.reader import Reader
from embedsweep.config.values import nearest, resolve
from embedsweep.errors import ConfigError, EmbedsweepError, Problem, StudyError
from embedsweep.files import MODEL, SINGLE_RUNS, SWEEPS
from embedsweep.hub import cached_model_path
from embedsweep.secrets import MASK, redact
from embedsweep.validation.resume import SHORTEST_PREFIX
from embedsweep.validation.rules.model import check_model
from embedsweep.validation.sections.model import read_model
from embedsweep.validation.sections.services import read_tracking
from embedsweep.validation.services import check_tracking

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial
    from sentence_transformers import SentenceTransformer

_RUN_ID = re.compile(rf"[0-9a-f]{{{SHORTEST_PREFIX},32}}")
_SHOWN = 10


@dataclass(frozen=True)
class ChosenModel:
    """A model that is there.

    Attributes:
        word: what it was called.
        source: its folder, or its id on the hub.
        what: what it is, in words (``the best of study loss-12fca524, trial 1``).
        is_folder: whether it lies on this disk under a name of its own, and not in the hub's cache.
    """

    word: str
    source: str
    what: str
    is_folder: bool


@dataclass(frozen=True)
class _Run:
    """A run of this project.

    Attributes:
        run_id: MLflow's.
        folder: where its model lies, if it was kept.
        what: what it is, in words.
        study: its study; None of a run by itself.
    """

    run_id: str
    folder: Path
    what: str
    study: str | None


def choose_model(word: str, composer: Composer) -> ChosenModel:
    """Finds the model that ``word`` means.

    Args:
        word: a folder of a model, or of a run or trial that has one; a study's name; a run's id or its first 6 or more
            digits; or a hub id.
        composer: composes the option that a folder or a hub id is checked as.

    Raises:
        ConfigError: there is none, or it cannot be loaded (no safetensors, a hub that does not answer).
        StudyError: a study's storage cannot be opened.
        TrackingError: a run's model lies in MLflow's store, which does not give it.
    """
    folder = Path(word).expanduser()
    if folder.exists():
        inside = folder / MODEL
        found = inside if (inside / "modules.json").is_file() and not (folder / "modules.json").is_file() else folder
        return _checked(ChosenModel(word, str(found), f"the folder {found}", True), composer)
    if (SWEEPS / word / "study.yaml").is_file():
        return _best_of(word)
    runs = _runs_of(word) if _RUN_ID.fullmatch(word) else []
    if len(runs) > 1:
        raise ConfigError.single(word, f"begins the ids of {len(runs)} runs: {_listed(run.run_id for run in runs)}")
    if runs and runs[0].folder.is_dir():
        return ChosenModel(word, str(runs[0].folder), runs[0].what, True)
    if runs or _RUN_ID.fullmatch(word):
        kept = _from_the_store(word, runs[0] if runs else None, composer)
        if kept is not None:
            return kept
    if runs:
        raise _not_kept(word, runs[0])
    return _on_the_hub(word, composer)


def load_model(chosen: ChosenModel, device: str | None) -> SentenceTransformer:
    """Loads a chosen model; weights are read from safetensors only. Imports torch.

    Args:
        chosen: which.
        device: torch's name of where it goes; None is the best there is.

    Raises:
        EmbedsweepError: its files are broken, or are no model's.
    """
    from sentence_transformers import SentenceTransformer

    try:
        return SentenceTransformer(chosen.source, device=device, model_kwargs={"use_safetensors": True})
    except Exception as error:  # several libraries read a model, and each raises what it likes
        reason = redact((str(error).strip().splitlines() or ["no reason given"])[0])
        message = f"the model {chosen.source} cannot be loaded: {type(error).__name__}: {reason}"
        raise EmbedsweepError(message) from error


def _checked(chosen: ChosenModel, composer: Composer) -> ChosenModel:
    """The model, if the gate lets it pass as ``model=pretrained model.path=...``."""
    problems = _gate_problems(chosen.source, composer)
    if problems:
        raise ConfigError(Problem(chosen.word, problem.message) for problem in problems)
    return chosen


def _gate_problems(path: str, composer: Composer) -> list[Problem]:
    tree = composer.compose({"model": "pretrained"})
    tree["model"]["path"] = path
    problems: list[Problem] = []
    config = read_model(Reader(resolve(tree, {}, ("model",))["model"], "model", problems))
    return problems or list(check_model(config))


def _best_of(study: str) -> ChosenModel:
    from embedsweep.study.record import best_of, trial_folder

    trials = _trials(study)
    plan = yaml.safe_load((SWEEPS / study / "study.yaml").read_text(encoding="utf-8"))["plan"]
    best = best_of(trials, plan["objectives"])
    if best is None:
        raise ConfigError.single(study, f"has no complete trial yet; go on with it: -m study.name={study}")
    folder = trial_folder(study, best.number) / MODEL
    if not folder.is_dir():
        message = f"the model of its best trial, {best.number}, is not in {folder}: it was not kept, or lies elsewhere"
        raise ConfigError.single(study, f"{message} (study.keep_models)")
    return ChosenModel(study, str(folder), f"the best of study {study}, trial {best.number}", True)


def _from_the_store(word: str, run: _Run | None, composer: Composer) -> ChosenModel | None:
    """The model that MLflow's store alone keeps, copied here; None where it has none.

    Args:
        word: a run's id, or the beginning of one.
        run: the run, where it is known here; else it is one of another folder or machine.
        composer: composes where the store is.
    """
    from embedsweep.tracking.browse import download_model, runs_with_model

    problems: list[Problem] = []
    tracking = read_tracking(resolve(composer.compose({}), {}, ("tracking",))["tracking"], problems)
    problems += check_tracking(tracking)
    if problems:
        raise ConfigError(problems)
    ids = runs_with_model(tracking, run.run_id if run is not None else word)
    if len(ids) > 1:
        raise ConfigError.single(word, f"begins the ids of {len(ids)} runs: {_listed(ids)}")
    if not ids:
        return None
    what = run.what if run is not None else f"run {ids[0]}"
    return ChosenModel(word, str(download_model(tracking, ids[0])), f"{what}, from MLflow's store", True)


def _not_kept(word: str, run: _Run) -> ConfigError:
    message = f"is {run.what}, whose model was not kept: there is no {run.folder}, and none in MLflow's store"
    return ConfigError.single(word, f"{message}; the study's best is called {run.study}" if run.study else message)


def _on_the_hub(word: str, composer: Composer) -> ChosenModel:
    problems = _gate_problems(word, composer)
    if not problems:
        cached = cached_model_path(word, None)
        return ChosenModel(word, str(cached or word), f"{word} on the hub", False)
    studies = _studies()
    single = sorted(path.parent.name for path in SINGLE_RUNS.glob(f"*/{MODEL}"))
    there = f"studies: {_listed(studies)}; runs by themselves: {_listed(name[:8] for name in single)}"
    reasons = [problem.message.partition("; use ")[0] for problem in problems]  # that advice is for train
    message = (
        f"is no folder, no study and no run here{nearest(word, [*studies, *single])} ({there}); "
        f"on the hub: {'; '.join(reasons)}"
    )
    raise ConfigError.single(word, message)


def _listed(names: Iterator[str] | list[str]) -> str:
    known = list(names)
    rest = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return (", ".join(known[:_SHOWN]) + rest) or "none"


def _runs_of(prefix: str) -> list[_Run]:
    """All runs whose id begins so: runs by themselves by their folder, trials by what their study notes."""
    from embedsweep.study.record import RUN_ID, trial_folder
    from embedsweep.tracking.spool import spooled_ids

    begun = spooled_ids(prefix)
    single = {*SINGLE_RUNS.glob(f"{prefix}*"), *(path for path in SINGLE_RUNS.glob("*") if path.name in begun)}
    runs = [_Run(begun.get(path.name, path.name), path / MODEL, f"run {path.name}", None) for path in sorted(single)]
    for study in _studies():
        try:
            trials = _trials(study)
        except (ConfigError, StudyError):
            continue  # of a study that cannot be read no run is known; asked for by name, it says why
        for trial in trials:
            run_id = str(trial.user_attrs.get(RUN_ID, ""))
            if run_id.startswith(prefix) or run_id in begun:
                folder = trial_folder(study, trial.number) / MODEL
                runs.append(_Run(begun.get(run_id, run_id), folder, f"trial {trial.number} of study {study}", study))
    return runs


def _studies() -> list[str]:
    return sorted(path.parent.name for path in SWEEPS.glob("*/study.yaml"))


def _trials(study: str) -> list[FrozenTrial]:
    """All trials of a study that exists, from its storage, which is only read."""
    from embedsweep.study.storage import open_storage, storage_errors

    folder = SWEEPS / study
    url = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))["storage"]
    if url is not None and MASK in url:
        message = f"this study lies in {url}, whose password is not kept: give the folder of a trial's model instead"
        raise ConfigError.single(study, message)
    storage = open_storage(url, folder)
    with storage_errors():
        ids = {found.study_name: found._study_id for found in storage.get_all_studies()}
        if study not in ids:
            raise ConfigError.single(study, f"{folder} is here, but its storage has no study of that name")
        return storage.get_all_trials(ids[study], deepcopy=False)
