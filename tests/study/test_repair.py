"""A study's storage, its ``study.yaml`` and its trials' folders, each damaged and rebuilt from the others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pytest
import yaml
from optuna.trial import FrozenTrial
from sqlalchemy import event
from sqlalchemy.pool import Pool

from embedsweep.config.result import Emissions, RunContext, TrialResult
from embedsweep.errors import ConfigError, StudyError
from embedsweep.study.opening import open_study, place
from embedsweep.study.repair import Finding, StudyRepair
from embedsweep.study.services import frozen_attributes
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TEST_SCORES, TestScores
from embedsweep.study.trial_file import read_trial, write_trial
from embedsweep.training.folder import read_result, write_result
from embedsweep.validation.sweep import Sweep, pass_sweep

WORDS = ("loss=mnrl,cosent", "optimizer.lr=1e-3,2e-3", "study.name=s")
COST = Emissions(0.001, 0.01, 60.0, "FRA", ("cpu power estimated",), 0.25)
CONTEXT = RunContext({"embedsweep.audit": "none"}, [{"name": "demo-train", "digest": "d", "context": "train"}])
CURVE = {"train/loss": [(1, 2.5), (2, 1.5)], "dev/spearman_cosine": [(2, 0.25)]}
SCORES_OF_1 = TestScores(1, {"test/spearman_cosine": 0.75}, {}, {}, 4, COST)
LIST_OF_STUDIES = "cannot be read and there is no journal.log: give the study.storage of this study"


def result(value: float) -> TrialResult:
    dev = {"dev/spearman_cosine": value}
    return TrialResult(
        value, dev, {}, {}, {}, 2, 2, COST, False, "converted", 12.5, 3.5, 1.0, 2.0, CURVE, (0.125, 0.75), CONTEXT
    )


@cache
def request(*words: str) -> Sweep:
    return pass_sweep(list(words))


def by_name(*words: str) -> Sweep:
    return request("study.name=s", *words)


def run(study: Study, count: int) -> list[int]:
    """Run trials as a worker does; the second of the study fails."""
    numbers = []
    for _ in range(count):
        trial = study.ask()
        assert trial is not None
        study.set_run(trial, f"{trial.number:032x}", "abc")
        study.report(trial, 2, {"dev/spearman_cosine": 0.25}, 4)
        if trial.number == 0:
            study.fail(trial, "no luck", COST, CONTEXT)
        else:
            study.complete(trial, result(0.25 + trial.number))
            write_result(trial.folder, result(0.25 + trial.number))
        numbers.append(trial.number)
    return numbers


on_both = pytest.mark.parametrize("url", ["journal", "sqlite"], indirect=True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The study's storage; the journal, unless a test names another. Connections to databases are closed at the end."""
    opened: list[Any] = []

    def note(connection: Any, _: Any) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", note)
    match getattr(request, "param", "journal"):
        case "sqlite":
            yield f"sqlite:///{tmp_path}/optuna.db"
        case "postgresql":
            yield request.getfixturevalue("postgres_url")
        case _:
            yield None
    event.remove(Pool, "connect", note)
    for connection in opened:
        connection.close()


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str | None) -> Study:
    """A study of four trials: one failed, two complete, one interrupted."""
    monkeypatch.chdir(tmp_path)
    study = open_study(request(*WORDS, *([f"study.storage={url}"] if url else [])))
    run(study, 3)
    interrupted = study.ask()
    assert interrupted is not None
    study.release(interrupted)
    study.set_test_scores(SCORES_OF_1)
    return study


def lose_storage(study: Study, how: str = "emptied") -> None:
    """Delete the journal or sqlite's file; of PostgreSQL the study, all tables, or the database, which is made anew."""
    if study.url is None or study.url.startswith("sqlite"):
        (study.folder / "journal.log" if study.url is None else Path("optuna.db")).unlink()
        return
    if how == "without the study":
        optuna.delete_study(study_name=study.name, storage=study.url)
        return
    server, _, name = study.url.rpartition("/")
    emptied = ["DROP SCHEMA public CASCADE", "CREATE SCHEMA public"]
    made_anew = [f"DROP DATABASE {name} WITH (FORCE)", f"CREATE DATABASE {name}"]
    with psycopg.connect(study.url if how == "emptied" else f"{server}/postgres", autocommit=True) as connection:
        for statement in emptied if how == "emptied" else made_anew:
            connection.execute(statement.encode())


def repair(*, write: bool = True, words: tuple[str, ...] = ()) -> list[Finding]:
    name, folder, url = place(by_name(*words))
    findings = []
    for finding in StudyRepair(name, folder, url, frozen_attributes(by_name())).findings():
        if write and finding.act is not None:
            finding.act()
        findings.append(finding)
    return findings


def content(trial: FrozenTrial) -> dict[str, Any]:
    """What Optuna has of a finished trial."""
    names = ("number", "state", "values", "params", "distributions", "user_attrs", "system_attrs")
    return {name: getattr(trial, name) for name in (*names, "intermediate_values")}


def cut(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def line_of(journal: bytes, part: float) -> int:
    """The position at which the line begins that is at this part of the journal."""
    return journal.rindex(b"\n", 0, int(len(journal) * part)) + 1


def without_line(journal: bytes) -> bytes:
    start = line_of(journal, 0.3)
    return journal[:start] + journal[journal.index(b"\n", start) + 1 :]


def with_line(journal: bytes, line: bytes) -> bytes:
    start = line_of(journal, 0.4)
    return journal[:start] + line + journal[start:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda _: b"",
    "halved": lambda journal: journal[: len(journal) // 2],
    "cut after a line": lambda journal: journal[: line_of(journal, 0.6)],
    "only its first bytes": lambda journal: journal[:10],
    "no text in its middle": lambda journal: with_line(journal, b"\x80\x00\xff\n"),
    "no JSON in its middle": lambda journal: with_line(journal, b"garbage\n"),
    "another list in its middle": lambda journal: with_line(journal, b"[]\n"),
    "an entry without its values": lambda journal: with_line(journal, b'{"op_code": 8, "worker_id": "x"}\n'),
    "zeros at its end": lambda journal: journal[: len(journal) // 2] + b"\x00" * (len(journal) // 2),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_journal_is_refused_and_rebuilt_with_every_trial(made: Study, damage: str) -> None:
    finished = [content(trial) for trial in made.trials[:3]]
    journal = made.folder / "journal.log"
    cut(journal, DAMAGES[damage])
    damaged = journal.read_bytes()

    with pytest.raises(StudyError, match="embedsweep repair s compares what is left, and with --write rebuilds it"):
        open_study(by_name())
    journal.write_bytes(damaged)  # opening removes an incomplete last line
    assert repair(write=False)
    assert journal.read_bytes() == damaged  # a comparison changes nothing
    assert all(finding.act is not None for finding in repair())

    assert repair(write=False) == []
    study = open_study(request(*WORDS))
    assert [content(trial) for trial in study.trials[:3]] == finished
    assert study.plan == made.plan
    assert (study.test_scores, study.n_trials, study.fixed) == (SCORES_OF_1, 4, made.fixed)
    assert run(study, 1) == [3]  # the interrupted one, and no other
    assert study.ask() is None
    kept = made.folder / "journal.log.damaged"
    assert not kept.exists() or kept.read_bytes() == damaged


@pytest.mark.parametrize(
    ("url", "how"),
    [
        ("journal", ""),
        ("sqlite", ""),
        *(
            pytest.param("postgresql", how, marks=pytest.mark.slow)
            for how in ("without the study", "emptied", "dropped")
        ),
    ],
    indirect=["url"],
)
def test_a_storage_that_is_gone_is_refused_and_rebuilt(made: Study, url: str | None, how: str) -> None:
    finished = [content(trial) for trial in made.trials[:3]]
    lose_storage(made, how)
    for sweep in (by_name(), request(*WORDS, *([f"study.storage={url}"] if url else []))):
        with pytest.raises(StudyError, match="does not have what the trials' folders have: trials 0, 1, 2, 3"):
            open_study(sweep)
    whats = [finding.what for finding in repair()]
    assert whats == [
        "the storage has no such study",
        "the storage lacks trial 0, FAIL in its folder",
        "the storage lacks trial 1, COMPLETE in its folder",
        "the storage lacks trial 2, COMPLETE in its folder",
        "the storage lacks trial 3, RUNNING in its folder",
    ]
    study = open_study(by_name())
    assert [content(trial) for trial in study.trials[:3]] == finished
    assert study.url == url
    assert run(study, 1) == [3]


def test_a_repair_that_was_killed_is_repeated(made: Study) -> None:
    finished = [content(trial) for trial in made.trials[:3]]
    lose_storage(made)
    name, folder, url = place(by_name())
    for finding in StudyRepair(name, folder, url, frozen_attributes(by_name())).findings():
        assert finding.act is not None
        finding.act()
        if "trial 1" in finding.what:
            break
    with pytest.raises(StudyError, match="trials 2, 3"):
        open_study(by_name())
    assert len(repair()) == 2
    assert [content(trial) for trial in open_study(by_name()).trials[:3]] == finished


def test_a_trial_that_neither_storage_nor_folder_has_is_lost_and_trained_anew(made: Study) -> None:
    params = [trial.params for trial in made.trials]
    shutil.rmtree(made.trial_folder(1))
    lose_storage(made)
    lost = [finding for finding in repair() if "lost" in finding.what]
    assert [finding.what for finding in lost] == ["trial 1 is lost: neither the storage nor a folder has its values"]
    study = open_study(by_name())
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "COMPLETE", "RUNNING"]
    assert [trial.number for trial in study.failed_trials] == [0]
    assert run(study, 2) == [3, 4]
    assert study.trials[4].params == params[1]
    assert study.ask() is None
    assert study.is_complete


def test_a_result_of_an_older_version_without_its_record_is_set_aside(made: Study) -> None:
    for path in made.folder.glob("trials/*/trial.json"):
        path.unlink()
    lose_storage(made)
    with pytest.raises(StudyError, match="trials' folders have: trials 1, 2"):
        open_study(by_name())
    repair()
    assert sorted(path.name for path in (made.folder / "trials").iterdir()) == ["0000", "0001.1", "0002.1", "0003"]
    assert open_study(by_name()).n_left == 4


@on_both
@pytest.mark.parametrize("text", ["", "storage:", "\x00\x00"])
def test_a_damaged_study_file_is_written_again_from_the_storage(made: Study, text: str, url: str | None) -> None:
    file = made.folder / "study.yaml"
    whole = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(text, encoding="utf-8")
    if url is not None:
        with pytest.raises(ConfigError, match=LIST_OF_STUDIES):
            open_study(by_name())
    study = open_study(by_name(*([f"study.storage={url}"] if url else [])))
    assert len(study.trials) == 4
    assert yaml.safe_load(file.read_text(encoding="utf-8")) == whole


def test_the_study_file_has_all_that_the_storage_has_of_the_study(made: Study) -> None:
    tree = yaml.safe_load((made.folder / "study.yaml").read_text(encoding="utf-8"))
    attributes = dict(made._study.user_attrs)
    assert tree["plan"] == json.loads(attributes.pop("embedsweep.plan"))
    assert tree["attributes"] == json.loads(json.dumps(attributes))
    assert tree["attributes"][TEST_SCORES]["scores"] == {"test/spearman_cosine": 0.75}


def test_a_lost_folder_is_written_again_from_the_storage(made: Study) -> None:
    record = read_trial(made.trial_folder(1))
    shutil.rmtree(made.trial_folder(1))
    (finding,) = repair()
    assert finding.what == "sweeps/s/trials/0001 lacks the trial's result"
    assert read_result(made.trial_folder(1)) == result(1.25)
    assert read_trial(made.trial_folder(1)) == record
    config = yaml.safe_load((made.trial_folder(1) / "config.yaml").read_text(encoding="utf-8"))
    assert (config["loss"]["name"], config["optimizer"]["lr"]) == ("mnrl", 2e-3)


def test_a_failed_trial_may_have_no_folder(made: Study) -> None:
    shutil.rmtree(made.trial_folder(0))
    assert repair() == []


def test_a_record_that_its_folder_lacks_is_written_when_the_study_is_opened(made: Study) -> None:
    (made.trial_folder(1) / "trial.json").unlink()
    (made.trial_folder(2) / "trial.json").write_text('{"number": 2, "sta', encoding="utf-8")
    study = open_study(by_name())
    for number in (1, 2):
        record = read_trial(made.trial_folder(number))
        assert record is not None
        assert content(record) == content(study.trials[number])


def test_a_trials_record_is_read_as_it_was_written(made: Study, tmp_path: Path) -> None:
    for trial in made.trials:
        write_trial(tmp_path / "again", trial)
        record = read_trial(tmp_path / "again")
        assert record is not None
        assert content(record) == content(trial)
        times = (trial.datetime_start, trial.datetime_complete)
        assert (record.datetime_start, record.datetime_complete) == times


def test_the_storage_has_the_whole_result(made: Study) -> None:
    for path in made.folder.glob("trials/*/result.json"):
        path.unlink()
    results = [made.result_of(trial) for trial in made.trials]
    assert results == [None, result(1.25), result(2.25), None]
    assert [made.context_of(trial) for trial in made.trials] == [CONTEXT, CONTEXT, CONTEXT, None]
    assert made.trials[1].user_attrs["embedsweep.result"] == json.loads(json.dumps(asdict(result(1.25))))


def change_plan(made: Study) -> None:
    file = made.folder / "study.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    tree["plan"]["seed"] += 1
    file.write_text(yaml.safe_dump(tree), encoding="utf-8")


def change_params(made: Study) -> None:
    file = made.trial_folder(1) / "trial.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["params"]["loss"] = "cosent"
    file.write_text(json.dumps(tree), encoding="utf-8")


def change_value(made: Study) -> None:
    file = made.trial_folder(1) / "trial.json"
    tree = json.loads(file.read_text(encoding="utf-8"))
    tree["values"] = [0.5]
    file.write_text(json.dumps(tree), encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_plan, "contradict each other: seed was 42 and is now 43 in the file"),
        (change_params, "trial 1 of study s is another one in the storage than in sweeps/s/trials/0001"),
        (change_value, "trial 1 of study s is another one in the storage than in sweeps/s/trials/0001"),
    ],
)
def test_records_that_contradict_each_other_are_refused(
    made: Study, change: Callable[[Study], None], message: str
) -> None:
    change(made)
    with pytest.raises(StudyError, match=message):
        repair()


def test_a_study_whose_trial_runs_is_not_repaired(made: Study) -> None:
    assert made.ask() is not None
    with pytest.raises(StudyError, match=r"trial 3 of study s runs now \(process \d+ on .*interrupt its command first"):
        repair()


def test_a_lost_plan_is_named(made: Study) -> None:
    (made.folder / "journal.log").write_bytes(b"")
    (made.folder / "study.yaml").write_text("", encoding="utf-8")
    with pytest.raises(StudyError, match="the plan of study s is lost, and with it the search space"):
        repair()


def test_a_study_of_an_older_version_is_rebuilt_with_what_its_file_has(made: Study) -> None:
    file = made.folder / "study.yaml"
    tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    file.write_text(yaml.safe_dump({"storage": tree["storage"], "plan": tree["plan"]}), encoding="utf-8")
    lose_storage(made)
    repair()
    with pytest.raises(ConfigError, match="was never set for this study"):
        open_study(by_name())
    study = open_study(by_name("study.n_trials=4"))
    assert study.plan == made.plan
    assert study.services.keep_models == made.services.keep_models


def test_a_whole_study_has_no_findings(made: Study) -> None:
    assert repair() == []
