"""Configurations that tests start from."""

from __future__ import annotations

from embedsweep.config.metrics import dev_metrics
from embedsweep.config.negatives import NegativesConfig
from embedsweep.config.trial import ConvertConfig, DataConfig, LoraConfig, ModelConfig, StsConfig

SCORED = DataConfig(
    name="csv",
    path=None,
    hub=None,
    revision=None,
    language=None,
    languages=None,
    format="delimited",
    files="{split}.csv",
    splits={"train": ("train",), "dev": ("dev",), "test": ("test",)},
    shape="scored_pairs",
    columns=("sentence1", "sentence2", "score"),
    where={},
    titles=False,
    labels=None,
    delimiter=",",
    encoding="utf-8",
    quoting="auto",
    score_range=(0.0, 5.0),
    max_tokens=None,
    convert=ConvertConfig(to=None, positive_threshold=0.8, both_directions=False, seed=42),
    negatives=NegativesConfig(
        count=0,
        range_min=0,
        range_max=None,
        margin=None,
        relative_margin=None,
        max_score=None,
        sampling="top",
        miner=None,
        use_faiss=False,
        missing="repeat",
        strictest={},
        seed=42,
    ),
    drop_leaked=False,
    limit=None,
    also={},
)
"""Scored pairs of delimited files with a header."""

EVALUATION = StsConfig(
    name="sts", batch_size=64, dev=None, test=None, benchmarks=(), watch=(), path=None, dims=(), before=False
)
"""The data's own dev and test."""

DEV_METRICS = dev_metrics(EVALUATION)
"""What a trial may be chosen by: ``dev/pearson_cosine``, ..."""

NO_LORA = LoraConfig(rank=None, alpha=16, dropout=0.0, target_modules=None)
PLAIN = ModelConfig(
    name="pretrained",
    path=None,
    revision=None,
    parts="all",
    static_dim=None,
    pooling=None,
    dense=None,
    dense_activation="tanh",
    max_seq_length=None,
    prompts={},
    default_prompt=None,
    prompt_rule="roles",
    save_dtype="float32",
    lora=NO_LORA,
    lr=2e-5,
    trust_remote_code=False,
)
"""A pretrained model, unchanged."""
