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
from pathlib import Path
from typing import Any

from embedsweep.config.result import Decision
from embedsweep.data.load import load_splits
from embedsweep.errors import Interrupted, first_line
from embedsweep.machine import is_out_of_memory, prepare_process
from embedsweep.processes import ALIVE_S, ParentChannel, at_most_every
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.data import training_parts
from embedsweep.training.folder import train_log
from embedsweep.training.group import Alive, Done, Evaluation, Failed, Metrics, Order, Progress, Stopped
from embedsweep.training.stopping import MemberStop

LEADER_POLL_S = 1.0


def main() -> None:
    """Train what the leader orders, until the leader closes the connection or is gone."""
    leader, store, stuck_s = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    channel = ParentChannel()
    stop = MemberStop()
    threading.Thread(target=_end_with, args=(leader, store), daemon=True).start()
    prepare_process("cpu")  # its GPU was assigned when it was started
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        _join(rank, size, store, stuck_s)
        stop.join()
        while True:
            order = _receive(channel)
            assert isinstance(order, Order)
            try:
                _train(order, channel, rank, size, stop)
                channel.send(Done())
            except Interrupted:
                channel.send(Stopped())
    except Exception as error:
        channel.send(_failure(error))
        # If this process ended, the others' errors would be reported first.
        time.sleep(stuck_s)


def _receive(channel: ParentChannel) -> Any:
    """Return the leader's next message; end this process at once if the leader has closed the connection.

    Shutting torch down takes seconds, in which the leader's successor may start to train in the same folder.
    """
    try:
        return channel.receive()
    except EOFError:
        os._exit(1)


def _end_with(leader: int, store: str) -> None:
    """End this process when its leader is gone: it may wait for the others in a call that nothing else ends."""
    while os.getppid() == leader:
        time.sleep(LEADER_POLL_S)
    shutil.rmtree(Path(store).parent, ignore_errors=True)  # of the leader, which was killed
    os._exit(1)


def _join(rank: int, size: int, store: str, stuck_s: float) -> None:
    """Join torch's process group; if accelerate did it, on CPUs a lost member would be waited for without limit."""
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


def _train(order: Order, channel: ParentChannel, rank: int, size: int, stop: MemberStop) -> None:
    from transformers import set_seed

    from embedsweep.models.build import build_model, count_tokens, torch_device
    from embedsweep.training.train import Training, train_share

    config = order.config
    name = "train.log" if rank == 0 else f"train-{rank}.log"
    with train_log(order.folder / name):
        splits = load_splits(config.data, config.evaluation)
        set_seed(config.trainer.seed)
        model = build_model(config.model, torch_device(config.trainer.device))
        checkpoints, listener = Checkpoints(order.folder / CHECKPOINTS), _Leader(channel, rank)
        parts = training_parts(config, splits, lambda texts: count_tokens(model, texts), listener.on_alive)
        training = Training(config, model, parts, checkpoints, listener, is_resumable=True, processes=size, stop=stop)
        train_share(training)


class _Leader:
    """The leader as the listener of the training: the first member reports, all wait for decisions."""

    def __init__(self, channel: ParentChannel, rank: int) -> None:
        self._channel = channel
        self._reports = rank == 0
        self.on_alive = at_most_every(ALIVE_S, self._send_alive)

    def _send_alive(self) -> None:
        if self._reports:
            self._channel.send(Alive())

    def on_metrics(self, points: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        if self._reports:
            self._channel.send(Metrics(tuple(points)))

    def on_progress(self, step: int, total: int) -> None:
        if self._reports:
            self._channel.send(Progress(step, total))

    def on_evaluation(self, step: int, metrics: Mapping[str, float]) -> Decision:
        self._channel.send(Evaluation(step, dict(metrics)))
        decision = _receive(self._channel)
        assert isinstance(decision, Decision)
        return decision


def _failure(error: Exception) -> Failed:
    """Return an error in a form that can be sent to another process."""
    import torch

    trace = "".join(traceback.format_exception(error))
    # gloo raises plain RuntimeErrors, which begin with the place in its source.
    lost = isinstance(error, torch.distributed.DistError) or "gloo/" in str(error)
    if is_out_of_memory(error):
        return Failed(MemoryError(first_line(error)), trace, lost=False)  # whatever its class and cause
    try:
        sent: Exception | None = pickle.loads(pickle.dumps(error))
    except Exception:
        sent = None
    return Failed(sent, trace, lost)


if __name__ == "__main__":
    main()
