"""Names in MLflow: tags of runs, params of a configuration, and ids of runs that the store does not have yet.

Metrics are named where they are measured: ``train/...`` in `training.callback`, ``dev/...`` in `evaluation`, those of a
trial's result in `training.trial`. `config.metrics` has the names of scores, and what can be an objective.
"""

from __future__ import annotations

import colorsys
import getpass
import json
import re
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import PurePath
from socket import gethostname

from embedsweep.config.finals import FinalPoint, without_seed
from embedsweep.config.metrics import is_dev_metric
from embedsweep.config.study import Choice, DiscreteAxis, StudyPlan, axis_words
from embedsweep.config.trial import BenchmarkConfig, LossConfig, TrialConfig
from embedsweep.config.values import shown
from embedsweep.secrets import MASK, is_secret_key, redact

KIND = "embedsweep.kind"
"""Tag: ``study`` for a study's parent run, ``trial`` for a trial's run, ``final`` for that of a trial of its finals."""

FINALIST = "embedsweep.finalist"
"""Tag of the run of a trial of finals: the number of the trial whose configuration it trains again."""

STUDY = "embedsweep.study"
"""Tag of a parent run: the study's name."""

TRIAL = "embedsweep.trial"
"""Tag of a trial's run: the trial's number."""

STATE = "embedsweep.state"
"""Tag of a trial's run: Optuna's state; RUNNING if it is under way or was interrupted."""

FORGETS = "embedsweep.forgets"
"""Tag of a trial's run: the watched scores that fell by more than ``study.keep`` allows."""

CONFIG_HASH = "embedsweep.config_hash"
"""Tag of a trial's run: the identity of its configuration."""

OPTION = "embedsweep.option."
"""Start of the tags that name the options a command chose (``embedsweep.option.loss``), shipped or a user's own."""

PARENT = "mlflow.parentRunId"
"""Tag of a trial's run: the id of the study's parent run."""

SPOOL_ID = "embedsweep.spool_id"
"""Tag of a trial's run: the id by which it was recorded, until the store's was known."""

FORMER_ID = "embedsweep.former_id"
"""Tag of a run that was recorded again: the id of the lost run, which the trial keeps."""

NOTE = "mlflow.note.content"
"""Tag of a run or an experiment: its description in Markdown, which MLflow's pages show above it."""

TABLES = "mlflow.loggedArtifacts"
"""Tag of a run: those of its artifacts that are tables, so that MLflow's pages show and compare them as such."""

COLOR = "mlflow.runColor"
"""Tag of a trial's run: its color in charts."""

NAMELESS = ("optimizer.lr",)
"""Keys whose values a run's name gives without the key's name."""

_MAX_PARAM_LENGTH = 6000  # MLflow truncates longer values
_NOT_IN_PARAMS = re.compile(r"[^\w\-. /]")  # characters that names of params may not have


def option_tags(options: Mapping[str, str]) -> dict[str, str]:
    """Return tags for the options of a trial, by group; ``loss@loss.inner`` is tagged by its place, ``loss.inner``."""
    return {f"{OPTION}{group.rpartition('@')[2]}": option for group, option in options.items()}


def color_tags(plan: StudyPlan, values: Mapping[str, Choice], number: int) -> dict[str, str]:
    """Return the tag with a trial's color in charts: a hue for each option of the first swept group, in shades.

    Args:
        plan: the study's plan; without swept groups MLflow chooses all colors.
        values: the trial's value of each axis, by key.
        number: the trial's number, which decides the shade.
    """
    if not plan.groups:
        return {}
    axis = next(axis for axis in plan.axes if axis.key == plan.groups[0])
    choices = axis.choices if isinstance(axis, DiscreteAxis) else ()
    hue = (0.58 + choices.index(values[axis.key]) / len(choices)) % 1  # the first is blue
    rgb = colorsys.hls_to_rgb(hue, 0.3 + 0.1 * (number % 5), 0.65)
    return {COLOR: "#" + "".join(f"{round(255 * part):02x}" for part in rgb)}


def best_metrics(dev: Mapping[str, float]) -> dict[str, float]:
    """Return the dev metrics of a trial's kept checkpoint by their names in MLflow: ``best/spearman_cosine``.

    ``dev/...`` is the curve of all evaluations there, in which the kept checkpoint need not be the last.
    """
    return {f"best{name.removeprefix('dev')}": value for name, value in dev.items()}


def best_metric(objective: str) -> str:
    """Return the metric of a trial's run that equals the trial's value of an objective in Optuna."""
    return next(iter(best_metrics({objective: 0.0}))) if is_dev_metric(objective) else objective


def run_name(values: Mapping[str, Choice], groups: Collection[str]) -> str:
    """Return what a run's name says of its configuration: ``cosent 2e-5 warmup=0.1``.

    MLflow's pages cut names after some 14 characters, so what tells runs apart comes first: options, then the rate.

    Args:
        values: key -> value, of what was searched or set.
        groups: the keys that choose options.
    """
    options = [short(value) for key, value in values.items() if key in groups]
    rates = [short(values[key]) for key in NAMELESS if key in values]
    others = [key for key in values if key not in groups and key not in NAMELESS]
    return " ".join([*options, *rates, *(f"{key.rpartition('.')[2]}={short(values[key])}" for key in others)])


def trial_name(
    number: int, values: Mapping[str, Choice], groups: Collection[str], point: FinalPoint | None = None
) -> str:
    """Return the name of a trial's run: its number and what `run_name` says; in finals ``final 7 s1234 cosent 2e-5``.

    Args:
        number: the trial's number.
        values: as those of `run_name`.
        groups: the keys that choose options.
        point: what a trial of finals trains.
    """
    if point is None:
        return f"{number:02d} {run_name(values, groups)}".rstrip()
    return f"final {point.finalist} s{point.seed} {run_name(without_seed(values), groups)}".rstrip()


def short(value: Choice) -> str:
    """Return a value with two or three significant digits, in its shorter form: ``0.1``, ``2e-5``, ``43.4``."""
    if not isinstance(value, float):
        return shown(value)
    plain = f"{value:.3g}" if abs(value) >= 1 else f"{value:.2g}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    scientific = f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if "e" in plain or (abs(value) < 1 and len(scientific) < len(plain)):
        return scientific
    return plain


def dataset_name(origin: str) -> str:
    """Return the name of a data set by its source: ``my_pairs/train.csv``, ``id@revision[es] train``, ``demo train``.

    Args:
        origin: its source as in `Examples.origin`; the files of one that has several parts are joined by `` + ``.
    """
    first, *others = origin.partition(" (")[0].split(" + ")
    name = "/".join(part for part in PurePath(first).parts[-2:] if part != "/")
    return name + (f" and {len(others)} more" if others else "")


def study_params(plan: StudyPlan, fixed: Sequence[str]) -> dict[str, str]:
    """Return the params of a study's own run: what was searched, and what its command fixed.

    Args:
        plan: the study's plan.
        fixed: the overrides of the command that created it, without the swept ones.
    """
    searched: dict[str, list[str]] = {}
    for axis in plan.axes:
        where = ", ".join(f"{group}={option}" for group, option in axis.when.items())
        searched.setdefault(axis.key, []).append(axis_words(axis) + (f" ({where})" if where else ""))
    overrides = (word.partition("=") for word in fixed)
    params = {f"searched.{key}": "; ".join(words) for key, words in searched.items()}
    params |= {f"fixed.{key}": value for key, _, value in overrides}
    params |= {"objective": ", ".join(plan.objectives), "sampler": plan.sampler, "pruner": plan.pruner}
    return {_NOT_IN_PARAMS.sub("_", key): value for key, value in params.items()}


def study_id(study: str) -> str:
    """Return the id of a study's parent run while the store is unreachable; the same for all workers of the study."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"embedsweep study {study}").hex


def origin() -> dict[str, str]:
    """Return tags that say who creates a run, and on which host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container may have no user of this number
    return {"mlflow.user": user, "mlflow.source.name": "embedsweep", "embedsweep.host": gethostname()}


def redacted(values: Mapping[str, str]) -> dict[str, str]:
    """Return tags or params with the secrets in their values masked."""
    return {key: MASK if is_secret_key(key) else redact(value) for key, value in values.items()}


def flatten(config: TrialConfig) -> dict[str, str]:
    """Return the configuration as MLflow params: ``optimizer.lr`` -> ``2e-05``.

    The loss's own parameters are directly under ``loss.``. None becomes ``null``, a boolean ``true`` or ``false``, a
    float its shortest exact form, a tuple a JSON list. A benchmark is its name; its details are in ``config.yaml``.
    """
    return dict(_flatten_value("", config))


def differences(logged: Mapping[str, str], params: Mapping[str, str]) -> list[str]:
    """Describe the params that a run has with another value; params that it lacks do not count."""
    return [
        f"{key} is {logged[key]} there and {value} now"
        for key, value in params.items()
        if key in logged and logged[key][:_MAX_PARAM_LENGTH] != value[:_MAX_PARAM_LENGTH]
    ]


def _flatten_value(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, BenchmarkConfig):
        yield key, value.name
    elif isinstance(value, LossConfig):
        yield f"{key}.name", value.name
        yield from _flatten_value(key, value.parameters)
        if value.inner is not None:
            yield from _flatten_value(f"{key}.inner", value.inner)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _flatten_value(f"{key}.{field.name}".lstrip("."), getattr(value, field.name))
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten_value(f"{key}.{name}", inner)
    else:
        yield key, _format_value(value)


def _format_value(value: object) -> str:
    if isinstance(value, tuple):
        names = [item.name if isinstance(item, BenchmarkConfig) else item for item in value]
        return json.dumps(names, ensure_ascii=False)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value) if isinstance(value, float) else str(value)
