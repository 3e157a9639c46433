"""Shell completion: the words that can stand at the cursor, and the scripts for bash, zsh and fish."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from embedsweep.commands.arguments import Verb
from embedsweep.commands.models import MODEL, single_runs_with_model
from embedsweep.config.compose import open_composer
from embedsweep.config.values import leaf_keys, shown, value_at
from embedsweep.errors import ConfigError
from embedsweep.files import MODEL as MODEL_FOLDER
from embedsweep.files import SINGLE_RUNS, study_names
from embedsweep.tracking.store import locate
from embedsweep.validation.reference import allowed_words, groups
from embedsweep.validation.single import read_store

SHELLS = ("bash", "zsh", "fish")
_UNINSTALL = {
    "bash": "complete -r PROGRAM; unset -f _embedsweep_complete",
    "zsh": "compdef -d PROGRAM; unfunction _embedsweep_complete",
    "fish": "complete -e -c PROGRAM; functions -e _embedsweep_complete",
}


def script(request: str, program: str) -> str:
    """Return what a shell evaluates to start or to end the completion of a program.

    Args:
        request: ``install=bash``, ``uninstall=zsh``, ... for one of :data:`SHELLS`.
        program: the command that is completed: ``embedsweep``, or ``python`` for ``python train.py``.

    Raises:
        ConfigError: the request is not one of these.
    """
    action, _, shell = request.partition("=")
    if shell not in SHELLS or action not in ("install", "uninstall"):
        allowed = ", ".join(f"{action}={shell}" for action in ("install", "uninstall") for shell in SHELLS)
        raise ConfigError.single("--shell-completion", f"must be one of {allowed}, but got {request or 'nothing'}")
    if action == "uninstall":
        return _UNINSTALL[shell].replace("PROGRAM", program) + "\n"
    return Path(__file__).with_name(f"completion.{shell}").read_text(encoding="utf-8").replace("PROGRAM", program)


def candidates(line: str, verbs: Mapping[str, Verb]) -> list[str]:
    """Return the words that can stand at the end of a command line; empty where a file is wanted, or none is known.

    Whatever is wrong with the line or the configuration gives no words: a message would end up in the prompt.

    Args:
        line: the command line up to the cursor, the program's name included.
        verbs: the verbs by their names.
    """
    words = line.split()
    current = "" if line.endswith(" ") or not words else words.pop()
    if words and words[0].rpartition("/")[2].startswith("python"):
        words = words[1:]
    words = ["train", *words[1:]] if words and words[0].endswith("train.py") else words[1:]
    known: Sequence[str] = ()
    with contextlib.suppress(Exception):
        known = _known_words(words, current, verbs)
    return sorted({word for word in known if word.startswith(current)})


def _known_words(words: Sequence[str], current: str, verbs: Mapping[str, Verb]) -> Sequence[str]:
    if not words:
        return [*verbs, "--help", "--version"]
    verb = verbs[words[0]]
    if current.startswith("-"):
        return _options(verb, current)
    option, n_positionals = _place(verb, words[1:])
    if option:
        return next(each for each in verb.options if each.name == option).known_values()
    if n_positionals < len(verb.positionals) and (choices := verb.positionals[n_positionals].choices) is not None:
        others = _overrides(words[1:], current) if verb.positionals[n_positionals].is_optional else ()
        return [*choices(), *others]
    if verb.overrides:
        return _overrides(words[1:], current)
    is_model = verb.positionals and (n_positionals == 0 or verb.positionals[0].is_many)
    return _models() if is_model and verb.positionals[0].metavar.startswith(MODEL.metavar) else ()


def _options(verb: Verb, current: str) -> list[str]:
    """Return a verb's options, or the values of one that is typed with its ``=``."""
    name, sign, _ = current.partition("=")
    if sign:
        return [f"{name}={word}" for option in verb.options if option.name == name for word in option.known_values()]
    return [*(option.name for option in verb.options), "--help"]


def _place(verb: Verb, words: Sequence[str]) -> tuple[str, int]:
    """Return the option whose value comes next, empty where none does, and the number of positional arguments."""
    # An option that takes one or more values takes all words up to the next option.
    most_values = {
        option.name: len(words) + 1 if option.nargs == "+" else int(option.nargs or bool(option.metavar))
        for option in verb.options
    }
    name, n_left, n_positionals = "", 0, 0
    for word in words:
        if word.startswith("-"):
            name, n_left = word, most_values.get(word, 0)
        elif n_left:
            n_left -= 1
        else:
            n_positionals += 1
    return (name if n_left else ""), n_positionals


def _models() -> list[str]:
    """Return studies, single runs, and runs whose model is in the local MLflow store; without importing MLflow."""
    artifacts = locate(read_store([]).uri).artifacts
    stored = artifacts.glob(f"*/*/artifacts/{MODEL_FOLDER}") if artifacts is not None else ()
    return [*study_names(), *single_runs_with_model(), *(path.parents[1].name for path in stored)]


def _overrides(words: Sequence[str], current: str) -> list[str]:
    """Return groups and keys, one level at a time; after ``=``, options or values, also those after a comma."""
    key, sign, value = current.partition("=")
    if sign:
        before = value[: value.rfind(",") + 1]
        return [f"{key}={before}{word}" for word in _values(key, words)]
    head = current[: current.rfind(".") + 1]
    names = [] if head else [f"{group}=" for group in groups()]
    for leaf in leaf_keys(_compose(words)):
        is_option_name = leaf.endswith(".name") and leaf != "study.name"  # GROUP=OPTION sets it
        if leaf.startswith(head) and not is_option_name:
            name, dot, _ = leaf.removeprefix(head).partition(".")
            names.append(f"{head}{name}{dot or '='}")
    return names


def _values(key: str, words: Sequence[str]) -> Sequence[str]:
    """Return the words that can follow ``key=``; where any value can, the present one; none for a file or folder."""
    if key.endswith(".path"):
        return ()
    if key in ("study.name", "study.warm_start"):
        return study_names()
    if key == "resume":
        return [path.name for path in SINGLE_RUNS.glob("*")]
    if allowed := allowed_words(key):
        return allowed
    text = shown(value_at(_compose(words), key))
    return [] if "${" in text or text == "???" else [text]


def _compose(words: Sequence[str]) -> dict[str, Any]:
    """Compose the options chosen so far, of several the first; the default ones where these cannot be composed."""
    choices = {key: value.split(",")[0] for key, _, value in (word.partition("=") for word in words)}
    with open_composer() as composer:
        choices = {key: option for key, option in choices.items() if option in composer.options(key)}
        try:
            return composer.compose(choices)
        except ConfigError:
            return composer.compose({})
