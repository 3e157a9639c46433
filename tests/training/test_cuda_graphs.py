"""Captured steps on a CUDA device: gradients, dropout, resuming, divergence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import LossConfig, TrialConfig
from embedsweep.errors import TrialError
from embedsweep.losses.nesting import not_captured
from embedsweep.losses.table import LOSSES
from embedsweep.training.built_models import BuiltModels
from embedsweep.training.cuda_graphs import GraphMemory, StepGraphs
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.loss_cases import batch, built, fresh_model, loss_config, write_other_model
from tests.training.cases import RecordingListener, crashing_at, train_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CAPTURED = [name for name in LOSSES if not_captured(loss_config(name, Path("other"))) is None]


def dropping(model: SentenceTransformer, p: float) -> SentenceTransformer:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
    return model.train()


def on_device(features: list[dict[str, Any]]) -> dict[str, Any]:
    """Return one mapping of all columns, padded to one length, as the trainer has it."""
    longest = max(column["input_ids"].shape[1] for column in features)
    return {
        f"{number}_{key}": torch.nn.functional.pad(value, (0, longest - value.shape[1])).cuda()
        for number, column in enumerate(features)
        for key, value in column.items()
        if isinstance(value, torch.Tensor)
    }


def compute_with(loss: torch.nn.Module, n_columns: int, autocast: bool) -> Callable[[dict[str, Any]], torch.Tensor]:
    def compute(inputs: dict[str, Any]) -> torch.Tensor:
        columns = [
            {key.partition("_")[2]: value for key, value in inputs.items() if key.startswith(f"{number}_")}
            for number in range(n_columns)
        ]
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            value: torch.Tensor = loss(columns, inputs.get("label"))
        return value.float()

    return compute


def backward(loss: torch.Tensor) -> float:
    """Compute gradients and return the loss; its autograd graph is freed, as after a trainer's step."""
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def gradients(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}


@dataclass
class Step:
    """A model on the GPU, a batch, and the loss of the batch.

    Attributes:
        model: the model.
        inputs: the batch.
        compute: computes the loss of a batch.
    """

    model: SentenceTransformer
    inputs: dict[str, Any]
    compute: Callable[[dict[str, Any]], torch.Tensor]

    @classmethod
    def of(cls, config: LossConfig, dropout: float = 0.0, *, merge: bool = False, autocast: bool = False) -> Step:
        model = dropping(fresh_model().cuda(), dropout)
        loss = built(config, model, merge_columns=merge).cuda()
        features, labels = batch(config, model)
        inputs = on_device(features) | ({} if labels is None else {"label": labels.cuda()})
        return cls(model, inputs, compute_with(loss, len(features), autocast))

    def graphs(self, max_norm: float = 0.0) -> StepGraphs:
        return StepGraphs(GraphMemory(tuple(self.model.parameters())), max_norm)

    def take_gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients, and leave none."""
        taken = gradients(self.model)
        self.model.zero_grad()
        return taken


COSENT = loss_config("cosent", Path("none"))


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("merge", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize("name", CAPTURED)
def test_a_replayed_step_has_the_gradient_of_an_eager_one(
    name: str, merge: bool, autocast: bool, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    if LOSSES[name].other_model is not None:
        write_other_model(other)
    step = Step.of(loss_config(name, other), merge=merge, autocast=autocast)
    expected_loss = backward(step.compute(dict(step.inputs)))
    expected = step.take_gradients()

    graphs = step.graphs()
    for _ in range(3):  # captured, and replayed twice
        value, norm = graphs.step(step.inputs, step.compute)
        replayed = step.take_gradients()
    assert len(graphs) == 1
    noise = 2e-2 if autocast else 2e-5
    assert replayed.keys() == expected.keys()
    assert abs(value.item() - expected_loss) <= noise * max(1.0, abs(expected_loss))
    whole = torch.cat([grad.flatten() for grad in expected.values()])
    difference = torch.cat([(replayed[key] - grad).flatten() for key, grad in expected.items()])
    assert difference.norm() <= noise * whole.norm()
    assert abs(norm.item() - whole.norm().item()) <= noise * whole.norm().item()


def test_a_batch_of_another_shape_has_a_graph_of_its_own_and_gradients_do_not_mix() -> None:
    step = Step.of(COSENT)
    half = {key: value[:4] for key, value in step.inputs.items()}
    graphs = step.graphs()
    for inputs in (step.inputs, half, step.inputs, half):
        graphs.step(inputs, step.compute)
        replayed = step.take_gradients()
        backward(step.compute(dict(inputs)))
        for key, grad in step.take_gradients().items():
            torch.testing.assert_close(replayed[key], grad, rtol=1e-3, atol=1e-6)
    assert len(graphs) == 2


def test_a_replayed_step_clips_its_gradient_and_returns_the_norm_before_clipping() -> None:
    step = Step.of(COSENT)
    memory = GraphMemory(tuple(step.model.parameters()))
    _, whole = StepGraphs(memory, 0.0).step(step.inputs, step.compute)
    _, norm = StepGraphs(memory, whole.item() / 2).step(step.inputs, step.compute)
    clipped = torch.cat([grad.flatten() for grad in gradients(step.model).values()]).norm()
    torch.testing.assert_close(norm, whole, rtol=1e-4, atol=0)
    assert abs(clipped.item() - whole.item() / 2) < 1e-3 * whole.item()


def test_each_replay_draws_dropout_anew_from_the_generator() -> None:
    step = Step.of(COSENT, dropout=0.3)
    torch.cuda.manual_seed(5)
    graphs = step.graphs()
    first = [graphs.step(step.inputs, step.compute)[0].item() for _ in range(3)]
    assert len(set(first)) == 3
    torch.cuda.manual_seed(5)  # replays of an existing graph draw what the capture and its replays drew
    assert [graphs.step(step.inputs, step.compute)[0].item() for _ in range(3)] == first


def config_of(*words: str) -> TrialConfig:
    return pass_single(["data.limit=192", "trainer.cuda_graphs=true", *words]).config


def trained(
    config: TrialConfig, folder: Path, models: BuiltModels | None = None, listener: RecordingListener | None = None
) -> tuple[Outcome, SentenceTransformer]:
    built = (models or BuiltModels()).get(config)
    return train_config(config, folder, listener, built=built, change_model=lambda model: dropping(model, 0.1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_on_graphs_of_an_earlier_trial_equals_training_on_new_graphs(precision: str, tmp_path: Path) -> None:
    words = [f"trainer.precision={precision}", "dataloader.batch_size=16"]
    models = BuiltModels()
    trained(config_of(*words, "optimizer.lr=1e-2", "trainer.seed=1"), tmp_path / "first", models)
    outcome, model = trained(config_of(*words), tmp_path / "second", models)
    alone, fresh = trained(config_of(*words), tmp_path / "alone")
    assert "padded to" in outcome.captured
    assert outcome.dev == alone.dev
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


def test_captured_training_scores_like_eager_training(tmp_path: Path) -> None:
    graphed, _ = trained(config_of(), tmp_path / "graphed")
    eager, _ = trained(config_of("trainer.cuda_graphs=false"), tmp_path / "eager")
    assert eager.captured == "none: trainer.cuda_graphs=false"
    assert abs(graphed.dev["dev/spearman_cosine"] - eager.dev["dev/spearman_cosine"]) < 0.03


def test_resumed_captured_training_equals_undisturbed_training(tmp_path: Path) -> None:
    config = config_of("dataloader.batch_size=16", "trainer.eval_every=5")
    undisturbed, model = trained(config, tmp_path / "whole")
    with pytest.raises(ConnectionError):
        trained(config, tmp_path / "cut", listener=crashing_at(15))
    resumed, again = trained(config, tmp_path / "cut")
    assert resumed.dev == undisturbed.dev
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_captured_training_that_diverges_fails_within_a_few_steps(tmp_path: Path) -> None:
    config = config_of("optimizer.warmup=0", "trainer.max_steps=60")
    with pytest.raises(TrialError, match=r"became nan at step \d$"):
        trained(replace(config, optimizer=replace(config.optimizer, lr=1e6)), tmp_path)


def test_a_loss_that_cannot_be_captured_trains_without_graphs_and_reports_why(tmp_path: Path) -> None:
    config = config_of("trainer.cuda_graphs=auto", "loss=softmax", "data=demo_nli", "trainer.max_steps=3")
    outcome, _ = trained(config, tmp_path)
    assert outcome.captured.startswith("none: loss=softmax has weights of its own")


@pytest.mark.parametrize(("word", "fails"), [("auto", False), ("true", True)])
def test_a_step_whose_capture_fails_is_trained_eagerly_or_fails_the_trial_if_graphs_are_required(
    word: str, fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    whole = CoSENTLoss.compute_loss_from_embeddings

    def synchronising(self: Any, embeddings: Any, labels: Any) -> Any:
        labels.sum().item()
        return whole(self, embeddings, labels)

    monkeypatch.setattr(CoSENTLoss, "compute_loss_from_embeddings", synchronising)
    config = config_of(f"trainer.cuda_graphs={word}", "trainer.max_steps=3")
    if fails:
        with pytest.raises(TrialError, match="cannot be captured"):
            trained(config, tmp_path)
    else:
        outcome, _ = trained(config, tmp_path)
        assert outcome.captured.startswith("none: a step cannot be captured")
