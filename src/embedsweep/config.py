"""Parse and compose: the words of a command become configurations; a configuration becomes an identity.

Owns Hydra's compose API, the search path (``conf/`` of the working directory before the shipped one) and the hash
that identifies a trial. Knows nothing of what the values mean: whether they are right is the gate's to say.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
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
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

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


class Composer:
    """Composes configurations from the options on the search path.

    Composing costs Hydra 80 ms, so every combination of options is composed once; plain values are set afterwards.
    Open it with :func:`open_composer`.
    """

    def __init__(self, hydra: Hydra) -> None:
        self._hydra = hydra
        self._composed: dict[tuple[tuple[str, str], ...], DictConfig] = {}

    def options(self, group: str) -> list[str]:
        """Names of the options of ``group``; empty where there is no such group."""
        options: list[str] = self._hydra.config_loader.get_group_options(group)
        return options

    @property
    def groups(self) -> list[str]:
        """Names of all groups of options."""
        names = self._hydra.config_loader.list_groups("")
        return [name for name in names if name != "hydra" and self.options(name)]

    def compose(self, choices: Mapping[str, str]) -> DictConfig:
        """The configuration with these options chosen, others by default; interpolations stay unresolved.

        Raises:
            ConfigError: a YAML file cannot be read or names what is not there.
        """
        key = tuple(sorted(choices.items()))
        if key not in self._composed:
            try:
                composed = self._hydra.compose_config(
                    config_name=PRIMARY,
                    overrides=[f"{group}={option}" for group, option in key],
                    run_mode=RunMode.RUN,
                    with_log_configuration=False,
                    from_shell=False,
                )
            except (HydraException, OmegaConfBaseException) as error:
                chosen = ", ".join(f"{group}={option}" for group, option in key) or "the defaults"
                raise ConfigError.single(f"conf ({chosen})", str(error).strip()) from error
            OmegaConf.set_readonly(composed, False)
            OmegaConf.set_struct(composed, False)
            del composed["hydra"]
            self._composed[key] = composed
        return self._composed[key].copy()


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


def parse_overrides(words: Sequence[str]) -> list[Override]:
    """Parses ``key=value`` words with Hydra's own grammar.

    Raises:
        ConfigError: a word that is no override, or chooses one of Hydra's launchers or sweepers; all of them at once.
    """
    parser = OverridesParser.create()
    overrides: list[Override] = []
    problems: list[Problem] = []
    for word in words:
        try:
            override = parser.parse_override(word)
        except HydraException as error:
            problems.append(Problem(word, f"is not key=value in Hydra's grammar: {str(error).splitlines()[0]}"))
            continue
        name = override.key_or_group
        if name in REFUSED_GROUPS:
            problems.append(Problem(name, REFUSED_GROUPS[name]))
        elif override.is_delete():
            problems.append(Problem(word, "nothing can be taken out of the configuration; set the key to null instead"))
        else:
            overrides.append(override)
    if problems:
        raise ConfigError(problems)
    return overrides


def plain_value(override: Override) -> Any:
    """The value of an override that sweeps nothing, quotes taken off."""
    return unquote(override.value())


def unquote(value: Any) -> Any:
    """A value of Hydra's grammar as plain Python."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [unquote(item) for item in value]
    if isinstance(value, dict):
        return {str(unquote(key)): unquote(item) for key, item in value.items()}
    return value


def has_key(composed: DictConfig, key: str) -> bool:
    """Whether ``key`` (dotted) stands in the configuration, whatever its value."""
    node: Any = composed
    for part in key.split("."):
        if not isinstance(node, DictConfig) or part not in node:
            return False
        node = node._get_node(part)
        if isinstance(node, DictConfig) and node._is_none():
            node = None
    return True


def all_keys(container: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every dotted key of nested mappings, inner nodes included."""
    for name, value in container.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from all_keys(value, f"{prefix}{name}.")


def to_plain(composed: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers, interpolations and ``???`` as they stand."""
    return cast("dict[str, Any]", OmegaConf.to_container(composed, resolve=False))


def resolve(plain: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Sets ``values`` (by dotted key) in a plain configuration and resolves its interpolations.

    Raises:
        ConfigError: an interpolation that leads nowhere.
    """
    tree = OmegaConf.create(dict(plain))
    for key, value in values.items():
        OmegaConf.update(tree, key, value, merge=False)
    try:
        return cast("dict[str, Any]", OmegaConf.to_container(tree, resolve=True))
    except OmegaConfBaseException as error:
        raise ConfigError.single(str(error.full_key or "conf"), str(error).splitlines()[0]) from error


def is_group(composer: Composer, name: str) -> bool:
    """Whether ``name`` is a group of options (``loss``), and not a key (``loss.scale``)."""
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
