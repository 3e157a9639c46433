"""The command line: the table of verbs, exit codes, and how errors are printed.

Libraries that are slow to import are imported after validation, so that a configuration error shows at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from embedsweep.commands import (
    audit,
    diff,
    encode,
    evaluate,
    publish,
    repair,
    report,
    show,
    similarity,
    stop,
    studies,
    tracking,
)
from embedsweep.commands.api import start_single
from embedsweep.commands.arguments import Option, Verb, format_help
from embedsweep.config.compose import (
    COMPOSE_ERRORS,
    PRIMARY,
    describe_user_conf,
    own_hydra,
    parse_words,
    search_user_conf,
    shipped_conf,
)
from embedsweep.config.values import nearest
from embedsweep.console import OutputStyle, open_console
from embedsweep.environment import drop_empty, drop_launcher, launcher_problem
from embedsweep.errors import ConfigError, EmbedsweepError, Interrupted, Problem, printable
from embedsweep.machine import end_at_once
from embedsweep.secrets import redact
from embedsweep.signals import handled
from embedsweep.validation.reference import as_text, groups, keys, reference_of

HELP = ("-h", "--help")
HYDRA_FLAGS = (*HELP, "--hydra-help", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
COMPLETION = ("-sc", "--shell-completion")
MULTIRUN = ("-m", "--multirun")
WAIT = "--wait"
STYLES: Mapping[str, OutputStyle] = {"--quiet": "quiet", "--json-lines": "json"}
NO_FILE_NAME = (errno.ENAMETOOLONG, errno.ELOOP)
"""Errors of a path that can only be an argument of the command."""
WRITE_AT_THE_END = ("audit", "evaluate", "encode", "similarity")
"""Verbs whose only file appears whole, as the last thing they do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed, 2 bad configuration, 3 failed trials, 129, 130, 143."""
    end_at_once()
    drop_empty(os.environ)
    words = list(sys.argv[1:] if argv is None else argv)
    if "--version" in words and words[0] in ("--version", "train"):
        print(f"embedsweep {version('embedsweep')}")
        return 0
    for flag in COMPLETION:
        if flag in words:
            return _complete("".join(words[words.index(flag) + 1 :][:1]))
    if not words or words[0] not in VERBS:
        return _print_usage(words[0] if words else "")
    return _run(words[0], words[1:])


def _run(verb: str, words: list[str]) -> int:
    if verb != "train" and any(word in HELP for word in words):
        print(format_help(VERBS[verb]), end="")
        return 0
    try:
        for line in describe_user_conf():
            print(f"embedsweep: {line}", file=sys.stderr)
        with handled():
            return VERBS[verb].run(words, open_console(sys.stdout))
    except ConfigError as error:
        is_run = verb == "train" and not any(word in HELP for word in words)
        _print_problems(error, "trained" if is_run else "done")
        return error.exit_code
    except EmbedsweepError as error:
        print(f"embedsweep: {printable(redact(str(error)))}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if error.filename is None:
            raise
        print(f"embedsweep: {printable(str(error.filename))} cannot be used: {error.strerror}", file=sys.stderr)
        return ConfigError.exit_code if error.errno in NO_FILE_NAME else EmbedsweepError.exit_code
    except Interrupted as error:
        if verb != "train":  # which prints itself what is left and how to resume
            unwritten = "; nothing was written" if verb in WRITE_AT_THE_END else ""
            print(f"embedsweep: interrupted{unwritten}", file=sys.stderr)
        return error.exit_code


def _complete(request: str) -> int:
    """Answer ``install=SHELL``, ``uninstall=SHELL``, or ``query=SHELL`` for the line in the environment."""
    from embedsweep.commands.completion import candidates, script

    if request.startswith("query="):
        line = os.environ.get("COMP_LINE", "")
        position = os.environ.get("COMP_POINT", "")
        print("\n".join(candidates(line[: int(position)] if position.isdigit() else line, VERBS)))
        return 0
    name = Path(sys.argv[0]).name
    try:
        print(script(request, {"train.py": "python", "__main__.py": "embedsweep"}.get(name, name)), end="")
    except ConfigError as error:
        _print_problems(error, "done")
        return error.exit_code
    return 0


def _print_usage(word: str) -> int:
    """Print the verbs: on stdout where help is requested, else on stderr after the word that is no verb."""
    is_help = word in HELP
    if word and not is_help:
        print(f"embedsweep: no command {printable(word)}{nearest(word, VERBS)}\n", file=sys.stderr)
    rows = [
        ("embedsweep train [key=value ...]", "one run"),
        ("embedsweep train -m [key=values ...]", "a study; the same command resumes it"),
        ("embedsweep train --help", TRAIN.summary),
        *((verb.usage, verb.summary) for verb in VERBS.values() if verb is not TRAIN),
        ("embedsweep --version", "the version"),
    ]
    width = max(len(usage) for usage, _ in rows)
    lines = [
        "embedsweep finds the best fine-tuning recipe for a sentence-embedding model.\n",
        *(f"  {usage.ljust(width)}  {summary}" for usage, summary in rows),
        "\nA MODEL is a folder, a hub id, a run's id or a study's name (its best). Each verb has its own --help.",
    ]
    print("\n".join(lines), file=sys.stdout if is_help else sys.stderr)
    return 0 if is_help else ConfigError.exit_code


def _print_problems(error: ConfigError, deed: str) -> None:
    count = len(error.problems)
    print(f"embedsweep: {count} problem{'s' if count > 1 else ''}; nothing was {deed}", file=sys.stderr)
    for problem in error.problems:
        print(f"  {printable(redact(str(problem)))}", file=sys.stderr)


def _train(words: Sequence[str], console: Console) -> int:
    """Run one configuration, or with ``-m`` a study."""
    followers = [word for flag, word in itertools.pairwise(words) if flag in HELP]
    # KEY=VALUE after --help is an override of the configuration that Hydra's help shows; GROUP=OPTION is a topic.
    topics = [word for word in followers if not word.startswith("-") and ("=" not in word or _names_option(word))]
    if topics:
        print("\n".join(as_text(reference_of(topic)) for topic in topics), end="")
        return 0
    if any(word.partition("=")[0] in HYDRA_FLAGS for word in words):
        return _run_hydra(words)
    flags = [word for word in words if word.startswith("-")]
    if unknown := [flag for flag in flags if flag not in (*MULTIRUN, *STYLES, WAIT)]:
        known = (*MULTIRUN, *STYLES, WAIT, *HYDRA_FLAGS, "--version")
        raise ConfigError(
            Problem(flag, f"no such flag{nearest(flag, known)}; there are: {', '.join(known)}") for flag in unknown
        )
    styles: Mapping[str, OutputStyle] = {flag: style for flag, style in STYLES.items() if flag in flags}
    if len(styles) > 1:
        raise ConfigError.single(" ".join(styles), "one excludes the other: give one")
    _leave_launcher()
    style: OutputStyle = next(iter(styles.values()), "lines")
    overrides = [word for word in words if not word.startswith("-")]
    if any(flag in MULTIRUN for flag in flags):
        return _sweep(overrides, console, style, waits=WAIT in flags)
    if WAIT in flags:
        raise ConfigError.single(WAIT, "is for the jobs of a study: add -m and workers=slurm, or leave it out")
    return _single(overrides, console, style)


def _leave_launcher() -> None:
    """Train as one process, whatever a launcher left in the environment.

    Raises:
        ConfigError: torchrun started this command several times.
    """
    if (problem := launcher_problem(os.environ)) is not None:
        raise ConfigError([problem])
    if names := drop_launcher(os.environ):
        advice = "workers.processes_per_trial and trainer.precision say how trials run"
        print(f"embedsweep: ignored variables of a launcher: {', '.join(names)}; {advice}", file=sys.stderr)


def _single(overrides: list[str], console: Console, style: OutputStyle) -> int:
    return 0 if start_single(overrides, console, program(), style).failure is None else 1


def _sweep(overrides: list[str], console: Console, style: OutputStyle, *, waits: bool) -> int:
    from embedsweep.validation.sweep import pass_sweep

    request = pass_sweep(overrides)
    if style == "json" and request.study.dry_run:
        raise ConfigError.single("--json-lines", "study.dry_run has no events: leave one of them out")
    if waits and request.workers.name != "slurm":
        message = f"is for jobs: a command with workers={request.workers.name} runs the trials itself; leave it out"
        raise ConfigError.single(WAIT, message)
    from embedsweep.commands.sweep import run_sweep

    return run_sweep(request, console, program(), style, waits=waits)


def program() -> str:
    """Return the command that started this program."""
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "embedsweep train"


def _run_hydra(words: Sequence[str]) -> int:
    """Let Hydra answer what it answers by itself: help, the composed configuration, completion."""
    import hydra

    if any(word.partition("=")[0] in ("-c", "--cfg") for word in words):
        # Hydra would advise to add -m for several values, which does not help here.
        parsed = parse_words([word for word in words if _is_override(word)])
        if swept := [word for word in parsed if word.sweeps]:
            raise ConfigError(Problem(word.key, "--cfg shows one configuration: give one value") for word in swept)
    arguments = [_hydra_word(word) for word in words if word not in MULTIRUN]
    if any(word in HELP for word in words):
        # Hydra's parser takes overrides in one place only: beside the first one of the command.
        place = next((index for index, word in enumerate(arguments) if _is_override(word)), len(arguments))
        arguments.insert(place, f"hydra.help.app_name={program()}")
    search_user_conf()
    app = hydra.main(version_base="1.3", config_path=str(shipped_conf()), config_name=PRIMARY)(_do_nothing)
    output = io.StringIO()
    former, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        with contextlib.redirect_stdout(output), own_hydra():
            app()
    except SystemExit as error:
        return ConfigError.exit_code if error.code else 0
    except COMPOSE_ERRORS as error:  # of --help with an override
        raise ConfigError.single("train", " ".join(str(error).split())) from None
    finally:
        sys.argv = former
        # Hydra lists every folder of options, also the one whose files only other options take.
        print(redact(re.sub(r"(?m)^base: .*\n", "", output.getvalue())), end="")
    return 0


def _hydra_word(word: str) -> str:
    """Return a word as Hydra takes it: it sets no mapping with keys that the option does not have, but adds them."""
    key, _, value = word.partition("=")
    return f"++{word}" if value.startswith("{") and key in keys() else word


def _is_override(word: str) -> bool:
    return "=" in word and not word.startswith("-")


def _names_option(word: str) -> bool:
    return word.partition("=")[0] in groups()


def _do_nothing(_: object) -> None:
    """Take the place of the program that Hydra runs where it has no question to answer."""


TRAIN = Verb(
    name="train",
    summary="options and how to sweep them",
    run=_train,
    overrides="options and values, as train --help lists them",
    options=(
        Option("-m", "", "a study: comma lists and search=... are its search space"),
        Option("--multirun", "", "the same"),
        Option("--quiet", "", "warnings and the result only, nothing while trials run"),
        Option(WAIT, "", "stay until the jobs of workers=slurm have ended, and show the result"),
        Option("--json-lines", "", "each event as a JSON object in a line, and nothing else"),
        Option("--help", "NAME", "options and how to sweep them, or all of a group, option or key", choices=keys),
        Option("--cfg", "job", "the configuration that this command would use", choices=("job",)),
        Option("--version", "", "the version"),
    ),
)


_TABLE = (
    TRAIN,
    show.VERB,
    stop.VERB,
    report.VERB,
    studies.VERB,
    diff.VERB,
    audit.VERB,
    tracking.UI,
    tracking.SYNC,
    repair.VERB,
    evaluate.VERB,
    encode.VERB,
    similarity.VERB,
    publish.VERB,
)
VERBS: Mapping[str, Verb] = {verb.name: verb for verb in _TABLE}
