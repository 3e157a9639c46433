"""A study that an earlier commit started, and that was interrupted in a trial, resumes under the same command.

``earlier/make_fixture.py`` made what these tests start from, with the code of each commit.
"""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from optuna.trial import FrozenTrial

from embedsweep.commands.api import load_study
from embedsweep.files import study_names
from embedsweep.lease import Lease
from embedsweep.report.page.build import html_of
from embedsweep.study.reading import read_study
from tests.faults import studies
from tests.faults.earlier.make_fixture import FINALS, KILLED_TRIAL, N_TRIALS, PLACEHOLDERS, TEXTS, WORDS, trials_of
from tests.faults.studies import Study

ARCHIVES = Path(__file__).with_name("earlier")
COMMITS = {"34dd685": "before each evaluation was an option", "173d382": "before finals"}
"""The last commit of each form of a study, and what it is."""
WITH_FINALS = "cdd2dd9"
"""The last commit before other engines than local processes run studies. Its study was killed in its finals."""
TOLERANCE = 0.01
"""Of a Spearman correlation; other processors round differently."""


def unpack(commit: str, folder: Path, url: str | None) -> None:
    """Lay out a killed study in ``folder`` and in the database at ``url``, as if this machine had run it."""
    storage = "journal" if url is None else "postgresql"
    with tarfile.open(ARCHIVES / f"{commit}-{storage}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    actual = (str(folder), Lease.mine().system, socket.gethostname(), url or "")
    for path in (path for path in folder.rglob("*") if path.suffix in TEXTS):
        text = path.read_text(encoding="utf-8")
        if any(placeholder in text for placeholder in PLACEHOLDERS):
            for placeholder, value in zip(PLACEHOLDERS, actual, strict=True):
                text = text.replace(placeholder, value)
            path.write_text(text, encoding="utf-8")
    store = folder / "mlruns" / "mlflow.sql"
    with sqlite3.connect(store.with_suffix(".db")) as connection:
        connection.executescript(store.read_text(encoding="utf-8"))
    connection.close()
    if url is not None:
        with psycopg.connect(url) as database:
            database.execute((folder / "postgresql.sql").read_bytes())


def points(study: Study, number: int) -> set[tuple[Any, ...]]:
    """Every point of a trial's run, with the moment at which it was recorded."""
    run = study.run_of(number)
    return {
        (name, point.step, point.value, point.timestamp)
        for name in run.data.metrics
        for point in study.client.get_metric_history(run.info.run_id, name)
        if not name.startswith(("emissions/", "time/", "energy/"))  # summed over attempts
    }


@pytest.mark.parametrize("commit", COMMITS)
def test_a_study_of_an_earlier_commit_is_read_with_what_it_has(commit: str, tmp_path: Path) -> None:
    unpack(commit, tmp_path, None)
    (name,) = study_names(tmp_path / "sweeps")
    before = {path: path.read_bytes() for path in (tmp_path / "sweeps").rglob("*") if path.is_file()}
    study = load_study(name, folder=tmp_path)
    trials = study.trials(config=True)
    assert trials["state"].tolist() == ["COMPLETE", "RUNNING"]
    expected = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    assert trials["dev/spearman_cosine"][0] == expected[0]["value"]
    assert trials["low"].isna().tolist() == [commit == "34dd685", True]
    assert set(study.curves()["trial"]) == {0, 1}
    assert len(study.scores()) > 100
    assert study.optuna.metric_names == ["dev/spearman_cosine"]
    page = html_of(study.results, "embedsweep train")
    assert "Best so far: trial 0" in page
    assert "Not known: no trial here has scores of single items of the untrained model" in page
    assert {path: path.read_bytes() for path in (tmp_path / "sweeps").rglob("*") if path.is_file()} == before


@pytest.mark.slow
@studies.each_storage
@pytest.mark.parametrize("commit", COMMITS)
def test_a_study_of_an_earlier_commit_resumes_in_the_same_runs(commit: str, url: str | None, tmp_path: Path) -> None:
    unpack(commit, tmp_path, url)
    expected = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    before = Study(tmp_path, url)
    assert before.states == ["COMPLETE", "RUNNING"]
    recorded = [points(before, number) for number in range(2)]
    steps = {step for name, step, *_ in recorded[KILLED_TRIAL] if name == "dev/spearman_cosine"}
    assert steps >= {0, 3}  # what was recorded last may wait in the spool

    ended = studies.run(tmp_path, (*WORDS, *studies.storage_words(url)))

    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert [f"trial {number} RUNNING" in ended.output for number in range(N_TRIALS + 1)] == [False, True, True, False]
    (resumed,) = (line for line in ended.output.splitlines() if f" trial {KILLED_TRIAL} RUNNING" in line)
    assert " resumed" in resumed
    study = Study(tmp_path, url)
    studies.check_whole(study, N_TRIALS, earlier=set(range(KILLED_TRIAL)))
    assert study.parent.info.run_id == before.parent.info.run_id
    for number, earlier in enumerate(recorded):
        assert study.run_of(number).info.run_id == before.run_of(number).info.run_id
        assert earlier <= points(study, number)
    check_expected(study.trials, expected)
    if url is None:
        check_finals(tmp_path, study.name)


def check_expected(trials: Sequence[FrozenTrial], expected: Sequence[dict[str, Any]]) -> None:
    """Check that trials have the values and scores that the earlier commit led to undisturbed."""
    for trial, wanted in zip(trials, expected, strict=True):
        assert trial.params.get("loss") == wanted["params"].get("loss")
        assert trial.params.get("optimizer.lr") == pytest.approx(wanted["params"].get("optimizer.lr"))
        assert trial.value == pytest.approx(wanted["value"], abs=TOLERANCE)
        scores = {int(step): value for step, value in wanted["intermediate_values"].items()}
        assert trial.intermediate_values == pytest.approx(scores, abs=TOLERANCE)


def check_finals(folder: Path, name: str) -> None:
    """Check that a complete study of an earlier commit gets finals when a later command asks for them."""
    ended = studies.run(folder, (f"study.name={name}", "study.finals.top=1", "study.finals.seeds=2"))
    assert ended.code == 0, ended.output
    record = read_study(name, sweeps=folder / "sweeps")
    assert record.finals is not None
    assert [trial.state.name for trial in record.finals.trials] == ["COMPLETE"] * 2
    best = record.best
    assert best is not None
    assert [look.what for look in record.looks] == [f"trial {best.number}", f"finals of trial {best.number}"]
    assert record.finals_test is not None
    assert len(record.finals_test.scores) == 2


@pytest.mark.slow
@studies.each_storage
def test_a_study_that_an_earlier_commit_left_in_its_finals_goes_on_with_them(url: str | None, tmp_path: Path) -> None:
    unpack(WITH_FINALS, tmp_path, url)
    expected = json.loads((tmp_path / "expected.json").read_text(encoding="utf-8"))
    before, finals = trials_of(tmp_path, url)
    assert [trial.state.name for trial in (*before, *finals)] == ["COMPLETE"] * (N_TRIALS + 1) + ["RUNNING"]
    runs = {run.info.run_id for run in Study(tmp_path, url).runs}

    ended = studies.run(tmp_path, (*WORDS, *FINALS, *studies.storage_words(url)))

    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    assert re.findall(r"(trial|final) (\d) RUNNING .*(resumed)", ended.output) == [("final", "1", "resumed")]
    assert " RUNNING " not in ended.output.replace("final 1 RUNNING", "", 1)
    after, finals = trials_of(tmp_path, url)
    assert after == before
    check_expected((*after, *finals), expected)
    study = Study(tmp_path, url)
    assert {run.info.run_id for run in study.runs} == runs
    assert {run.info.status for run in study.runs} == {"FINISHED"}
