"""Ctrl-C, SIGTERM and a trial that raises: what the command prints and leaves, and what the next command does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import WORDS, Ended, Study

pytestmark = pytest.mark.slow

FAULTS = {
    "Ctrl-C": ("int", "step:6"),
    "SIGTERM": ("term", "step:5"),
    "SIGTERM while dev is scored": ("term", "dev:10"),
    "Ctrl-C while Optuna is told a result": ("int", "told"),
    "a trial that raises": ("raise", "step:5"),
    "a trial that raises once": ("raise", "step:5"),
}
MORE_WORDS: Mapping[str, tuple[str, ...]] = {"a trial that raises": ("study.max_retries=0",)}
BY_NAME = {"SIGTERM"}
"""After these, ``-m study.name=NAME`` alone resumes the study; after the others, the same command."""


@dataclass(frozen=True)
class Story:
    """A command with a fault, and the next one.

    Attributes:
        first: how it ended.
        left: what it left.
        again: how the next command ended.
        study: what it led to.
    """

    first: Ended
    left: Study
    again: Ended
    study: Study


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Future[Story]]]:
    """All of them, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(_run_twice, tmp_path_factory.mktemp("signals"), name) for name in FAULTS}


def _run_twice(folder: Path, name: str) -> Story:
    words = (*WORDS, *MORE_WORDS.get(name, ()))
    first = studies.run(folder, words, FAULTS[name])
    left = Study(folder)
    again = studies.run(folder, (f"study.name={left.name}",) if name in BY_NAME else words)
    return Story(first, left, again, Study(folder))


@pytest.mark.parametrize(
    ("name", "code", "step"), [("Ctrl-C", 130, 7), ("SIGTERM", 143, 5), ("SIGTERM while dev is scored", 143, 10)]
)
def test_an_interrupted_command_says_how_to_resume_and_resumes_at_the_very_step(
    stories: Mapping[str, Future[Story]], name: str, code: int, step: int, undisturbed: Study
) -> None:
    story = stories[name].result()
    assert story.first.code == code, story.first.output
    assert "Traceback" not in story.first.output
    left = story.left
    assert f"the same command, or -m study.name={left.name} alone, resumes the study" in story.first.output
    assert left.states == ["RUNNING"]
    assert f"interrupted; will be resumed from step {step}\n" in story.first.output
    assert left.run_of(0).info.status == "KILLED"
    assert left.run_of(0).data.tags["embedsweep.state"] == "RUNNING"
    assert left.parent.info.status == "KILLED"

    assert story.again.code == 0, story.again.output
    assert "trial 0 RUNNING loss=cosent resumed" in story.again.output
    log = (left.trial_folder(0) / "train.log").read_text(encoding="utf-8")
    trained = [int(found) for found in re.findall(r"step (\d+) of \d+: loss", log)]
    assert trained == sorted(set(trained)), "a step was trained twice"
    studies.check_whole(story.study)
    studies.check_equal(story.study, undisturbed)


def test_a_signal_while_optuna_is_told_a_result_loses_nothing(
    stories: Mapping[str, Future[Story]], undisturbed: Study
) -> None:
    story = stories["Ctrl-C while Optuna is told a result"].result()
    assert story.first.code == 130, story.first.output
    assert "Traceback" not in story.first.output
    assert story.left.states == ["COMPLETE"]
    assert story.left.run_of(0).info.status == "FINISHED"
    assert story.left.parent.info.status == "KILLED"

    assert story.again.code == 0, story.again.output
    assert "trial 0 RUNNING" not in story.again.output
    studies.check_whole(story.study)
    studies.check_equal(story.study, undisturbed)


def test_a_trial_that_raises_is_recorded_and_the_others_complete(
    stories: Mapping[str, Future[Story]], undisturbed: Study
) -> None:
    story = stories["a trial that raises"].result()
    assert story.first.code == 3, story.first.output
    assert "Traceback" not in story.first.output
    assert story.left.states == ["FAIL", "COMPLETE"]
    reason = "RuntimeError: provoked by a test"
    failed, run = story.left.trials[0], story.left.run_of(0)
    assert failed.user_attrs["embedsweep.failure"] == reason
    assert run.data.tags["embedsweep.failure"] == reason
    assert run.data.tags["embedsweep.state"] == "FAIL"
    assert run.info.status == "FAILED"
    assert run.info.run_id == failed.user_attrs["run_id"]
    assert story.left.trials[1].value == undisturbed.trials[1].value
    assert story.left.parent.info.status == "FINISHED"

    assert story.again.code == 3, story.again.output
    assert " RUNNING " not in story.again.output
    assert story.study.states == ["FAIL", "COMPLETE"]
    assert {run.info.run_id for run in story.study.runs} == {run.info.run_id for run in story.left.runs}
    assert story.study.run_of(0).info.end_time == run.info.end_time
    assert story.study.trials == story.left.trials


def test_a_trial_that_raises_once_is_retried_in_the_same_trial(
    stories: Mapping[str, Future[Story]], undisturbed: Study
) -> None:
    story = stories["a trial that raises once"].result()
    assert story.first.code == 0, story.first.output
    assert "failed, retrying (1/1): RuntimeError: provoked by a test" in story.first.output
    assert "trial 0 RUNNING loss=cosent resumed, attempt 2 of 2" in story.first.output
    studies.check_whole(story.left)
    studies.check_equal(story.left, undisturbed)
    assert story.left.trials[0].user_attrs["embedsweep.attempts"] == 2

    assert story.again.code == 0, story.again.output
    assert " RUNNING " not in story.again.output
    assert story.study.trials == story.left.trials
