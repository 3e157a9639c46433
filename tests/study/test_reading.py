"""Studies that are read by name: while another process writes, read-only, in another folder, or not there."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from embedsweep.errors import ConfigError, StudyError
from embedsweep.files import study_names
from embedsweep.study.opening import open_study
from embedsweep.study.reading import read_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep

WORDS = ["optimizer.lr=1e-4,2e-4,3e-4", "study.name=rates"]


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    for path in tmp_path.rglob("*"):
        path.chmod(path.stat().st_mode | stat.S_IWUSR)


def _study() -> Study:
    study = open_study(pass_sweep(WORDS))
    study._study.add_trial(
        optuna.trial.create_trial(
            value=0.5,
            params={"optimizer.lr": 1e-4},
            distributions={"optimizer.lr": optuna.distributions.CategoricalDistribution([1e-4, 2e-4, 3e-4])},
        )
    )
    return study


def _content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_study_is_read_while_another_process_appends_to_it(tmp_path: Path) -> None:
    written = _study()
    study = read_study("rates")
    assert (study.name, study.n_trials, study.plan) == ("rates", 3, written.plan)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE]
    written.ask()
    with (tmp_path / "sweeps/rates/journal.log").open("a", encoding="utf-8") as journal:
        journal.write('{"op_code": 4, "stu')  # half of what another process is writing
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.RUNNING]
    assert [trial.state for trial in read_study("rates").trials] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_reading_creates_and_changes_no_file(tmp_path: Path) -> None:
    _study()
    (tmp_path / "sweeps/rates/journal.lock").unlink()
    before = _content(tmp_path)
    study = read_study("rates")
    assert study.best is not None
    assert study.best.number == 0
    with pytest.raises(StudyError, match="opened for reading only"):
        study._study.set_user_attr("a", 1)
    assert _content(tmp_path) == before


def test_a_study_of_another_folder_is_read_with_the_folders_of_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _study()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    study = read_study("rates", sweeps=tmp_path / "sweeps")
    assert study.trial_folder(7) == tmp_path / "sweeps/rates/trials/0007"
    assert study_names(tmp_path / "sweeps") == ["rates"]
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rate", "rate: no such study (did you mean rates?); there are: cut, foreign, rates"),
        ("cut", "cut: sweeps/cut/study.yaml is damaged. embedsweep repair cut compares what is left"),
        ("foreign", "foreign: this study is stored in postgresql://me:***@host/db, whose password is not kept"),
    ],
)
def test_a_study_that_cannot_be_found_is_named_with_what_to_do(tmp_path: Path, name: str, message: str) -> None:
    _study()
    for other, text in (("cut", "stor"), ("foreign", "storage: postgresql://me:***@host/db\nplan: {}\n")):
        (tmp_path / "sweeps" / other).mkdir()
        (tmp_path / "sweeps" / other / "study.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        read_study(name)
    assert str(caught.value).startswith(message)


def test_a_study_of_another_program_is_refused(tmp_path: Path) -> None:
    optuna.create_study(study_name="other", storage=f"sqlite:///{tmp_path}/db.sqlite")
    with pytest.raises(StudyError, match=r"the study other in .* was not made by embedsweep"):
        read_study("other", storage=f"sqlite:///{tmp_path}/db.sqlite")


def test_a_database_whose_driver_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyError, match=r"me:\*\*\*@host/db cannot be opened: .*: install the driver"):
        read_study("other", storage="postgresql+psycopg://me:kanarienvogel@host/db")
