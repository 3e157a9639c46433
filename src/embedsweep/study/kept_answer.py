"""What the storage of a complete study keeps beside its trials: answer, test scores, what its finals train."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna

from embedsweep.config.answer import Answer, FinalsTest, TestLook
from embedsweep.config.finals import FinalPoint, FinalsConfig
from embedsweep.config.result import Emissions, Interval
from embedsweep.signals import shielded
from embedsweep.study.study_file import write_study_file
from embedsweep.study.test_scores import LOOKS, TEST_SCORES, TestScores, looks_of

FINALS_CONFIG = "embedsweep.finals_config"
"""User attribute of a study: its ``study.finals``, as the last command had it."""
ANSWER = "embedsweep.answer"
FINALS_TEST = "embedsweep.finals_test"
SCORING_COST = "embedsweep.scoring_cost"
"""User attribute of a study: what scoring test and averaging models cost, all in all."""
AFTER_TRIALS, AFTER_FINALS = "after_trials", "after_finals"
"""Keys of the answer: how many finished trials the study and its finals had."""
POINTS = "embedsweep.points"
"""User attribute of a study that is the finals of another: what is trained, in order; it only grows."""
DIFFERENCES = "embedsweep.differences"
"""User attribute of a study: how far its best trial is above others, as intervals, when a command ended."""


class KeptAnswer:
    """The part of a study's record that is read from the study's user attributes."""

    _study: optuna.Study

    @property
    def finals_config(self) -> FinalsConfig | None:
        """Its ``study.finals``, as the last command had it; None if no finals are asked for."""
        tree = self._study.user_attrs.get(FINALS_CONFIG)
        return FinalsConfig(**tree) if tree and tree["top"] is not None else None

    @property
    def points(self) -> tuple[FinalPoint, ...]:
        """What is trained in finals, in order; none of another study."""
        return tuple(FinalPoint(**tree) for tree in self._study.user_attrs.get(POINTS, ()))

    @property
    def answer(self) -> Answer | None:
        """What is known of it since it was complete; None before, or if an older version completed it."""
        tree = self._study.user_attrs.get(ANSWER)
        return Answer.of(tree) if tree else None

    @property
    def looks(self) -> tuple[TestLook, ...]:
        """Each look at test, in order."""
        return looks_of(self._study.user_attrs)

    @property
    def finals_test(self) -> FinalsTest | None:
        """The test scores of the best finalist; None before it was scored."""
        tree = self._study.user_attrs.get(FINALS_TEST)
        return FinalsTest.of(tree) if tree else None

    @property
    def scoring_cost(self) -> Emissions | None:
        """What scoring test and averaging models cost, all in all; None where that was not measured."""
        tree, tested = self._study.user_attrs.get(SCORING_COST), self.test_scores
        sums = [Emissions.of(tree) if tree else None, tested.cost if tested is not None else None]
        return max(filter(None, sums), key=lambda cost: cost.duration_s, default=None)  # both grow

    @property
    def test_scores(self) -> TestScores | None:
        """The test scores of the best trial; None before it was scored."""
        tree = self._study.user_attrs.get(TEST_SCORES)
        return TestScores.of(tree) if tree else None

    @property
    def differences(self) -> Mapping[str, Any] | None:
        """What `keep_differences` kept; None if an older version ran the last command, or none has ended.

        ``best`` is the best trial, ``complete`` the number of complete ones, ``intervals`` has for a trial's number, as
        text, the 95 % interval of how far the best one is above it, or null where that is not known.
        """
        kept: Mapping[str, Any] | None = self._study.user_attrs.get(DIFFERENCES)
        return kept


class AnswerKeeper(KeptAnswer):
    """The part of an open study that writes these attributes, in the storage and in the study's folder."""

    folder: Path
    url: str | None

    @property
    @abstractmethod
    def trial_counts(self) -> tuple[int, int]:
        """How many finished trials the study and its finals have."""

    def keep_differences(self, best: int, complete: int, intervals: Mapping[int, Interval | None]) -> None:
        """Keep the intervals of how far the best trial is above others, for reports; see `StudyRecord.differences`."""
        kept = {str(number): interval for number, interval in intervals.items()}
        self._keep(DIFFERENCES, {"best": best, "complete": complete, "intervals": kept})

    def set_test_scores(self, scores: TestScores) -> None:
        """Set the test scores of the best trial."""
        self._keep(TEST_SCORES, scores.tree())

    def set_answer(self, answer: Answer) -> None:
        """Set what is known of the study, with the trials that it and its finals have now."""
        after_trials, after_finals = self.trial_counts
        self._keep(ANSWER, {**answer.tree(), AFTER_TRIALS: after_trials, AFTER_FINALS: after_finals})

    def set_finals_test(self, test: FinalsTest) -> None:
        """Set the test scores of the best finalist."""
        self._keep(FINALS_TEST, asdict(test))

    def set_scoring_cost(self, cost: Emissions) -> None:
        """Set what scoring test and averaging models cost, all in all."""
        self._keep(SCORING_COST, asdict(cost))

    def add_look(self, what: str) -> None:
        """Note that something was scored on test, once for the same trials; the caller holds the lock.

        Args:
            what: in words: ``trial 7``, ``finals of trial 7``, ``soup``.
        """
        look = TestLook(what, *self.trial_counts)
        if look not in self.looks:
            self._keep(LOOKS, [asdict(each) for each in (*self.looks, look)])

    def _keep(self, name: str, value: object) -> None:
        """Set an attribute of the study, also in its folder."""
        with shielded():
            self._study.set_user_attr(name, value)
            write_study_file(self.folder, self._study, self.url)
