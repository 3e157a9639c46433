"""``trial.json``: Optuna's record of a trial in the trial's folder, from which a lost storage is rebuilt.

It is written after the storage, so that a trial which is finished in its file was finished in the storage, too.
"""

from __future__ import annotations

import itertools
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from embedsweep.files import write_atomically

TRIAL_FILE = "trial.json"


def write_trial(folder: Path, trial: FrozenTrial) -> None:
    """Write Optuna's record of a trial; it survives a power cut once the trial is finished."""
    tree = {
        "number": trial.number,
        "state": trial.state.name,
        "values": trial.values,
        "params": trial.params,
        "distributions": {name: distribution_to_json(each) for name, each in trial.distributions.items()},
        "user_attrs": trial.user_attrs,
        "system_attrs": trial.system_attrs,
        "intermediate_values": trial.intermediate_values,
        "datetime_start": _text(trial.datetime_start),
        "datetime_complete": _text(trial.datetime_complete),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TRIAL_FILE, json.dumps(tree), durable=trial.state.is_finished())


def read_trial(folder: Path) -> FrozenTrial | None:
    """Return Optuna's record of the trial in ``folder``; None if it is missing or damaged."""
    try:
        return _trial_of(json.loads((folder / TRIAL_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _trial_of(tree: dict[str, Any]) -> FrozenTrial:
    return FrozenTrial(
        number=tree["number"],
        state=TrialState[tree["state"]],
        value=None,
        values=tree["values"],
        datetime_start=_time(tree["datetime_start"]),
        datetime_complete=_time(tree["datetime_complete"]),
        params=tree["params"],
        distributions={name: json_to_distribution(each) for name, each in tree["distributions"].items()},
        user_attrs=tree["user_attrs"],
        system_attrs=tree["system_attrs"],
        intermediate_values={int(step): value for step, value in tree["intermediate_values"].items()},
        trial_id=-1,  # the storage gives it one
    )


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time is not None else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None


def set_aside(folder: Path) -> None:
    """Rename a folder that is in a trial's way, if there is one: to that of another study, whose storage is gone."""
    if folder.exists():
        aside = next(path for n in itertools.count(1) if not (path := folder.with_name(f"{folder.name}.{n}")).exists())
        folder.rename(aside)
