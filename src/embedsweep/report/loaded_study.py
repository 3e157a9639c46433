"""A study opened for reading: its trials, curves and scores as pandas DataFrames, its models, its Optuna study."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import optuna
from optuna.trial import FrozenTrial

from embedsweep.config.answer import Answer
from embedsweep.config.finals import SEED
from embedsweep.config.metrics import SIMILARITIES
from embedsweep.config.study import StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import StudyError
from embedsweep.evaluation.scores import NEGATIVE, POSITIVE, PREDICTED, scores_path
from embedsweep.files import MODEL
from embedsweep.report.ranking import rerun_command
from embedsweep.report.results import StudyResults, TrialRow, final_rows, study_results
from embedsweep.report.status import study_status
from embedsweep.study.duplicates import has_values, trained_config
from embedsweep.study.opening import name_metrics
from embedsweep.study.reading import read_study
from embedsweep.study.record import StudyRecord
from embedsweep.study.storage import storage_errors
from embedsweep.tracking.names import flatten

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer


class LoadedStudy:
    """A study that is only read, from its storage and its trials' folders; MLflow is not asked.

    Every access reads it anew, so that a study that is running shows its present state. Made by
    :func:`embedsweep.load_study` and :func:`embedsweep.sweep`.

    Args:
        record: the study.
    """

    def __init__(self, record: StudyRecord) -> None:
        self._record = record

    @classmethod
    def read(cls, name: str, sweeps: Path, storage: str | None) -> LoadedStudy:
        """Open a study; see `read_study` for arguments and errors."""
        return cls(read_study(name, storage=storage, sweeps=sweeps))

    def __repr__(self) -> str:
        return f"<study {self.name}: {study_status(self._record).finished_text}, in {self.folder}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._record.name

    @property
    def folder(self) -> Path:
        """Its folder, ``sweeps/<name>``, as an absolute path."""
        return self._record.folder

    @property
    def plan(self) -> StudyPlan:
        """The plan that was frozen when it was created: axes, sampler, objectives and the like."""
        return self._record.plan

    @property
    def is_complete(self) -> bool:
        """Whether all its trials are finished."""
        with storage_errors():
            return self._record.is_complete

    @property
    def results(self) -> StudyResults:
        """All trials, the ranking, and the options of each swept group compared.

        Raises:
            StudyError: the storage cannot be read; likewise from all that follows.
        """
        with storage_errors():
            return study_results(self._record)

    @property
    def best(self) -> TrialRow:
        """The best complete trial.

        Raises:
            StudyError: no trial is complete yet, or each forgets more than ``study.keep`` allows.
        """
        if (best := self.results.best) is None:
            raise StudyError(f"study {self.name} has no best trial: {self._record.why_no_best}")
        return best

    @property
    def optuna(self) -> optuna.Study:
        """The Optuna study, for Optuna's own charts and analyses: a copy in memory, which may be changed freely."""
        copy = optuna.storages.InMemoryStorage()
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it would print that the copy was created
        try:
            with storage_errors():
                optuna.copy_study(from_study_name=self.name, from_storage=self._record._storage, to_storage=copy)
        finally:
            optuna.logging.set_verbosity(verbosity)
        study = optuna.load_study(study_name=self.name, storage=copy)
        name_metrics(study, self.plan.objectives)  # which earlier versions did not do
        return study

    def trials(self, *, config: bool = False) -> pd.DataFrame:
        """Return a row for each trial, by number.

        Columns: ``state`` (Optuna's word); each swept group and key (``loss``, ``optimizer.lr``), empty where it was
        not searched; all dev scores of the checkpoint that was kept (``dev/spearman_cosine``), and any other objective;
        ``low`` and ``high``, the 95 % interval of the first dev objective; test scores of the best trial; ``steps``;
        ``emissions/co2eq_kg``, ``emissions/energy_kwh``, ``emissions/duration_s``, ``time/gpu_h``; ``run_id``, of
        MLflow; ``reason``, why it failed or was pruned, or what it forgets; ``repeats``, the trial with the same
        configuration; and ``folder``. What is not known is empty (NaN or None).

        Args:
            config: whether to add the whole configuration of each trial, a column for each key.
        """
        import pandas as pd

        rows = self.results.rows
        trials = self._record.trials if config else []
        configs = [self._config_values(trials[row.number]) if config else {} for row in rows]
        table = [{**_columns(row), **each} for row, each in zip(rows, configs, strict=True)]
        names = dict.fromkeys(name for row in table for name in row)
        columns = [*(name for name in names if name not in _LAST), *_LAST]
        frame = pd.DataFrame(table, columns=columns, index=pd.Index([row.number for row in rows], name="trial"))
        return frame.astype({"repeats": "Int64"})

    @property
    def answer(self) -> Answer | None:
        """What is known since it was complete: the verdict of its finals and more; None before."""
        with storage_errors():
            return self._record.answer

    @property
    def finals(self) -> pd.DataFrame:
        """A row for each trial of its finals, by number; none before they began.

        Columns: ``finalist``, the trial whose configuration it trains again; ``seed``; then those of `trials`, test
        scores of the best finalist's among them.
        """
        import pandas as pd

        with storage_errors():
            rows, finals = final_rows(self._record), self._record.finals
            points = [finals.point_of(finals.trials[row.number]) for row in rows] if finals is not None else []
        columns = [{**_columns(row)} for row in rows]
        table = [
            {"finalist": point.finalist if point else None, "seed": point.seed if point else None, **cells}
            for point, cells in zip(points, columns, strict=True)
        ]
        names = ["finalist", "seed", *dict.fromkeys(name for each in columns for name in each if name != SEED)]
        return pd.DataFrame(table, columns=names, index=pd.Index([row.number for row in rows], name="final"))

    def curves(self) -> pd.DataFrame:
        """Return what was measured during training, a row for each point: ``trial``, ``step``, ``metric``, ``value``.

        Every evaluation on dev, and the training loss and learning rate at up to 200 steps. Of a trial that is not
        finished, the objective only.
        """
        import pandas as pd

        results = self.results
        points = [
            (row.number, step, name, value)
            for row in results.rows
            for name, curve in results.curve(row).items()
            for step, value in curve
        ]
        return pd.DataFrame(points, columns=["trial", "step", "metric", "value"])

    def scores(self, trial: int | TrialRow | None = None, split: Literal["dev", "test"] = "dev") -> pd.DataFrame:
        """Return a trial's scores of every item of a split: ``id`` (its place there), ``gold``, ``score``, and texts.

        ``score`` is what the first dev objective is made of: of pairs their similarity, of triplets how much more
        similar the positive is than the negative, of a query its own value of the metric. Further columns have all
        similarities (``predicted_cosine``) and metrics.

        Args:
            trial: a trial or its number; None is the one whose model is the answer, see `model`.
            split: of the winner of a complete study there are scores of test, too.

        Raises:
            StudyError: the trial does not exist or its scores are not on this machine.
        """
        import pandas as pd

        record, row = self._trained(trial)
        path = scores_path(row.folder, split)
        if not path.is_file():
            raise StudyError(f"{record.unit} {row.number} of study {self.name} has no scores of items in {path}")
        frame = pd.read_parquet(path)
        frame.insert(0, "id", frame.index)
        first = ["id", *(["gold"] if "gold" in frame else []), "score"]
        others = [name for name in frame.columns if name not in first]
        score = _item_score(frame, self.plan.objective, row.result.dev if row.result is not None else {})
        return frame.assign(score=score)[[*first, *others]]

    def config(self, trial: int | TrialRow | None = None) -> TrialConfig:
        """Return the configuration that a trial was trained with.

        Args:
            trial: a trial or its number; None is the one whose model is the answer, see `model`.

        Raises:
            StudyError: there is no such trial, or its values are not known.
        """
        record = self._record
        if trial is None:
            record, trial = self._trained(None)
        with storage_errors():
            trials = record.trials
        found = trials[self._number(trial, len(trials))]
        if not has_values(record.plan, found):
            raise StudyError(f"trial {found.number} of study {self.name} has no values: it begins, or they were lost")
        return trained_config(record.plan, found)

    def _config_values(self, trial: FrozenTrial) -> dict[str, Any]:
        """Return every value of a trial's configuration; none where its searched values are not known."""
        return _values(trained_config(self.plan, trial)) if has_values(self.plan, trial) else {}

    def model(self, trial: int | TrialRow | None = None, *, device: str | None = None) -> SentenceTransformer:
        """Return a trial's model; of one that reuses the scores of another, that one's.

        Args:
            trial: a trial or its number; None is the one whose model is the answer: of finals the training that they
                kept, as ``embedsweep publish`` takes it, else the best trial.
            device: as torch names it (``cpu``, ``cuda:0``); None chooses the best there is.

        Raises:
            StudyError: there is no such trial, or its model is not on this machine; the message has the command that
                trains it.
        """
        record, row = self._trained(trial)
        folder = row.folder / MODEL
        if not folder.is_dir():
            command = rerun_command("embedsweep train", self._record.fixed, row.values)
            raise StudyError(
                f"the model of {record.unit} {row.number} of study {self.name} is not in {folder}: it was not kept "
                f"(study.keep_models), or is on another machine. This trains it: {command}"
            )
        from embedsweep.models.loading import load_model

        trusts = trained_config(record.plan, record.trials[row.number]).model.trust_remote_code
        return load_model(str(folder), device=device, trust_remote_code=trusts)

    def _row(self, trial: int | TrialRow | None) -> TrialRow:
        if trial is None:
            return self.best
        rows = self.results.rows
        return rows[self._number(trial, len(rows))]

    def _number(self, trial: int | TrialRow, n_trials: int) -> int:
        number = trial.number if isinstance(trial, TrialRow) else int(trial)
        if not 0 <= number < n_trials:
            raise StudyError(f"study {self.name} has no trial {number}: it has {n_trials}, from 0")
        return number

    def _trained(self, trial: int | TrialRow | None) -> tuple[StudyRecord, TrialRow]:
        """Return the trial, in its study or the finals of it; of one that reuses the scores of another, that one."""
        if trial is None:
            with storage_errors():
                kept = self._record.kept
                if kept is not None and kept[0].is_finals:
                    return kept[0], final_rows(self._record)[kept[1].number]
        row = self._row(trial)
        if row.duplicate is not None and row.is_reused:
            row = self._row(row.duplicate.original)
        return self._record, row


_COSTS = ("emissions/co2eq_kg", "emissions/energy_kwh", "emissions/duration_s", "time/gpu_h")
_LAST = ("steps", *_COSTS, "run_id", "reason", "repeats", "folder")
"""The last columns; those before them depend on the study."""


def _columns(row: TrialRow) -> Mapping[str, Any]:
    dev = row.result.dev if row.result is not None else {}
    low, high = row.interval or (None, None)
    cost = row.cost
    return {
        "state": row.state,
        **row.values,
        **row.objectives,
        "low": _number(low),
        "high": _number(high),
        **{name: value for name, value in dev.items() if name not in row.objectives},
        **row.test,
        "steps": _number(row.steps),
        **dict(zip(_COSTS, map(_number, (cost.co2eq_kg, cost.energy_kwh, cost.duration_s, cost.gpu_h)), strict=True)),
        "run_id": row.run_id,
        "reason": row.reason,
        "repeats": row.duplicate.original if row.duplicate is not None else None,
        "folder": str(row.folder),
    }


def _item_score(frame: pd.DataFrame, metric: str, dev: Mapping[str, float]) -> pd.Series[float]:
    """Return what a metric is made of: a number for each item.

    Args:
        frame: the scores of the items.
        metric: a dev metric; where it is the largest over similarities, the largest one's is returned.
        dev: all dev metrics.
    """
    if (own := metric.rpartition("/")[2]) in frame:
        return frame[own]
    kind, _, similarity = metric.rpartition("_")
    if similarity == "max":
        similarity = max(SIMILARITIES, key=lambda name: dev.get(f"{kind}_{name}", float("-inf")))
    if (predicted := f"{PREDICTED}{similarity}") in frame:
        return frame[predicted]
    return frame[f"{POSITIVE}{similarity}"] - frame[f"{NEGATIVE}{similarity}"]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _values(config: TrialConfig) -> dict[str, Any]:
    """Return every value of a configuration by the key that MLflow records it under."""
    return {key: _value(text) for key, text in flatten(config).items()}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
