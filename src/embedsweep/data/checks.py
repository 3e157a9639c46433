"""What must hold for every pair, whatever source it came from.

Owns the checks of texts and scores, their normalisation, and how many problems of a kind are told. Knows neither files
nor the hub: a row arrives with the words that say where it stands.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from embedsweep.data.pairs import Pairs
from embedsweep.errors import ConfigError, Problem

_TOLD_PER_KIND = 5


class Row(NamedTuple):
    """A pair as its source had it; ``where`` is ``train.csv, line 12`` or the like."""

    where: str
    sentence1: object
    sentence2: object
    score: object


class Findings:
    """What is wrong with one source: the first five rows of each kind in full, the others counted.

    Args:
        origin: the source's name, which a problem of the whole source and a count of the rest stand under.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._whole: list[Problem] = []
        self._rows: dict[str, list[Problem]] = {}

    def add(self, message: str) -> None:
        """Notes a problem of the whole source."""
        self._whole.append(Problem(self.origin, message))

    def add_row(self, kind: str, where: str, message: str) -> None:
        """Notes a problem of a row; ``kind`` is a plural that goes after "... and 7 more "."""
        self._rows.setdefault(kind, []).append(Problem(where, message))

    def __bool__(self) -> bool:
        return bool(self._whole or self._rows)

    def error(self) -> ConfigError:
        """All that was found as one error."""
        told = list(self._whole)
        for kind, problems in self._rows.items():
            told += problems[:_TOLD_PER_KIND]
            if len(problems) > _TOLD_PER_KIND:
                told.append(Problem(self.origin, f"... and {len(problems) - _TOLD_PER_KIND} more {kind}"))
        return ConfigError(told)


def nearest(word: str, names: Iterable[str], count: int = 3) -> str:
    """The names most like ``word`` (else the first ones), quoted; ``nothing`` where there are none."""
    ordered = sorted(names)
    chosen = difflib.get_close_matches(word, ordered, n=count) or ordered[: 2 * count]
    rest = ", ..." if len(chosen) == 2 * count < len(ordered) else ""
    return (", ".join(repr(name) for name in chosen) + rest) or "nothing"


def check_columns(columns: tuple[str | int, ...]) -> None:
    """Raises a ConfigError where ``data.columns`` cannot be three columns of anything."""
    shown = "[" + ",".join(str(column) for column in columns) + "]"
    if len({type(column) for column in columns}) > 1:
        message = f"{shown} mixes names and positions: three names for a file with a header, three positions without"
    elif len(set(columns)) < len(columns):
        message = f"{shown} names a column twice: sentence1, sentence2 and score are three columns"
    elif any(isinstance(column, int) and column < 0 for column in columns):
        message = f"{shown} has a negative position: columns are counted from 0"
    else:
        return
    raise ConfigError.single("data.columns", message)


def checked_pairs(rows: Sequence[Row], score_range: tuple[float, float], found: Findings) -> Pairs:
    """Checks every row and normalises its score to [0, 1].

    Args:
        rows: all rows of a split that could be read.
        score_range: the lowest and highest score there may be.
        found: what reading found already; what is found here is added.

    Raises:
        ConfigError: there is any problem, also one that was in ``found`` before; or the range is not one.
    """
    low, high = score_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError.single(
            "data.score_range", f"[{low:g}, {high:g}] is no range: the lowest score comes first, as in [0, 5]"
        )
    _check_texts(rows, found)
    scores = _checked_scores(rows, low, high, found)
    if not found:
        _check_variety(scores, found)
    if found:
        raise found.error()
    span = high - low
    return Pairs(
        sentences1=tuple(str(row.sentence1) for row in rows),
        sentences2=tuple(str(row.sentence2) for row in rows),
        scores=tuple((score - low) / span for score in scores),
        origin=found.origin,
    )


def _check_texts(rows: Sequence[Row], found: Findings) -> None:
    for row in rows:
        for name, text in (("sentence1", row.sentence1), ("sentence2", row.sentence2)):
            if not isinstance(text, str):
                found.add_row(
                    "values that are no text",
                    row.where,
                    f"{name} is {text!r}, not a text: check data.columns, or leave the row out",
                )
            elif not text or text.isspace():
                what = "empty" if not text else "only white space"
                found.add_row("empty texts", row.where, f"{name} is {what}: fill it in or leave the row out")


def _checked_scores(rows: Sequence[Row], low: float, high: float, found: Findings) -> list[float]:
    """The scores that are finite numbers; a problem is noted for each other, and for each outside the range."""
    scores = [(row.where, score) for row in rows if (score := _finite_score(row, found)) is not None]
    if rows and not scores:
        found.add("no score is a finite number: is the third of data.columns the score?")
    observed = f"{min(s for _, s in scores):g} to {max(s for _, s in scores):g}" if scores else ""
    for where, score in scores:
        if not low <= score <= high:
            found.add_row(
                "scores outside data.score_range",
                where,
                f"score {score:g} is outside data.score_range=[{low:g},{high:g}]: mend it, or, if the scale is "
                f"another, set data.score_range (the scores here go from {observed})",
            )
    return [score for _, score in scores]


def _finite_score(row: Row, found: Findings) -> float | None:
    score = as_number(row.score)
    if score is None:
        mend = "write a plain number such as 3.5"
        if isinstance(row.score, str) and as_number(row.score.replace(",", ".", 1)) is not None:
            mend = f"write {row.score.strip().replace(',', '.', 1)}, with a point"
        elif row.score is None or row.score == "":
            mend = "fill it in or leave the row out"
        found.add_row("scores that are not numbers", row.where, f"score {row.score!r} is not a number: {mend}")
        return None
    if not math.isfinite(score):
        found.add_row(
            "scores that are not finite",
            row.where,
            f"score {str(row.score).strip()!r} is not a finite number: fill it in or leave the row out",
        )
        return None
    return score


def as_number(value: object) -> float | None:
    """The value as a number (NaN and infinity are), or None where it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # float() reads Python's digit groups, so a mistyped 4_5 would silently be 45.
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _check_variety(scores: Sequence[float], found: Findings) -> None:
    """One row, or one score for all, gives losses nothing to rank and a correlation no value."""
    if not scores:
        found.add("has no rows")
    elif len(scores) == 1:
        found.add("has only one row; at least two with different scores are needed")
    elif min(scores) == max(scores):
        found.add(
            f"all {len(scores)} scores are {scores[0]:g}, so nothing can be ranked: "
            "is the third of data.columns the score?"
        )
