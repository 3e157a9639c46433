"""A signal stops a training after a step, with a checkpoint; what is trained later equals an undisturbed training."""

from __future__ import annotations

import copy
import errno
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sentence_transformers import SentenceTransformerTrainer

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import Interrupted
from embedsweep.models.build import build_model
from embedsweep.signals import handled
from embedsweep.training.built_models import BuiltModel
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.training.graphed import ModelGraphs
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.faults.studies import PAIRS
from tests.training.cases import RecordingListener, log_of, train_config

# Of 12 steps 4, 8 and 11 are evaluated, and the best is not the last; losses are logged at others.
WORDS = (
    *PAIRS,
    "trainer.device=cpu",
    "optimizer.lr=1e-2",
    "optimizer.warmup=2",
    "trainer.max_steps=11",
    "trainer.eval_every=4",
    "trainer.log_every=3",
)
EARLY = ("trainer.early_stopping.patience=1", "trainer.early_stopping.min_delta=1")
"""The training ends with its second evaluation."""

COPY = "by a copy"
"""Among the words: checkpoints are written from a copy of the model, as on a GPU."""

interrupt = partial(os.kill, os.getpid(), signal.SIGTERM)


def config_of(*words: str) -> TrialConfig:
    return pass_single([*WORDS, *words]).config


@dataclass
class Trained:
    """A training, to its end or to a signal."""

    words: tuple[str, ...]
    folder: Path
    listener: RecordingListener = field(default_factory=RecordingListener)

    def run(self) -> Outcome:
        config = config_of(*(word for word in self.words if word != COPY))
        built = None
        if COPY in self.words:
            model = build_model(config.model, "cpu")
            built = BuiltModel(model, ModelGraphs(model), copy.deepcopy(model))
        return train_config(config, self.folder, self.listener, built=built)[0]


def before(name: str, step: int, fault: Callable[[], None], patch: pytest.MonkeyPatch) -> None:
    """Provoke a fault, once, before the library's trainer calls a method after a number of steps."""
    original = getattr(SentenceTransformerTrainer, name)
    happened: list[int] = []

    def replaced(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step == step and not happened:
            happened.append(step)
            fault()
        return original(trainer, *args, **kwargs)

    patch.setattr(SentenceTransformerTrainer, name, replaced)


STEP, SCORES, SAVE = "training_step", "evaluation_loop", "_save_checkpoint"
SCHEDULE_FREE = ("optimizer=schedule_free",)
IN_SHORT: Mapping[str, tuple[str, int, int, tuple[str, ...]]] = {
    "in a step": (STEP, 4, 5, ()),
    "while dev is scored": (SCORES, 8, 8, EARLY),
}
MOMENTS: Mapping[str, tuple[str, int, int, tuple[str, ...]]] = {
    "in a step that is evaluated": (STEP, 7, 8, ()),
    "in the step that ends training early": (STEP, 7, 8, EARLY),
    "in the last step": (STEP, 10, 11, ()),
    "while dev is scored after the last step, by a copy": (SCORES, 11, 11, (COPY,)),
    "while a checkpoint is written, by a copy": (SAVE, 4, 4, (COPY,)),
    "in a step of an optimizer with two sets of weights": (STEP, 5, 6, SCHEDULE_FREE),
    "while dev is scored with the other set": (SCORES, 8, 8, SCHEDULE_FREE),
    "at the end of an epoch, in parts": (STEP, 6, 7, ("loss=cosine", "dataloader.micro_batch_size=16")),
}


@pytest.mark.parametrize(
    ("place", "at", "kept", "words"),
    [pytest.param(*moment, id=name) for name, moment in IN_SHORT.items()]
    + [pytest.param(*moment, id=name, marks=pytest.mark.slow) for name, moment in MOMENTS.items()],
)
def test_a_stopped_training_goes_on_as_if_nothing_had_happened(
    place: str, at: int, kept: int, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed, first, second = (Trained(words, tmp_path / name) for name in ("whole", "cut", "cut"))
    expected = undisturbed.run()
    before(place, at, interrupt, monkeypatch)
    with handled(), pytest.raises(Interrupted):
        first.run()
    assert Checkpoints(first.folder).last_whole() == kept

    outcome = second.run()
    assert log_of(outcome) == log_of(expected)
    assert (outcome.dev, outcome.steps, outcome.best_step) == (expected.dev, expected.steps, expected.best_step)
    for attribute in ("evaluations", "points"):
        one, other, whole = (getattr(each.listener, attribute) for each in (first, second, undisturbed))
        assert not one.keys() & other.keys()
        assert one | other == whole
    kept_at_last = {path.name for path in undisturbed.folder.iterdir()}
    assert {path.name for path in first.folder.iterdir()} == kept_at_last


def test_a_second_signal_ends_a_training_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before(STEP, 6, interrupt, monkeypatch)
    before("_save_rng_state", 7, interrupt, monkeypatch)
    with handled(), pytest.raises(Interrupted):
        Trained((), tmp_path).run()
    assert Checkpoints(tmp_path).last_whole() == 4


def test_a_stopped_training_whose_checkpoint_cannot_be_written_has_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before(STEP, 6, interrupt, monkeypatch)
    before("_save_rng_state", 7, fail, monkeypatch)
    with handled(), pytest.raises(Interrupted):
        Trained((), tmp_path).run()
    assert Checkpoints(tmp_path).last_whole() == 4
    assert "No space left on device" in caplog.text


def test_a_training_that_is_stopped_before_it_has_scored_dev_keeps_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last one is written anew when dev is scored; a power cut at that moment must not cost all since the best."""
    for _ in range(2):
        before(SCORES, 11, interrupt, monkeypatch)
        with handled(), pytest.raises(Interrupted):
            Trained((), tmp_path).run()
        kept = {int(path.name.removeprefix("checkpoint-")) for path in tmp_path.glob("checkpoint-*")}
        assert kept == {4, 8, 11}  # the best, the one before, the last
    link, state = tmp_path / "link.json", tmp_path / "checkpoint-11" / "trainer_state.json"
    link.hardlink_to(state)  # as they are sent to a bucket
    text = link.read_text()
    last = Trained((), tmp_path)
    assert last.run().best_step == 4
    assert list(last.listener.evaluations) == [11]
    assert link.read_text() == text != state.read_text()
