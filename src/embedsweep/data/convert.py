"""Convert examples from one shape to another; each conversion describes what it did, with the numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Literal, TypeVar

from embedsweep.config.trial import ConvertConfig, DataConfig, Shape
from embedsweep.data.examples import Examples, Splits, in_words
from embedsweep.data.leaks import trained_on
from embedsweep.data.tokens import Count, within
from embedsweep.errors import ConfigError

Relation = Literal["contradiction", "neutral", "entailment"]
Triplet = tuple[str, str, str]

RELATIONS: tuple[Relation, ...] = ("contradiction", "neutral", "entailment")
"""The classes of inference; ``neutral`` may be absent."""


def is_inference(classes: Iterable[str]) -> bool:
    """Return whether these are the classes of inference: entailment, contradiction and optionally neutral."""
    named = set(classes)
    return {"entailment", "contradiction"} <= named <= set(RELATIONS)


def triplets(pairs: Iterable[tuple[str, str, str]], seed: int) -> list[Triplet]:
    """Return two triplets of each sentence that has both entailments and contradictions.

    Every pair counts in both directions. A sentence ``s`` with the entailments ``E`` and the contradictions ``C`` gives
    ``(s, e, c)`` and ``(e', s, c')``, each of ``e, e'`` drawn from ``E`` and each of ``c, c'`` from ``C``. Sentences
    are in the order of their first occurrence, so that the same pairs and seed give the same triplets everywhere.

    The construction is that of sentence-transformers' ``training_nli_v2.py``, with the texts stripped as in
    `bertin-roberta-base-finetuning-esnli <https://huggingface.co/hackathon-pln-es/bertin-roberta-base-finetuning-esnli>`_.

    Args:
        pairs: two sentences and their relation, one of :data:`RELATIONS`.
        seed: of the draws.
    """
    relations: dict[str, dict[str, dict[str, None]]] = {}  # sentence -> relation -> ordered set of sentences
    for first, second, relation in pairs:
        for one, other in ((first.strip(), second.strip()), (second.strip(), first.strip())):
            relations.setdefault(one, {name: {} for name in RELATIONS})[relation][other] = None
    rng = Random(seed)
    rows: list[Triplet] = []
    for sentence, related in relations.items():
        entailed, contradicted = list(related["entailment"]), list(related["contradiction"])
        if entailed and contradicted:
            rows.append((sentence, rng.choice(entailed), rng.choice(contradicted)))
            rows.append((rng.choice(entailed), sentence, rng.choice(contradicted)))
    return rows


T = TypeVar("T")
Conversion = Callable[[Examples, ConvertConfig, tuple[float, float]], Examples]

# A threshold is written in decimals, a normalised score is a quotient: (4.6 - 1) / 4 is a little below 0.9.
_ROUNDING = 1e-9

_INFERENCE_SCORES = {"contradiction": 0.0, "neutral": 0.5, "entailment": 1.0}


def target_shape(shape: Shape, wants: Sequence[Shape], to: Shape | None, loss: str) -> Shape:
    """Return the shape to which data is converted for a loss.

    Args:
        shape: of the data.
        wants: the shapes that the loss takes, the best first.
        to: the user's choice; None keeps ``shape`` if the loss takes it, else is the first possible one of ``wants``.
        loss: its name, for messages.

    Raises:
        ConfigError: the loss does not take ``to``, or the data cannot be converted to any shape that the loss takes.
    """
    needed = ", or ".join(in_words(name) for name in wants)
    targets = [target for source, target in CONVERSIONS if source == shape]
    possible = [name for name in wants if name in (shape, *targets)]
    if to is not None:
        if to in possible:
            return to
        if to not in wants:
            message = f"loss={loss} does not take {to}; it takes {needed}"
        else:
            others = f"{to}, only to {', '.join(targets)}" if targets else "any other shape"
            message = f"data.shape={shape} cannot be converted to {others}"
        advice = f"; leave data.convert.to at null, which selects {possible[0]}" if possible else ""
        raise ConfigError.single("data.convert.to", message + advice)
    if shape in wants:
        return shape
    if possible:
        return possible[0]
    is_minable = "triplets" in wants and "positive_pairs" in (shape, *targets)
    mined = "data.negatives.count=1, which mines negatives, " if is_minable else ""
    sources = dict.fromkeys((*wants, *(source for source, target in CONVERSIONS if target in wants)))
    raise ConfigError.single(
        "loss",
        f"loss={loss} needs {needed}; the data has {in_words(shape)}, which can be converted to "
        f"{', '.join(targets) or 'nothing else'}: take data of the shape {', '.join(sources)}, {mined}or another loss",
    )


def trained_shape(data: DataConfig, wants: Sequence[Shape], loss: str) -> Shape:
    """Return the shape in which data reaches a loss: converted, and with negatives if any are mined.

    For ``wants`` and ``loss`` see :func:`target_shape`.

    Raises:
        ConfigError: the loss does not take so many negatives, or the data cannot become positive pairs.
    """
    count, to = data.negatives.count, data.convert.to
    if not data.negatives.decide_examples:
        return target_shape(data.shape, wants, to, loss)
    shape: Shape = "positive_pairs" if count == 0 else "triplets" if count == 1 else "tuples"
    if shape not in wants:
        most = "at most 1" if "triplets" in wants and count else "0"
        message = f"must be {most} with loss={loss}, which takes {', '.join(wants)}, but got {count}"
        raise ConfigError.single("data.negatives.count", f"{message} (one negative makes triplets, several tuples)")
    if to not in (None, "positive_pairs", shape):
        message = f"must be null or positive_pairs where negatives are mined (data.negatives), but got {to}"
        raise ConfigError.single("data.convert.to", message)
    if count == 0 and to is None:
        # Without negatives the loss may take the data's own, which would be other examples than in the other trials.
        target = target_shape(data.shape, wants, None, loss)
        if target != "positive_pairs":
            message = (
                f"data.negatives.missing=drop compares positive pairs, and null selects {target}: set positive_pairs"
            )
            raise ConfigError.single("data.convert.to", message)
    if data.shape != "positive_pairs" and (data.shape, "positive_pairs") not in CONVERSIONS:
        message = f"negatives are mined for positive pairs, which {in_words(data.shape)} cannot become: set it to 0"
        raise ConfigError.single("data.negatives.count", message)
    return shape


def convert(examples: Examples, to: Shape, config: ConvertConfig, score_range: tuple[float, float]) -> Examples:
    """Return examples in another shape; those of that shape are unchanged, except positive pairs in both directions.

    Args:
        examples: the examples.
        to: a shape that :func:`target_shape` allows.
        config: thresholds, directions and the seed.
        score_range: the lowest and highest score in the source, for messages.

    Raises:
        ConfigError: too few examples are left, or their classes cannot be converted.
    """
    if examples.shape != to:
        return CONVERSIONS[examples.shape, to](examples, config, score_range)
    if to == "positive_pairs" and config.both_directions:
        return _positive(examples, _rows(examples), f"all {len(examples)}", config)
    return examples


def _scored_to_positive(examples: Examples, config: ConvertConfig, score_range: tuple[float, float]) -> Examples:
    """Keep the pairs whose score reaches the threshold."""
    threshold, in_source = config.positive_threshold, _in_source(config, score_range)
    kept = _reaching(examples, threshold)
    if len(kept) < 2:
        highest = ", ".join(f"{score:g}" for score in sorted(_labels(examples), reverse=True)[:3]) or "none"
        raise ConfigError.single(
            "data.convert.positive_threshold",
            f"{threshold:g} ({in_source}) leaves {len(kept)} of {len(examples)} pairs of {examples.origin}, and a loss "
            f"on positive pairs needs at least 2; the highest scores there, on 0-1, are {highest}: "
            "lower data.convert.positive_threshold",
        )
    rows = _rows(examples)
    description = f"score >= {threshold:g} ({in_source}), {len(kept)} of {len(examples)} kept"
    return _positive(examples, [rows[index] for index in kept], description, config)


def _scored_to_binary(examples: Examples, config: ConvertConfig, score_range: tuple[float, float]) -> Examples:
    threshold, in_source = config.positive_threshold, _in_source(config, score_range)
    positive = set(_reaching(examples, threshold))
    labels = tuple(float(index in positive) for index in range(len(examples)))
    if len(set(labels)) < 2:
        scores = _labels(examples)
        raise ConfigError.single(
            "data.convert.positive_threshold",
            f"{threshold:g} ({in_source}) makes {len(positive)} of {len(examples)} pairs of {examples.origin} "
            "positive, and a loss on 0 and 1 needs both; the scores there, on 0-1, go from "
            f"{min(scores):g} to {max(scores):g}: set data.convert.positive_threshold between them",
        )
    description = (
        f"binary pairs: 1 where score >= {threshold:g} ({in_source}), {len(positive)} of {len(examples)}, "
        f"0 for the other {len(examples) - len(positive)}"
    )
    return examples.became("binary_pairs", examples.texts, labels, None, description)


def _inference_to_triplets(examples: Examples, config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    relations = _relations(examples, "triplets")
    rows = [(first, second, relation) for (first, second), relation in zip(_rows(examples), relations, strict=True)]
    built = triplets(rows, config.seed)
    if not built:
        raise ConfigError.single(
            "data.convert.to",
            f"no triplet can be built from {examples.origin}: none of its sentences has both an entailment and a "
            "contradiction; if the loss takes positive pairs, set data.convert.to=positive_pairs to keep entailments",
        )
    description = (
        f"triplets: 2 for each of the {len(built) // 2} sentences with an entailment and a contradiction, "
        f"{len(built)} from {len(examples)} pairs in both directions, seed {config.seed}"
    )
    return examples.became("triplets", _columns(built), None, None, description)


def _inference_to_positive(examples: Examples, config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    relations = _relations(examples, "positive_pairs")
    rows = [row for row, relation in zip(_rows(examples), relations, strict=True) if relation == "entailment"]
    return _positive(examples, rows, f"class entailment, {len(rows)} of {len(examples)} kept", config)


def _inference_to_binary(examples: Examples, _config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    relations = _relations(examples, "binary_pairs")
    kept = [index for index, relation in enumerate(relations) if relation != "neutral"]
    labels = tuple(float(relations[index] == "entailment") for index in kept)
    counts = {relation: relations.count(relation) for relation in RELATIONS}
    if not (counts["entailment"] and counts["contradiction"]):
        raise ConfigError.single(
            "data.convert.to",
            f"{examples.origin} has {counts['entailment']} entailments and {counts['contradiction']} contradictions, "
            "and a loss on 0 and 1 needs both: use rows of both, for example by a higher data.limit",
        )
    description = (
        f"binary pairs: entailment 1 ({counts['entailment']}), contradiction 0 ({counts['contradiction']}), "
        f"neutral left out ({counts['neutral']})"
    )
    texts = examples.kept(kept, None).texts
    return examples.became("binary_pairs", texts, labels, None, description)


def _inference_to_scored(examples: Examples, _config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    relations = _relations(examples, "scored_pairs")
    scores = tuple(_INFERENCE_SCORES[relation] for relation in relations)
    if len(set(scores)) < 2:
        raise ConfigError.single(
            "data.convert.to",
            f"all {len(scores)} pairs of {examples.origin} are of the class {relations[0]}, and a loss on scores needs "
            "different ones: use rows of other classes, for example by a higher data.limit",
        )
    counts = ", ".join(f"{name} {_INFERENCE_SCORES[name]:g} ({relations.count(name)})" for name in reversed(RELATIONS))
    return examples.became("scored_pairs", examples.texts, scores, None, f"scored pairs: {counts}")


def _triplets_to_positive(examples: Examples, config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    """Keep each pair of anchor and positive once, with any number of negatives."""
    rows = list(dict.fromkeys((anchor, positive) for anchor, positive, _ in _rows(examples)))
    description = f"anchor and positive of {len(examples)} triplets, {len(rows)} different ones"
    return _positive(examples, rows, description, config)


def _tuples_to_positive(examples: Examples, config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    rows = list(dict.fromkeys(row[:2] for row in _rows(examples)))
    return _positive(
        examples, rows, f"anchor and positive of {len(examples)} tuples, {len(rows)} different ones", config
    )


def _tuples_to_triplets(examples: Examples, _config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    """Make a triplet of each negative."""
    rows = [(row[0], row[1], negative) for row in _rows(examples) for negative in row[2:]]
    description = f"triplets: one for each negative of {len(examples)} tuples, {len(rows)}"
    return examples.became("triplets", _columns(rows), None, None, description)


def _binary_to_positive(examples: Examples, config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    rows = [row for row, label in zip(_rows(examples), _labels(examples), strict=True) if label == 1]
    return _positive(examples, rows, f"label 1, {len(rows)} of {len(examples)} kept", config)


def _binary_to_scored(examples: Examples, _config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    positive = sum(label == 1 for label in _labels(examples))
    description = f"scored pairs: label 1 as score 1 ({positive}), label 0 as score 0 ({len(examples) - positive})"
    return examples.became("scored_pairs", examples.texts, examples.labels, None, description)


def _to_texts(examples: Examples, _config: ConvertConfig, _range: tuple[float, float]) -> Examples:
    """Keep each text once, in the order of first occurrence, row by row."""
    texts = tuple(dict.fromkeys(itertools.chain.from_iterable(_rows(examples))))
    _enough(len(texts), "texts", examples)
    description = f"texts: {len(texts)} different ones of {len(examples)} {examples.shape.replace('_', ' ')}"
    return examples.became("texts", (texts,), None, None, description)


def _positive(examples: Examples, rows: Sequence[tuple[str, ...]], description: str, config: ConvertConfig) -> Examples:
    """Return positive pairs of ``rows``; with ``both_directions`` followed by the same pairs reversed."""
    _enough(len(rows), "positive pairs", examples)
    first, second = _columns(rows)
    if config.both_directions:
        first, second = first + second, second + first
    description = f"positive pairs: {description}, both directions: {'yes' if config.both_directions else 'no'}"
    return examples.became("positive_pairs", (first, second), None, None, description)


def _enough(count: int, what: str, examples: Examples) -> None:
    if count < 2:
        raise ConfigError.single(
            "data.convert.to",
            f"the {len(examples)} {examples.shape.replace('_', ' ')} of {examples.origin} become {count} {what}, and a "
            "loss needs at least 2: use more rows, for example by a higher data.limit, or another loss",
        )


def _relations(examples: Examples, to: Shape) -> list[str]:
    """Return the relation of each class pair, one of :data:`RELATIONS`."""
    classes = examples.classes or ()
    if not is_inference(classes):
        raise ConfigError.single(
            "data.labels",
            f"the classes of {examples.origin} are {', '.join(classes)}; only {', '.join(RELATIONS)} can become {to}: "
            "name them so in the order of their numbers, or use a loss for class pairs",
        )
    return [classes[int(label)] for label in _labels(examples)]


def _reaching(examples: Examples, threshold: float) -> list[int]:
    return [index for index, score in enumerate(_labels(examples)) if score >= threshold - _ROUNDING]


def _in_source(config: ConvertConfig, score_range: tuple[float, float]) -> str:
    low, high = score_range
    return f"{low + config.positive_threshold * (high - low):g} of {low:g}-{high:g}"


def _labels(examples: Examples) -> tuple[float, ...]:
    assert examples.labels is not None, f"{examples.shape} have labels"
    return examples.labels


def _rows(examples: Examples) -> list[tuple[str, ...]]:
    return list(zip(*examples.texts, strict=True))


def _columns(rows: Sequence[tuple[T, ...]]) -> tuple[tuple[T, ...], ...]:
    return tuple(zip(*rows, strict=True))


CONVERSIONS: Mapping[tuple[Shape, Shape], Conversion] = {
    ("scored_pairs", "positive_pairs"): _scored_to_positive,
    ("scored_pairs", "binary_pairs"): _scored_to_binary,
    ("scored_pairs", "texts"): _to_texts,
    ("class_pairs", "triplets"): _inference_to_triplets,
    ("class_pairs", "positive_pairs"): _inference_to_positive,
    ("class_pairs", "binary_pairs"): _inference_to_binary,
    ("class_pairs", "scored_pairs"): _inference_to_scored,
    ("class_pairs", "texts"): _to_texts,
    ("triplets", "positive_pairs"): _triplets_to_positive,
    ("triplets", "texts"): _to_texts,
    ("tuples", "triplets"): _tuples_to_triplets,
    ("tuples", "positive_pairs"): _tuples_to_positive,
    ("tuples", "texts"): _to_texts,
    ("binary_pairs", "positive_pairs"): _binary_to_positive,
    ("binary_pairs", "scored_pairs"): _binary_to_scored,
    ("binary_pairs", "texts"): _to_texts,
    ("positive_pairs", "texts"): _to_texts,
    ("class_texts", "texts"): _to_texts,
}
"""(from, to) -> conversion; class pairs that are not of inference can become texts only."""


def prepared(splits: Splits, data: DataConfig, wants: Sequence[Shape], loss: str, count: Count | None) -> Examples:
    """Return the training examples of ``splits`` as a loss takes them; ``conversion`` describes what was done to them.

    Where negatives are mined, these are the pairs that get them.

    Args:
        splits: the examples as they were read; those of a further dataset with the trial's own dev and test.
        data: their configuration.
        wants: the shapes that the loss takes, the best first.
        loss: its name, for messages.
        count: counts tokens by the model's own tokenizer; None, without a model, keeps texts of any length.

    Raises:
        ConfigError: the data cannot be converted to a shape that the loss takes, or too few examples are left.
    """
    shape = trained_shape(data, wants, loss)
    if data.negatives.decide_examples:
        shape = "positive_pairs"
    examples = trained_on(splits, drop=data.drop_leaked).train
    if data.max_tokens is not None and count is not None:
        examples = within(examples, data.max_tokens, count)
    return convert(examples, shape, data.convert, data.score_range)
