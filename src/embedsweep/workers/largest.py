"""The largest configuration of a study: the one that needs most memory and time per step, as far as a plan shows."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

from embedsweep.config.axes import active_axes, completed, probes_of, random_cell
from embedsweep.config.identity import canonical
from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import ModelConfig, TrialConfig
from embedsweep.data.tokens import model_folder, tokens_read
from embedsweep.validation.cells import broken_constraint, cell_config

SIZE_KEYS = ("dataloader.batch_size", "model.path", "model.max_seq_length")
"""Keys beside the swept options whose values are all compared; every other axis keeps its first value."""

DRAWS = 500
"""Random configurations that are compared where none of the others satisfies the constraints."""


def largest_cell(plan: StudyPlan) -> tuple[dict[str, Choice], TrialConfig]:
    """Return the values and the configuration with the most tokens per batch times the bytes of its model's weights.

    A sequence counts as long as the model reads it, however short the texts are. Where the size of a model's weights
    or its length is unknown (it is built here, or not downloaded yet), it counts as 1. Ties go to the first.

    Raises:
        ValueError: no configuration satisfies the constraints.
        ConfigError: a file that one needs is gone.
    """
    for candidates in (_candidates(plan), _draws(plan)):
        cells = {canonical(cell): cell for cell in candidates if broken_constraint(plan, cell) is None}
        if cells:
            pairs = [(cell, cell_config(plan, cell)) for cell in cells.values()]
            return max(pairs, key=lambda pair: _size(pair[1]))
    raise ValueError(f"no trial satisfies {' and '.join(plan.constraints)}")


def _candidates(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    """Yield every combination of swept options with every combination of values that decide the size."""
    groups = [axis for axis in plan.axes if axis.key in plan.groups]
    for chosen in itertools.product(*map(probes_of, groups)):
        options = dict(zip((axis.key for axis in groups), chosen, strict=True))
        sizes = [axis for axis in active_axes(plan.axes, options) if axis.key in SIZE_KEYS]
        for values in itertools.product(*map(probes_of, sizes)):
            yield completed(plan.axes, {**options, **dict(zip((axis.key for axis in sizes), values, strict=True))})


def _draws(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    source = random.Random(plan.seed)
    return (random_cell(plan.axes, {}, source) for _ in range(DRAWS))


def _size(config: TrialConfig) -> int:
    folder = model_folder(config.model)
    tokens = tokens_read(config.model, folder) if folder is not None else config.model.max_seq_length
    return config.dataloader.batch_size * (tokens or 1) * (_weight_bytes(config.model) or 1)


def _weight_bytes(model: ModelConfig) -> int:
    folder = model_folder(model)
    if folder is None:
        return 0
    return sum(file.stat().st_size for file in (*folder.glob("*.safetensors"), *folder.glob("*/*.safetensors")))
