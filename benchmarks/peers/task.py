"""The task of the search as in a plain sentence-transformers script: data, model, evaluator, arguments.

Reads ``train.json`` and ``dev.json`` (lists of sentence1, sentence2, score) of a folder. Imports nothing of embedsweep.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

LEARNING_RATE = (1e-4, 4e-3)
WARMUP = (0.0, 0.2)
BATCH_SIZES = (8, 16, 32)
OBJECTIVE = "eval_dev_spearman_cosine"


def train_dataset(folder: Path) -> Dataset:
    return Dataset.from_list(json.loads((folder / "train.json").read_text(encoding="utf-8")))


def dev_evaluator(folder: Path) -> EmbeddingSimilarityEvaluator:
    rows = json.loads((folder / "dev.json").read_text(encoding="utf-8"))
    first, second, scores = ([row[name] for row in rows] for name in ("sentence1", "sentence2", "score"))
    return EmbeddingSimilarityEvaluator(first, second, scores, main_similarity="cosine", name="dev", batch_size=64)


def arguments(epochs: float, **searched: Any) -> SentenceTransformerTrainingArguments:
    """Return arguments as in sentence-transformers' example of a search: one evaluation, at the end, nothing saved."""
    return SentenceTransformerTrainingArguments(
        output_dir="checkpoints",
        num_train_epochs=epochs,
        weight_decay=0.01,
        seed=42,
        per_device_eval_batch_size=64,
        eval_strategy="no",
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        **searched,
    )
