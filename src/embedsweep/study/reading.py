"""Read a study by its name, while it runs or later: nothing is created, locked or changed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import optuna
from optuna.pruners import NopPruner

from embedsweep.config.study import plan_of
from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, StudyError
from embedsweep.files import STUDY_FILE, SWEEPS, study_names
from embedsweep.secrets import MASK, redact
from embedsweep.study.record import N_TRIALS, StudyRecord
from embedsweep.study.storage import JOURNAL, existing_storage, repair_hint, storage_errors, without_finals
from embedsweep.study.study_file import PLAN, read_study_file


def read_study(name: str, *, storage: str | None = None, sweeps: Path = SWEEPS) -> StudyRecord:
    """Return a study that any process may be running.

    Args:
        name: its name.
        storage: the URL of its storage, where ``study.yaml`` does not keep it: it has a password, or the study was
            made in another folder or on another machine.
        sweeps: the folder of all studies of its working directory.

    Raises:
        ConfigError: there is no such study, ``study.yaml`` is damaged or another user's, or the storage's password is
            not known.
        StudyError: its storage cannot be read, or embedsweep did not make the study.
    """
    folder = sweeps / name
    url = storage if storage is not None else _kept_url(folder)
    with storage_errors():
        opened = existing_storage(url, folder, read_only=True)
        stored = [each.study_name for each in opened.get_all_studies()] if opened is not None else []
        if opened is None or name not in stored:
            raise _no_such_study(name, folder, url, stored)
        study = optuna.load_study(study_name=name, storage=opened, pruner=NopPruner())
        attributes = study.user_attrs
        if PLAN not in attributes:
            where = redact(url) if url is not None else folder
            raise StudyError(f"the study {name} in {where} was not made by embedsweep")
        n_trials = attributes.get(N_TRIALS, len(study.get_trials(deepcopy=False)))
        return StudyRecord(name, plan_of(json.loads(attributes[PLAN])), n_trials, url, study, sweeps=sweeps)


def _kept_url(folder: Path) -> str | None:
    """Return the URL of a study's storage as its ``study.yaml`` keeps it; None is the journal in its folder."""
    file, path = read_study_file(folder), folder / STUDY_FILE
    if path.is_file() and not os.access(path, os.R_OK):
        raise ConfigError.single(str(path), "cannot be read by this user")
    if file is None:
        if path.is_file() and not (folder / JOURNAL).is_file():
            raise ConfigError.single(folder.name, f"{path} is damaged. {repair_hint(folder.name)}")
        return None
    if file.storage is not None and MASK in file.storage:
        message = f"this study is stored in {file.storage}, whose password is not kept: give the storage with it"
        raise ConfigError.single(folder.name, message)
    return file.storage


def _no_such_study(name: str, folder: Path, url: str | None, stored: list[str]) -> ConfigError:
    if (folder / STUDY_FILE).is_file():
        where = redact(url) if url is not None else folder / JOURNAL
        return ConfigError.single(name, f"{folder} exists, but its storage {where} has no such study")
    known = sorted(without_finals({*stored, *study_names(folder.parent)}))
    there = ", ".join(known) or f"none in {folder.parent.resolve()}"
    elsewhere = "" if url is not None else "; one that was begun elsewhere is found by its database, --storage URL"
    return ConfigError.single(name, f"no such study{nearest(name, known)}; there are: {there}{elsewhere}")
