"""From examples as they were read to those a loss is trained on: leaks, lengths, then shape.

Owns that order. Knows no source and no loss beyond its name and the shapes it wants.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedsweep.data.audit import drop_leaked
from embedsweep.data.convert import convert, target_shape
from embedsweep.data.pairs import Splits
from embedsweep.data.shapes import Examples
from embedsweep.data.tokens import Count, within
from embedsweep.schema import DataConfig, Shape


def prepared(splits: Splits, data: DataConfig, wants: Sequence[Shape], loss: str, count: Count | None) -> Examples:
    """The training examples of ``splits`` as a loss takes them; what was done is said in their ``conversion``.

    Args:
        splits: what was read; of a further dataset its examples with the trial's own dev and test.
        data: where the training examples came from, and what is to become of them.
        wants: the shapes the loss takes, the best first.
        loss: its name, for messages.
        count: counts tokens by the model's own tokenizer; None, where there is no model yet, keeps texts of any length.

    Raises:
        ConfigError: the data cannot take a shape that the loss wants, or too few examples are left.
    """
    shape = target_shape(splits.train.shape, wants, data.convert.to, loss)
    examples = drop_leaked(splits) if data.drop_leaked else splits.train
    if data.max_tokens is not None and count is not None:
        examples = within(examples, data.max_tokens, count)
    return convert(examples, shape, data.convert, data.score_range)
