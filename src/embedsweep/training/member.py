"""A process of a training group: ``python -m embedsweep.training.member``, started by :class:`TrainingGroup`.

It trains its share of every batch: the steps of a trial up to the end of its training. It records nothing.
"""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path

from embedsweep.config.result import Decision
from embedsweep.data import load_splits
from embedsweep.errors import first_line
from embedsweep.machine import is_out_of_memory, prepare_process
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.data import training_parts
from embedsweep.training.folder import train_log
from embedsweep.training.group import Done, Evaluated, Failed, Order, Progressed, Trained

ORPHANED_AFTER_S = 1.0


def main() -> None:
    """Trains what the leader orders, until the leader closes the connection or is gone."""
    line, leader, store, stuck_s = _Line(int(sys.argv[1])), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
    threading.Thread(target=_end_with, args=(leader, store), daemon=True).start()
    prepare_process("cpu")  # which GPU it has was settled when it was started
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        _join(rank, size, store, stuck_s)
        while True:
            order = line.hear()
            assert isinstance(order, Order)
            _train(order, line, rank, size)
            line.tell(Done())
    except Exception as error:
        line.tell(_failure(error))
        # The others' errors would come of this one's end, and be heard first.
        time.sleep(stuck_s)


class _Line:
    """The connection to the leader; without one this process ends at once.

    Shutting torch down takes seconds, in which the leader's successor may begin to train in the same folder. Errors of
    this connection are not those of the training, which may be of the same type.

    Args:
        number: of the open file that the leader gave.
    """

    def __init__(self, number: int) -> None:
        self._connection = Connection(number)

    def tell(self, message: object) -> None:
        try:
            self._connection.send(message)
        except ConnectionError:
            os._exit(1)

    def hear(self) -> object:
        try:
            return self._connection.recv()
        except (EOFError, ConnectionError):
            os._exit(1)


def _end_with(leader: int, store: str) -> None:
    """Ends this process when its leader is gone: it may wait for the others in a call that nothing else ends."""
    while os.getppid() == leader:
        time.sleep(ORPHANED_AFTER_S)
    shutil.rmtree(Path(store).parent, ignore_errors=True)  # the leader's own, who was killed
    os._exit(1)


def _join(rank: int, size: int, store: str, stuck_s: float) -> None:
    """Enters the group; before accelerate does, which on CPUs would wait for a lost member for ever."""
    if platform.system() == "Linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all are on this machine
    import torch

    on_gpu = torch.cuda.is_available() and os.environ["LOCAL_RANK"] == "0" and "CUDA_VISIBLE_DEVICES" in os.environ
    torch.distributed.init_process_group(
        "nccl" if on_gpu else "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=stuck_s),
    )


def _train(order: Order, line: _Line, rank: int, size: int) -> None:
    from transformers import set_seed

    from embedsweep.models import build_model, count_tokens, torch_device
    from embedsweep.training.train import Training, train_share

    config = order.config
    name = "train.log" if rank == 0 else f"train-{rank}.log"
    with train_log(order.folder / name):
        splits = load_splits(config.data, config.evaluation)
        set_seed(config.trainer.seed)
        model = build_model(config.model, torch_device(config.trainer.device))
        parts = training_parts(config, splits, lambda texts: count_tokens(model, texts))
        checkpoints, listener = Checkpoints(order.folder / CHECKPOINTS), _Leader(line, rank)
        training = Training(config, model, parts, checkpoints, listener, is_resumable=True, processes=size)
        train_share(training)


class _Leader:
    """The leader, as the watcher of the training: the first member tells, all ask for decisions."""

    def __init__(self, line: _Line, rank: int) -> None:
        self._line = line
        self._tells = rank == 0

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        if self._tells:
            self._line.tell(Trained(tuple(points)))

    def on_progress(self, step: int, total: int) -> None:
        if self._tells:
            self._line.tell(Progressed(step, total))

    def on_evaluation(self, step: int, metrics: Mapping[str, float], *, last: bool) -> Decision:
        self._line.tell(Evaluated(step, dict(metrics), last))
        decision = self._line.hear()
        assert isinstance(decision, Decision)
        return decision


def _failure(error: Exception) -> Failed:
    """An error as it can be told to another process."""
    import torch

    trace = "".join(traceback.format_exception(error))
    # gloo raises plain RuntimeErrors, which begin with the place in its source.
    lost = isinstance(error, torch.distributed.DistError) or "gloo/" in str(error)
    if is_out_of_memory(error):
        return Failed(MemoryError(first_line(error)), trace, lost=False)  # whatever it was, and came of
    try:
        told: Exception | None = pickle.loads(pickle.dumps(error))
    except Exception:
        told = None
    return Failed(told, trace, lost)


if __name__ == "__main__":
    main()
