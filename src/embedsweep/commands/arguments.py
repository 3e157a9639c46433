"""The arguments of a verb: a literal table, the help it prints, and all that is wrong with what was typed, at once.

Owns the form of words (``--name value``). Their values are read as those of any option are, by the gate's reader; the
defaults stand in ``conf/commands.yaml``. Knows no particular verb.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import yaml
from rich.console import Console

from embedsweep.config.compose import shipped_conf, user_conf
from embedsweep.config.reader import Reader
from embedsweep.config.values import nearest, shown
from embedsweep.errors import ConfigError, Problem

DEFAULTS = "commands.yaml"
HELP = ("-h", "--help")


class Takes(Enum):
    """What follows an argument's name."""

    NOTHING = "nothing"
    WORD = "one word"
    NUMBER = "one whole number"
    WORDS = "one word or more"


@dataclass(frozen=True)
class Argument:
    """One ``--name``.

    Attributes:
        name: without dashes at its beginning.
        takes: what follows it.
        shown: what follows it, as the help says it (``NAME...``); empty where nothing does.
        help: what it does, in one line.
    """

    name: str
    takes: Takes
    shown: str
    help: str

    @property
    def key(self) -> str:
        """Its key in ``conf/commands.yaml``."""
        return self.name.replace("-", "_")


@dataclass(frozen=True)
class Place:
    """What stands without a name: ``MODEL``, ``FILE``; the last one may take several words.

    Attributes:
        shown: as the help says it (``MODEL...``).
        help: what it is, in one line.
    """

    shown: str
    help: str

    @property
    def is_many(self) -> bool:
        """Whether it takes one word or more."""
        return self.shown.endswith("...")


@dataclass(frozen=True)
class Verb:
    """A verb's arguments and what its help says."""

    name: str
    about: str
    places: tuple[Place, ...]
    arguments: tuple[Argument, ...]


class Typed:
    """What was typed after a verb, with the defaults in the place of what was not.

    Attributes:
        reader: reads the arguments by their keys; :meth:`finish` raises what it found.
        problems: all that is wrong so far; what a verb finds itself is added.
        places: the words of each place, as many lists as the verb has places.
        said: keys that were typed.
    """

    def __init__(
        self, verb: Verb, values: Mapping[str, Any], places: list[list[str]], said: set[str], problems: list[Problem]
    ) -> None:
        self.problems = problems
        self.places = places
        self.said = said
        self._verb = verb
        self.reader = Reader(values, "", problems)

    def problem(self, where: str, message: str) -> None:
        """Notes that something is wrong."""
        self.problems.append(Problem(where, message))

    def is_told(self, key: str) -> bool:
        """Whether something is known to be wrong with an argument, so that no more need be said."""
        return any(problem.where.removeprefix("--").replace("-", "_") == key for problem in self.problems)

    def check(self) -> None:
        """Raises what was found so far, under the names that were typed.

        Raises:
            ConfigError: there is any problem.
        """
        if self.problems:
            names = {argument.key: f"--{argument.name}" for argument in self._verb.arguments}
            raise ConfigError(replace(each, where=names.get(each.where, each.where)) for each in self.problems)


def parse(verb: Verb, words: Sequence[str]) -> Typed:
    """Sorts the words after a verb; what is wrong with them is in the result's ``problems``."""
    problems: list[Problem] = []
    values = dict(defaults(verb.name))
    rest: list[str] = []
    said: set[str] = set()
    arguments = {f"--{argument.name}": argument for argument in verb.arguments}
    left = list(words)
    while left:
        word = left.pop(0)
        name, sign, attached = word.partition("=")
        argument = arguments.get(name)
        if not word.startswith("-") or word == "-":
            rest.append(word)
        elif argument is None:
            there = ", ".join((*arguments, "--help"))
            problems.append(Problem(name, f"no such argument{nearest(name, arguments)}; there are: {there}"))
            while left and not left[0].startswith("-") and len(rest) >= len(verb.places):
                left.pop(0)  # it may have been meant for the unknown argument
        elif argument.key in said:
            problems.append(Problem(name, "is given twice; say it once"))
            _take(argument, left)
        else:
            said.add(argument.key)
            taken = [attached] if sign else _take(argument, left)
            values[argument.key] = _value(argument, taken, problems)
    return Typed(verb, values, _placed(verb, rest, problems), said, problems)


def defaults(verb: str) -> Mapping[str, Any]:
    """The verb's section of the shipped file, with what a file of the working directory's ``conf`` says instead."""
    values: dict[str, Any] = {}
    for folder in (shipped_conf(), user_conf()):
        if folder is not None and (path := folder / DEFAULTS).is_file():
            try:
                tree = yaml.safe_load(path.read_text(encoding="utf-8"))
            except yaml.YAMLError as error:
                raise ConfigError.single(str(path), " ".join(str(error).split())) from None
            section = tree.get(verb) if isinstance(tree, Mapping) else None
            values |= section if isinstance(section, Mapping) else {}
    return values


def _take(argument: Argument, left: list[str]) -> list[str]:
    """Takes the words that belong to an argument off the rest of the command."""
    most = {Takes.NOTHING: 0, Takes.WORDS: len(left)}.get(argument.takes, 1)
    taken: list[str] = []
    while left and len(taken) < most and not left[0].startswith("--"):
        taken.append(left.pop(0))
    return taken


def _value(argument: Argument, taken: list[str], problems: list[Problem]) -> Any:
    if argument.takes is Takes.NOTHING:
        if taken:
            problems.append(Problem(f"--{argument.name}", f"takes no value, but got {taken[0]}"))
        return True
    if not taken:
        problems.append(Problem(f"--{argument.name}", f"needs a value: --{argument.name} {argument.shown}"))
        return _STAND_IN[argument.takes]
    if argument.takes is Takes.WORDS:
        return taken
    if argument.takes is Takes.NUMBER:
        try:
            return int(taken[0])
        except ValueError:
            return taken[0]  # the reader says what is wrong with it
    return taken[0]


_STAND_IN: Mapping[Takes, Any] = {Takes.WORD: None, Takes.NUMBER: None, Takes.WORDS: []}
"""What an argument has whose value is missing."""


def _placed(verb: Verb, rest: list[str], problems: list[Problem]) -> list[list[str]]:
    placed: list[list[str]] = []
    for place in verb.places:
        count = len(rest) if place.is_many else 1
        placed.append(rest[:count])
        rest = rest[count:]
        if not placed[-1]:
            problems.append(Problem(place.shown.removesuffix("..."), f"is missing: {usage(verb)}"))
    problems += [Problem(word, f"is one word too many: {usage(verb)}") for word in rest]
    return placed


def usage(verb: Verb) -> str:
    """The verb with its places: ``embedsweep encode MODEL FILE ...``."""
    return " ".join(("embedsweep", verb.name, *(place.shown for place in verb.places), "[--argument value ...]"))


def asks_for_help(words: Sequence[str]) -> bool:
    """Whether the words ask for help and nothing else is to be done."""
    return any(word in HELP for word in words)


def print_help(verb: Verb, console: Console) -> None:
    """Prints what the verb does, its arguments and their defaults."""
    typed_nothing = defaults(verb.name)
    rows = [(place.shown, place.help) for place in verb.places]
    for argument in verb.arguments:
        default = typed_nothing.get(argument.key)
        told = "" if default in (None, False, []) else f" ({_spelt(default)})"
        rows.append((f"--{argument.name} {argument.shown}".rstrip(), argument.help + told))
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name.ljust(width)}  {text}" for name, text in rows]
    text = "\n".join([usage(verb), "", verb.about, "", *lines])
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _spelt(default: object) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else shown(default)
