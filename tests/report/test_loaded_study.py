"""A study as DataFrames, scores, models and Optuna's own study, of trials in all states."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest

from embedsweep.commands.api import load_study
from embedsweep.errors import ConfigError, StudyError
from embedsweep.evaluation.scores import ItemScores, write_scores
from embedsweep.models.tiny import tiny_model_path
from embedsweep.report.difference import difference
from embedsweep.report.loaded_study import LoadedStudy, _item_score
from embedsweep.report.results import StudyResults, study_results
from embedsweep.study.record import StudyRecord
from embedsweep.study.study import Study
from embedsweep.study.test_scores import TestScores
from tests.report.studies import keep_scores, result, scored_items, study_of, study_with_finals

SPEARMAN = "dev/spearman_cosine"
CURVE = {SPEARMAN: [(4, 0.4), (8, 0.7)], "train/loss": [(1, 2.0)]}


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _running() -> Study:
    """Four trials, which are complete, complete and the best, failed, and running."""
    study = study_of(
        replace(result(0.5, steps=8), dev={SPEARMAN: 0.5, "dev/spearman_dot": 0.25}),
        replace(result(0.7, interval=(0.6, 0.8), steps=8), curve=CURVE),
        "TrialError: no",
        name="running",
        words=("study.n_trials=5",),
        rates=6,
    )
    running = study.ask()
    assert running is not None
    study.report(running, 2, {SPEARMAN: 0.1}, 8)
    study.set_test_scores(TestScores(1, {"test/spearman_cosine": 0.65}, {}, {}, 5, None))
    return study


def test_trials_have_a_row_each_with_values_scores_intervals_and_costs() -> None:
    _running()
    frame = load_study("running").trials()
    assert frame.index.tolist() == [0, 1, 2, 3]
    assert frame.index.name == "trial"
    assert frame["state"].tolist() == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING"]
    assert frame["optimizer.lr"].tolist() == [1e-4, 2e-4, 3e-4, 4e-4]
    np.testing.assert_equal(frame[SPEARMAN].tolist(), [0.5, 0.7, math.nan, math.nan])
    assert frame.loc[0, "dev/spearman_dot"] == 0.25
    assert list(frame.loc[1, ["low", "high", "test/spearman_cosine", "steps"]]) == [0.6, 0.8, 0.65, 8]
    np.testing.assert_equal(frame["emissions/co2eq_kg"].tolist(), [0.002, 0.002, math.nan, math.nan])
    assert frame["time/gpu_h"].isna().all()
    assert frame.loc[2, "reason"] == "TrialError: no"
    assert frame.loc[3, "folder"] == str(Path("sweeps/running/trials/0003").resolve())
    assert frame["repeats"].isna().all()
    assert list(frame)[:5] == ["state", "optimizer.lr", SPEARMAN, "low", "high"]
    assert list(frame)[-9:-4] == [
        "steps",
        *(f"emissions/{name}" for name in ("co2eq_kg", "energy_kwh", "duration_s")),
        "time/gpu_h",
    ]


def test_trials_with_their_configuration_have_a_column_for_each_key_as_numbers_and_words() -> None:
    _running()
    frame = load_study("running").trials(config=True)
    keys = ["loss.name", "trainer.epochs", "model.dense", "optimizer.lr"]
    assert list(frame.loc[3, keys]) == ["cosent", 2, None, 4e-4]
    assert set(load_study("running").trials()) < set(frame)


def test_the_configurations_of_all_trials_are_one_reading_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    study_of(0.5, 0.7, 0.6)
    study, readings = load_study("ranked"), 0

    def counted(record: StudyRecord) -> StudyResults:
        nonlocal readings
        readings += 1
        return study_results(record)

    monkeypatch.setattr("embedsweep.report.loaded_study.study_results", counted)
    assert study.trials(config=True)["optimizer.lr"].tolist() == [1e-4, 2e-4, 3e-4]
    assert readings == 1
    assert study.config(2).optimizer.lr == 3e-4
    assert readings == 1
    assert study.config().optimizer.lr == 2e-4
    with pytest.raises(StudyError, match="study ranked has no trial 3: it has 3, from 0"):
        study.config(3)


def test_a_trial_without_values_has_no_configuration() -> None:
    study = study_of(0.5, words=("study.n_trials=3",), rates=3)
    study._study.ask()  # as another process sees it before its values are drawn
    loaded = load_study("ranked")
    frame = loaded.trials(config=True)
    assert frame.loc[0, "loss.name"] == "cosent"
    assert frame.loc[1, ["loss.name", "optimizer.lr"]].isna().all()
    with pytest.raises(StudyError, match="trial 1 of study ranked has no values"):
        loaded.config(1)
    assert "the values of one of them are not known: it begins, or they were lost" in difference(study, 0, 1)


def test_curves_are_points_of_finished_trials_and_the_objective_of_running_ones() -> None:
    _running()
    frame = load_study("running").curves()
    assert list(frame) == ["trial", "step", "metric", "value"]
    assert list(frame.itertuples(index=False, name=None)) == [
        (1, 4, SPEARMAN, 0.4),
        (1, 8, SPEARMAN, 0.7),
        (1, 1, "train/loss", 2.0),
        (3, 2, SPEARMAN, 0.1),
    ]


def test_a_study_is_read_anew_at_every_access() -> None:
    written = study_of(0.5, words=("study.n_trials=2",), rates=3)
    study = load_study("ranked")
    assert (len(study.trials()), study.best.number, study.is_complete) == (1, 0, False)
    trial = written.ask()
    assert trial is not None
    assert repr(study) == f"<study ranked: 1 of 2 trials finished, in {Path('sweeps/ranked').resolve()}>"
    written.complete(trial, result(0.7))
    assert (len(study.trials()), study.best.number, study.is_complete) == (2, 1, True)


def test_scores_of_items_have_an_id_gold_and_what_the_objective_ranks_by() -> None:
    keep_scores(_running(), [0.4, 0.1])
    study = load_study("running")
    frame, expected = study.scores(), scored_items(0.1).columns
    assert list(frame)[:3] == ["id", "gold", "score"]
    assert frame["id"].tolist() == list(range(200))
    np.testing.assert_array_equal(frame["gold"], expected["gold"])
    np.testing.assert_array_equal(frame["score"], expected["predicted_cosine"])
    assert list(frame.loc[7, ["sentence1", "sentence2"]]) == ["7", "b"]
    np.testing.assert_array_equal(study.scores(0)["score"], scored_items(0.4).columns["predicted_cosine"])
    with pytest.raises(StudyError, match="trial 2 of study running has no scores of items in"):
        study.scores(2)


def test_scores_of_the_items_of_test_are_those_of_the_winner() -> None:
    study = _running()
    write_scores(study.trial_folder(1), scored_items(0.2, n_items=50), "test")
    frame = load_study("running").scores(split="test")
    np.testing.assert_array_equal(frame["score"], scored_items(0.2, n_items=50).columns["predicted_cosine"])
    with pytest.raises(StudyError, match=r"trial 0 of study running has no scores of items in .*test\.parquet"):
        load_study("running").scores(0, "test")


def test_the_optuna_study_is_a_copy_with_metric_names_that_can_be_changed() -> None:
    written = _running()
    study = load_study("running").optuna
    assert study.metric_names == [SPEARMAN]
    assert (study.best_value, study.best_trial.number) == (0.7, 1)
    study.set_user_attr("mine", 1)
    study.enqueue_trial({"optimizer.lr": 6e-4})
    assert "mine" not in written._study.user_attrs
    assert len(written.trials) == 4


def test_a_model_is_loaded_from_its_folder_and_of_one_that_was_not_kept_the_command_is_named(
    capfd: pytest.CaptureFixture[str],
) -> None:
    study = study_of(0.5, 0.7, name="kept")
    folder = study.trial_folder(1) / "model"
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(tiny_model_path())
    loaded = load_study("kept")
    assert loaded.model(device="cpu").encode(["a", "b"]).shape == (2, 128)
    assert loaded.model(np.int64(1), device="cpu").get_embedding_dimension() == 128  # type: ignore[arg-type]
    assert capfd.readouterr() == ("", ""), "no progress bar"
    with pytest.raises(StudyError) as caught:
        loaded.model(0)
    assert "the model of trial 0 of study kept is not in" in str(caught.value)
    assert str(caught.value).endswith("This trains it: embedsweep train optimizer.lr=0.0001")


def test_with_finals_the_model_is_the_training_that_they_kept() -> None:
    study = study_with_finals()
    assert study.finals is not None
    assert study.finals_test is not None
    number = study.finals_test.kept
    kept = study.finals.trial_folder(number)
    write_scores(kept, scored_items(0.3), "test")
    (kept / "model").symlink_to(tiny_model_path())
    loaded = load_study("ranked")
    assert loaded.model(device="cpu").get_embedding_dimension() == 128
    np.testing.assert_array_equal(loaded.scores(split="test")["score"], scored_items(0.3).columns["predicted_cosine"])
    assert loaded.config().trainer.seed == loaded.finals.loc[number, "seed"]
    assert loaded.config(1).trainer.seed == 42
    with pytest.raises(StudyError, match="the model of trial 1 of study ranked is not in"):
        loaded.model(1)
    (kept / "model").unlink()
    with pytest.raises(StudyError, match=rf"the model of final {number} of study ranked .* trainer\.seed="):
        loaded.model()


def test_the_configuration_of_a_trial_is_what_it_was_trained_with() -> None:
    _running()
    study = load_study("running")
    assert (study.config().optimizer.lr, study.config(3).optimizer.lr) == (2e-4, 4e-4)
    assert study.config(study.results.rows[2]).optimizer.lr == 3e-4


def test_a_study_of_another_folder_is_found_and_stays_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    keep_scores(_running(), [None, 0.1])
    monkeypatch.chdir(tmp_path)
    study = load_study("running", folder="there")
    monkeypatch.chdir("/")
    assert study.folder == tmp_path / "there/sweeps/running"
    assert len(study.scores()) == 200


def test_what_does_not_exist_is_named() -> None:
    study_of(words=("study.n_trials=1",), rates=2)
    study: LoadedStudy = load_study("ranked")
    with pytest.raises(StudyError, match="study ranked has no best trial: no trial is complete"):
        _ = study.best
    with pytest.raises(StudyError, match="study ranked has no trial 3: it has 0, from 0"):
        study.config(3)
    with pytest.raises(ConfigError, match=r"rankd: no such study \(did you mean ranked\?\); there are: ranked"):
        load_study("rankd")


def test_an_objective_over_all_similarities_ranks_items_by_the_best_one() -> None:
    dev = {f"dev/spearman_{name}": value for name, value in (("cosine", 0.5), ("dot", 0.7), ("euclidean", 0.6))}
    study = study_of(
        replace(result(0.7), dev={**result(0.7).dev, **dev, "dev/spearman_manhattan": 0.1, "dev/spearman_max": 0.7}),
        words=("study.objective=dev/spearman_max",),
    )
    columns = scored_items(0.1).columns
    gold = np.asarray(columns["gold"])
    others = {"predicted_dot": 3.0 * gold, "predicted_euclidean": 4.0 * gold, "predicted_manhattan": 5.0 * gold}
    write_scores(study.trial_folder(0), ItemScores({**columns, **others}))
    np.testing.assert_array_equal(load_study("ranked").scores()["score"], 3.0 * gold)


def test_metric_names_are_set_when_a_study_is_opened_for_writing_also_one_of_an_earlier_version() -> None:
    study = study_of(0.5, words=("study.n_trials=2",), rates=3)
    assert study._study.metric_names == [SPEARMAN]
    study._study._storage.set_study_system_attr(study._study._study_id, "study:metric_names", None)
    assert optuna.load_study(study_name="ranked", storage=study._storage).metric_names is None
    assert study_of(words=("study.n_trials=2",), rates=3)._study.metric_names == [SPEARMAN]


@pytest.mark.parametrize(
    ("columns", "metric", "expected"),
    [
        ({"predicted_cosine": 0.5, "predicted_dot": 2.0}, "dev/spearman_cosine", 0.5),
        ({"predicted_cosine": 0.5, "predicted_dot": 2.0}, "dev/f1_max", 2.0),
        ({"positive_dot": 3.0, "negative_dot": 1.0}, "dev/accuracy_dot", 2.0),
        ({"ndcg_at_10_cosine": 0.75, "mrr_at_10_cosine": 1.0}, "dev/ndcg_at_10_cosine", 0.75),
        ({"map": 0.25, "ndcg_at_10": 0.5}, "dev/map", 0.25),
    ],
)
def test_the_score_of_an_item_is_what_the_metric_is_made_of(
    columns: dict[str, float], metric: str, expected: float
) -> None:
    frame = pd.DataFrame({name: [value] for name, value in columns.items()})
    dev = {"dev/f1_cosine": 0.6, "dev/f1_dot": 0.7}
    assert list(_item_score(frame, metric, dev)) == [expected]
