"""Filter examples by their number of tokens; count tokens by the tokenizer in a model's folder, without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from embedsweep.config.trial import ModelConfig
from embedsweep.data.examples import Examples, text_columns
from embedsweep.errors import ConfigError

Count = Callable[[Sequence[str]], list[int]]
"""Returns the number of tokens of each text, special tokens included, without truncation."""

_COUNTED_AT_ONCE = 1000
UNLIMITED = 10**6
"""A tokenizer's maximum from which transformers means that there is none."""


def within(examples: Examples, max_tokens: tuple[int, ...], count: Count) -> Examples:
    """Return the examples whose texts all have fewer tokens than the limit of their column.

    Args:
        examples: the examples, before any conversion.
        max_tokens: for each text column, the number of tokens from which a text is too long.
        count: counts the tokens of texts, by the model's own tokenizer.

    Raises:
        ConfigError: fewer than 2 examples are left.
    """
    columns = text_columns(examples.shape, len(examples.texts))
    lengths = [count(texts) for texts in examples.texts]
    kept = [index for index, fits in enumerate(_are_short(lengths, max_tokens)) if fits]
    below = ", ".join(f"{column} below {limit}" for column, limit in zip(columns, max_tokens, strict=True))
    if len(kept) < 2:
        shortest = ", ".join(str(min(numbers, default=0)) for numbers in lengths)
        raise ConfigError.single(
            "data.max_tokens",
            f"{below} leaves {len(kept)} of {len(examples)} examples of {examples.origin}, and training needs at least "
            f"2; the shortest texts there have {shortest} tokens: raise data.max_tokens",
        )
    left_out = len(examples) - len(kept)
    return examples.kept(kept, f"tokens: {below}, {left_out} of {len(examples)} left out, {len(kept)} kept")


def require_short(examples: Examples, max_tokens: tuple[int, ...], count: Count) -> None:
    """Check that :func:`within` keeps 2 examples; counts no further than to these.

    Raises:
        ConfigError: fewer than 2 examples would be left.
    """
    short = 0
    for start in range(0, len(examples), _COUNTED_AT_ONCE):
        lengths = [count(texts[start : start + _COUNTED_AT_ONCE]) for texts in examples.texts]
        short += sum(_are_short(lengths, max_tokens))
        if short >= 2:
            return
    within(examples, max_tokens, count)


def _are_short(lengths: Sequence[Sequence[int]], max_tokens: tuple[int, ...]) -> list[bool]:
    """Return of each example whether each of its texts is below its column's limit, by the lengths of each column."""
    return [all(n < limit for n, limit in zip(row, max_tokens, strict=True)) for row in zip(*lengths, strict=True)]


def token_counter(model: Path | None) -> Count | None:
    """Return a counter by the tokenizer in a model's folder; None without a folder or a fast tokenizer in it."""
    if model is None:
        return None
    # The transformer's files are beside those of the other modules, or in a folder of their own.
    candidates = (model / "tokenizer.json", *sorted(model.glob("*/tokenizer.json")))
    file = next((file for file in candidates if file.is_file()), None)
    if file is None:
        return None
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))]

    return count


def tokens_read(model: ModelConfig, folder: Path | None) -> int | None:
    """Return how many tokens of a text a model reads, by its configuration, its folder or its tokenizer."""
    if model.max_seq_length is not None or folder is None:
        return model.max_seq_length
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        for file in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            length = json.loads(file.read_text(encoding="utf-8")).get(key) if file.is_file() else None
            if isinstance(length, int) and length < UNLIMITED:
                return length
    return None
