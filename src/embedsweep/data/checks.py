"""What must hold for every example, whatever source it came from.

Owns the checks of texts and of how many rows there are; those of labels are in ``labels``. Knows neither files nor the
hub: a row arrives with the words that say where it stands.
"""

from __future__ import annotations

from collections.abc import Sequence

from embedsweep.data.labels import are_numbers, as_number, class_numbers, scores, zeros_and_ones
from embedsweep.data.rows import Findings, Row, Table
from embedsweep.data.shapes import COLUMNS, LABELLED, Examples, text_columns
from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import DataConfig, Shape


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
