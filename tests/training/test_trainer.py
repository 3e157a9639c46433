"""The trainer's overrides: the library calls each of them, and merged columns change speed only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from torch import nn

from embedsweep.config.trial import TrialConfig
from embedsweep.training.trainer import Trainer
from embedsweep.validation.single import pass_single
from tests.training.cases import RecordingListener, crashing_at, train_config

OVERRIDES = {name for name in vars(Trainer) if hasattr(SentenceTransformerTrainer, name) and not name.startswith("__")}


def config_of(*words: str) -> TrialConfig:
    return pass_single(["trainer.device=cpu", "data.limit=96", "trainer.max_steps=4", *words]).config


def test_all_overrides_of_the_trainer_are_known() -> None:
    """A method that the library renames would no longer be an override."""
    assert {
        "compute_loss",
        "get_data_collator",
        "training_step",
        "_clip_grad_norm",
        "_get_grad_norm",
        "_load_from_checkpoint",
        "_save",
        "_save_optimizer_and_scheduler",
    } <= OVERRIDES


def test_the_library_calls_every_override(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: set[str] = set()

    def recorded(name: str) -> Callable[..., Any]:
        method = getattr(Trainer, name)

        def record(self: Trainer, *args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return method(self, *args, **kwargs)

        return record

    for name in OVERRIDES:
        if callable(getattr(Trainer, name)):
            monkeypatch.setattr(Trainer, name, recorded(name))
    config = config_of("trainer.eval_every=2")
    with pytest.raises(ConnectionError):
        train_config(config, tmp_path, crashing_at(4))
    train_config(config, tmp_path)  # resumes
    assert called == {name for name in OVERRIDES if callable(getattr(Trainer, name))}


def passes_in_training(words: list[str], folder: Path, listener: RecordingListener) -> int:
    """Train, and return the number of forward passes in training mode."""
    passes: list[int] = []

    def count(model: SentenceTransformer) -> None:
        def hook(module: nn.Module, *_: Any) -> None:
            passes.extend([1] if module.training else [])

        model[0].register_forward_hook(hook)

    train_config(config_of(*words, "trainer.log_every=1"), folder, listener, change_model=count)
    return len(passes)


@pytest.mark.parametrize(
    ("words", "apart", "merged"),
    [
        (["loss=cosent"], 8, 4),
        (["loss=mnrl"], 8, 4),
        (["loss=matryoshka", "loss.matryoshka_dims=[128,32]"], 8, 4),
        (["loss=cosine", "dataloader.micro_batch_size=16"], 16, 8),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, list) else None,
)
def test_merged_columns_take_one_pass_and_give_the_same_losses(
    words: list[str], apart: int, merged: int, tmp_path: Path
) -> None:
    listeners = {word: RecordingListener() for word in ("false", "true")}
    passes = [
        passes_in_training([*words, f"trainer.merge_columns={word}"], tmp_path / word, listener)
        for word, listener in listeners.items()
    ]
    assert passes == [apart, merged]
    losses = {
        word: [metrics["train/loss"] for metrics in listener.points.values()] for word, listener in listeners.items()
    }
    assert len(losses["true"]) == 4
    assert losses["true"] == pytest.approx(losses["false"], rel=1e-3)


def test_datasets_that_are_trained_in_turns_merge_their_columns(tmp_path: Path) -> None:
    listener = RecordingListener()
    words = ["data=demo_mixed", "trainer.merge_columns=true"]
    assert passes_in_training(words, tmp_path, listener) == 4
    assert len(listener.points) == 4
