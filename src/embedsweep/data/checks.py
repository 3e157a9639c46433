"""Check the rows of any source: texts, scores, labels, classes and the number of rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from embedsweep.config.trial import Column, DataConfig, Shape
from embedsweep.config.values import shown
from embedsweep.data.examples import COLUMNS, LABELLED, Examples, text_columns
from embedsweep.data.tables import Findings, Row, Table, quoted
from embedsweep.data.texts import half_character, is_blank
from embedsweep.errors import ConfigError, Problem

NO_GOLD = ("-", "-1")
"""Labels of pairs without a majority of annotators, in SNLI and similar datasets."""

SHOWN_UNSEEN = 5
"""Characters that are shown, by their numbers, of a text that shows nothing itself."""
MISTYPED_SCORES, MISTYPED_SHARE = 5, 0.05
"""Scores outside the range up to which, by their number or share of all, single rows are taken for wrong."""
SCALES = ((0, 1), (-1, 1), (0, 4), (1, 5), (0, 5), (0, 10), (0, 100))
"""Usual ranges of scores, the narrowest first."""
_DECIMAL_COMMA = re.compile(r"[+-]?(0,\d+|\d+,(\d{1,2}|\d{4,}))")
_ORDINALS = {2: "second", 3: "third"}


def as_number(value: object) -> float | None:
    """Return the value as a number (also NaN and infinity), or None if it is not one."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    # float() reads Python's digit groups, so a mistyped 4_5 would silently be 45.
    if isinstance(value, str) and "_" in value:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _scores(rows: Sequence[Row], config: DataConfig, findings: Findings) -> tuple[float, ...]:
    """Return the scores normalised to [0, 1]; each that is not a number within ``data.score_range`` is a problem."""
    low, high = config.score_range
    rows = _with_points(rows) if _has_decimal_commas(rows) else rows
    numbers = [(row.where, score) for row in rows if (score := _finite(row, "score", "scores", findings)) is not None]
    if rows and not numbers:
        findings.add(f"no score is a finite number: {_is_it(config, 'score')}")
    observed = f"{min(s for _, s in numbers):g} to {max(s for _, s in numbers):g}" if numbers else ""
    outside = [(where, score) for where, score in numbers if not low <= score <= high]
    if len(outside) > max(MISTYPED_SCORES, MISTYPED_SHARE * len(numbers)):
        findings.add_problems([_other_range(config, [score for _, score in numbers])])
        outside = []
    for where, score in outside:
        findings.add_row(
            "scores outside data.score_range",
            where,
            f"score {score:g} is outside data.score_range=[{low:g},{high:g}]: fix it, or, if the scale is "
            f"another, set data.score_range (the scores here go from {observed})",
        )
    if not findings and len({score for _, score in numbers}) == 1:
        same = f"all {len(numbers)} scores are {numbers[0][1]:g}"
        findings.add(f"{same}, so nothing can be ranked: {_is_it(config, 'score')}")
    return tuple((score - low) / (high - low) for _, score in numbers)


def _has_decimal_commas(rows: Sequence[Row]) -> bool:
    """Return whether scores are written as 3,5: one of them cannot be 1,000 for a thousand, and none has a point."""
    texts = [row.cells[-1].strip() for row in rows if isinstance(row.cells[-1], str)]
    return any(map(_DECIMAL_COMMA.fullmatch, texts)) and not any("." in text for text in texts)


def _with_points(rows: Sequence[Row]) -> list[Row]:
    """Return rows with a point for the decimal comma of each score."""
    return [
        row._replace(cells=(*row.cells[:-1], score.replace(",", ".", 1))) if isinstance(score, str) else row
        for row in rows
        for score in row.cells[-1:]
    ]


def _other_range(config: DataConfig, scores: Sequence[float]) -> Problem:
    """Return that ``data.score_range`` is another one; the same for all files of a scale, so that it is said once."""
    low, high = min(scores), max(scores)
    scale = next((scale for scale in SCALES if scale[0] <= low and high <= scale[1]), (low, high))
    now, then = (f"[{least:g},{most:g}]" for least, most in (config.score_range, scale))
    return Problem("data.score_range", f"many scores are outside {now}: set 'data.score_range={then}'")


def _zeros_and_ones(rows: Sequence[Row], config: DataConfig, findings: Findings) -> tuple[float, ...]:
    """Return the labels, 0 or 1 (also true and false of JSON and parquet); any other label is a problem."""
    labels: list[float] = []
    for row in rows:
        value = row.cells[-1]
        label = float(value) if isinstance(value, bool) else _finite(row, "label", "labels", findings)
        if label is None:
            continue
        if label not in (0.0, 1.0):
            findings.add_row(
                "labels that are neither 0 nor 1",
                row.where,
                f"label {label:g} is neither 0 nor 1: fix it, or, if these are scores, set data.shape=scored_pairs",
            )
        labels.append(label)
    if not findings and len(set(labels)) == 1:
        same = f"all {len(labels)} labels are {labels[0]:g}"
        findings.add(f"{same}, so there is nothing to learn from: {_is_it(config, 'label')}")
    return tuple(labels)


def _class_numbers(
    rows: Sequence[Row], config: DataConfig, findings: Findings
) -> tuple[tuple[float, ...], tuple[str, ...], str | None]:
    """Return the number of every row's class, the classes' names by number, and a description if they were numbers.

    The classes are ``data.labels``, by name or, if no row has a name, by number; else those that occur, sorted (by
    value if all are whole numbers). Each row without a class, or with one that is not in ``data.labels``, is a problem.
    """
    names = [(row.where, name) for row in rows if (name := _class_name(row, config.labels, findings)) is not None]
    by_number: dict[str, str] = {}
    conversion: str | None = None
    if config.labels is not None and _are_numbers(rows, config.labels):
        conversion = "labels by their numbers: " + ", ".join(f"{n} {name}" for n, name in enumerate(config.labels))
        by_number = {str(number): name for number, name in enumerate(config.labels)}
        names = [(where, by_number.get(name, name)) for where, name in names]
    classes = config.labels or _sorted_classes({name for _, name in names})
    numbers = {name: float(number) for number, name in enumerate(classes)}
    for where, name in names:
        if name not in numbers:
            advice = "add it there, or leave the row out"
            if name in NO_GOLD:
                advice = "it means that annotators did not agree: leave the row out"
            elif by_number:
                advice = f"numbers go from 0 to {len(classes) - 1}: name more classes, or leave the row out"
            message = f"label {quoted(name)} is not in data.labels={shown(list(classes))}: {advice}"
            findings.add_row("labels that are not in data.labels", where, message)
    occurring = {name for _, name in names}
    if not findings and len(occurring) == 1:
        same = f"all {len(names)} labels are {quoted(occurring.pop())}"
        findings.add(f"{same}, so there is nothing to learn from: {_is_it(config, 'label')}")
    elif not findings and config.shape == "class_texts" and len(occurring) == len(names) > 1:
        findings.add(f"each of the {len(names)} rows has a class of its own: {_is_it(config, 'label')}")
    return tuple(numbers.get(name, 0.0) for _, name in names), tuple(classes), conversion


def _are_numbers(rows: Sequence[Row], labels: Sequence[str]) -> bool:
    """Return whether all classes are numbers, from 0 in the order of ``labels``, and no class is a name."""
    names = {_plain(row.cells[-1]) for row in rows} - {*NO_GOLD, ""}
    return not names & set(labels) and all(name.isdecimal() for name in names)


def _plain(value: object) -> str:
    """Return a label as the name of a class; empty if there is no label."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return shown(value).strip() if value is not None else ""


def _class_name(row: Row, labels: tuple[str, ...] | None, findings: Findings) -> str | None:
    value = row.cells[-1]
    name = _plain(value)
    if not name or half_character(name) is not None:
        message = f"label {quoted(value)} names no class: fill it in or leave the row out"
        findings.add_row("labels that name no class", row.where, message)
        return None
    number = as_number(value)
    if labels is None and number is not None and not number.is_integer():
        message = (
            f"label {name} is a fraction, not a class: if these are scores, set data.shape=scored_pairs"
            if math.isfinite(number)
            else f"label {quoted(name)} is not a finite number: fill it in or leave the row out"
        )
        findings.add_row("labels that name no class", row.where, message)
        return None
    return name


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    whole = all(name.removeprefix("-").isdecimal() for name in names)
    return tuple(sorted(names, key=int) if whole else sorted(names))


def _finite(row: Row, what: str, plural: str, findings: Findings) -> float | None:
    """Return the row's last cell as a finite number; None, and a problem, if it is not one."""
    value = row.cells[-1]
    number = as_number(value)
    if number is None:
        advice = "write a plain number such as 3.5" if what == "score" else "write 0 or 1"
        if isinstance(value, str) and as_number(value.replace(",", ".", 1)) is not None:
            advice = f"write {value.strip().replace(',', '.', 1)}, with a point"
        elif isinstance(value, str) and as_number(value.strip('"')) is not None:
            advice = "it is in double quotes, as Excel and pandas may write values: set data.quoting=double_quotes"
        elif value is None or value == "":
            advice = "fill it in or leave the row out"
        findings.add_row(
            f"{plural} that are not numbers", row.where, f"{what} {quoted(value)} is not a number: {advice}"
        )
        return None
    if not math.isfinite(number):
        findings.add_row(
            f"{plural} that are not finite",
            row.where,
            f"{what} {quoted(str(value).strip())} is not a finite number: fill it in or leave the row out",
        )
        return None
    return number


def _is_it(config: DataConfig, what: str) -> str:
    return f"is the {_ORDINALS[len(COLUMNS[config.shape])]} of data.columns the {what}?"


def checked_examples(table: Table, config: DataConfig) -> Examples:
    """Check every row and convert its label to a number.

    Args:
        table: all rows of a split that could be read, and the problems of reading.
        config: their shape, columns, score range and labels.

    Raises:
        ConfigError: all problems, those of reading included.
    """
    rows, findings, shape = table.rows, table.findings, config.shape
    names = [
        column if isinstance(column, str) else meaning
        for column, meaning in zip(config.columns, text_columns(shape, len(config.columns)), strict=False)
    ]
    check_texts(rows, names, findings)
    _check_not_numbers(rows, names, shape, findings)
    labels: tuple[float, ...] | None = None
    classes: tuple[str, ...] | None = None
    conversion: str | None = None
    if not findings:
        _check_count(rows, shape, findings)
    if shape == "scored_pairs":
        labels = _scores(rows, config, findings)
    elif shape == "binary_pairs":
        labels = _zeros_and_ones(rows, config, findings)
    elif shape in LABELLED:
        labels, classes, conversion = _class_numbers(rows, config, findings)
    if findings:
        raise findings.error()
    texts = tuple(tuple(str(row.cells[index]) for row in rows) for index in range(len(names)))
    return Examples(shape, texts, labels, classes, findings.origin, conversion, tuple(row.where for row in rows))


def limited(examples: Examples, limit: int | None) -> Examples:
    """Return the first ``limit`` examples; all for None.

    Raises:
        ConfigError: all of these have the same label.
    """
    if limit is None or limit >= len(examples):
        return examples
    first = examples.kept(range(limit), None)
    if first.labels is not None and len(set(first.labels)) < 2:
        what = "scores" if examples.shape == "scored_pairs" else "labels"
        message = f"the first {limit} rows of {examples.origin} do not have two different {what}: raise the limit"
        raise ConfigError([Problem("data.limit", message)])
    return first


def check_texts(rows: Sequence[Row], names: Sequence[Column], findings: Findings) -> None:
    """Add a problem for every cell under ``names``, the first columns of the rows, that is not a text with letters."""
    for where, cells in rows:
        for name, text in zip(names, cells, strict=False):
            if isinstance(text, bytes):
                message = f"{name} is bytes that are not UTF-8 ({quoted(text)}): write it again in UTF-8"
                findings.add_row("texts that are not UTF-8", where, message)
            elif not isinstance(text, str):
                message = f"{name} is {quoted(text)}, not a text: choose another column, or leave the row out"
                findings.add_row("values that are not texts", where, message)
            elif is_blank(text):
                unseen = f"only characters that show nothing ({text[:SHOWN_UNSEEN]!a})"
                what = "empty" if not text else "only white space" if text.isspace() else unseen
                findings.add_row("empty texts", where, f"{name} is {what}: fill it in or leave the row out")
            elif (half := half_character(text)) is not None:
                message = f"{name} has half of a character ({half!a}), as cut out of an emoji: write it again"
                findings.add_row("texts with half of a character", where, message)


def _check_not_numbers(rows: Sequence[Row], names: Sequence[str], shape: Shape, findings: Findings) -> None:
    for index, name in enumerate(names):
        if len(rows) > 1 and all(as_number(row.cells[index]) is not None for row in rows):
            order = ", ".join(COLUMNS[shape])
            findings.add(f"all {len(rows)} texts of {name} are numbers: data.columns takes {order}, in that order")


def _check_count(rows: Sequence[Row], shape: Shape, findings: Findings) -> None:
    """A loss cannot compare a single row, and a correlation of one row is undefined."""
    if not rows:
        findings.add("has no rows")
    elif len(rows) == 1:
        different = {"scored_pairs": " with different scores"}.get(shape, " with different labels")
        findings.add(f"has only one row; at least two{different if shape in LABELLED else ''} are needed")
