"""What a CUDA device alone can show of captured steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import TrialConfig
from embedsweep.errors import TrialError
from embedsweep.losses.nesting import not_captured
from embedsweep.losses.table import LOSSES
from embedsweep.training.built_models import BuiltModels
from embedsweep.training.cuda_graphs import GraphMemory, StepGraphs
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.loss_cases import batch, built, fresh_model, loss_config
from tests.training.cases import RecordingListener, crashing_at, train_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CAPTURED = [name for name in LOSSES if not_captured(loss_config(name, Path("other"))) is None]


def dropping(model: SentenceTransformer, p: float) -> SentenceTransformer:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p
    return model.train()


def on_device(features: list[dict[str, Any]]) -> dict[str, Any]:
    """One mapping of all columns, padded to one length, as the trainer has it."""
    longest = max(column["input_ids"].shape[1] for column in features)
    return {
        f"{number}_{key}": torch.nn.functional.pad(value, (0, longest - value.shape[1])).cuda()
        for number, column in enumerate(features)
        for key, value in column.items()
        if isinstance(value, torch.Tensor)
    }


def compute_with(loss: torch.nn.Module, n_columns: int, autocast: bool) -> Callable[[dict[str, Any]], torch.Tensor]:
    def compute(given: dict[str, Any]) -> torch.Tensor:
        columns = [
            {key.partition("_")[2]: value for key, value in given.items() if key.startswith(f"{number}_")}
            for number in range(n_columns)
        ]
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            value: torch.Tensor = loss(columns, given.get("label"))
        return value.float()

    return compute


def backward(loss: torch.Tensor) -> float:
    """Its value; the graph of it is gone, as after a trainer's step."""
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item()


def gradients(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: p.grad.double().clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("autocast", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("merge", [False, True], ids=["apart", "merged"])
@pytest.mark.parametrize("name", CAPTURED)
def test_the_gradient_of_a_replayed_step_is_the_eager_one(
    name: str, merge: bool, autocast: bool, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    if LOSSES[name].other_model is not None:
        from tests.loss_cases import write_other_model

        write_other_model(other)
    config = loss_config(name, other)
    model = dropping(fresh_model().cuda(), 0.0)
    loss = built(config, model, merge_columns=merge).cuda()
    features, labels = batch(config, model)
    given = on_device(features) | ({} if labels is None else {"label": labels.cuda()})
    compute = compute_with(loss, len(features), autocast)
    expected_loss = backward(compute(dict(given)))
    expected = gradients(model)
    model.zero_grad()

    graphs = StepGraphs(GraphMemory(tuple(model.parameters())), 0.0)
    for _ in range(3):  # captured, and replayed twice
        value, norm = graphs.step(given, compute)
        found = gradients(model)
        model.zero_grad()
    assert len(graphs) == 1
    noise = 2e-2 if autocast else 2e-5
    assert found.keys() == expected.keys()
    assert abs(value.item() - expected_loss) <= noise * max(1.0, abs(expected_loss))
    whole = torch.cat([grad.flatten() for grad in expected.values()])
    apart = torch.cat([(found[key] - grad).flatten() for key, grad in expected.items()])
    assert apart.norm() <= noise * whole.norm()
    assert abs(norm.item() - whole.norm().item()) <= noise * whole.norm().item()


def test_a_batch_of_another_shape_has_a_graph_of_its_own_and_gradients_do_not_mix() -> None:
    model = dropping(fresh_model().cuda(), 0.0)
    config = loss_config("cosent", Path("none"))
    loss = built(config, model)
    features, labels = batch(config, model)
    assert labels is not None
    whole = on_device(features) | {"label": labels.cuda()}
    half = {key: value[:4] for key, value in whole.items()}
    compute = compute_with(loss, 2, autocast=False)
    graphs = StepGraphs(GraphMemory(tuple(model.parameters())), 0.0)
    for given in (whole, half, whole, half):
        graphs.step(given, compute)
        found = gradients(model)
        model.zero_grad()
        backward(compute(dict(given)))
        expected = gradients(model)
        model.zero_grad()
        for key, grad in expected.items():
            torch.testing.assert_close(found[key], grad, rtol=1e-3, atol=1e-6)
    assert len(graphs) == 2


def test_a_replayed_step_clips_its_gradient_and_tells_the_norm_before() -> None:
    model = dropping(fresh_model().cuda(), 0.0)
    config = loss_config("cosent", Path("none"))
    loss = built(config, model)
    features, labels = batch(config, model)
    assert labels is not None
    given = on_device(features) | {"label": labels.cuda()}
    compute = compute_with(loss, 2, autocast=False)
    memory = GraphMemory(tuple(model.parameters()))
    _, whole = StepGraphs(memory, 0.0).step(given, compute)
    _, told = StepGraphs(memory, whole.item() / 2).step(given, compute)
    left = torch.cat([grad.flatten() for grad in gradients(model).values()]).norm()
    torch.testing.assert_close(told, whole, rtol=1e-4, atol=0)
    assert abs(left.item() - whole.item() / 2) < 1e-3 * whole.item()


def test_dropout_is_drawn_anew_by_each_replay_and_goes_on_from_the_generator() -> None:
    model = dropping(fresh_model().cuda(), 0.3)
    config = loss_config("cosent", Path("none"))
    loss = built(config, model)
    features, labels = batch(config, model)
    assert labels is not None
    given = on_device(features) | {"label": labels.cuda()}
    compute = compute_with(loss, 2, autocast=False)
    torch.cuda.manual_seed(5)
    graphs = StepGraphs(GraphMemory(tuple(model.parameters())), 0.0)
    first = [graphs.step(given, compute)[0].item() for _ in range(3)]
    assert len(set(first)) == 3
    torch.cuda.manual_seed(5)  # replays of a graph that is there draw what the capture and its replays drew
    assert [graphs.step(given, compute)[0].item() for _ in range(3)] == first


def config_of(*words: str) -> TrialConfig:
    return pass_single(["data.limit=192", "trainer.cuda_graphs=true", *words]).config


def trained(
    config: TrialConfig, folder: Path, models: BuiltModels | None = None, listener: RecordingListener | None = None
) -> tuple[Outcome, SentenceTransformer]:
    built = (models or BuiltModels()).get(config)
    return train_config(config, folder, listener, built=built, change_model=lambda model: dropping(model, 0.1))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_on_graphs_that_were_captured_before_equals_one_on_new_graphs(
    precision: str, tmp_path: Path
) -> None:
    words = [f"trainer.precision={precision}", "dataloader.batch_size=16"]
    models = BuiltModels()
    trained(config_of(*words, "optimizer.lr=1e-2", "trainer.seed=1"), tmp_path / "first", models)
    outcome, model = trained(config_of(*words), tmp_path / "second", models)
    alone, fresh = trained(config_of(*words), tmp_path / "alone")
    assert "padded to" in outcome.captured
    assert outcome.dev == alone.dev
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_training_in_graphs_scores_like_an_eager_one(tmp_path: Path) -> None:
    graphed, _ = trained(config_of(), tmp_path / "graphed")
    eager, _ = trained(config_of("trainer.cuda_graphs=false"), tmp_path / "eager")
    assert eager.captured == "none: trainer.cuda_graphs=false"
    assert abs(graphed.dev["dev/spearman_cosine"] - eager.dev["dev/spearman_cosine"]) < 0.03


def test_a_training_in_graphs_that_is_resumed_equals_an_undisturbed_one(tmp_path: Path) -> None:
    config = config_of("dataloader.batch_size=16", "trainer.eval_every=5")
    undisturbed, model = trained(config, tmp_path / "whole")
    with pytest.raises(ConnectionError):
        trained(config, tmp_path / "cut", listener=crashing_at(15))
    resumed, again = trained(config, tmp_path / "cut")
    assert resumed.dev == undisturbed.dev
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_training_in_graphs_that_diverges_fails_within_a_few_steps(tmp_path: Path) -> None:
    config = config_of("optimizer.warmup=0", "trainer.max_steps=60")
    with pytest.raises(TrialError, match=r"became nan at step \d$"):
        trained(replace(config, optimizer=replace(config.optimizer, lr=1e6)), tmp_path)


def test_a_loss_that_cannot_be_captured_trains_without_graphs_and_says_why(tmp_path: Path) -> None:
    config = config_of("trainer.cuda_graphs=auto", "loss=softmax", "data=demo_nli", "trainer.max_steps=3")
    outcome, _ = trained(config, tmp_path)
    assert outcome.captured.startswith("none: loss=softmax has weights of its own")


@pytest.mark.parametrize(("word", "fails"), [("auto", False), ("true", True)])
def test_a_step_that_turns_out_not_to_be_capturable(
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
