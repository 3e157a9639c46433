from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import optuna
import pytest
import yaml

from embedsweep.commands.models import resolve_model
from embedsweep.config.compose import open_composer
from embedsweep.config.study import TrackingConfig
from embedsweep.errors import ConfigError
from embedsweep.hub import hub_reachable
from embedsweep.models.tiny import tiny_model_path
from embedsweep.study.finals import open_finals
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import study_with_finals

SINGLE_RUN = "a1b2c3d4" + "0" * 24
TRIAL_RUNS = ["aaaaaa" + f"{number}" * 26 for number in range(3)]


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a single run, and a study of three trials: scores .5, .7 and failed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    hub_reachable.cache_clear()
    (tmp_path / "sweeps" / "single" / SINGLE_RUN / "model").mkdir(parents=True)
    folder = tmp_path / "sweeps" / "mine"
    (folder / "trials" / "0001" / "model").mkdir(parents=True)
    study = open_study(pass_sweep(["optimizer.lr=1e-4,2e-4,3e-4", "study.name=mine"]))._study
    for run_id, value in zip(TRIAL_RUNS, (0.5, 0.7, None), strict=True):
        trial = study.ask()
        trial.set_user_attr("run_id", run_id)
        study.tell(trial, value, None if value else optuna.trial.TrialState.FAIL)
    return tmp_path


def _resolved(argument: str) -> tuple[str, str]:
    with open_composer() as composer:
        model = resolve_model(argument, composer)
    assert (model.argument, model.is_folder) == (argument, True)
    return model.source, model.description


def _problem(argument: str) -> str:
    with open_composer() as composer, pytest.raises(ConfigError) as caught:
        resolve_model(argument, composer)
    (problem,) = caught.value.problems
    assert problem.where == argument
    return problem.message


@pytest.mark.parametrize(
    ("argument", "source", "description"),
    [
        ("mine", "sweeps/mine/trials/0001/model", "the best of study mine, trial 1"),
        (SINGLE_RUN, f"sweeps/single/{SINGLE_RUN}/model", f"run {SINGLE_RUN}"),
        ("a1b2c3", f"sweeps/single/{SINGLE_RUN}/model", f"run {SINGLE_RUN}"),
        (TRIAL_RUNS[1], "sweeps/mine/trials/0001/model", "trial 1 of study mine"),
        ("aaaaaa11", "sweeps/mine/trials/0001/model", "trial 1 of study mine"),
    ],
)
def test_an_argument_is_a_study_or_a_runs_id_or_its_first_digits(argument: str, source: str, description: str) -> None:
    assert _resolved(argument) == (source, description)


@pytest.mark.parametrize("argument", ["mine/", "sweeps/mine", "./sweeps/mine/"])
def test_a_study_is_also_named_by_its_folder(argument: str) -> None:
    with open_composer() as composer:
        model = resolve_model(argument, composer)
    assert (model.study, model.source) == ("mine", "sweeps/mine/trials/0001/model")


@pytest.mark.parametrize(("n_trials", "left"), [(4, "1 trial"), (6, "3 trials"), (3, None)])
def test_the_best_of_a_study_that_has_trials_left_is_the_best_so_far(
    workplace: Path, n_trials: int, left: str | None
) -> None:
    journal = optuna.storages.journal.JournalFileBackend(str(workplace / "sweeps" / "mine" / "journal.log"))
    stored = optuna.load_study(study_name="mine", storage=optuna.storages.JournalStorage(journal))
    stored.set_user_attr("embedsweep.n_trials", n_trials)
    so_far = f" so far ({left} of the study not finished)" if left else ""
    assert _resolved("mine")[1] == f"the best{so_far} of study mine, trial 1"


def test_a_study_that_held_finals_is_the_training_that_they_kept() -> None:
    study = study_with_finals()
    assert study.finals is not None
    assert study.finals_test is not None
    number = study.finals_test.kept
    kept = study.finals.trial_folder(number)
    (kept / "model").mkdir(parents=True)
    description = f"the best of study ranked, final {number} (trial 1 with another seed)"
    assert _resolved("ranked") == (str(kept / "model"), description)
    shutil.rmtree(kept / "model")
    assert f"the model of its best, final {number}, is not in" in _problem("ranked")


def test_until_its_finals_are_over_a_study_is_its_best_trial_so_far() -> None:
    study = study_with_finals(is_over=False)
    (study.trial_folder(1) / "model").mkdir(parents=True)
    assert _resolved("ranked")[1] == "the best so far (its finals are not over) of study ranked, trial 1"


def test_a_study_whose_finals_grow_is_the_best_so_far_again() -> None:
    study = study_with_finals()
    assert study.finals_test is not None
    assert study.finals is not None
    (study.finals.trial_folder(study.finals_test.kept) / "model").mkdir(parents=True)
    grown = open_study(pass_sweep(["study.name=ranked", "study.finals.top=2", "study.finals.seeds=3"]))
    assert open_finals(grown) is not None
    assert _resolved("ranked")[1].startswith("the best so far (its finals are not over) of study ranked, final ")


def test_a_model_of_another_finalist_than_the_best_is_not_the_last_word() -> None:
    study = study_with_finals()
    answer, test = study.answer, study.finals_test
    assert study.finals is not None
    assert test is not None
    assert answer is not None
    assert answer.verdict is not None
    (study.finals.trial_folder(test.kept) / "model").mkdir(parents=True)
    study.set_answer(replace(answer, verdict=replace(answer.verdict, best=0)))
    why = "no training of trial 0, the best of its finals, was scored on test"
    assert _resolved("ranked")[1].startswith(f"the best so far ({why}) of study ranked, final {test.kept} (")


def test_finals_are_no_study_that_has_a_model() -> None:
    study_with_finals()
    assert _problem("ranked/finals") == "is the finals of study ranked; the model that they kept is its"


def test_a_folder_is_a_model_and_a_runs_folder_has_one(workplace: Path) -> None:
    shutil.copytree(tiny_model_path(), workplace / "run" / "model")
    assert _resolved("run/model")[0] == "run/model"
    assert _resolved("run")[0] == "run/model"


@pytest.mark.parametrize(
    ("text", "trusts"),
    [
        ("model: {trust_remote_code: true}", True),
        ("model: {trust_remote_code: false}", False),
        ("model: {trust_remote_code: 'yes'}", False),
        ("model", False),
        ("{torn", False),
        (None, False),
    ],
)
def test_code_of_a_model_runs_if_the_run_that_trained_it_said_so(
    text: str | None, trusts: bool, workplace: Path
) -> None:
    runs = (workplace / "sweeps" / "mine" / "trials" / "0001", workplace / "sweeps" / "single" / SINGLE_RUN)
    for run in runs:
        if text is not None:
            (run / "config.yaml").write_text(text, encoding="utf-8")
        shutil.copytree(tiny_model_path(), run / "model", dirs_exist_ok=True)
    with open_composer() as composer:
        for argument in ("mine", SINGLE_RUN, TRIAL_RUNS[1]):
            assert resolve_model(argument, composer).trust_remote_code is trusts
        for run in runs:  # a folder may come from anybody
            assert resolve_model(str(run), composer).trust_remote_code is False


def test_a_folder_comes_before_a_study_of_its_name(workplace: Path) -> None:
    shutil.copytree(tiny_model_path(), workplace / "mine")
    assert _resolved("mine")[0] == "mine"


@pytest.mark.parametrize(
    ("argument", "parts"),
    [
        ("aaaaaa", ["3 runs have ids that start so", *TRIAL_RUNS]),
        ("aaaaaa0", ["trial 0 of study mine, whose model was not kept", "the study's best model is mine"]),
        ("mien", ["no folder, no study and no run", "did you mean mine?", "studies: mine;", "a1b2c3d4"]),
        ("me/mien", ["no folder, no study and no run", "HF_HUB_OFFLINE is set"]),
        ("a1b2", ["no folder, no study and no run"]),  # shorter than a run's id may be
        ("ffffffff", ["no folder, no study and no run"]),
        ("no such/thing", ["it is not a hub id"]),
    ],
)
def test_an_argument_that_names_no_model_is_refused_with_the_known_ones(argument: str, parts: list[str]) -> None:
    message = _problem(argument)
    assert [part for part in parts if part not in message] == []


def test_a_model_that_only_mlflows_store_keeps_is_downloaded_once(
    workplace: Path, mlflow_store: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_store.uri)
    client = MlflowClient(mlflow_store.uri)
    experiment = client.create_experiment("elsewhere", artifact_location=(workplace / "artifacts").as_uri())
    kept, other = (client.create_run(experiment).info.run_id for _ in range(2))
    client.log_artifacts(kept, str(tiny_model_path()), "model")
    expected = f"sweeps/downloads/{kept}/model", f"run {kept}, from MLflow's store"
    assert _resolved(kept[:12]) == expected
    assert {path.name for path in Path(expected[0]).iterdir()} == {path.name for path in tiny_model_path().iterdir()}
    assert [path.name for path in Path(expected[0]).parent.iterdir()] == ["model"]
    shutil.rmtree(workplace / "artifacts" / kept / "artifacts" / "model" / "1_Pooling")
    assert _resolved(kept) == expected
    assert "no folder, no study and no run" in _problem(other)


def test_a_trials_model_that_is_not_in_its_folder_is_searched_in_the_store(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[str] = []

    def runs_with_model(_: TrackingConfig, run_id: str) -> list[str]:
        searched.append(run_id)
        return [run_id]

    shutil.copytree(tiny_model_path(), workplace / TRIAL_RUNS[0])
    monkeypatch.setattr("embedsweep.tracking.browse.runs_with_model", runs_with_model)
    monkeypatch.setattr("embedsweep.tracking.browse.download_model", lambda _, run_id: workplace / run_id)
    assert _resolved("aaaaaa0") == (
        str(workplace / TRIAL_RUNS[0]),
        "trial 0 of study mine, from MLflow's store",
    )
    assert searched == [TRIAL_RUNS[0]]
    assert not (workplace / "mlruns").exists()


def test_a_downloaded_model_is_checked_like_any_other(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_model_path(), workplace / "pickled", ignore=shutil.ignore_patterns("*.safetensors"))
    (workplace / "pickled" / "pytorch_model.bin").write_bytes(b"a pickle")
    monkeypatch.setattr("embedsweep.tracking.browse.runs_with_model", lambda _, run_id: [run_id])
    monkeypatch.setattr("embedsweep.tracking.browse.download_model", lambda *_: workplace / "pickled")
    assert "no safetensors weights" in _problem("aaaaaa0")


def test_a_folder_without_safetensors_is_refused(workplace: Path) -> None:
    shutil.copytree(tiny_model_path(), workplace / "old", ignore=shutil.ignore_patterns("*.safetensors"))
    assert "no safetensors weights" in _problem("old")


def test_a_study_without_a_complete_trial_has_no_best() -> None:
    open_study(pass_sweep(["optimizer.lr=1e-4,2e-4", "study.name=new"]))
    assert _problem("new") == "has no complete trial yet; resume it: -m study.name=new"


def test_a_study_whose_storage_needs_a_password_is_refused(workplace: Path) -> None:
    folder = workplace / "sweeps" / "far"
    folder.mkdir()
    (folder / "study.yaml").write_text(yaml.safe_dump({"storage": "postgresql://me:***@host/db"}), encoding="utf-8")
    assert "whose password is not kept" in _problem("far")
    assert _resolved("aaaaaa11")[1] == "trial 1 of study mine"  # and it does not hide the others' runs
