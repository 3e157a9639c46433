"""The curve of a training: its evaluations and its training loss by step, from the trainer's log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from embedsweep.config.result import Curve
from embedsweep.config.trial import TrialConfig

MOST_POINTS = 200
"""How many points of each training metric a result keeps; evaluations are kept whole."""

Points = list[tuple[int, dict[str, float]]]
"""Metrics with their optimizer step."""


def points_of(log: Sequence[Mapping[str, Any]]) -> Points:
    """Return the training and dev metrics of a trainer's log, with their steps."""
    return list(_read(log))


def _read(log: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, float]]]:
    from embedsweep.evaluation.evaluator import metric_names

    for entry in log:
        if "loss" in entry:
            metrics = {"train/loss": float(entry["loss"]), "train/learning_rate": float(entry["learning_rate"])}
        else:
            metrics = metric_names(entry, "dev")
        if metrics:
            yield int(entry["step"]), metrics


def curve_of(log: Sequence[Mapping[str, Any]]) -> Curve:
    """Return every evaluation of a trainer's log, and its training metrics thinned to `MOST_POINTS`."""
    curve: dict[str, list[tuple[int, float]]] = {}
    for step, metrics in points_of(log):
        for name, value in metrics.items():
            curve.setdefault(name, []).append((step, value))
    return {name: thinned(points) if name.startswith("train/") else points for name, points in curve.items()}


def thinned(points: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> list[tuple[int, float]]:
    """Return at most ``most`` points at even distances, the first and the last among them; ``most`` is at least 2."""
    if len(points) <= most:
        return list(points)
    return [points[round(index * (len(points) - 1) / (most - 1))] for index in range(most)]


def points_of_curve(curve: Curve) -> Points:
    """Return the metrics of a curve by step, as a run logs them."""
    steps: dict[int, dict[str, float]] = {}
    for name, points in curve.items():
        for step, value in points:
            steps.setdefault(step, {})[name] = value
    return sorted(steps.items())


def card_log(log: Sequence[Mapping[str, float]], config: TrialConfig) -> list[dict[str, float]]:
    """Return the trainer's whole log in the form of the library's card; the library's holds the last attempt only.

    Of the scores it has the main metric of dev and of what is watched.
    """
    evaluation = config.evaluation
    watched = [f"dev/{each.name}/{(each.scoring or evaluation).main_metric}" for each in evaluation.watch]
    shown = {f"eval_{name}" for name in (f"dev_{evaluation.main_metric}", *watched)}
    rows: dict[int, dict[str, float]] = {}
    for entry in log:
        row = rows.setdefault(int(entry["step"]), {"Epoch": entry.get("epoch", 0.0), "Step": entry["step"]})
        if "loss" in entry:
            row["Training Loss"] = entry["loss"]
        row |= {key.removeprefix("eval_"): entry[key] for key in entry if key in shown}
    return [row for row in rows.values() if len(row) > 2]
