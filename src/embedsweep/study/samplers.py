"""Who proposes a trial: Optuna's samplers by their names here.

Owns the table and the seeds. Knows nothing of what is sampled.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Mapping

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, QMCSampler, RandomSampler, TPESampler

from embedsweep.schema import SamplerName

SAMPLERS: Mapping[SamplerName, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
    "gp": lambda seed: GPSampler(seed=seed),
    "cmaes": lambda seed: CmaEsSampler(seed=seed, warn_independent_sampling=False),
    "qmc": lambda seed: QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
}


def make_sampler(name: SamplerName, seed: int, number: int) -> BaseSampler:
    """The sampler that proposes trial ``number``.

    A sampler with the study's seed would repeat its draws after a resume, and two workers would draw the same. So each
    trial has a seed of its own, made of the study's and its number, and whoever asks for it gets the same proposal.
    Quasi-random points are one sequence over all trials and need one seed.
    """
    digest = hashlib.sha256(f"{seed} {number}".encode()).digest()
    own = seed if name == "qmc" else int.from_bytes(digest[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return SAMPLERS[name](own)
