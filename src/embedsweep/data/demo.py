"""The demo data: pairs and sentences in English and Spanish, read from ``demo.parquet`` beside this module.

``tools/demo`` generates the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal

from embedsweep.config.trial import Shape, Split
from embedsweep.data.examples import Examples

DemoName = Literal["demo", "demo_nli", "demo_topics"]
DEMOS: Mapping[DemoName, Shape] = {"demo": "scored_pairs", "demo_nli": "class_pairs", "demo_topics": "class_texts"}
"""Option -> the shape of its training examples."""

FILE = Path(__file__).with_name("demo.parquet")


@cache
def demo_examples(name: DemoName, split: Split) -> Examples:
    """Return the examples of a demo option; dev and test are the scored pairs of ``demo`` for all options.

    Scored pairs have scores from 0 to 5 in the file and from 0 to 1 here. No sentence of dev or test occurs in the
    training examples of any option.
    """
    name = name if split == "train" else "demo"
    shape, origin = DEMOS[name], f"{name} {split}"
    first, second, scores, labels = zip(*_rows()[name, split], strict=True)
    if shape == "scored_pairs":
        return Examples(shape, (first, second), tuple(score / 5 for score in scores), None, origin, None)
    classes = tuple(sorted(set(labels)))
    texts = (first,) if shape == "class_texts" else (first, second)
    return Examples(shape, texts, tuple(float(classes.index(label)) for label in labels), classes, origin, None)


@cache
def _rows() -> Mapping[tuple[str, str], Sequence[tuple[Any, ...]]]:
    """Return (option, split) -> rows of first text, second text, score and label, in the order of the file."""
    import pyarrow.parquet as pq

    columns = pq.ParquetFile(FILE).read(use_threads=False).to_pydict().values()
    rows: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
    for name, split, *row in zip(*columns, strict=True):
        rows.setdefault((name, split), []).append(tuple(row))
    return rows
