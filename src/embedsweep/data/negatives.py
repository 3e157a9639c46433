"""Hard negatives of positive pairs: what they are chosen from, and the examples that they make."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from embedsweep.config.negatives import NegativesConfig
from embedsweep.config.values import shown
from embedsweep.data.examples import Examples
from embedsweep.data.scored import digest_of
from embedsweep.errors import ConfigError

Negatives = Mapping[str, Sequence[str]]
"""Question -> its negatives, the most similar first; questions without any are left out."""

AT_RANDOM = "drawn at random"
"""Part of the counts of trials in which some negatives keep no margin."""

_SUMMARY = re.compile(r"hard negatives: ([^(;]+?)(?: \(|;|$)")


@dataclass(frozen=True)
class Candidates:
    """The documents that negatives of some questions are chosen from, and those that are none.

    Attributes:
        relevant: question -> the texts that are relevant to it; itself, too, if it is a document.
        documents: all documents, each text once; those relevant to any question among them.
    """

    relevant: Mapping[str, tuple[str, ...]]
    documents: tuple[str, ...]

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text or order."""
        return digest_of([list(self.relevant.items()), self.documents])

    def of_questions(self, questions: Collection[str]) -> Candidates:
        """Return the same documents for some of the questions."""
        return replace(self, relevant={text: of for text, of in self.relevant.items() if text in questions})

    def irrelevant_to(self, question: str) -> list[str]:
        """Return the documents that may be negatives of a question."""
        relevant = set(self.relevant[question])
        return [document for document in self.documents if document not in relevant]


def candidates_of(pairs: Examples, searched: Iterable[str], judged: Iterable[tuple[str, str]]) -> Candidates:
    """Return what the negatives of positive pairs are chosen from.

    Args:
        pairs: the pairs that get negatives, perhaps fewer than there are.
        searched: the documents.
        judged: all else that is known to be relevant: questions, each with a text that may be no document.

    Raises:
        ConfigError: all documents are relevant to some question.
    """
    relevant: dict[str, dict[str, None]] = {question: {} for question in pairs.texts[0]}
    documents = dict.fromkeys((*searched, *pairs.texts[1]))
    for question, document in itertools.chain(zip(*pairs.texts, strict=True), judged):
        if question in relevant and document in documents:
            relevant[question][document] = None
    for question, texts in relevant.items():
        if question in documents:
            texts[question] = None
        if len(texts) == len(documents):
            message = f"all {len(documents)} documents of {pairs.origin} are relevant to {question!r}: add others"
            raise ConfigError.single("data.negatives.count", f"{message}, or set it to 0")
    return Candidates({question: tuple(texts) for question, texts in relevant.items()}, tuple(documents))


def completed(candidates: Candidates, found: Negatives, config: NegativesConfig) -> dict[str, list[str]]:
    """Return ``count`` negatives for every question: what was found, repeated in its order.

    A question for which none was found gets documents drawn at random among those that are not relevant to it, as no
    other document keeps the margins.
    """
    negatives: dict[str, list[str]] = {}
    for question in candidates.relevant:
        texts = list(found.get(question, ()))
        if not texts:
            documents = candidates.irrelevant_to(question)
            # The draw depends on nothing but the question, so that other questions change nothing.
            texts = random.Random(f"{config.seed} {question}").sample(documents, min(config.count, len(documents)))
        negatives[question] = list(itertools.islice(itertools.cycle(texts), config.count))
    return negatives


def with_negatives(
    pairs: Examples, candidates: Candidates, found: Negatives, dropped: Collection[str], config: NegativesConfig
) -> Examples:
    """Return positive pairs with their negatives: triplets, or tuples; without the dropped questions.

    Args:
        pairs: positive pairs.
        candidates: what negatives were chosen from.
        found: the negatives that were found.
        dropped: questions that are left out.
        config: how many negatives each pair gets; with 0 pairs stay pairs.

    Raises:
        ConfigError: fewer than two pairs are left.
    """
    rows = [row for row in zip(*pairs.texts, strict=True) if row[0] not in dropped]
    if len(rows) < 2:
        message = (
            f"with missing=drop {len(rows)} of {len(pairs)} pairs of {pairs.origin} are left, and a loss needs at "
        )
        message += "least 2: mine fewer negatives, by smaller margins or to a higher range_max, or set missing=repeat"
        raise ConfigError.single("data.negatives", message)
    kept = candidates.of_questions({row[0] for row in rows})
    conversion = f"hard negatives: {_counts(kept, found, dropped, config)}{_how(kept, config)}"
    if not config.count:
        return pairs.became("positive_pairs", tuple(zip(*rows, strict=True)), None, None, conversion)
    negatives = completed(kept, found, config)
    columns = tuple(zip(*((*row, *negatives[row[0]]) for row in rows), strict=True))
    return pairs.became("triplets" if config.count == 1 else "tuples", columns, None, None, conversion)


def _counts(kept: Candidates, found: Negatives, dropped: Collection[str], config: NegativesConfig) -> str:
    """Say how many negatives of the kept questions were found and repeated, and how many questions were dropped."""
    gone = f"{len(dropped)} of {len(dropped) + len(kept.relevant)} questions dropped"
    if not config.count:
        return f"none, {gone}"
    numbers = [min(len(found.get(question, ())), config.count) for question in kept.relevant]
    drawn = numbers.count(0)
    words = [f"{sum(numbers)} found", f"{sum(config.count - number for number in numbers if number)} repeated"]
    words += [f"{AT_RANDOM} for {drawn} question{'s' * (drawn != 1)}"] if drawn else []
    words += [gone] if dropped else []
    return ", ".join(words)


def _how(kept: Candidates, config: NegativesConfig) -> str:
    if not config.count:
        return ""
    settings = ("range_max", "margin", "relative_margin", "max_score")
    limits = [f"range_min {config.range_min}"] if config.range_min else []
    limits += [f"{key} {shown(value)}" for key in settings if (value := getattr(config, key)) is not None]
    where = f"{config.count} for each of {len(kept.relevant)} questions among {len(kept.documents)} documents"
    by = "by the base model" if config.miner is None else f"by {config.miner}"
    return f" ({', '.join([where, by, config.sampling, *limits])})"


def counts_in(conversion: str) -> str | None:
    """Return the counts of the negatives of a trial, in the description of its conversion; None without negatives."""
    match = _SUMMARY.search(conversion)
    return None if match is None else match[1]
