"""Audit data before training: leaks between splits, duplicates, labels and lengths.

Between splits, texts are equal as in `embedsweep.data.leaks`; within a split, if they are identical.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

from embedsweep.config.trial import SPLITS, Shape, Split
from embedsweep.data.examples import Examples, Splits, as_examples, text_columns
from embedsweep.data.leaks import normalised, sentences
from embedsweep.data.scored import Retrieval, Scored
from embedsweep.data.tokens import Count

BINS = 10
SHOWN_PLACES = 3
"""Examples of each kind whose places are shown."""


@dataclass(frozen=True)
class Shared:
    """What a later split has in common with an earlier one.

    Attributes:
        pairs: number of examples of the later with a pair of texts, in either order, that is in the earlier.
        of: number of examples of the later.
        sentences: number of different texts in both.
        queries: number of different queries in both, where both have some; else None.
        passages: number of different passages that are relevant in both, as well.
    """

    pairs: int
    of: int
    sentences: int
    queries: int | None = None
    passages: int | None = None


@dataclass(frozen=True)
class Searched:
    """How many queries a split has, and the documents that they search.

    Attributes:
        queries: number of queries.
        documents: number of documents.
        repeated: number of documents with the same text as an earlier one.
        ids: ids of the first three of these.
    """

    queries: int
    documents: int
    repeated: int
    ids: tuple[str, ...]


@dataclass(frozen=True)
class Lengths:
    """The lengths of the texts of one column, in words or in tokens (special tokens included).

    Attributes:
        unit: ``words`` or ``tokens``.
        shortest: the smallest length.
        median: the median length.
        longest: the largest length.
        maximum: the number of tokens that the model reads; None if unknown, and for words.
        over: number of texts longer than ``maximum``, which are cut.
        of: number of texts.
    """

    unit: str
    shortest: int
    median: float
    longest: int
    maximum: int | None
    over: int
    of: int


@dataclass(frozen=True)
class SplitAudit:
    """The audit of one split.

    Attributes:
        origin: the source of the examples.
        conversion: description of what was done to them since they were read; None for nothing.
        shape: of the examples.
        examples: their number.
        duplicates: number of examples with the same texts as an earlier one, in the same order.
        turned: number of pairs that are duplicates only if reversed.
        disagreeing: number of different pairs with more than one label.
        identical: number of examples with two equal texts.
        quoted: number of examples with a text in double quotes that a writer of files has probably put there.
        places: duplicates (reversed or not), disagreeing, identical and quoted -> places of the first three examples of
            each, if known.
        highest: the highest score, in [0, 1]; None for other shapes.
        labels: class, or score from-to, -> number of examples; empty for shapes without labels.
        lengths: text column -> its lengths in words and, if tokens were counted, in tokens.
        searched: what is searched, where retrieval is scored; examples are then each query with each relevant document.
    """

    origin: str
    conversion: str | None
    shape: Shape
    examples: int
    duplicates: int
    turned: int
    disagreeing: int
    identical: int
    quoted: int
    places: Mapping[str, tuple[str, ...]]
    highest: float | None
    labels: Mapping[str, int]
    lengths: Mapping[str, tuple[Lengths, ...]]
    searched: Searched | None


@dataclass(frozen=True)
class Audit:
    """The audits of all splits, and what each shares with an earlier: ``train/dev``, ``train/test``, ``dev/test``."""

    splits: Mapping[Split, SplitAudit]
    shared: Mapping[str, Shared]


def audit(splits: Splits, count: Count | None = None, maximum: int | None = None) -> Audit:
    """Audit training examples, before any conversion, and the pairs that they are scored on.

    Args:
        splits: the examples and pairs.
        count: counts the tokens of texts; None leaves tokens out.
        maximum: the number of tokens that the model reads.
    """
    all_examples: dict[Split, Examples] = {
        "train": splits.train,
        "dev": as_examples(splits.dev),
        "test": as_examples(splits.test),
    }
    in_normal_form = {split: normalised(examples) for split, examples in all_examples.items()}
    scored: dict[Split, Scored] = {"dev": splits.dev, "test": splits.test}
    return Audit(
        splits={name: _audit_split(each, scored.get(name), count, maximum) for name, each in all_examples.items()},
        shared={
            f"{earlier}/{later}": _shared(in_normal_form[earlier], in_normal_form[later])
            for earlier, later in combinations(SPLITS, 2)
        },
    )


def _audit_split(examples: Examples, scored: Scored | None, count: Count | None, maximum: int | None) -> SplitAudit:
    rows = list(zip(*examples.texts, strict=True))
    duplicates = len(rows) - len(set(rows))
    repeated = _repeated([frozenset(row) for row in rows] if len(examples.texts) == 2 else rows)
    n_disagreeing, disagreeing = _disagreeing(examples, rows)
    identical = [index for index, row in enumerate(rows) if len(set(row)) < len(row)]
    quoted = _quoted(examples)
    indices = {"duplicates": repeated, "disagreeing": disagreeing, "identical": identical, "quoted": quoted}
    scores = examples.labels if examples.shape == "scored_pairs" else None
    return SplitAudit(
        origin=examples.origin,
        conversion=examples.conversion,
        shape=examples.shape,
        examples=len(examples),
        duplicates=duplicates,
        turned=len(repeated) - duplicates,
        disagreeing=n_disagreeing,
        identical=len(identical),
        quoted=len(quoted),
        places={kind: _places(examples, of_kind) for kind, of_kind in indices.items()},
        highest=max(scores) if scores else None,
        labels=_histogram(examples),
        lengths={name: tuple(_lengths(texts, count, maximum)) for name, texts in _columns(examples, scored).items()},
        searched=_searched(scored) if isinstance(scored, Retrieval) else None,
    )


def _columns(examples: Examples, scored: Scored | None) -> Mapping[str, Sequence[str]]:
    """Return the names of text columns with their texts; of retrieval each query and each relevant document once."""
    if isinstance(scored, Retrieval):
        return {"query": scored.queries, "relevant document": tuple(dict.fromkeys(examples.texts[1]))}
    return dict(zip(text_columns(examples.shape, len(examples.texts)), examples.texts, strict=True))


def _searched(retrieval: Retrieval) -> Searched:
    repeated = _repeated(retrieval.documents)
    ids = tuple(retrieval.document_ids[index] for index in repeated[:SHOWN_PLACES])
    return Searched(len(retrieval), len(retrieval.documents), len(repeated), ids)


def _places(examples: Examples, indices: Sequence[int]) -> tuple[str, ...]:
    return () if examples.places is None else tuple(examples.places[index] for index in indices[:SHOWN_PLACES])


def _repeated(rows: Sequence[object]) -> list[int]:
    """Return the indices of rows that equal an earlier one."""
    first: dict[object, int] = {}
    return [index for index, row in enumerate(rows) if first.setdefault(row, index) != index]


def _quoted(examples: Examples) -> list[int]:
    """Return the indices of examples with a text that is quoted and has its own quotes doubled, or all if a column is.

    Texts that are in double quotes for what they say, such as an utterance, are neither.
    """
    found: set[int] = set()
    for column in examples.texts:
        around = [index for index, text in enumerate(column) if len(text) > 2 and text[0] == text[-1] == '"']
        is_every = len(around) == len(column) > 1
        found.update(i for i in around if is_every or ('""' in column[i][1:-1] and '"' not in _single(column[i])))
    return sorted(found)


def _single(text: str) -> str:
    """Return what is inside of a quoted text, without pairs of quotes."""
    return text[1:-1].replace('""', "")


def _disagreeing(examples: Examples, rows: Sequence[tuple[str, ...]]) -> tuple[int, list[int]]:
    """Return the number of different pairs with more than one label, and the indices of their rows."""
    if examples.labels is None:
        return 0, []
    # The relation of a class pair has a direction; a similarity has none.
    keys: list[object] = list(rows) if examples.shape == "class_pairs" else [frozenset(row) for row in rows]
    labels: dict[object, set[float]] = {}
    for key, label in zip(keys, examples.labels, strict=True):
        labels.setdefault(key, set()).add(label)
    differing = {key for key, of_key in labels.items() if len(of_key) > 1}
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
    yield Lengths("words", min(words), median(words), max(words), None, 0, len(texts))
    if count is not None:
        tokens = count(texts)
        over = 0 if maximum is None else sum(number > maximum for number in tokens)
        yield Lengths("tokens", min(tokens), median(tokens), max(tokens), maximum, over, len(texts))


def _shared(earlier: Examples, later: Examples) -> Shared:
    known = {pair for pairs in _pairs(earlier) for pair in pairs}
    both = earlier.shape == later.shape == "positive_pairs"
    queries, passages = (len({*earlier.texts[n]} & {*later.texts[n]}) if both else None for n in (0, 1 if both else 0))
    return Shared(
        pairs=sum(any(pair in known for pair in pairs) for pairs in _pairs(later)),
        of=len(later),
        sentences=len(sentences(earlier) & sentences(later)),
        queries=queries,
        passages=passages,
    )


def _pairs(examples: Examples) -> Iterator[tuple[frozenset[str], ...]]:
    """Yield the unordered pairs of texts of each example: of a triplet its anchor with each other text."""
    for first, *others in zip(*examples.texts, strict=True):
        yield tuple(frozenset((first, other)) for other in others)


MANY_TOO_LONG = 0.05
"""Share of texts cut by the model above which there is a warning."""
FEW = 0.01
"""Share of examples below which there is a warning for a class."""
LOW = 0.25
"""Highest score, in [0, 1], up to which scores probably have another range: 0-1 read as 0-4 or 0-5."""


def warnings(result: Audit) -> list[str]:
    """Return the warnings of an audit, a line each."""
    lines: list[str] = []
    for name, shared in result.shared.items():
        lines += _warn_of_shared(name, shared)
    for name, split in result.splits.items():
        lines += _warn_of_duplicates(name, split)
        lines += _warn_of_labels(name, split)
        lines += _warn_of_lengths(name, split)
    return lines


def _warn_of_shared(name: str, shared: Shared) -> Iterator[str]:
    earlier, later = name.split("/")
    if earlier == "train" and shared.pairs == shared.of:
        yield f"{later} is trained on: {shared.pairs} of {shared.of} pairs occur in train"
    elif shared.pairs or shared.sentences:
        advice = "; data.drop_leaked=true leaves them out of train" if earlier == "train" else ""
        pairs = f"{shared.pairs} of {shared.of} {later} pairs and " if shared.pairs else ""
        texts = f"{shared.sentences} sentences"
        if shared.queries is not None and shared.queries + (shared.passages or 0):
            texts = f"{shared.queries} queries and {shared.passages} relevant passages"
        yield f"{pairs}{texts} of {later} also occur in {earlier}{advice}"


def _warn_of_duplicates(name: Split, split: SplitAudit) -> Iterator[str]:
    if count := split.duplicates + split.turned:
        turned = f", {split.turned} of them reversed" if split.turned else ""
        labels = f"; {split.disagreeing} of the repeated have different labels" if split.disagreeing else ""
        at, where = _at(split, "duplicates"), _at(split, "disagreeing")
        yield f"{count} of {split.examples} {name} examples are duplicates{turned}{at}{labels}{where}"
    if (searched := split.searched) is not None and searched.repeated:
        yield (
            f"{searched.repeated} of the {searched.documents} documents for {name} have the text of an earlier one, as "
            f"{', '.join(searched.ids)}: where the qrels name one of the two, finding the other counts as wrong"
        )
    if split.identical:
        at = _at(split, "identical")
        yield f"{split.identical} of {split.examples} {name} examples have the same text twice{at}"
    if split.quoted:
        at = _at(split, "quoted")
        yield (
            f"{split.quoted} of {split.examples} {name} examples have a text in double quotes{at}: if Excel or pandas "
            "put them around it, set data.quoting=double_quotes"
        )


def _at(split: SplitAudit, kind: str) -> str:
    """Return the places of the first examples of a kind: `` (train.csv, lines 12, 57 and 103)``; empty if unknown."""
    numbers: dict[str, list[str]] = {}
    for place in split.places[kind]:
        source, _, number = place.rpartition(" ")
        numbers.setdefault(source, []).append(number)
    places = []
    for source, (*others, last) in numbers.items():
        places.append(f"{source}s {', '.join(others)} and {last}" if others else f"{source} {last}")
    return f" ({'; '.join(places)})" if places else ""


def _warn_of_labels(name: Split, split: SplitAudit) -> Iterator[str]:
    # Dev and test are only ranked, whatever their scale.
    if name == "train" and split.highest is not None and split.highest <= LOW:
        yield (
            f"the highest score of train is {split.highest:g} of data.score_range, taken as 0-1: if 1 is the highest "
            "possible score in the source, set 'data.score_range=[0,1]'"
        )
    for label, count in split.labels.items() if split.shape != "scored_pairs" else ():
        if count < max(2, FEW * split.examples):
            yield f"only {count} of {split.examples} {name} examples are of the class {label}"


def _warn_of_lengths(name: Split, split: SplitAudit) -> Iterator[str]:
    for column, lengths in split.lengths.items():
        for each in lengths:
            if each.over > MANY_TOO_LONG * each.of:
                yield (
                    f"{each.over} of {each.of} texts in {column} of {name} are cut: the model reads "
                    f"{each.maximum} tokens, and they have up to {each.longest}"
                )
