"""Whether a training has diverged: losses or gradients that are no numbers, embeddings that are none or all alike.

Owns the checks and their words. A diverged trial has failed for good: training it again leads to the same. Knows
nothing of what a training is made of. Imports torch.
"""

from __future__ import annotations

import math

import torch

from embedsweep.errors import TrialError

LOOK_EVERY = 16
"""Optimizer steps after which a GPU is waited for to look at what it noted; a CPU's values are looked at at once."""

FP16_SKIPPED = 40
"""fp16 steps in a row that gradients may overflow in: the loss scale, 65,536 at first, is halved for each and the step
left out, which is how it finds its place. After 40 it is 6e-8, and what still overflows is no matter of scale."""


class Watch:
    """Sees every loss and every gradient of a training, and raises as soon as one is not a number.

    What a GPU computes stays there and is looked at every few steps, so that no step waits for it; the reason names the
    step it happened in all the same.

    Args:
        fp16: whether gradients are scaled, so that some may overflow.
    """

    def __init__(self, *, fp16: bool) -> None:
        self.step = 1
        """The optimizer step under way."""
        self._loss = _Series("the training loss", tolerated=0)
        self._gradient = _Series("the norm of the gradient", tolerated=FP16_SKIPPED if fp16 else 0)

    def saw_loss(self, value: torch.Tensor) -> None:
        """Is shown the loss of a batch, or of a part of one.

        Raises:
            TrialError: it is not a number.
        """
        self._loss.see(value.detach(), self.step)

    def saw_gradient(self, norm: torch.Tensor | float) -> None:
        """Is told the norm of the gradient before an optimizer step.

        Raises:
            TrialError: it is not a number, or was none too often.
        """
        self._gradient.see(torch.as_tensor(norm), self.step)

    def look(self) -> None:
        """Looks at what a GPU has computed since the last time.

        Raises:
            TrialError: a loss or gradient was not a number.
        """
        self._loss.look()
        self._gradient.look()


class _Series:
    """One kind of value, as it comes: where it was first not a number more often in a row than is tolerated."""

    def __init__(self, what: str, tolerated: int) -> None:
        self._what = what
        self._tolerated = tolerated
        self._in_a_row = 0
        self._unseen: list[tuple[int, torch.Tensor]] = []
        """Values that still lie on a device, each ``()``, with their steps."""

    def see(self, value: torch.Tensor, step: int) -> None:
        if value.device.type == "cpu":
            self._judge(step, value.item())
        else:
            self._unseen.append((step, value))

    def look(self) -> None:
        if not self._unseen:
            return
        steps, values = zip(*self._unseen, strict=True)
        self._unseen.clear()
        for step, number in zip(steps, torch.stack(values).tolist(), strict=True):
            self._judge(step, number)

    def _judge(self, step: int, number: float) -> None:
        self._in_a_row = 0 if math.isfinite(number) else self._in_a_row + 1
        if self._in_a_row > self._tolerated:
            often = f", for {self._tolerated + 1} steps in a row" if self._tolerated else ""
            raise TrialError(f"{self._what} became {number} at step {step}{often}")
