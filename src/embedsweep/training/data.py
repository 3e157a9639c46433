"""The examples a trial is trained on, each dataset prepared for its loss, and warnings about them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from embedsweep.config.trial import LossConfig, TrialConfig
from embedsweep.data.audit import audit, trained_on, warnings
from embedsweep.data.convert import prepared
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.load import load_also, load_splits
from embedsweep.data.tokens import Count, token_counter, tokens_read
from embedsweep.hub import local_model
from embedsweep.losses.nesting import shapes_of


@dataclass(frozen=True)
class Part:
    """One dataset of a training, the loss it is trained by, and the seed of what the loss draws from it."""

    examples: Examples
    loss: LossConfig
    seed: int


def training_parts(config: TrialConfig, splits: Splits, count: Count) -> dict[str, Part]:
    """Return the examples of every dataset by its name, ready for its loss; the main dataset comes first.

    Args:
        config: the trial.
        splits: all examples to train on, before any is left out, with the dev and test pairs they are compared with.
        count: counts tokens by the model's own tokenizer.

    Raises:
        ConfigError: too few examples remain.
    """
    loaded = {config.data.name: splits.train, **load_also(config.data)}
    parts: dict[str, Part] = {}
    for name, dataset in config.datasets.items():
        data, loss = dataset.data, dataset.loss
        examples = prepared(replace(splits, train=loaded[name]), data, shapes_of(loss), loss.name, count)
        parts[name] = Part(examples, loss, data.convert.seed)
    return parts


def conversion_of(parts: Mapping[str, Part]) -> str | None:
    """Return how the examples were converted, in words; with the dataset's name if there are several."""
    conversions = {name: part.examples.conversion for name, part in parts.items() if part.examples.conversion}
    if len(parts) > 1:
        return "; ".join(f"{name}: {words}" for name, words in conversions.items()) or None
    return next(iter(conversions.values()), None)


def data_warnings(config: TrialConfig) -> tuple[str, ...]:
    """Return warnings about the data: leaks, duplicates, conflicting labels, truncated texts.

    Examples that ``data.drop_leaked`` will leave out cause no warning.
    """
    splits = load_splits(config.data, config.evaluation)
    folder = local_model(config.model.path, config.model.revision)
    maximum = tokens_read(config.model, folder)
    lines = list(_warnings_of(splits, config.data.drop_leaked, folder, maximum))
    for name, examples in load_also(config.data).items():
        further = _warnings_of(
            replace(splits, train=examples), config.data.also[name].data.drop_leaked, folder, maximum
        )
        lines += [f"{name}: {line}" for line in further if line not in lines]
    return tuple(lines)


@functools.lru_cache(maxsize=8)
def _warnings_of(splits: Splits, drop: bool, folder: Path | None, maximum: int | None) -> tuple[str, ...]:
    return tuple(warnings(audit(trained_on(splits, drop=drop), token_counter(folder), maximum)))
