"""What each family of evaluations scores, and what to do about data that it cannot score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from embedsweep.config.metrics import Family
from embedsweep.config.trial import DataConfig, Shape, Split
from embedsweep.data.demo import is_generated
from embedsweep.data.examples import COLUMNS, WORDS
from embedsweep.data.passages import SEARCHED
from embedsweep.errors import Problem

SCORED_SHAPES: Mapping[Family, tuple[Shape, ...]] = {
    "sts": ("scored_pairs",),
    "retrieval": SEARCHED,
    "triplets": ("triplets",),
    "pairs": ("binary_pairs",),
    "reranking": SEARCHED,
}
"""What each family of evaluations can score."""

_QUESTIONS = "data.shape=positive_pairs 'data.columns=[question,answer]'"


def missing_split(data: DataConfig, split: Split) -> Iterator[Problem]:
    """Yield that the data has no such split, whatever its files contain."""
    if data.splits[split]:
        return
    if split == "train":
        yield Problem("data.splits.train", f"data={data.name} has nothing to train on: name its split, as [train]")
    elif not is_generated(data):
        message = f"is not set, and data={data.name} has no {split} split (data.splits.{split})"
        advice = f"choose a benchmark of conf/benchmark/, for example evaluation.{split}=stsb-es-{split}"
        yield Problem(f"evaluation.{split}", f"{message}: {advice}")


def unscored(data: DataConfig, splits: Sequence[Split], family: Family) -> Iterator[Problem]:
    """Yield that a family cannot score data of this shape.

    Args:
        data: the data, whatever its files contain.
        splits: what would be scored on it: dev, test or both.
        family: the evaluation's.
    """
    shapes = SCORED_SHAPES[family]
    has_own_pairs = is_generated(data) and family == "sts"  # the scored pairs that all demo data shares
    if not splits or data.shape in shapes or has_own_pairs:
        return
    in_shape = f"data={data.name} has {data.shape} ({WORDS[data.shape]}; data.shape)"
    advice = ", or ".join([*_read_otherwise(data, family), *_able(data.shape), _benchmarks(splits, family)])
    tried = " (to try it: data=demo_retrieval)" if shapes == SEARCHED else ""
    where = "evaluation" if len(splits) > 1 else f"evaluation.{splits[0]}"
    yield Problem(where, f"evaluation={family} scores {' or '.join(shapes)}, and {in_shape}: {advice}{tried}")


def _read_otherwise(data: DataConfig, family: Family) -> Iterator[str]:
    """Yield which columns of a table the family would score, where the data is one."""
    if data.format in ("beir", "generated"):
        return
    shape = SCORED_SHAPES[family][0]
    if shape == "positive_pairs":
        yield f"set {_QUESTIONS} for a table with such columns"
    else:
        yield f"set data.shape={shape} 'data.columns=[{','.join(COLUMNS[shape])}]' for a table with such columns"


def _able(shape: Shape) -> Iterator[str]:
    """Yield the evaluations that score a shape; reranking needs more than a shape."""
    for name, shapes in SCORED_SHAPES.items():
        if shape in shapes and name != "reranking":
            yield f"take evaluation={name}"


def _benchmarks(splits: Sequence[Split], family: Family) -> str:
    keys = " and ".join(f"evaluation.{split}" for split in splits)
    if family != "sts":
        return f"set {keys} to benchmarks of that family"
    return f"set {' '.join(f'evaluation.{split}=stsb-es-{split}' for split in splits)} or other benchmarks"
