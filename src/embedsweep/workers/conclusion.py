"""Give a complete study its answer: average the models of its finals, compute the verdict, and score test.

Each part is kept in the study's storage as soon as it is known, so that a kill in between repeats one part at most.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property

from optuna.trial import FrozenTrial

from embedsweep.card.write import complete_card
from embedsweep.config.answer import Answer, FinalsTest, Soup, Verdict
from embedsweep.config.metrics import direction_of
from embedsweep.config.result import TrialResult
from embedsweep.emissions.meter import EmissionsMeter
from embedsweep.evaluation.scores import SCORES, scores_path
from embedsweep.files import MODEL
from embedsweep.machine import training_gpus
from embedsweep.signals import shielded
from embedsweep.study.answering import interval_on_test, lacks_items, make_answer
from embedsweep.study.duplicates import is_reused, trained_config
from embedsweep.study.record import RUN_ID, StudyRecord
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from embedsweep.tracking.runs import Tracker, TrialTracker
from embedsweep.training.folder import train_log
from embedsweep.training.soup import Member, make_soup, score_soup
from embedsweep.workers.results_elsewhere import ResultsElsewhere
from embedsweep.workers.winner import SCORING, all_scoring, score_best, score_model

SOUP = "soup"
"""The folder of a soup in that of the finals."""


def conclude(study: Study, tracker: Tracker, parent: str, say: Callable[[str], None]) -> bool:
    """Give a complete study its answer and its test scores, as far as they are not known; delete models that may go.

    Where there are finals, test waits for them: the trainings of the best finalist are scored, and the soup. Otherwise
    the best trial is.

    Args:
        study: the study.
        tracker: writes to MLflow.
        parent: the id of the study's own run.
        say: is told what takes time.

    Returns:
        Whether all is known; not before the study and the finals that it asks for are complete.
    """
    if not is_over(study):
        return False
    score_best(study, tracker, parent, say)
    asked, finals = study.finals_config, study.finals
    if asked is not None and finals is None:
        why = "of each configuration a trial forgets more than study.keep allows"
        say(f"no finals, and no test score: {study.why_no_best}" if study.best is None else f"no finals: {why}")
    if finals is not None and not finals.is_complete:  # they are no longer asked for
        finals = None
    counts = study.trial_counts
    conclusion = _Conclusion(study, finals, tracker, say)
    # Not under the lock, for which others wait: it may take minutes. Two commands find the same.
    found = _find_answer(study, finals, say)
    has_models = conclusion.fetch_models(found)
    with study.lock():  # two commands may see the last trial end at the same time
        if study.trial_counts != counts or not is_over(study):
            say(f"another command works on it, and gives the answer: embedsweep show {study.name}")
            return False  # it has added trials, or finals
        conclusion.conclude(found, has_models=has_models)
    conclusion.share()
    return has_models


def is_over(study: StudyRecord) -> bool:
    """Return whether a study and the finals that it asks for are complete; it may be one that can have none."""
    finals = study.finals
    return study.is_complete and (study.finals_config is None or finals is None or finals.is_complete)


def _find_answer(study: Study, finals: StudyRecord | None, say: Callable[[str], None]) -> Answer | None:
    """Return the answer of a study, without a soup; None if it has one, of all items that can be had."""
    known = study.answer if study.is_answered else None
    if known is not None and not lacks_items(known):
        return None
    records = [study, *([finals] if finals is not None else [])]
    for each in records:
        ResultsElsewhere(each, study.services, say).fetch_items(each.complete_trials)
    if known is not None and not all(_has_items(each) for each in records):
        return None
    if finals is not None and known is None:
        say("finals are complete: comparing them")
    return make_answer(study, say)


def _has_items(record: StudyRecord) -> bool:
    """Return whether the scores of single items of all trainings are on this machine."""
    trained = [trial.number for trial in record.complete_trials if not is_reused(trial)]
    return all(scores_path(record.trial_folder(number), "dev").is_file() for number in trained)


@dataclass(frozen=True)
class _Conclusion:
    """What is left to do on a study whose trials are over; the caller holds its lock.

    Attributes:
        study: the study.
        finals: its finals, complete; None without any.
        tracker: writes to MLflow.
        say: is told what takes time.
    """

    study: Study
    finals: StudyRecord | None
    tracker: Tracker
    say: Callable[[str], None]

    _scored: list[int] = field(default_factory=list, init=False)

    @cached_property
    def _elsewhere(self) -> ResultsElsewhere:
        """What the finals left on other machines."""
        assert self.finals is not None
        return ResultsElsewhere(self.finals, self.study.services, self.say)

    @property
    def _wants_soup(self) -> bool:
        asked, known = self.study.finals_config, self.study.answer if self.study.is_answered else None
        is_made = known is not None and known.soup is not None
        return asked is not None and asked.soup and self.finals is not None and not is_made

    def fetch_models(self, found: Answer | None) -> bool:
        """Fetch the models of finals that are still needed from other machines; the lock need not be held.

        Args:
            found: as that of `conclude`.

        Returns:
            Whether all that the bucket has are here.
        """
        finals, answer = self.finals, found or self.study.answer
        if self.study.finals_config is None or finals is None or answer is None:
            return True
        if self._wants_soup:
            return self._elsewhere.fetch_models([trial.number for trial in finals.complete_trials])
        if answer.verdict is None or self._is_tested(answer.verdict):
            return True
        trainings = self._trainings(answer.verdict)
        self._elsewhere.fetch_items(
            [trial for trial in trainings if trial.number in self._scores_of(answer.verdict)], "test"
        )
        return self._elsewhere.fetch_models([trial.number for trial in trainings])

    def conclude(self, found: Answer | None, *, has_models: bool) -> None:
        """Do what is left; the caller holds the study's lock.

        Args:
            found: the answer, without a soup; None if the study has it.
            has_models: whether all models are here that can be had; else what needs them waits for the next command.
        """
        study, wants_soup = self.study, self._wants_soup
        known = study.answer if study.is_answered else None
        if known is not None and found is not None and len(found.unknown) < len(known.unknown):
            known = replace(found, soup=known.soup)  # of items that were not here before
            study.set_answer(known)
        if known is None:
            assert found is not None, "it was found since the study had none"
            before = study.answer.soup if study.answer is not None and not wants_soup else None
            known = replace(found, soup=before)
            study.set_answer(known)
        if study.finals_config is None or self.finals is None:
            return
        if not has_models:
            goes_on = f"embedsweep train -m study.name={study.name}"
            self.say(f"what needs the models of finals waits for the next command: {goes_on}")
            return
        if wants_soup:
            known = replace(known, soup=self._soup())
            study.set_answer(known)
        if known.verdict is not None:
            self._test(known.verdict)
        else:
            self.say(f"test was not scored: {known.unknown.get('verdict', 'there is no verdict on the finals')}")
        if known.soup is not None and known.soup.reason is None and not known.soup.test:
            self._test_soup(known, known.soup)
        self._delete_models(known.verdict)

    def share(self) -> None:
        """Send to other machines what was added here, and delete models there that are not kept, after the lock."""
        study = self.study
        for number in self._scored:
            self._elsewhere.send_files(number)
        if study.services.keep_models == "all" or self.finals is None or study.finals_config is None:
            return
        verdict = study.answer.verdict if study.answer is not None else None
        if verdict is None or self._is_tested(verdict):  # else another command scores those that this one did not get
            unneeded = self._unneeded(verdict)
            self._elsewhere.delete_models(lambda number: number in unneeded)
            if study.services.keep_models == "none":
                ResultsElsewhere(study, study.services, self.say).delete_models(lambda _: True)

    def _soup(self) -> Soup:
        assert self.finals is not None
        self.say("averaging the models of the finals")
        with self._measured():
            return make_soup(self.finals.folder / SOUP, self._members(), self.say)

    def _members(self) -> list[Member]:
        """Return every training of the finals that has a result."""
        finals = self.finals
        assert finals is not None
        found = [(trial, finals.result_of(trial)) for trial in finals.complete_trials]
        return [
            Member(trial.number, finals.trial_folder(trial.number), trained_config(finals.plan, trial), result)
            for trial, result in found
            if result is not None
        ]

    @contextmanager
    def _measured(self) -> Iterator[None]:
        """Add what the block costs to the cost of scoring."""
        study, trials = self.study, self.study.complete_trials
        gpus = training_gpus(trained_config(study.plan, trials[0]).trainer.device)
        with EmissionsMeter(study.services.emissions, study.folder / SCORING, None, gpus) as meter:
            yield
        study.set_scoring_cost(all_scoring(study, meter))

    def _trainings(self, verdict: Verdict) -> list[FrozenTrial]:
        """Return the trainings of the best finalist that the verdict counts, the best on dev first."""
        finals = self.finals
        assert finals is not None
        metric = finals.plan.objective
        index, sign = finals.plan.objectives.index(metric), -1 if direction_of(metric) == "maximize" else 1
        counted = {score.number for each in verdict.finalists if each.trial == verdict.best for score in each.scores}
        own = [trial for trial in finals.complete_trials if trial.number in counted]
        return sorted(own, key=lambda trial: (sign * trial.values[index], trial.number))

    def _test(self, verdict: Verdict) -> None:
        """Score the trainings of the best finalist on test that were not scored there, as one look.

        A finalist that is the best only since a later look has lost the models of its earlier trainings.
        """
        study, finals, before, finalist = self.study, self.finals, self.study.finals_test, verdict.best
        assert finals is not None
        same = before if before is not None and before.finalist == finalist else None
        scores = dict(self._scores_of(verdict))
        trainings = self._trainings(verdict)
        left = [trial for trial in trainings if trial.number not in scores]
        with_model = [trial for trial in trainings if (finals.trial_folder(trial.number) / MODEL).is_dir()]
        if not with_model:
            if left and not scores:
                self.say(f"test was not scored: no model of the finals of trial {finalist} is on this machine")
            return
        best, untrained = with_model[0], dict(same.before) if same is not None else {}
        interval = same.interval if same is not None else None
        here = [trial for trial in with_model if trial in left]
        if here:
            look = f": look {len(study.looks) + 1} at test" if study.looks else ""
            what = f"{len(here)} training{'s' if len(here) > 1 else ''}"
            self.say(f"scoring the {what} of trial {finalist} on test{look}")
            with self._measured():
                scored = {trial.number: self._score(trial, with_before=trial.number == best.number) for trial in here}
            for number, result in scored.items():
                self._scored.append(number)
                scores[number] = {**result.test, **result.benchmarks}
                untrained |= result.before
            interval = interval_on_test(finals, [trial for trial in trainings if trial.number in scores])
        test = FinalsTest(finalist, best.number, scores, untrained, interval)
        with shielded():
            if here:  # counted before anybody can see a score in MLflow
                study.add_look(f"finals of trial {finalist}")
            is_changed = self._complete_card(best, verdict, test, is_scored=bool(here))
            for trial in here:
                self._record(trial, test.scores[trial.number])
            if is_changed:
                self._record_model(best)
            if test != before:
                study.set_finals_test(test)

    def _score(self, trial: FrozenTrial, *, with_before: bool) -> TrialResult:
        finals = self.finals
        assert finals is not None
        result, folder = finals.result_of(trial), finals.trial_folder(trial.number)
        assert result is not None, "a complete trial has a result"
        config = trained_config(finals.plan, trial)
        with train_log(folder / "train.log"):
            return score_model(folder, config, result if with_before else replace(result, before={}))

    def _complete_card(self, trial: FrozenTrial, verdict: Verdict, test: FinalsTest, *, is_scored: bool) -> bool:
        """Say in the card of the model that is kept how it was chosen; return whether it did not say so already.

        More seeds, or another finalist, may have changed the verdict on a model that was scored before.
        """
        study, finals = self.study, self.finals
        assert finals is not None
        place = "is the winner of" if verdict.winner is not None else "has the best mean, not certain to win again, in"
        chosen = (
            f"It is a training of trial {verdict.best} of study {study.name}, which {place} its finals. There, "
            f"configurations were trained with {verdict.seeds} other seeds each; of these trainings' models it is the "
            "best on dev."
        )
        folder = finals.trial_folder(trial.number) / MODEL
        card = folder / "README.md"
        if not is_scored and (not card.is_file() or chosen in card.read_text(encoding="utf-8", errors="replace")):
            return False
        result = finals.result_of(trial)
        assert result is not None, "a complete trial has a result"
        tested = TestScores.of({"trial": trial.number, "scores": test.scores[trial.number], "before": test.before})
        known = {**result.before, **tested.before}
        scored = replace(result, test=tested.test, benchmarks=tested.benchmarks, before=known)
        complete_card(folder, trained_config(finals.plan, trial), scored, chosen)
        return True

    def _record(self, trial: FrozenTrial, scores: Mapping[str, float]) -> None:
        """Add a training's test scores to its run."""
        finals, run = self.finals, self._run_of(trial)
        assert finals is not None
        result, items = finals.result_of(trial), finals.trial_folder(trial.number) / SCORES
        if run is None or result is None:
            return
        run.log_metrics(result.steps, scores)
        if items.is_dir():
            run.log_artifact(items, SCORES)

    def _record_model(self, trial: FrozenTrial) -> None:
        """Add the model that is kept to its run."""
        finals, run = self.finals, self._run_of(trial)
        assert finals is not None
        if run is not None and self.study.services.keep_models != "none":
            run.log_artifact(finals.trial_folder(trial.number) / MODEL, MODEL)

    def _run_of(self, trial: FrozenTrial) -> TrialTracker | None:
        """Return the run of a training; None if it is in another store."""
        finals, run_id = self.finals, trial.user_attrs[RUN_ID]
        assert finals is not None
        return self.tracker.finished_run(finals.experiment, run_id) if self.tracker.has_run(run_id) else None

    def _test_soup(self, answer: Answer, soup: Soup) -> None:
        """Score a soup on test: one more look."""
        assert self.finals is not None
        folder = self.finals.folder / SOUP
        if not (folder / MODEL).is_dir():
            self.say(f"the soup was not scored on test: its model is not in {folder}")
            return
        self.say("scoring the soup on test")
        with self._measured():
            scored = score_soup(folder, self._members(), soup)
        with shielded():
            self.study.add_look("soup")
            self.study.set_answer(replace(answer, soup=scored))

    def _delete_models(self, verdict: Verdict | None) -> None:
        """Delete the models of finals that are not kept from this machine, now that the answer is given."""
        study, finals, keep = self.study, self.finals, self.study.services.keep_models
        assert finals is not None
        if keep == "all":
            return
        for number in self._unneeded(verdict):
            shutil.rmtree(finals.trial_folder(number) / MODEL, ignore_errors=True)
        if keep == "none":
            best = study.best
            folders = [finals.folder / SOUP, *([study.trial_folder(best.number)] if best is not None else [])]
            for folder in folders:
                shutil.rmtree(folder / MODEL, ignore_errors=True)

    def _unneeded(self, verdict: Verdict | None) -> set[int]:
        """Return the numbers of the trainings whose models are not kept."""
        finals, keep, test = self.finals, self.study.services.keep_models, self.study.finals_test
        assert finals is not None
        kept = {test.kept} if keep == "best" and test is not None else set[int]()
        if keep == "best" and verdict is not None:  # of seeds that count from a later look on
            counted = {score.number for each in verdict.finalists for score in each.scores}
            compared = {each.trial for each in verdict.finalists}
            points = {trial.number: finals.point_of(trial) for trial in finals.complete_trials}
            kept |= {n for n, point in points.items() if n not in counted and point and point.finalist in compared}
        return {trial.number for trial in finals.trials} - kept

    def _scores_of(self, verdict: Verdict) -> Mapping[int, Mapping[str, float]]:
        """Return the test scores of the best finalist's trainings, by their numbers."""
        test = self.study.finals_test
        return test.scores if test is not None and test.finalist == verdict.best else {}

    def _is_tested(self, verdict: Verdict) -> bool:
        """Return whether all trainings of the best finalist are scored on test."""
        return all(trial.number in self._scores_of(verdict) for trial in self._trainings(verdict))
