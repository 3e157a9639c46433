"""A trial's result and data, and what reads a card."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import DatasetDict
from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData
from sentence_transformers.base.model_card import get_losses
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

from embedsweep.config.result import Emissions, TrialResult
from embedsweep.config.trial import LossConfig
from embedsweep.data.examples import Examples, Splits
from embedsweep.data.scored import Pairs
from embedsweep.losses.nesting import training_dataset
from tests.configs import DEV_METRICS

DEV = {name: 0.5 + index / 100 for index, name in enumerate(DEV_METRICS)}
TEST = {name.replace("dev/", "test/"): value + 0.2 for name, value in DEV.items()}
BEFORE = {name: value - 0.3 for name, value in {**DEV, **TEST}.items()}
RESULT = TrialResult(
    objective=DEV["dev/spearman_cosine"],
    dev=DEV,
    test={},
    before={},
    benchmarks={},
    best_step=40,
    steps=90,
    emissions=Emissions(0.00125, 0.0042, 360.0, "FRA", ("cpu power estimated",)),
    pruned=False,
    conversion="positive pairs: score >= 0.8",
    examples_per_s=12.5,
)
TRAIN = Examples(
    "scored_pairs",
    (("one two", "three", "a | b <i>", "four"), ("x", "yy", "zzz", "api_key=abcdef123456")),
    (0.0, 0.5, 1.0, 0.25),
    None,
    "/home/somebody/private data/train.csv",
    "pairs from nowhere",
)
PAIRS = Pairs(("a b", "c"), ("d", "e"), (0.0, 1.0), "/home/somebody/dev.csv")
SPLITS = Splits(TRAIN, PAIRS, PAIRS)
COSENT = LossConfig("cosent", {}, None)
OLD_CARD = Path(__file__).parent / "cards" / "34dd685.md"
"""Written by ``-m loss=cosent study.name=old optimizer.lr=1e-4,3e-4 data.limit=200 trainer.max_steps=4`` of 34dd685."""
Write = Callable[..., str]


def as_trained(
    model: SentenceTransformer, datasets: Mapping[str, tuple[Examples, torch.nn.Module]]
) -> SentenceTransformer:
    """Fill a model's card data as the library's trainer does."""
    data = SentenceTransformerModelCardData(local_files_only=True)
    data.register_model(model)
    trained = {name: training_dataset(COSENT, examples, model, seed=1) for name, (examples, _) in datasets.items()}
    several = len(datasets) > 1
    data.train_datasets = data.extract_dataset_metadata(
        DatasetDict(trained) if several else next(iter(trained.values())),
        [],
        {name: loss for name, (_, loss) in datasets.items()} if several else next(iter(datasets.values()))[1],
        "train",
    )
    data.set_losses(get_losses({name: loss for name, (_, loss) in datasets.items()}))
    data.widget = [{"source_sentence": "A man is here, password=hunter22", "sentences": ["A dog."]}]
    data.all_hyperparameters = {"max_steps": 20, "seed": 42}
    data.non_default_hyperparameters = {"max_steps": 20}
    data.training_logs = [{"Epoch": 1.0, "Step": 40, "Training Loss": 0.5}]
    data.set_best_model_step(40)
    # The library keeps the scores of its last evaluation, which are not those of the checkpoint that is kept.
    evaluator = EmbeddingSimilarityEvaluator(["a"], ["b"], [1.0], name="dev")
    data.set_evaluation_metrics(evaluator, {"dev_spearman_cosine": 0.1111})
    model.model_card_data = data
    return model


def front_matter(folder: Path) -> dict[str, Any]:
    _, matter, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    data: dict[str, Any] = yaml.safe_load(matter)
    return data


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)[2]


def metadata_scores(folder: Path) -> dict[str, float]:
    """Return the scores of the model-index under this project's names."""
    (index,) = front_matter(folder)["model-index"]
    return {
        f"{result['dataset']['split']}/{metric['type']}": metric["value"]
        for result in index["results"]
        for metric in result["metrics"]
    }


def part(text: str, heading: str) -> str:
    """Return the text from a heading to the next of its level or above, or to a marker."""
    level = len(heading.split(maxsplit=1)[0])
    begin = re.search(f"^{re.escape(heading)}$", text, re.MULTILINE)
    assert begin is not None, f"no {heading}"
    end = re.search(rf"^(#{{1,{level}}} |<!-- embedsweep: )", text[begin.end() :], re.MULTILINE)
    return text[begin.end() : begin.end() + end.start() if end else None]


def rows(section: str) -> list[list[str]]:
    lines = [line.strip() for line in section.splitlines()]
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|") and ":---" not in line]
