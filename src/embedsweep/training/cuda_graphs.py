"""Forward and backward passes in CUDA graphs: captured once for each shape of a batch, then replayed.

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
"""Passes before a capture: libraries choose kernels and take workspaces in the first, gradients have their place in the
second."""

Compute = Callable[[dict[str, Any]], torch.Tensor]
"""A batch to its loss, a scalar; it may write to the mapping it is given."""


@dataclass(frozen=True)
class _Captured:
    """One captured pass.

    Attributes:
        inputs: what is copied to before a replay, by name.
        loss: what a replay leaves, a scalar.
        norm: that of the gradient before it was clipped, likewise.
        used: the parameters that have a gradient; the others must have none, or an optimizer would decay them.
        graph: the pass itself.
    """

    inputs: Mapping[str, torch.Tensor]
    loss: torch.Tensor
    norm: torch.Tensor
    used: tuple[nn.Parameter, ...]
    graph: torch.cuda.CUDAGraph


class CaptureError(Exception):
    """A pass cannot be captured; what was captured before over the same model is of no use any more."""


@dataclass
class GraphMemory:
    """What all graphs over one model share: they run one after another.

    Attributes:
        parameters: of the model, those that are trained.
        gradients: where each parameter's gradient is written; made at the first capture that writes it.
    """

    parameters: tuple[nn.Parameter, ...]
    gradients: dict[nn.Parameter, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.device = self.parameters[0].device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]


class StepGraphs:
    """The captured passes of one model and one loss without weights of its own.

    A gradient is written, not added to: one call is one optimizer step. Random numbers (dropout) go on from the
    device's generator as they do without graphs, so that a training that is resumed draws the same.

    Args:
        memory: shared with the other losses over the model.
        max_grad_norm: gradients are clipped to this norm; 0 leaves them alone.
    """

    def __init__(self, memory: GraphMemory, max_grad_norm: float) -> None:
        self._memory = memory
        self._max_norm = max_grad_norm or math.inf
        self._captured: dict[Hashable, _Captured] = {}

    def __len__(self) -> int:
        """How many shapes were captured."""
        return len(self._captured)

    def step(self, batch: Mapping[str, Any], compute: Compute) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss of a batch and the norm of its gradient, which is left, clipped, in the parameters' ``grad``.

        Args:
            batch: tensors on the device, copied into those that the graph reads, and whatever else ``compute`` takes.
            compute: the loss of a batch; called only where the batch's shape is new.

        Raises:
            CaptureError: the pass cannot be captured.
            RuntimeError: it cannot be computed at all, as memory does not do.
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
        drawn, stream = torch.cuda.get_rng_state(memory.device), torch.cuda.current_stream(memory.device)
        try:
            used = self._warm_up({**batch, **inputs}, compute)
            gradients = [memory.gradients[parameter] for parameter in used]
            torch.cuda.set_rng_state(drawn, memory.device)
            graph = torch.cuda.CUDAGraph()
            try:
                # Other threads (who writes a checkpoint) may use the device meanwhile.
                with torch.cuda.graph(graph, pool=memory.pool, stream=memory.stream, capture_error_mode="thread_local"):
                    torch._foreach_zero_(gradients)
                    loss = compute({**batch, **inputs})
                    loss.backward()  # type: ignore[no-untyped-call]
                    norm = torch.nn.utils.clip_grad_norm_(used, self._max_norm)
                    loss = loss.detach()
            except Exception as error:
                torch.cuda.set_stream(stream)
                _leave_capture(memory.device, drawn)
                cause = _first(error)
                if is_out_of_memory(cause):
                    raise cause from None
                raise CaptureError(first_line(cause)) from error
        finally:
            _forget_gradients(memory.parameters)
        return _Captured(inputs, loss, norm, used, graph)

    def _warm_up(self, batch: Mapping[str, Any], compute: Compute) -> tuple[nn.Parameter, ...]:
        """Runs the pass before it is captured, on the capture's stream; the parameters that it has a gradient for."""
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
    """What a graph depends on: shapes and kinds of tensors, and the values of all else."""
    return tuple(
        (name, tuple(value.shape), value.dtype) if isinstance(value, torch.Tensor) else (name, repr(value))
        for name, value in sorted(batch.items())
    )


def _forget_gradients(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def _first(error: BaseException) -> BaseException:
    """What went wrong first: that a capture has failed is told again when it ends."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _leave_capture(device: torch.device, drawn: torch.Tensor) -> None:
    """Gives the device a new generator: that of a capture which failed believes that it still captures."""
    generator = torch.Generator(device)
    generator.set_state(drawn)
    torch.cuda.default_generators[torch.cuda.current_device()].graphsafe_set_state(generator)
