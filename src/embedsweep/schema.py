"""The types that pass the gate: frozen, complete, without defaults.

Owns every type that a configuration or a result has. Knows no library and no default value: values stand in
``conf/`` and nowhere else. Everything here can be rebuilt from its own ``asdict`` form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

Similarity = Literal["cosine", "euclidean", "manhattan", "dot"]
Precision = Literal["fp32", "fp16", "bf16"]
Schedule = Literal["linear", "cosine", "constant"]
BatchSampler = Literal["batch_sampler", "no_duplicates"]
Pooling = Literal["mean", "cls", "max"]
KeepModels = Literal["best", "all", "none"]
SamplerName = Literal["tpe", "random", "gp", "cmaes", "qmc"]

SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)

DEV_METRICS: tuple[str, ...] = tuple(
    f"dev/{correlation}_{similarity}"
    for correlation in ("pearson", "spearman")
    for similarity in (*SIMILARITIES, "max")
)
"""What a trial is scored by, and so what ``study.objective`` may be; all are maximised."""


@dataclass(frozen=True)
class ModelConfig:
    """The base model.

    Attributes:
        name: the option's name (``tiny``, ``minilm``, ``pretrained``, ...).
        path: a hub id or a local folder; None for ``tiny``, which is built here.
        revision: a branch, tag or commit on the hub; None for its default branch.
        pooling: how token embeddings become one; None keeps what the model brings (mean, where it brings none).
        max_seq_length: tokens beyond this are cut; None keeps the model's own.
        lr: the learning rate that suits this model, centre of the relative search ranges.
        trust_remote_code: whether code that comes with the model may be executed.
    """

    name: str
    path: str | None
    revision: str | None
    pooling: Pooling | None
    max_seq_length: int | None
    lr: float
    trust_remote_code: bool


@dataclass(frozen=True)
class LossConfig:
    """The loss: its option's name and its own parameters under sentence-transformers' names."""

    name: str
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class ConvertConfig:
    """How scored pairs become positive pairs, for losses that want those.

    Attributes:
        positive_threshold: in [0, 1], on the normalised score; a pair at or above it is positive.
        both_directions: whether (a, b) is also given as (b, a).
    """

    positive_threshold: float
    both_directions: bool


@dataclass(frozen=True)
class DataConfig:
    """Where sentence pairs come from.

    Attributes:
        name: the option's name (``demo``, ``stsb_multi_mt``, ``csv``).
        path: a folder of files; None reads the hub (``hub``) or generates (``demo``).
        hub: dataset id on the hub; None where the option has none.
        revision: a branch, tag or commit on the hub; None for its default branch.
        language: a subset's code, where the option has languages; else None.
        files: file name of a split inside ``path``, with ``{split}`` and ``{language}``; None where there are no files.
        columns: sentence1, sentence2 and score, by header name or by position from 0 in a file without header.
        delimiter: one character between columns.
        score_range: the lowest and highest possible score in the files; scores are normalised to [0, 1] by it.
        convert: how scored pairs become positive pairs.
        limit: the first rows of each split to keep; None keeps all.
    """

    name: str
    path: str | None
    hub: str | None
    revision: str | None
    language: str | None
    files: str | None
    columns: tuple[str | int, str | int, str | int]
    delimiter: str
    score_range: tuple[float, float]
    convert: ConvertConfig
    limit: int | None


@dataclass(frozen=True)
class DataloaderConfig:
    """How examples become batches.

    Attributes:
        name: the option's name.
        batch_size: examples an optimizer step sees.
        micro_batch_size: examples in memory at once, a divisor of ``batch_size``; None is ``batch_size``.
        batch_sampler: ``no_duplicates`` keeps equal texts out of one batch.
        drop_last: whether the last, smaller batch of an epoch is left out.
        num_workers: processes that tokenise; 0 tokenises in the trial's own.
    """

    name: str
    batch_size: int
    micro_batch_size: int | None
    batch_sampler: BatchSampler
    drop_last: bool
    num_workers: int


@dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its learning-rate schedule.

    Attributes:
        name: the option's name (``adamw``).
        lr: peak learning rate.
        weight_decay: decoupled weight decay, on all but biases and norms.
        warmup: below 1 a ratio of all steps, else a number of steps.
        schedule: what the rate does after warm-up.
        max_grad_norm: gradients are clipped to this norm; 0 leaves them alone.
    """

    name: str
    lr: float
    weight_decay: float
    warmup: float
    schedule: Schedule
    max_grad_norm: float


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """When a training that no longer improves ends.

    Attributes:
        patience: evaluations in a row without improvement; None trains to the end.
        min_delta: by how much the objective must rise to count as improvement.
    """

    patience: int | None
    min_delta: float


@dataclass(frozen=True)
class TrainerConfig:
    """The training itself.

    Attributes:
        name: the option's name.
        epochs: passes over the training data, where ``max_steps`` does not say otherwise.
        max_steps: optimizer steps; None trains ``epochs``.
        precision: ``fp16`` and ``bf16`` are automatic mixed precision.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        seed: of data order, dropout and new layers.
        eval_every: below 1 a ratio of all steps, else a number of steps, between evaluations and checkpoints.
        early_stopping: when to end early.
    """

    name: str
    epochs: float
    max_steps: int | None
    precision: Precision
    device: str
    seed: int
    eval_every: float
    early_stopping: EarlyStoppingConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """How a model is scored.

    Attributes:
        name: the option's name.
        batch_size: sentences encoded at once.
    """

    name: str
    batch_size: int


@dataclass(frozen=True)
class TrialConfig:
    """All that decides the result of a trial, and nothing else."""

    objective: str
    model: ModelConfig
    loss: LossConfig
    data: DataConfig
    dataloader: DataloaderConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig


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


class Decision(Enum):
    """What a trial does after an evaluation was reported."""

    GO_ON = "go on"
    PRUNE = "prune"


@dataclass(frozen=True)
class Emissions:
    """What a trial cost, summed over its attempts.

    Attributes:
        co2eq_kg: kilograms of CO2 equivalent.
        energy_kwh: kilowatt-hours.
        duration_s: seconds.
        country: ISO code of the assumed electricity, or ``world average``.
        unmeasured: what could only be estimated or not be measured at all, in words; empty where all was measured.
    """

    co2eq_kg: float
    energy_kwh: float
    duration_s: float
    country: str
    unmeasured: tuple[str, ...]


@dataclass(frozen=True)
class TrialResult:
    """What came of a trial that ended by itself.

    Attributes:
        objective: the value of the configured objective, of the best checkpoint.
        dev: all dev metrics of the best checkpoint, by name (``dev/spearman_cosine``).
        test: all test metrics, of a run by itself; empty in a study, where only the winner is scored on test.
        best_step: optimizer step of the best checkpoint.
        steps: optimizer steps trained.
        emissions: what it cost.
        pruned: whether the study ended it early.
        conversion: how the training data was converted for the loss, in words; None where it was not.
    """

    objective: float
    dev: Mapping[str, float]
    test: Mapping[str, float]
    best_step: int
    steps: int
    emissions: Emissions
    pruned: bool
    conversion: str | None
