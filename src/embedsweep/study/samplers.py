"""Who proposes a trial: Optuna's samplers by their names here.

Owns the table and the seeds. Knows nothing of what is sampled.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping

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

from embedsweep.schema import SamplerName

POPULATION = 10
"""Trials in a generation of NSGA; Optuna's 50 would leave a study of 20 to 200 trials none or three to select in."""

SAMPLERS: Mapping[SamplerName, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=POPULATION),
    "nsga3": lambda seed: NSGAIIISampler(seed=seed, population_size=POPULATION),
}
"""All but ``exhaustive``, which proposes the cells of the grid in order."""


def make_sampler(name: SamplerName, seed: int, number: int, attempt: int, *, is_conditional: bool) -> BaseSampler:
    """The sampler that makes a proposal for trial ``number``.

    A sampler with the study's seed would repeat its draws after a resume, and two workers would draw the same. So each
    trial has a seed of its own, made of the study's and its number, and whoever asks for it gets the same proposal.
    Quasi-random points are one sequence over all trials and need one seed.

    Args:
        name: which.
        seed: the study's.
        number: the trial's.
        attempt: how many proposals for the trial were refused before; each has a seed of its own.
        is_conditional: whether some axes belong to some trials only. TPE then learns each group of axes from the trials
            that have it; as a rule it learns only what all trials have.
    """
    digest = hashlib.sha256(f"{seed} {number} {attempt}".encode()).digest()
    own = seed if name == "qmc" else int.from_bytes(digest[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if name == "tpe" and is_conditional:
            return TPESampler(seed=own, multivariate=True, group=True)
        return SAMPLERS[name](own)
