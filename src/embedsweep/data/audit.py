"""What is worth knowing of data before it is trained on: leaks, repeats, labels and lengths.

Owns the counts, and train without its leaks; which counts deserve a warning is said by ``audit_warnings``. Knows no
source and no loss; no torch.

Between splits texts are the same when they are equal but for case and outer white space (a model that has seen one
knows the other); within a split, when they are equal to the letter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from embedsweep.config.trial import SPLITS, Shape, Split
from embedsweep.data.examples import Examples, Pairs, Splits, as_examples, text_columns
from embedsweep.data.tokens import Count
from embedsweep.errors import ConfigError

BINS = 10
TOLD = 3
"""Examples of each kind whose places are told."""

Pair = frozenset[str]


@dataclass(frozen=True)
class Shared:
    """What a later split has that an earlier one has too.

    Attributes:
        pairs: examples of the later with a pair of texts, in either order, that stands in the earlier.
        of: examples of the later.
        sentences: different texts that stand in both.
    """

    pairs: int
    of: int
    sentences: int


@dataclass(frozen=True)
class Lengths:
    """How long the texts of one column are, in words or in tokens (special ones included).

    Attributes:
        unit: ``words`` or ``tokens``.
        shortest: the fewest.
        median: as many texts are shorter as are longer.
        longest: the most.
        maximum: how many tokens the model reads; None where it is not known, and for words.
        over: texts longer than that, which are cut.
    """

    unit: str
    shortest: int
    median: float
    longest: int
    maximum: int | None
    over: int


@dataclass(frozen=True)
class SplitAudit:
    """One split by itself.

    Attributes:
        origin: where it came from.
        conversion: what was done to it since it was read, in words; None where nothing was.
        shape: what an example is.
        examples: how many.
        duplicates: examples whose texts stood in an earlier one in the same order.
        turned: pairs that stood there in the other order only.
        disagreeing: different pairs that come with more than one label.
        identical: examples with a pair of equal texts.
        places: duplicates (turned or not), disagreeing and identical -> where the first three examples of each stand,
            as far as that is known.
        highest: the highest score, in [0, 1]; None of other shapes.
        labels: class, or score from-to, -> examples; empty where there is no label.
        lengths: text column -> its lengths in words and, where tokens were counted, in tokens.
    """

    origin: str
    conversion: str | None
    shape: Shape
    examples: int
    duplicates: int
    turned: int
    disagreeing: int
    identical: int
    places: Mapping[str, tuple[str, ...]]
    highest: float | None
    labels: Mapping[str, int]
    lengths: Mapping[str, tuple[Lengths, ...]]


@dataclass(frozen=True)
class Audit:
    """All three splits, and what each later one shares with an earlier: ``train/dev``, ``train/test``, ``dev/test``."""

    splits: Mapping[Split, SplitAudit]
    shared: Mapping[str, Shared]


def audit(splits: Splits, count: Count | None = None, maximum: int | None = None) -> Audit:
    """Counts what is worth knowing of training examples, before any conversion, and of the pairs they are scored on.

    Args:
        splits: what is trained on, selects and reports.
        count: counts the tokens of texts; None leaves tokens out.
        maximum: how many tokens the model reads.
    """
    all_examples: dict[Split, Examples] = dict(
        zip(SPLITS, (splits.train, as_examples(splits.dev), as_examples(splits.test)), strict=True)
    )
    return Audit(
        splits={split: _audit_split(examples, count, maximum) for split, examples in all_examples.items()},
        shared={
            f"{earlier}/{later}": _shared(all_examples[earlier], all_examples[later])
            for earlier, later in combinations(SPLITS, 2)
        },
    )


def drop_leaked(splits: Splits) -> Examples:
    """The training examples none of whose texts occurs in dev or test; how many went is said in words.

    Raises:
        ConfigError: fewer than 2 are left.
    """
    train = splits.train
    held_out = {_normal(text) for pairs in (splits.dev, splits.test) for text in _texts(pairs)}
    rows = zip(*train.texts, strict=True)
    kept = [index for index, row in enumerate(rows) if not any(_normal(text) in held_out for text in row)]
    gone = f"{len(train) - len(kept)} of {len(train)} examples"
    if len(kept) < 2:
        raise ConfigError.single(
            "data.drop_leaked",
            f"leaves {len(kept)} of {len(train)} examples of {train.origin}, and training needs at least 2: the others "
            "share a sentence with dev or test; give other data, or say data.drop_leaked=false",
        )
    return train.kept(kept, f"leaked: {gone} share a sentence with dev or test, left out, {len(kept)} kept")


def _texts(pairs: Pairs) -> Iterator[str]:
    yield from pairs.sentences1
    yield from pairs.sentences2


def _normal(text: str) -> str:
    return text.strip().casefold()


def _audit_split(examples: Examples, count: Count | None, maximum: int | None) -> SplitAudit:
    rows = list(zip(*examples.texts, strict=True))
    duplicates = len(rows) - len(set(rows))
    again = _again([frozenset(row) for row in rows] if len(examples.texts) == 2 else rows)
    disagreeing, differing = _disagreeing(examples, rows)
    identical = [index for index, row in enumerate(rows) if len(set(row)) < len(row)]
    found = {"duplicates": again, "disagreeing": differing, "identical": identical}
    scores = examples.labels if examples.shape == "scored_pairs" else None
    return SplitAudit(
        origin=examples.origin,
        conversion=examples.conversion,
        shape=examples.shape,
        examples=len(examples),
        duplicates=duplicates,
        turned=len(again) - duplicates,
        disagreeing=disagreeing,
        identical=len(identical),
        places={kind: _places(examples, indices) for kind, indices in found.items()},
        highest=max(scores) if scores else None,
        labels=_histogram(examples),
        lengths={
            column: tuple(_lengths(texts, count, maximum))
            for column, texts in zip(text_columns(examples.shape), examples.texts, strict=True)
        },
    )


def _places(examples: Examples, indices: Sequence[int]) -> tuple[str, ...]:
    return () if examples.places is None else tuple(examples.places[index] for index in indices[:TOLD])


def _again(rows: Sequence[object]) -> list[int]:
    """Where something stands that stood there before."""
    seen: set[object] = set()
    again: list[int] = []
    for index, row in enumerate(rows):
        if row in seen:
            again.append(index)
        seen.add(row)
    return again


def _disagreeing(examples: Examples, rows: Sequence[tuple[str, ...]]) -> tuple[int, list[int]]:
    """How many different pairs come with more than one label, and where they stand."""
    if examples.labels is None:
        return 0, []
    # What holds between two classed texts has a direction; a similarity has none.
    keys: list[object] = list(rows) if examples.shape == "class_pairs" else [frozenset(row) for row in rows]
    labels: dict[object, set[float]] = {}
    for key, label in zip(keys, examples.labels, strict=True):
        labels.setdefault(key, set()).add(label)
    differing = {key for key, given in labels.items() if len(given) > 1}
    return len(differing), [index for index, key in enumerate(keys) if key in differing]


def _histogram(examples: Examples) -> dict[str, int]:
    if examples.labels is None:
        return {}
    if examples.shape == "scored_pairs":
        # The last bin has its upper end, 1, too; a quotient such as 0.6 = 3 / 5 must not fall below its bin.
        bins = Counter(min(int(score * BINS + 1e-9), BINS - 1) for score in examples.labels)
        return {f"{index / BINS:g}-{(index + 1) / BINS:g}": bins[index] for index in range(BINS)}
    names = examples.classes or ("0", "1")
    numbers = Counter(int(label) for label in examples.labels)
    return {name: numbers[index] for index, name in enumerate(names)}


def _lengths(texts: Sequence[str], count: Count | None, maximum: int | None) -> Iterator[Lengths]:
    if not texts:
        return
    words = [len(text.split()) for text in texts]
    yield Lengths("words", min(words), median(words), max(words), None, 0)
    if count is not None:
        tokens = count(texts)
        over = 0 if maximum is None else sum(number > maximum for number in tokens)
        yield Lengths("tokens", min(tokens), median(tokens), max(tokens), maximum, over)


def _shared(earlier: Examples, later: Examples) -> Shared:
    known = {pair for pairs in _pairs(earlier) for pair in pairs}
    return Shared(
        pairs=sum(any(pair in known for pair in pairs) for pairs in _pairs(later)),
        of=len(later),
        sentences=len(_sentences(earlier) & _sentences(later)),
    )


def _sentences(examples: Examples) -> set[str]:
    return {_normal(text) for column in examples.texts for text in column}


def _pairs(examples: Examples) -> Iterator[tuple[Pair, ...]]:
    """The unordered pairs of texts that each example puts side by side: of a triplet its anchor with either other."""
    first, *others = ([_normal(text) for text in column] for column in examples.texts)
    for row in zip(first, *others, strict=True):
        yield tuple(frozenset((row[0], other)) for other in row[1:])


MANY_TOO_LONG = 0.05
"""Share of texts cut by the model above which it is worth a warning."""
FEW = 0.01
"""Share of examples below which a class is worth a warning."""
LOW = 0.25
"""Highest score, in [0, 1], up to which it is likely that the scores have another range: 0-1 read as 0-4 or 0-5."""


def warnings(found: Audit) -> list[str]:
    """What of it matters, a line each; empty where nothing does."""
    told: list[str] = []
    for name, shared in found.shared.items():
        told += _warn_of_shared(name, shared)
    for split, one in found.splits.items():
        told += _warn_of_repeats(split, one)
        told += _warn_of_scale(split, one)
        told += _warn_of_classes(split, one)
        told += _warn_of_lengths(split, one)
    return told


def _warn_of_shared(name: str, shared: Shared) -> Iterator[str]:
    earlier, later = name.split("/")
    if earlier == "train" and shared.pairs == shared.of:
        yield f"{later} is trained on: {shared.pairs} of {shared.of} pairs occur in train"
    elif shared.pairs or shared.sentences:
        mend = "; data.drop_leaked=true leaves them out of train" if earlier == "train" else ""
        pairs = f"{shared.pairs} of {shared.of} {later} pairs and " if shared.pairs else ""
        yield f"{pairs}{shared.sentences} sentences of {later} also occur in {earlier}{mend}"


def _warn_of_repeats(split: str, one: SplitAudit) -> Iterator[str]:
    if again := one.duplicates + one.turned:
        turned = f", {one.turned} of them turned round" if one.turned else ""
        labels = f"; {one.disagreeing} of the repeated have different labels" if one.disagreeing else ""
        at = _at(one, "duplicates")
        yield f"{again} of {one.examples} {split} examples come again{turned}{at}{labels}{_at(one, 'disagreeing')}"
    if one.identical:
        at = _at(one, "identical")
        yield f"{one.identical} of {one.examples} {split} examples have the same text twice{at}"


def _at(one: SplitAudit, kind: str) -> str:
    """Where the first examples of a kind stand: `` (train.csv, lines 12, 57 and 103)``; empty where nobody knows."""
    places = one.places[kind]
    numbers: dict[str, list[str]] = {}
    for place in places:
        source, _, number = place.rpartition(" ")
        numbers.setdefault(source, []).append(number)
    told = [
        f"{source} {found[0]}" if len(found) == 1 else f"{source}s {', '.join(found[:-1])} and {found[-1]}"
        for source, found in numbers.items()
    ]
    return f" ({'; '.join(told)})" if told else ""


def _warn_of_scale(split: str, one: SplitAudit) -> Iterator[str]:
    # Dev and test are ranked only, which no scale changes.
    if split == "train" and one.highest is not None and one.highest <= LOW:
        yield (
            f"the highest score of train is {one.highest:g} of data.score_range, taken as 0-1: if 1 is the highest "
            "possible score in the source, say data.score_range=[0,1]"
        )


def _warn_of_classes(split: str, one: SplitAudit) -> Iterator[str]:
    if one.shape == "scored_pairs":
        return
    for name, number in one.labels.items():
        if number < max(2, FEW * one.examples):
            yield f"only {number} of {one.examples} {split} examples are of the class {name}"


def _warn_of_lengths(split: str, one: SplitAudit) -> Iterator[str]:
    for column, lengths in one.lengths.items():
        for each in lengths:
            if each.over > MANY_TOO_LONG * one.examples:
                yield (
                    f"{each.over} of {one.examples} texts in {column} of {split} are cut: the model reads "
                    f"{each.maximum} tokens, and they have up to {each.longest}"
                )
