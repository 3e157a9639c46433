"""The reference of every key: options of a group, keys with their types, values and comments, read from ``conf``.

Types come from the dataclasses and the table of losses, values and comments from the YAML files. Imports no torch and
composes nothing, so that help and shell completion answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal, get_args, get_origin

import yaml

from embedsweep.config.compose import PRIMARY, shipped_conf, user_conf
from embedsweep.config.identity import with_later_defaults
from embedsweep.config.metrics import COSTS, FAMILIES, dev_metrics
from embedsweep.config.reader import Reader
from embedsweep.config.trial import EvaluationConfig, TrialConfig, WorkersName
from embedsweep.config.types import allowed_words_of, describe, fields_of, plain_type
from embedsweep.config.values import has_key, nearest, nearest_key, no_option, set_value, shown, value_at
from embedsweep.config.workers import WorkersConfig
from embedsweep.errors import ConfigError, Problem
from embedsweep.losses.table import LOSSES
from embedsweep.validation.sections import SERVICES, TRIAL_SECTIONS

_DEFAULT = re.compile(r"\s*- (\w+): (\w+)\s*(?:# (.*))?")
_KEY = re.compile(r"( *)(\w+):(.*)")
_COMMENT = re.compile(r"(?:^|\s)# ?(.*)$")
_INNER = "the name of a loss, chosen by loss@loss.inner=NAME"
BENCHMARK_KEYS = ("evaluation.dev", "evaluation.test", "evaluation.benchmarks", "evaluation.watch")
_BENCHMARKS = f"what models are scored on; the values of {', '.join(BENCHMARK_KEYS)}"


@dataclass(frozen=True)
class KeyEntry:
    """A key with all that is known of it.

    Attributes:
        key: dotted, as it is typed.
        type: what it may hold, in words.
        value: what it holds where nothing is typed, as the YAML has it (``${model.lr}`` follows another key).
        comment: what its YAML says of it; empty where it says nothing.
        option: whose key it is (``loss=gist``).
    """

    key: str
    type: str
    value: object
    comment: str
    option: str


@dataclass(frozen=True)
class Reference:
    """What is known of a group, an option or a key.

    Attributes:
        name: as it was requested.
        about: what it is: the option's own comment, or what the group is for.
        options: of a group, each with the first sentence of its comment.
        default: of a group, the option that is chosen where none is.
        keys: its keys.
        text: of a recipe, its YAML.
    """

    name: str
    about: str
    options: Mapping[str, str]
    default: str | None
    keys: tuple[KeyEntry, ...]
    text: str = ""


def groups() -> dict[str, tuple[str, str]]:
    """Return the groups of options in the order of ``train.yaml``: name -> default option, and what it is for."""
    lines = (shipped_conf() / f"{PRIMARY}.yaml").read_text(encoding="utf-8").splitlines()
    return {match[1]: (match[2], match[3] or "") for line in lines if (match := _DEFAULT.match(line))}


def option_names(group: str) -> tuple[str, ...]:
    """Return the options of a group, the user's own among them, by name."""
    return tuple(sorted({path.stem for folder in _folders() for path in (folder / group).glob("*.yaml")}))


def keys() -> tuple[str, ...]:
    """Return all that can be typed before ``=``: groups and keys, those of every loss among them."""
    plain = [key for group in groups() if group != "loss" for key in types_of(group, "")]
    of_losses = [key for loss in LOSSES for key in types_of("loss", loss)]
    of_families = [key for family in FAMILIES for key in types_of("evaluation", family)]
    of_workers = [key for name in get_args(WorkersName) for key in types_of("workers", name)]
    own = [*of_losses, *of_families, *of_workers]
    return tuple(dict.fromkeys([*groups(), "loss@loss.inner", "resume", *plain, *own]))


def allowed_words(key: str) -> tuple[str, ...]:
    """Return the words that may follow ``key=``; empty where any value may, or there is no such key."""
    group = key.partition("@")[0]
    if group in groups():
        return option_names(group)
    if key in BENCHMARK_KEYS:
        return option_names("benchmark")
    if key == "study.objective":
        return (*dict.fromkeys(name for names in evaluation_metrics().values() for name in names), *COSTS)
    section = key.partition(".")[0]
    own = {"loss": tuple(LOSSES), "evaluation": FAMILIES, "workers": get_args(WorkersName)}
    options = own.get(section, ("",))
    words = (allowed_words_of(types_of(section, option).get(key, object)) for option in options)
    return tuple(dict.fromkeys(word for allowed in words for word in allowed))


@cache
def evaluation_metrics() -> Mapping[str, tuple[str, ...]]:
    """Return what a trial may be chosen by with each evaluation as its option is: ``dev/spearman_cosine``, ..."""
    metrics: dict[str, tuple[str, ...]] = {}
    for name in option_names("evaluation"):
        problems: list[Problem] = []
        section = with_later_defaults({"evaluation": _read_option("evaluation", name)[2]})["evaluation"]
        evaluation = Reader(section, "", problems).read(EvaluationConfig)
        if not problems:
            metrics[name] = dev_metrics(evaluation)
    return metrics


@cache
def types_of(group: str, option: str) -> Mapping[str, Any]:
    """Return the keys of a group with their types; of losses, evaluations and workers, those of one option."""
    if group == "loss":
        row = LOSSES.get(option)
        return {f"loss.{name}": kind for name, kind in row.parameters.items()} if row else {}
    if group == "evaluation":
        return dict(_leaves(EvaluationConfig.variant(option), group))
    if group == "workers":
        return dict(_leaves(WorkersConfig.variant(option), group))
    if group in TRIAL_SECTIONS:
        return dict(_leaves(fields_of(TrialConfig)[group][1], group))
    return dict(_leaves(SERVICES[group], group)) if group in SERVICES else {}


def _leaves(kind: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Return the keys of a section and of those inside it; the name of an option is no key to set."""
    plain = plain_type(kind)
    if is_dataclass(plain):
        for name, (own, hint) in fields_of(plain).items():  # type: ignore[arg-type]  # a class
            if name != "name" or key == "study":
                yield from _leaves(hint, f"{key}.{own}")
    elif get_origin(plain) is Mapping and get_origin(get_args(plain)[0]) is Literal:
        yield from ((f"{key}.{name}", get_args(plain)[1]) for name in get_args(get_args(plain)[0]))
    else:
        yield key, kind


def reference_of(word: str) -> Reference:
    """Return what is known of a group (``model``), an option (``model=minilm``) or a key (``trainer.epochs``).

    ``benchmark`` lists the benchmarks, which are no group of the command but values of ``evaluation``'s keys.

    Raises:
        ConfigError: there is none of that name; names the nearest.
    """
    group, sign, option = word.partition("=")
    known = groups()
    if group in known:
        names = option_names(group)
        if sign and option not in names:
            raise ConfigError.single(word, no_option(group, option, names))
        return _of_option(group, option) if sign else _of_group(group)
    if word == "benchmark":
        return Reference(word, _BENCHMARKS, _summaries(word), None, ())
    section = word.partition(".")[0]
    entries = [entry for entry in _all_keys(section) if entry.key == word or entry.key.startswith(f"{word}.")]
    if not entries:
        where = nearest(word, known) if "." not in word else nearest_key(word, keys())
        message = f"no such group, option or key{where}; groups are: {', '.join(known)}"
        raise ConfigError.single(word, message)
    distinct = [entry for index, entry in enumerate(entries) if entry not in entries[:index]]  # lists have no hash
    return Reference(word, "", {}, None, tuple(distinct))


def _all_keys(section: str) -> list[KeyEntry]:
    """Return the keys of a section as its default option has them; of losses, workers and evaluations, of each."""
    if section not in groups():
        return []
    if section in ("loss", "workers"):
        return [entry for option in option_names(section) for entry in _of_option(section, option).keys]
    entries = list(_of_option(section, groups()[section][0]).keys)
    return [*entries, *own_keys(section)] if section == "evaluation" else entries


def own_keys(group: str) -> list[KeyEntry]:
    """Return the keys of each option of a group that the default one does not have."""
    default = groups()[group][0]
    shared = {entry.key for entry in _of_option(group, default).keys}
    return [
        entry for option in option_names(group) for entry in _of_option(group, option).keys if entry.key not in shared
    ]


def _of_group(group: str) -> Reference:
    default, about = groups()[group]
    entries = () if group == "loss" else _of_option(group, default).keys
    return Reference(group, about, _summaries(group), default, entries)


def _summaries(group: str) -> dict[str, str]:
    """Return the options of a group, each with the first sentence of its comment."""
    return {name: _first_sentence(_read_option(group, name)[0]) for name in option_names(group)}


def _of_option(group: str, option: str) -> Reference:
    header, comments, values = _read_option(group, option)
    if group == "recipe":
        (*_, path) = _files(group, option)
        lines = path.read_text(encoding="utf-8").splitlines()
        text = "\n".join(line for line in lines if not line.startswith("#"))
        return Reference(f"{group}={option}", header, {}, None, (), text)
    if group != "loss" and option != (default := groups()[group][0]):
        comments = {**_read_option(group, default)[1], **comments}
    types = {key: describe(kind) for key, kind in types_of(group, str(values.get("name"))).items()}
    if group == "loss" and "inner" in values:
        types["loss.inner"] = _INNER
        comments = {"inner": "the loss that this one is put around; its keys follow: loss.inner.scale", **comments}
    tree = {group: values}
    entries = tuple(
        KeyEntry(key, kind, value_at(tree, key), comments.get(key.removeprefix(f"{group}."), ""), f"{group}={option}")
        for key, kind in types.items()
        if has_key(tree, key)
    )
    return Reference(f"{group}={option}", header, {}, None, entries)


def _folders() -> list[Path]:
    """Return the folders of options, the user's own first."""
    return [folder for folder in (user_conf(), shipped_conf()) if folder is not None]


def _files(group: str, option: str) -> list[Path]:
    """Return the YAML files of an option, those it builds upon first."""
    path = next((path for folder in _folders() if (path := folder / group / f"{option}.yaml").is_file()), None)
    if path is None:
        return []
    bases: list[Path] = []
    for entry in (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("defaults", []):
        if isinstance(entry, str) and entry != "_self_":
            folder, _, name = entry.partition("@")[0].lstrip("/").rpartition("/")
            bases += _files(folder or group, name)
    return [*bases, path]


@cache
def _read_option(group: str, option: str) -> tuple[str, Mapping[str, str], dict[str, Any]]:
    """Return an option's own comment, the comments of its keys, and its values; those of its bases are included."""
    comments: dict[str, str] = {}
    values: dict[str, Any] = {}
    header = ""
    for path in _files(group, option):
        text = path.read_text(encoding="utf-8")
        header, own = _comments(text)
        comments |= own
        tree = yaml.safe_load(text) or {}
        values |= {key: value for key, value in tree.items() if key not in ("defaults", "space")}
        for entry in tree.get("defaults", []):
            # An option inside this one (/loss@inner: cosent) stands for all of its keys.
            for word, name in entry.items() if isinstance(entry, dict) else ():
                place = word.partition("@")[2]
                if place and (place.count(".") == 0 or value_at(values, place.rpartition(".")[0]) == {}):
                    set_value(values, place, name)
    return header, comments, values


def _comments(text: str) -> tuple[str, dict[str, str]]:
    """Return the comment at the top of a YAML file, and the comment of each key beside or below it."""
    lines = text.splitlines()
    start = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    header = "\n".join(line.removeprefix("#").removeprefix(" ") for line in lines[:start] if "@package" not in line)
    comments: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    key = ""
    for line in lines[start:]:
        comment = _COMMENT.search(re.sub(r'"[^"]*"', "", line))
        if (match := _KEY.match(line)) is not None:
            above = [(indent, name) for indent, name in above if indent < len(match[1])] + [(len(match[1]), match[2])]
            key = ".".join(name for _, name in above)
        if comment is not None and key:
            comments[key] = f"{comments.get(key, '')} {comment[1].strip()}".strip() if match is None else comment[1]
    return header, comments


def _first_sentence(header: str) -> str:
    paragraph = re.split(r"\n(?=\s*\n|  )", header, maxsplit=1)[0]
    return re.split(r"\.(?=\s+[A-Z]|$)", " ".join(paragraph.split()), maxsplit=1)[0]


def as_text(reference: Reference) -> str:
    """Return a reference as the terminal shows it."""
    about = reference.about
    lines = [reference.name + (about and (f"\n{about}" if "\n" in about else f": {about}"))]
    if reference.options:
        width = max(map(len, reference.options))
        default = f" ({reference.name}=OPTION; the default is {reference.default})" if reference.default else ""
        lines += ["", f"Options{default}"]
        lines += [
            f"  {name.ljust(width)}  {shorten(about, 110 - width, placeholder=' ...')}".rstrip()
            for name, about in reference.options.items()
        ]
    if reference.name == "loss":
        lines += ["", "Each loss has keys of its own: --help loss=OPTION"]
    owners = len({entry.option for entry in reference.keys}) > 1
    for entry in reference.keys:
        owner = f" ({entry.option})" if owners else ""
        comment = f"\n      {entry.comment}" if entry.comment else ""
        lines += ["", f"  {entry.key}={shown(entry.value)}{owner}", f"      {entry.type}{comment}"]
    lines += ["", reference.text] if reference.text else []
    return "\n".join(lines) + "\n"
