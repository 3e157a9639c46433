"""Curves from a trainer's log."""

from __future__ import annotations

import pytest

from embedsweep.training.curve import curve_of, points_of_curve, thinned

LOG = [
    {"step": 0, "epoch": 0.0, "eval_dev_spearman_cosine": 0.25, "eval_runtime": 0.5},
    {"step": 2, "loss": 1.5, "learning_rate": 1e-5, "grad_norm": 3.0},
    {"step": 4, "loss": 1.0, "learning_rate": 5e-6},
    {"step": 4, "eval_dev_spearman_cosine": 0.5, "eval_dev_pearson_dot": 0.75},
    {"step": 4, "train_runtime": 2.0, "train_loss": 1.25},
]


def test_a_curve_has_each_metric_by_step() -> None:
    curve = curve_of(LOG)
    assert curve == {
        "dev/spearman_cosine": [(0, 0.25), (4, 0.5)],
        "dev/pearson_dot": [(4, 0.75)],
        "train/loss": [(2, 1.5), (4, 1.0)],
        "train/learning_rate": [(2, 1e-5), (4, 5e-6)],
    }
    assert points_of_curve(curve) == [
        (0, {"dev/spearman_cosine": 0.25}),
        (2, {"train/loss": 1.5, "train/learning_rate": 1e-5}),
        (4, {"dev/spearman_cosine": 0.5, "dev/pearson_dot": 0.75, "train/loss": 1.0, "train/learning_rate": 5e-6}),
    ]


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (200, 200), (201, 200), (5000, 200)])
def test_training_metrics_are_thinned_to_200_points_and_evaluations_are_not(count: int, kept: int) -> None:
    log = [{"step": step, "loss": 1.0, "learning_rate": 1.0} for step in range(count)]
    evaluations = [{"step": step, "dev_spearman_cosine": 0.5} for step in range(count)]
    curve = curve_of([*log, *evaluations])
    assert len(curve.get("train/loss", ())) == kept
    assert len(curve.get("dev/spearman_cosine", ())) == count


def test_thinned_points_are_at_even_distances_with_the_ends() -> None:
    steps = [step for step, _ in thinned([(step, 0.0) for step in range(11)], 5)]
    assert steps == [0, 2, 5, 8, 10]
