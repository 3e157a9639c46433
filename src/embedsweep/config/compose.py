"""Compose options to plain configurations with Hydra, and parse overrides with its grammar.

Options in ``conf/`` of the working directory take precedence over the shipped ones.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from embedsweep.config.values import nearest
from embedsweep.errors import ConfigError, Problem, raise_problems

PRIMARY = "train"

BASES = ("base", "benchmark")
"""Folders of ``conf`` that hold parts of options; not groups to choose from."""


def shipped_conf() -> Path:
    """Return the folder of the shipped options: inside the installed package, or beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def user_conf() -> Path | None:
    """Return the ``conf`` folder of the working directory; None if there is none or it is the shipped one."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != shipped_conf() else None


class Composer:
    """Composes configurations from the options on the search path.

    Composing costs Hydra 80 ms, so every combination of options is composed once; plain values are set afterwards.
    Open it with :func:`open_composer`.
    """

    def __init__(self, hydra: Hydra) -> None:
        self._hydra = hydra
        self._composed: dict[tuple[tuple[str, str], ...], tuple[dict[str, Any], dict[str, Any]]] = {}

    def options(self, group: str) -> list[str]:
        """Return names of the options of ``group`` (``loss``, ``loss@loss.inner``); empty if there is no such group."""
        options: list[str] = self._hydra.config_loader.get_group_options(group.partition("@")[0])
        return options

    def is_group(self, name: str) -> bool:
        """Return whether ``name`` is a group of options (``loss``, ``loss@loss.inner``), not a key (``loss.scale``)."""
        if name.partition("@")[0] in BASES:
            return False
        groups = self._hydra.config_loader.get_group_options(name, results_filter=ObjectType.GROUP)
        return bool(self.options(name)) or bool(groups)

    def benchmark(self, name: str) -> dict[str, Any]:
        """Return the option ``conf/benchmark/NAME.yaml``, interpolations as they stand.

        Raises:
            ConfigError: there is no benchmark of that name, or it cannot be read.
        """
        known = self.options("benchmark")
        if name not in known:
            raise ConfigError.single(name, f"no such benchmark{nearest(name, known)}; there are: {', '.join(known)}")
        composed: dict[str, Any] = self._composed_plain(f"benchmark/{name}", [])["benchmark"]
        return composed

    @property
    def groups(self) -> list[str]:
        """Names of all groups of options."""
        names = self._hydra.config_loader.list_groups("")
        return [name for name in names if name not in ("hydra", *BASES) and self.options(name)]

    def compose(self, choices: Mapping[str, str]) -> dict[str, Any]:
        """Return the configuration with these options and the default ones; interpolations and ``???`` as they stand.

        The search spaces of options are left out, since they are not part of a trial.

        Args:
            choices: group -> option; ``loss@loss.inner`` is the loss inside of one that wraps another.

        Raises:
            ConfigError: a YAML file cannot be read or names something that does not exist.
        """
        return copy.deepcopy(self._compose_once(choices)[0])

    def option_spaces(self, choices: Mapping[str, str]) -> dict[str, Any]:
        """Return the search spaces of the options of :meth:`compose`, as they stand in their YAML, by their places.

        A place is a section (``model``), or that of an option inside another (``loss.inner``).
        """
        return copy.deepcopy(self._compose_once(choices)[1])

    def _compose_once(self, choices: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the composed configuration without search spaces, and the spaces by their places."""
        key = tuple(sorted(choices.items()))
        if key not in self._composed:
            composed = self._composed_plain(PRIMARY, [f"{group}={option}" for group, option in key])
            sections = {name: section for name, section in composed.items() if name != "search"}
            spaces = dict(taken for name, section in sections.items() for taken in _take_spaces(section, name))
            self._composed[key] = composed, spaces
        return self._composed[key]

    def _composed_plain(self, config_name: str, overrides: list[str]) -> dict[str, Any]:
        try:
            composed = self._hydra.compose_config(
                config_name=config_name,
                overrides=overrides,
                run_mode=RunMode.RUN,
                with_log_configuration=False,
                from_shell=False,
            )
        except (HydraException, OmegaConfBaseException, YAMLError) as error:
            chosen = ", ".join(overrides) or ("the defaults" if config_name == PRIMARY else config_name)
            raise ConfigError.single(f"conf ({chosen})", " ".join(str(error).split())) from error
        plain = cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=False))
        del plain["hydra"]
        return plain


def _take_spaces(section: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Take the ``space`` out of an option and of the options inside it; that of a further dataset is dropped."""
    if isinstance(section, dict):
        if (space := section.pop("space", None)) is not None:
            yield place, space
        yield from _take_spaces(section.get("inner"), f"{place}.inner")
        for name, further in (section.get("also") or {}).items():
            for option in (further, further.get("loss")):
                list(_take_spaces(option, f"{place}.also.{name}"))


@contextmanager
def open_composer() -> Iterator[Composer]:
    """Return a composer over the user's and the shipped options, for the duration of the ``with`` block."""
    path = create_config_search_path(str(shipped_conf()))
    if (user := user_conf()) is not None:
        path.prepend(provider="user", path=f"file://{user}", anchor="main")
    # Not made by Hydra's own functions, which set the one Hydra of the process: that may be a caller's.
    job = JobRuntime()
    former = job.get("name")
    try:
        yield Composer(Hydra(task_name=PRIMARY, config_loader=ConfigLoaderImpl(config_search_path=path)))
    finally:
        job.set("name", former)


@contextmanager
def own_hydra() -> Iterator[None]:
    """Run ``hydra.main`` inside the block, and leave Hydra as a caller in this process has set it up."""
    state = Singleton.get_state()
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        Singleton.set_state(state)


REFUSED_GROUPS = {
    "hydra/launcher": "embedsweep starts its own workers: run the same command again beside this one to add a worker",
    "hydra/sweeper": "embedsweep has its own sweeper: choose the sampler that proposes trials by study.sampler=tpe",
}


@dataclass(frozen=True)
class Word:
    """One override of a command: ``key=value``.

    Attributes:
        text: as it was typed.
        key: the key or the group of options, with the place of one inside another (``loss@loss.inner``).
        value: a plain value; of an override that sweeps, Hydra's sweep object.
        sweeps: whether it has several values.
    """

    text: str
    key: str
    value: Any
    sweeps: bool


def parse_words(texts: Sequence[str]) -> list[Word]:
    """Parse ``key=value`` words with Hydra's own grammar.

    Raises:
        ConfigError: all words that are not overrides or choose one of Hydra's launchers or sweepers.
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
    raise_problems(problems)
    return words


def _grammar_message(text: str, reason: str) -> str:
    if "=" not in text:
        return "is not key=value"
    if "NoneType is incompatible" in reason:
        return "Hydra's choice() cannot contain null: write the choices as key=null,a,b"
    key, _, value = text.partition("=")
    # To Hydra a file's {split} begins a mapping.
    if "token recognition error" in reason or re.search(r"\{\w+\}", value):
        return f"has a character that Hydra reads only in quotes, as in '{key}=\"{value}\"'"
    return f"cannot be read as key=value: {reason.partition(' expecting ')[0]}"


def _refusal(key: str, override: Override) -> str | None:
    if key in REFUSED_GROUPS:
        return REFUSED_GROUPS[key]
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return "Hydra's own settings are not used: results go to sweeps/ and to tracking.uri"
    if override.is_delete():
        return f"~{key} cannot be used: keys cannot be removed from the configuration; set the key to null instead"
    return None if key else "has no key before the ="


def unquote(value: Any) -> Any:
    """Return a value of Hydra's grammar as plain Python."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [unquote(item) for item in value]
    if isinstance(value, dict):
        return {str(unquote(key)): unquote(item) for key, item in value.items()}
    return value
