"""Parse and compose: the words of a command become configurations; a configuration becomes an identity.

Owns Hydra's compose API, the search path (``conf/`` of the working directory before the shipped one) and the hash
that identifies a trial. Knows nothing of what the values mean: whether they are right is the gate's to say.
"""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from embedsweep.errors import ConfigError, Problem
from embedsweep.schema import TrialConfig

PRIMARY = "train"
REFUSED_GROUPS = {
    "hydra/launcher": "this program starts its own workers: run the same command again beside this one to add a worker",
    "hydra/sweeper": "the sweep is this program's own: choose who proposes trials by study.sampler=tpe",
}


def shipped_conf() -> Path:
    """The folder of the options that come with the package: inside an installed copy, beside ``src`` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


def user_conf() -> Path | None:
    """The ``conf`` folder of the working directory, unless there is none or it is the shipped one."""
    folder = Path.cwd() / "conf"
    return folder if folder.is_dir() and folder.resolve() != shipped_conf() else None


def nearest(word: str, known: Iterable[str]) -> str:
    """`` (did you mean ...?)`` with the known word most like ``word``, or the empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {match[0]}?)" if match else ""


def nearest_key(key: str, known: Collection[str]) -> str:
    """`` (did you mean ...?)`` with the known dotted keys most like ``key``: beside it, else of that name elsewhere."""
    head, _, leaf = key.rpartition(".")
    beside = [name for name in known if name.rpartition(".")[0] == head]
    for names, cutoff in ((beside, 0.6), (known, 0.8)):
        leaves = [name.rpartition(".")[2] for name in names]
        match = difflib.get_close_matches(leaf, leaves, n=1, cutoff=cutoff)
        if match:
            meant = (name for name, known_leaf in zip(names, leaves, strict=True) if known_leaf == match[0])
            return f" (did you mean {' or '.join(meant)}?)"
    return ""


def shown(value: object) -> str:
    """A value as it is typed: ``null``, ``true``, ``[0,5]``, ``{a:1}``."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(shown, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{shown(item)}" for key, item in value.items()) + "}"
    return str(value)


BASES = ("base", "benchmark")
"""Folders of ``conf`` that hold parts of options, and are no groups to choose from."""


class Composer:
    """Composes configurations from the options on the search path.

    Composing costs Hydra 80 ms, so every combination of options is composed once; plain values are set afterwards.
    Open it with :func:`open_composer`.
    """

    def __init__(self, hydra: Hydra) -> None:
        self._hydra = hydra
        self._composed: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
        self._spaces: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}

    def options(self, group: str) -> list[str]:
        """Names of the options of ``group`` (``loss``, ``loss@loss.inner``); empty where there is no such group."""
        options: list[str] = self._hydra.config_loader.get_group_options(group.partition("@")[0])
        return options

    def benchmark(self, name: str) -> dict[str, Any]:
        """The option ``conf/benchmark/NAME.yaml``, interpolations as they stand.

        Raises:
            ConfigError: there is none of that name, or it cannot be read.
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
        """The configuration with these options chosen, others by default; interpolations and ``???`` as they stand.

        The search spaces that options bring are left out: no part of a trial.

        Args:
            choices: group -> option; ``loss@loss.inner`` is the loss inside of one that wraps another.

        Raises:
            ConfigError: a YAML file cannot be read or names what is not there.
        """
        return copy.deepcopy(self._composed[self._compose_once(choices)])

    def option_spaces(self, choices: Mapping[str, str]) -> dict[str, Any]:
        """The search spaces that the options of :meth:`compose` bring, as they stand in their YAML, by their places.

        A place is a section (``model``), or that of an option inside another (``loss.inner``).
        """
        return copy.deepcopy(self._spaces[self._compose_once(choices)])

    def _compose_once(self, choices: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        key = tuple(sorted(choices.items()))
        if key not in self._composed:
            composed = self._composed_plain(PRIMARY, [f"{group}={option}" for group, option in key])
            sections = {name: section for name, section in composed.items() if name != "search"}
            self._spaces[key] = {
                place: space for name, section in sections.items() for place, space in _take_spaces(section, name)
            }
            self._composed[key] = composed
        return key

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
    """Takes the ``space`` out of an option, and of those inside of it; of a further dataset's it is dropped."""
    if isinstance(section, dict):
        if (space := section.pop("space", None)) is not None:
            yield place, space
        yield from _take_spaces(section.get("inner"), f"{place}.inner")
        for name, further in (section.get("also") or {}).items():
            for option in (further, further.get("loss")):
                list(_take_spaces(option, f"{place}.also.{name}"))


@contextmanager
def open_composer() -> Iterator[Composer]:
    """A composer over the user's and the shipped options, for the duration of the ``with`` block."""
    path = create_config_search_path(str(shipped_conf()))
    if (user := user_conf()) is not None:
        path.prepend(provider="user", path=f"file://{user}", anchor="main")
    GlobalHydra.instance().clear()
    hydra = Hydra.create_main_hydra2(task_name=PRIMARY, config_search_path=path)
    try:
        yield Composer(hydra)
    finally:
        GlobalHydra.instance().clear()


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


def has_key(composed: Mapping[str, Any], key: str) -> bool:
    """Whether ``key`` (dotted) stands in a plain configuration, whatever its value, ``???`` included."""
    node: Any = composed
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True


def value_at(composed: Mapping[str, Any], key: str) -> Any:
    """The value of ``key`` (dotted) in a plain configuration; None where it is not."""
    node: Any = composed
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def set_value(composed: dict[str, Any], key: str, value: Any) -> None:
    """Sets a key (dotted) that a plain configuration has."""
    head, _, leaf = key.rpartition(".")
    node = value_at(composed, head) if head else composed
    node[leaf] = value


def leaf_keys(composed: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key of nested mappings that can be set; an empty mapping counts as a value."""
    for name, value in composed.items():
        if isinstance(value, Mapping) and value:
            yield from leaf_keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def resolve(plain: Mapping[str, Any], values: Mapping[str, Any], sections: Collection[str]) -> dict[str, Any]:
    """Sets ``values`` (by dotted key) in a plain configuration and resolves the interpolations of some sections.

    Raises:
        ConfigError: interpolations that lead nowhere; one of each section.
    """
    resolved: dict[str, Any] = {}
    problems: list[Problem] = []
    tree = OmegaConf.create(dict(plain))
    for key, value in values.items():
        OmegaConf.update(tree, key, value, merge=False)
    for name in sections:
        try:
            node = tree[name]
            resolved[name] = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
        except OmegaConfBaseException as error:
            message = str(error).splitlines()[0].rpartition("raised while resolving interpolation: ")[2]
            problems.append(Problem(str(error.full_key or name), message))
    if problems:
        raise ConfigError(problems)
    return resolved


def is_group(composer: Composer, name: str) -> bool:
    """Whether ``name`` is a group of options (``loss``, ``loss@loss.inner``), and not a key (``loss.scale``)."""
    if name.partition("@")[0] in BASES:
        return False
    return bool(composer.options(name)) or bool(
        composer._hydra.config_loader.get_group_options(name, results_filter=ObjectType.GROUP)
    )


def canonical(value: object) -> str:
    """JSON with sorted keys: equal for equal configurations, whatever order they were written in."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def config_hash(config: TrialConfig) -> str:
    """The identity of a trial: 12 hexadecimal digits of a hash over all that decides its result."""
    return digest(asdict(config))


def digest(value: object) -> str:
    """12 hexadecimal digits of a hash over a value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:12]
