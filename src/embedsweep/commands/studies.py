"""``embedsweep studies``: all studies of this working directory with their state, trials, best score and age."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.commands.arguments import Verb, parse
from embedsweep.console import say
from embedsweep.files import SWEEPS, study_names


def run(words: Sequence[str], console: Console) -> int:
    """Print a row for each study, the one that changed last first, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments.
    """
    parse(VERB, words).check()
    names = study_names()
    if not names:
        say(console, f"no studies in {SWEEPS.resolve()}")
        return 0
    from embedsweep.report.overview import overview

    for line in overview(names):
        say(console, line)
    return 0


VERB = Verb(
    name="studies",
    summary="all studies: state, trials, best score, age",
    run=run,
    description=(
        "List the studies of this working directory: whether they are complete, running or neither, how many of their\n"
        "trials are finished, the best score, and when they last changed. Nothing is changed."
    ),
)
