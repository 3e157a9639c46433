"""The arguments of the verbs: their tables, read by argparse, with all problems of a command line at once.

Defaults stand in ``conf/commands.yaml``; a file of that name in the ``conf`` of the working directory overrides them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import yaml
from rich.console import Console

from embedsweep.config.compose import shipped_conf, user_conf
from embedsweep.config.values import nearest, shown
from embedsweep.errors import ConfigError, Problem
from embedsweep.machine import device_problem

P = ParamSpec("P")
T = TypeVar("T")

DEFAULTS = "commands.yaml"


@dataclass(frozen=True)
class Positional:
    """An argument without a name.

    Attributes:
        metavar: its name in the help (``FILE``); with ``...`` at its end it takes one word or more.
        help: what it is, in one line.
    """

    metavar: str
    help: str

    @property
    def is_many(self) -> bool:
        """Whether it takes one word or more."""
        return self.metavar.endswith("...")


@dataclass(frozen=True)
class Option:
    """An argument with a name.

    Attributes:
        name: with its dashes (``--batch-size``).
        metavar: its value in the help (``N``); empty for a flag, which takes none.
        help: what it does, in one line.
        type: converts a word to the value; raises ArgumentTypeError where the word is not allowed.
        nargs: how many words it takes, as argparse has it; None is one.
        choices: values that completion offers, or a function that lists them.
        is_required: whether a value must be given.
    """

    name: str
    metavar: str
    help: str
    type: Callable[[str], Any] = str
    nargs: int | str | None = None
    choices: Sequence[str] | Callable[[], Sequence[str]] = ()
    is_required: bool = False

    @property
    def key(self) -> str:
        """Its key in ``conf/commands.yaml``."""
        return self.name.lstrip("-").replace("-", "_")

    @property
    def most_values(self) -> int:
        """How many words it takes at most."""
        if not self.metavar:
            return 0
        if isinstance(self.nargs, int):
            return self.nargs
        return sys.maxsize if self.nargs == "+" else 1

    def known_values(self) -> Sequence[str]:
        """Return the values that completion offers."""
        return self.choices() if callable(self.choices) else self.choices


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: as it is typed.
        summary: what it does, in one line.
        run: runs it with the words after it, and returns its exit code.
        description: more of it, for its own help.
        positionals: its arguments without a name.
        options: its arguments with a name.
        overrides: what its ``key=value`` words are; empty where it takes none.
        former_keys: ``key`` of a ``key=value`` word -> the option that it sets.
    """

    name: str
    summary: str
    run: Callable[[Sequence[str], Console], int]
    description: str = ""
    positionals: tuple[Positional, ...] = ()
    options: tuple[Option, ...] = ()
    overrides: str = ""
    former_keys: Mapping[str, str] | None = None

    @property
    def usage(self) -> str:
        """Its command line in short: ``embedsweep encode MODEL FILE --out FILE [options]``."""
        words = [positional.metavar for positional in self.positionals]
        words += [f"{option.name} {option.metavar}" for option in self.options if option.is_required]
        words += ["[key=value ...]"] if self.overrides else []
        return " ".join(("embedsweep", self.name, *words, "[options]"))


@dataclass(frozen=True)
class ParsedArguments:
    """The arguments of a command line.

    Attributes:
        values: the value of every option by its key, default values included; None where it has none.
        positionals: the words of each positional argument.
        overrides: the ``key=value`` words.
        given: keys of the options that are on the command line.
        problems: all that is wrong so far.
    """

    values: argparse.Namespace
    positionals: list[list[str]]
    overrides: list[str]
    given: set[str]
    problems: list[Problem]

    def add_problem(self, where: str, message: str) -> None:
        """Note that an argument is wrong."""
        self.problems.append(Problem(where, message))

    def collect(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Call a function and return its result; where it raises a ConfigError, note the problems and return None."""
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def check(self) -> None:
        """Raise a ConfigError with all problems noted so far, if there are any."""
        if self.problems:
            raise ConfigError(self.problems)


def whole_number(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
    """Return the type of an option whose value is a whole number within bounds, both included."""
    bounds = f"of at least {at_least}" if at_most is None else f"from {at_least} to {at_most}"

    def convert(word: str) -> int:
        try:
            number = int(word)
        except ValueError:
            number = at_least - 1
        if number < at_least or (at_most is not None and number > at_most):
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, but got {word}")
        return number

    return convert


def one_of(allowed: Sequence[str]) -> Callable[[str], str]:
    """Return the type of an option whose value is one of some words."""

    def convert(word: str) -> str:
        if word not in allowed:
            message = f"must be one of {', '.join(allowed)}, but got {word}{nearest(word, allowed)}"
            raise argparse.ArgumentTypeError(message)
        return word

    return convert


def usable_device(word: str) -> str:
    """Check that this machine has a device; the type of ``--device``."""
    if (message := device_problem(word)) is not None:
        raise argparse.ArgumentTypeError(message)
    return word


def parse(verb: Verb, words: Sequence[str]) -> ParsedArguments:
    """Parse the words after a verb; what is wrong with them is in the result's ``problems``."""
    problems: list[Problem] = []
    values, rest = _parse_options(verb, [_present_spelling(verb, word) for word in words], problems)
    given = {key for key, value in vars(values).items() if value is not None}
    left = [option for option in verb.options if option.key not in given]
    defaults = _read_defaults(verb, left, problems)
    for option in left:
        default = getattr(defaults, option.key)
        setattr(values, option.key, default if option.metavar else bool(default))
        is_reported = any(problem.where == option.name for problem in problems)
        if option.is_required and default is None and not is_reported:
            problems.append(Problem(option.name, f"must be given: {option.name} {option.metavar}"))
    rest = _without_unknown_options(verb, rest, problems)
    positionals, rest = _place(verb, rest, problems)
    if not verb.overrides:
        problems += [Problem(word, f"unexpected argument: {verb.usage}") for word in rest]
    return ParsedArguments(values, positionals, rest, given, problems)


def _present_spelling(verb: Verb, word: str) -> str:
    """Return ``--port=5055`` for ``port=5055``, which earlier versions took."""
    key, sign, value = word.partition("=")
    option = (verb.former_keys or {}).get(key)
    return f"{option}={value}" if option and sign else word


def _parser(verb: Verb, defaults: Mapping[str, Any], *, add_help: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        usage=verb.usage,
        description=verb.description or f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=120),
        add_help=add_help,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for option in verb.options:
        how: dict[str, Any] = {"action": "store_const", "const": True}  # None where it is not given
        if option.metavar:
            metavar = tuple(option.metavar.split()) if option.nargs == 2 else option.metavar
            how = {"metavar": metavar, "type": option.type, "nargs": option.nargs}
        default = defaults.get(option.key)
        spelled = " ".join(map(str, default)) if isinstance(default, list) else shown(default)
        text = option.help if default in (None, False, []) else f"{option.help} (default: {spelled})"
        parser.add_argument(option.name, dest=option.key, help=text.replace("%", "%%"), **how)
    return parser


def _parse_options(verb: Verb, words: list[str], problems: list[Problem]) -> tuple[argparse.Namespace, list[str]]:
    """Parse the options; argparse stops at the first wrong one, which is noted and left out until none is wrong."""
    names = [word.partition("=")[0] for word in words]
    repeated = [option.name for option in verb.options if names.count(option.name) > 1]
    problems += [Problem(name, "is given more than once") for name in repeated]
    parser = _parser(verb, {})
    while True:
        try:
            return parser.parse_known_args(words)
        except argparse.ArgumentError as error:
            name = str(error.argument_name)
            problems.append(Problem(name, error.message))
            words = _without_option(words, name, has_value=not error.message.startswith("expected"))


def _without_option(words: list[str], name: str, *, has_value: bool) -> list[str]:
    """Return the words without an option and its value; where it has too few values, without those beside it."""
    start = [word.partition("=")[0] for word in words].index(name)
    end = start + 1
    if has_value and "=" not in words[start]:
        end += 1
    while not has_value and end < len(words) and not words[end].startswith("-"):
        end += 1
    return words[:start] + words[end:]


def _without_unknown_options(verb: Verb, words: Sequence[str], problems: list[Problem]) -> list[str]:
    names = [option.name for option in verb.options] + ["--help"]
    rest: list[str] = []
    is_after_unknown = False
    for word in words:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            problems.append(Problem(name, f"no such option{nearest(name, names)}; there are: {', '.join(names)}"))
            is_after_unknown = True
        elif is_after_unknown and len(rest) >= len(verb.positionals):
            is_after_unknown = False  # the word may be the unknown option's value
        else:
            rest.append(word)
    return rest


def _place(verb: Verb, words: list[str], problems: list[Problem]) -> tuple[list[list[str]], list[str]]:
    """Return the words of each positional argument, and those that are left."""
    placed: list[list[str]] = []
    for positional in verb.positionals:
        count = len(words) if positional.is_many else 1
        placed.append(words[:count])
        words = words[count:]
        if not placed[-1]:
            problems.append(Problem(positional.metavar.removesuffix("..."), f"is missing: {verb.usage}"))
    return placed, words


def read_defaults(verb: str) -> Mapping[str, Any]:
    """Read a verb's section of the shipped ``commands.yaml``, updated by that of the working directory's ``conf``."""
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


def _read_defaults(verb: Verb, options: Sequence[Option], problems: list[Problem]) -> argparse.Namespace:
    """Return the default values of options, checked like those of the command line."""
    defaults = read_defaults(verb.name)
    words: list[str] = []
    for option in options:
        default = defaults.get(option.key)
        if default in ([], None) or default is False:
            continue
        if option.nargs is not None:
            words += [option.name, *map(str, default if isinstance(default, list) else [default])]
        elif default is True and not option.metavar:
            words.append(option.name)
        else:
            words.append(f"{option.name}={default}")
    default_problems: list[Problem] = []
    values, _ = _parse_options(verb, words, default_problems)
    problems += [Problem(each.where, f"{each.message} (in conf/{DEFAULTS})") for each in default_problems]
    return values


def format_help(verb: Verb) -> str:
    """Return what a verb does, its arguments and their defaults."""
    parser = _parser(verb, read_defaults(verb.name), add_help=True)
    for positional in verb.positionals:
        parser.add_argument(positional.metavar, help=positional.help)
    if verb.overrides:
        parser.add_argument("key=value", help=verb.overrides)
    return parser.format_help()
