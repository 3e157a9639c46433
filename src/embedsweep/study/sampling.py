"""Values of a new trial: points that are tried first, cells of a grid, or Optuna samplers by name, seeded per trial.

A trial has a value for exactly the axes that are searched in it, and satisfies the constraints.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import FrozenTrial, TrialState

from embedsweep.config.axes import active_axes, config_params, distributions, optuna_params, random_cell
from embedsweep.config.study import Choice, Scalar, StudyPlan
from embedsweep.config.trial import SamplerName
from embedsweep.errors import StudyError
from embedsweep.study.storage import batched_writes, known_trials
from embedsweep.validation.plan_cells import broken_constraint, grid_cells

POPULATION = 10
"""Trials in a generation of NSGA; with Optuna's 50 a study of 20 to 200 trials would have at most four generations."""

SAMPLERS: Mapping[SamplerName, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=POPULATION),
}
"""All samplers but ``exhaustive``, which proposes the cells of the grid in order."""


def make_sampler(name: SamplerName, seed: int, number: int, attempt: int, *, is_conditional: bool) -> BaseSampler:
    """Return the sampler that proposes values for a trial.

    With the study's seed, a sampler would repeat its proposals after a resume, and two workers would get the same. So
    each trial has its own seed, made of the study's seed and its number, and whoever asks for it gets the same values.
    Quasi-random points are one sequence over all trials and need one seed.

    Args:
        name: the sampler's name.
        seed: the study's seed.
        number: the trial's number.
        attempt: how many proposals for the trial were rejected before; each has its own seed.
        is_conditional: whether some axes are searched in some trials only. TPE then learns each group of axes from the
            trials that have it; otherwise it would learn only from the axes that all trials have.
    """
    digest = hashlib.sha256(f"{seed} {number} {attempt}".encode()).digest()
    own = seed if name == "qmc" else int.from_bytes(digest[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe" and is_conditional:
            return TPESampler(seed=own, multivariate=True, group=True)
        return SAMPLERS[name](own)


SPACES = ("_search_space", "_intersection_search_space")
"""Where Optuna's samplers keep an `IntersectionSearchSpace`, which is made to be kept over all trials of a study."""

POINT = "embedsweep.point"
PROPOSALS = 20
"""Proposals of the sampler for one trial; they differ by the seed only, so that more of them bring little new."""
RANDOM_CELLS = 2000
"""Random cells that are tried after that: enough if one in some hundred satisfies the constraints."""
AVOIDED = 5
"""Proposals that another worker already runs, before one of them is accepted."""


class TrialSampler:
    """Asks Optuna for the trials of one study.

    Args:
        plan: the study's plan.
        further: points that are tried after those of the plan.
    """

    def __init__(self, plan: StudyPlan, further: Sequence[Mapping[str, Any]]) -> None:
        self._plan = plan
        self._points = [
            {key: tuple(value) if isinstance(value, list) else value for key, value in point.items()}
            for point in (*plan.enqueue, *further)
        ]
        self._distributions = distributions(plan.axes)
        self._spaces: dict[str, Any] = {}

    def ask(self, study: optuna.Study, trials: Sequence[FrozenTrial], number: int) -> optuna.Trial:
        """Ask Optuna for a trial; the caller holds the study's lock.

        Args:
            study: Optuna's study.
            trials: its trials so far, which the caller has just read.
            number: the trial's number: a new one, or a trial that waits to be resumed, which keeps its values.

        Raises:
            StudyError: no values were found that satisfy the constraints.
        """
        if number == len(trials):
            self._enqueue_next(study, trials)
        axes = self._plan.axes
        running = [config_params(axes, trial.params) for trial in trials if trial.state is TrialState.RUNNING]
        study.sampler = ConstrainedSampler(self._plan, self._distributions, number, running.__contains__, self._spaces)
        with known_trials(study._storage):
            trial = study.ask()
            known = config_params(axes, _known_params(study._storage.get_trial(trial._trial_id)))
            if any(axis.key not in known for axis in active_axes(axes, known)):
                known = config_params(axes, trial.relative_params)
        # Samplers read what they wrote, and have proposed everything by now: the writes that follow are not read back.
        with batched_writes(study._storage):
            for axis in active_axes(axes, known):
                _suggest(trial, axis.name, self._distributions[axis.name])
        return trial

    def _enqueue_next(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        """Enqueue the next trial's values if they are given: a point, or a cell of the grid."""
        if not self._points and self._plan.sampler != "exhaustive":
            return
        tried = {trial.user_attrs.get(POINT) for trial in trials}
        index = next((index for index in range(len(self._points)) if index not in tried), None)
        point = self._points[index] if index is not None else {}
        if self._plan.sampler == "exhaustive":
            taken = {frozenset(_known_params(trial).items()) for trial in trials}
            left = [cell for key, cell in self._cells.items() if key not in taken]
            fitting = [cell for cell in left if point.items() <= cell.items()]
            point = next(iter(fitting or left), {})
        if point:
            attributes = {POINT: index} if index is not None else {}
            study.enqueue_trial(optuna_params(self._plan.axes, point), user_attrs=attributes)

    @cached_property
    def _cells(self) -> dict[frozenset[tuple[str, Scalar]], dict[str, Choice]]:
        """The cells of the grid by their Optuna parameters."""
        return {frozenset(optuna_params(self._plan.axes, cell).items()): cell for cell in grid_cells(self._plan)}


def _known_params(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters, or those it will have once it runs."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def _suggest(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> None:
    match distribution:
        case optuna.distributions.FloatDistribution(low=low, high=high, log=log, step=step):
            trial.suggest_float(name, low, high, log=log, step=step)
        case optuna.distributions.IntDistribution(low=low, high=high, log=log, step=step):
            trial.suggest_int(name, low, high, log=log, step=step)
        case optuna.distributions.CategoricalDistribution(choices=choices):
            trial.suggest_categorical(name, choices)


@dataclass(eq=False)
class ConstrainedSampler(BaseSampler):
    """The plan's Optuna sampler, of whose proposals the first that satisfies the constraints is taken.

    To Optuna it is a sampler that proposes all parameters of a trial at once, without those of other options.

    Attributes:
        plan: the study's plan.
        space: the axes as Optuna's distributions, by name.
        number: the trial's number.
        avoid: returns whether another worker already runs these values; then another proposal is made, a few times.
        spaces: what the samplers of earlier trials found to be searched, by the attribute that keeps it. Each would
            compare the axes of all trials anew, which takes half a second for 10,000.
    """

    plan: StudyPlan
    space: Mapping[str, BaseDistribution]
    number: int
    avoid: Callable[[dict[str, Choice]], bool]
    spaces: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def _first(self) -> BaseSampler:
        return self._sampler(0)

    def _sampler(self, attempt: int) -> BaseSampler:
        # In a grid only a point that names some of the axes, when all its cells are taken, leaves values to propose.
        name = "random" if self.plan.sampler == "exhaustive" else self.plan.sampler
        is_conditional = any(axis.when for axis in self.plan.axes)
        sampler = make_sampler(name, self.plan.seed, self.number, attempt, is_conditional=is_conditional)
        for attribute in SPACES:
            if hasattr(sampler, attribute):
                setattr(sampler, attribute, self.spaces.setdefault(attribute, getattr(sampler, attribute)))
        return sampler

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Prepare the sampler for a trial; called by Optuna."""
        self._first.before_trial(study, trial)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Let the sampler learn from a trial that ended; called by Optuna."""
        self._first.after_trial(study, trial, state, values)

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002  # Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        """Return all axes; `sample_relative` decides which of them the trial has."""
        return dict(self.space)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002  # Optuna's signature
    ) -> dict[str, Any]:
        """Return values of all axes of the trial; those it already has stay.

        Raises:
            StudyError: none of many proposals satisfies the constraints.
        """
        known = _known_params(trial)
        accepted: dict[str, Choice] | None = None
        avoided = 0
        for cell in self._proposals(study, trial, known):
            if broken_constraint(self.plan, cell) is not None:
                continue
            accepted = cell
            avoided += self.avoid(cell)
            if avoided > AVOIDED or not self.avoid(cell):
                break
        if accepted is None:
            raise StudyError(
                f"none of {PROPOSALS + RANDOM_CELLS} proposals for trial {self.number} satisfies the constraints "
                f"{' and '.join(self.plan.constraints)}: they leave almost nothing of the search space"
            )
        return dict(optuna_params(self.plan.axes, accepted))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return one parameter; Optuna never asks for one, as all are proposed at once."""
        return self._first.sample_independent(study, trial, param_name, param_distribution)

    def _proposals(
        self, study: optuna.Study, trial: FrozenTrial, known: Mapping[str, Any]
    ) -> Iterator[dict[str, Choice]]:
        for attempt in range(PROPOSALS):
            sampler = self._first if attempt == 0 else self._sampler(attempt)
            yield self._proposal(sampler, study, trial, known)
        source = random.Random(f"{self.plan.seed} {self.number}")
        values = config_params(self.plan.axes, known)
        yield from (random_cell(self.plan.axes, values, source) for _ in itertools.repeat(None, RANDOM_CELLS))

    def _proposal(
        self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, known: Mapping[str, Any]
    ) -> dict[str, Choice]:
        axes = self.plan.axes
        space = sampler.infer_relative_search_space(study, trial)
        params = {**sampler.sample_relative(study, trial, space), **known}
        for always in (True, False):
            for axis in active_axes(axes, config_params(axes, params)):
                if axis.name not in params and (not axis.when) is always:
                    distribution = self.space[axis.name]
                    params[axis.name] = sampler.sample_independent(study, trial, axis.name, distribution)
        return config_params(axes, params)
