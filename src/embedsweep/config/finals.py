"""The finals of a study as types: its best configurations, trained again with other seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from embedsweep.config.types import Bounds, Count

if TYPE_CHECKING:
    from embedsweep.config.study import Choice

SEED = "trainer.seed"

MOST_SEEDS = 20
"""With how many seeds a finalist is trained, at most."""


@dataclass(frozen=True)
class FinalsConfig:
    """What finals a study has once it is complete.

    Attributes:
        top: how many configurations; None holds no finals.
        seeds: with how many seeds each, the same ones for all.
        soup: whether the weights of the trainings are averaged, as one more candidate.
    """

    top: Count | None
    seeds: Annotated[int, Bounds(at_least=2, at_most=MOST_SEEDS)]
    soup: bool


NO_FINALS = FinalsConfig(None, 5, soup=False)


def without_seed(values: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return a trial's values without the seed of its training."""
    return {key: value for key, value in values.items() if key != SEED}


@dataclass(frozen=True)
class FinalPoint:
    """One training of the finals.

    Attributes:
        finalist: the number of the best trial of this configuration in the study.
        seed: ``trainer.seed``.
        values: the value of every axis of the finals, by key, the seed among them.
    """

    finalist: int
    seed: int
    values: Mapping[str, Choice]
