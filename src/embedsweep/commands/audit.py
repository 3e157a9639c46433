"""``embedsweep audit``: what training data shares with dev and test, its repeats, labels and lengths.

Owns how an audit looks. Counts nothing itself; imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedsweep.commands.encode import written_whole
from embedsweep.config.trial import DataConfig
from embedsweep.console import say
from embedsweep.data import load_also, load_splits
from embedsweep.data.audit import Audit, Shared, audit, drop_leaked, warnings
from embedsweep.data.examples import Splits
from embedsweep.data.tokens import model_folder, token_counter, tokens_read
from embedsweep.validation.single import pass_audit

HELP = """\
embedsweep audit [key=value ...] [json=FILE]

Says what training data shares with dev and test, which examples come again, how labels are spread and how long texts
are. It takes the words of embedsweep train; data, evaluation and model count. With a model of its own (model.path=...)
tokens are counted as well. json=FILE writes all figures to a file.

  embedsweep audit data=stsb_multi_mt data.path=FOLDER data.language=es
  embedsweep audit recipe=bertin_nli_es data.path=FOLDER json=audit.json
"""
BAR = 12
"""Characters of the longest bar in a histogram."""


def run(words: Sequence[str], console: Console) -> int:
    """Audits the data that a command for one run would train on.

    Raises:
        ConfigError: what was asked cannot be read; nothing was written.
        EmbedsweepError: the file cannot be written.
    """
    if "--help" in words or "-h" in words:
        say(console, HELP.rstrip())
        return 0
    request = pass_audit(words)
    splits = load_splits(request.data, request.evaluation)
    also = load_also(request.data)
    folder = model_folder(request.model)
    count = None if folder is None else token_counter(folder)
    maximum = None if folder is None else tokens_read(request.model, folder)
    found = {"data": audit(_kept(splits, request.data), count, maximum)}
    for name, examples in also.items():
        kept = _kept(replace(splits, train=examples), request.data.also[name].data)
        found[f"data.also.{name}"] = audit(kept, count, maximum)
    for section, one in found.items():
        print_audit(console, one, "" if len(found) == 1 else section)
    if request.json is not None:
        _write(request.json, found)
        say(console, f"written to {request.json}")
    return 0


def print_audit(console: Console, found: Audit, heading: str) -> None:
    """Prints an audit: what is shared, each split with its repeats, labels and lengths, then what matters of it.

    Args:
        console: where people look.
        found: what was counted.
        heading: which dataset it is; empty where there is one only.
    """
    if heading:
        say(console, f"\n== {heading}")
    _print_splits(console, found)
    _print_shared(console, found.shared)
    _print_lengths(console, found)
    _print_labels(console, found)
    told = warnings(found)
    say(console, f"\n{len(told)} warning{'s' if len(told) > 1 else ''}" if told else "\nno warnings")
    for line in told:
        say(console, f"  {line}")


def _kept(splits: Splits, data: DataConfig) -> Splits:
    return replace(splits, train=drop_leaked(splits)) if data.drop_leaked else splits


def _print_splits(console: Console, found: Audit) -> None:
    for split, one in found.splits.items():
        say(console, f"{split}: {one.examples} {one.shape.replace('_', ' ')} from {one.origin}")
        if one.conversion:
            say(console, f"  {one.conversion}")
    table = _table("", "come again", "turned round", "labels differ", "same text twice")
    for split, one in found.splits.items():
        table.add_row(*map(Text, (split, *map(str, (one.duplicates, one.turned, one.disagreeing, one.identical)))))
    console.print()
    console.print(table)


def _print_shared(console: Console, shared: Mapping[str, Shared]) -> None:
    table = _table("shared by", "pairs", "sentences")
    for name, one in shared.items():
        table.add_row(*map(Text, (name.replace("/", " and "), f"{one.pairs} of {one.of}", str(one.sentences))))
    console.print()
    console.print(table)


def _print_lengths(console: Console, found: Audit) -> None:
    table = _table("lengths", "", "shortest", "median", "longest", "cut")
    for split, one in found.splits.items():
        for column, lengths in one.lengths.items():
            for each in lengths:
                cut = "" if each.maximum is None else f"{each.over} over {each.maximum}"
                figures = (str(each.shortest), f"{each.median:g}", str(each.longest), cut)
                table.add_row(*map(Text, (f"{split} {column}", each.unit, *figures)))
    console.print()
    console.print(table)


def _print_labels(console: Console, found: Audit) -> None:
    """A histogram for each kind of labels; splits that have the same kind stand side by side."""
    labelled = {split: one.labels for split, one in found.splits.items() if one.labels}
    for names in dict.fromkeys(tuple(labels) for labels in labelled.values()):
        splits = {split: labels for split, labels in labelled.items() if tuple(labels) == names}
        table = _table("labels", *splits)
        for name in names:
            table.add_row(*map(Text, (name, *(_bar(labels, name) for labels in splits.values()))))
        console.print()
        console.print(table)


def _bar(labels: Mapping[str, int], name: str) -> str:
    return f"{labels[name]:>6} {'#' * round(BAR * labels[name] / max(*labels.values(), 1))}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _write(file: Path, found: dict[str, Audit]) -> None:
    tree = {section: {**asdict(one), "warnings": warnings(one)} for section, one in found.items()}
    with written_whole(file) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
