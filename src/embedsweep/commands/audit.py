"""``embedsweep audit``: what training data shares with dev and test, its duplicates, labels and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse
from embedsweep.commands.output import OVERWRITE, read_target, write_json
from embedsweep.console import plain_table, say
from embedsweep.data.audit import Audit, Shared, audit, warnings
from embedsweep.data.leaks import trained_on
from embedsweep.data.load import load_also, load_splits
from embedsweep.data.tokens import token_counter, tokens_read
from embedsweep.hub import local_model
from embedsweep.validation.single import pass_audit

BAR = 12
"""Characters of the longest bar in a histogram."""


def run(words: Sequence[str], console: Console) -> int:
    """Audit the data that a command for one run would train on, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments; nothing was written.
        EmbedsweepError: the file cannot be written.
    """
    arguments = parse(VERB, words)
    json = read_target(arguments, "json")
    request = arguments.collect(pass_audit, arguments.overrides)
    arguments.check()
    assert request is not None, "what is missing was noted as a problem"
    splits = load_splits(request.data, request.evaluation)
    also = load_also(request.data)
    folder = local_model(request.model.path, request.model.revision)
    count, maximum = token_counter(folder), tokens_read(request.model, folder)
    audits = {"data": audit(trained_on(splits, drop=request.data.drop_leaked), count, maximum)}
    for name, examples in also.items():
        kept = trained_on(replace(splits, train=examples), drop=request.data.also[name].data.drop_leaked)
        audits[f"data.also.{name}"] = audit(kept, count, maximum)
    for section, result in audits.items():
        print_audit(console, result, "" if len(audits) == 1 else section)
    if json is not None:
        write_json(json, {name: {**asdict(result), "warnings": warnings(result)} for name, result in audits.items()})
        say(console, f"written to {json}")
    return 0


def print_audit(console: Console, result: Audit, heading: str) -> None:
    """Print an audit: what is shared, each split with its duplicates, labels and lengths, then the warnings.

    Args:
        console: where it is printed.
        result: the audit.
        heading: which dataset it is; empty where there is one only.
    """
    if heading:
        say(console, f"\n== {heading}")
    _print_splits(console, result)
    _print_shared(console, result.shared)
    _print_lengths(console, result)
    _print_labels(console, result)
    lines = warnings(result)
    say(console, f"\n{len(lines)} warning{'s' if len(lines) > 1 else ''}" if lines else "\nno warnings")
    for line in lines:
        say(console, f"  {line}")


def _print_splits(console: Console, result: Audit) -> None:
    for name, split in result.splits.items():
        searched = split.searched
        queries = f"{searched.queries} queries over {searched.documents} documents, " if searched is not None else ""
        say(console, f"{name}: {queries}{split.examples} {split.shape.replace('_', ' ')} from {split.origin}")
        if split.conversion:
            say(console, f"  {split.conversion}")
    rows = [
        (name, *map(str, (split.duplicates, split.turned, split.disagreeing, split.identical)))
        for name, split in result.splits.items()
    ]
    _print_table(console, ("", "duplicates", "reversed", "labels differ", "same text twice"), rows)


def _print_shared(console: Console, shared: Mapping[str, Shared]) -> None:
    columns: tuple[str, ...] = ("shared by", "pairs", "sentences")
    columns += ("queries", "passages") if any(one.queries is not None for one in shared.values()) else ()
    rows = []
    for name, one in shared.items():
        texts = (one.sentences, one.queries, one.passages)
        cells = ("" if number is None else str(number) for number in texts[: len(columns) - 2])
        rows.append((name.replace("/", " and "), f"{one.pairs} of {one.of}", *cells))
    _print_table(console, columns, rows)


def _print_lengths(console: Console, result: Audit) -> None:
    rows: list[tuple[str, ...]] = []
    for name, split in result.splits.items():
        for column, lengths in split.lengths.items():
            for each in lengths:
                cut = "" if each.maximum is None else f"{each.over} over {each.maximum}"
                figures = (str(each.shortest), f"{each.median:g}", str(each.longest), cut)
                rows.append((f"{name} {column}", each.unit, *figures))
    _print_table(console, ("lengths", "", "shortest", "median", "longest", "cut"), rows)


def _print_labels(console: Console, result: Audit) -> None:
    """Print a histogram of each kind of labels; splits that have the same kind share a table."""
    labelled = {name: split.labels for name, split in result.splits.items() if split.labels}
    for names in dict.fromkeys(tuple(labels) for labels in labelled.values()):
        splits = {split: labels for split, labels in labelled.items() if tuple(labels) == names}
        rows = [(name, *(_bar(labels, name) for labels in splits.values())) for name in names]
        _print_table(console, ("labels", *splits), rows)


def _bar(labels: Mapping[str, int], name: str) -> str:
    return f"{labels[name]:>6} {'#' * round(BAR * labels[name] / max(*labels.values(), 1))}"


def _print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    console.print()
    console.print(plain_table(columns, rows))


VERB = Verb(
    name="audit",
    summary="overlap of train with dev and test, duplicates, labels, lengths",
    run=run,
    description=(
        "Show what training data shares with dev and test, its duplicates, how labels are distributed and how long\n"
        "texts are. With a model of its own (model.path=...) tokens are counted, too.\n\n"
        "  embedsweep audit data=stsb_multi_mt data.path=FOLDER data.language=es\n"
        "  embedsweep audit recipe=bertin_nli_es data.path=FOLDER --json audit.json"
    ),
    options=(Option("--json", "FILE", "write all figures to a file (json=FILE is the same)"), OVERWRITE),
    overrides="those of embedsweep train; data, evaluation and model are used",
    former_keys={"json": "--json"},
)
