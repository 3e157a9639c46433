"""Single runs through the command line: how they end and how they are resumed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from embedsweep.cli import main
from embedsweep.commands import single
from embedsweep.config.trial import SPLITS
from embedsweep.validation.resume import alone_in
from tests.demo_pairs import demo_pairs

pytestmark = pytest.mark.slow  # each trains

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DRIVER = Path(__file__).parents[1] / "faults" / "driver.py"

# Five steps an epoch. The rate is so high that the best checkpoint is not the last, and constant, so that a longer
# training begins with the very steps of a shorter one.
WORDS = (
    "trainer.device=cpu",
    "data.limit=160",
    "trainer.epochs=2",
    "trainer.eval_every=2",
    "trainer.log_every=1",
    "evaluation.before=false",
    "optimizer.lr=1e-2",
    "optimizer.schedule=constant",
    "optimizer.warmup=0",
)
STEPS = 10


@dataclass
class Place:
    """A working directory with its store."""

    folder: Path
    client: MlflowClient

    @property
    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name("single")
        return [] if experiment is None else list(self.client.search_runs([experiment.experiment_id]))

    def run_folder(self, run_id: str) -> Path:
        return self.folder / "sweeps" / "single" / run_id

    def result(self, run_id: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.run_folder(run_id) / "result.json").read_text(encoding="utf-8"))
        return result

    def outcome(self, run_id: str) -> dict[str, Any]:
        """What of a result does not depend on the machine."""
        result = self.result(run_id)
        return {key: result[key] for key in ("objective", "dev", "test", "best_step", "steps")}

    def history(self, run_id: str) -> dict[str, list[tuple[int, float]]]:
        """Every point of the metrics that do not depend on the machine, in the order they were logged."""
        names = [name for name in self.client.get_run(run_id).data.metrics if name.startswith(("dev", "test", "train"))]
        return {
            name: [(point.step, point.value) for point in self.client.get_metric_history(run_id, name)]
            for name in names
        }

    def checkpoints(self, run_id: str) -> set[int]:
        return {int(path.name.split("-")[1]) for path in self.run_folder(run_id).glob("checkpoints/checkpoint-*")}

    def bytes_of(self, run_id: str) -> dict[str, bytes]:
        folder = self.run_folder(run_id)
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def train(self, *words: str) -> tuple[int, str | None]:
        """Runs ``train`` here: its exit code, and the id of the run that it made, if it made one."""
        before = {run.info.run_id for run in self.runs}
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(self.folder)
            patch.delenv("MLFLOW_TRACKING_URI", raising=False)
            patch.setattr(sys, "argv", ["embedsweep"])
            code = main(["train", *words])
        made = {run.info.run_id for run in self.runs} - before
        assert len(made) <= 1
        return code, next(iter(made), None)


def _place(folder: Path, mlflow_template: Path) -> Place:
    from mlflow import MlflowClient

    (folder / "mlruns").mkdir(parents=True)
    shutil.copy(mlflow_template, folder / "mlruns" / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}"
    return Place(folder, MlflowClient(uri, uri))


@pytest.fixture(scope="module")
def place(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return _place(tmp_path_factory.mktemp("single") / "here", mlflow_template)


@pytest.fixture(scope="module")
def complete(place: Place) -> str:
    """A run of two epochs that nothing disturbed."""
    code, run_id = place.train(*WORDS)
    assert (code, run_id is None) == (0, False)
    result = place.result(run_id or "")
    assert result["best_step"] < result["steps"] == STEPS
    return run_id or ""


@pytest.fixture
def broken_off(place: Place) -> Callable[..., str]:
    """Runs that raise at an optimizer step."""
    from transformers.trainer_callback import CallbackHandler

    original = CallbackHandler.on_step_end

    def broken(step: int, *words: str) -> str:
        def raising(handler: Any, args: Any, state: Any, control: Any) -> Any:
            if state.global_step == step:
                raise RuntimeError("provoked by a test")
            return original(handler, args, state, control)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(CallbackHandler, "on_step_end", raising)
            code, run_id = place.train(*(words or WORDS))
        assert code == 1
        assert run_id is not None
        return run_id

    return broken


def _by_step(history: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    return {name: sorted(points) for name, points in history.items()}


def test_a_complete_run_keeps_its_last_and_its_best_checkpoint(place: Place, complete: str) -> None:
    assert place.checkpoints(complete) == {STEPS, place.result(complete)["best_step"]}


def test_a_complete_run_is_printed_and_not_trained_again(
    place: Place, complete: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unwanted(*_: object, **__: object) -> None:
        raise AssertionError("it was trained")

    monkeypatch.setattr(single, "run_trial", unwanted)
    before = place.client.get_run(complete)
    assert place.train(f"resume={complete[:6]}") == (0, None)
    out = capsys.readouterr().out
    assert f"run {complete[:8]} is complete" in out
    assert f"spearman_cosine: dev {place.result(complete)['dev']['dev/spearman_cosine']:.4f}" in out
    after = place.client.get_run(complete)
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)


def test_a_run_killed_between_its_result_and_its_end_is_ended(place: Place, complete: str) -> None:
    place.client.set_tag(complete, "embedsweep.state", "RUNNING")
    place.client.update_run(complete, status="RUNNING")
    assert place.train(f"resume={complete}") == (0, None)
    run = place.client.get_run(complete)
    assert (run.info.status, run.data.tags["embedsweep.state"]) == ("FINISHED", "COMPLETE")


def test_a_failed_run_is_resumed_and_ends_as_an_undisturbed_one(
    place: Place, complete: str, broken_off: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = broken_off(7)
    assert place.client.get_run(run_id).info.status == "FAILED"
    assert f"resume from step 6: embedsweep train resume={run_id[:8]}" in capsys.readouterr().out

    assert place.train(f"resume=sweeps/single/{run_id}") == (0, None)

    assert place.outcome(run_id) == place.outcome(complete)
    assert _by_step(place.history(run_id)) == _by_step(place.history(complete))
    steps = [step for step, _ in place.history(run_id)["train/loss"]]
    assert steps == list(range(1, STEPS + 1)), "each once"
    run = place.client.get_run(run_id)
    assert (run.info.status, run.data.tags["embedsweep.state"]) == ("FINISHED", "COMPLETE")
    assert single.RESUMED_FROM not in run.data.tags
    assert "from step 6\n" in capsys.readouterr().out


def test_more_epochs_are_a_new_run_that_equals_one_trained_that_long(place: Place, complete: str) -> None:
    before = place.bytes_of(complete)
    code, longer = place.train(f"resume={complete[:8]}", "trainer.epochs=4")
    assert code == 0
    assert longer is not None
    _, expected = place.train(*WORDS, "trainer.epochs=4")
    assert expected is not None

    assert place.outcome(longer) == place.outcome(expected)
    assert place.outcome(longer)["steps"] == 2 * STEPS
    tags = place.client.get_run(longer).data.tags
    assert tags[single.RESUMED_FROM] == complete
    assert place.client.get_run(longer).data.params["trainer.epochs"] == "4.0"
    whole = place.history(expected)
    assert len(whole["train/loss"]) == 2 * STEPS
    assert place.history(longer)["train/loss"] == whole["train/loss"], "the earlier run's points among them"
    assert place.bytes_of(complete) == before, "the earlier run stays as it is"
    assert place.client.get_run(complete).data.tags["embedsweep.state"] == "COMPLETE"


def test_the_best_checkpoint_of_a_longer_run_may_be_the_earlier_runs(place: Place, complete: str) -> None:
    """With a patience of one the training ends at its first evaluation that is worse than the earlier best."""
    best = place.result(complete)["best_step"]
    _, longer = place.train(
        f"resume={complete}",
        "trainer.epochs=9",
        "trainer.early_stopping.patience=1",
        "trainer.early_stopping.min_delta=1",
    )
    assert longer is not None
    assert place.result(longer)["best_step"] == best
    assert place.result(longer)["objective"] == pytest.approx(place.result(complete)["objective"], abs=1e-6)
    assert best in place.checkpoints(longer)


def test_a_longer_run_that_was_interrupted_is_resumed_and_keeps_its_origin(
    place: Place, complete: str, broken_off: Callable[..., str]
) -> None:
    run_id = broken_off(17, f"resume={complete}", "trainer.epochs=4", "trainer.eval_every=0.25")
    assert run_id != complete
    assert place.train(f"resume={run_id}") == (0, None)
    assert place.result(run_id)["steps"] == 2 * STEPS
    # From the copied checkpoint on a quarter of the steps there are now, not of those there were.
    earlier = [step for step, _ in place.history(complete)["dev/spearman_cosine"] if step < STEPS]
    logged = sorted(step for step, _ in place.history(run_id)["dev/spearman_cosine"])
    assert logged == [*earlier, STEPS, 15, 20]
    assert place.client.get_run(run_id).data.tags[single.RESUMED_FROM] == complete


def test_a_run_in_use_is_refused(place: Place, complete: str, capfd: pytest.CaptureFixture[str]) -> None:
    with alone_in(place.run_folder(complete)):
        assert place.train(f"resume={complete}") == (2, None)
    assert f"resume: run {complete[:8]} is in use by another process" in capfd.readouterr().err


def test_a_store_without_the_run_is_refused(
    place: Place,
    broken_off: Callable[..., str],
    tmp_path: Path,
    mlflow_template: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    run_id = broken_off(3)
    shutil.copy(mlflow_template, tmp_path / "other.db")
    assert place.train(f"resume={run_id}", f"tracking.uri=sqlite:///{tmp_path}/other.db") == (2, None)
    assert f"tracking.uri: does not hold run {run_id[:8]}" in capfd.readouterr().err


def test_a_configuration_that_was_edited_is_refused(
    place: Place, broken_off: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    run_id = broken_off(3)
    path = place.run_folder(run_id) / "config.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("lr: 0.01", "lr: 0.02"), encoding="utf-8")
    assert place.train(f"resume={run_id}") == (2, None)
    assert f"config.yaml is not the configuration that run {run_id[:8]} was started with" in capfd.readouterr().err


def test_data_that_has_changed_is_refused(
    place: Place,
    broken_off: Callable[..., str],
    tmp_path: Path,
    forget_data: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    header = "sentence1,sentence2,score\n"
    for split in SPLITS:
        lines = [f'"{first}","{second}",{score}' for first, second, score in demo_pairs(split)[:160]]
        (tmp_path / f"{split}.csv").write_text(header + "\n".join(lines) + "\n")
    further = tmp_path / "further.csv"
    shutil.copy(tmp_path / "train.csv", further)
    option = place.folder / "conf" / "data" / "both.yaml"
    option.parent.mkdir(parents=True)
    option.write_text("defaults: [csv, /data@also.more: csv, /loss@also.more.loss: cosine, _self_]\nname: both\n")
    words = ("data=both", f"data.path={tmp_path}", f"data.also.more.path={further}", "trainer.max_steps=3")
    run_id = broken_off(2, *WORDS, *words)
    for file in (tmp_path / "train.csv", further):
        content = file.read_text()
        file.write_text(content.replace(header, header + '"a","b",3\n'))
        forget_data()
        assert place.train(f"resume={run_id}") == (2, None)
        assert f"data: has changed since run {run_id[:8]} was trained on it" in capfd.readouterr().err
        file.write_text(content)


def test_documents_that_negatives_are_mined_from_and_that_have_changed_are_refused(
    place: Place,
    broken_off: Callable[..., str],
    tmp_path: Path,
    forget_data: Callable[[], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    pairs = "".join(f"question {number},answer {number}\n" for number in range(64))
    (tmp_path / "train.csv").write_text(f"anchor,positive\n{pairs}")
    (tmp_path / "dev.csv").write_text("anchor,positive\nother 1,text 1\nother 2,text 2\n")
    words = ("data=csv", f"data.path={tmp_path}", "data.shape=positive_pairs", "data.columns=[anchor,positive]")
    scored = ("evaluation.dev=demo-dev", "evaluation.test=demo-test", "trainer.max_steps=3")
    run_id = broken_off(2, *WORDS, "loss=mnrl", *words, *scored, "data.negatives.count=1")
    with (tmp_path / "dev.csv").open("a") as file:
        file.write("other 3,text 3\n")
    forget_data()
    assert place.train(f"resume={run_id}") == (2, None)
    assert f"data: has changed since run {run_id[:8]} was trained on it" in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("action", "code"), [("kill", -9), ("int", 130), ("term", 143)])
def test_a_run_that_was_interrupted_is_resumed_and_ends_as_an_undisturbed_one(
    place: Place, complete: str, mlflow_template: Path, tmp_path: Path, action: str, code: int
) -> None:
    here = _place(tmp_path / "here", mlflow_template)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    stopped = subprocess.run(
        [sys.executable, str(DRIVER), action, "step:7", *WORDS],
        cwd=here.folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert stopped.returncode == code, stopped.stdout + stopped.stderr
    (run,) = here.runs
    run_id = run.info.run_id
    if code > 0:
        assert f"resume={run_id[:8]} resumes it" in stopped.stdout
        assert run.info.status == "KILLED"

    assert here.train(f"resume={run_id[:8]}") == (0, None)

    assert here.outcome(run_id) == place.outcome(complete)
    assert _by_step(here.history(run_id)) == _by_step(place.history(complete))
    assert here.client.get_run(run_id).info.status == "FINISHED"
