"""What a trial is trained on: examples without leaks and long texts, each dataset in the shape its loss wants.

Owns the order of these steps and the words that record them. Knows neither the trainer nor who records the words.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embedsweep.config.trial import LossConfig, TrialConfig
from embedsweep.data import load_also, load_splits
from embedsweep.data.audit import audit, drop_leaked, warnings
from embedsweep.data.convert import prepared
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.tokens import Count, model_folder, token_counter, tokens_read
from embedsweep.losses.nesting import wants


@dataclass(frozen=True)
class Part:
    """One dataset of a training, what it is trained by, and the seed of what the loss draws from it."""

    examples: Examples
    loss: LossConfig
    seed: int


def training_parts(config: TrialConfig, splits: Splits, count: Count) -> dict[str, Part]:
    """The examples of every dataset by its name, ready for its loss; the data's own comes first.

    Args:
        config: the trial.
        splits: what is trained on before any of it is left out, and what it is held apart from.
        count: counts tokens by the model's own tokenizer.

    Raises:
        ConfigError: too few examples are left.
    """
    given = {config.data.name: (splits.train, config.data, config.loss)}
    for name, examples in load_also(config.data).items():
        given[name] = (examples, config.data.also[name].data, config.data.also[name].loss)
    return {
        name: Part(prepared(replace(splits, train=train), data, wants(loss), loss.name, count), loss, data.convert.seed)
        for name, (train, data, loss) in given.items()
    }


def conversion_of(parts: Mapping[str, Part]) -> str | None:
    """What was done to the examples, in words; by the dataset's name where there are several."""
    said = {name: part.examples.conversion for name, part in parts.items() if part.examples.conversion}
    if len(parts) > 1:
        return "; ".join(f"{name}: {words}" for name, words in said.items()) or None
    return next(iter(said.values()), None)


def data_warnings(config: TrialConfig) -> tuple[str, ...]:
    """What of the data matters before anything is trained on it: leaks, duplicates, conflicting labels, cut texts.

    What ``data.drop_leaked`` will leave out is not warned of.
    """
    splits = load_splits(config.data, config.evaluation)
    folder = model_folder(config.model)
    maximum = None if folder is None else tokens_read(config.model, folder)
    found = list(_warnings_of(splits, config.data.drop_leaked, folder, maximum))
    for name, examples in load_also(config.data).items():
        further = replace(splits, train=examples)
        lines = _warnings_of(further, config.data.also[name].data.drop_leaked, folder, maximum)
        found += [f"{name}: {line}" for line in lines if line not in found]
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _warnings_of(splits: Splits, drop: bool, folder: Path | None, maximum: int | None) -> tuple[str, ...]:
    kept = replace(splits, train=drop_leaked(splits)) if drop else splits
    return tuple(warnings(audit(kept, None if folder is None else token_counter(folder), maximum)))
