"""``study.yaml``: a study's storage, plan and attributes on the local disk, from which a lost storage is rebuilt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml

from embedsweep.files import STUDY_FILE, write_atomically
from embedsweep.secrets import redact

PLAN = "embedsweep.plan"
"""User attribute of a study: its frozen plan, as JSON."""


@dataclass(frozen=True)
class StudyFile:
    """The content of a study's file.

    Attributes:
        storage: the storage's URL, without its password; None is the journal beside the file.
        plan: the frozen plan as plain containers, which ``plan_of`` reads; None if the file lacks it.
        attributes: the study's other user attributes; empty in files of older versions.
    """

    storage: str | None
    plan: Mapping[str, Any] | None
    attributes: Mapping[str, Any]


def read_study_file(folder: Path) -> StudyFile | None:
    """Return the content of ``study.yaml`` in a study's folder; None if it is missing or damaged."""
    try:
        tree = yaml.safe_load((folder / STUDY_FILE).read_text(encoding="utf-8"))
        return StudyFile(tree["storage"], tree.get("plan"), tree.get("attributes", {}))
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError):
        return None


def write_study_file(folder: Path, study: optuna.Study, url: str | None) -> None:
    """Write what the storage has of a study into its folder, unless that is there already."""
    attributes = study.user_attrs
    plan = json.loads(attributes[PLAN])
    others = json.loads(json.dumps({name: value for name, value in attributes.items() if name != PLAN}))
    content = StudyFile(redact(url) if url else None, plan, others)
    if read_study_file(folder) == content:
        return
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(vars(content), sort_keys=False, allow_unicode=True)
    write_atomically(folder / STUDY_FILE, text, durable=True)
