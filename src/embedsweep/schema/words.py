"""The words that values are chosen from, each list in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

Similarity = Literal["cosine", "euclidean", "manhattan", "dot"]
Precision = Literal["fp32", "fp16", "bf16"]
Switch = Literal["auto", True, False]
Schedule = Literal["linear", "cosine", "constant"]
BatchSampler = Literal["batch_sampler", "no_duplicates", "group_by_label"]
MultiDatasetBatchSampler = Literal["proportional", "round_robin"]
Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
Activation = Literal["tanh", "gelu", "relu", "identity"]
Parts = Literal["all", "transformer"]
DataFormat = Literal["delimited", "json_lines", "parquet", "semeval", "generated"]
KeepModels = Literal["best", "all", "none"]
SamplerName = Literal["tpe", "random", "gp", "cmaes", "qmc", "nsga2", "nsga3", "exhaustive"]
PrunerName = Literal["none", "median", "successive_halving", "hyperband", "wilcoxon", "patience"]
Duplicates = Literal["reuse", "replicate"]
WorkersName = Literal["inline", "local"]
Split = Literal["train", "dev", "test"]

Shape = Literal["scored_pairs", "positive_pairs", "triplets", "binary_pairs", "class_pairs", "class_texts", "texts"]
"""What one example consists of; ``data.shapes`` has its columns and says it in words."""

SHAPES: tuple[Shape, ...] = get_args(Shape)
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)
SPLITS: tuple[Split, ...] = get_args(Split)

DEV_METRICS: tuple[str, ...] = tuple(
    f"dev/{correlation}_{similarity}"
    for correlation in ("pearson", "spearman")
    for similarity in (*SIMILARITIES, "max")
)
"""What a trial is scored by and its best checkpoint chosen by; all are maximised."""

DIRECTIONS: Mapping[str, Literal["maximize", "minimize"]] = {
    **dict.fromkeys(DEV_METRICS, "maximize"),
    "emissions/co2eq_kg": "minimize",
    "emissions/energy_kwh": "minimize",
    "emissions/duration_s": "minimize",
    "throughput/examples_per_s": "maximize",
}
"""What ``study.objective`` may be, and which way is better."""
