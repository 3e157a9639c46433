"""``embedsweep diff STUDY TRIAL TRIAL``: what tells two trials of a study apart."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from embedsweep.commands.arguments import Positional, Verb, parse
from embedsweep.commands.show import STORAGE, STUDY, open_named
from embedsweep.console import say
from embedsweep.errors import ConfigError


def run(words: Sequence[str], console: Console) -> int:
    """Print the keys in which two trials differ, their scores and their curves, and return 0.

    Raises:
        ConfigError: all that is wrong with the arguments, or there is no such study or trial.
        StudyError: the study's storage cannot be read.
    """
    arguments = parse(VERB, words)
    numbers = [positional[0] for positional in arguments.positionals[1:] if positional]
    for number in numbers:
        if not number.isdecimal():
            arguments.add_problem("TRIAL", f"must be the number of a trial, but got {number}")
    if len(set(numbers)) < len(numbers):
        arguments.add_problem("TRIAL", f"give two different trials, but got {numbers[0]} twice")
    study = open_named(arguments)
    from embedsweep.report.difference import difference
    from embedsweep.study.storage import storage_errors

    with storage_errors():
        n_trials = len(study.trials)
        first, second = (int(number) for number in numbers)
        if max(first, second) >= n_trials:
            message = f"no trial {max(first, second)}: study {study.name} has {n_trials}, from 0"
            raise ConfigError.single("TRIAL", message)
        lines = difference(study, first, second)
    for line in lines:
        say(console, line, fold=True)
    return 0


TRIAL = Positional("TRIAL", "the number of a trial")
VERB = Verb(
    name="diff",
    summary="how two trials of a study differ: keys, scores, curves",
    run=run,
    description=(
        "Print how two trials of a study differ: keys with different values, scores with the 95 % interval of the\n"
        "difference, and dev scores over the steps. The study may be running; it is only read.\n\n"
        "  embedsweep diff night 3 7"
    ),
    positionals=(STUDY, TRIAL, TRIAL),
    options=(STORAGE,),
)
