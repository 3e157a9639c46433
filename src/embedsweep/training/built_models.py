"""Keep the model that a process built last for the next trial that trains the same one.

Loading a small model, and capturing its steps on a GPU, takes longer than the steps of many trials. A kept model is
restored to the last bit as it was built: weights, random state, card, and nothing that a training attached to it.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from embedsweep.config.trial import TrialConfig
from embedsweep.machine import free_memory

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from embedsweep.training.graphed import ModelGraphs


@dataclass(frozen=True)
class RandomState:
    """State of all generators that a model's new layers, or a training, may be drawn from."""

    python: Any
    numpy: Any
    torch: Tensor
    cuda: list[Tensor]

    @classmethod
    def now(cls) -> RandomState:
        """Return the present state."""
        import torch

        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda)

    def restore(self) -> None:
        """Set all generators to this state."""
        import torch

        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)

    def equals(self, other: RandomState) -> bool:
        """Return whether generators in both states draw the same."""
        import torch

        numbers = all(np.array_equal(one, two) for one, two in zip(self.numpy[1:3], other.numpy[1:3], strict=True))
        ours, theirs = [self.torch, *self.cuda], [other.torch, *other.cuda]
        return self.python == other.python and numbers and all(map(torch.equal, ours, theirs))


@dataclass
class BuiltModel:
    """A model as it was built, and what was made over it.

    Attributes:
        model: trained in place by trials.
        graphs: steps captured over its weights.
        saver: a copy in main memory of a model on a GPU, from which checkpoints are written; None on a CPU, where
            writing and training compete for the same cores.
        before: dev scores of the model as it was built, by the configuration they depend on.
    """

    model: SentenceTransformer
    graphs: ModelGraphs
    saver: SentenceTransformer | None
    before: dict[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class _AsBuilt:
    """The state of a model when it was built.

    Attributes:
        key: identifies the configurations that build an equal model.
        weights: copies of its parameters and buffers in main memory, by name.
        identities: ``id`` of each module, parameter and buffer: a model of which one was replaced is another model.
        training: whether each of its modules was in training mode.
        forwards: names of the modules that had a ``forward`` of their own, not their class's.
        card: its card's data, without the model.
        state: the random state after it was built.
    """

    key: str
    weights: Mapping[str, Tensor]
    identities: Mapping[str, int]
    training: tuple[bool, ...]
    forwards: frozenset[str]
    card: Any
    state: RandomState


class BuiltModels:
    """Builds models and keeps the last one.

    A model with adapters is not kept: they are merged into it in the end.

    Args:
        keeps: whether there may be another trial; else nothing is kept.
    """

    def __init__(self, *, keeps: bool = True) -> None:
        self._keeps = keeps
        self._built: BuiltModel | None = None
        self._as_built: _AsBuilt | None = None

    def get(self, config: TrialConfig) -> BuiltModel:
        """Return the model of a trial as a new process would build it, and set the random state it would have then.

        The model of the previous trial must not be used any more.

        Args:
            config: the trial.

        Raises:
            TrialError: it cannot be built.
        """
        from transformers import set_seed

        set_seed(config.trainer.seed)  # for layers that the base model lacks; the trainer sets it again for itself
        if self._built is not None and self._as_built is not None:
            with_seed, without = _keys(config)
            if (
                self._as_built.key in (with_seed, without)
                and _identities(self._built.model) == self._as_built.identities
            ):
                _restore(self._built.model, self._as_built)
                if self._as_built.key == with_seed:
                    self._as_built.state.restore()
                self._built.graphs.refused = None
                return self._built
        self.drop()
        return self._build(config)

    def drop(self) -> None:
        """Discard the model: a training failed on it, or another one is needed."""
        if self._built is not None:
            self._built = self._as_built = None
            free_memory()  # a model refers to itself, and would exist beside the next one

    def _build(self, config: TrialConfig) -> BuiltModel:
        from embedsweep.models.build import build_model, torch_device
        from embedsweep.training.graphed import ModelGraphs

        before = RandomState.now()
        model = build_model(config.model, torch_device(config.trainer.device))
        built = BuiltModel(model, ModelGraphs(model), _saver(model))
        if self._keeps and config.model.lora.rank is None:
            state = RandomState.now()
            with_seed, without = _keys(config)
            key = without if state.equals(before) else with_seed
            weights = {name: value.detach().to("cpu", copy=True) for name, value in model.state_dict().items()}
            training = tuple(module.training for module in model.modules())
            self._built = built
            forwards = frozenset(name for name, module in model.named_modules() if "forward" in vars(module))
            self._as_built = _AsBuilt(key, weights, _identities(model), training, forwards, _card(model), state)
        return built


def _saver(model: SentenceTransformer) -> SentenceTransformer | None:
    device = model.device
    if device.type != "cuda":
        return None
    model.to("cpu")  # a copy on the GPU would need room beside it
    saver = copy.deepcopy(model)
    model.to(device)
    return saver


def _keys(config: TrialConfig) -> tuple[str, str]:
    """Return what a built model depends on: with the seed that new layers are drawn from, and without."""
    without = repr((config.model, config.trainer.device))
    return repr((without, config.trainer.seed)), without


def _identities(model: SentenceTransformer) -> dict[str, int]:
    modules = {f"module {name}": id(module) for name, module in model.named_modules()}
    return modules | {name: id(value) for name, value in model.state_dict(keep_vars=True).items()}


def _card(model: SentenceTransformer) -> Any:
    data = model.model_card_data
    owner, data.model = data.model, None
    try:
        return copy.deepcopy(data)
    finally:
        data.model = owner


def _restore(model: SentenceTransformer, built: _AsBuilt) -> None:
    import torch

    # Left by accelerate for mixed precision, and by losses that cut embeddings or skip layers.
    for name, module in model.named_modules():
        if name not in built.forwards:
            module.__dict__.pop("forward", None)
    for name in ("_original_forward", "_is_accelerate_prepared"):
        model.__dict__.pop(name, None)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(built.weights[name])
    model.zero_grad()
    for module, training in zip(model.modules(), built.training, strict=True):
        module.training = training
    model.model_card_data = copy.deepcopy(built.card)
    model.model_card_data.register_model(model)
