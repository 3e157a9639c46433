"""What must hold for every example, whatever source it came from.

Owns the checks of texts and of how many rows there are; those of labels are in ``labels``. Knows neither files nor the
hub: a row arrives with the words that say where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from embedsweep.config.trial import DataConfig, Shape
from embedsweep.config.values import shown
from embedsweep.data.examples import COLUMNS, LABELLED, Examples, text_columns
from embedsweep.data.tables import Findings, Row, Table
from embedsweep.errors import ConfigError, Problem

NO_GOLD = ("-", "-1")
"""What SNLI and its like have for the label of a pair that annotators did not agree on, in words and in numbers."""

_ORDINALS = {2: "second", 3: "third"}
_ADD_IT = "add it there, or leave the row out"


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


def scores(rows: Sequence[Row], config: DataConfig, found: Findings) -> tuple[float, ...]:
    """The scores normalised to [0, 1]; a problem is noted for each that is no number within ``data.score_range``.

    Raises:
        ConfigError: ``data.score_range`` is no range.
    """
    low, high = config.score_range
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError.single(
            "data.score_range", f"[{low:g}, {high:g}] is no range: the lowest score comes first, as in [0, 5]"
        )
    numbers = [(row.where, score) for row in rows if (score := _finite(row, "score", "scores", found)) is not None]
    if rows and not numbers:
        found.add(f"no score is a finite number: {_is_it(config, 'score')}")
    observed = f"{min(s for _, s in numbers):g} to {max(s for _, s in numbers):g}" if numbers else ""
    for where, score in numbers:
        if not low <= score <= high:
            found.add_row(
                "scores outside data.score_range",
                where,
                f"score {score:g} is outside data.score_range=[{low:g},{high:g}]: mend it, or, if the scale is "
                f"another, set data.score_range (the scores here go from {observed})",
            )
    if not found and len({score for _, score in numbers}) == 1:
        same = f"all {len(numbers)} scores are {numbers[0][1]:g}"
        found.add(f"{same}, so nothing can be ranked: {_is_it(config, 'score')}")
    return tuple((score - low) / (high - low) for _, score in numbers)


def zeros_and_ones(rows: Sequence[Row], config: DataConfig, found: Findings) -> tuple[float, ...]:
    """Labels that are 0 or 1 (true and false of JSON and parquet count); a problem is noted for each other."""
    labels: list[float] = []
    for row in rows:
        value = row.cells[-1]
        label = float(value) if isinstance(value, bool) else _finite(row, "label", "labels", found)
        if label is None:
            continue
        if label not in (0.0, 1.0):
            found.add_row(
                "labels that are neither 0 nor 1",
                row.where,
                f"label {label:g} is neither 0 nor 1: mend it, or, if these are scores, say data.shape=scored_pairs",
            )
        labels.append(label)
    if not found and len(set(labels)) == 1:
        same = f"all {len(labels)} labels are {labels[0]:g}"
        found.add(f"{same}, so nothing can be told apart: {_is_it(config, 'label')}")
    return tuple(labels)


def class_numbers(
    rows: Sequence[Row], config: DataConfig, found: Findings
) -> tuple[tuple[float, ...], tuple[str, ...]]:
    """The number of every row's class, and the classes' names by number.

    The classes are ``data.labels``, by name or, where no row has a name, by number; else those that occur, sorted (by
    value where all are whole numbers). A problem is noted for each row without a class, or with one that is none of
    ``data.labels``.
    """
    names = [(row.where, name) for row in rows if (name := _class_name(row, config.labels, found)) is not None]
    by_number: dict[str, str] = {}
    if config.labels is not None and are_numbers(rows, config.labels):
        by_number = {str(number): name for number, name in enumerate(config.labels)}
        names = [(where, by_number.get(name, name)) for where, name in names]
    classes = config.labels or _sorted_classes({name for _, name in names})
    numbers = {name: float(number) for number, name in enumerate(classes)}
    for where, name in names:
        if name not in numbers:
            mend = _ADD_IT
            if name in NO_GOLD:
                mend = "it says that annotators did not agree: leave the row out"
            elif by_number:
                mend = f"numbers go from 0 to {len(classes) - 1}: name more classes, or leave the row out"
            message = f"label {name!r} is none of data.labels={shown(list(classes))}: {mend}"
            found.add_row("labels that are none of data.labels", where, message)
    occurring = {name for _, name in names}
    if not found and len(occurring) == 1:
        same = f"all {len(names)} labels are {occurring.pop()!r}"
        found.add(f"{same}, so nothing can be told apart: {_is_it(config, 'label')}")
    elif not found and config.shape == "class_texts" and len(occurring) == len(names) > 1:
        found.add(f"each of the {len(names)} rows has a class of its own: {_is_it(config, 'label')}")
    return tuple(numbers.get(name, 0.0) for _, name in names), tuple(classes)


def are_numbers(rows: Sequence[Row], labels: Sequence[str]) -> bool:
    """Whether classes are given by their numbers, from 0 in the order of ``labels``, and none by its name."""
    names = {_plain(row.cells[-1]) for row in rows} - {*NO_GOLD, ""}
    return not names & set(labels) and all(name.isdecimal() for name in names)


def _plain(value: object) -> str:
    """A label as the name of a class; empty where there is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return shown(value).strip() if value is not None else ""


def _class_name(row: Row, labels: tuple[str, ...] | None, found: Findings) -> str | None:
    value = row.cells[-1]
    name = _plain(value)
    if not name:
        message = f"label {value!r} names no class: fill it in or leave the row out"
        found.add_row("labels that name no class", row.where, message)
        return None
    number = as_number(value)
    if labels is None and number is not None and not number.is_integer():
        message = (
            f"label {name} is a fraction, not a class: if these are scores, say data.shape=scored_pairs"
            if math.isfinite(number)
            else f"label {name!r} is not a finite number: fill it in or leave the row out"
        )
        found.add_row("labels that name no class", row.where, message)
        return None
    return name


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if whole else sorted(names))


def _finite(row: Row, what: str, plural: str, found: Findings) -> float | None:
    """The row's last cell as a finite number; None, and a problem, where it is none."""
    value = row.cells[-1]
    number = as_number(value)
    if number is None:
        mend = "write a plain number such as 3.5" if what == "score" else "write 0 or 1"
        if isinstance(value, str) and as_number(value.replace(",", ".", 1)) is not None:
            mend = f"write {value.strip().replace(',', '.', 1)}, with a point"
        elif value is None or value == "":
            mend = "fill it in or leave the row out"
        found.add_row(f"{plural} that are not numbers", row.where, f"{what} {value!r} is not a number: {mend}")
        return None
    if not math.isfinite(number):
        found.add_row(
            f"{plural} that are not finite",
            row.where,
            f"{what} {str(value).strip()!r} is not a finite number: fill it in or leave the row out",
        )
        return None
    return number


def _is_it(config: DataConfig, what: str) -> str:
    return f"is the {_ORDINALS[len(COLUMNS[config.shape])]} of data.columns the {what}?"


def checked_examples(table: Table, config: DataConfig) -> Examples:
    """Checks every row and makes its label a number.

    Args:
        table: all rows of a split that could be read, and what reading found already.
        config: their shape, columns, score range and labels.

    Raises:
        ConfigError: there is any problem, also one that was found before.
    """
    rows, found, shape = table.rows, table.found, config.shape
    _check_texts(rows, config, found)
    labels: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    conversion: str | None = None
    if not found:
        _check_count(rows, shape, found)
    if shape == "scored_pairs":
        labels = scores(rows, config, found)
    elif shape == "binary_pairs":
        labels = zeros_and_ones(rows, config, found)
    elif shape in LABELLED:
        labels, classes = class_numbers(rows, config, found)
        if config.labels is not None and are_numbers(rows, config.labels):
            read_as = ", ".join(f"{number} {name}" for number, name in enumerate(config.labels))
            conversion = f"labels by their numbers: {read_as}"
    if found:
        raise found.error()
    texts = tuple(tuple(str(row.cells[index]) for row in rows) for index in range(len(text_columns(shape))))
    return Examples(shape, texts, labels, classes, found.origin, conversion, tuple(row.where for row in rows))


def limited(examples: Examples, limit: int | None) -> Examples:
    """The first ``limit`` examples; all of them for None.

    Raises:
        ConfigError: what is left has one label only.
    """
    if limit is None or limit >= len(examples):
        return examples
    first = examples.kept(list(range(limit)), None)
    if first.labels is not None and len(set(first.labels)) < 2:
        what = "scores" if examples.shape == "scored_pairs" else "labels"
        message = f"the first {limit} rows of {examples.origin} do not have two different {what}: raise it"
        raise ConfigError([Problem("data.limit", message)])
    return first


def _check_texts(rows: Sequence[Row], config: DataConfig, found: Findings) -> None:
    names = [
        column if isinstance(column, str) else meaning
        for column, meaning in zip(config.columns, text_columns(config.shape), strict=False)
    ]
    for where, cells in rows:
        for name, text in zip(names, cells, strict=False):
            if not isinstance(text, str):
                found.add_row(
                    "values that are no text",
                    where,
                    f"{name} is {text!r}, not a text: check data.columns, or leave the row out",
                )
            elif not text or text.isspace():
                what = "empty" if not text else "only white space"
                found.add_row("empty texts", where, f"{name} is {what}: fill it in or leave the row out")
    for index, name in enumerate(names):
        if len(rows) > 1 and all(as_number(row.cells[index]) is not None for row in rows):
            order = ", ".join(COLUMNS[config.shape])
            found.add(f"all {len(rows)} texts of {name} are numbers: data.columns takes {order}, in that order")


def _check_count(rows: Sequence[Row], shape: Shape, found: Findings) -> None:
    """One row gives losses nothing to compare and a correlation no value."""
    if not rows:
        found.add("has no rows")
    elif len(rows) == 1:
        different = {"scored_pairs": " with different scores"}.get(shape, " with different labels")
        found.add(f"has only one row; at least two{different if shape in LABELLED else ''} are needed")
