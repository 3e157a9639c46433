"""The command line: ``embedsweep train ...`` (``python train.py ...``) and the verbs for what comes of it.

Owns flags, exit codes and how errors are told. Imports what is heavy only past the gate, so that a configuration error
shows at once.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from embedsweep.config.compose import PRIMARY, parse_words, shipped_conf, user_conf
from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, EmbedsweepError, Interrupted, Problem
from embedsweep.machine import end_at_once, prepare_process
from embedsweep.secrets import redact
from embedsweep.signals import handled
from embedsweep.training.group import open_group

if TYPE_CHECKING:
    from rich.console import Console

HYDRA_FLAGS = ("-h", "--help", "--hydra-help", "-c", "--cfg", "-i", "--info", "-sc", "--shell-completion")
COMPLETION = ("-sc", "--shell-completion")
MULTIRUN = ("-m", "--multirun")
WRITE_AT_THE_END = ("audit", "evaluate", "encode", "similarity")
"""Verbs whose only file appears whole, as the last thing they do."""
USAGE = """\
embedsweep finds the best fine-tuning recipe for a sentence-embedding model.

  embedsweep train [key=value ...]        one run
  embedsweep train -m [key=values ...]    a study; the same command resumes it
  embedsweep train --help                 options and how to sweep them
  embedsweep audit [data=...]             what training data shares with dev and test, duplicates, lengths
  embedsweep ui                           MLflow's pages, to compare runs
  embedsweep sync                         writes what was recorded while MLflow's store did not answer

  embedsweep evaluate MODEL...            scores models on benchmarks, side by side
  embedsweep encode MODEL FILE            embeddings of a file's texts
  embedsweep similarity MODEL FILE        similarities of a file's pairs
  embedsweep publish MODEL --to WHERE     a model with its card, into a folder or on the Hub

embedsweep --version says which version this is.
A MODEL is a folder, a hub id, a run's id or a study's name (its best); each verb tells more with --help.
"""

UI_HELP = """\
embedsweep ui [port=N] [tracking.uri=URI]

Serves MLflow's pages on this machine until Ctrl-C; of a tracking server, which serves its own, it tells the address.

  port=N             a free port ({port})
  tracking.uri=URI   the store: sqlite:///FILE or http://HOST:PORT; without it MLFLOW_TRACKING_URI, or mlruns/mlflow.db
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code: 0 done, 1 failed, 2 bad configuration, 3 failed trials, 130, 143."""
    end_at_once()
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        words = ["train", *words]  # which tells it, too
    verb = words[0] if words else ""
    if verb not in ("train", *VERBS, *COMPLETION):
        asked_for_help = verb in ("-h", "--help")
        if verb and not asked_for_help:
            hint = nearest(verb, ("train", *VERBS))
            print(f"embedsweep: no command {verb}{hint}\n", file=sys.stderr)
        print(USAGE, file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else ConfigError.exit_code
    if verb in COMPLETION:
        # The script that Hydra installs asks the program itself, without the verb that is being completed.
        os.environ["COMP_LINE"] = os.environ.get("COMP_LINE", "").replace(" train ", " ", 1)
        return _ask_hydra(words)
    try:
        with handled():
            return _train(words[1:]) if verb == "train" else VERBS[verb](words[1:])
    except ConfigError as error:
        _tell_config_error(error, "trained" if verb == "train" else "done")
        return error.exit_code
    except EmbedsweepError as error:
        print(f"embedsweep: {redact(str(error))}", file=sys.stderr)
        return error.exit_code
    except Interrupted as error:
        if verb != "train":  # which says itself what is left and how to go on
            print(
                f"embedsweep: interrupted{'; nothing was written' if verb in WRITE_AT_THE_END else ''}", file=sys.stderr
            )
        return error.exit_code


def _tell_config_error(error: ConfigError, deed: str) -> None:
    count = len(error.problems)
    print(f"embedsweep: {count} problem{'s' if count > 1 else ''}; nothing was {deed}", file=sys.stderr)
    for problem in error.problems:
        print(f"  {redact(str(problem))}", file=sys.stderr)


def _train(words: list[str]) -> int:
    """One run, or with ``-m`` a study."""
    if "--version" in words:
        print(f"embedsweep {version('embedsweep')}")
        return 0
    if any(word.partition("=")[0] in HYDRA_FLAGS for word in words):
        return _ask_hydra(words)
    flags = [word for word in words if word.startswith("-")]
    if unknown := [flag for flag in flags if flag not in MULTIRUN]:
        allowed = ", ".join((*MULTIRUN, *HYDRA_FLAGS, "--version"))
        raise ConfigError(
            [
                Problem(flag, f"no such flag{nearest(flag, allowed.split(', '))}; there are: {allowed}")
                for flag in unknown
            ]
        )
    overrides = [word for word in words if not word.startswith("-")]
    return _sweep(overrides) if flags else _single(overrides)


def _single(overrides: list[str]) -> int:
    from embedsweep.validation.single import pass_single

    asked = pass_single(overrides)
    device = asked.config.trainer.device
    with open_group(asked.processes, device) as group:  # deals the GPUs this process still sees
        prepare_process(device)
        from embedsweep.commands.single import run_single

        return run_single(asked, _console(), _program(), group)


def _sweep(overrides: list[str]) -> int:
    from embedsweep.validation.sweep import pass_sweep

    asked = pass_sweep(overrides)
    from embedsweep.commands.sweep import run_sweep

    return run_sweep(asked, _console(), _program())


def _ui(words: list[str]) -> int:
    from embedsweep.commands.arguments import asks_for_help, defaults
    from embedsweep.tracking.browse import open_ui
    from embedsweep.validation.single import pass_ui

    default_port = defaults("ui").get("port")
    if asks_for_help(words):
        print(UI_HELP.format(port=default_port), end="")
        return 0
    tracking, port = pass_ui(words, default_port)
    return open_ui(tracking, port)


def _sync(words: list[str]) -> int:
    from embedsweep.commands.sync import run

    return run(words, _console())


def _audit(words: list[str]) -> int:
    from embedsweep.commands.audit import run

    return run(words, _console())


def _evaluate(words: list[str]) -> int:
    from embedsweep.commands.evaluate import run

    return run(words, _console())


def _encode(words: list[str]) -> int:
    from embedsweep.commands.encode import run

    return run(words, _console())


def _similarity(words: list[str]) -> int:
    from embedsweep.commands.similarity import run

    return run(words, _console())


def _publish(words: list[str]) -> int:
    from embedsweep.commands.publish import run

    return run(words, _console())


def _console() -> Console:
    """The console of this moment's stdout: what is redirected later, while trials run, does not reach it."""
    from embedsweep.console import open_console

    return open_console(sys.stdout)


def _program() -> str:
    """How this program was started, to be started so again."""
    return "python train.py" if Path(sys.argv[0]).name == "train.py" else "embedsweep train"


def _ask_hydra(words: list[str]) -> int:
    """Lets Hydra answer what it answers by itself: help, the composed configuration, completion."""
    import hydra

    if any(word.partition("=")[0] in ("-c", "--cfg") for word in words):
        _check_one_value_each(words)
    arguments = [word for word in words if word not in MULTIRUN]
    user = user_conf()
    if user is not None:
        arguments += ["--config-dir", str(shipped_conf())]
    app = hydra.main(version_base="1.3", config_path=str(user or shipped_conf()), config_name=PRIMARY)(_nothing)
    output = io.StringIO()
    former, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        with contextlib.redirect_stdout(output):
            app()
    except SystemExit as error:
        return ConfigError.exit_code if error.code else 0
    finally:
        sys.argv = former
        print(redact(output.getvalue()), end="")
    return 0


def _check_one_value_each(words: list[str]) -> None:
    """Raises where keys have several values; Hydra would advise to add -m, which does not help here."""
    parsed = parse_words([word for word in words if "=" in word and not word.startswith("-")])
    if swept := [word for word in parsed if word.sweeps]:
        raise ConfigError(Problem(word.key, "--cfg shows one configuration: give one value") for word in swept)


def _nothing(_: object) -> None:
    """What Hydra would run, had it not been asked a question."""


VERBS: Mapping[str, Callable[[list[str]], int]] = {
    "audit": _audit,
    "ui": _ui,
    "sync": _sync,
    "evaluate": _evaluate,
    "encode": _encode,
    "similarity": _similarity,
    "publish": _publish,
}
"""What there is beside ``train``, which alone says itself how to go on after a signal."""
