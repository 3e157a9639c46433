"""The trials by ``SentenceTransformerTrainer.hyperparameter_search``: ``python -m benchmarks.gpu.trainer_search SPEC``.

Its Optuna studies, one a loss, as a call has one loss, are in ``journal.log`` of the working directory. Imports
nothing of embedsweep.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from datasets import Dataset
from optuna.distributions import BaseDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss, MultipleNegativesRankingLoss

from benchmarks.gpu.task import (
    BATCH_SIZES,
    EVALUATION_BATCH_SIZE,
    LEARNING_RATE,
    LOG_EVERY,
    LOSSES,
    POSITIVE_THRESHOLD,
    SEED,
    WARMUP,
    Point,
    read_pairs,
)

JOURNAL = "journal.log"
OBJECTIVE = "eval_dev_spearman_cosine"
LOSS_CLASSES = {"cosent": CoSENTLoss, "mnrl": MultipleNegativesRankingLoss}


class GivenPoints(optuna.samplers.BaseSampler):
    """Propose given points, in order of the trials."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = points

    def infer_relative_search_space(self, study: optuna.Study, trial: Any) -> dict[str, BaseDistribution]:  # noqa: ARG002, D102
        return {}

    def sample_relative(self, study: optuna.Study, trial: Any, search_space: Any) -> dict[str, Any]:  # noqa: ARG002, D102
        return {}

    def sample_independent(self, study: optuna.Study, trial: Any, param_name: str, param_distribution: Any) -> Any:  # noqa: ARG002, D102
        point = self._points[trial.number]
        values = {
            "learning_rate": point.lr,
            "warmup_steps": point.warmup,
            "per_device_train_batch_size": point.batch_size,
        }
        return values[param_name]


def search_space(trial: optuna.Trial) -> dict[str, Any]:
    """Return a trial's values, as in the library's own example of a search."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATE, log=True),
        "warmup_steps": trial.suggest_float("warmup_steps", *WARMUP),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", BATCH_SIZES),
    }


def train_dataset(loss: str, data: Path) -> Dataset:
    """Return the training data of a loss: all pairs with their scores, or the positive pairs without."""
    pairs = read_pairs(data, "train")
    if loss == "cosent":
        first, second, scores = (list(column) for column in zip(*pairs, strict=True))
        return Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})
    positive = [(first, second) for first, second, score in pairs if score >= POSITIVE_THRESHOLD]
    return Dataset.from_dict({"sentence1": [pair[0] for pair in positive], "sentence2": [pair[1] for pair in positive]})


def make_trainer(loss: str, spec: Mapping[str, Any]) -> SentenceTransformerTrainer:
    """Return the trainer whose ``hyperparameter_search`` trains with a loss."""
    cpu = spec["device"] == "cpu"
    first, second, scores = (list(column) for column in zip(*read_pairs(Path(spec["data"]), "dev"), strict=True))
    return SentenceTransformerTrainer(
        model=None,
        args=SentenceTransformerTrainingArguments(
            output_dir=f"checkpoints-{loss}",
            num_train_epochs=1,
            max_steps=spec["max_steps"] or -1,
            weight_decay=0.01,
            warmup_steps=0.1,  # the search casts to the type it finds here
            seed=SEED,
            bf16=not cpu,
            use_cpu=cpu,
            per_device_eval_batch_size=EVALUATION_BATCH_SIZE,
            eval_strategy="no",
            save_strategy="no",
            logging_steps=LOG_EVERY,
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=train_dataset(loss, Path(spec["data"])),
        evaluator=EmbeddingSimilarityEvaluator(
            first, second, scores, main_similarity="cosine", name="dev", batch_size=EVALUATION_BATCH_SIZE
        ),
        model_init=lambda _: SentenceTransformer(spec["model"], device="cpu" if cpu else None),
        loss=LOSS_CLASSES[loss],
    )


def main(spec: Mapping[str, Any]) -> None:
    """Search with each loss in turn, a few trials a call, so that a time limit leaves both as many."""
    ends = time.monotonic() + spec["seconds"]
    storage = JournalStorage(JournalFileBackend(JOURNAL))
    points = {loss: [Point(**point) for point in spec["points"] if point["loss"] == loss] for loss in LOSSES}
    trainers = {loss: make_trainer(loss, spec) for loss in LOSSES if points[loss]}
    for begin in range(0, max(map(len, points.values())), len(BATCH_SIZES)):
        for loss, trainer in trainers.items():
            seconds, n_trials = ends - time.monotonic(), len(points[loss][begin : begin + len(BATCH_SIZES)])
            if seconds <= 0 or not n_trials:
                continue
            trainer.hyperparameter_search(
                hp_space=search_space,
                compute_objective=lambda metrics: metrics[OBJECTIVE],
                n_trials=n_trials,
                direction="maximize",
                backend="optuna",
                sampler=GivenPoints(points[loss]),
                timeout=seconds,
                storage=storage,
                study_name=loss,
                load_if_exists=True,
            )


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
