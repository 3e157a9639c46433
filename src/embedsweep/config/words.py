"""Parse: the ``key=value`` words of a command, by Hydra's own grammar.

Owns what a word may be. Whether its key and value are right is the gate's to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from embedsweep.errors import ConfigError, Problem

REFUSED_GROUPS = {
    "hydra/launcher": "this program starts its own workers: run the same command again beside this one to add a worker",
    "hydra/sweeper": "the sweep is this program's own: choose who proposes trials by study.sampler=tpe",
}


@dataclass(frozen=True)
class Word:
    """One ``key=value`` of a command.

    Attributes:
        text: as it was typed.
        key: the key or the group of options, with the place of one inside another (``loss@loss.inner``).
        value: a plain value; of a word that sweeps, what Hydra's grammar makes of it.
        sweeps: whether it gives several values.
    """

    text: str
    key: str
    value: Any
    sweeps: bool


def parse_words(texts: Sequence[str]) -> list[Word]:
    """Parses ``key=value`` words with Hydra's own grammar.

    Raises:
        ConfigError: a word that is no override, or chooses one of Hydra's launchers or sweepers; all of them at once.
    """
    parser = OverridesParser.create()
    words: list[Word] = []
    problems: list[Problem] = []
    for text in texts:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            problems.append(Problem(text, _grammar_message(text, str(error).splitlines()[0])))
            continue
        key = f"{override.key_or_group}@{override.package}" if override.package else override.key_or_group
        if message := _refusal(key, override):
            problems.append(Problem(key or text, message))
        elif override.is_sweep_override():
            words.append(Word(text, key, override.value(), sweeps=True))
        else:
            words.append(Word(text, key, unquote(override.value()), sweeps=False))
    if problems:
        raise ConfigError(problems)
    return words


def _grammar_message(text: str, reason: str) -> str:
    if "=" not in text:
        return "is not key=value"
    if "NoneType is incompatible" in reason:
        return "Hydra's choice() takes no null: write the choices as key=null,a,b"
    key, _, value = text.partition("=")
    # To Hydra a file's {split} begins a mapping.
    if "token recognition error" in reason or re.search(r"\{\w+\}", value):
        return f"has a character that Hydra reads only in quotes, as in '{key}=\"{value}\"'"
    return f"cannot be read as key=value: {reason.partition(' expecting ')[0]}"


def _refusal(key: str, override: Override) -> str | None:
    if key in REFUSED_GROUPS:
        return REFUSED_GROUPS[key]
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return "Hydra's own settings are not used here: results go to sweeps/ and to tracking.uri"
    if override.is_delete():
        return f"~{key} cannot be: nothing is taken out of the configuration; set the key to null instead"
    return None if key else "has no key before the ="


def unquote(value: Any) -> Any:
    """A value of Hydra's grammar as plain Python."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [unquote(item) for item in value]
    if isinstance(value, dict):
        return {str(unquote(key)): unquote(item) for key, item in value.items()}
    return value
