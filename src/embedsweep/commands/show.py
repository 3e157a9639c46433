"""``embedsweep show STUDY``: the results of a study, also while it runs, as text, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console

from embedsweep.commands.arguments import Option, ParsedArguments, Positional, Verb, parse
from embedsweep.commands.output import OVERWRITE, read_target, write_json, written_whole
from embedsweep.console import say
from embedsweep.files import study_names, study_of

if TYPE_CHECKING:
    from embedsweep.study.record import StudyRecord

STUDY = Positional("STUDY", "the name of a study in sweeps/, or its folder", study_names, study_of)
STORAGE = Option(
    "--storage",
    "URL",
    "the study's storage, where this folder does not know it: the study was begun elsewhere, or its URL has a password",
)
STDOUT = "-"


def run(words: Sequence[str], console: Console) -> int:
    """Print the results of a study, or write them to a file, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments, or there is no such study.
        StudyError: the study's storage cannot be read.
        EmbedsweepError: a file cannot be written.
    """
    arguments = parse(VERB, words)
    csv, tree = (_target(arguments, key) for key in ("csv", "json"))
    if csv == tree == STDOUT:
        arguments.add_problem("--json", f"only one of --csv and --json can be {STDOUT}, which is stdout")
    study = open_named(arguments)
    if csv is not None:
        _write_csv(study, csv, console)
    if tree is not None:
        _write_json(study, tree, console)
    if STDOUT in (csv, tree):
        return 0
    from embedsweep.report.ranking import SHOWN, print_best, print_ranking
    from embedsweep.report.results import study_results
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        say(console, _state_line(study))
        results = study_results(study)
        print_ranking(console, results, None if arguments.values.all else SHOWN)
        print_best(console, results, "embedsweep train")
        if study.is_finals:
            say(
                console,
                f"each seed is a row of its own here; what the finals decided: embedsweep show {study.experiment}",
            )
    for path in (csv, tree):
        if path is not None:
            say(console, f"written to {path}")
    return 0


def _state_line(study: StudyRecord) -> str:
    from embedsweep.report.status import study_status
    from embedsweep.study.finals import expects_finals

    goes_on = f"embedsweep train -m study.name={study.name}"
    words = {
        "complete": "complete",
        "running": "running",
        "not running": f"not running; {goes_on} resumes it",
        "unknown": "another machine ran its trials, and may run them now",
    }
    line = f"{study_status(study).finished_text}; {words[study.state]}"
    finals = study.finals
    if finals is not None and study.is_complete:
        line = f"{line}; {study_status(finals).finished_text}; {words[finals.state]}"
        is_left = finals.is_complete and expects_finals(study) and not study.is_answered
        return f"{line}; not compared yet: {goes_on} does it" if is_left else line
    return f"{line}; {goes_on} begins its finals" if study.is_complete and expects_finals(study) else line


def open_named(arguments: ParsedArguments) -> StudyRecord:
    """Return the study that the first positional argument names, for reading.

    Raises:
        ConfigError: all problems of the arguments, or there is no such study.
        StudyError: its storage cannot be read.
    """
    arguments.check()
    from embedsweep.study.reading import read_study

    return read_study(arguments.positionals[0][0], storage=arguments.values.storage)


def _target(arguments: ParsedArguments, key: str) -> Path | Literal["-"] | None:
    """Return the file that an option names; ``-`` is stdout."""
    if getattr(arguments.values, key) == STDOUT:
        return "-"
    return read_target(arguments, key)


def _write_csv(study: StudyRecord, target: Path | Literal["-"], console: Console) -> None:
    from embedsweep.report.loaded_study import LoadedStudy

    frame = LoadedStudy(study).trials()
    if isinstance(target, Path):
        with written_whole(target) as temporary:
            frame.to_csv(temporary)
    else:
        console.file.write(frame.to_csv())


def _write_json(study: StudyRecord, target: Path | Literal["-"], console: Console) -> None:
    from embedsweep.report.export import tree_of
    from embedsweep.report.results import study_results
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        tree = tree_of(study_results(study))
    if isinstance(target, Path):
        write_json(target, tree)
    else:
        console.file.write(json.dumps(tree, indent=2, ensure_ascii=False) + "\n")


VERB = Verb(
    name="show",
    summary="the results of a study, also while it runs",
    run=run,
    description=(
        "Print the results of a study: the options of each swept group, the best trials with 95 % intervals, which of\n"
        "them cannot be told apart, and what they cost. The study may be running, here or on another machine; it is\n"
        "only read. Intervals are of the choice of dev items, not of the seed.\n\n"
        "  embedsweep show night\n"
        "  embedsweep show night --csv - | column -s, -t | less -S"
    ),
    positionals=(STUDY,),
    options=(
        Option("--all", "", "list every trial, the pruned and the failed ones, too"),
        Option("--csv", "FILE", f"write a row for each trial; {STDOUT} is stdout"),
        Option("--json", "FILE", f"write trials, options, intervals and differences; {STDOUT} is stdout"),
        STORAGE,
        OVERWRITE,
    ),
)
