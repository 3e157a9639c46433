"""A study of known outcomes with everything that a report shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from embedsweep.config.answer import Answer, Comparison, Finalist, SeedScore, Selection, Soup, Verdict
from embedsweep.config.result import TrialResult
from embedsweep.evaluation.scores import write_scores
from embedsweep.study.opening import open_study
from embedsweep.study.study import Study
from embedsweep.validation.sweep import pass_sweep
from tests.report.studies import finish, result, scored_items

SPEARMAN = "dev/spearman_cosine"
WORDS = (
    "study.name=whole",
    "loss=mnrl,cosent",
    "optimizer.lr=1e-4,1e-3,1e-2",
    "optimizer.warmup=0.0,0.1",
    "study.pruner=median",
    "study.n_trials=12",
)
SCORES = (0.61, 0.72, 0.55, 0.64, 0.7150123456789, 0.58, 0.66, 0.43, 0.69)
"""Of the complete trials, which come first; trial 1 is the best."""
REASON = "ValueError: </script><script>alert(1)</script> <img src=x onerror=alert(2)> password=hunter2secret"


def trained(score: float, *, co2eq_kg: float = 0.002, steps: int = 40) -> TrialResult:
    """Return the result of a complete trial with a curve and an interval."""
    curve = {SPEARMAN: [(step, score - 0.1 + 0.1 * step / steps) for step in range(10, steps + 1, 10)]}
    made = result(score, interval=(score - 0.03, score + 0.02), steps=steps, co2eq_kg=co2eq_kg)
    return replace(made, curve=curve, before={SPEARMAN: untrained_score()})


def untrained_score() -> float:
    return float(scored_items(0.9).statistic(SPEARMAN)(np.ones((1, 200)))[0])


def whole_study() -> Study:
    """Nine complete trials, a pruned one, a failed one with hostile text, and one that runs."""
    outcomes = [trained(score, co2eq_kg=0.001 * (number % 4 + 1)) for number, score in enumerate(SCORES)]
    pruned = replace(trained(0.4, steps=20), pruned=True, interval=None)
    study = finish(open_study(pass_sweep(WORDS)), [*outcomes, pruned, REASON])
    assert study.ask() is not None
    best = study.trial_folder(1)
    write_scores(best, scored_items(0.2, seed=4))
    write_scores(study.trial_folder(0), scored_items(0.9), "before")
    return study


def finalist(trial: int, *scores: float) -> Finalist:
    """Return a finalist with these scores, its figures made up."""
    seeds = tuple(SeedScore(10 * trial + n, 100 + n, score, None) for n, score in enumerate(scores))
    mean = sum(scores) / len(scores)
    return Finalist(trial, seeds, mean, 0.01, (mean - 0.02, mean + 0.02))


ANSWER = Answer(
    verdict=Verdict(
        metric=SPEARMAN,
        seeds=5,
        look=5,
        level=0.05 / 3,
        best=4,
        winner=None,
        named_at=None,
        group=(4, 1),
        seeds_needed=20,
        finalists=(finalist(4, 0.711, 0.7123, 0.7101, 0.713, 0.7144), finalist(1, 0.7, 0.71, 0.709, 0.7, 0.7222)),
        comparisons=(Comparison(1, 0.00396, 0.3413, (-0.008, 0.016), (-0.01, 0.02)),),
        missing=(),
    ),
    selection=Selection(1, 0.72, 0.7055, (0.66, 0.74), 9, 1999),
    expected_best={1: 0.62, 2: 0.66, 9: 0.72},
    soup=Soup((41, 44, 42), (41, 44), (0.7144, 0.7161, 0.7150), {}, {SPEARMAN: 0.7161}, (0.7, 0.73), {}, None),
)
