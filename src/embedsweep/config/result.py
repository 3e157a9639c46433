"""The result of a trial as frozen types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Curve = Mapping[str, Sequence[tuple[int, float]]]
"""Metric -> its points, each an optimizer step and a value, by rising step."""

Interval = tuple[float, float]
"""The lower and the upper end of a 95 % confidence interval."""


class Decision(Enum):
    """What a trial does after it reported an evaluation."""

    CONTINUE = "continue"
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
        gpu_h: hours of GPUs, each counted by itself; of a GPU that trials share, this one's part. None without a GPU
            and in results of older versions.
    """

    co2eq_kg: float
    energy_kwh: float
    duration_s: float
    country: str
    unmeasured: tuple[str, ...]
    gpu_h: float | None = None

    @classmethod
    def of(cls, tree: Mapping[str, Any]) -> Emissions:
        """Return the emissions that ``asdict`` and JSON made a tree of."""
        return cls(**{**tree, "unmeasured": tuple(tree["unmeasured"])})

    @classmethod
    def sum_of(cls, costs: Iterable[Emissions]) -> Emissions:
        """Return what several trials cost together; there is at least one."""
        each = list(costs)
        gpu_h = [cost.gpu_h for cost in each if cost.gpu_h is not None]
        return cls(
            co2eq_kg=sum(cost.co2eq_kg for cost in each),
            energy_kwh=sum(cost.energy_kwh for cost in each),
            duration_s=sum(cost.duration_s for cost in each),
            country=", ".join(dict.fromkeys(cost.country for cost in each)),
            unmeasured=tuple(dict.fromkeys(remark for cost in each for remark in cost.unmeasured)),
            gpu_h=sum(gpu_h) if gpu_h else None,
        )


@dataclass(frozen=True)
class RunContext:
    """What a trial's MLflow run says about its training beside params, metrics and files.

    A run that is lost is recorded again from it.

    Attributes:
        tags: tags by name, secrets redacted, without those that identify the trial.
        data_sets: its data sets, each as the arguments of ``TrialTracker.log_dataset`` by name.
    """

    tags: Mapping[str, str]
    data_sets: Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial that ended by itself.

    Attributes:
        objective: the value of the configured objective, of the best checkpoint; of a pruned trial, where it ended.
        dev: all dev metrics of that checkpoint, by name (``dev/spearman_cosine``).
        test: all test metrics, of a run by itself; empty in a study, where only the winner is scored on test.
        before: metrics of the untrained model on dev, and on test and benchmarks where those were scored; empty where
            it was not requested.
        benchmarks: metrics of further benchmarks (``sts2017-es/spearman_cosine``), where ``test`` was scored.
        best_step: its optimizer step.
        steps: optimizer steps trained.
        emissions: its emissions.
        pruned: whether the study ended it early; then it has no model.
        conversion: how the training data was converted for the loss, in words; None where it was not.
        examples_per_s: training examples a second, over all attempts; None in results of older versions.
        peak_memory_gib: the most memory of a GPU, in GiB, that torch reserved in the trial's process, the largest of
            all attempts; None on a CPU, for a group of processes and in results of older versions.
        train_s: seconds of training, over all attempts; None in results of older versions.
        eval_s: seconds of evaluation and of writing checkpoints, likewise.
        curve: every evaluation on dev, and the training loss and learning rate at up to 200 steps; empty in results of
            older versions.
        interval: 95 % bootstrap interval of ``objective`` over the dev items; None of a pruned trial and in results of
            older versions.
        context: what the trial's run says about its training; None in results of older versions.
        peak_ram_gib: the most main memory, in GiB, that the trial's process held up to its end, with what the others of
            its group held then; None in results of older versions.
    """

    objective: float
    dev: Mapping[str, float]
    test: Mapping[str, float]
    before: Mapping[str, float]
    benchmarks: Mapping[str, float]
    best_step: int
    steps: int
    emissions: Emissions
    pruned: bool
    conversion: str | None
    examples_per_s: float | None
    peak_memory_gib: float | None = None
    train_s: float | None = None
    eval_s: float | None = None
    curve: Curve = field(default_factory=dict)
    interval: Interval | None = None
    context: RunContext | None = None
    peak_ram_gib: float | None = None
