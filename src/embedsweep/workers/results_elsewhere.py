"""What finished trials leave, sent to and fetched from the bucket of ``study.checkpoints``, and what is said about it.

A bucket that does not answer never fails a trial: it is said once, and tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TypeVar

from optuna.trial import FrozenTrial

from embedsweep.config.study import StudyServices
from embedsweep.errors import BucketError
from embedsweep.evaluation.scores import Scored, scores_path
from embedsweep.files import MODEL
from embedsweep.secrets import redact
from embedsweep.study.duplicates import CONFIG_HASH, is_reused
from embedsweep.study.objectives import best_of
from embedsweep.study.open_trial import OpenTrial
from embedsweep.study.record import StudyRecord
from embedsweep.training.folder import RESULT_FILE
from embedsweep.training.shared_results import SharedResults, clear_packed
from embedsweep.workers.elsewhere import kind_of, place_of

AT_ONCE = 8
"""Archives of files that are sent or fetched at once."""

ABANDONED_S = 86_400.0
"""Age of an archive in the folder of a finished trial that no process sends or fetches any more."""

NAMED = 10
"""Trials up to which a line has the number of each."""

Result = TypeVar("Result")


def _log_line(line: str) -> None:
    logging.getLogger(__name__).warning(line)


class ResultsElsewhere:
    """What the finished trials of a study leave, for every machine; does nothing where the study keeps nothing there.

    Args:
        record: the study, or its finals.
        services: the study's.
        say: is told what cannot be done.
        alive: is called whenever a part of a large file was sent or fetched, from another thread.
    """

    def __init__(
        self,
        record: StudyRecord,
        services: StudyServices,
        say: Callable[[str], None] = _log_line,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._record, self._services, self._say, self._alive = record, services, say, alive
        self._left: set[int] = set()
        self._is_failing = False

    @cached_property
    def _shared(self) -> SharedResults | None:
        place = place_of(self._record, self._services.checkpoints)
        return SharedResults(place, kind_of(self._record)) if place is not None else None

    def send(self, number: int, check: Callable[[], None] = lambda: None) -> None:
        """Send what a trial leaves, before Optuna is told; what cannot be sent is tried again by `send_left`.

        Args:
            number: the trial's number.
            check: raises TrialTakenError if another worker has reclaimed the trial.
        """
        if self._shared is None:
            return
        folder = self._record.trial_folder(number)
        self._left.add(number)
        with self._trying(f"what {self._named([number])} leaves stays on this machine for now"):
            self._shared.send(number, folder, check, self._alive, identity=self._identity(number))
            self._left.discard(number)

    def send_files(self, number: int) -> None:
        """Send the files of a trial again, to which scores of test were added; not its model."""
        folder = self._record.trial_folder(number)
        if self._shared is not None:
            with self._trying(f"the test scores of {self._named([number])} stay on this machine"):
                self._shared.send(number, folder, identity=self._identity(number), with_model=False)

    def send_left(self, *, again: bool = True) -> None:
        """Send what could not be sent, up to the first trial of which that fails now.

        Args:
            again: whether to try although the last attempt failed.
        """
        if not self._left or (self._is_failing and not again):
            return
        self._left &= {trial.number for trial in self._record.trials if self._is_finished_here(trial)}
        for number in sorted(self._left):
            self.send(number)
            if number in self._left:
                return

    def send_missing(self) -> None:
        """Send what trials left on this machine of which the bucket has nothing: a command was killed, or is older."""
        if self._shared is None:
            return
        with self._trying("what finished trials left stays on this machine for now"):
            here = {trial.number: trial for trial in self._record.trials if self._is_finished_here(trial)}
            for number in here:
                clear_packed(self._record.trial_folder(number), older_than_s=ABANDONED_S)
            there = self._shared.numbers() if here else set[int]()
            if numbers := [number for number in here if number not in there]:
                self._say(f"sending what {self._counted(numbers)} left to S3")
                _each(numbers, lambda number: self._send_missing(number, _identity_of(here[number])))

    def _send_missing(self, number: int, identity: str) -> None:
        assert self._shared is not None
        try:
            self._shared.send(number, self._record.trial_folder(number), identity=identity)
        except OSError as error:  # of this one; the others are sent
            self._say(f"what {self._named([number])} left stays on this machine: {redact(str(error))}")

    def _is_finished_here(self, trial: FrozenTrial) -> bool:
        is_trained = trial.state.name in ("COMPLETE", "PRUNED") and not is_reused(trial)
        return is_trained and self._has_result(trial.number)

    def _has_result(self, number: int) -> bool:
        return (self._record.trial_folder(number) / RESULT_FILE).is_file()

    def origin(self, trial: OpenTrial) -> str:
        """Return in words that the bucket has a resumed trial's result, which is only to be reported; else nothing."""
        if self._shared is None or self._has_result(trial.number):
            return ""
        try:
            return ", which has its result in S3" if self._shared.has(trial.number) else ""
        except BucketError:  # said when its checkpoints are looked for
            return ""

    def fetch_result(self, trial: OpenTrial) -> bool:
        """Fetch what a resumed trial left if it was killed elsewhere before it told Optuna; return whether it had."""
        if self._shared is None or not trial.is_resumed:
            return False
        clear_packed(trial.folder)  # nobody else may send or fetch there while the trial is held
        if self._has_result(trial.number):
            return False
        with self._trying(f"whether S3 has the result of {self._named([trial.number])} is not known"):
            if self._shared.has(trial.number):
                return self._fetch_result(self._shared, trial)
        return False

    def _fetch_result(self, shared: SharedResults, trial: OpenTrial) -> bool:
        identity = self._identity(trial.number)
        shared.fetch_model(trial.number, trial.folder, self._alive, identity=identity)
        return shared.fetch(trial.number, trial.folder, identity=identity)

    def _identity(self, number: int) -> str:
        """Return the hash of a trial's configuration, which is known before it trains."""
        return _identity_of(self._record.trial(number))

    def fetch_items(self, trials: Iterable[FrozenTrial], split: Scored = "dev") -> None:
        """Fetch the files of trials whose scores of items are not on this machine."""
        if self._shared is None:
            return
        shared, record = self._shared, self._record
        trained = [trial for trial in trials if not is_reused(trial)]
        folders = {trial.number: record.trial_folder(trial.number) for trial in trained}
        identities = {trial.number: _identity_of(trial) for trial in trained}
        missing = [number for number, folder in folders.items() if not scores_path(folder, split).is_file()]
        if not missing:
            return
        self._say(f"fetching what {self._counted(missing)} left from S3")
        with self._trying(f"what {self._named(missing)} left is not on this machine"):
            _each(missing, lambda number: shared.fetch(number, folders[number], identity=identities[number]))
            if absent := [number for number in missing if not scores_path(folders[number], split).is_file()]:
                self._say(f"what {self._named(absent)} left is neither on this machine nor in S3")

    def fetch_models(self, numbers: Sequence[int]) -> bool:
        """Fetch the models of trials, with their files, that are not on this machine, and are in the bucket.

        Returns:
            Whether all that the bucket has are here now.
        """
        missing = [number for number in numbers if not (self._record.trial_folder(number) / MODEL).is_dir()]
        if self._shared is None or not missing:
            return True
        with self._trying(f"models of {self._record.unit}s are not on this machine"):
            there = self._shared.models()
            if found := [number for number in missing if number in there]:
                self._say(f"fetching the models of {self._counted(found)} from S3")
            for number in found:
                self._fetch_model(self._shared, number)
        return not self._is_failing

    def _fetch_model(self, shared: SharedResults, number: int) -> bool:
        """Fetch a model, and before it the trial's files: whoever scores it adds to them."""
        folder, identity = self._record.trial_folder(number), self._identity(number)
        if not self._has_result(number):
            shared.fetch(number, folder, identity=identity)
        return shared.fetch_model(number, folder, self._alive, identity=identity)

    def fetch_model(self, number: int) -> str:
        """Fetch the model of a trial, with its files, where it is not on this machine.

        Returns:
            Where it is not, in words; empty if it is here.
        """
        folder = self._record.trial_folder(number)
        if (folder / MODEL).is_dir():
            return ""
        if self._shared is None:
            return "is not on this machine"
        try:
            is_here = self._fetch_model(self._shared, number)
        except (BucketError, OSError) as error:
            return f"is not on this machine, and {redact(str(error))}"
        return "" if is_here else "is neither on this machine nor in S3"

    def delete_unneeded(self) -> None:
        """Delete the models of a study's finished trials that are not kept: all but the best one, if not all are."""
        if self._services.keep_models == "all" or self._record.is_finals:
            return
        trials = self._record.trials
        finished, best = {trial.number for trial in trials if trial.state.is_finished()}, self._best_of(trials)
        self.delete_models(lambda number: number in finished and number != best)

    def _best_of(self, trials: Sequence[FrozenTrial]) -> int | None:
        best = best_of(trials, self._record.plan.objectives)
        return best.number if best is not None else None

    def delete_models(self, is_unneeded: Callable[[int], bool]) -> None:
        """Delete the models that are not needed any more."""
        if self._shared is None or self._is_failing:
            return
        with self._trying(f"models of {self._record.unit}s that are not kept stay in S3 for now"):
            for number in filter(is_unneeded, self._shared.models()):
                self._shared.delete_model(number)

    @contextmanager
    def _trying(self, otherwise: str) -> Iterator[None]:
        """Carry out the block; what cannot be done is said once, until something can be done again.

        Args:
            otherwise: what is the case if not, in words.
        """
        try:
            yield
        except (BucketError, OSError) as error:
            if not self._is_failing:
                self._say(f"{otherwise}: {redact(str(error))}")
            self._is_failing = True
        else:
            self._is_failing = False

    def _named(self, numbers: Sequence[int]) -> str:
        """Return trials in words: ``trials 3, 4``."""
        return f"{self._record.unit}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"

    def _counted(self, numbers: Sequence[int]) -> str:
        """Return trials in words, many by their number: ``2000 trials``."""
        return self._named(numbers) if len(numbers) <= NAMED else f"{len(numbers)} {self._record.unit}s"


def _identity_of(trial: FrozenTrial) -> str:
    return str(trial.user_attrs.get(CONFIG_HASH, ""))


def _each(numbers: Sequence[int], act: Callable[[int], Result]) -> list[Result]:
    """Return what an act returns for each number; some are under way at once, and after an error no more begin."""
    found: list[Result] = []
    with ThreadPoolExecutor(AT_ONCE) as threads:
        for start in range(0, len(numbers), AT_ONCE):
            found += threads.map(act, numbers[start : start + AT_ONCE])
    return found
