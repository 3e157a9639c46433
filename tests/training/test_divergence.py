from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from embedsweep.config.result import Decision
from embedsweep.config.trial import TrialConfig
from embedsweep.data import load_splits
from embedsweep.errors import TrialError
from embedsweep.evaluation.pairs import check_embeddings
from embedsweep.losses.nesting import build_loss, training_dataset
from embedsweep.models import build_model
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.training.data import training_parts
from embedsweep.training.divergence import FP16_SKIPPED, Watch
from embedsweep.training.scoring import dev_evaluator
from embedsweep.training.train import Task, train
from embedsweep.validation.single import pass_single

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_not_a_number_is_seen_at_once_and_named(value: float) -> None:
    watch = Watch(fp16=False)
    watch.step = 7
    watch.saw_loss(torch.tensor(3.0))
    with pytest.raises(TrialError, match=rf"^the training loss became {value} at step 7$"):
        watch.saw_loss(torch.tensor(value))


def test_a_gradient_that_is_not_a_number_is_seen_at_once_unless_fp16_scales_it() -> None:
    watch = Watch(fp16=False)
    watch.saw_gradient(3.0)
    with pytest.raises(TrialError, match=r"^the norm of the gradient became inf at step 1$"):
        watch.saw_gradient(torch.tensor(INF))

    scaled = Watch(fp16=True)
    for _ in range(3):  # a step that was taken ends a run of those left out
        for _ in range(FP16_SKIPPED):
            scaled.saw_gradient(torch.tensor(INF))
        scaled.saw_gradient(torch.tensor(1.0))
    for _ in range(FP16_SKIPPED):
        scaled.saw_gradient(torch.tensor(NAN))
    scaled.step = 200
    with pytest.raises(TrialError, match=r"^the norm of the gradient became nan at step 200, for 41 steps in a row$"):
        scaled.saw_gradient(torch.tensor(NAN))


def test_what_a_gpu_noted_is_told_with_its_own_step_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors are on the CPU here; only what chooses the way is told otherwise."""
    watch = Watch(fp16=False)
    monkeypatch.setattr(type(watch._loss), "see", lambda series, value, step: series._unseen.append((step, value)))
    for step, value in enumerate([2.0, 1.0, NAN, 1.0, INF], start=1):
        watch.step = step
        watch.saw_loss(torch.tensor(value))
        watch.saw_gradient(torch.tensor(1.0))
        if step < 3:
            watch.look()
    with pytest.raises(TrialError, match=r"^the training loss became nan at step 3$"):
        watch.look()


def spread_of(relative: float) -> np.ndarray:
    """1,000 embeddings of 8 dimensions around one of length 1, at such a distance."""
    draw = np.random.default_rng(0).standard_normal((1000, 8))
    draw *= relative / np.sqrt(np.square(draw).sum(axis=1).mean())
    return np.asarray(draw + np.eye(8)[0], dtype=np.float32)


@pytest.mark.parametrize(("relative", "passes"), [(0.2, True), (1e-3, True), (1e-4, False), (0.0, False)])
def test_embeddings_that_differ_by_rounding_only_are_constant(relative: float, passes: bool) -> None:
    sentences = [str(number) for number in range(1000)]
    if passes:
        check_embeddings(spread_of(relative), sentences, "dev", 5)
        return
    with pytest.raises(
        TrialError, match=r"^the embeddings of 1000 different dev sentences are constant after step 5: "
    ):
        check_embeddings(spread_of(relative), sentences, "dev", 5)


def test_one_sentence_over_and_over_may_have_one_embedding() -> None:
    check_embeddings(np.ones((3, 4), dtype=np.float32), ["the same"] * 3, "dev", -1)


def test_a_single_embedding_that_is_not_a_number_is_enough() -> None:
    embeddings = np.random.default_rng(0).standard_normal((5, 3))
    embeddings[2, 1] = INF
    with pytest.raises(TrialError, match=r"^the embeddings of 1 of 5 test sentences are not numbers$"):
        check_embeddings(embeddings, list("abcde"), "test", -1)


# --- whole trainings


class Silent:
    """A watcher that counts evaluations."""

    def __init__(self) -> None:
        self.evaluations = 0
        self.progressed: Callable[[int, int], None] = lambda _step, _total: None

    def trained(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        pass

    def evaluated(self, _step: int, _metrics: Mapping[str, float], *, last: bool) -> Decision:  # noqa: ARG002
        self.evaluations += 1
        return Decision.GO_ON


def config_of(*words: str, lr: float | None = None) -> TrialConfig:
    small = ("trainer.device=cpu", "data.limit=128", "optimizer.warmup=0", "trainer.log_every=50")
    config = pass_single([*small, *words]).config
    # The gate lets no such rate pass; a training may come to the same without one.
    return config if lr is None else replace(config, optimizer=replace(config.optimizer, lr=lr))


def train_anew(config: TrialConfig, folder: Path, watcher: Silent, spoil: Callable[[nn.Module], object]) -> None:
    splits = load_splits(config.data, config.evaluation)
    torch.manual_seed(1)
    model = build_model(config.model, "cpu")
    ((name, part),) = training_parts(config, splits, lambda _: []).items()
    spoil(model)
    task = Task(training_dataset(part.loss, part.examples, model, 1), build_loss(part.loss, model, None))
    train(config, model, {name: task}, dev_evaluator(config, model), Checkpoints(folder), watcher)


def nothing(_model: nn.Module) -> None:
    pass


def infinite_gradient(model: nn.Module) -> None:
    weights = next(iter(model.parameters()))
    weights.register_hook(lambda gradient: gradient * INF)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    ("words", "lr", "spoil", "reason"),
    [
        (["loss=cosent"], 1e6, nothing, r"^the training loss became nan at step 2$"),
        (["loss=mnrl"], 1e6, nothing, r"^the training loss became nan at step 2$"),
        (["loss=cosent", "loss.scale=1e39"], None, nothing, r"^the training loss became (nan|inf) at step 1$"),
        (["loss=cosine"], None, infinite_gradient, r"^the norm of the gradient became nan at step 1$"),
        (["loss=cosine", "optimizer.max_grad_norm=0"], None, infinite_gradient, r"^the norm of the gradient became"),
        (
            ["loss=mnrl", "trainer.eval_every=2"],
            10.0,
            nothing,
            r"^the embeddings of 800 different dev sentences are constant after step 2: they differ by .*e-0\d of ",
        ),
    ],
    ids=["cosent", "mnrl", "infinite-scale", "gradient", "unclipped", "collapsed"],
)
def test_a_training_that_diverges_ends_at_once_without_a_score(
    words: list[str], lr: float | None, spoil: Callable[[nn.Module], object], reason: str, tmp_path: Path
) -> None:
    watcher = Silent()
    with pytest.raises(TrialError, match=reason):
        train_anew(config_of("trainer.max_steps=8", *words, lr=lr), tmp_path, watcher, spoil)
    assert watcher.evaluations == 0
