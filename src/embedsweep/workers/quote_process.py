"""A process of a quote: ``python -m embedsweep.workers.quote_process DEVICE PROCESSES``, which is sent a `QuoteOrder`.

It runs the first steps of one trial of each kind as a worker would, and sends what they took. Nothing is recorded.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from embedsweep.config.result import Decision, TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.errors import first_line
from embedsweep.machine import end_at_once, free_device_memory, peak_ram_gib, prepare_process, training_gpus
from embedsweep.processes import ParentChannel
from embedsweep.secrets import redact
from embedsweep.study.quote import GIB, Timing
from embedsweep.tracking.records import Record
from embedsweep.tracking.runs import TrialTracker
from embedsweep.training.built_models import BuiltModels
from embedsweep.training.checkpoints import CHECKPOINTS, Checkpoints
from embedsweep.training.group import TrainingGroup, open_group
from embedsweep.training.steps import count_evaluations
from embedsweep.training.trial import TrialSetup, run_trial
from embedsweep.training.warm_up import warm_up
from embedsweep.workers.job import QuoteOrder

if TYPE_CHECKING:
    from embedsweep.evaluation.dev import ScoredOnce

STEPS, GPU_STEPS = 12, 60
"""Optimizer steps that are timed of each kind; a GPU captures some of its first steps."""

FEWEST, ENOUGH_S = 4, 8.0
"""On a CPU a slow model is timed for fewer steps, as many as take this long, but not fewer than so many."""

REPEATED_FROM_S = 3.0
"""Scoring dev that takes so long is timed once for each model and data: neither loss nor batch size changes it."""

PARTS = 4
"""Parts of these steps; the first one is not counted."""

READY, BEGUN, TIMED, FAILED = "ready", "begun", "timed", "failed"
"""Names of the messages. `BEGUN` comes with a kind's index, `TIMED` and `FAILED` with a timing or a reason, too."""


class Unrecorded(TrialTracker):
    """The run of a trial of which nothing is recorded."""

    def __init__(self) -> None:
        self.run_id = ""
        self._tags, self._data_sets = {}, {}

    def _write(self, record: Record) -> None:
        pass


def main() -> int:
    """Time one trial of each kind; return 0."""
    device, processes = sys.argv[1], int(sys.argv[2])
    channel = ParentChannel()
    end_at_once()
    with open_group(processes, device) as group:  # assigns this worker's GPUs
        prepare_process(device)  # before torch is imported
        warm_up(device)
        channel.send((READY,))
        order = channel.receive()
        assert isinstance(order, QuoteOrder)
        threading.Thread(target=_end_with_parent, args=(channel,), daemon=True).start()
        time_each(order, device, group, channel.send)
    return 0


def time_each(
    order: QuoteOrder, device: str, group: TrainingGroup | None, send: Callable[[tuple[object, ...]], None]
) -> None:
    """Time one trial of each kind, and send when it begins and what it took.

    What a worker or a whole sweep does once is not counted: loading libraries and data, mining negatives, scoring the
    untrained model. The first kind of each model and data trains a step before it is timed.
    """
    from embedsweep.evaluation.dev import ScoredOnce
    from embedsweep.losses.nesting import dims

    models, known = BuiltModels(), dict[str, tuple[float, ScoredOnce | None]]()
    for index, config in order.configs.items():
        send((BEGUN, index))
        try:
            key = repr((config.model, config.data, config.evaluation, dims(config.loss)))
            size = config.dataloader.batch_size
            if key not in known:
                # The processes of a group score dev themselves, each time.
                evaluator = ScoredOnce(REPEATED_FROM_S) if group is None else None
                known[key] = time_trial(config, order, models, group, 1, evaluator).step_s / size, evaluator
            if order.mixes_models:
                models.drop()
            example_s, evaluator = known[key]
            steps = steps_of(device, example_s * size)
            send((TIMED, index, time_trial(config, order, models, group, steps, evaluator)))
        except Exception as error:
            logging.getLogger(__name__).exception("a trial failed")
            send((FAILED, index, redact(first_line(error))))
        free_device_memory()


def _end_with_parent(channel: ParentChannel) -> None:
    channel.wait_for_end()
    os._exit(0)


def steps_of(device: str, step_s: float) -> int:
    """Return how many optimizer steps of each kind are timed.

    Args:
        device: ``trainer.device``.
        step_s: seconds of a step, from the first one of this model on its data.
    """
    return GPU_STEPS if training_gpus(device) else max(FEWEST, min(STEPS, int(ENOUGH_S / step_s)))


def time_trial(
    config: TrialConfig,
    order: QuoteOrder,
    models: BuiltModels,
    group: TrainingGroup | None,
    steps: int,
    evaluator: ScoredOnce | None,
) -> Timing:
    """Train the first steps of a trial, evaluate it once, and return what that took.

    Args:
        config: the trial.
        order: what all trials share.
        models: keeps the model for the next trial, as in a worker.
        group: the processes that train the trial together; None trains it in this one.
        steps: optimizer steps to train; a shorter trial is trained to its end.
        evaluator: scores dev of this model and data, as often as it needs; None scores it each time.
    """
    marks, folder = _Marks(), order.folder / "trial"
    trainer = replace(config.trainer, eval_every=float(steps), log_every=float(max(1, steps // PARTS)))
    # With an evaluator, scoring the untrained model is added below, for a model that each trial builds anew.
    evaluation = replace(config.evaluation, before=config.evaluation.before and evaluator is None)
    setup = TrialSetup(
        replace(config, rungs=(), trainer=trainer, evaluation=evaluation),
        folder,
        Unrecorded(),
        lambda _step, _metrics: Decision.PRUNE,
        marks.set,
        order.emissions,
        single=False,
        allocation=order.allocation,
        group=group,
        models=models,
        keeps_model=lambda _: False,
        make_evaluator=evaluator.of if evaluator is not None else None,
    )
    saved_s = evaluator.saved_s if evaluator is not None else 0.0
    begun = time.monotonic()
    try:
        result = run_trial(setup)
        eval_s, step_s = result.eval_s or 0.0, marks.step_s(result)
        fixed_s = max(0.0, time.monotonic() - begun - eval_s - result.steps * step_s)
        if evaluator is not None:
            eval_s += evaluator.saved_s - saved_s
            if config.evaluation.before and (order.mixes_models or config.model.lora.rank is not None):
                fixed_s += evaluator.seconds
        return Timing(
            steps=marks.total,
            step_s=step_s,
            eval_s=eval_s,
            fixed_s=fixed_s,
            evaluations=count_evaluations(config, marks.total),
            kwh_per_s=result.emissions.energy_kwh / result.emissions.duration_s,
            co2eq_kg_per_s=result.emissions.co2eq_kg / result.emissions.duration_s,
            ram_bytes=int(peak_ram_gib() * GIB),
            gpu_gib=result.peak_memory_gib,
            checkpoint_bytes=Checkpoints(folder / CHECKPOINTS).size,
            model_bytes=sum(file.stat().st_size for file in (folder / CHECKPOINTS).rglob("model.safetensors")),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Marks:
    """When a trial came to its steps.

    Attributes:
        total: how many steps the whole trial has.
        times: step -> when it was done, by the monotonic clock.
    """

    total: int = 0
    times: dict[int, float] = field(default_factory=dict)

    def set(self, step: int, total: int) -> None:
        """Mark that a step of all is done."""
        self.total = total
        self.times.setdefault(step, time.monotonic())

    def step_s(self, result: TrialResult) -> float:
        """Return the seconds of a step, without those before the first mark if there are several."""
        (first, since), (last, until) = min(self.times.items()), max(self.times.items())
        return (until - since) / (last - first) if last > first else (result.train_s or 0.0) / result.steps


if __name__ == "__main__":
    sys.exit(main())
