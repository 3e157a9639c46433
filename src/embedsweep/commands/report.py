"""``embedsweep report STUDY``: the report of a study, also while it runs, as one HTML file."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse
from embedsweep.commands.output import OVERWRITE, read_target, written_whole
from embedsweep.commands.show import STORAGE, STUDY, open_named
from embedsweep.console import say
from embedsweep.errors import ConfigError, EmbedsweepError

if TYPE_CHECKING:
    from embedsweep.study.record import StudyRecord


def run(words: Sequence[str], console: Console) -> int:
    """Write the report into the study's folder, print where it is, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments, or there is no such study.
        StudyError: the study's storage cannot be read.
        EmbedsweepError: the file cannot be written.
    """
    arguments = parse(VERB, words)
    target = read_target(arguments, "to", (".html",))
    study = open_named(arguments)
    if study.is_finals:
        raise ConfigError.single(study.name, f"is the finals of study {study.experiment}, whose report has them")
    path = _written(study, target)
    say(console, f"report: {path}")
    if arguments.values.open and not webbrowser.open(path.resolve().as_uri()):
        say(console, "there is no browser here: open the file yourself")
    return 0


def _written(study: StudyRecord, target: Path | None) -> Path:
    """Write the report into a file, or into the study's folder, and return its path."""
    from embedsweep.report.page.build import html_of, write_report
    from embedsweep.report.results import study_results
    from embedsweep.study.storage import storage_errors

    program = "embedsweep train"
    with storage_errors():
        if target is not None:
            with written_whole(target) as temporary:
                temporary.write_text(html_of(study_results(study), program), encoding="utf-8")
            return target
        try:
            return write_report(study_results(study), program)
        except OSError as error:
            where = f"the report cannot be written into {study.folder} ({error.strerror})"
            raise EmbedsweepError(f"{where}: give another place, as --to report.html") from error


VERB = Verb(
    name="report",
    summary="a study as one HTML page: the answer in words, charts, tables",
    run=run,
    description=(
        "Write one HTML file, sweeps/STUDY/report/index.html, that needs no network: the answer in words, then the\n"
        "ranking, options, learning curves, importance, finals, single items, failures, cost, how to reproduce it.\n"
        "The study may be running, here or on another machine; its storage is only read.\n\n"
        "  embedsweep report night --open"
    ),
    positionals=(STUDY,),
    options=(
        Option("--open", "", "open it in a browser"),
        Option("--to", "FILE", "write it there, as where the study's folder cannot be written; ends in .html"),
        STORAGE,
        OVERWRITE,
    ),
)
