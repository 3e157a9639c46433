from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.training.divergence import MAX_FP16_OVERFLOWS, DivergenceCheck
from embedsweep.validation.single import pass_single
from tests.training.cases import RecordingListener, train_config

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_loss_that_is_not_finite_raises_at_once_and_names_the_step(value: float) -> None:
    check = DivergenceCheck(fp16=False)
    check.step = 7
    check.check_loss(torch.tensor(3.0))
    with pytest.raises(TrialError, match=rf"^the training loss became {value} at step 7$"):
        check.check_loss(torch.tensor(value))


def test_a_gradient_that_is_not_finite_raises_at_once_unless_fp16_scales_it() -> None:
    check = DivergenceCheck(fp16=False)
    check.check_gradient(3.0)
    with pytest.raises(TrialError, match=r"^the norm of the gradient became inf at step 1$"):
        check.check_gradient(torch.tensor(INF))

    scaled = DivergenceCheck(fp16=True)
    for _ in range(3):  # a finite gradient ends a run of overflows
        for _ in range(MAX_FP16_OVERFLOWS):
            scaled.check_gradient(torch.tensor(INF))
        scaled.check_gradient(torch.tensor(1.0))
    for _ in range(MAX_FP16_OVERFLOWS):
        scaled.check_gradient(torch.tensor(NAN))
    scaled.step = 200
    with pytest.raises(TrialError, match=r"^the norm of the gradient became nan at step 200, for 41 steps in a row$"):
        scaled.check_gradient(torch.tensor(NAN))


def test_pending_values_of_a_gpu_raise_with_their_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tensors are on the CPU here; only the choice between the two ways is replaced."""
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


# --- whole trainings


def config_of(*words: str, lr: float | None = None) -> TrialConfig:
    small = ("trainer.device=cpu", "data.limit=128", "optimizer.warmup=0", "trainer.log_every=50")
    config = pass_single([*small, *words]).config
    # Validation refuses such a rate; a training may diverge alike without one.
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
def test_diverging_training_ends_at_once_without_a_score(
    words: list[str], lr: float | None, spoil: Callable[[nn.Module], object], reason: str, tmp_path: Path
) -> None:
    listener = RecordingListener()
    with pytest.raises(TrialError, match=reason):
        train_config(config_of("trainer.max_steps=8", *words, lr=lr), tmp_path, listener, change_model=spoil)
    assert listener.evaluations == {}
