"""``embedsweep report STUDY``: the report of a study, also while it runs, as one HTML file."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence

from rich.console import Console

from embedsweep.commands.arguments import Option, Verb, parse
from embedsweep.commands.show import STORAGE, STUDY, open_named
from embedsweep.console import say


def run(words: Sequence[str], console: Console) -> int:
    """Write the report into the study's folder, print where it is, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments, or there is no such study.
        StudyError: the study's storage cannot be read.
        OSError: the file cannot be written.
    """
    arguments = parse(VERB, words)
    study = open_named(arguments)
    from embedsweep.report.page.build import write_report
    from embedsweep.report.results import study_results
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        path = write_report(study_results(study), "embedsweep train")
    say(console, f"report: {path}")
    if arguments.values.open and not webbrowser.open(path.resolve().as_uri()):
        say(console, "there is no browser here: open the file yourself")
    return 0


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
    options=(Option("--open", "", "open it in a browser"), STORAGE),
)
