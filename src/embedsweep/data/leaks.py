"""Texts that train shares with dev and test, and training without them.

Texts are equal if a reader takes them for the same, whatever their case, white space or Unicode form: a model that has
seen one knows the other.
"""

from __future__ import annotations

from dataclasses import replace

from embedsweep.data.examples import Examples, Splits, as_examples
from embedsweep.data.texts import normal
from embedsweep.errors import ConfigError


def drop_leaked(splits: Splits) -> Examples:
    """Return the training examples without texts that occur in dev or test; their ``conversion`` has the numbers.

    Raises:
        ConfigError: fewer than 2 are left.
    """
    train = splits.train
    known = held_out(splits)
    rows = zip(*train.texts, strict=True)
    kept = [index for index, row in enumerate(rows) if not any(normal(text) in known for text in row)]
    if len(kept) < 2:
        raise ConfigError.single(
            "data.drop_leaked",
            f"leaves {len(kept)} of {len(train)} examples of {train.origin}, and training needs at least 2: the others "
            "share a sentence with dev or test; use other data, or set data.drop_leaked=false",
        )
    leaked = f"{len(train) - len(kept)} of {len(train)} examples"
    return train.kept(kept, f"leaked: {leaked} share a sentence with dev or test, left out, {len(kept)} kept")


def held_out(splits: Splits) -> set[str]:
    """Return the sentences of dev and test in normal form; of retrieval those of queries and relevant documents."""
    return sentences(normalised(as_examples(splits.dev))) | sentences(normalised(as_examples(splits.test)))


def trained_on(splits: Splits, *, drop: bool) -> Splits:
    """Return the splits as a training has them: without leaked examples if ``data.drop_leaked`` is set."""
    return replace(splits, train=drop_leaked(splits)) if drop else splits


def normalised(examples: Examples) -> Examples:
    """Return the examples with each text in the form that it shares with those that a reader takes for the same."""
    return replace(examples, texts=tuple(tuple(map(normal, column)) for column in examples.texts))


def sentences(examples: Examples) -> set[str]:
    """Return the different texts of all columns."""
    return {text for column in examples.texts for text in column}
