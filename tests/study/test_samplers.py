from __future__ import annotations

import json
from collections.abc import Iterator
from typing import get_args

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution

from embedsweep.config.trial import SamplerName
from embedsweep.study.sampling import SAMPLERS, make_sampler

SPACE: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-2, log=True),
    "warmup": FloatDistribution(0.0, 0.2),
}


def proposals(name: SamplerName, seed: int, count: int = 6) -> Iterator[str]:
    """What the sampler proposes in a new study, one sampler made anew for each trial as workers do."""
    study = optuna.create_study(direction="maximize")
    for number in range(count):
        study.sampler = make_sampler(name, seed, number, 0, is_conditional=False)
        trial = study.ask(SPACE)
        study.tell(trial, -trial.params["warmup"])
        yield json.dumps(trial.params, sort_keys=True)


def test_every_sampler_of_the_schema_is_there() -> None:
    assert {*SAMPLERS, "exhaustive"} == set(get_args(SamplerName))
    assert len(SAMPLERS) == 7


@pytest.mark.parametrize("name", ["tpe", "random", "cmaes", "qmc", "nsga2", "nsga3"])
def test_proposals_are_repeatable_differ_by_seed_and_never_repeat(name: SamplerName) -> None:
    first = list(proposals(name, 1))
    assert len(set(first)) == len(first) == 6
    assert list(proposals(name, 1)) == first
    assert not set(proposals(name, 2)) & set(first)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", ["nsga2", "nsga3"])
def test_genetic_samplers_learn_though_each_trial_has_its_own(name: SamplerName, seed: int) -> None:
    warmups = [json.loads(proposal)["warmup"] for proposal in proposals(name, seed, 60)]
    first_generation, later = warmups[:10], warmups[10:]
    # Less warm-up is reported as better. Of random values the later 50 are not less.
    assert sum(later) / 50 < 0.8 * sum(first_generation) / 10


def test_qmc_fills_the_space_evenly() -> None:
    # Optuna draws the first at random, to learn the space from it.
    drawn = [json.loads(proposal)["warmup"] for proposal in proposals("qmc", 3, 9)][1:]
    # One point in each eighth: a scrambled Sobol sequence of 8 points, which random draws hit once in 400.
    assert sorted(int(value / 0.2 * 8) for value in drawn) == list(range(8))


@pytest.mark.slow
def test_gp_proposals_are_repeatable_and_never_repeat() -> None:
    first = list(proposals("gp", 1, 12))
    assert len(set(first)) == 12
    assert list(proposals("gp", 1, 12)) == first
