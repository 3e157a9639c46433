"""A study that is killed at any point is resumed by the same command, with the results of an undisturbed one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import postgres
from tests.faults import studies
from tests.faults.studies import Ended, Study

pytestmark = pytest.mark.slow

PLACES = ("ask", "run", "training", "checkpoint", "tell")
STORAGES = ("journal", "postgresql")


@dataclass(frozen=True)
class Story:
    """A study that was killed and resumed.

    Attributes:
        killed: the command that was killed.
        left: what it left.
        checkpoints: names of the checkpoints that it left of trial 0, and whether each is sealed.
        again: the same command, once more.
        study: what it led to.
    """

    killed: Ended
    left: Study
    checkpoints: dict[str, bool]
    again: Ended
    study: Study


def kill_and_resume(folder: Path, url: str | None, words: tuple[str, ...], place: str) -> Story:
    command = (*words, *studies.storage_words(url))
    killed = studies.run(folder, command, ("kill", place))
    left = Study(folder, url)
    paths = left.trial_folder(0).glob("checkpoints/checkpoint-*")
    checkpoints = {path.name: (path / "complete.json").is_file() for path in paths}
    again = studies.run(folder, command)
    return Story(killed, left, checkpoints, again, Study(folder, url))


def fault_place(place: str, undisturbed: Study) -> str:
    """Return where trial 0 is killed: in the last steps before it stops early, when its patience is nearly used up."""
    last = undisturbed.result(0)["steps"]
    return {"training": f"step:{last - 1}", "checkpoint": f"checkpoint:{last}"}.get(place, place)


@pytest.fixture(scope="module", params=PLACES)
def stories(
    request: pytest.FixtureRequest, undisturbed: Study, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Story]:
    """What happened after a kill at one place, by storage; both are run at once."""
    urls: dict[str, str | None] = {"journal": None}
    if postgres.binaries() is not None:
        server: postgres.Server = request.getfixturevalue("postgres_server")
        urls["postgresql"] = server.new_database()
    place = fault_place(request.param, undisturbed)
    with ThreadPoolExecutor() as pool:
        futures = {
            storage: pool.submit(kill_and_resume, tmp_path_factory.mktemp(storage), url, studies.WORDS, place)
            for storage, url in urls.items()
        }
    return {storage: future.result() for storage, future in futures.items()}


@pytest.mark.parametrize("storage", STORAGES)
def test_the_same_command_resumes_after_a_kill(
    stories: dict[str, Story], storage: str, undisturbed: Study, request: pytest.FixtureRequest
) -> None:
    if storage not in stories:
        pytest.skip(postgres.MISSING)
    story = stories[storage]
    assert story.killed.code == -9, story.killed.output
    assert story.left.states == ["RUNNING"]
    check_place(request.node.callspec.params["stories"], story, undisturbed)

    assert story.again.code == 0, story.again.output
    assert "trial 0 RUNNING loss=cosent resumed" in story.again.output
    studies.check_whole(story.study)
    studies.check_equal(story.study, undisturbed)


def check_place(place: str, story: Story, undisturbed: Study) -> None:
    """Check that the kill came at the intended place."""
    result = undisturbed.result(0)
    best, last = result["best_step"], result["steps"]
    trial_runs = [run for run in story.left.runs if run.data.tags["embedsweep.kind"] == "trial"]
    is_known = "run_id" in story.left.trials[0].user_attrs
    assert (len(trial_runs), is_known) == {"ask": (0, False), "run": (1, False)}.get(place, (1, True))
    if trial_runs:
        # Before Optuna is told, the run's end is in the spool at least; the next command writes it.
        assert trial_runs[0].info.status in (("RUNNING", "FINISHED") if place == "tell" else ("RUNNING",))
    before_last = sorted(step for step in undisturbed.trials[0].intermediate_values if step < last)[-1]
    sealed = {f"checkpoint-{best}": True, f"checkpoint-{before_last}": True}
    sealed_at = {
        "ask": {},
        "run": {},
        "training": sealed,
        "checkpoint": {**sealed, f"checkpoint-{last}": False},
        "tell": {f"checkpoint-{best}": True, f"checkpoint-{last}": True},
    }
    assert story.checkpoints == sealed_at[place]
