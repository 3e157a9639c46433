"""Rows of a folder in the layout of SemEval's STS tasks: sentences in one file, their scores in another.

    STS.input.<part>.txt    two sentences a line, a tab between them
    STS.gs.<part>.txt       one score a line, for the same line; an empty line is a pair nobody scored

Owns which files belong together, line by line. Knows no splits. The layout is described with each task's data, as in
https://alt.qcri.org/semeval2015/task2/index.php?id=data-and-tools.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from embedsweep.config.trial import DataConfig
from embedsweep.data.tables import Findings, Picker, Table, check_columns, choose, joined, text_of, where_it_ends
from embedsweep.errors import ConfigError

_NAMES = ("sentence1", "sentence2", "score")
"""What columns are called here, or positions 0 to 2; the files have no header."""


def read_semeval(pattern: Path, config: DataConfig) -> Table:
    """Reads all parts that match a pattern, joined in the order of their names.

    Args:
        pattern: the input files, ``FOLDER/STS.input.*.txt``.
        config: which of sentence1, sentence2 and score, in which order; the encoding.

    Raises:
        ConfigError: there are none.
    """
    check_columns(config.columns)
    if ".input." not in pattern.name:
        message = f"{pattern.name!r} has no .input. in it, whose place .gs. takes for the scores: STS.input.*.txt"
        raise ConfigError.single("data.files", message)
    inputs = sorted(pattern.parent.glob(pattern.name))
    if not inputs:
        raise ConfigError.single(str(pattern), where_it_ends(pattern))
    parts: list[Table] = []
    unscored = 0
    for path in inputs:
        try:
            part, skipped = _read_part(path, config)
            unscored += skipped
        except ConfigError as error:
            part = Table([], Findings(str(path)))
            part.found.add_problems(error.problems)
        parts.append(part)
    table = joined(parts)
    if unscored:
        table.found.origin += f" ({unscored} unscored {'pair' if unscored == 1 else 'pairs'} left out)"
    return table


def _read_part(path: Path, config: DataConfig) -> tuple[Table, int]:
    """One part's scored pairs, and how many are not scored."""
    found, unscored = Findings(str(path)), 0
    gold = path.with_name(path.name.replace(".input.", ".gs.", 1))
    if not gold.is_file():
        raise ConfigError.single(str(path), f"has no scores: {where_it_ends(gold)} (looked for {gold.name})")
    choice = choose(_NAMES, config, found, "a SemEval folder has")
    if choice is None:
        raise found.error()
    pairs = _lines(path, config.encoding)
    while pairs and not pairs[-1].strip():
        pairs.pop()
    scores = _lines(gold, config.encoding)
    while len(scores) > len(pairs) and not scores[-1].strip():
        scores.pop()
    if len(pairs) != len(scores):
        raise ConfigError.single(
            str(path),
            f"has {len(pairs)} lines and {gold} has {len(scores)}: line by line they are a pair and its score, which "
            "is an empty line where nobody scored it",
        )
    picker = Picker(choice, config)
    both = path.with_name(path.name.replace(".input.", ".{input,gs}.", 1))
    # From 2016 on, every line also says where its sentences came from.
    width = max(Counter(line.count("\t") + 1 for line in pairs).most_common(1)[0][0], 2) if pairs else 2
    for number, (line, score) in enumerate(zip(pairs, scores, strict=True), start=1):
        fields = line.split("\t")
        if not score.strip():
            unscored += 1
        elif len(fields) == width:
            picker.take(f"{both}, line {number}", [*fields[:2], score])
        else:
            what = "two sentences with a tab between them" if width == 2 else f"{width} columns as the others"
            message = f"{len(fields)} {'column' if len(fields) == 1 else 'columns'}, where a line has {what}"
            found.add_row("lines with another number of columns", f"{path}, line {number}", message)
    return picker.table(found), unscored


def _lines(path: Path, encoding: str) -> list[str]:
    """Every line, blank ones too, since they count."""
    lines = [line.removesuffix("\r") for line in text_of(path, encoding).split("\n")]
    return lines[:-1] if lines[-1] == "" else lines
