"""The search by ``SentenceTransformerTrainer.hyperparameter_search``, after the library's own example.

``python -m benchmarks.peers.trainer_search TASK MODEL EPOCHS TRIALS`` prints the best dev Spearman as its last line.
https://sbert.net/examples/sentence_transformer/training/hpo/README.html
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import optuna
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from benchmarks.peers.task import (
    BATCH_SIZES,
    LEARNING_RATE,
    OBJECTIVE,
    WARMUP,
    arguments,
    dev_evaluator,
    train_dataset,
)


def search_space(trial: optuna.Trial) -> dict[str, Any]:
    return {
        "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATE, log=True),
        "warmup_steps": trial.suggest_float("warmup_steps", *WARMUP),
        "per_device_train_batch_size": trial.suggest_categorical("per_device_train_batch_size", BATCH_SIZES),
    }


def main(task: Path, model: str, epochs: float, n_trials: int) -> None:
    trainer = SentenceTransformerTrainer(
        model=None,
        # The search casts to the type of this value; as an integer, a fraction would be no warm-up.
        args=arguments(epochs, warmup_steps=0.1),
        train_dataset=train_dataset(task),
        evaluator=dev_evaluator(task),
        model_init=lambda _: SentenceTransformer(model),
        loss=CoSENTLoss,
    )
    best = trainer.hyperparameter_search(
        hp_space=search_space,
        compute_objective=lambda metrics: metrics[OBJECTIVE],
        n_trials=n_trials,
        direction="maximize",
        backend="optuna",
        sampler=optuna.samplers.TPESampler(seed=42),
    )
    print(best.objective)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
