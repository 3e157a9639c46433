"""What a study is asked, and what its trials share, as frozen types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from embedsweep.schema.words import KeepModels, SamplerName


@dataclass(frozen=True)
class EmissionsConfig:
    """Where the electricity comes from: a three-letter ISO code, or None for the world average."""

    name: str
    country_iso_code: str | None


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps its records: a store's or server's URI."""

    name: str
    uri: str


Choice = str | int | float | bool | None


@dataclass(frozen=True)
class DiscreteAxis:
    """A swept key with its choices, in the order they were given."""

    key: str
    choices: tuple[Choice, ...]


@dataclass(frozen=True)
class RangeAxis:
    """A swept key drawn from an interval.

    Attributes:
        key: the option's key.
        low: the smallest value, drawn too.
        high: the largest value; drawn too (of an integer axis), or the supremum (of a real one).
        log: whether values are drawn uniformly in the logarithm.
        step: distance between values, from ``low``; None is 1 for integers and continuous for reals.
        integer: whether values are whole numbers.
    """

    key: str
    low: float
    high: float
    log: bool
    step: float | None
    integer: bool


Axis = DiscreteAxis | RangeAxis


@dataclass(frozen=True)
class StudyConfig:
    """What a study is asked to do.

    Attributes:
        name: the study's name; None derives one from what decides its results.
        n_trials: how many trials in total, over all commands; None is the grid's size.
        timeout: seconds after which no trial is begun by this command; None has no limit.
        objective: a dev metric, maximised.
        sampler: who proposes the trials of a search.
        seed: of the sampler.
        storage: an Optuna storage URL; None is a journal file in the study's folder.
        keep_models: which trials' models stay on disk.
    """

    name: str | None
    n_trials: int | None
    timeout: float | None
    objective: str
    sampler: SamplerName
    seed: int
    storage: str | None
    keep_models: KeepModels


@dataclass(frozen=True)
class StudyPlan:
    """What a study was asked when it was created, frozen: its identity.

    Attributes:
        axes: the search space.
        cells: for each combination of swept option groups (as ``loss=mnrl,model=tiny``; empty for none) the
            composed configuration, interpolations unresolved, as plain containers.
        groups: which axes choose an option of a group; the others set a value.
        sampler: who proposes trials; ``grid`` runs every cell once.
        seed: of the sampler.
        objective: the dev metric that is maximised.
    """

    axes: tuple[Axis, ...]
    cells: Mapping[str, Mapping[str, object]]
    groups: tuple[str, ...]
    sampler: SamplerName | Literal["grid"]
    seed: int
    objective: str


@dataclass(frozen=True)
class StudyServices:
    """What all trials of a study share beside its plan.

    Attributes:
        keep_models: which trials' models stay on disk.
        emissions: whose electricity is used.
        tracking: where runs are recorded.
    """

    keep_models: KeepModels
    emissions: EmissionsConfig
    tracking: TrackingConfig
