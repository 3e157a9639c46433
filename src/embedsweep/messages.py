"""What a group's leader and its members say to each other.

Owns the messages. Knows neither processes nor training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedsweep.schema import TrialConfig


@dataclass(frozen=True)
class Order:
    """To each member: train this."""

    config: TrialConfig
    folder: Path


@dataclass(frozen=True)
class Trained:
    """From the first member: metrics of training steps."""

    points: Sequence[tuple[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Progressed:
    """From the first member: how many optimizer steps of how many are done."""

    step: int
    total: int


@dataclass(frozen=True)
class Evaluated:
    """From every member: dev metrics at a step, the same for all. Each then waits for the decision."""

    step: int
    metrics: Mapping[str, float]
    last: bool


@dataclass(frozen=True)
class Done:
    """From every member: the training is over."""


@dataclass(frozen=True)
class Failed:
    """From a member: it cannot go on, and waits for its end.

    Attributes:
        error: what was raised; None where that cannot be told to another process.
        trace: the same as text.
        lost: whether it is about another member, which was lost or does not answer.
    """

    error: Exception | None
    trace: str
    lost: bool
