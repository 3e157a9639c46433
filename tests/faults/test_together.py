"""Several commands at once: on one study, without any store, and on one name for two studies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.faults import studies
from tests.faults.studies import WORDS, Study

HEAD_START_S = 0.3
SHORT = (
    "data=demo",
    "data.limit=64",
    "model=tiny",
    "optimizer.lr=1e-2",
    "trainer.device=cpu",
    "trainer.max_steps=4",
    "trainer.eval_every=0.5",
    "evaluation.before=false",
)
FOUR = ("-m", *SHORT, "loss=cosent,mnrl", "trainer.seed=1,2")


def start_at_once(folder: Path, commands: Sequence[Sequence[str]]) -> list[int]:
    """Run commands that begin at the same instant in ``folder``; return their exit codes, in order.

    What each prints is in ``N.out``.
    """
    studies.fork_server()  # none of them waits for the libraries
    at = time.monotonic() + HEAD_START_S
    train = str(studies.ROOT / "train.py")
    started = [
        studies.start_program(folder, [train, *words], folder / f"{number}.out", at=at)
        for number, words in enumerate(commands)
    ]
    return [command.wait(studies.WITHIN_S) for command in started]


def outputs(folder: Path) -> list[str]:
    return [path.read_text() for path in sorted(folder.glob("*.out"))]


@pytest.mark.slow
@studies.each_storage
def test_two_commands_started_at_once_share_a_new_study(url: str | None, tmp_path: Path, undisturbed: Study) -> None:
    words = (*WORDS, *studies.storage_words(url))
    # Each waits between counting the trials and adding one: a command that could add one in between would double it.
    commands = [studies.start(tmp_path, words, ("wait", "count")) for _ in range(2)]
    ended = [studies.finish(command) for command in commands]

    assert [each.code for each in ended] == [0, 0], "\n".join(each.output for each in ended)
    output = "".join(each.output for each in ended)
    assert [output.count(f"trial {number} RUNNING") for number in range(studies.N_TRIALS + 1)] == [1, 1, 0]
    study = Study(tmp_path, url)
    studies.check_whole(study)
    studies.check_equal(study, undisturbed)


@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.slow), pytest.param(20, marks=pytest.mark.faults)])
@pytest.mark.parametrize("storage", ["journal", "postgresql"])
def test_four_commands_started_without_any_store_share_a_study(
    storage: str, times: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    urls: list[str | None] = [None] * times
    if storage == "postgresql":
        server = request.getfixturevalue("postgres_server")
        urls = [server.new_database() for _ in range(times)]
    folders = [tmp_path / str(number) for number in range(times)]
    commands = [[(*FOUR, *studies.storage_words(url))] * 4 for url in urls]
    for folder, url, words in zip(folders, urls, commands, strict=True):
        ended = start_at_once(folder, words)
        printed = "\n".join(outputs(folder))
        assert ended == [0] * 4, printed
        assert "Traceback" not in printed
        assert [printed.count(f"trial {number} RUNNING") for number in range(5)] == [1, 1, 1, 1, 0]
        studies.check_whole(Study(folder, url), 4)


@pytest.mark.slow
@studies.each_storage
def test_of_two_studies_started_at_once_under_one_name_one_is_refused(url: str | None, tmp_path: Path) -> None:
    words = ("-m", *SHORT, "study.name=one", *studies.storage_words(url))
    folder = tmp_path / "work"
    codes = start_at_once(folder, [(*words, "loss=cosent,mnrl"), (*words, "loss=cosent,cosine")])
    printed = outputs(folder)
    assert sorted(codes) == [0, 2], printed
    refused, other = (printed[codes.index(2)], "mnrl" if codes.index(2) == 0 else "cosine")
    assert "study one" in refused
    assert "sweep of loss was" in refused
    assert " RUNNING " not in refused
    study = Study(folder, url)
    studies.check_whole(study)
    assert other not in {trial.params["loss"] for trial in study.trials}


@pytest.mark.slow
def test_two_runs_started_at_the_same_instant_are_two_runs(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    codes = start_at_once(folder, [(*SHORT, "loss=cosent")] * 2)
    assert codes == [0, 0], outputs(folder)
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert Counter(run.info.status for run in runs) == {"FINISHED": 2}
    assert len({run.data.metrics["best/spearman_cosine"] for run in runs}) == 1
    assert len(list(folder.glob("sweeps/**/result.json"))) == 2
