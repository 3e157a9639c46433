"""Examples of one shape become examples of another, each conversion explicit and said in words.

Owns which shape can become which. Knows no source and no loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from embedsweep.data.shapes import WORDS, Examples
from embedsweep.errors import ConfigError
from embedsweep.schema import ConvertConfig, Shape

Conversion = Callable[[Examples, ConvertConfig, tuple[float, float]], Examples]

# A threshold is written in decimals, a normalised score is a quotient: (4.6 - 1) / 4 is a little below 0.9.
_ROUNDING = 1e-9


def target_shape(shape: Shape, wants: Sequence[Shape], to: Shape | None, loss: str) -> Shape:
    """The shape that data of ``shape`` takes for a loss.

    Args:
        shape: what the data has.
        wants: what the loss takes, the best first.
        to: what the user asks for; None leaves the choice: as it is, else the first it can become.
        loss: its name, for the message.

    Raises:
        ConfigError: the loss does not take ``to``, or the data can become nothing that the loss takes.
    """
    can = (shape, *(target for source, target in CONVERSIONS if source == shape))
    wanted = "; or ".join(f"{name} ({WORDS[name]})" for name in wants)
    if to is not None and to not in wants:
        raise ConfigError.single("data.convert.to", f"loss={loss} does not take {to}; it takes {wanted}")
    for target in (to,) if to is not None else (*(name for name in wants if name == shape), *wants):
        if target in can:
            return target
    raise ConfigError.single(
        "loss",
        f"loss={loss} wants {wanted}; data.shape={shape} ({WORDS[shape]}) cannot become that, only: {', '.join(can)}",
    )


def convert(examples: Examples, to: Shape, config: ConvertConfig, score_range: tuple[float, float]) -> Examples:
    """Examples in another shape; unchanged where they have it.

    Args:
        examples: what there is.
        to: a shape that :func:`target_shape` allows.
        config: thresholds, directions and the seed.
        score_range: the lowest and highest score in the source, to say a threshold in its terms.

    Raises:
        ConfigError: too few examples are left.
    """
    return examples if examples.shape == to else CONVERSIONS[examples.shape, to](examples, config, score_range)


def _scored_to_positive(examples: Examples, config: ConvertConfig, score_range: tuple[float, float]) -> Examples:
    """Keeps the pairs whose score reaches the threshold; then, with ``both_directions``, the same turned round."""
    assert examples.labels is not None
    threshold = config.positive_threshold
    low, high = score_range
    in_source = f"{low + threshold * (high - low):g} of {low:g}-{high:g}"
    kept = [index for index, score in enumerate(examples.labels) if score >= threshold - _ROUNDING]
    if len(kept) < 2:
        highest = ", ".join(f"{score:g}" for score in sorted(examples.labels, reverse=True)[:3]) or "none"
        raise ConfigError.single(
            "data.convert.positive_threshold",
            f"{threshold:g} ({in_source}) leaves {len(kept)} of {len(examples)} pairs of {examples.origin}, and a loss "
            f"on positive pairs needs at least 2; the highest scores there, on 0-1, are {highest}: "
            "lower data.convert.positive_threshold",
        )
    first, second = (tuple(column[index] for index in kept) for column in examples.texts)
    if config.both_directions:
        first, second = first + second, second + first
    words = (
        f"positive pairs: score >= {threshold:g} ({in_source}), {len(kept)} of {len(examples)} kept, "
        f"both directions: {'yes' if config.both_directions else 'no'}"
    )
    return Examples("positive_pairs", (first, second), None, None, examples.origin, words)


CONVERSIONS: Mapping[tuple[Shape, Shape], Conversion] = {
    ("scored_pairs", "positive_pairs"): _scored_to_positive,
}
"""(from, to) -> how."""
