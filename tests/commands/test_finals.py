"""A command goes on from a study's trials to its finals and its answer. Trainings end at once, with given scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Run

from embedsweep.cli import main
from embedsweep.commands.api import load_study
from embedsweep.config.answer import Answer, TestLook
from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.study import TrackingConfig
from embedsweep.config.trial import TrialConfig
from embedsweep.study.answering import make_answer
from embedsweep.study.reading import read_study
from embedsweep.study.record import StudyRecord
from embedsweep.training.folder import write_config, write_result
from embedsweep.training.trial import TrialSetup

COST = Emissions(0.001, 0.002, 1.0, "FRA", ())
STUDY = ("optimizer.lr=1e-4,2e-4,3e-4", "study.name=night", "trainer.device=cpu")
FINALS = ("study.finals.top=2", "study.finals.seeds=2")


@dataclass
class Trainings:
    """Stands in for training and for scoring test.

    Attributes:
        client: of the store.
        trained: the configuration of each training, in order.
        tested: the folder of each model that was scored on test.
        cards: how the model was chosen, of each card that was completed.
        scores: the score of each learning rate; a seed adds a little to it.
        before_training: is called with the number of trainings so far, before each.
    """

    client: MlflowClient
    trained: list[TrialConfig] = field(default_factory=list)
    tested: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    # The second rate is the best of one seed.
    scores: dict[float, float] = field(default_factory=lambda: {1e-4: 0.2, 2e-4: 0.7, 3e-4: 0.6})
    before_training: Callable[[int], None] = lambda _: None

    def run_trial(self, setup: TrialSetup) -> TrialResult:
        self.before_training(len(self.trained))
        config = setup.config
        self.trained.append(config)
        score = self.scores[config.optimizer.lr] + config.trainer.seed / 1e6
        result = TrialResult(score, {config.objective: score}, {}, {}, {}, 1, 1, COST, False, None, 1.0)
        setup.run.log_metrics(1, {"best/spearman_cosine": score})
        for name in ("scores", "model"):
            (setup.folder / name).mkdir(parents=True)
        write_config(setup.folder / "config.yaml", config)
        write_result(setup.folder, result)
        return result

    def score_model(self, folder: Path, _: TrialConfig, result: TrialResult, *__: Any) -> TrialResult:
        self.tested.append(str(folder.relative_to("sweeps/night")))
        return replace(result, test={"test/spearman_cosine": result.objective + 0.1})

    def runs(self, kind: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name("night")
        wanted = f"tags.`embedsweep.kind` = '{kind}'"
        return list(self.client.search_runs([experiment.experiment_id], wanted, order_by=["attributes.start_time"]))


@pytest.fixture
def trainings(mlflow_store: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainings:
    fake = Trainings(MlflowClient(mlflow_store.uri))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("embedsweep.workers.worker.run_trial", fake.run_trial)
    monkeypatch.setattr("embedsweep.workers.worker.data_warnings", lambda _: [])
    for module in ("conclusion", "winner"):
        monkeypatch.setattr(f"embedsweep.workers.{module}.score_model", fake.score_model)
        monkeypatch.setattr(f"embedsweep.workers.{module}.complete_card", lambda *args: fake.cards.append(args[-1]))
    return fake


def train(*words: str) -> int:
    return main(["train", "-m", *words])


def finals_of(study: StudyRecord) -> StudyRecord:
    assert study.finals is not None
    return study.finals


def models(study: StudyRecord) -> list[int]:
    return [trial.number for trial in study.trials if (study.trial_folder(trial.number) / "model").is_dir()]


def test_the_finals_follow_the_study_and_only_the_best_finalist_is_scored_on_test(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*STUDY, *FINALS) == 0
    study = read_study("night")
    finals = finals_of(study)
    assert len(study.trials) == study.n_trials == 3
    assert [config.optimizer.lr for config in trainings.trained[3:]] == [2e-4, 3e-4] * 2
    best = {config.trainer.seed: number for number, config in enumerate(trainings.trained[3::2])}
    assert sorted(trainings.tested) == ["finals/trials/0000", "finals/trials/0002"]
    assert study.looks == (TestLook("finals of trial 1", 3, 4),)
    assert study.test_scores is None
    kept = 2 * best[max(best)]  # the best on dev has the largest seed
    assert (models(finals), models(study)) == ([kept], [1])
    test = study.finals_test
    assert test is not None
    assert (test.finalist, test.kept, sorted(test.scores)) == (1, kept, [0, 2])
    mean = sum(0.8 + seed / 1e6 for seed in best) / 2
    assert test.mean() == {"test/spearman_cosine": pytest.approx(mean)}
    printed = capsys.readouterr().out
    assert f"test/spearman_cosine of trial 1: mean {mean:.4f} over 2 seeds" in printed
    assert "run it again: " in printed
    assert f"model: sweeps/night/finals/trials/{kept:04d}/model" in printed


def test_runs_of_finals_are_below_the_study_with_a_kind_and_a_finalist_of_their_own(trainings: Trainings) -> None:
    train(*STUDY, *FINALS)
    (parent,) = trainings.runs("study")
    runs = trainings.runs("final")
    assert len(trainings.runs("trial")) == 3
    assert [run.data.tags["embedsweep.finalist"] for run in runs] == ["1", "2", "1", "2"]
    assert [run.data.tags["embedsweep.trial"] for run in runs] == ["0", "1", "2", "3"]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    seeds = [config.trainer.seed for config in trainings.trained[3:]]
    rates = ["2e-4", "3e-4"] * 2
    names = [f"final {1 + n % 2} s{seed} {rate}" for n, (seed, rate) in enumerate(zip(seeds, rates, strict=True))]
    assert [run.info.run_name for run in runs] == names
    assert {run.info.status for run in (parent, *runs)} == {"FINISHED"}
    assert ["test/spearman_cosine" in run.data.metrics for run in runs] == [True, False, True, False]
    study = read_study("night")
    assert study.finals_test is not None
    assert parent.data.metrics["study/test/spearman_cosine"] == study.finals_test.mean()["test/spearman_cosine"]
    assert parent.data.metrics["study/emissions/co2eq_kg"] >= 7 * COST.co2eq_kg


def test_the_answer_is_computed_while_others_can_take_the_lock_of_the_study(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[str] = []

    def compute(study: StudyRecord, say: Callable[[str], None]) -> Answer:
        FileLock(study.folder / "study.lock").acquire(timeout=0).lock.release()
        computed.append(study.name)
        return make_answer(study, say)

    monkeypatch.setattr("embedsweep.workers.conclusion.make_answer", compute)
    assert train(*STUDY, *FINALS) == 0
    assert computed == ["night"]
    assert len(trainings.tested) == 2


def test_an_answer_of_fewer_trials_than_there_are_by_now_is_not_kept(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compute(study: StudyRecord, say: Callable[[str], None]) -> Answer:
        answer = make_answer(study, say)
        study._study.add_trial(study.trials[0])  # as another command may
        return answer

    monkeypatch.setattr("embedsweep.workers.conclusion.make_answer", compute)
    train(*STUDY, *FINALS)
    assert (read_study("night").answer, trainings.tested) == (None, [])
    printed = capsys.readouterr().out
    assert "another command works on it, and gives the answer: embedsweep show night" in printed
    assert main(["studies"]) == 0
    assert "finals not compared" in capsys.readouterr().out
    assert main(["show", "night"]) == 0
    assert "; not compared yet: embedsweep train -m study.name=night does it" in capsys.readouterr().out


def test_a_complete_study_with_its_answer_is_left_as_it_is(trainings: Trainings) -> None:
    train(*STUDY, *FINALS)
    before = dict(read_study("night")._study.user_attrs)
    assert train(*STUDY) == 0
    assert (len(trainings.trained), len(trainings.tested)) == (7, 2)
    assert read_study("night")._study.user_attrs == before


def test_finals_that_are_added_later_are_the_second_look_at_test(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*STUDY)
    assert trainings.tested == ["trials/0001"]
    assert train("study.name=night", *FINALS) == 0
    study = read_study("night")
    assert [look.what for look in study.looks] == ["trial 1", "finals of trial 1"]
    printed = capsys.readouterr().out
    assert "scoring the 2 trainings of trial 1 on test: look 2 at test" in printed
    assert "test was looked at 2 times: trial 1, then finals of trial 1" in printed
    (parent,) = trainings.runs("study")
    assert study.finals_test is not None
    assert parent.data.metrics["study/test/spearman_cosine"] == study.finals_test.mean()["test/spearman_cosine"]


def test_more_seeds_train_and_score_only_what_is_missing(trainings: Trainings) -> None:
    train(*STUDY, *FINALS)
    seeds = [config.trainer.seed for config in trainings.trained[3:]]
    assert train("study.name=night", "study.finals.seeds=3") == 0
    more = [config.trainer.seed for config in trainings.trained[7:]]
    assert len(more) == 2
    assert not set(more) & set(seeds)
    study = read_study("night")
    assert study.finals_test is not None
    assert sorted(study.finals_test.scores) == [0, 2, 4]
    assert len(trainings.tested) == 3
    assert train("study.name=night", "study.finals.seeds=2") == 2


def test_a_seed_between_two_looks_is_scored_on_test_and_kept_only_once_it_counts(trainings: Trainings) -> None:
    train(*STUDY, *FINALS, "study.finals.seeds=5")
    assert train("study.name=night", "study.finals.seeds=6") == 0
    study = read_study("night")
    test = study.finals_test
    assert test is not None
    assert (len(test.scores), len(study.looks)) == (5, 1)
    assert models(finals_of(study)) == [test.kept, 10, 11]
    assert train("study.name=night", "study.finals.seeds=10") == 0
    study = read_study("night")
    assert study.finals_test is not None
    assert len(study.finals_test.scores) == 10
    assert len(study.looks) == 2


def test_a_finalist_that_is_the_best_since_more_seeds_keeps_a_model_that_is_there(trainings: Trainings) -> None:
    train(*STUDY, *FINALS)
    trainings.scores |= {2e-4: 0.1, 3e-4: 0.5}  # of the third seed
    assert train("study.name=night", "study.finals.seeds=3") == 0
    study = read_study("night")
    test = study.finals_test
    assert test is not None
    assert (test.finalist, test.kept, sorted(test.scores)) == (2, 5, [5])
    assert models(finals_of(study)) == [5]
    assert [look.what for look in study.looks] == ["finals of trial 1", "finals of trial 2"]
    card = (
        "It is a training of trial 2 of study night, which has the best mean, not certain to win again, in its finals"
    )
    assert trainings.cards[-1].startswith(card)


def test_finals_that_are_interrupted_are_resumed_with_the_same_trial(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(count: int) -> None:
        if count == 4:
            trainings.before_training = lambda _: None
            raise KeyboardInterrupt

    trainings.before_training = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(*STUDY, *FINALS)
    printed = capsys.readouterr().out
    assert "interrupted: 3 of 3 trials finished and 1 of 4 finals finished and kept; final 1 will be resumed" in printed
    assert main(["studies"]) == 0
    assert "finals not running  3 of 3, finals 1 of 4" in capsys.readouterr().out
    assert main(["show", "night"]) == 0
    assert "3 of 3 trials finished; complete; 1 of 4 finals finished; not running" in capsys.readouterr().out
    assert train(*STUDY, *FINALS) == 0
    assert "final 1 RUNNING" in (printed := capsys.readouterr().out)
    assert "resumed" in printed
    assert len(trainings.trained) == 7
    assert finals_of(read_study("night")).is_complete
    assert len(trainings.runs("final")) == 4


def test_a_study_without_a_complete_trial_says_that_it_has_no_finals(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: int) -> None:
        raise ValueError("no luck")

    trainings.before_training = fail
    assert train(*STUDY, *FINALS, "study.max_retries=0") == 3
    assert "no finals, and no test score: no trial is complete" in capsys.readouterr().out
    assert read_study("night").finals is None


def test_finals_that_are_no_longer_asked_for_are_compared_once_they_are_asked_for_again_and_over(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(count: int) -> None:
        if count == 6:
            trainings.before_training = lambda _: None
            raise KeyboardInterrupt

    trainings.before_training = interrupt
    with pytest.raises(KeyboardInterrupt):
        train(*STUDY, *FINALS)
    assert train("study.name=night", "study.finals.top=null") == 0
    answer = read_study("night").answer
    assert answer is not None
    assert (answer.verdict, answer.unknown["verdict"]) == (None, "not all of their trainings are finished")
    assert "finals: not all of their trainings are finished" in capsys.readouterr().out
    assert train("study.name=night", "study.finals.top=2") == 0
    study = read_study("night")
    assert study.answer is not None
    assert study.answer.verdict is not None
    assert [look.what for look in study.looks] == ["trial 1", "finals of trial 1"]


def test_scores_on_test_are_in_no_run_before_their_look_is_counted(
    trainings: Trainings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> TrialResult:
        if trainings.tested:
            raise KeyboardInterrupt
        return trainings.score_model(*args)

    with monkeypatch.context() as patch:
        patch.setattr("embedsweep.workers.conclusion.score_model", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(*STUDY, *FINALS)
    assert read_study("night").looks == ()
    assert not any("test/spearman_cosine" in run.data.metrics for run in trainings.runs("final"))
    assert train(*STUDY, *FINALS) == 0
    assert read_study("night").looks == (TestLook("finals of trial 1", 3, 4),)


def test_the_card_of_a_model_that_stays_says_what_more_seeds_say(trainings: Trainings) -> None:
    train(*STUDY, *FINALS)
    study = read_study("night")
    (kept,) = models(finals_of(study))
    (finals_of(study).trial_folder(kept) / "model" / "README.md").write_text(trainings.cards[-1])
    trainings.scores[2e-4] = 0.65  # of the third seed, so that the model of another one stays
    assert train("study.name=night", "study.finals.seeds=3") == 0
    assert models(finals_of(read_study("night"))) == [kept]
    assert "with 3 other seeds each" in trainings.cards[-1]
    cards = len(trainings.cards)
    (finals_of(study).trial_folder(kept) / "model" / "README.md").write_text(trainings.cards[-1])
    assert train("study.name=night") == 0
    assert len(trainings.cards) == cards


def test_a_study_whose_finals_failed_says_so_and_exits_as_one_with_failed_trials(
    trainings: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(count: int) -> None:
        if count >= 3:
            raise ValueError("no luck")

    trainings.before_training = fail
    assert train(*STUDY, *FINALS, "study.max_retries=0") == 3
    study = read_study("night")
    assert (study.is_answered, study.finals_test, study.looks) == (True, None, ())
    printed = capsys.readouterr().out
    assert "test was not scored: no training of the finals that counts has a score" in printed
    trainings.before_training = lambda _: None
    assert train("study.name=night", "study.retry_failed=true") == 0
    assert read_study("night").finals_test is not None


def test_show_and_python_give_the_finals_to_programs(trainings: Trainings, capsys: pytest.CaptureFixture[str]) -> None:
    train(*STUDY, *FINALS)
    capsys.readouterr()
    assert main(["show", "night", "--json", "-"]) == 0
    tree = json.loads(capsys.readouterr().out)
    seeds = [config.trainer.seed for config in trainings.trained[3:]]
    assert [(each["finalist"], each["seed"]) for each in tree["finals"]] == list(zip([1, 2] * 2, seeds, strict=True))
    assert tree["answer"]["verdict"]["best"] == tree["chosen"] == 1
    assert [look["what"] for look in tree["looks"]] == ["finals of trial 1"]
    study = load_study("night")
    assert study.answer == read_study("night").answer
    frame = study.finals
    assert list(frame["finalist"]) == [1, 2] * 2
    assert list(frame["seed"]) == seeds
    assert list(frame["test/spearman_cosine"].notna()) == [True, False] * 2
    assert load_study("night/finals").is_complete


def test_events_call_trials_of_finals_finals(trainings: Trainings, capsys: pytest.CaptureFixture[str]) -> None:
    train(*STUDY, *FINALS, "--json-lines")
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["study"] for each in events if each["event"] == "start"] == ["night", "night/finals"]
    assert [each["final"] for each in events if each["event"] == "end" and "final" in each] == [0, 1, 2, 3]
    (result,) = (each for each in events if each["event"] == "result")
    assert (result["chosen"], result["finals"]["n_trials"]) == (1, 4)


def test_models_of_finals_are_all_kept_or_none_as_asked(trainings: Trainings) -> None:
    train(*STUDY, *FINALS, "study.keep_models=all")
    assert models(finals_of(read_study("night"))) == [0, 1, 2, 3]
    assert len(trainings.tested) == 2


def test_deleted_runs_of_finals_are_restored(trainings: Trainings, capsys: pytest.CaptureFixture[str]) -> None:
    train(*STUDY, *FINALS)
    run = trainings.runs("final")[1]
    trainings.client.delete_run(run.info.run_id)
    capsys.readouterr()
    assert main(["repair", "night"]) == 1
    assert "the run of final 1 was deleted in MLflow -> restored" in capsys.readouterr().out
    assert main(["repair", "night", "--write"]) == 1  # some files of these trainings never were
    assert [each.info.run_id for each in trainings.runs("final")].count(run.info.run_id) == 1


def test_lost_runs_of_finals_are_recorded_again_with_their_test_scores(
    trainings: Trainings, mlflow_template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(*STUDY, *FINALS)
    before = [(run.info.run_name, run.data.metrics.get("test/spearman_cosine")) for run in trainings.runs("final")]
    shutil.copy(mlflow_template, "mlruns/mlflow.db")
    trainings.client = MlflowClient(trainings.client.tracking_uri)
    assert main(["repair", "night", "--write"]) == 1
    assert "the run of final 3 is not in MLflow's store -> recorded again" in capsys.readouterr().out
    (parent,) = trainings.runs("study")
    runs = trainings.runs("final")
    assert [(run.info.run_name, run.data.metrics.get("test/spearman_cosine")) for run in runs] == before
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert (len(trainings.runs("trial")), len(runs)) == (3, 4)
