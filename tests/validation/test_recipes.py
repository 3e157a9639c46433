"""The published systems: what ``--cfg job`` shows is what their cards say."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from embedsweep.cli import main
from embedsweep.config.compose import shipped_conf
from embedsweep.config.values import value_at

DISTILBERT_STS_ES = {
    # The card: the base model and the data. The rest is the library's STS script of 2021.
    "model.path": "distilbert/distilbert-base-uncased",
    "data.hub": "PhilipMay/stsb_multi_mt",
    "data.language": "es",
    "data.score_range": [0, 5],
    "model.pooling": "mean",
    "loss.name": "cosine",
    "dataloader.batch_size": 16,
    "dataloader.batch_sampler": "batch_sampler",
    "trainer.epochs": 4,
    "trainer.eval_every": 0.25,
    "trainer.load_best_model_at_end": True,
    "optimizer.name": "adamw",
    "optimizer.lr": 2e-5,
    "optimizer.weight_decay": 0.01,
    "optimizer.schedule": "linear",
    "optimizer.warmup": 0.1,
    "study.objective": None,  # the evaluation's main metric: dev/spearman_cosine
}

DISTILUSE_MNRL_ES = {
    # 'SentenceTransformer( (0): Transformer({'max_seq_length': 512 ... (1): Pooling({... 768 ... mean': no Dense.
    "model.path": "sentence-transformers/distiluse-base-multilingual-cased-v2",
    "model.parts": "transformer",
    "model.pooling": "mean",
    "model.dense": None,
    "model.max_seq_length": 512,
    # 'NoDuplicatesDataLoader of length 906 with parameters: {'batch_size': 16}': 906 x 16 = 14,496 of 14,498.
    "dataloader.batch_sampler": "no_duplicates",
    "dataloader.batch_size": 16,
    "dataloader.drop_last": True,
    "data.hub": "PhilipMay/stsb_multi_mt",
    "data.language": "es",
    "data.splits.train": ["train", "dev"],
    "data.convert.positive_threshold": 0.0,
    "data.convert.both_directions": True,
    # "MultipleNegativesRankingLoss with parameters: {'scale': 20.0, 'similarity_fct': 'cos_sim'}"
    "loss.name": "mnrl",
    "loss.scale": 20.0,
    # The parameters of fit()
    "trainer.epochs": 3,
    "optimizer.max_grad_norm": 1.0,
    "optimizer.name": "adamw",
    "optimizer.lr": 2e-5,
    "optimizer.schedule": "linear",
    "optimizer.warmup": 271,
    "optimizer.weight_decay": 0.01,
    "trainer.load_best_model_at_end": False,
    "study.objective": "dev/spearman_max",
}

BERTIN_NLI_ES = {
    "model.path": "bertin-project/bertin-roberta-base-spanish",
    "model.pooling": "mean",
    "model.dense": None,
    "model.dense_activation": "tanh",
    "model.max_seq_length": 514,
    "data.shape": "class_pairs",
    "data.convert.to": "triplets",
    "dataloader.batch_sampler": "no_duplicates",
    "dataloader.batch_size": 64,
    "loss.name": "mnrl",
    "loss.scale": 20.0,
    "trainer.epochs": 10,
    "trainer.eval_every": 1818,
    "optimizer.max_grad_norm": 1.0,
    "optimizer.name": "adamw",
    "optimizer.lr": 2e-5,
    "optimizer.schedule": "linear",
    "optimizer.warmup": 909,
    "optimizer.weight_decay": 0.01,
    "evaluation.test": "sts2015-es",
}

DISTILBERT_2D_MATRYOSHKA_EN = {
    "model.path": "distilbert/distilbert-base-uncased",
    "model.pooling": "mean",
    "data.hub": "sentence-transformers/stsb",
    "data.score_range": [0, 1],
    "loss.name": "matryoshka2d",
    "loss.inner.name": "cosent",
    "loss.inner.scale": 20.0,
    "loss.n_layers_per_step": 1,
    "loss.n_dims_per_step": 1,
    "loss.last_layer_weight": 1.0,
    "loss.prior_layers_weight": 1.0,
    "loss.kl_div_weight": 1.0,
    "loss.kl_temperature": 0.3,
    "loss.layer_weighting": "linear",
    "loss.matryoshka_dims": [768, 512, 256, 128, 64],
    "loss.matryoshka_weights": [1, 1, 1, 1, 1],
    # All hyperparameters of the card that are options here.
    "dataloader.batch_size": 16,
    "dataloader.batch_sampler": "batch_sampler",
    "dataloader.drop_last": False,
    "dataloader.num_workers": 0,
    "dataloader.multi_dataset_batch_sampler": "proportional",
    "optimizer.name": "adamw",
    "optimizer.lr": 5e-5,
    "optimizer.weight_decay": 0.0,
    "optimizer.max_grad_norm": 1.0,
    "optimizer.schedule": "linear",
    "optimizer.warmup": 0.1,
    "trainer.epochs": 4,
    "trainer.max_steps": None,
    "trainer.seed": 42,
    "trainer.precision": "fp16",
    "trainer.eval_every": 100,
    "trainer.log_every": 100,
    "trainer.load_best_model_at_end": False,
}

BERTIN_NEWS_ES = {
    "model.path": "bertin-project/bertin-roberta-base-spanish",
    "model.pooling": "mean",
    "data.shape": "positive_pairs",
    "data.max_tokens": [256, 32],
    "data.limit": 3000,
    "dataloader.batch_size": 16,
    "dataloader.batch_sampler": "batch_sampler",
    "loss.name": "mnrl",
    "loss.scale": 20.0,
    "trainer.epochs": 2,
    "trainer.eval_every": 0.5,
    "optimizer.warmup": 0.1,
    "evaluation.dev": "stsb-es-dev",
    "evaluation.test": "stsb-es-test",
}

RECIPES: dict[str, dict[str, Any]] = {
    "distilbert_sts_es": DISTILBERT_STS_ES,
    "distiluse_mnrl_es": DISTILUSE_MNRL_ES,
    "bertin_nli_es": BERTIN_NLI_ES,
    "distilbert_2d_matryoshka_en": DISTILBERT_2D_MATRYOSHKA_EN,
    "bertin_news_es": BERTIN_NEWS_ES,
}


def test_every_recipe_is_looked_at() -> None:
    files = {path.stem for path in (shipped_conf() / "recipe").glob("*.yaml")}
    assert files == {"none", *RECIPES}
    assert len(files) == 6


@pytest.mark.parametrize("name", RECIPES)
def test_cfg_job_shows_the_hyperparameters_of_the_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", f"recipe={name}", "--cfg", "job"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert {key: value_at(shown, key) for key in RECIPES[name]} == RECIPES[name]
    assert shown["recipe"] == {"name": name}


@pytest.mark.parametrize("name", RECIPES)
def test_the_file_says_what_it_reproduces_and_how(name: str) -> None:
    header = (shipped_conf() / "recipe" / f"{name}.yaml").read_text(encoding="utf-8").partition("defaults:")[0]
    assert f"python train.py recipe={name}" in header
    for word in ("Reported", "Published", "offline"):
        assert word in header
