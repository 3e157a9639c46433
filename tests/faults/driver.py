"""``embedsweep train`` with one fault in it, for a child process of a test.

    python driver.py ACTION PLACE train-words...

ACTION is what happens, once: ``kill``, ``int``, ``term`` (the signal, sent to this very process), ``raise``,
``wait`` (so that another process meets this one there), ``memory`` (out of memory), ``full`` (from then on no file may
grow beyond a small size) or ``offline`` (nothing outside this machine can be reached).
PLACE is where:

    start          before anything else
    count          the trials were counted, and the next is about to be added (grids only)
    ask            Optuna was asked for a trial, and its lease taken
    run            its MLflow run was created, but the study does not have its id yet
    step:7         after an optimizer step, whichever trial comes to it first
    dev:8          while dev is scored after an optimizer step
    checkpoint:9   while the checkpoint of a step is written; half of a file is there
    sealed:9       once the checkpoint of a step is complete
    sent:8         once the checkpoint of a step, or a later one, is in S3
    tell           the trial is recorded in MLflow; Optuna has not been told
    told           Optuna has just been told
    final          a trial of the finals is recorded in MLflow; Optuna has not been told
    answer         the answer of the study is computed, and not kept yet
    look           test was looked at and this was noted; the scores are not kept yet
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIGNALS = {"kill": signal.SIGKILL, "int": signal.SIGINT, "term": signal.SIGTERM}
WAIT_S = 10.0
SMALL_FILE = 8192
LOCAL = ("127.0.0.1", "::1", "localhost")


def main() -> int:
    """Run the command with its fault; return the command's exit code."""
    action, place, *words = sys.argv[1:]
    name, _, step = place.partition(":")
    _arm(name, int(step or 0), _once(action))
    from embedsweep.cli import main as command

    return command(["train", *words])


def _once(action: str) -> Callable[[], None]:
    happened = False

    def fault() -> None:
        nonlocal happened
        if happened:
            return
        happened = True
        if action == "raise":
            raise RuntimeError("provoked by a test")
        if action == "memory":
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory: provoked by a test")
        if action == "wait":
            time.sleep(WAIT_S)
        elif action == "full":
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE, resource.RLIM_INFINITY))
        elif action == "offline":
            _cut_off()
        else:
            os.kill(os.getpid(), SIGNALS[action])

    return fault


def _arm(place: str, step: int, fault: Callable[[], None]) -> None:
    if place == "start":
        fault()
        return
    if place == "step":
        from transformers.trainer_callback import CallbackHandler

        _after(CallbackHandler, "on_step_end", fault, lambda _, _args, state, _control: state.global_step == step)
        return
    if place == "dev":
        from sentence_transformers import SentenceTransformerTrainer

        _before(
            SentenceTransformerTrainer, "evaluation_loop", fault, lambda trainer, *_: trainer.state.global_step == step
        )
        return
    if place == "checkpoint":
        _tear_checkpoint(step, fault)
        return
    if place == "sealed":
        from embedsweep.training.checkpoints import Checkpoints

        _after(Checkpoints, "seal", fault, lambda _, sealed, *__: sealed == step)
        return
    if place == "count":
        import optuna

        _before(optuna.Study, "enqueue_trial", fault)
        return
    from embedsweep.study.study import Study

    def of_finals(study: Study, *_: object) -> bool:
        return study.is_finals

    arm = {
        "ask": lambda: _after(Study, "ask", fault),
        "run": lambda: _before(Study, "set_run", fault),
        "tell": lambda: _before(Study, "complete", fault),
        "sent": lambda: _after(Study, "note_sent", fault, lambda _, __, sent: sent >= step),
        "told": lambda: _after(Study, "complete", fault),
        "final": lambda: _before(Study, "complete", fault, of_finals),
        "answer": lambda: _before(Study, "set_answer", fault),
        "look": lambda: _after(Study, "add_look", fault),
    }
    arm[place]()


def _cut_off() -> None:
    """Refuse every connection to, and every name of, other machines."""
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in LOCAL:
            raise OSError(101, "Network is unreachable")
        connect(self, address)

    def look_up_locally(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in (*LOCAL, None):
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return look_up(host, *args, **kwargs)

    socket.socket.connect = refuse  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = look_up_locally


def _after(owner: type, name: str, fault: Callable[[], None], when: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        if when(*args):
            fault()
        return result

    setattr(owner, name, replaced)


def _before(owner: type, name: str, fault: Callable[[], None], when: Callable[..., bool] = lambda *_: True) -> None:
    original = getattr(owner, name)

    def replaced(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            fault()
        return original(*args, **kwargs)

    setattr(owner, name, replaced)


def _tear_checkpoint(step: int, fault: Callable[[], None]) -> None:
    """Write only half of the model's weights at ``step``, and none of the files that follow them."""
    from embedsweep.training.trainer import Trainer

    original = Trainer._save_optimizer_and_scheduler

    def replaced(trainer: Trainer, output_dir: str) -> None:
        original(trainer, output_dir)
        if trainer.state.global_step == step:
            weights = Path(output_dir, "model.safetensors")
            os.truncate(weights, weights.stat().st_size // 2)
            for name in ("optimizer.pt", "scheduler.pt"):
                Path(output_dir, name).unlink(missing_ok=True)
            fault()

    setattr(Trainer, "_save_optimizer_and_scheduler", replaced)  # noqa: B010  # a method, to mypy


if __name__ == "__main__":
    sys.exit(main())
