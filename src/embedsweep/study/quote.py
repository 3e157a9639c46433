"""What a study will cost, from a few timed steps of each kind of trial: hours, energy, disk and memory."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import optuna

from embedsweep.config.axes import active_axes, completed, grid, is_discrete, probes_of, random_cell
from embedsweep.config.finals import SEED
from embedsweep.config.result import Decision
from embedsweep.config.study import Axis, Choice, RangeAxis, StudyPlan
from embedsweep.config.training import rung_steps
from embedsweep.config.trial import KeepModels, TrialConfig
from embedsweep.errors import ConfigError
from embedsweep.study.pruning import decide, make_pruner
from embedsweep.validation.plan_cells import broken_constraint, cell_config, grid_cells

MOST_KINDS = 64
"""Kinds of trials that are timed: each takes from seconds to a minute."""

DRAWS = 1000
"""Random trials over which the mean of a sampled study is taken."""

SIMULATED, REPEATS, STEPS = 50, 10, 1000
"""Trials of a simulated study at most, how many studies are simulated, and the steps of each of their trials."""

MOST_TRIALS = 100_000
"""The most trials that a budget may turn into."""

GIB = 2**30

Kind = tuple[tuple[str, Choice], ...]
"""What decides the cost of a trial: the names of the axes that do, each with a value that is timed."""


@dataclass(frozen=True)
class Timing:
    """What a few steps of one kind of trial took in a worker while the other workers ran the same kind.

    Attributes:
        steps: optimizer steps of a whole trial.
        step_s: seconds of a step.
        eval_s: seconds of an evaluation on dev, with its checkpoint.
        fixed_s: seconds of all else in a trial: loading, preparing, recording; without what is done once for all.
        evaluations: how often a whole trial is evaluated.
        kwh_per_s: kilowatt-hours a second, of this worker.
        co2eq_kg_per_s: kilograms of CO2 equivalent a second, of this worker.
        ram_bytes: the most main memory that the worker held so far, with the processes that train with it.
        gpu_gib: the most GPU memory that torch reserved in it, in GiB; None on a CPU and of a group of processes.
        checkpoint_bytes: size of a checkpoint.
        model_bytes: size of the model's weights.
    """

    steps: int
    step_s: float
    eval_s: float
    fixed_s: float
    evaluations: int
    kwh_per_s: float
    co2eq_kg_per_s: float
    ram_bytes: int
    gpu_gib: float | None
    checkpoint_bytes: int
    model_bytes: int

    def seconds(self, share: float = 1.0) -> float:
        """Return the seconds of a trial that trains a share, in [0, 1], of its steps."""
        return self.fixed_s + share * (self.steps * self.step_s + self.evaluations * self.eval_s)


@dataclass(frozen=True)
class TimedKind:
    """One kind of trial with what it took.

    Attributes:
        values: the values that decide its cost, by key.
        timings: one of each worker; empty where it failed.
        problem: why it cannot be trained here; None where it can.
    """

    values: Mapping[str, Choice]
    timings: tuple[Timing, ...]
    problem: str | None

    def seconds(self, share: float = 1.0) -> float:
        """Return the seconds of a trial, as a mean over the workers; 0 of one that fails."""
        return fmean(timing.seconds(share) for timing in self.timings) if self.problem is None else 0.0


@dataclass(frozen=True)
class Quote:
    """What a study, or what is left of it, will cost.

    Attributes:
        n_trials: how many trials.
        workers: how many run at the same time.
        kinds: the kinds of trials, timed.
        seconds: until all are finished, without pruning.
        share: the share of its steps that a trial trains with the study's pruner; 1 without one.
        pruned_seconds: until all are finished with the study's pruner.
        energy_kwh: kilowatt-hours of all trials, with the pruner.
        co2eq_kg: kilograms of CO2 equivalent, likewise.
        disk_bytes: the most that checkpoints and models take on disk.
        ram_bytes: the most main memory that all workers hold.
        gpu_gib: the most GPU memory that a worker holds, in GiB; None on a CPU.
    """

    n_trials: int
    workers: int
    kinds: tuple[TimedKind, ...]
    seconds: float
    share: float
    pruned_seconds: float
    energy_kwh: float
    co2eq_kg: float
    disk_bytes: int
    ram_bytes: int
    gpu_gib: float | None

    def tree(self, budget_hours: float) -> dict[str, Any]:
        """Return what a study keeps of the quote that it was begun with."""
        names = ("n_trials", "workers", "seconds", "pruned_seconds", "energy_kwh", "co2eq_kg", "disk_bytes")
        figures = {name: getattr(self, name) for name in (*names, "ram_bytes", "gpu_gib")}
        kinds = [{"values": dict(each.values), "trial_s": each.seconds()} for each in self.kinds]
        return {"budget_hours": budget_hours, **figures, "kinds": kinds}


def kinds_of(plan: StudyPlan) -> dict[Kind, tuple[dict[str, Choice], TrialConfig]]:
    """Return the kinds of trials that a plan has: the values that decide the cost, and a configuration to time.

    Every value of lists is timed, and both ends of ranges of whole numbers; what a real number is, as a learning rate
    or a margin, does not change what a step takes.

    Raises:
        ConfigError: there are too many to time, or the file that one needs is gone.
    """
    axes = [axis for axis in plan.axes if _decides_cost(axis)]
    cells = itertools.islice(grid(axes, probes_of), MOST_TRIALS)
    sound = [cell for cell in cells if broken_constraint(plan, cell) is None]
    if len(sound) > MOST_KINDS:
        message = f"quote would time {len(sound)} kinds of trials, more than {MOST_KINDS}: fix some of what is searched"
        raise ConfigError.single("study.dry_run", message)
    return {_kind(plan, cell): (cell, cell_config(plan, completed(plan.axes, cell))) for cell in sound}


def _decides_cost(axis: Axis) -> bool:
    """Return whether a value of the axis may change how long a trial takes or how much memory it needs."""
    if axis.key == SEED or axis.key.startswith("optimizer."):
        return False
    if ".negatives." in axis.key:  # which ones are mined changes no step, and they are mined once for all trials
        return axis.key.endswith((".count", ".missing"))
    is_real = isinstance(axis, RangeAxis) and not axis.integer and not is_discrete(axis)
    return not is_real or axis.key.startswith(("trainer.", "data."))


def _kind(plan: StudyPlan, cell: Mapping[str, Choice]) -> Kind:
    """Return the kind of a cell; a value between the ends of a range counts as the nearer end."""
    axes = [axis for axis in active_axes(plan.axes, cell) if _decides_cost(axis)]
    return tuple((axis.name, _timed_value(axis, cell[axis.key])) for axis in axes)


def _timed_value(axis: Axis, value: Choice) -> Choice:
    if is_discrete(axis):
        return value
    assert isinstance(axis, RangeAxis)
    assert isinstance(value, int | float)
    low, high = probes_of(axis)
    return low if value - axis.low <= axis.high - value else high


def make_quote(
    plan: StudyPlan, kinds: Mapping[Kind, TimedKind], n_trials: int, done: int, workers: int, keep: KeepModels
) -> Quote:
    """Return what trials of a study will cost.

    Args:
        plan: the study's plan.
        kinds: its kinds of trials, timed; at least one can be trained.
        n_trials: how many trials are left.
        done: how many were begun before.
        workers: how many trials run at the same time.
        keep: ``study.keep_models``.
    """
    timings = [timing for kind in kinds.values() for timing in kind.timings]
    share = trained_share(plan, n_trials)
    whole = _durations(plan, kinds, n_trials, done, 1.0)
    pruned = _durations(plan, kinds, n_trials, done, share)
    checkpoint, model = (
        max(getattr(timing, name) for timing in timings) for name in ("checkpoint_bytes", "model_bytes")
    )
    kept = {"all": n_trials, "best": 2, "none": 1}[keep] * model  # the best one is in MLflow's store as well
    by_worker = max(timing.ram_bytes for timing in timings)
    gpu = [timing.gpu_gib for timing in timings if timing.gpu_gib is not None]
    return Quote(
        n_trials=n_trials,
        workers=workers,
        kinds=tuple(kinds.values()),
        seconds=makespan(whole, workers),
        share=share,
        pruned_seconds=makespan(pruned, workers),
        energy_kwh=sum(pruned) * fmean(timing.kwh_per_s for timing in timings),
        co2eq_kg=sum(pruned) * fmean(timing.co2eq_kg_per_s for timing in timings),
        # The best checkpoint, the last one, and one that is being written.
        disk_bytes=min(workers, n_trials) * (3 * checkpoint + model) + kept,
        ram_bytes=min(workers, n_trials) * by_worker,
        gpu_gib=max(gpu, default=None),
    )


def affordable(plan: StudyPlan, kinds: Mapping[Kind, TimedKind], most: int | None, workers: int, seconds: float) -> int:
    """Return how many trials of a new study are finished in so many seconds; 0 if not even one is.

    Args:
        plan: the study's plan.
        kinds: its kinds of trials, timed.
        most: how many it can have: the size of a grid; None has no limit.
        workers: how many trials run at the same time.
        seconds: the budget.
    """
    low, high = 0, min(most or MOST_TRIALS, MOST_TRIALS)
    shares: dict[int, float] = {}
    while low < high:
        middle = (low + high + 1) // 2
        simulated = min(middle, SIMULATED)
        if simulated not in shares:
            shares[simulated] = trained_share(plan, simulated)
        fits = makespan(_durations(plan, kinds, middle, 0, shares[simulated]), workers) <= seconds
        low, high = (middle, high) if fits else (low, middle - 1)
    return low


def _durations(plan: StudyPlan, kinds: Mapping[Kind, TimedKind], n_trials: int, done: int, share: float) -> list[float]:
    """Return the seconds of each trial: in a grid of its own kind, else the mean over uniformly drawn ones."""
    seconds = {kind: timed.seconds(share) for kind, timed in kinds.items()}
    if plan.sampler == "exhaustive":
        cells = itertools.islice(grid_cells(plan), done, done + n_trials)
        return [seconds[_kind(plan, cell)] for cell in cells]
    known = [seconds[kind] for cell in _drawn(plan) if (kind := _kind(plan, cell)) in seconds]
    return [fmean(known or seconds.values())] * n_trials


def _drawn(plan: StudyPlan) -> Iterator[dict[str, Choice]]:
    source = random.Random(plan.seed)
    cells = (random_cell(plan.axes, {}, source) for _ in range(DRAWS))
    return (cell for cell in cells if broken_constraint(plan, cell) is None)


def makespan(durations: Iterable[float], workers: int, busy: Sequence[float] = ()) -> float:
    """Return the seconds until all trials are finished; each is given to whichever worker is free first.

    Args:
        durations: seconds of each trial, in the order in which they start.
        workers: how many workers there are beside those of ``busy``.
        busy: seconds after which each worker that runs a trial is free.
    """
    free_in = [*busy, *[0.0] * workers]
    heapq.heapify(free_in)
    for seconds in durations:
        heapq.heapreplace(free_in, free_in[0] + seconds)
    return max(free_in)


def trained_share(plan: StudyPlan, n_trials: int) -> float:
    """Return the share of its steps, in (0, 1], that a trial trains on average with the plan's pruner.

    Studies are simulated with the pruner itself. Their trials differ by a random score that rises alike in all of them,
    so that their order is the same at every rung; the learning curves of real trials cross now and then.

    Args:
        plan: the study's plan.
        n_trials: how many trials it has; those beyond the first fifty are taken to be pruned like these.
    """
    if plan.pruner == "none":
        return 1.0
    optuna.logging.disable_default_handler()
    return fmean(share for seed in range(REPEATS) for share in _simulated(plan, min(n_trials, SIMULATED), seed))


def _simulated(plan: StudyPlan, n_trials: int, seed: int) -> Iterator[float]:
    """Yield the share of its steps that each trial of a simulated study trains."""
    source = random.Random(seed)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(
        study_name=f"simulated-{seed}", direction="maximize", sampler=sampler, pruner=make_pruner(plan)
    )
    for _ in range(n_trials):
        trial, score = study.ask(), source.random()
        steps = dict.fromkeys(rung_steps(plan.pruning.rungs, STEPS))
        for step in steps:
            if decide(plan, trial, step, STEPS, score + step / STEPS) is Decision.PRUNE:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                yield step / STEPS
                break
        else:
            study.tell(trial, score + 1)
            yield 1.0
