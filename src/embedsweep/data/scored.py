"""What a model is scored on, a type for each family of evaluations: pairs, retrieval, triplets, binary pairs."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

Texts = tuple[str, ...]


def digest_of(content: object) -> str:
    """Return 16 hex digits of a hash over content that JSON can express, its order included."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


class _Scored:
    """What all types have in common."""

    @property
    def content(self) -> list[object]:
        """All that a score depends on, in order."""
        raise NotImplementedError

    @cached_property
    def digest(self) -> str:
        """Return 16 hex digits that change with any text, label, id or order, and with nothing else."""
        return digest_of(self.content)


@dataclass(frozen=True)
class Pairs(_Scored):
    """Pairs of sentences with their gold scores.

    Attributes:
        sentences1: the first sentence of every pair.
        sentences2: the second sentence of every pair.
        scores: the score of every pair, in [0, 1].
        origin: their source, for messages: a file, ``demo train``, ``id@revision[language] split``.
        places: the place of every pair in its source, for messages; or None.
    """

    sentences1: Texts
    sentences2: Texts
    scores: tuple[float, ...]
    origin: str
    places: Texts | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def content(self) -> list[object]:
        """Sentences and scores."""
        return [self.sentences1, self.sentences2, self.scores]


@dataclass(frozen=True)
class Retrieval(_Scored):
    """Queries, the documents that are searched, and which of them are relevant.

    Attributes:
        query_ids: the id of every query, each once.
        queries: the text of every query.
        document_ids: the id of every document, each once.
        documents: the text of every document, its title in it where titles are used.
        relevant: query id -> document id -> relevance, of the judged documents of every query; 0 is not relevant.
            Ids are among those above, queries and documents in the order of their source.
        origin: the source, for messages.
        places: the place of every query in its source, for messages; or None.
        sampled_from: how many documents there were before a sample of them was taken; None if none was.
    """

    query_ids: Texts
    queries: Texts
    document_ids: Texts
    documents: Texts
    relevant: Mapping[str, Mapping[str, float]] = field(hash=False)
    origin: str
    places: Texts | None = field(default=None, compare=False)
    sampled_from: int | None = None

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def content(self) -> list[object]:
        """Ids, texts and judgements."""
        judged = [[query, list(of_query.items())] for query, of_query in self.relevant.items()]
        return [self.query_ids, self.queries, self.document_ids, self.documents, judged]

    @property
    def relevant_pairs(self) -> tuple[tuple[str, str], ...]:
        """The texts of each query and of each document that is relevant to it, in the order of the judgements."""
        queries = dict(zip(self.query_ids, self.queries, strict=True))
        documents = dict(zip(self.document_ids, self.documents, strict=True))
        return tuple(
            (queries[query], documents[document])
            for query, of_query in self.relevant.items()
            for document, relevance in of_query.items()
            if relevance > 0
        )

    def of_queries(self, ids: Iterable[str]) -> Retrieval:
        """Return the same documents with only some of the queries, in their present order."""
        wanted = set(ids)
        kept = [index for index, name in enumerate(self.query_ids) if name in wanted]
        places = None if self.places is None else tuple(self.places[index] for index in kept)
        return replace(
            self,
            query_ids=tuple(self.query_ids[index] for index in kept),
            queries=tuple(self.queries[index] for index in kept),
            relevant={name: of_query for name, of_query in self.relevant.items() if name in wanted},
            places=places,
        )

    def with_sample(self, size: int, seed: int) -> Retrieval:
        """Return the same queries with all judged documents and a random sample of the others, in their order.

        Args:
            size: how many documents there shall be; judged ones above that number stay, too.
            seed: of the sample.
        """
        if size >= len(self.document_ids):
            return self
        judged = {document for of_query in self.relevant.values() for document in of_query}
        others = [document for document in self.document_ids if document not in judged]
        kept = judged.union(random.Random(seed).sample(others, min(len(others), max(0, size - len(judged)))))
        rows = [index for index, document in enumerate(self.document_ids) if document in kept]
        return replace(
            self,
            document_ids=tuple(self.document_ids[index] for index in rows),
            documents=tuple(self.documents[index] for index in rows),
            sampled_from=len(self.document_ids),
        )

    def with_candidates(self) -> Retrieval:
        """Return what can be reranked: the queries with a relevant document and one that is judged not relevant.

        The origin says how many are left out.
        """
        grades = {name: of_query.values() for name, of_query in self.relevant.items()}
        kept = self.of_queries(
            name for name, values in grades.items() if any(value > 0 for value in values) and 0 in values
        )
        without = len(self) - len(kept)
        note = f" ({without} {'query' if without == 1 else 'queries'} without judged documents of both kinds left out)"
        return replace(kept, origin=self.origin + note) if without else kept


@dataclass(frozen=True)
class TripletSet(_Scored):
    """Triplets: a text, one that is similar to it and one that is less so.

    Attributes:
        anchors: the text of every triplet that the others are compared with.
        positives: the text that should be more similar to it.
        negatives: the text that should be less similar to it.
        origin: their source, for messages.
        places: the place of every triplet in its source, for messages; or None.
    """

    anchors: Texts
    positives: Texts
    negatives: Texts
    origin: str
    places: Texts | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.anchors)

    @property
    def content(self) -> list[object]:
        """The texts."""
        return [self.anchors, self.positives, self.negatives]


@dataclass(frozen=True)
class BinaryPairs(_Scored):
    """Pairs of sentences that mean the same or do not.

    Attributes:
        sentences1: the first sentence of every pair.
        sentences2: the second sentence of every pair.
        labels: 1 where the two mean the same, else 0.
        origin: their source, for messages.
        places: the place of every pair in its source, for messages; or None.
    """

    sentences1: Texts
    sentences2: Texts
    labels: tuple[int, ...]
    origin: str
    places: Texts | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def content(self) -> list[object]:
        """Sentences and labels."""
        return [self.sentences1, self.sentences2, self.labels]


Scored = Pairs | Retrieval | TripletSet | BinaryPairs
"""What an evaluation of one family scores a model on; ``len()`` is the number of its items."""
