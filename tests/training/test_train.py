from __future__ import annotations

import copy
import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss
from torch import nn
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState

from embedsweep.config.training import EarlyStoppingConfig
from embedsweep.config.trial import Split, TrialConfig
from embedsweep.errors import TrialError
from embedsweep.models.build import build_model
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.built_models import BuiltModel
from embedsweep.training.callback import out_of_patience
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.training.graphed import ModelGraphs
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.demo_pairs import demo_pairs
from tests.training.cases import RecordingListener, crashing_at, log_of, train_config

LIMIT = 192
CPU = ("trainer.device=cpu", f"data.limit={LIMIT}")


def config_of(*words: str) -> TrialConfig:
    return pass_single([*CPU, *words]).config


@pytest.fixture(autouse=True, scope="module")
def _tiny_model_path_computed_once() -> Iterator[None]:
    """Compute the path of the tiny model once: it depends on the demo data."""
    path = tiny_model_path()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embedsweep.models.build.tiny_model_path", lambda: path)
        yield


# --- parity with a plain script


def rows_of(split: Split) -> list[tuple[str, str, float]]:
    rows = demo_pairs(split)
    return [(first, second, score / 5) for first, second, score in (rows[:LIMIT] if split == "train" else rows)]


def plain_cosent(folder: Path) -> tuple[SentenceTransformer, Dataset, nn.Module, SentenceTransformerTrainingArguments]:
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    first, second, scores = zip(*rows_of("train"), strict=True)
    examples = Dataset.from_dict({"sentence1": list(first), "sentence2": list(second), "score": list(scores)})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=2,
        per_device_train_batch_size=32,
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        seed=42,
        use_cpu=True,
        eval_strategy="steps",
        eval_steps=0.2,
        save_strategy="steps",
        save_steps=0.2,
        report_to="none",
        disable_tqdm=True,
    )
    return model, examples, CoSENTLoss(model, scale=20.0), arguments


def plain_mnrl(folder: Path) -> tuple[SentenceTransformer, Dataset, nn.Module, SentenceTransformerTrainingArguments]:
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    positives = [(first, second) for first, second, score in rows_of("train") if score >= 0.6]
    anchors, others = zip(*positives, strict=True)
    examples = Dataset.from_dict({"anchor": list(anchors), "positive": list(others)})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        max_steps=12,
        per_device_train_batch_size=16,
        batch_sampler="no_duplicates",
        dataloader_drop_last=True,
        learning_rate=2e-3,
        weight_decay=0.1,
        warmup_steps=3,
        lr_scheduler_type="cosine",
        max_grad_norm=0.5,
        seed=7,
        use_cpu=True,
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=5,
        report_to="none",
        disable_tqdm=True,
    )
    return model, examples, MultipleNegativesRankingLoss(model, scale=30.0), arguments


PARITY: list[tuple[Any, list[str]]] = [
    (plain_cosent, ["loss=cosent", "optimizer.lr=3e-3"]),
    (
        plain_mnrl,
        [
            "loss=mnrl",
            "loss.scale=30.0",
            "data.convert.positive_threshold=0.6",
            "dataloader=no_duplicates",
            "dataloader.batch_size=16",
            "dataloader.drop_last=true",
            "optimizer.lr=2e-3",
            "optimizer.weight_decay=0.1",
            "optimizer.warmup=3",
            "optimizer.schedule=cosine",
            "optimizer.max_grad_norm=0.5",
            "trainer.max_steps=12",
            "trainer.eval_every=5",
            "trainer.seed=7",
        ],
    ),
]


@pytest.mark.parametrize(("plain", "words"), PARITY, ids=["cosent", "mnrl"])
def test_training_equals_a_plain_script_to_six_digits(plain: Any, words: list[str], tmp_path: Path) -> None:
    model, examples, loss, arguments = plain(tmp_path / "plain")
    first, second, scores = zip(*rows_of("dev"), strict=True)
    evaluator = EmbeddingSimilarityEvaluator(list(first), list(second), list(scores), batch_size=64, name="dev")
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=examples, loss=loss, evaluator=evaluator
    )
    trainer.train()
    values = {
        entry["step"]: entry["eval_dev_spearman_cosine"]
        for entry in trainer.state.log_history
        if "eval_dev_spearman_cosine" in entry
    }
    best_step = max(values, key=lambda step: values[step])
    best = SentenceTransformer(str(tmp_path / "plain" / f"checkpoint-{best_step}"), device="cpu")
    expected = evaluator(best)["dev_spearman_cosine"]

    listener = RecordingListener()
    outcome, trained = train_config(config_of(*words), tmp_path / "ours", listener)
    assert outcome.best_step == best_step
    assert f"{outcome.dev['dev/spearman_cosine']:.6f}" == f"{expected:.6f}"
    ours = {step: metrics["dev/spearman_cosine"] for step, metrics in listener.evaluations.items()}
    assert ours == pytest.approx(values, abs=1e-6)
    assert evaluator(trained)["dev_spearman_cosine"] == pytest.approx(expected, abs=1e-6)
    assert max(values.values()) - min(values.values()) > 0.01  # it trained


# --- how long and how often


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps", "evaluations"),
    [
        (["trainer.epochs=2"], 12, [3, 6, 9, 12]),  # 6 steps an epoch; a fifth of 12, rounded up
        (["trainer.epochs=0.5", "trainer.eval_every=1"], 3, [1, 2, 3]),
        (["trainer.epochs=9", "trainer.max_steps=7", "trainer.eval_every=3"], 7, [3, 6, 7]),  # the last step too
        (["trainer.max_steps=4", "trainer.eval_every=0.5"], 4, [2, 4]),
        (["trainer.max_steps=2", "trainer.eval_every=100"], 2, [2]),
    ],
)
def test_steps_and_evaluations_are_those_configured(
    words: list[str], steps: int, evaluations: list[int], tmp_path: Path
) -> None:
    listener = RecordingListener()
    outcome, _ = train_config(config_of(*words), tmp_path, listener)
    assert outcome.steps == listener.total == steps
    assert list(listener.evaluations) == evaluations
    assert outcome.best_step in evaluations
    assert outcome.dev == pytest.approx(listener.evaluations[outcome.best_step], abs=1e-6)
    assert set(listener.points) == set(range(1, steps + 1))


def test_only_the_best_and_the_last_checkpoint_are_kept(tmp_path: Path) -> None:
    outcome, _ = train_config(config_of("optimizer.lr=3e-2", "trainer.epochs=2"), tmp_path)
    kept = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert outcome.best_step < outcome.steps
    assert kept == {f"checkpoint-{outcome.best_step}", f"checkpoint-{outcome.steps}"}


# --- rungs


def with_rungs(config: TrialConfig, *rungs: float) -> TrialConfig:
    return replace(config, rungs=rungs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "rungs", "evaluations"),
    [
        (["trainer.max_steps=16", "trainer.eval_every=8"], (0.125, 0.25, 0.5), [2, 4, 8, 16]),  # one evaluation at 8
        (["trainer.max_steps=9", "trainer.eval_every=100"], (0.125, 0.5), [2, 5, 9]),
        (["trainer.epochs=2", "trainer.eval_every=5"], (0.125, 0.25), [2, 3, 5, 10, 12]),
        (["trainer.epochs=2", "dataloader.batch_size=16", "trainer.eval_every=20"], (0.125, 0.25), [3, 6, 20, 24]),
        (["trainer.max_steps=3", "trainer.eval_every=100"], (0.125, 0.25, 0.9), [1, 3]),
    ],
)
def test_dev_is_scored_once_at_each_rung_beside_the_interval(
    words: list[str], rungs: tuple[float, ...], evaluations: list[int], tmp_path: Path
) -> None:
    listener = RecordingListener()
    outcome, _ = train_config(with_rungs(config_of(*words), *rungs), tmp_path, listener)
    assert list(listener.evaluations) == evaluations
    assert outcome.best_step in evaluations
    kept = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert kept == {f"checkpoint-{outcome.best_step}", f"checkpoint-{outcome.steps}"}


@pytest.mark.slow
def test_rungs_do_not_change_a_training_that_survives_them(tmp_path: Path) -> None:
    config = config_of("trainer.max_steps=8", "trainer.eval_every=4", "optimizer.lr=3e-3")
    plain, climbing = RecordingListener(), RecordingListener()
    train_config(config, tmp_path / "plain", plain)
    train_config(with_rungs(config, 0.125, 0.75), tmp_path / "rungs", climbing)
    assert list(climbing.evaluations) == [1, 4, 6, 8]
    assert climbing.points == plain.points  # losses, and the learning rates of the whole schedule
    assert {step: climbing.evaluations[step] for step in (4, 8)} == plain.evaluations


@pytest.mark.slow
def test_resumed_training_scores_no_rung_twice(tmp_path: Path) -> None:
    config = with_rungs(config_of("trainer.max_steps=8", "trainer.eval_every=4"), 0.25, 0.75)
    with pytest.raises(ConnectionError):
        train_config(config, tmp_path, crashing_at(6))
    listener = RecordingListener()
    train_config(config, tmp_path, listener)
    assert list(listener.evaluations) == [6, 8]


def test_pruned_training_ends_with_the_scores_it_was_pruned_by(tmp_path: Path) -> None:
    # A rate so high that it is worse with every step.
    words = ("optimizer.lr=2e-2", "optimizer.warmup=0", "trainer.max_steps=12", "trainer.eval_every=2")
    config = with_rungs(config_of(*words), 0.5)
    listener = RecordingListener(prune_at=6)
    outcome, _ = train_config(config, tmp_path, listener)
    values = {step: metrics["dev/spearman_cosine"] for step, metrics in listener.evaluations.items()}
    assert max(values, key=lambda step: values[step]) < 6
    assert (outcome.pruned, outcome.best_step, outcome.steps) == (True, 6, 6)
    assert outcome.dev == listener.evaluations[6]

    # If it is killed after the next checkpoint, it is not continued.
    again = RecordingListener()
    resumed, _ = train_config(config, tmp_path, again)
    assert not again.evaluations
    assert (resumed.pruned, resumed.steps) == (True, 6)
    assert resumed.dev == pytest.approx(outcome.dev, abs=1e-6)


# --- early stopping


def stops_of_transformers(history: Sequence[float], patience: int, min_delta: float) -> int | None:
    """Return after how many values transformers' own callback ends a training."""
    callback = EarlyStoppingCallback(patience, min_delta)
    arguments = SentenceTransformerTrainingArguments(
        output_dir="unused", metric_for_best_model="eval_x", greater_is_better=True, use_cpu=True
    )
    state, control = TrainerState(), TrainerControl()
    for count, value in enumerate(history, start=1):
        callback.on_evaluate(arguments, state, control, {"eval_x": value})
        if control.should_training_stop:
            return count
        # As the Trainer does after its callbacks.
        state.best_metric = value if state.best_metric is None else max(state.best_metric, value)
    return None


def test_patience_ends_training_where_transformers_early_stopping_does() -> None:
    draw = random.Random(0)
    ended = 0
    for _ in range(300):
        # 64ths are exact in binary, so that ties are exact.
        history = [draw.randint(-8, 8) / 64 for _ in range(draw.randint(1, 12))]
        patience, min_delta = draw.randint(1, 4), draw.choice([0.0, 1 / 64, 3 / 64])
        config = EarlyStoppingConfig(patience, min_delta)
        ours = (n for n in range(1, len(history) + 1) if out_of_patience(history[:n], config))
        expected = stops_of_transformers(history, patience, min_delta)
        assert next(ours, None) == expected, (history, config)
        ended += expected is not None
    assert 100 < ended < 290


@pytest.mark.parametrize(
    ("history", "patience", "min_delta", "expected"),
    [
        ([], 1, 0.0, False),
        ([0.5], 1, 0.0, False),
        ([0.5, 0.5], 1, 0.0, True),
        ([0.5, 0.4], 2, 0.0, False),
        ([0.5, 0.4, 0.45], 2, 0.0, True),
        ([0.5, 0.4, 0.6], 2, 0.0, False),
        ([0.5, 0.55, 0.6], 2, 0.2, True),
        ([-0.5, -0.4], 1, 0.0, False),
        ([0.5, 0.4, 0.3, 0.2], None, 0.0, False),
    ],
)
def test_patience(history: list[float], patience: int | None, min_delta: float, expected: bool) -> None:
    assert out_of_patience(history, EarlyStoppingConfig(patience, min_delta)) is expected


# --- gradient accumulation, precision, failures


@pytest.mark.slow
def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    words = ["loss=cosine", "trainer.max_steps=8", "trainer.eval_every=4", "optimizer.lr=3e-3"]
    listeners = {}
    for micro in ("null", "8"):
        listeners[micro] = RecordingListener()
        config = config_of(*words, f"dataloader.micro_batch_size={micro}")
        train_config(config, tmp_path / micro, listeners[micro])
    assert listeners["8"].evaluations[8] == pytest.approx(listeners["null"].evaluations[8], abs=2e-3)
    assert len(listeners["8"].points) == len(listeners["null"].points) == 8
    for step, point in listeners["null"].points.items():
        assert listeners["8"].points[step]["train/loss"] == pytest.approx(point["train/loss"], rel=1e-3)


@pytest.mark.slow
def test_bf16_trains_on_a_cpu_and_differs_from_fp32(tmp_path: Path) -> None:
    losses = {}
    for precision in ("fp32", "bf16"):
        listener = RecordingListener()
        train_config(config_of("trainer.max_steps=3", f"trainer.precision={precision}"), tmp_path / precision, listener)
        losses[precision] = [point["train/loss"] for point in listener.points.values()]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


class NanFrom(nn.Module):
    """A loss that is NaN from a step on."""

    def __init__(self, model: SentenceTransformer, step: int) -> None:
        super().__init__()
        self.inner = CoSENTLoss(model)
        self.calls, self.step = 0, step

    def forward(self, features: Any, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        loss: torch.Tensor = self.inner(features, labels)
        return loss * (float("nan") if self.calls >= self.step else 1.0)


def test_a_loss_that_is_not_finite_fails_and_names_the_step(tmp_path: Path) -> None:
    config = config_of("trainer.max_steps=6")
    loss = NanFrom(build_model(config.model, "cpu"), 3)
    with pytest.raises(TrialError, match=r"^the training loss became nan at step 3$"):
        train_config(config, tmp_path, loss=loss)


def test_pruning_ends_the_training_with_a_checkpoint(tmp_path: Path) -> None:
    outcome, _ = train_config(config_of("trainer.max_steps=10"), tmp_path, RecordingListener(prune_at=4))
    assert outcome.pruned
    assert outcome.steps == 4


# --- resuming an interrupted attempt

ENDS_EARLY = [
    "optimizer.lr=2e-2",
    "optimizer.warmup=2",
    "trainer.epochs=4",
    "trainer.eval_every=2",
    "trainer.early_stopping.patience=3",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome, _ = train_config(config_of(*ENDS_EARLY), tmp_path_factory.mktemp("undisturbed"))
    assert outcome.best_step + 6 == outcome.steps < 24  # patience was lost
    return outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    "crash_at", [pytest.param(2, marks=pytest.mark.slow), 6, pytest.param("last", marks=pytest.mark.slow)]
)
def test_resumed_training_equals_undisturbed_training_including_early_stopping(
    undisturbed: Outcome, crash_at: int | str, tmp_path: Path
) -> None:
    config = config_of(*ENDS_EARLY)
    step = crash_at if isinstance(crash_at, int) else undisturbed.steps
    with pytest.raises(ConnectionError):
        train_config(config, tmp_path, crashing_at(step))
    listener = RecordingListener()
    outcome, _ = train_config(config, tmp_path, listener)
    assert min(listener.evaluations) == step  # the rest was not trained again
    assert (outcome.steps, outcome.best_step) == (undisturbed.steps, undisturbed.best_step)
    assert outcome.dev == undisturbed.dev
    assert log_of(outcome) == log_of(undisturbed)


def test_a_checkpoint_that_lacks_a_file_or_the_end_of_one_is_not_resumed(tmp_path: Path) -> None:
    train_config(config_of("trainer.max_steps=2", "trainer.eval_every=2"), tmp_path)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.is_whole(2)
    files = sorted(path for path in checkpoints.path(2).rglob("*") if path.is_file())
    needed = {"complete.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"}
    assert needed <= {path.name for path in files}
    assert len(files) >= 10
    for path in files:
        content = path.read_bytes()
        for damage in (content[:-1], content[: len(content) // 2], b""):
            if damage != content:
                path.write_bytes(damage)
                assert not checkpoints.is_whole(2), f"{path.name} has {len(damage)} of {len(content)} bytes"
        path.unlink()
        assert not checkpoints.is_whole(2), f"{path.name} is missing"
        path.write_bytes(content)
        assert checkpoints.is_whole(2)


@pytest.mark.slow
def test_a_torn_checkpoint_is_trained_again(undisturbed: Outcome, tmp_path: Path) -> None:
    config = config_of(*ENDS_EARLY)
    with pytest.raises(ConnectionError):
        train_config(config, tmp_path, crashing_at(8))
    optimizer = tmp_path / "checkpoint-6" / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:100])
    outcome, _ = train_config(config, tmp_path)
    assert outcome.dev == undisturbed.dev
    assert outcome.steps == undisturbed.steps


@pytest.mark.slow
@pytest.mark.parametrize("words", [ENDS_EARLY, ["trainer.max_steps=6", "optimizer.lr=2e-2"]], ids=["early", "steps"])
def test_finished_training_is_not_continued(words: list[str], tmp_path: Path) -> None:
    config = config_of(*words)
    first, model = train_config(config, tmp_path)
    listener = RecordingListener()
    again, reloaded = train_config(config, tmp_path, listener)
    assert not listener.evaluations
    assert not listener.points
    assert (again.steps, again.best_step) == (first.steps, first.best_step)
    assert again.dev == pytest.approx(first.dev, abs=1e-6)
    for one, other in itertools.zip_longest(model.state_dict().values(), reloaded.state_dict().values()):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_times_are_summed_over_attempts(tmp_path: Path) -> None:
    config = config_of("trainer.max_steps=6", "trainer.eval_every=2")
    with pytest.raises(ConnectionError):
        train_config(config, tmp_path, crashing_at(6))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.seal(4, {"train_s": 1000.0, "eval_s": 100.0})
    outcome, _ = train_config(config, tmp_path)
    assert 1000 < outcome.train_s < 1060
    assert 100 < outcome.eval_s < 160


# --- checkpoints that are written while training continues


def train_with_saver(
    config: TrialConfig, folder: Path, listener: RecordingListener | None = None, *, is_resumable: bool = True
) -> Outcome:
    """Train as on a GPU: a thread writes checkpoints from a copy of the model."""
    model = build_model(config.model, "cpu")
    built = BuiltModel(model, ModelGraphs(model), copy.deepcopy(model))
    return train_config(config, folder, listener, built=built, is_resumable=is_resumable)[0]


def test_a_checkpoint_written_from_a_copy_equals_the_models_own(tmp_path: Path) -> None:
    config = config_of("trainer.max_steps=4", "trainer.eval_every=2")
    train_with_saver(config, tmp_path / "copy")
    train_config(config, tmp_path / "model")
    copied, direct = (Checkpoints(tmp_path / name) for name in ("copy", "model"))
    assert copied.is_whole(4)
    one, other = copied.path(4), direct.path(4)
    files = {path.relative_to(other) for path in other.rglob("*") if path.is_file()}
    assert {path.relative_to(one) for path in one.rglob("*") if path.is_file()} == files
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    state, expected = (torch.load(path / "optimizer.pt")["state"] for path in (one, other))
    for key, parts in expected.items():
        assert all(torch.equal(state[key][part], value) for part, value in parts.items())


def test_training_resumed_from_a_checkpoint_of_a_copy_equals_undisturbed_training(tmp_path: Path) -> None:
    config = config_of("trainer.max_steps=6", "trainer.eval_every=2")
    undisturbed = train_with_saver(config, tmp_path / "whole")
    with pytest.raises(ConnectionError):
        train_with_saver(config, tmp_path / "cut", crashing_at(6))
    assert Checkpoints(tmp_path / "cut").last_whole() == 4
    assert train_with_saver(config, tmp_path / "cut").dev == undisturbed.dev


@pytest.mark.parametrize("is_resumable", [True, False])
def test_the_last_checkpoint_has_an_optimizer_state_only_if_training_is_resumable(
    is_resumable: bool, tmp_path: Path
) -> None:
    config = config_of("trainer.max_steps=4", "trainer.eval_every=2")
    outcome = train_with_saver(config, tmp_path, is_resumable=is_resumable)
    assert (Checkpoints(tmp_path).path(4) / "optimizer.pt").exists() == is_resumable
    again = train_with_saver(
        config, tmp_path, is_resumable=is_resumable
    )  # killed before the result was recorded: nothing is trained again
    assert again.dev == outcome.dev
    assert again.steps == 4


def test_a_checkpoint_that_cannot_be_written_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Checkpoints, "seal", full)
    with pytest.raises(OSError, match="No space left"):
        train_with_saver(config_of("trainer.max_steps=6", "trainer.eval_every=2"), tmp_path)
    assert Checkpoints(tmp_path).last_whole() is None


@pytest.mark.parametrize("train_it", [train_config, train_with_saver])
def test_no_checkpoint_is_started_before_the_last_one_is_sealed(
    train_it: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing one deletes those that it replaces, and would delete one that is being written."""
    seal, started = Checkpoints.seal, list[list[str]]()

    def slowly(self: Checkpoints, step: int, times: Mapping[str, float]) -> None:
        time.sleep(0.3)
        started.append(sorted(path.name for path in self.folder.glob("checkpoint-*")))
        seal(self, step, times)

    monkeypatch.setattr(Checkpoints, "seal", slowly)
    train_it(config_of("trainer.max_steps=4", "trainer.eval_every=1"), tmp_path)
    assert [max(names) for names in started] == [f"checkpoint-{step}" for step in (1, 2, 3, 4)]
    assert Checkpoints(tmp_path).is_whole(4)
