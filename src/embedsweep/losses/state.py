"""Weights of a loss's own: a classifier, a projection, a decoder, a second encoder.

The trainer's checkpoints hold the model and the optimizer's state of all weights, but not these weights themselves: a
training that goes on from one would go on with others. Owns which they are. Imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from embedsweep.errors import TrialError


def own_state(loss: nn.Module, model: nn.Module) -> dict[str, torch.Tensor]:
    """Name -> weights and buffers of ``loss`` that are not the model's and that training changes, copied to the CPU.

    Weights under several names (tied ones) are there once; frozen weights, as of a guide, are not. Empty for most.
    """
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in _own(loss, model).items()}


def load_own_state(loss: nn.Module, model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Puts back, in place, what :func:`own_state` gave.

    Raises:
        TrialError: ``state`` is of another loss: other names or shapes.
    """
    own = _own(loss, model)
    shapes = {name: tuple(tensor.shape) for name, tensor in own.items()}
    saved = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != saved:
        different = sorted(name for name in shapes.keys() | saved.keys() if shapes.get(name) != saved.get(name))
        raise TrialError(f"a checkpoint's weights of the loss are of another loss: {', '.join(different)}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _own(loss: nn.Module, model: nn.Module) -> dict[str, torch.Tensor]:
    seen = {id(tensor) for tensor in model.state_dict(keep_vars=True).values()}
    own: dict[str, torch.Tensor] = {}
    for name, tensor in loss.state_dict(keep_vars=True).items():
        frozen = isinstance(tensor, nn.Parameter) and not tensor.requires_grad
        if id(tensor) not in seen and not frozen:
            own[name] = tensor
        seen.add(id(tensor))
    return own
