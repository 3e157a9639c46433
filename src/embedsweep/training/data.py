"""The examples a trial is trained on, each dataset prepared for its loss, and warnings about them."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from embedsweep.config.identity import canonical
from embedsweep.config.trial import DataConfig, LossConfig, TrialConfig
from embedsweep.data.audit import audit, warnings
from embedsweep.data.convert import prepared
from embedsweep.data.demo import is_generated
from embedsweep.data.examples import Examples, Splits, as_examples
from embedsweep.data.families import SCORED_SHAPES
from embedsweep.data.leaks import held_out, trained_on
from embedsweep.data.load import load_also, load_judged, load_splits, load_train
from embedsweep.data.negatives import Candidates, candidates_of
from embedsweep.data.passages import SEARCHED, as_retrieval
from embedsweep.data.scored import Retrieval, digest_of
from embedsweep.data.texts import normal
from embedsweep.data.tokens import Count, require_short, token_counter, tokens_read
from embedsweep.errors import ConfigError
from embedsweep.hub import local_model
from embedsweep.losses.nesting import shapes_of
from embedsweep.models.digest import Content
from embedsweep.training.negatives import add_negatives


@dataclass(frozen=True)
class Part:
    """One dataset of a training, the loss it is trained by, and the seed of what the loss draws from it."""

    examples: Examples
    loss: LossConfig
    seed: int


def training_parts(
    config: TrialConfig, splits: Splits, count: Count, alive: Callable[[], None] = lambda: None
) -> dict[str, Part]:
    """Return the examples of every dataset by its name, ready for its loss; the main dataset comes first.

    Args:
        config: the trial.
        splits: all examples to train on, before any is left out, with the dev and test pairs they are compared with.
        count: counts tokens by the model's own tokenizer.
        alive: is called while negatives are mined, which may take hours.

    Raises:
        ConfigError: too few examples remain.
    """
    loaded = {config.data.name: splits.train, **load_also(config.data)}
    parts: dict[str, Part] = {}
    for name, dataset in config.datasets.items():
        data, loss = dataset.data, dataset.loss
        own = replace(splits, train=loaded[name])
        examples = prepared(own, data, shapes_of(loss), loss.name, count)
        if data.negatives.decide_examples:
            examples = add_negatives(examples, _candidates(examples, own, data, loss, count), data, config, alive)
        parts[name] = Part(examples, loss, data.convert.seed)
    return parts


def _candidates(pairs: Examples, splits: Splits, data: DataConfig, loss: LossConfig, count: Count | None) -> Candidates:
    """Return what the negatives of positive pairs are mined from, whatever ``data.limit`` is.

    The documents are those of the data where it has queries and documents, else the positives of its pairs. What any of
    its splits, dev or test calls relevant to a question is none of its negatives, and with ``data.drop_leaked`` nothing
    that dev or test has.

    Raises:
        ConfigError: the data cannot be read, or all documents are relevant to some question.
    """
    if data.shape in SEARCHED:
        judged = load_judged(data)
    else:
        whole = replace(splits, train=load_train(replace(data, limit=None)))
        judged = (as_retrieval(prepared(whole, data, shapes_of(loss), loss.name, count)),)
    documents = judged[0].documents
    if data.drop_leaked:
        leaked = held_out(splits)
        documents = tuple(text for text in documents if normal(text) not in leaked)
    scored = [each for each in map(as_examples, (splits.dev, splits.test)) if each.shape in SEARCHED]
    relevant = [each.relevant_pairs for each in judged]
    relevant += [tuple(zip(*each.texts[:2], strict=True)) for each in scored]
    return candidates_of(pairs, documents, itertools.chain.from_iterable(relevant))


def corpora(main: DataConfig) -> Iterator[tuple[str, Content]]:
    """Yield the name and the content of all that negatives are mined from beside the examples: documents, judgements.

    Raises:
        ConfigError: they cannot be read.
    """
    sections = {"corpus": main, **{f"corpus of data.also.{name}": also.data for name, also in main.also.items()}}
    for name, data in sections.items():
        if data.negatives.decide_examples and data.shape in SEARCHED:
            judged = load_judged(data)
            origin = data.path or data.hub or judged[0].origin
            yield name, Content(origin, len(judged[0].documents), digest_of([each.digest for each in judged]))


@dataclass(frozen=True)
class UnpreparedPart:
    """A dataset before it is prepared for its loss; equal if the canonical forms of what decides its examples are.

    Attributes:
        key: that canonical form.
        section: its place in the configuration: ``data``, ``data.also.nli``.
        splits: its examples, with the dev and test splits that they must not share.
        data: their source.
        loss: the loss it is trained by.
    """

    key: str
    section: str = field(compare=False)
    splits: Splits = field(compare=False)
    data: DataConfig = field(compare=False)
    loss: LossConfig = field(compare=False)


def unprepared_parts(config: TrialConfig) -> Iterator[UnpreparedPart]:
    """Yield every dataset of a trial; the main dataset comes first.

    Raises:
        ConfigError: the data cannot be read.
    """
    splits = load_splits(config.data, config.evaluation)
    also = config.data.also
    datasets = {"data": (splits.train, replace(config.data, also={}), config.loss)}
    for name, examples in load_also(config.data).items():
        datasets[f"data.also.{name}"] = (examples, also[name].data, also[name].loss)
    for section, (examples, data, loss) in datasets.items():
        key = canonical([asdict(data), asdict(config.evaluation), loss.name, shapes_of(loss)])
        yield UnpreparedPart(key, section, replace(splits, train=examples), data, loss)


@functools.lru_cache(maxsize=32)
def count_prepared(part: UnpreparedPart) -> int | ConfigError:
    """Return the number of examples for a loss, or why there are none.

    Those with too many tokens, or without enough negatives, are counted.

    Cached, since trials mostly share their data.
    """
    try:
        examples = prepared(part.splits, part.data, shapes_of(part.loss), part.loss.name, None)
        if part.data.negatives.decide_examples:
            _candidates(examples, part.splits, part.data, part.loss, None)
        return len(examples)
    except ConfigError as error:
        return error


@functools.lru_cache(maxsize=32)
def why_too_long(part: UnpreparedPart, model: Path | None) -> ConfigError | None:
    """Return why ``data.max_tokens`` leaves too few examples; None if it leaves enough, or nothing here counts tokens.

    Args:
        part: the dataset, whose examples can be prepared.
        model: the folder of the model whose tokens count; None if it is not on this disk.
    """
    if part.data.max_tokens is None or (count := token_counter(model)) is None:
        return None
    try:
        require_short(trained_on(part.splits, drop=part.data.drop_leaked).train, part.data.max_tokens, count)
    except ConfigError as error:
        return error
    return None


def conversion_of(parts: Mapping[str, Part]) -> str | None:
    """Return how the examples were converted, in words; with the dataset's name if there are several."""
    conversions = {name: part.examples.conversion for name, part in parts.items() if part.examples.conversion}
    if len(parts) > 1:
        return "; ".join(f"{name}: {words}" for name, words in conversions.items()) or None
    return next(iter(conversions.values()), None)


def data_warnings(config: TrialConfig) -> tuple[str, ...]:
    """Return warnings about the data: other scores than expected, leaks, duplicates, conflicting labels, long texts.

    Examples that ``data.drop_leaked`` will leave out cause no warning.
    """
    splits = load_splits(config.data, config.evaluation)
    folder = local_model(config.model.path, config.model.revision)
    maximum = tokens_read(config.model, folder)
    lines = [*_other_scores(config), *_samples(splits), *_warnings_of(splits, config.data.drop_leaked, folder, maximum)]
    for name, examples in load_also(config.data).items():
        further = _warnings_of(
            replace(splits, train=examples), config.data.also[name].data.drop_leaked, folder, maximum
        )
        lines += [f"{name}: {line}" for line in further if line not in lines]
    return tuple(lines)


def _other_scores(config: TrialConfig) -> Iterator[str]:
    """Yield that scored pairs, which all demo data has, are scored and the questions of demo data are not."""
    data, evaluation = config.data, config.evaluation
    scored = [split for split in ("dev", "test") if getattr(evaluation, split) is None]
    if scored and is_generated(data) and data.shape in SEARCHED and data.shape not in SCORED_SHAPES[evaluation.family]:
        does = "are scored pairs" if len(scored) > 1 else "is scored pairs"
        pairs = f"{' and '.join(scored)} {does} of data=demo (evaluation={evaluation.name})"
        yield f"{pairs}; evaluation=retrieval scores the search for the questions of data={data.name}"


def _samples(splits: Splits) -> Iterator[str]:
    """Yield which splits are searched in a sample of their documents."""
    for name, scored in (("dev", splits.dev), ("test", splits.test)):
        if isinstance(scored, Retrieval) and scored.sampled_from is not None:
            yield (
                f"{name} searches {len(scored.documents):,} of {scored.sampled_from:,} documents, all judged ones "
                "among them (evaluation.corpus_size): over all documents scores are lower"
            )


@functools.lru_cache(maxsize=8)
def _warnings_of(splits: Splits, drop: bool, folder: Path | None, maximum: int | None) -> tuple[str, ...]:
    return tuple(warnings(audit(trained_on(splits, drop=drop), token_counter(folder), maximum)))
