"""A study as frozen types: its configuration, its search space and plan, and what its trials share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from embedsweep.config.checkpoints import CheckpointPlace
from embedsweep.config.finals import FinalsConfig
from embedsweep.config.identity import (
    canonical,
    digest,
    is_as_before,
    with_later_keys,
    without_card_keys,
    without_later_keys,
)
from embedsweep.config.metrics import is_dev_metric
from embedsweep.config.trial import Duplicates, KeepModels, PrunerName, SamplerName
from embedsweep.config.types import Bounds, Count, Described, Key, NotNegative, Positive, WholeNumber
from embedsweep.config.values import shown


@dataclass(frozen=True)
class EmissionsConfig:
    """Whose electricity is used: a three-letter ISO code, or None for the world average."""

    name: str
    country_iso_code: str | None


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps its records.

    Attributes:
        name: the option's name.
        uri: a store's or server's URI.
        spool: whether a command runs although its store cannot be reached at the start; its records are replayed
            later.
    """

    name: str
    uri: str
    spool: bool


@dataclass(frozen=True)
class PruningConfig:
    """How trials are compared before they end.

    Attributes:
        rungs: fractions of a trial's optimizer steps, rising, in (0, 1), at which dev is scored and the pruner decides.
        reduction_factor: successive halving and Hyperband keep the best 1/n of the trials at a rung.
        n_startup_trials: finished trials before the median pruner prunes.
        patience: rungs without improvement that the patience pruner tolerates.
        min_delta: what counts as an improvement, to the patience pruner.
        p_threshold: below which p-value the Wilcoxon pruner takes a trial for worse than the best one.
    """

    rungs: tuple[Annotated[float, Bounds(above=0, below=1)], ...]
    reduction_factor: Annotated[int, Bounds(at_least=2)]
    n_startup_trials: WholeNumber
    patience: WholeNumber
    min_delta: NotNegative
    p_threshold: Annotated[float, Bounds(above=0, at_most=1)]


Scalar = str | int | float | bool | None
Choice = Scalar | tuple[Scalar, ...]
"""A value of a swept key; a list is a tuple."""


class _SweptKey:
    """What both kinds of axes have."""

    key: str
    when: Mapping[str, str]

    @property
    def name(self) -> str:
        """The parameter's name in Optuna: the key, and where it is searched if that is not everywhere."""
        conditions = ",".join(f"{group}={option}" for group, option in self.when.items())
        return f"{self.key} [{conditions}]" if conditions else self.key


@dataclass(frozen=True)
class DiscreteAxis(_SweptKey):
    """A swept key with its choices, in the order of the command.

    Attributes:
        key: the option's key.
        choices: its values.
        when: swept group -> the option where the key is searched so; empty is everywhere.
    """

    key: str
    choices: tuple[Choice, ...]
    when: Mapping[str, str]


@dataclass(frozen=True)
class RangeAxis(_SweptKey):
    """A swept key drawn from an interval.

    Attributes:
        key: the option's key.
        low: the smallest value, drawn too.
        high: the largest value; drawn too (of an integer axis), or the supremum (of a real one).
        log: whether values are drawn uniformly in the logarithm.
        step: distance between values, from ``low``; None is 1 for integers and continuous for reals.
        integer: whether values are whole numbers.
        when: swept group -> the option where the key is searched so; empty is everywhere.
    """

    key: str
    low: float
    high: float
    log: bool
    step: float | None
    integer: bool
    when: Mapping[str, str]


Axis = DiscreteAxis | RangeAxis


@dataclass(frozen=True)
class SearchConfig:
    """What is searched beside what the command sweeps.

    Attributes:
        name: the option's name.
        n_trials: the number of trials the search is meant for; None sets none.
        space: key -> what it is searched over.
        option_spaces: sections whose options' own spaces are searched, too.
        constraints: comparisons between keys that every trial keeps.
    """

    name: str
    n_trials: Count | None
    space: Annotated[Mapping[str, object], Described("a mapping of keys to what they are searched over")]
    option_spaces: tuple[str, ...]
    constraints: tuple[str, ...]


@dataclass(frozen=True)
class KeepConfig:
    """A score on a watched benchmark that may not fall far, else a trial cannot be the best.

    Attributes:
        benchmark: its name; one of ``evaluation.watch``.
        metric: a metric of the benchmark (``spearman_cosine``), of which more is better.
        drop_at_most: how far the score may be below that of the untrained model.
    """

    benchmark: str
    metric: str
    drop_at_most: NotNegative

    @property
    def name(self) -> str:
        """Benchmark and metric: ``stsb-en-dev/spearman_cosine``."""
        return f"{self.benchmark}/{self.metric}"

    @property
    def score(self) -> str:
        """The name of the score in a result: ``dev/stsb-en-dev/spearman_cosine``."""
        return f"dev/{self.name}"


class _Optimised:
    """What a study and its plan have: metrics to optimise."""

    objectives: tuple[str, ...]

    @property
    def objective(self) -> str:
        """The dev metric that chooses a trial's best checkpoint: the first that is optimised; empty where none is."""
        return next((metric for metric in self.objectives if is_dev_metric(metric)), "")


@dataclass(frozen=True)
class StudyConfig(_Optimised):
    """The ``study`` section: what a study does.

    Attributes:
        name: the study's name; None derives one from what decides its results.
        n_trials: how many trials in total, over all commands; None is the grid's size.
        budget_hours: hours that decide the number of trials of a new study, by what a quote measures; None does not.
        timeout: seconds after which this command starts no trial; None has no limit.
        patience: finished trials without an improvement after which no new one is started; None runs all of them.
        min_delta: what an improvement exceeds the best score before it by.
        objectives: what is optimised (``study.objective``); the first dev metric chooses a trial's best checkpoint.
            Empty until it is known which evaluation's main metric stands for null.
        keep: scores that may not fall far below those of the untrained model; a trial that loses more is never best.
        sampler: who proposes the trials of a search.
        pruner: who ends trials early.
        pruning: how.
        seed: of the sampler.
        storage: an Optuna storage URL; None is a journal file in the study's folder.
        checkpoints: where checkpoints, and what finished trials leave, are also kept, for other machines
            (``s3://bucket/prefix``); None is nowhere.
        keep_models: which trials' models stay on disk.
        duplicates: what becomes of a proposal that repeats a finished configuration: its scores are reused, or it is
            trained with another seed.
        max_retries: how often a trial that failed is retried.
        max_deaths: after how many deaths of its worker, one after another without a newer checkpoint, a trial fails.
        retry_failed: whether configurations that failed get new trials.
        enqueue: configurations to try first, each a value for every axis it names.
        warm_start: a study whose best configuration is tried first; None is none.
        finals: whether the best configurations are trained again with other seeds once the study is complete.
        dry_run: whether the command ends once it has printed what it would do; ``quote`` also measures what it costs.
    """

    name: str | None
    n_trials: Count | None
    budget_hours: Positive | None
    timeout: Positive | None
    patience: Count | None
    min_delta: NotNegative
    objectives: Annotated[
        tuple[str, ...], Described("a list of metrics, as [dev/spearman_cosine], or null"), Key("objective")
    ]
    keep: Annotated[
        tuple[KeepConfig, ...],
        Described("a list of scores, as [{benchmark:stsb-en-dev,metric:spearman_cosine,drop_at_most:0.01}]"),
    ]
    sampler: SamplerName
    pruner: PrunerName
    pruning: PruningConfig
    seed: WholeNumber
    storage: str | None
    checkpoints: str | None
    keep_models: KeepModels
    duplicates: Duplicates
    max_retries: WholeNumber
    max_deaths: Count
    retry_failed: bool
    enqueue: Annotated[
        tuple[Mapping[str, object], ...],
        Described("a list of configurations, as [{optimizer.lr:2e-5,loss:mnrl}]"),
    ]
    warm_start: str | None
    finals: FinalsConfig
    dry_run: Literal["quote", True, False]


@dataclass(frozen=True)
class StudyPlan(_Optimised):
    """The plan of a study, frozen when it is created: its identity.

    Attributes:
        axes: the search space.
        cells: for each combination of swept option groups (as ``loss=mnrl,model=tiny``; empty for none) the
            composed configuration, interpolations unresolved, as plain containers.
        groups: which axes choose an option of a group; the others set a value.
        sampler: who proposes trials; ``exhaustive`` runs every cell once.
        seed: of the sampler.
        objectives: what is optimised.
        pruner: who ends trials early.
        pruning: how.
        duplicates: what becomes of a proposal that repeats a finished configuration.
        enqueue: configurations that are tried first, each a value for some of the axes, by key.
        warm_start: a study whose best configuration is tried first.
        constraints: comparisons between keys that every trial keeps.
        keep: scores that may not fall far below those of the untrained model; empty in plans of older versions.
    """

    axes: tuple[Axis, ...]
    cells: Mapping[str, Mapping[str, object]]
    groups: tuple[str, ...]
    sampler: SamplerName
    seed: int
    objectives: tuple[str, ...]
    pruner: PrunerName
    pruning: PruningConfig
    duplicates: Duplicates
    enqueue: tuple[Mapping[str, Choice], ...]
    warm_start: str | None
    constraints: tuple[str, ...]
    keep: tuple[KeepConfig, ...] = ()


@dataclass(frozen=True)
class StudyServices:
    """What all trials of a study share beside its plan.

    Attributes:
        keep_models: which trials' models stay on disk.
        emissions: whose electricity is used.
        tracking: where runs are recorded.
        max_retries: how often a trial that failed is retried; as this command has it.
        max_deaths: after how many deaths at one place a trial fails; as this command has it.
        checkpoints: where checkpoints are kept for other machines; None if no command has named a place.
    """

    keep_models: KeepModels
    emissions: EmissionsConfig
    tracking: TrackingConfig
    max_retries: int
    max_deaths: int
    checkpoints: CheckpointPlace | None


def _frozen(value: Any) -> Choice:
    """Return a value as it was before JSON made lists of tuples."""
    return tuple(value) if isinstance(value, list) else value


def plan_of(tree: Mapping[str, Any]) -> StudyPlan:
    """Return the plan that ``asdict`` and JSON made a tree of."""
    axes = tuple(_axis_of(axis) for axis in tree["axes"])
    pruning = PruningConfig(**{**tree["pruning"], "rungs": tuple(tree["pruning"]["rungs"])})
    lists = {key: tuple(tree[key]) for key in ("groups", "objectives", "constraints")}
    enqueue = tuple({key: _frozen(value) for key, value in point.items()} for point in tree["enqueue"])
    cells = {name: with_later_keys(cell) for name, cell in tree["cells"].items()}
    keep = tuple(KeepConfig(**kept) for kept in tree.get("keep", ()))
    read = {"axes": axes, "pruning": pruning, "enqueue": enqueue, "cells": cells, "keep": keep}
    return StudyPlan(**{**tree, **lists, **read})


def _axis_of(tree: Mapping[str, Any]) -> Axis:
    if "choices" in tree:
        return DiscreteAxis(tree["key"], tuple(map(_frozen, tree["choices"])), tree["when"])
    return RangeAxis(**tree)


def study_name(plan: StudyPlan) -> str:
    """Return a name for a study without one: what it sweeps and a hash of everything that decides its results."""
    words = "-".join([key.rsplit(".", 1)[-1] for key in dict.fromkeys(axis.key for axis in plan.axes)][:3])
    cells = {name: without_later_keys(cell) for name, cell in plan.cells.items()}
    tree = asdict(replace(plan, cells=cells))
    if not plan.keep:  # a later key: without it a study keeps its name
        del tree["keep"]
    return f"{words}-{digest(tree)[:8]}"


def plan_differences(frozen: StudyPlan, requested: StudyPlan) -> list[str]:
    """Return in words how the requested plan differs from the frozen one; empty if they are equal."""
    # A combination of options that only one of them has shows in the axes; the others are compared key by key.
    common = sorted(frozen.cells.keys() & requested.cells.keys())

    def values_of(plan: StudyPlan) -> dict[str, object]:
        cells = {cell: without_card_keys(plan.cells[cell]) for cell in common}
        return dict(_flat({**asdict(plan), "axes": plan.axes, "cells": cells}))

    old, new = values_of(frozen), values_of(requested)
    # Every cell repeats the fixed values, so a difference is listed once, by its key within a cell.
    differences: dict[str, str] = {}
    for key in (*old, *(key for key in new if key not in old)):
        before, after = old.get(key, "absent"), new.get(key, "absent")
        name = key.split("/")[-1]
        is_later_rule = is_as_before(name, before) and is_as_before(name, after)  # the frozen plan's is kept
        if canonical(before) != canonical(after) and not is_later_rule:
            differences.setdefault(name, f"{name} was {shown(before)} and is now {shown(after)}")
    return list(differences.values())


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if key == "axes":
            yield from ((f"sweep of {axis.name}", axis_words(axis)) for axis in value)
        elif key == "cells":
            for cell, sections in value.items():
                yield from _flat(sections, f"{cell}/")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif key != "groups":
            yield f"{prefix}{key}", value


def axis_words(axis: Axis) -> str:
    """Return what an axis draws from, in words: its choices or its range."""
    if isinstance(axis, DiscreteAxis):
        return ",".join(map(shown, axis.choices))
    kind = "log " if axis.log else ""
    return f"{kind}{axis.low:g} to {axis.high:g}" + (f" by {axis.step:g}" if axis.step else "")
