"""Compose options to plain configurations with Hydra, and parse overrides with its grammar.

Options in ``conf/`` of the working directory take precedence over the shipped ones.
"""

from __future__ import annotations

import copy
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobRuntime
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from hydra.version import VersionBase
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from embedsweep.config.identity import with_later_defaults
from embedsweep.config.other_names import FUNCTIONS as OTHER_FUNCTIONS
from embedsweep.config.other_names import here as other_name
from embedsweep.config.values import listed, nearest
from embedsweep.errors import ConfigError, Problem, gather_problems, raise_problems

PRIMARY = "train"

BASES = ("base", "benchmark")
"""Folders of ``conf`` that hold parts of options; not groups to choose from."""

COMPOSE_ERRORS = (HydraException, OmegaConfBaseException, YAMLError)
"""What Hydra and the libraries below it raise about options that cannot be composed."""

_N_LISTED = 5


def shipped_conf() -> Path:
    """Return the folder of the shipped options: inside the installed package, or beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def user_conf() -> Path | None:
    """Return the ``conf`` folder of the working directory; None if there is none or it is the shipped one."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != shipped_conf() else None


def describe_user_conf() -> list[str]:
    """Return lines about the user's ``conf``: a primary configuration, and files that hide shipped options.

    The folder may be another project's, which uses Hydra, too.

    Raises:
        ConfigError: files in it that cannot be read, which Hydra would not name.
    """
    user, shipped = user_conf(), shipped_conf()
    if user is None:
        return []
    problems: list[Problem] = []
    lines, hiding = [], []
    with gather_problems(problems):
        if (user / f"{PRIMARY}.yaml").is_file():
            lines.append(f"conf/{PRIMARY}.yaml of this folder is not used: choose options in the command")
        folders = sorted(folder.name for folder in shipped.iterdir() if folder.is_dir())
        for path in (path for name in folders for path in sorted((user / name).glob("*.yaml")) if path.is_file()):
            with gather_problems(problems):
                text, other = _text_of(path), shipped / path.relative_to(user)
                if other.is_file() and text != other.read_text(encoding="utf-8"):
                    hiding.append(f"conf/{path.relative_to(user).as_posix()}")
    raise_problems(problems)
    if hiding:
        names = ", ".join(hiding[:_N_LISTED])
        more = f" and {len(hiding) - _N_LISTED} more" if len(hiding) > _N_LISTED else ""
        lines.append(f"files of this folder are used instead of the shipped ones: {names}{more}")
    return lines


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError.single(str(path), f"is not UTF-8 (at byte {error.start + 1}): convert it") from None


class _UserOptions(FileConfigSource):  # type: ignore[misc]  # untyped
    """The options in the user's ``conf``; a primary configuration there belongs to another program."""

    @staticmethod
    def scheme() -> str:
        return "embedsweep"

    def is_config(self, config_path: str) -> bool:
        return config_path.removesuffix(".yaml") != PRIMARY and bool(super().is_config(config_path))


class _UserConf(SearchPathPlugin):  # type: ignore[misc]  # untyped
    """Makes Hydra search the user's ``conf`` before the shipped options, and nowhere else."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        paths = [element.path for element in search_path.get_path()]
        if (user := user_conf()) is not None and str(shipped_conf()) in paths:
            search_path.prepend(provider="user", path=f"{_UserOptions.scheme()}://{user}", anchor="main")


def search_user_conf() -> None:
    """Let Hydra find the user's options wherever it composes the shipped ones."""
    SourcesRegistry.instance().register(_UserOptions)
    Plugins.instance().register(_UserConf)


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
        """Return the option ``conf/benchmark/NAME.yaml`` on top of what all have, interpolations as they stand.

        Raises:
            ConfigError: there is no benchmark of that name, or it cannot be read.
        """
        known = self.options("benchmark")
        if name not in known:
            raise ConfigError.single(name, f"no such benchmark{nearest(name, known)}; there are: {listed(known)}")
        base: dict[str, Any] = self._composed_plain("base/benchmark", [])["base"]
        own: dict[str, Any] = self._composed_plain(f"benchmark/{name}", [])["benchmark"]
        benchmark = with_later_defaults(base | own)
        list(_take_spaces(benchmark["data"], "data"))  # what is scored is not searched
        return benchmark

    def evaluation(self, name: str) -> dict[str, Any]:
        """Return the option ``conf/evaluation/NAME.yaml``, interpolations as they stand."""
        composed: dict[str, Any] = self._composed_plain(f"evaluation/{name}", [])["evaluation"]
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
            composed = with_later_defaults(
                self._composed_plain(PRIMARY, [f"{group}={option}" for group, option in key])
            )
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
        except COMPOSE_ERRORS as error:
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
    search_user_conf()
    path = create_config_search_path(str(shipped_conf()))
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
    kinds = (GlobalHydra, HydraConfig, JobRuntime, VersionBase)
    former = {kind: Singleton._instances.pop(kind, None) for kind in kinds}
    try:
        yield
    finally:
        for kind, instance in former.items():
            Singleton._instances.pop(kind, None)
            if instance is not None:
                Singleton._instances[kind] = instance


REFUSED_GROUPS = {
    "hydra/launcher": "embedsweep starts its own workers: workers=local, ray or slurm, or this command again beside it",
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
    if call := re.fullmatch(rf"({'|'.join(OTHER_FUNCTIONS)})\((.*)\)", value):
        sweep = OTHER_FUNCTIONS[call[1]].format(call[2])
        return f"there is no {call[1]}(); it is written {shlex.quote(f'{key}={sweep}')}"
    example = as_text_word(key, value)
    # To Hydra a file's {split} begins a mapping.
    if "token recognition error" in reason or re.search(r"\{\w+\}", value):
        return f"has a character that Hydra reads only in quotes, as in {example}"
    what = re.sub(r"^HydraException while evaluating '.*': ", "", reason.partition(" expecting ")[0])
    message = f"cannot be read as key=value: {what}"
    is_text = re.search(r"""[()\[\]{}="']""", value) and not re.match(rf"\s*([\[{{]|({'|'.join(FUNCTIONS)})\()", value)
    return f"{message}; a text with one of ()[]{{}}=,:\"' is written in quotes: {example}" if is_text else message


FUNCTIONS = (
    "choice",
    "range",
    "interval",
    "tag",
    "sort",
    "shuffle",
    "glob",
    "extend_list",
    "int",
    "float",
    "str",
    "bool",
)
"""Functions of Hydra's grammar: a value that begins with one of them is meant as a call."""


def as_text_word(key: str, value: str) -> str:
    """Return the word, quoted for the shell, that sets a key to a text with any characters."""
    # A backslash is only special to Hydra where a quote follows.
    escaped = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ("\\" + found[2] if found[2] else ""), value)
    return shlex.quote(f'{key}="{escaped}"')


def _refusal(key: str, override: Override) -> str | None:
    if key in REFUSED_GROUPS:
        return REFUSED_GROUPS[key]
    if key.startswith(("hydra.sweeper.", "hydra/sweeper", "hydra.launcher.")):
        is_sampler = re.match(r"hydra[./]sweeper[./]sampler", key) is not None
        name = "study.sampler, as study.sampler=tpe, and study.seed" if is_sampler else other_name(key)
        return f"embedsweep has its own sweeper and workers; here it is {name or 'study.KEY or workers.KEY'}"
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        return "Hydra's own settings are not used: results go to sweeps/ and to tracking.uri"
    if override.is_delete():
        return f"~{key} cannot be used: keys cannot be removed from the configuration; set the key to null instead"
    return None if override.key_or_group else "has no key before the ="


def unquote(value: Any) -> Any:
    """Return a value of Hydra's grammar as plain Python."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [unquote(item) for item in value]
    if isinstance(value, dict):
        return {str(unquote(key)): unquote(item) for key, item in value.items()}
    return value
