"""Databases that are restarted, or locked for a while, during a study."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from tests import postgres
from tests.faults import studies
from tests.faults.studies import WORDS, Study


@pytest.mark.parametrize(
    "down_s", [pytest.param(0.0, marks=pytest.mark.slow), pytest.param(20.0, marks=pytest.mark.faults)]
)
def test_a_study_survives_a_restart_of_postgresql(down_s: float, tmp_path: Path, undisturbed: Study) -> None:
    binaries = postgres.binaries()
    if binaries is None:
        pytest.skip(postgres.MISSING)
    with postgres.running_server(binaries) as server:
        url = server.new_database()
        words = (*WORDS, *studies.storage_words(url))
        command = studies.start(tmp_path, words)
        studies.wait_for(command, "trial 0 11%")
        server.restart(down_s)
        ended = studies.finish(command)
        assert "Traceback" not in ended.output
        if ended.code != 0:  # it needed the server just then
            assert ended.code == 1, ended.output
            assert "the study's storage" in ended.output
            ended = studies.run(tmp_path, words)
        assert ended.code == 0, ended.output
        study = Study(tmp_path, url)
        studies.check_whole(study)
        studies.check_equal(study, undisturbed)


@pytest.mark.parametrize(
    "seconds", [pytest.param(10.0, marks=pytest.mark.slow), pytest.param(30.0, marks=pytest.mark.faults)]
)
def test_a_study_waits_for_a_locked_tracking_database(seconds: float, tmp_path: Path, undisturbed: Study) -> None:
    command = studies.start(tmp_path, WORDS)
    studies.wait_for(command, "trial 0 11%")
    locker = sqlite3.connect(tmp_path / "mlruns" / "mlflow.db", timeout=60, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    time.sleep(seconds)
    assert command.poll() is None, "nothing had to wait"
    locker.execute("COMMIT")
    locker.close()
    ended = studies.finish(command)
    assert time.monotonic() - started >= seconds
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    studies.check_whole(Study(tmp_path))
    studies.check_equal(Study(tmp_path), undisturbed)
