"""The arguments of the verbs: their tables, read by argparse, with all problems of a command line at once.

Defaults stand in ``conf/commands.yaml``; a file of that name in the ``conf`` of the working directory overrides them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import yaml
from rich.console import Console

from embedsweep.config.compose import shipped_conf, user_conf
from embedsweep.config.values import nearest, shown
from embedsweep.errors import ConfigError, Problem, gather_problems, raise_problems
from embedsweep.machine import device_problem

P = ParamSpec("P")
T = TypeVar("T")

DEFAULTS = "commands.yaml"


@dataclass(frozen=True)
class Positional:
    """An argument without a name.

    Attributes:
        metavar: its name in the help (``FILE``); with ``...`` at its end it takes one word or more, in brackets one
            or none.
        help: what it is, in one line.
        choices: lists the values that completion offers.
        read: returns what a word means.
    """

    metavar: str
    help: str
    choices: Callable[[], Sequence[str]] | None = None
    read: Callable[[str], str] = str

    @property
    def is_many(self) -> bool:
        """Whether it takes one word or more."""
        return self.metavar.endswith("...")

    @property
    def is_optional(self) -> bool:
        """Whether it may be left out."""
        return self.metavar.startswith("[")


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
    def option_names(self) -> list[str]:
        """The names of its options, ``--help`` left out."""
        return [option.name for option in self.options]

    @property
    def usage(self) -> str:
        """Its command line in short: ``embedsweep encode MODEL FILE --out FILE [options]``."""
        words = [positional.metavar for positional in self.positionals]
        words += [f"{option.name} {option.metavar}" for option in self.options if option.is_required]
        words += ["[key=value ...]"] if self.overrides else []
        words += ["[options]"] if self.options else []
        return " ".join(("embedsweep", self.name, *words))


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
        results: list[T] = []
        with gather_problems(self.problems):
            results.append(function(*args, **kwargs))
        return results[0] if results else None

    def check(self) -> None:
        """Raise a ConfigError with all problems noted so far, if there are any."""
        raise_problems(self.problems)


def whole_number(at_least: int, at_most: int = sys.maxsize) -> Callable[[str], int]:
    """Return the type of an option whose value is a whole number within bounds, both included."""
    bounds = f"of at least {at_least}" if at_most == sys.maxsize else f"from {at_least} to {at_most}"

    def convert(word: str) -> int:
        if not word.isdecimal() or not at_least <= int(word) <= at_most:
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}, but got {word}")
        return int(word)

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
    """Parse the words after a verb; what is wrong with them is in the result's ``problems``.

    Raises:
        ConfigError: an option has too few values, or a flag has one; with the problems before it.
    """
    words = [_present_spelling(verb, word) for word in words]
    names = [word.partition("=")[0] for word in words]
    problems = [Problem(name, "is given more than once") for name in verb.option_names if names.count(name) > 1]
    given = {option.key for option in verb.options if option.name in names}
    try:
        values, rest = _parser(verb, given, problems).parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ConfigError([*problems, Problem(str(error.argument_name), error.message)]) from None
    problems += [
        Problem(option.name, f"must be given: {option.name} {option.metavar}; {option.help}")
        for option in verb.options
        if option.is_required and option.key not in given and getattr(values, option.key) is None
    ]
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


def _parser(
    verb: Verb, given: Collection[str], problems: list[Problem], *, add_help: bool = False
) -> argparse.ArgumentParser:
    """Return a parser of a verb's options.

    Args:
        verb: its options are parsed.
        given: keys of the options that are on the command line; the others have their default values.
        problems: get the values that an option does not allow, which are None in the result.
        add_help: whether ``--help`` is an option, too.
    """

    def convert(option: Option, word: str) -> Any:
        try:
            return option.type(word)
        except argparse.ArgumentTypeError as error:
            source = "" if option.key in given else f" (in conf/{DEFAULTS})"
            problems.append(Problem(option.name, f"{error}{source}"))
            return None

    parser = argparse.ArgumentParser(
        usage=verb.usage,
        description=verb.description or f"{verb.summary[0].upper()}{verb.summary[1:]}.",
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=120),
        add_help=add_help,
        allow_abbrev=False,
        exit_on_error=False,
    )
    defaults = read_defaults(verb.name)
    for option in verb.options:
        default = defaults.get(option.key)
        if option.key not in given and (wrong := _default_problem(option, default)):
            problems.append(Problem(option.name, f"{wrong} (in conf/{DEFAULTS})"))
        spelled = " ".join(map(str, default)) if isinstance(default, list) else shown(default)
        note = "" if default in (None, False, []) else f" (default: {spelled})"
        how: dict[str, Any] = {"action": "store_true", "default": bool(default)}
        if option.metavar:
            metavar = tuple(option.metavar.split()) if option.nargs == 2 else option.metavar
            # argparse converts a default value that is a string, as it does a word of the command line.
            default = default if default is None or isinstance(default, list) else str(default)
            how = {"metavar": metavar, "type": partial(convert, option), "nargs": option.nargs, "default": default}
        parser.add_argument(option.name, help=(option.help + note).replace("%", "%%"), **how)
    return parser


def _default_problem(option: Option, default: Any) -> str | None:
    """Return what is wrong with the form of a default value; its type checks the rest."""
    if default is None:
        return None
    if not option.metavar:
        return None if isinstance(default, bool) else f"must be true or false, but got {shown(default)}"
    if isinstance(default, list) != (option.nargs is not None):
        return f"must be {'one value' if option.nargs is None else 'a list'}, but got {shown(default)}"
    if isinstance(option.nargs, int) and len(default) != option.nargs:
        return f"must be a list of {option.nargs}, but got {shown(default)}"
    return None


def _without_unknown_options(verb: Verb, words: Sequence[str], problems: list[Problem]) -> list[str]:
    """Return the words without unknown options, and without a word after one that is no positional argument."""
    names = [*verb.option_names, "--help"]
    rest: list[str] = []
    previous = ""
    for word in words:
        if word.startswith("-") and word != "-":
            name = word.partition("=")[0]
            problems.append(Problem(name, f"no such option{nearest(name, names)}; there are: {', '.join(names)}"))
        elif not previous.startswith("--") or len(rest) < len(verb.positionals):
            rest.append(word)
        previous = word
    return rest


def _place(verb: Verb, words: list[str], problems: list[Problem]) -> tuple[list[list[str]], list[str]]:
    """Return the words of each positional argument, and those that are left."""
    placed: list[list[str]] = []
    for positional in verb.positionals:
        count = len(words) if positional.is_many else 1
        if positional.is_optional and "=" in "".join(words[:1]):
            count = 0  # that word is an override
        placed.append([positional.read(word) for word in words[:count]])
        words = words[count:]
        if not placed[-1] and not positional.is_optional:
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


def format_help(verb: Verb) -> str:
    """Return what a verb does, its arguments and their defaults."""
    parser = _parser(verb, (), [], add_help=True)
    for positional in verb.positionals:
        parser.add_argument(positional.metavar, help=positional.help)
    if verb.overrides:
        parser.add_argument("key=value", help=verb.overrides)
    return parser.format_help()
