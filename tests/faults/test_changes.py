"""Changes that a user makes during a study, or between its commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import text

from embedsweep.cli import main
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep
from tests.faults import studies
from tests.faults.studies import WORDS, Study

REQUEST = ("loss=mnrl,cosent", "optimizer.lr=interval(1e-5,1e-3)", "study.name=changed", "study.n_trials=4")
CHANGES = {
    "space": (("loss=mnrl,cosine", *REQUEST[1:]), "sweep of loss was mnrl,cosent and is now mnrl,cosine"),
    "range": ((REQUEST[0], "optimizer.lr=interval(1e-5,1e-2)", *REQUEST[2:]), "sweep of optimizer.lr was"),
    "fixed value": ((*REQUEST, "data.limit=100"), "data.limit was null and is now 100"),
    "direction": ((*REQUEST, "study.objective=[dev/spearman_cosine,emissions/co2eq_kg]"), "objective"),
}


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the connections that the end of a process would close."""
    opened: list[RDBStorage] = []
    original = RDBStorage.__init__

    def record(storage: RDBStorage, *args: Any, **kwargs: Any) -> None:
        original(storage, *args, **kwargs)
        opened.append(storage)

    monkeypatch.setattr(RDBStorage, "__init__", record)
    yield
    for storage in opened:
        storage.remove_session()
        storage.engine.dispose()


@pytest.mark.usefixtures("closing")
@studies.each_storage
@pytest.mark.parametrize("change", CHANGES)
def test_a_command_with_another_configuration_is_refused_with_the_difference(
    change: str,
    url: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = studies.storage_words(url)
    study = open_study(pass_sweep([*REQUEST, *storage]))
    assert study.ask() is not None

    words, difference = CHANGES[change]
    assert main(["train", "-m", *words, *storage]) == 2
    error = capsys.readouterr().err
    assert "study changed" in error
    assert difference in error
    assert [trial.state.name for trial in open_study(pass_sweep([*REQUEST, *storage])).trials] == ["RUNNING"]


@pytest.mark.slow
def test_a_yaml_file_edited_during_a_study_changes_no_later_trial(tmp_path: Path, undisturbed: Study) -> None:
    option = tmp_path / "conf" / "optimizer" / "adamw.yaml"
    option.parent.mkdir(parents=True)
    shutil.copy(studies.ROOT / "conf" / "optimizer" / "adamw.yaml", option)
    command = studies.start(tmp_path, WORDS)
    studies.wait_for(command, "trial 0 11%")
    text = option.read_text(encoding="utf-8")
    assert "weight_decay: 0.01 " in text
    option.write_text(text.replace("weight_decay: 0.01 ", "weight_decay: 0.3 "), encoding="utf-8")
    ended = studies.finish(command)
    assert ended.code == 0, ended.output
    studies.check_whole(Study(tmp_path))
    studies.check_equal(Study(tmp_path), undisturbed)

    refused = studies.run(tmp_path, (*WORDS, f"study.name={Study(tmp_path).name}"))
    assert refused.code == 2, refused.output
    assert "optimizer.weight_decay was 0.01 and is now 0.3" in refused.output
    by_name = studies.run(tmp_path, (f"study.name={Study(tmp_path).name}",))
    assert by_name.code == 0, by_name.output
    assert " RUNNING " not in by_name.output


@pytest.mark.slow
def test_a_machine_that_records_its_runs_in_another_store_is_refused(tmp_path: Path, postgres_url: str) -> None:
    words = (*WORDS, *studies.storage_words(postgres_url))
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    assert studies.run(there, (*words, "trainer.max_steps=2")).code == 0
    storage = RDBStorage(postgres_url)
    (study,) = storage.get_all_studies()
    lease = {**storage.get_all_trials(study._study_id)[1].user_attrs["embedsweep.lease"], "host": "another-host"}
    with storage.engine.begin() as connection:  # the second trial is one that another machine runs now
        (trial,) = connection.execute(text("SELECT trial_id FROM trials WHERE number = 1")).one()
        connection.execute(text("UPDATE trials SET state = 'RUNNING' WHERE trial_id = :trial"), {"trial": trial})
        connection.execute(
            text("UPDATE trial_user_attributes SET value_json = :lease WHERE trial_id = :trial AND key = :key"),
            {"lease": json.dumps(lease), "trial": trial, "key": "embedsweep.lease"},
        )
    storage.remove_session()
    storage.engine.dispose()

    refused = studies.run(here, (*words, "trainer.max_steps=2"))
    assert refused.code == 2
    assert "tracking.uri: host another-host records trials of this study in another store" in refused.output
    assert " RUNNING " not in refused.output
