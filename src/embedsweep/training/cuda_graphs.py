"""Capture forward and backward passes in CUDA graphs, once for each shape of a batch, and replay them.

A small encoder's step is hundreds of kernels of a few microseconds; launching them one by one takes several times as
long as running them. A replay launches all at once. Imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from embedsweep.errors import first_line
from embedsweep.machine import is_out_of_memory

WARM_UPS = 2
"""Passes before a capture: libraries choose kernels and allocate workspaces in the first, gradients have their place in
the second."""

Compute = Callable[[dict[str, Any]], torch.Tensor]
"""Computes the loss of a batch, a scalar; it may write to the mapping."""


@dataclass(frozen=True)
class _Captured:
    """One captured pass.

    Attributes:
        inputs: tensors that a batch is copied to before a replay, by name.
        loss: the loss that a replay computes, a scalar.
        norm: the norm of its gradient before clipping, a scalar.
        used: the parameters that have a gradient; the others must have none, or an optimizer would decay them.
        graph: the pass itself.
    """

    inputs: Mapping[str, torch.Tensor]
    loss: torch.Tensor
    norm: torch.Tensor
    used: tuple[nn.Parameter, ...]
    graph: torch.cuda.CUDAGraph


class CaptureError(Exception):
    """A pass cannot be captured; earlier captures over the same model can no longer be used."""


@dataclass
class GraphMemory:
    """Memory that all graphs over one model share, as they run one after another.

    Attributes:
        parameters: the trained parameters of the model.
        gradients: where each parameter's gradient is written; allocated by the first capture that writes it.
    """

    parameters: tuple[nn.Parameter, ...]
    gradients: dict[nn.Parameter, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.device = self.parameters[0].device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]


class StepGraphs:
    """The captured passes of one model and one loss without weights of its own.

    A gradient is written, not added to: one call is one optimizer step. Random numbers (dropout) are drawn from the
    device's generator as without graphs, so that a resumed training draws the same.

    Args:
        memory: shared with the other losses over the model.
        max_grad_norm: gradients are clipped to this norm; 0 does not clip them.
    """

    def __init__(self, memory: GraphMemory, max_grad_norm: float) -> None:
        self._memory = memory
        self._max_norm = max_grad_norm or math.inf
        self._captured: dict[Hashable, _Captured] = {}

    def __len__(self) -> int:
        """Return how many shapes were captured."""
        return len(self._captured)

    def step(self, batch: Mapping[str, Any], compute: Compute) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss of a batch and the norm of its gradient, which is left, clipped, in the parameters' ``grad``.

        Args:
            batch: tensors on the device, copied into those that the graph reads, and whatever else ``compute`` takes.
            compute: computes the loss of a batch; called only if the batch's shape is new.

        Raises:
            CaptureError: the pass cannot be captured.
            RuntimeError: it cannot be computed at all, as memory is too small.
        """
        key = _key(batch)
        captured = self._captured.get(key)
        if captured is None:
            captured = self._captured[key] = self._capture(batch, compute)
        else:
            for name, place in captured.inputs.items():
                place.copy_(batch[name], non_blocking=True)
        captured.graph.replay()
        for parameter in captured.used:
            parameter.grad = self._memory.gradients[parameter]
        return captured.loss.clone(), captured.norm.clone()  # the next replay writes there

    def _capture(self, batch: Mapping[str, Any], compute: Compute) -> _Captured:
        memory = self._memory
        inputs = {name: value.clone() for name, value in batch.items() if isinstance(value, torch.Tensor)}
        random_state, stream = torch.cuda.get_rng_state(memory.device), torch.cuda.current_stream(memory.device)
        try:
            used = self._warm_up({**batch, **inputs}, compute)
            gradients = [memory.gradients[parameter] for parameter in used]
            torch.cuda.set_rng_state(random_state, memory.device)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads (the one that writes a checkpoint) may use the device meanwhile.
                with torch.cuda.graph(graph, pool=memory.pool, stream=memory.stream, capture_error_mode="thread_local"):
                    torch._foreach_zero_(gradients)
                    loss = compute({**batch, **inputs})
                    loss.backward()  # type: ignore[no-untyped-call]
                    norm = torch.nn.utils.clip_grad_norm_(used, self._max_norm)
                    loss = loss.detach()
            except Exception as error:
                torch.cuda.set_stream(stream)
                _leave_capture(memory.device, random_state)
                cause = _first(error)
                if is_out_of_memory(cause):
                    raise cause from None
                raise CaptureError(first_line(cause)) from error
        finally:
            _forget_gradients(memory.parameters)
        return _Captured(inputs, loss, norm, used, graph)

    def _warm_up(self, batch: Mapping[str, Any], compute: Compute) -> tuple[nn.Parameter, ...]:
        """Run the pass before it is captured, on the capture's stream; return the parameters that get a gradient."""
        memory = self._memory
        memory.stream.wait_stream(torch.cuda.current_stream(memory.device))
        used: tuple[nn.Parameter, ...] = ()
        with torch.cuda.stream(memory.stream):
            _forget_gradients(memory.parameters)
            for _ in range(WARM_UPS):
                compute(dict(batch)).backward()  # type: ignore[no-untyped-call]
                used = tuple(parameter for parameter in memory.parameters if parameter.grad is not None)
                for parameter in used:
                    place = memory.gradients.get(parameter)
                    if place is None:
                        place = memory.gradients[parameter] = torch.zeros_like(parameter)
                    parameter.grad = place
        torch.cuda.current_stream(memory.device).wait_stream(memory.stream)
        return used


def _key(batch: Mapping[str, Any]) -> Hashable:
    """Return what a graph depends on: shapes and types of tensors, and the values of everything else."""
    return tuple(
        (name, tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else (name, repr(value))
        for name, value in sorted(batch.items())
    )


def _forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _first(error: BaseException) -> BaseException:
    """Return the first error: when a capture ends, its failure is raised once more."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _leave_capture(device: torch.device, random_state: torch.Tensor) -> None:
    """Give the device a new generator: that of a failed capture still counts as capturing."""
    generator = torch.Generator(device)
    generator.set_state(random_state)
    torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(generator)
