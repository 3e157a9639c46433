"""The number of steps of a training, and warnings about its batches and evaluations."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.config.trial import TrialConfig
from embedsweep.training.steps import most_steps, training_warnings
from embedsweep.validation.single import pass_single


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def config(*words: str) -> TrialConfig:
    return pass_single(["trainer.device=cpu", "dataloader.batch_size=16", *words]).config


@pytest.mark.parametrize(
    ("words", "sizes", "steps"),
    [
        ((), [8000], 1000),
        (("trainer.epochs=1",), [17], 2),
        (("trainer.epochs=1.5",), [17], 3),
        (("trainer.epochs=1", "dataloader.drop_last=true"), [33], 2),
        (("trainer.max_steps=7",), [8000], 7),
        # CoSENT sees the micro-batch: 17 examples are 5 of them, and 4 make a step.
        (("trainer.epochs=1", "dataloader.micro_batch_size=4"), [17], 2),
        (("trainer.epochs=1", "dataloader.micro_batch_size=4", "loss=cosine"), [17], 2),
        (("trainer.epochs=1",), [32, 17], 4),
        (("trainer.epochs=1", "dataloader.multi_dataset_batch_sampler=round_robin"), [320, 17], 4),
        (("trainer.epochs=1", "dataloader=no_duplicates"), [17], 17),
    ],
)
def test_steps_are_those_of_all_epochs(words: tuple[str, ...], sizes: list[int], steps: int) -> None:
    assert most_steps(config(*words), sizes) == steps


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (("data.limit=17",), "the last batch of 17 examples by 16 has only one"),
        (("data.limit=17", "dataloader.micro_batch_size=8"), "the last batch of 17 examples by 8 has only one"),
        (("data.limit=17", "data=demo_nli", "loss=softmax"), None),
        (("data.limit=17", "loss=cosine"), None),
        (("data.limit=17", "dataloader.drop_last=true"), None),
        (("data.limit=18",), None),
        (
            ("data.limit=320", "optimizer.warmup=41"),
            "optimizer.warmup: 41 steps of warm-up are more than the 40 of this",
        ),
        (("data.limit=320", "optimizer.warmup=40"), None),
        (("data.limit=320", "optimizer.warmup=1"), None),
        (("data.limit=320", "optimizer.warmup=41", "trainer.max_steps=50"), None),
        (("study.pruner=median", "optimizer.warmup=0.2"), "study.pruning.rungs: at 0.125 of the steps, the first rung"),
        (("study.pruner=median", "optimizer.warmup=200"), "study.pruning.rungs: at 0.125 of the steps, the first rung"),
        (("study.pruner=median", "optimizer.warmup=0.125"), None),
        (("study.pruner=median", "optimizer.warmup=125"), None),
        (("optimizer.warmup=0.2",), None),
        (("trainer.eval_every=1",), "trainer.eval_every: 1 scores dev 1000 times"),
        (("trainer.eval_every=0.001",), "trainer.eval_every: 0.001 scores dev 1000 times"),
        (("trainer.eval_every=5",), None),
        (("trainer.eval_every=1", "trainer.max_steps=200"), None),
        (("trainer.eval_every=0.0001", "trainer.max_steps=201"), "scores dev 201 times"),
    ],
)
def test_what_is_hardly_meant_is_warned_of(words: tuple[str, ...], warned: str | None) -> None:
    lines = list(training_warnings(config(*words)))
    assert len(lines) == (warned is not None)
    assert warned is None or warned in lines[0]
