from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.evaluation.pairs import check_embeddings
from embedsweep.training.divergence import MAX_FP16_OVERFLOWS, DivergenceCheck
from embedsweep.validation.single import pass_single
from tests.training.cases import RecordingListener, train_config

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_not_a_number_is_seen_at_once_and_named(value: float) -> None:
    check = DivergenceCheck(fp16=False)
    check.step = 7
    check.check_loss(torch.tensor(3.0))
    with pytest.raises(TrialError, match=rf"^the training loss became {value} at step 7$"):
        check.check_loss(torch.tensor(value))


def test_a_gradient_that_is_not_a_number_is_seen_at_once_unless_fp16_scales_it() -> None:
    check = DivergenceCheck(fp16=False)
    check.check_gradient(3.0)
    with pytest.raises(TrialError, match=r"^the norm of the gradient became inf at step 1$"):
        check.check_gradient(torch.tensor(INF))

    scaled = DivergenceCheck(fp16=True)
    for _ in range(3):  # a step that was taken ends a run of those left out
        for _ in range(MAX_FP16_OVERFLOWS):
            scaled.check_gradient(torch.tensor(INF))
        scaled.check_gradient(torch.tensor(1.0))
    for _ in range(MAX_FP16_OVERFLOWS):
        scaled.check_gradient(torch.tensor(NAN))
    scaled.step = 200
    with pytest.raises(TrialError, match=r"^the norm of the gradient became nan at step 200, for 41 steps in a row$"):
        scaled.check_gradient(torch.tensor(NAN))


def test_what_a_gpu_noted_is_told_with_its_own_step_when_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors are on the CPU here; only what chooses the way is told otherwise."""
    check = DivergenceCheck(fp16=False)
    monkeypatch.setattr(type(check._loss), "add", lambda series, value, step: series._pending.append((step, value)))
    for step, value in enumerate([2.0, 1.0, NAN, 1.0, INF], start=1):
        check.step = step
        check.check_loss(torch.tensor(value))
        check.check_gradient(torch.tensor(1.0))
        if step < 3:
            check.check_pending()
    with pytest.raises(TrialError, match=r"^the training loss became nan at step 3$"):
        check.check_pending()


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


def config_of(*words: str, lr: float | None = None) -> TrialConfig:
    small = ("trainer.device=cpu", "data.limit=128", "optimizer.warmup=0", "trainer.log_every=50")
    config = pass_single([*small, *words]).config
    # The gate lets no such rate pass; a training may come to the same without one.
    return config if lr is None else replace(config, optimizer=replace(config.optimizer, lr=lr))


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
    listener = RecordingListener()
    with pytest.raises(TrialError, match=reason):
        train_config(config_of("trainer.max_steps=8", *words, lr=lr), tmp_path, listener, change_model=spoil)
    assert listener.evaluations == {}
