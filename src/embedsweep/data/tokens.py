"""Examples within a number of tokens, and tokens counted without a model.

Owns the filter by length and where a model's folder keeps its tokenizer. Knows no source and no loss; no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from embedsweep.config.trial import ModelConfig
from embedsweep.data.examples import Examples, text_columns
from embedsweep.errors import ConfigError
from embedsweep.hub import cached_model_path

Count = Callable[[Sequence[str]], list[int]]
"""The number of tokens of each text, special ones included, uncut."""

UNLIMITED = 10**6
"""From here on a tokenizer's maximum is transformers' word for none."""


def within(examples: Examples, max_tokens: tuple[int, ...], count: Count) -> Examples:
    """The examples whose every text has fewer tokens than its column may have.

    Args:
        examples: what there is, before any conversion.
        max_tokens: for each text column the number of tokens that a text must stay below.
        count: counts the tokens of texts, by the model's own tokenizer.

    Raises:
        ConfigError: fewer than 2 examples are left.
    """
    columns = text_columns(examples.shape)
    lengths = [count(texts) for texts in examples.texts]
    short = [all(n < limit for n, limit in zip(row, max_tokens, strict=True)) for row in zip(*lengths, strict=True)]
    kept = [index for index, fits in enumerate(short) if fits]
    below = ", ".join(f"{column} below {limit}" for column, limit in zip(columns, max_tokens, strict=True))
    if len(kept) < 2:
        shortest = ", ".join(str(min(numbers, default=0)) for numbers in lengths)
        raise ConfigError.single(
            "data.max_tokens",
            f"{below} leaves {len(kept)} of {len(examples)} examples of {examples.origin}, and training needs at least "
            f"2; the shortest texts there have {shortest} tokens: raise data.max_tokens",
        )
    gone = len(examples) - len(kept)
    return examples.kept(kept, f"tokens: {below}, {gone} of {len(examples)} left out, {len(kept)} kept")


def token_counter(model: Path) -> Count | None:
    """Counts tokens by the tokenizer in a model's folder, uncut; None where the folder has none of the fast kind."""
    # sentence-transformers keeps the transformer beside the other modules, or in a folder of its own.
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


def model_folder(model: ModelConfig) -> Path | None:
    """Where a model lies on this disk, a folder or the hub's cache; None where it does not, or is built here."""
    if model.path is None:
        return None
    folder = Path(model.path).expanduser()
    return folder if folder.is_dir() else cached_model_path(model.path, model.revision)


def tokens_read(model: ModelConfig, folder: Path) -> int | None:
    """How many tokens of a text a model reads: as it is configured, as its folder says, or else its tokenizer."""
    if model.max_seq_length is not None:
        return model.max_seq_length
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        for file in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            length = json.loads(file.read_text(encoding="utf-8")).get(key) if file.is_file() else None
            if isinstance(length, int) and length < UNLIMITED:
                return length
    return None
