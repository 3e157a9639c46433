"""Find how a study's storage, its ``study.yaml`` and its trials' folders differ, and rebuild each from the others."""

from __future__ import annotations

import bisect
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.study import StudyPlan, plan_differences, plan_of
from embedsweep.errors import StudyError
from embedsweep.files import STUDY_FILE
from embedsweep.study.comparison import KeptTrial, is_local, kept_trials
from embedsweep.study.duplicates import trained_config
from embedsweep.study.leases import LEASE, Leases
from embedsweep.study.objectives import directions_of
from embedsweep.study.record import FAILURE, LOST, RESULT
from embedsweep.study.storage import JOURNAL, existing_storage, open_storage
from embedsweep.study.study_file import PLAN, StudyFile, read_study_file, write_study_file
from embedsweep.study.trial_file import set_aside, write_trial
from embedsweep.training.folder import read_result, result_of, write_config, write_result


@dataclass(frozen=True)
class Finding:
    """A difference between a study's records.

    Attributes:
        what: what differs, in words.
        remedy: what the repair does about it, in words.
        act: does it; None if it cannot be done.
    """

    what: str
    remedy: str
    act: Callable[[], None] | None


@dataclass(frozen=True)
class _Snapshot:
    """What could be read of the storage.

    Attributes:
        attributes: the study's user attributes; None if the storage does not have the study.
        trials: its trials.
    """

    attributes: Mapping[str, Any] | None = None
    trials: list[FrozenTrial] = field(default_factory=list)

    @classmethod
    def of(cls, storage: BaseStorage, name: str) -> _Snapshot:
        """Read a study, if the storage has it."""
        try:
            study = optuna.load_study(study_name=name, storage=storage)
        except KeyError:
            return cls()
        return cls(study.user_attrs, study.get_trials())


@dataclass(eq=False)
class StudyRepair:
    """The repair of one study; the caller holds the study's lock.

    Attributes:
        name: the study's name.
        folder: its folder.
        url: its storage's URL; None is the journal in the folder.
        defaults: the user attributes that a study must have, for a ``study.yaml`` of an older version.
    """

    name: str
    folder: Path
    url: str | None
    defaults: Mapping[str, Any]

    def findings(self) -> Iterator[Finding]:
        """Yield all differences. Each is to be acted upon, if at all, before the next one is taken.

        Raises:
            StudyError: a trial of the study runs now, its plan is lost, or the records contradict each other.
        """
        file = read_study_file(self.folder)
        whole = self._whole_journal()
        stored = self._read(whole)
        kept = {each.number: each for each in kept_trials(self.folder)}
        self._check_idle(stored, kept)
        plan = self._plan(file, stored)
        self._check_agreement(stored, kept)
        if whole is not None and whole < (size := self._journal.stat().st_size):
            what = f"{self._journal} is damaged: {size - whole} of its {size} bytes cannot be used"
            yield Finding(what, f"it is kept as {JOURNAL}.damaged, and cut", lambda: self._cut_journal(whole))
        known = stored.attributes or {}
        kept_attributes = file.attributes if file is not None else {}
        attributes = {**({} if PLAN in known else self.defaults), **kept_attributes, PLAN: plan}
        if missing := sorted(attributes.keys() - known.keys()):
            what = "has no such study" if stored.attributes is None else f"lacks {', '.join(missing)}"
            yield Finding(
                f"the storage {what}", f"written from {STUDY_FILE}", lambda: self._add_study(attributes, plan)
            )
        for number in range(max(len(stored.trials), 1 + max(kept, default=-1))):
            trial = stored.trials[number] if number < len(stored.trials) else None
            yield from self._compare(number, trial, kept.get(number), plan_of(json.loads(plan)))
        if file is None or file.plan is None:
            what = f"{self.folder / STUDY_FILE} is missing or damaged"
            yield Finding(what, "written from the storage", self._write_study_file)

    @property
    def _journal(self) -> Path:
        return self.folder / JOURNAL

    @cached_property
    def _study(self) -> optuna.Study:
        """The study in the storage, which is opened at the first act."""
        return optuna.load_study(study_name=self.name, storage=open_storage(self.url, self.folder))

    def _whole_journal(self) -> int | None:
        """Return how many bytes of the journal can be used, from its start; None if there is no journal."""
        if self.url is not None or not self._journal.is_file():
            return None
        lines = self._journal.read_bytes().splitlines(keepends=True)
        count = next((index for index, line in enumerate(lines) if not _is_entry(line)), len(lines))
        # Entries that can be read may still not fit together. If those up to one do not, no longer part does.
        if not self._can_replay(lines[:count]):
            lengths = range(1, count + 1)
            count = bisect.bisect_left(lengths, True, key=lambda length: not self._can_replay(lines[:length]))
        return sum(map(len, lines[:count]))

    def _can_replay(self, lines: list[bytes]) -> bool:
        try:
            self._read_journal(b"".join(lines))
        except Exception:  # whatever Optuna raises on entries that do not fit together
            return False
        return True

    def _read_journal(self, content: bytes) -> _Snapshot:
        with tempfile.TemporaryDirectory(prefix="embedsweep-") as folder:
            path = Path(folder) / JOURNAL
            path.write_bytes(content)
            return _Snapshot.of(JournalStorage(JournalFileBackend(str(path))), self.name)

    def _read(self, whole: int | None) -> _Snapshot:
        if whole is not None:
            return self._read_journal(self._journal.read_bytes()[:whole])
        storage = existing_storage(self.url, self.folder)
        return _Snapshot.of(storage, self.name) if storage is not None else _Snapshot()

    def _check_idle(self, stored: _Snapshot, kept: Mapping[int, KeptTrial]) -> None:
        """Raise StudyError if a trial runs now; a folder may know more of it than a damaged storage."""
        unfinished = {trial.number: trial for trial in stored.trials if not trial.state.is_finished()}
        finished = {trial.number for trial in stored.trials if trial.state.is_finished()}
        records = {each.number: each.record for each in kept.values() if each.record is not None}
        for trial in {**unfinished, **records}.values():
            is_running = trial.state is TrialState.RUNNING and trial.number not in finished
            if is_running and Leases().judge(trial.number, trial.user_attrs) == "alive":
                lease = trial.user_attrs[LEASE]
                raise StudyError(
                    f"trial {trial.number} of study {self.name} runs now (process {lease['pid']} on {lease['host']}): "
                    "interrupt its command first"
                )

    def _plan(self, file: StudyFile | None, stored: _Snapshot) -> str:
        """Return the frozen plan as the storage keeps it.

        Raises:
            StudyError: it is lost, or differs between the storage and ``study.yaml``.
        """
        in_storage = (stored.attributes or {}).get(PLAN)
        in_file = json.dumps(file.plan) if file is not None and file.plan is not None else None
        plans: list[StudyPlan] = []
        for text in filter(None, (in_storage, in_file)):
            with suppress(KeyError, TypeError, ValueError):  # of a file that was cut
                plans.append(plan_of(json.loads(text)))
        if not plans:
            raise StudyError(
                f"the plan of study {self.name} is lost, and with it the search space: neither its storage nor "
                f"{self.folder / STUDY_FILE} has it. Its trials' folders are as they were; a study of another name, "
                "or of this one after this folder is moved away, starts anew"
            )
        if len(plans) == 2 and (different := plan_differences(*plans)):
            raise StudyError(
                f"the storage of study {self.name} and {self.folder / STUDY_FILE} contradict each other: "
                f"{'; '.join(different)} in the file. Nothing was changed; move the wrong one away"
            )
        return str(in_storage or in_file)

    def _check_agreement(self, stored: _Snapshot, kept: Mapping[int, KeptTrial]) -> None:
        """Raise StudyError if a trial's folder belongs to another study of the same name."""
        for trial in stored.trials:
            record = kept[trial.number].record if trial.number in kept else None
            if record is None:
                continue
            same = record.params.keys() & trial.params.keys()
            is_other = any(record.params[name] != trial.params[name] for name in same)
            both = record.state.is_finished() and trial.state.is_finished()
            if is_other or (both and (record.state, record.values) != (trial.state, trial.values)):
                raise StudyError(
                    f"trial {trial.number} of study {self.name} is another one in the storage than in "
                    f"{kept[trial.number].folder}. Nothing was changed; move the folder away if the storage is right"
                )

    def _compare(
        self, number: int, trial: FrozenTrial | None, kept: KeptTrial | None, plan: StudyPlan
    ) -> Iterator[Finding]:
        """Yield how a trial differs between the storage and its folder."""
        record = kept.record if kept is not None else None
        if trial is None and record is not None:
            what = f"the storage lacks trial {number}, {record.state.name} in its folder"
            yield Finding(what, "written from its folder", lambda: self._study.add_trial(record))
        elif trial is None:
            aside = f"; {kept.folder}, without {number}'s values, is renamed" if kept is not None else ""
            what = f"trial {number} is lost: neither the storage nor a folder has its values"
            yield Finding(what, f"counted as lost, and another one replaces it{aside}", lambda: self._add_lost(kept))
        elif record is not None and record.state.is_finished() and not trial.state.is_finished():
            what = f"trial {number} is {record.state.name} in its folder and {trial.state.name} in the storage"
            yield Finding(what, "finished in the storage", lambda: self._finish(trial, record))
        elif trial.state.is_finished() and is_local(trial, self.url):
            yield from self._compare_folder(trial, plan)

    def _compare_folder(self, trial: FrozenTrial, plan: StudyPlan) -> Iterator[Finding]:
        folder = self.folder / "trials" / f"{trial.number:04d}"
        tree = trial.user_attrs.get(RESULT)
        if read_result(folder) is None and tree is not None:

            def write() -> None:
                folder.mkdir(parents=True, exist_ok=True)
                write_config(folder / "config.yaml", trained_config(plan, trial))
                write_trial(folder, trial)
                write_result(folder, result_of(tree))

            yield Finding(f"{folder} lacks the trial's result", "written from the storage", write)
        elif not folder.is_dir() and trial.state is not TrialState.FAIL:  # which may never have had one
            remedy = "an older version kept it there only, and it cannot come back; the storage has its values"
            yield Finding(f"{folder}, the trial's result, is missing", remedy, None)

    def _cut_journal(self, whole: int) -> None:
        aside = self._journal.with_name(f"{JOURNAL}.damaged")
        set_aside(aside)
        shutil.copy2(self._journal, aside)
        with self._journal.open("r+b") as file:
            file.truncate(whole)

    def _add_study(self, attributes: Mapping[str, Any], plan: str) -> None:
        study = optuna.create_study(
            study_name=self.name,
            storage=open_storage(self.url, self.folder),
            directions=directions_of(plan_of(json.loads(plan)).objectives),
            load_if_exists=True,
        )
        # The plan comes last, as when the study was created.
        for name in sorted(attributes.keys() - study.user_attrs.keys(), key=lambda name: name == PLAN):
            study.set_user_attr(name, attributes[name])

    def _add_lost(self, kept: KeptTrial | None) -> None:
        if kept is not None:
            set_aside(kept.folder)
        attributes = {FAILURE: "its record was lost", LOST: True}
        self._study.add_trial(optuna.trial.create_trial(state=TrialState.FAIL, user_attrs=attributes))

    def _finish(self, trial: FrozenTrial, record: FrozenTrial) -> None:
        """Give an unfinished trial of the storage what its folder has of it."""
        storage = self._study._storage
        trial_id = self._study.get_trials(deepcopy=False)[trial.number]._trial_id
        if trial.state is TrialState.WAITING:
            storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        for name in record.params.keys() - trial.params.keys():
            distribution = record.distributions[name]
            value = distribution.to_internal_repr(record.params[name])
            storage.set_trial_param(trial_id, name, value, distribution)
        for name, attribute in record.user_attrs.items():
            storage.set_trial_user_attr(trial_id, name, attribute)
        for name, attribute in record.system_attrs.items():
            storage.set_trial_system_attr(trial_id, name, attribute)
        for step, value in record.intermediate_values.items():
            storage.set_trial_intermediate_value(trial_id, step, value)
        storage.set_trial_state_values(trial_id, record.state, record.values)

    def _write_study_file(self) -> None:
        write_study_file(self.folder, self._study, self.url)


def _is_entry(line: bytes) -> bool:
    """Return whether a line of a journal can be read."""
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
