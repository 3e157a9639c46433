"""The five recipes as plain sentence-transformers scripts, for comparison with embedsweep's scores.

    python benchmarks/plain_recipes.py RECIPE --model FOLDER --data FOLDER [--epochs N] [--eval-steps N]

``--data`` is a folder with stsb_multi_mt/, esxnli/, news_es/, sts2017_es/ and sts2012_en/ in it. Nothing of embedsweep
is imported: reading, training and scoring are written by hand, with the changes that the smaller encoder and the
available files require (see docs/RECIPES.md). Prints one JSON object.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator
from sentence_transformers.sentence_transformer.losses import (
    CoSENTLoss,
    CosineSimilarityLoss,
    Matryoshka2dLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import set_seed

SEED = 42
Rows = list[tuple[str, str, float]]


def read_sts(data: Path, language: str, split: str) -> Rows:
    """Return the STS benchmark: two sentences and a score from 0 to 5, here divided by 5."""
    with (data / "stsb_multi_mt" / f"stsb-{language}-{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(first, second, float(score) / 5) for first, second, score in csv.reader(file)]


def read_sts2017(data: Path) -> Rows:
    """Return SemEval-2017, Spanish."""
    lines = (data / "sts2017_es" / "STS2017.track3.es-es.tsv").read_text(encoding="utf-8").splitlines()
    return [(first, second, float(score) / 5) for first, second, score in (line.split("\t") for line in lines)]


def read_sts2012(data: Path) -> Rows:
    """Return the two available parts of SemEval-2012, without pairs that have no score."""
    rows: Rows = []
    for part in ("MSRvid", "surprise.OnWN"):
        pairs = (data / "sts2012_en" / f"STS.input.{part}.txt").read_text(encoding="utf-8").splitlines()
        scores = (data / "sts2012_en" / f"STS.gs.{part}.txt").read_text(encoding="utf-8").splitlines()
        rows += [
            (*pair.split("\t")[:2], float(score) / 5)  # type: ignore[misc]
            for pair, score in zip(pairs, scores, strict=True)
            if score.strip()
        ]
    return rows


def read_triplets(data: Path) -> list[tuple[str, str, str]]:
    """Return triplets from ESXNLI's Spanish rows, built as the recipe's authors did."""
    lines = (data / "esxnli" / "esxnli.tsv").read_text(encoding="utf-8").split("\n")
    header = lines[0].split("\t")
    known: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in lines[1:]:
        row = dict(zip(header, line.split("\t"), strict=False))
        if row.get("language") != "es":
            continue
        first, second, label = row["sentence1"].strip(), row["sentence2"].strip(), row["gold_label"]
        for one, other in ((first, second), (second, first)):
            if other not in known[one][label]:
                known[one][label].append(other)
    chance = random.Random(SEED)
    triplets = []
    for sentence, related in known.items():
        if related["entailment"] and related["contradiction"]:
            for swapped in (False, True):
                entailed = chance.choice(related["entailment"])
                contradicting = chance.choice(related["contradiction"])
                triplets.append((entailed, sentence, contradicting) if swapped else (sentence, entailed, contradicting))
    return triplets


def read_news(data: Path, model: SentenceTransformer) -> list[tuple[str, str]]:
    """Return articles below 512 tokens with titles below 64: an English tokenizer takes twice as many for Spanish."""
    with (data / "news_es" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["headline"]) for row in csv.DictReader(file)]

    def tokens(texts: list[str]) -> list[int]:
        return [len(ids) for ids in model.tokenizer(texts, truncation=False)["input_ids"]]

    lengths = zip(tokens([text for text, _ in rows]), tokens([title for _, title in rows]), strict=True)
    return [row for row, (text, title) in zip(rows, lengths, strict=True) if text < 512 and title < 64]


def columns(rows: list[Any], *names: str) -> Dataset:
    """Return rows as a dataset with these columns."""
    return Dataset.from_dict({name: list(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)})


def evaluator(rows: Rows, name: str) -> EmbeddingSimilarityEvaluator:
    """Return an evaluator of all four similarities."""
    first, second, scores = (list(column) for column in zip(*rows, strict=True))
    similarities = ["cosine", "euclidean", "manhattan", "dot"]
    return EmbeddingSimilarityEvaluator(
        first, second, scores, name=name, batch_size=64, similarity_fn_names=similarities, write_csv=False
    )


def transformer_and_mean(path: str, max_seq_length: int) -> SentenceTransformer:
    """Return the transformer of a sentence-transformers model with a new mean pooling."""
    transformer = Transformer(path, max_seq_length=max_seq_length)
    return SentenceTransformer(
        modules=[transformer, Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")]
    )


def main() -> None:
    """Train one recipe and print its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=list(RECIPES))
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--eval-steps", type=int)
    options = parser.parse_args()
    set_seed(SEED)
    made = RECIPES[options.recipe](options.model, options.data)
    overrides = {"num_train_epochs": options.epochs, "eval_steps": options.eval_steps}
    arguments = {**made["arguments"], **{key: value for key, value in overrides.items() if value}}
    best_at_end = arguments.pop("best_at_end", None)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SentenceTransformerTrainer(
            model=made["model"],
            args=SentenceTransformerTrainingArguments(
                output_dir=folder,
                seed=SEED,
                eval_strategy="steps",
                save_strategy="steps" if best_at_end else "no",
                **({"load_best_model_at_end": True, "metric_for_best_model": best_at_end} if best_at_end else {}),
                report_to="none",
                disable_tqdm=True,
                **arguments,
            ),
            train_dataset=made["train"],
            loss=made["loss"],
            evaluator=made["dev"],
        )
        before = {key: value for test in (made["dev"], *made["tests"]) for key, value in test(made["model"]).items()}
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
    after = {key: value for test in (made["dev"], *made["tests"]) for key, value in test(made["model"]).items()}
    dev = [
        {"step": entry["step"], "spearman_cosine": entry["eval_dev_spearman_cosine"]}
        for entry in trainer.state.log_history
        if "eval_dev_spearman_cosine" in entry
    ]
    result = {
        "recipe": options.recipe,
        "steps": trainer.state.global_step,
        "seconds": round(seconds),
        "dev": dev,
        "before": before,
        "after": after,
    }
    print(json.dumps(result, indent=1))


def distilbert_sts_es(path: str, data: Path) -> dict[str, Any]:
    """Scored Spanish pairs, squared error of the cosine."""
    model = SentenceTransformer(path)
    return {
        "model": model,
        "train": columns(read_sts(data, "es", "train"), "sentence1", "sentence2", "score"),
        "loss": CosineSimilarityLoss(model),
        "dev": evaluator(read_sts(data, "es", "dev"), "dev"),
        "tests": [evaluator(read_sts(data, "es", "test"), "test")],
        "arguments": {
            "num_train_epochs": 4,
            "per_device_train_batch_size": 16,
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "warmup_steps": 0.1,
            "eval_steps": 0.25,
            "save_steps": 0.25,
            "best_at_end": "eval_dev_spearman_cosine",
        },
    }


def distiluse_mnrl_es(path: str, data: Path) -> dict[str, Any]:
    """All Spanish pairs of train and dev in both directions, ranked."""
    model = transformer_and_mean(path, 512)
    pairs = [row[:2] for split in ("train", "dev") for row in read_sts(data, "es", split)]
    return {
        "model": model,
        "train": columns(pairs + [(second, first) for first, second in pairs], "anchor", "positive"),
        "loss": MultipleNegativesRankingLoss(model, scale=20.0),
        "dev": evaluator(read_sts(data, "es", "dev"), "dev"),
        "tests": [evaluator(read_sts(data, "es", "test"), "test")],
        "arguments": {
            "num_train_epochs": 3,
            "per_device_train_batch_size": 16,
            "batch_sampler": "no_duplicates",
            "dataloader_drop_last": True,
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "warmup_steps": 271,
            "eval_steps": 906,
        },
    }


def bertin_nli_es(path: str, data: Path) -> dict[str, Any]:
    """Triplets from Spanish inference pairs, ranked with hard negatives."""
    model = SentenceTransformer(path)
    model.max_seq_length = 128
    return {
        "model": model,
        "train": columns(read_triplets(data), "anchor", "positive", "negative"),
        "loss": MultipleNegativesRankingLoss(model, scale=20.0),
        "dev": evaluator(read_sts(data, "es", "dev"), "dev"),
        "tests": [evaluator(read_sts2017(data), "sts2017-es"), evaluator(read_sts2012(data), "sts2012-en")],
        "arguments": {
            "num_train_epochs": 10,
            "per_device_train_batch_size": 64,
            "batch_sampler": "no_duplicates",
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "warmup_steps": 0.05,
            "eval_steps": 26,
            "save_steps": 26,
            "best_at_end": "eval_dev_spearman_cosine",
        },
    }


def distilbert_2d_matryoshka_en(path: str, data: Path) -> dict[str, Any]:
    """Scored English pairs, CoSENT over fewer layers and fewer dimensions."""
    model = SentenceTransformer(path)
    loss = Matryoshka2dLoss(
        model,
        CoSENTLoss(model, scale=20.0),
        matryoshka_dims=[384, 256, 128, 64],
        matryoshka_weights=[1, 1, 1, 1],
        layer_weighting="linear",
    )
    return {
        "model": model,
        "train": columns(read_sts(data, "en", "train"), "sentence1", "sentence2", "score"),
        "loss": loss,
        "dev": evaluator(read_sts(data, "en", "dev"), "dev"),
        "tests": [evaluator(read_sts(data, "en", "test"), "test")],
        "arguments": {
            "num_train_epochs": 4,
            "per_device_train_batch_size": 16,
            "learning_rate": 5e-5,
            "weight_decay": 0.0,
            "warmup_steps": 0.1,
            "eval_steps": 100,
            "logging_steps": 100,
        },
    }


def bertin_news_es(path: str, data: Path) -> dict[str, Any]:
    """Articles and their titles, ranked."""
    model = SentenceTransformer(path)
    model.max_seq_length = 512
    return {
        "model": model,
        "train": columns(read_news(data, model), "anchor", "positive"),
        "loss": MultipleNegativesRankingLoss(model, scale=20.0),
        "dev": evaluator(read_sts(data, "es", "dev"), "dev"),
        "tests": [evaluator(read_sts(data, "es", "test"), "test")],
        "arguments": {
            "num_train_epochs": 2,
            "per_device_train_batch_size": 16,
            "learning_rate": 2e-5,
            "weight_decay": 0.01,
            "warmup_steps": 0.1,
            "eval_steps": 0.5,
            "save_steps": 0.5,
            "best_at_end": "eval_dev_spearman_max",
        },
    }


RECIPES = {
    "distilbert_sts_es": distilbert_sts_es,
    "distiluse_mnrl_es": distiluse_mnrl_es,
    "bertin_nli_es": bertin_nli_es,
    "distilbert_2d_matryoshka_en": distilbert_2d_matryoshka_en,
    "bertin_news_es": bertin_news_es,
}


if __name__ == "__main__":
    main()
