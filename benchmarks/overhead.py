"""Overhead of a trial over a plain SentenceTransformerTrainer script with the same arguments, in a warm process."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import CoSENTLoss

from benchmarks.figures import Figure, print_figures
from benchmarks.studies import open_worker
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import as_examples
from embedsweep.data.load import load_splits
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.trainer import training_arguments
from embedsweep.validation.plan_cells import cell_config

ROUNDS = 7


def plain_script(config: TrialConfig) -> float:
    """Return the seconds of a plain script that saves its model at the end."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        splits = load_splits(config.data, config.evaluation)
        (first, second), scores, dev = splits.train.texts, splits.train.labels, as_examples(splits.dev)
        examples = Dataset.from_dict({"a": list(first), "b": list(second), "score": list(scores or ())})
        model = SentenceTransformer(str(tiny_model_path()))
        trainer = SentenceTransformerTrainer(
            model=model,
            args=training_arguments(config, Path(folder), {"demo": {}}, processes=1),
            train_dataset=examples,
            loss=CoSENTLoss(model, scale=20.0),
            evaluator=EmbeddingSimilarityEvaluator(
                list(dev.texts[0]),
                list(dev.texts[1]),
                list(dev.labels or ()),
                name="dev",
                similarity_fn_names=["cosine", "euclidean", "manhattan", "dot"],
                batch_size=config.evaluation.batch_size,
                write_csv=False,
            ),
        )
        trainer.train()
        model.save_pretrained(f"{folder}/model")
    return time.monotonic() - started


if __name__ == "__main__":
    worker = open_worker(ROUNDS + 1)
    plain, ours = [], []
    while (trial := worker.study.ask()) is not None:
        config = cell_config(worker.study.plan, trial.params)
        plain.append(plain_script(config))
        started = time.monotonic()
        worker._attempt(trial)
        worker._leftovers.delete()
        ours.append(time.monotonic() - started)
    # The first round includes what is loaded once per process.
    overhead = statistics.median(mine - other for mine, other in zip(ours[1:], plain[1:], strict=True))
    what = f"overhead of a trial over the plain trainer ({statistics.median(plain[1:]):.1f} s)"
    print_figures(Figure(what, overhead, 0.3, "s"))
