"""How many steps a training has, and what they are worth; without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from embedsweep.config.training import rung_steps
from embedsweep.config.trial import TrialConfig
from embedsweep.data.convert import trained_shape
from embedsweep.losses.nesting import in_batch, shapes_of
from embedsweep.losses.rows import InBatch
from embedsweep.training.data import count_prepared, unprepared_parts
from embedsweep.training.micro_batches import loss_batch_size_of

MANY_EVALUATIONS = 200


def most_steps(config: TrialConfig, sizes: Sequence[int]) -> int:
    """Return the number of optimizer steps of a training.

    Examples that are left out for their tokens are counted. Batches without duplicate texts may be more; they are
    counted as if each had one example.

    Args:
        config: the trial.
        sizes: the number of examples of each dataset, as its loss takes them.
    """
    trainer, loader = config.trainer, config.dataloader
    if trainer.max_steps is not None:
        return trainer.max_steps
    size = 1 if loader.batch_sampler == "no_duplicates" else loss_batch_size_of(config)
    batches = [count // size if loader.drop_last else math.ceil(count / size) for count in sizes]
    takes_turns = loader.multi_dataset_batch_sampler == "round_robin"
    per_epoch = min(batches) * len(batches) if takes_turns else sum(batches)
    accumulated = loader.batch_size // loss_batch_size_of(config)
    return math.ceil(trainer.epochs * max(1, math.ceil(per_epoch / accumulated)))


def count_evaluations(config: TrialConfig, steps: int) -> int:
    """Return how often a training of so many optimizer steps is evaluated on dev: at intervals, at rungs, at its end.

    Early stopping and pruning may end it before.
    """
    every = config.trainer.eval_every
    interval = math.ceil(steps * every) if every < 1 else math.ceil(every)
    return len({*range(interval, steps + 1, interval), *rung_steps(config.rungs, steps), steps})


def training_warnings(config: TrialConfig) -> Iterator[str]:
    """Yield warnings about batches, warm-up and evaluations of a trial whose data can be read."""
    sizes: list[int] = []
    size, loader = loss_batch_size_of(config), config.dataloader
    for part in unprepared_parts(config):
        count = count_prepared(part)
        if not isinstance(count, int):
            return
        sizes.append(count)
        shape = trained_shape(part.data, shapes_of(part.loss), part.loss.name)
        compares = in_batch(part.loss) is not InBatch.INDEPENDENT and shape not in ("triplets", "tuples")
        is_left_over = loader.batch_sampler == "batch_sampler" and not loader.drop_last and count % size == 1
        if compares and is_left_over and part.data.max_tokens is None:
            yield (
                f"dataloader.drop_last: the last batch of {count} examples by {size} has only one, and its loss is 0, "
                f"since loss={part.loss.name} compares examples inside a batch: set it to true, or another batch size"
            )
    every, warmup, steps = config.trainer.eval_every, config.optimizer.warmup, most_steps(config, sizes)
    if warmup >= 1 and warmup > steps:
        yield (
            f"optimizer.warmup: {warmup:g} steps of warm-up are more than the {steps} of this training, so that the "
            f"rate never reaches optimizer.lr={config.optimizer.lr:g}; a ratio, as 0.1, is of all steps"
        )
    if any(step < (warmup if warmup >= 1 else warmup * steps) for step in rung_steps(config.rungs, steps)):
        # The same words whatever the warm-up, so that a study which searches it warns once.
        yield (
            f"study.pruning.rungs: at {config.rungs[0]:g} of the steps, the first rung, some trials are still warming "
            "up (optimizer.warmup), and their scores compare little: warm up shorter, or begin with a later rung"
        )
    count = min(steps, math.ceil(1 / every) if every < 1 else math.ceil(steps / every))
    if count > MANY_EVALUATIONS and loader.batch_sampler != "no_duplicates":
        yield (
            f"trainer.eval_every: {every:g} scores dev {count} times, and writes a checkpoint each time; "
            "0.05 does so 20 times"
        )
