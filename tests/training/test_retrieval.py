"""Training that is steered by retrieval: the scores of a plain script, early ends and resuming."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from embedsweep.config.trial import SPLITS, TrialConfig
from embedsweep.data.load import load_retrieval, load_train
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.train import Outcome
from embedsweep.validation.single import pass_single
from tests.training.cases import RecordingListener, crashing_at, train_config

WORDS = ("loss=mnrl", "data=demo_retrieval", "evaluation=retrieval", "trainer.device=cpu", "dataloader.batch_size=8")
STEPS = ("optimizer.lr=2e-3", "trainer.max_steps=9", "trainer.eval_every=3")
ENDS_EARLY = (
    "optimizer.lr=2e-2",
    "optimizer.warmup=2",
    "trainer.max_steps=30",
    "trainer.eval_every=2",
    "trainer.early_stopping.patience=3",
)
OF_LIBRARY = {
    **{f"{name}_at_{k}": f"cosine_{name}@{k}" for name in ("accuracy", "precision", "recall") for k in (1, 5)},
    "mrr_at_10": "cosine_mrr@10",
    "map_at_100": "cosine_map@100",
    "ndcg_at_10": "cosine_ndcg@10",
}
"""Our names of metrics -> the library's."""


def config_of(*words: str) -> TrialConfig:
    return pass_single([*WORDS, *words]).config


def pairs_of_the_demo(folder: Path) -> tuple[str, ...]:
    """Write the relevant passages as pairs without grades, which the library's nDCG does not know; return the words."""
    data = config_of().data
    for split in SPLITS:
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("anchor", "positive"), *load_retrieval(data, split).relevant_pairs])
    return ("data=csv", f"data.path={folder}", "data.shape=positive_pairs", "data.columns=[anchor,positive]")


def test_scores_at_each_evaluation_are_those_of_a_plain_script(tmp_path: Path) -> None:
    config = config_of(*pairs_of_the_demo(tmp_path), *STEPS)
    dev, rows = load_retrieval(config.data, "dev"), load_train(config.data).texts
    evaluator = InformationRetrievalEvaluator(
        queries=dict(zip(dev.query_ids, dev.queries, strict=True)),
        corpus=dict(zip(dev.document_ids, dev.documents, strict=True)),
        relevant_docs={
            query: {document for document, relevance in judged.items() if relevance > 0}
            for query, judged in dev.relevant.items()
        },
        name="dev",
        write_csv=False,
    )
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=str(tmp_path / "plain"),
            max_steps=9,
            per_device_train_batch_size=8,
            learning_rate=2e-3,
            weight_decay=0.01,
            warmup_steps=0.1,
            seed=42,
            use_cpu=True,
            eval_strategy="steps",
            eval_steps=3,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"anchor": list(rows[0]), "positive": list(rows[1])}),
        loss=MultipleNegativesRankingLoss(model),
        evaluator=evaluator,
    )
    trainer.train()
    expected = {
        entry["step"]: {ours: entry[f"eval_dev_{name}"] for ours, name in OF_LIBRARY.items()}
        for entry in trainer.state.log_history
        if "eval_dev_cosine_mrr@10" in entry
    }
    listener = RecordingListener()
    outcome, _ = train_config(config, tmp_path / "ours", listener)
    assert outcome.best_step == max(expected, key=lambda step: expected[step]["ndcg_at_10"])
    assert list(expected) == list(listener.evaluations) == [3, 6, 9]
    for step, metrics in expected.items():
        ours = {name: listener.evaluations[step][f"dev/{name}_cosine"] for name in metrics}
        assert ours == pytest.approx(metrics, abs=1e-6)
    assert len({metrics["mrr_at_10"] for metrics in expected.values()}) > 1  # it trained


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    outcome, _ = train_config(config_of(*ENDS_EARLY), tmp_path_factory.mktemp("undisturbed"))
    return outcome


@pytest.mark.slow
def test_patience_counts_evaluations_of_the_main_metric(undisturbed: Outcome) -> None:
    values = [entry["eval_dev_ndcg_at_10_cosine"] for entry in undisturbed.log if "eval_dev_mrr_at_10_dot" in entry]
    assert undisturbed.steps == 2 * len(values) < 30
    assert undisturbed.best_step == 2 * (values.index(max(values)) + 1) == undisturbed.steps - 6
    assert undisturbed.dev["dev/ndcg_at_10_cosine"] == pytest.approx(max(values), abs=1e-6)


@pytest.mark.slow
def test_a_resumed_training_equals_an_undisturbed_one(undisturbed: Outcome, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError):
        train_config(config_of(*ENDS_EARLY), tmp_path, crashing_at(4))
    listener = RecordingListener()
    outcome, _ = train_config(config_of(*ENDS_EARLY), tmp_path, listener)
    assert min(listener.evaluations) == 4
    assert (outcome.steps, outcome.best_step) == (undisturbed.steps, undisturbed.best_step)
    assert outcome.dev == undisturbed.dev


@pytest.mark.slow
def test_a_pruned_training_ends_with_the_scores_it_was_pruned_by(tmp_path: Path) -> None:
    listener = RecordingListener(prune_at=6)
    outcome, _ = train_config(config_of(*STEPS), tmp_path, listener)
    assert (outcome.pruned, outcome.best_step, outcome.steps) == (True, 6, 6)
    assert outcome.dev == listener.evaluations[6]
