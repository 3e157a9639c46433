"""Rules of hard negatives: settings that go together, a miner that exists, a loss that takes so many. No torch."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from embedsweep.config.negatives import STRICTER, NegativesConfig
from embedsweep.config.trial import AlsoConfig, Shape, TrialConfig
from embedsweep.config.values import nearest
from embedsweep.errors import Problem
from embedsweep.losses.nesting import nest
from embedsweep.losses.table import LOSSES
from embedsweep.training.micro_batches import cached_micro_batch
from embedsweep.validation.rules.loss import as_it_is
from embedsweep.validation.rules.model import TRUST, check_model


def check_negatives(config: TrialConfig) -> Iterator[Problem]:
    """Check how the settings of negatives go together, and that the model which finds them exists."""
    for where, dataset in _mining(config):
        settings = dataset.data.negatives
        yield from _check_range(where, settings)
        for key in settings.strictest:
            if key not in STRICTER:
                message = f"no such key{nearest(key, STRICTER)}; there are: {', '.join(STRICTER)}"
                yield Problem(f"{where}.strictest.{key}", message)
        if settings.use_faiss and importlib.util.find_spec("faiss") is None:
            yield Problem(f"{where}.use_faiss", "needs the package faiss: pip install faiss-cpu, or set it to false")
        if settings.miner is not None:
            for problem in check_model(as_it_is(config.model, settings.miner)):
                yield Problem(f"{where}.miner", problem.message.partition("; use model=")[0].removesuffix(TRUST))
        elif config.model.static_dim is not None:
            message = (
                "null is the base model, and a static embedding (model.static_dim) knows nothing yet: name a model"
            )
            yield Problem(f"{where}.miner", message)


def _check_range(where: str, settings: NegativesConfig) -> Iterator[Problem]:
    for asked in (settings, settings.dropping or settings):
        most, least = asked.range_max, asked.range_min + asked.count
        if most is not None and least > most:
            message = f"must be at least {least}, as range_min and count need so many ranks, but got {most}"
            yield Problem(f"{where}.range_max", message)
            return


def check_cached_tuples(config: TrialConfig) -> Iterator[Problem]:
    """Check that a loss whose plain form takes one negative is in its cached form where there are several."""
    if cached_micro_batch(config) is not None:
        return
    for where, dataset in _datasets(config):
        name = nest(dataset.loss)[-1].name
        if "tuples" in LOSSES[name].only_cached and _shape(dataset) == "tuples":
            of_files = not dataset.data.negatives.count
            advice = f"{where}.convert.to=triplets" if of_files else f"{where}.negatives.count=1"
            message = (
                f"loss={name} takes several negatives in its cached form only: set it below the batch size, or {advice}"
            )
            yield Problem("dataloader.micro_batch_size", message)


def _shape(dataset: AlsoConfig) -> Shape:
    data = dataset.data
    if data.negatives.count:
        return "triplets" if data.negatives.count == 1 else "tuples"
    return data.convert.to or data.shape


def _datasets(config: TrialConfig) -> Iterator[tuple[str, AlsoConfig]]:
    names = iter(config.datasets.items())
    yield "data", next(names)[1]
    yield from ((f"data.also.{name}", dataset) for name, dataset in names)


def _mining(config: TrialConfig) -> Iterator[tuple[str, AlsoConfig]]:
    """Yield the datasets that get negatives, with the section of their settings."""
    for where, dataset in _datasets(config):
        if dataset.data.negatives.decide_examples:
            yield f"{where}.negatives", dataset
