"""What a study in PostgreSQL does when answers are lost, transactions are rolled back or its lock is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from embedsweep.errors import LockLostError, StudyError
from embedsweep.lease import Lease
from embedsweep.study import database
from embedsweep.study.database import DatabaseStorage, advisory_lock, engine_options, require_locks
from embedsweep.study.holder import ATTEMPTS
from embedsweep.study.leases import LEASE
from embedsweep.study.opening import open_study
from embedsweep.study.storage import storage_errors
from embedsweep.study.study import Study
from tests import postgres
from tests.study.test_study import LOSS, LR, make_request, result

NUMBER = FloatDistribution(0.0, 1.0)


@pytest.fixture(autouse=True)
def _in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(database, "PAUSE_S", 0.02)


@contextmanager
def opened(url: str) -> Iterator[optuna.Study]:
    """An Optuna study with the trials 0 (running), 1 (waiting) and 2 (complete)."""
    storage = DatabaseStorage(url, engine_kwargs=engine_options(url))
    study = optuna.create_study(study_name="lost", storage=storage)
    study.ask()
    study.enqueue_trial({"x": 0.5})
    study.add_trial(create_trial(value=1.0))
    yield study
    storage.engine.dispose()


def kill(url: str, pid: int) -> None:
    with psycopg.connect(url, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))


def lose_answer(storage: DatabaseStorage, url: str) -> list[int]:
    """Let the connection end once the next transaction is committed, before its answer arrives."""
    lost: list[int] = []

    dialect = storage.engine.dialect
    original = dialect.do_commit

    def commit(connection: Any) -> None:
        original(connection)
        if not lost:
            lost.append(connection.dbapi_connection.info.backend_pid)
            kill(url, lost[0])
            connection.dbapi_connection.execute("SELECT 1")  # raises

    dialect.do_commit = commit  # type: ignore[method-assign,assignment]
    return lost


WRITES: dict[str, Callable[[optuna.Study], object]] = {
    "a new trial": lambda study: study.ask(),
    "an enqueued trial": lambda study: study.enqueue_trial({"x": 0.1}),
    "a state": lambda study: study.tell(0, 0.25),
    "a trial given back": lambda study: study._storage.set_trial_state_values(_id(study, 0), TrialState.WAITING),
    "a trial taken": lambda study: study._storage.set_trial_state_values(_id(study, 1), TrialState.RUNNING),
    "a parameter": lambda study: study._storage.set_trial_param(_id(study, 0), "x", 0.5, NUMBER),
    "a report": lambda study: study._storage.set_trial_intermediate_value(_id(study, 0), 3, 0.5),
    "an attribute of a trial": lambda study: study._storage.set_trial_user_attr(_id(study, 0), "a", 1),
    "an attribute of the study": lambda study: study.set_user_attr("b", 2),
}


def _id(study: optuna.Study, number: int) -> int:
    return study.get_trials(deepcopy=False)[number]._trial_id


def content(study: optuna.Study) -> Any:
    trials = [
        (trial.state.name, trial.values, trial.params, trial.intermediate_values, trial.user_attrs)
        for trial in study.get_trials()
    ]
    return trials, study.user_attrs


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITES)
def test_a_write_whose_answer_is_lost_is_made_once(write: str, postgres_server: postgres.Server) -> None:
    found = []
    for loses in (False, True):
        url = postgres_server.new_database()
        with opened(url) as study:
            storage = study._storage._backend  # type: ignore[attr-defined]
            with advisory_lock(url, "lost", waits=True):
                lost = lose_answer(storage, url) if loses else []
                returned = WRITES[write](study)
            assert len(lost) == loses
            found.append((content(study), returned if isinstance(returned, bool) else None))
    assert found[0] == found[1]


@pytest.mark.slow
def test_transactions_that_the_database_rolls_back_are_repeated(postgres_url: str) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'".encode())
    with opened(postgres_url) as study:
        errors: list[Exception] = []

        def count(key: str) -> None:
            try:
                for number in range(15):
                    study.set_user_attr(key, number)
                    study.set_user_attr("shared", number)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=count, args=(f"of {number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert study.user_attrs == {**{f"of {number}": 14 for number in range(4)}, "shared": 14}


@pytest.mark.slow
def test_whoever_lost_the_lock_writes_nothing_more_and_the_next_one_gets_it_at_once(postgres_url: str) -> None:
    with opened(postgres_url) as study:
        with advisory_lock(postgres_url, "lost", waits=True):
            study.set_user_attr("a", 1)
            kill(postgres_url, database._held.locks[0][1])
            with pytest.raises(LockLostError, match="the study's lock was lost"):
                study.set_user_attr("a", 2)
            with pytest.raises(LockLostError):  # nor does it come back by itself
                study.ask()
            assert study.user_attrs == {"a": 1}  # what only reads goes on
        with advisory_lock(postgres_url, "lost", waits=True):
            study.set_user_attr("a", 3)
        assert len(study.trials) == 3


@pytest.mark.slow
def test_a_lock_is_in_no_transaction_and_its_idle_connection_is_not_ended(postgres_url: str) -> None:
    name = postgres_url.rsplit("/", 1)[1]
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout", "lock_timeout"):
            connection.execute(f"ALTER DATABASE {name} SET {setting} = '100ms'".encode())
        with advisory_lock(postgres_url, "idle", waits=True):
            (_, pid) = database._held.locks[0]
            (state,) = connection.execute("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() or ()
            threading.Event().wait(0.5)
            require_locks()
    assert state == "idle"


def lose_lock(url: str, monkeypatch: pytest.MonkeyPatch, at: int) -> list[int]:
    """End the connection of the lock before write number ``at`` from now on."""
    calls: list[int] = []
    original = database.require_locks

    def require() -> None:
        calls.append(1)
        if len(calls) == at and database._held.locks:
            kill(url, database._held.locks[-1][1])
        original()

    monkeypatch.setattr(database, "require_locks", require)
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_trial_is_asked_for_once_wherever_the_lock_is_lost(
    is_resumed: bool, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_server.new_database()
    for at in range(1, 30):
        study = open_study(make_request(name=f"lost-{at}", storage=url))
        if is_resumed:
            first = study.ask()
            assert first is not None
            study.release(first)
        with monkeypatch.context() as patch:
            calls = lose_lock(url, patch, at)
            trial = study.ask()
        assert trial is not None
        (stored,) = study.trials
        assert (trial.number, trial.params, trial.attempt, trial.deaths.count) == (0, FIRST, 1, 0), at
        assert (stored.state.name, stored.user_attrs[LEASE]) == ("RUNNING", asdict(Lease.mine()))
        assert stored.user_attrs[ATTEMPTS] == 1
        assert study.holds(trial)
        dispose(study)
        if len(calls) < at:
            break
    assert at > 3, "the lock was lost at no write"


FIRST = {"loss": "mnrl", "dataloader.batch_size": 16}


def dispose(study: Study) -> None:
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]


def test_asking_reads_the_trials_once_and_proposes_what_it_does_from_a_journal(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, reads = RDBStorage._get_trials, list[object]()

    def counted(*args: Any, **kwargs: Any) -> list[FrozenTrial]:
        reads.append(args)
        return original(*args, **kwargs)

    asked = {}
    for url in (None, postgres_url):
        request = make_request((LOSS, LR), "tpe", 40, "journal" if url is None else "database", url)
        study, other = open_study(request), open_study(request)
        for number in range(15):  # TPE draws the first ten at random
            trial = study.ask()
            assert trial is not None
            study.complete(trial, result(number / 15))
            running = other.ask()
        assert running is not None
        other.release(running)
        with monkeypatch.context() as patch:
            patch.setattr(RDBStorage, "_get_trials", counted)
            asked[url] = [each.params for each in (study.ask(), study.ask()) if each is not None]
        if url is not None:
            dispose(study)
            dispose(other)
    assert asked[postgres_url] == asked[None]
    assert len(reads) == 2 + 1  # once more where a trial was given up, which waits from then on


ENDS: dict[str, tuple[Callable[[Study, Any], None], str]] = {
    "complete": (lambda study, trial: study.complete(trial, result(0.5)), "COMPLETE"),
    "fail": (lambda study, trial: study.fail(trial, "reason"), "FAIL"),
    "release": (lambda study, trial: study.release(trial), "RUNNING"),
    "retry": (lambda study, trial: study.retry(trial, "reason"), "RUNNING"),
    "death": (lambda study, trial: study.release_after_death(trial, "reason"), "RUNNING"),
}
IN_SHORT = ("complete", "release")


@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=pytest.mark.slow if end in IN_SHORT else pytest.mark.faults) for end in ENDS]
)
def test_a_trial_is_ended_once_wherever_the_lock_is_lost(
    end: str, postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, state = ENDS[end]
    found = []
    url = postgres_server.new_database()
    for at in range(20):
        study = open_study(make_request(name=f"lost-{at}", storage=url))
        trial = study.ask()
        assert trial is not None
        with monkeypatch.context() as patch:
            calls = lose_lock(url, patch, at)
            act(study, trial)
        (stored,) = study.trials
        found.append((stored.state.name, stored.values, stored.user_attrs))
        resumed = study.ask()  # one that was given up is taken at once
        assert resumed is not None
        assert resumed.number == (0 if state == "RUNNING" else 1)
        dispose(study)
        if at and len(calls) < at:
            break
    assert len(found) > 2
    assert found[0][0] == state
    assert all(each == found[0] for each in found)


@pytest.mark.slow
def test_a_database_that_stays_away_ends_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "WAIT_S", 0.5)
    monkeypatch.setattr(database, "LONGEST_PAUSE_S", 0.1)
    binaries = postgres.binaries()
    if binaries is None:
        pytest.skip(postgres.MISSING)
    with postgres.running_server(binaries) as server:
        study = open_study(make_request(storage=server.new_database()))
        started = threading.Timer(0.1, server.restart, (0.1,))
        started.start()
        started.join()
        assert study.ask() is not None
        server.stop(signal.SIGINT)
        with pytest.raises(StudyError, match="the study's storage"), storage_errors():
            study.ask()
        server.restart(0.0)
    dispose(study)
