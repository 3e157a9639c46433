"""Databases that are restarted, or locked for a while, during a study."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from embedsweep.study.opening import open_study
from embedsweep.study.reading import read_study
from embedsweep.validation.sweep import pass_sweep
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
        assert ended.code == 0, ended.output
        study = Study(tmp_path, url)
        logged = "".join(log.read_text(encoding="utf-8") for log in study.folder.glob("trials/*/train.log"))
        assert "Traceback" not in logged
        waits = (logged + ended.output).count("the study's storage does not answer")
        assert waits == 1 if down_s else waits <= 1, logged + ended.output
        studies.check_whole(study)
        studies.check_equal(study, undisturbed)


OPEN_WITH_CUTS = """
import logging, sys
import psycopg
from sqlalchemy import Engine, event
from embedsweep.cli import main

url, place, cuts, *words = sys.argv[1:]
cuts = int(cuts)

def cut(connection, _cursor, statement, *_):
    global cuts
    if place in statement and cuts:
        cuts -= 1
        pid = connection.connection.dbapi_connection.info.backend_pid
        with psycopg.connect(url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

event.listen(Engine, "before_cursor_execute", cut)
code = main(["train", "-m", *words, f"study.storage={url}", "study.timeout=0.001"])
assert cuts == 0, "nothing was cut"
sys.exit(code)
"""


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("pg_advisory_lock", marks=pytest.mark.slow),
        pytest.param("INSERT INTO studies", marks=pytest.mark.faults),
    ],
)
def test_a_connection_that_is_cut_while_a_study_is_opened_is_opened_once_more(
    place: str, tmp_path: Path, postgres_url: str
) -> None:
    for cuts, code in ((2, 1), (1, 0)):
        program = ["-c", OPEN_WITH_CUTS, postgres_url, place, str(cuts), *WORDS, f"study.name=cut-{cuts}"]
        ended = studies.finish(studies.start_program(tmp_path, program, fresh=True))
        assert ended.code == code, ended.output
        assert "Traceback" not in ended.output
        assert "trying once more" in ended.output
        assert ("2 trials (exhaustive)" in ended.output) == (cuts == 1)


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


@pytest.mark.slow
def test_a_study_in_postgresql_is_read_by_its_url_alone(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["optimizer.lr=1e-4,2e-4", "study.name=rates"]
    written = open_study(pass_sweep([*words, f"study.storage={postgres_url}"]))
    (tmp_path / "sweeps").rename(tmp_path / "moved")
    study = read_study("rates", storage=postgres_url)
    assert (study.name, study.n_trials, study.plan, study.trials) == ("rates", 2, written.plan, [])
    assert not (tmp_path / "sweeps").exists()
    for each in (written, study):
        each._storage._backend.engine.dispose()  # type: ignore[attr-defined]
