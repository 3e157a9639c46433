"""Positive pairs and triplets as retrieval: the first texts are queries, the others the documents that are searched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from embedsweep.config.trial import Shape
from embedsweep.data.examples import Examples
from embedsweep.data.scored import Retrieval

SEARCHED: tuple[Shape, ...] = ("positive_pairs", "triplets")
"""Shapes whose examples are queries with documents."""


def as_retrieval(examples: Examples, others: Iterable[Examples] = ()) -> Retrieval:
    """Return the queries of some examples with all documents there are.

    Equal texts are one query, or one document. A query's positives are relevant (1), its negatives are not (0), unless
    another example has the same text as a positive of it. Ids are numbers in the order of first occurrence.

    Args:
        examples: whose queries are asked; one of :data:`SEARCHED`.
        others: the examples of the other splits, whose documents are searched, too.
    """
    documents = {text: str(number) for number, text in enumerate(_documents([examples, *others]))}
    queries: dict[str, dict[str, float]] = {}
    places: dict[str, str] = {}
    for index, (query, *texts) in enumerate(zip(*examples.texts, strict=True)):
        judged = queries.setdefault(query, {})
        for relevance, text in zip((1.0, 0.0), texts, strict=False):
            judged[documents[text]] = max(relevance, judged.get(documents[text], 0.0))
        if examples.places is not None:
            places.setdefault(query, examples.places[index])
    ids = {query: str(number) for number, query in enumerate(queries)}
    return Retrieval(
        query_ids=tuple(ids.values()),
        queries=tuple(ids),
        document_ids=tuple(documents.values()),
        documents=tuple(documents),
        relevant={ids[query]: judged for query, judged in queries.items()},
        origin=examples.origin,
        places=tuple(places.values()) or None,
    )


def _documents(sources: Sequence[Examples]) -> Mapping[str, None]:
    """Return all texts but the first of each example, each once, source by source and row by row."""
    return dict.fromkeys(text for source in sources for row in zip(*source.texts[1:], strict=True) for text in row)
