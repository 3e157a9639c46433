"""How a signal ends a training: after the step in which it comes, with a checkpoint of that step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from embedsweep.signals import Deferral

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Stop(Deferral):
    """A signal that waits until a training can stop; one that comes while dev is scored need not wait."""

    def is_due(self) -> bool:
        """Return whether a signal waits; the processes of a group call it at the same places, and get the same."""
        return self.signum is not None


class MemberStop(Stop):
    """The same in a process of a group, whose leader or whose scheduler sends SIGTERM to all of them.

    All stop after the same step. None ends a step or an evaluation early: the others would wait for it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._group: ProcessGroup | None = None
        signal.signal(signal.SIGTERM, self._note)

    def join(self) -> None:
        """Prepare to ask the others, in torch's process group: on CPUs, so that no step of a GPU is waited for."""
        from torch import distributed

        self._group = None if distributed.get_backend() == "gloo" else distributed.new_group(backend="gloo")

    def is_due(self) -> bool:
        """Return whether any process of the group was told to stop."""
        import torch

        told = torch.tensor(int(super().is_due()))
        torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(told)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Return a block without effect."""
        yield

    def _note(self, signum: int, _: FrameType | None) -> None:
        self.signum = signum
