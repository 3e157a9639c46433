"""The trials that all ways train: the points of the search, their number of steps, and the data."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOSSES = ("cosent", "mnrl")
BATCH_SIZES = (16, 32, 64)
LEARNING_RATE = (1e-5, 1e-4)
WARMUP = (0.0, 0.2)
POSITIVE_THRESHOLD = 0.8
"""Pairs of at least this score (0..1) are the positive pairs that mnrl trains on."""
SEED = 42
EVALUATION_BATCH_SIZE = 512
"""Sentences that each way encodes at once."""
LOG_EVERY = 10
"""Optimizer steps between two values of the training loss."""
BLOCK = len(LOSSES) * len(BATCH_SIZES)
"""Among this many successive points, every loss occurs once with every batch size."""
RUNGS = (0.25, 0.5)
"""Fractions of a trial's steps at which a way with pruning scores dev and decides: none within the longest warm-up."""


@dataclass(frozen=True)
class Point:
    """One configuration of the search.

    Attributes:
        loss: one of ``LOSSES``.
        batch_size: one of ``BATCH_SIZES``.
        lr: the peak learning rate.
        warmup: fraction of the steps.
    """

    loss: str
    batch_size: int
    lr: float
    warmup: float


@dataclass(frozen=True)
class Task:
    """The task of a way.

    Attributes:
        model: folder of the encoder that every trial starts from.
        data: folder with ``stsb-en-train.csv`` and ``stsb-en-dev.csv``, without headers: two texts and a score of 0..5.
        device: ``cuda`` or ``cpu``. On ``cuda`` trials train in bf16.
        points: to be trained, in this order.
        max_steps: optimizer steps after which a trial ends; None is one epoch.
        examples: training examples by loss.
    """

    model: Path
    data: Path
    device: str
    points: tuple[Point, ...]
    max_steps: int | None
    examples: Mapping[str, int]

    def steps(self, point: Point) -> int:
        """Return the optimizer steps of the whole training of a point."""
        epoch = math.ceil(self.examples[point.loss] / point.batch_size)
        return epoch if self.max_steps is None else min(epoch, self.max_steps)

    def steps_at_rung(self, point: Point, reports: int) -> int:
        """Return the optimizer steps after which a trial reports at its ``reports``-th rung (1 is the first)."""
        return math.ceil(round(RUNGS[reports - 1] * self.steps(point), 9))

    def number_of(self, point: Point) -> int:
        """Return the index of a point in the task.

        Raises:
            LookupError: the point is not in the task.
        """
        for number, given in enumerate(self.points):
            same = (given.loss, given.batch_size) == (point.loss, point.batch_size)
            if same and math.isclose(given.lr, point.lr) and math.isclose(given.warmup, point.warmup, abs_tol=1e-9):
                return number
        raise LookupError(f"{point} is none of the {len(self.points)} points of the task")


def make_points(count: int) -> tuple[Point, ...]:
    """Return the first ``count`` points of a fixed list, of which every ``BLOCK`` are balanced.

    Losses and batch sizes take turns; learning rates are drawn by their logarithm, warm-ups uniformly.
    """
    draw = random.Random(SEED)
    points = []
    for number in range(count):
        lr = LEARNING_RATE[0] * (LEARNING_RATE[1] / LEARNING_RATE[0]) ** draw.random()
        points.append(
            Point(
                loss=LOSSES[number % len(LOSSES)],
                batch_size=BATCH_SIZES[number // len(LOSSES) % len(BATCH_SIZES)],
                lr=float(f"{lr:.3g}"),
                warmup=round(draw.uniform(*WARMUP), 3),
            )
        )
    return tuple(points)


def read_pairs(data: Path, split: str) -> list[tuple[str, str, float]]:
    """Return the pairs of a split with their scores, 0..1."""
    with (data / f"stsb-en-{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(row[0], row[1], float(row[2]) / 5) for row in csv.reader(file)]


def examples_by_loss(pairs: Sequence[tuple[str, str, float]]) -> dict[str, int]:
    """Return how many training examples each loss gets: all pairs, or the positive ones."""
    return {"cosent": len(pairs), "mnrl": sum(score >= POSITIVE_THRESHOLD for _, _, score in pairs)}
