"""Detect a diverged training: losses or gradients that are not finite. Imports torch.

A trial that diverges fails for good: training it again gives the same result.
"""

from __future__ import annotations

import math

import torch

from embedsweep.errors import TrialError

CHECK_EVERY = 16
"""Optimizer steps after which values on a GPU are read, for which it is waited; values on a CPU are read at once."""

MAX_FP16_OVERFLOWS = 40
"""Steps in a row in which fp16 gradients may overflow. Each time, the loss scale, 65,536 at first, is halved and the
step is skipped, until the scale fits. After 40 steps it is 6e-8: what still overflows then is not a matter of scale."""


class DivergenceCheck:
    """Check every loss and every gradient of a training, and raise as soon as one is not finite.

    Values on a GPU stay there and are read every few steps, so that no step waits for them; the message names the step
    in which they were computed.

    Args:
        fp16: whether gradients are scaled, so that some may overflow.
    """

    def __init__(self, *, fp16: bool) -> None:
        self.step = 1
        """The current optimizer step."""
        self._loss = _Series("the training loss", tolerated=0)
        self._gradient = _Series("the norm of the gradient", tolerated=MAX_FP16_OVERFLOWS if fp16 else 0)

    def check_loss(self, value: torch.Tensor) -> None:
        """Check the loss of a batch, or of a part of one.

        Raises:
            TrialError: it is not finite.
        """
        self._loss.add(value.detach(), self.step)

    def check_gradient(self, norm: torch.Tensor | float) -> None:
        """Check the norm of the gradient before an optimizer step.

        Raises:
            TrialError: it is not finite, with fp16 too many times in a row.
        """
        self._gradient.add(torch.as_tensor(norm), self.step)

    def check_pending(self) -> None:
        """Check the values that a GPU has computed since the last call.

        Raises:
            TrialError: a loss or gradient was not finite.
        """
        self._loss.check_pending()
        self._gradient.check_pending()


class _Series:
    """Values of one kind in order; raises when more of them in a row than tolerated are not finite."""

    def __init__(self, name: str, tolerated: int) -> None:
        self._name = name
        self._tolerated = tolerated
        self._n_in_a_row = 0
        self._pending: list[tuple[int, torch.Tensor]] = []
        """Values ``()`` still on a device, with their steps."""

    def add(self, value: torch.Tensor, step: int) -> None:
        if value.device.type == "cpu":
            self._check(step, value.item())
        else:
            self._pending.append((step, value))

    def check_pending(self) -> None:
        if not self._pending:
            return
        steps, values = zip(*self._pending, strict=True)
        self._pending.clear()
        for step, number in zip(steps, torch.stack(values).tolist(), strict=True):
            self._check(step, number)

    def _check(self, step: int, number: float) -> None:
        self._n_in_a_row = 0 if math.isfinite(number) else self._n_in_a_row + 1
        if self._n_in_a_row > self._tolerated:
            how_often = f", for {self._tolerated + 1} steps in a row" if self._tolerated else ""
            raise TrialError(f"{self._name} became {number} at step {step}{how_often}")
