"""The table of losses. A new loss is one row here and one YAML file in ``conf/loss``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any, Literal

from embedsweep.config.types import Bounds, Count, NotNegative, Positive, Ratio
from embedsweep.losses import builders, datasets
from embedsweep.losses.builders import distance_of, library
from embedsweep.losses.rows import Across, InBatch, Loss

_Cosine = Annotated[float, Bounds(at_least=-1, at_most=1)]
_AllOrCount = Annotated[int, Bounds(at_least=-1)]
"""-1 means all of them."""
_BatchDistance = Literal["cosine_distance", "euclidean_distance"]
_batch_distance = distance_of("BatchHardTripletLossDistanceFunction")
_Similarity = Literal["pairwise_dot_score", "pairwise_cos_sim"]

_SCALE: Mapping[str, Any] = {"scale": Positive}
_SIAMESE: Mapping[str, Any] = {
    "distance_metric": Literal["cosine_distance", "euclidean", "manhattan"],
    "margin": Positive,
}
_IN_BATCH: Mapping[str, Any] = {"distance_metric": _BatchDistance, "margin": Positive}
_TEACHER: Mapping[str, Any] = {"teacher": str, "teacher_batch_size": Count}
_TEACHER_ONLY = tuple(_TEACHER)
_MATRYOSHKA: Mapping[str, Any] = {
    "matryoshka_dims": tuple[Count, ...],
    "matryoshka_weights": tuple[Positive, ...] | None,
    "n_dims_per_step": _AllOrCount,
}
_LAYERS: Mapping[str, Any] = {
    "n_layers_per_step": _AllOrCount,
    "last_layer_weight": NotNegative,
    "prior_layers_weight": NotNegative,
    "kl_div_weight": NotNegative,
    "kl_temperature": NotNegative,
    "layer_weighting": Literal["uniform", "log", "linear"],
}


def _no_cut(why: str) -> dict[str, str]:
    return {"matryoshka": why, "matryoshka2d": why}


def _no_regularizer(why: str) -> dict[str, str]:
    return {"global_orthogonal_regularization": why}


_EMBEDS_ITSELF = _no_regularizer("it embeds its texts by itself, so that there are no embeddings to share")
_LABELS = _no_regularizer("it matches a teacher's embeddings with its texts only where it embeds them by itself")
_CT_CUT = _no_cut("its second encoder's embeddings are not cut")

_OWN_WEIGHTS = "has weights of its own, which are initialised again for each trial"
_CHOOSES = "computes different things for different values in a batch"
_MOVES = "copies a number to the device in each step"
_DRAWS_LAYERS = "draws the layers of each step at random"
_DRAWS_DIMS = (-1, "draws the dimensions of each step at random")
_PROJECTS = (None, _OWN_WEIGHTS)

_of_classes = partial(Loss, ("class_texts",), InBatch.COMPARED, groups_by_label=True, across=Across.EMBEDDINGS)
"""A row of a loss that takes its triplets from the classes in a batch."""
_distilled = partial(Loss, dataset_parameters=_TEACHER_ONLY, other_model="teacher")
"""A row of a loss that is trained on a teacher's labels."""
_skips_layers = partial(
    Loss,
    (),
    InBatch.INDEPENDENT,
    wraps=True,
    needs_transformer="there are no layers to leave out",
    not_captured=_DRAWS_LAYERS,
)
"""A row of a loss that leaves out layers of the transformer."""
_NOT_AROUND_LAYERS = {
    "adaptive_layer": "its layers are left out already",
    **_no_regularizer("it has no single embedding"),
}

LOSSES: Mapping[str, Loss] = {
    "mnrl": Loss(
        ("triplets", "positive_pairs", "tuples"), InBatch.CACHED, _SCALE, builders.mnrl, across=Across.EMBEDDINGS
    ),
    "mnrl_symmetric": Loss(
        ("positive_pairs",), InBatch.CACHED, _SCALE, builders.mnrl_symmetric, across=Across.EMBEDDINGS
    ),
    "gist": Loss(
        ("triplets", "positive_pairs", "tuples"),
        InBatch.CACHED,
        {
            "guide": str,
            "temperature": Positive,
            "margin_strategy": Literal["absolute", "relative"],
            "margin": NotNegative,
            "contrast_anchors": bool,
            "contrast_positives": bool,
        },
        builders.gist,
        not_inside=_EMBEDS_ITSELF,
        other_model="guide",
        needs_transformer="the guide decodes the texts from a transformer's token ids",
        across=Across.ITSELF,
        only_cached=("tuples",),
        not_captured="tokenises the texts again for its guide",
    ),
    "megabatch_margin": Loss(
        ("positive_pairs",),
        InBatch.CACHED,
        {"positive_margin": _Cosine, "negative_margin": _Cosine},
        builders.megabatch_margin,
        not_inside=_EMBEDS_ITSELF,
        not_captured=_MOVES,
    ),
    "cosent": Loss(("scored_pairs",), InBatch.COMPARED, _SCALE, library("CoSENTLoss"), across=Across.EMBEDDINGS),
    "angle": Loss(
        ("scored_pairs", "triplets", "tuples"),
        InBatch.COMPARED,
        _SCALE,
        library("AnglELoss"),
        across=Across.EMBEDDINGS,
    ),
    "cosine": Loss(
        ("scored_pairs",), InBatch.INDEPENDENT, {}, library("CosineSimilarityLoss"), across=Across.EMBEDDINGS
    ),
    "contrastive": Loss(
        ("binary_pairs",),
        InBatch.INDEPENDENT,
        _SIAMESE,
        library("ContrastiveLoss", distance_metric=distance_of("SiameseDistanceMetric")),
        across=Across.EMBEDDINGS,
    ),
    "online_contrastive": Loss(
        ("binary_pairs",),
        InBatch.COMPARED,
        _SIAMESE,
        library("OnlineContrastiveLoss", distance_metric=distance_of("SiameseDistanceMetric")),
        across=Across.EMBEDDINGS,
        not_captured=_CHOOSES,
    ),
    "softmax": Loss(
        ("class_pairs",),
        InBatch.INDEPENDENT,
        {
            "concatenation_sent_rep": bool,
            "concatenation_sent_difference": bool,
            "concatenation_sent_multiplication": bool,
        },
        builders.softmax,
        not_inside={**_no_cut("its classifier takes embeddings of one width"), **_EMBEDS_ITSELF},
        not_captured=_OWN_WEIGHTS,
    ),
    "triplet": Loss(
        ("triplets",),
        InBatch.INDEPENDENT,
        {"distance_metric": Literal["cosine", "euclidean", "manhattan"], "triplet_margin": Positive},
        library("TripletLoss", distance_metric=distance_of("TripletDistanceMetric")),
        across=Across.EMBEDDINGS,
    ),
    "batch_all_triplet": _of_classes(
        _IN_BATCH, library("BatchAllTripletLoss", distance_metric=_batch_distance), not_captured=_CHOOSES
    ),
    "batch_hard_triplet": _of_classes(_IN_BATCH, library("BatchHardTripletLoss", distance_metric=_batch_distance)),
    "batch_semi_hard_triplet": _of_classes(
        _IN_BATCH, library("BatchSemiHardTripletLoss", distance_metric=_batch_distance), not_captured=_MOVES
    ),
    "batch_hard_soft_margin_triplet": _of_classes(
        {"distance_metric": _BatchDistance}, library("BatchHardSoftMarginTripletLoss", distance_metric=_batch_distance)
    ),
    "mse": _distilled(
        ("texts", "positive_pairs"),
        InBatch.INDEPENDENT,
        {**_TEACHER, "projection_dim": Count | None},
        library("MSELoss"),
        dataset=datasets.with_embeddings,
        not_inside=_LABELS,
        not_captured_with={"projection_dim": _PROJECTS},
    ),
    "embed_distill": _distilled(
        ("texts", "positive_pairs"),
        InBatch.INDEPENDENT,
        {
            **_TEACHER,
            "distance_metric": Literal["cosine", "l2", "mse"],
            "projection_dim": Count | None,
        },
        library("EmbedDistillLoss"),
        dataset=datasets.with_embeddings,
        not_inside=_LABELS,
        not_captured_with={"projection_dim": _PROJECTS},
    ),
    "margin_mse": _distilled(
        ("triplets", "tuples"),
        InBatch.INDEPENDENT,
        {**_TEACHER, "similarity_fct": _Similarity},
        library("MarginMSELoss", similarity_fct=builders.similarity_function),
        dataset=datasets.with_margins,
        across=Across.EMBEDDINGS,
    ),
    "distill_kl_div": _distilled(
        ("triplets", "tuples"),
        InBatch.INDEPENDENT,
        {**_TEACHER, "similarity_fct": _Similarity, "temperature": Positive},
        library("DistillKLDivLoss", similarity_fct=builders.similarity_function),
        dataset=datasets.with_scores,
        across=Across.EMBEDDINGS,
    ),
    "denoising_autoencoder": Loss(
        ("texts",),
        InBatch.INDEPENDENT,
        {"del_ratio": Ratio},
        builders.denoising_autoencoder,
        dataset=datasets.damaged,
        dataset_parameters=("del_ratio",),
        average="words",
        not_inside={**_no_cut("its decoder takes embeddings of one width"), **_EMBEDS_ITSELF},
        needs_transformer="its decoder is the transformer itself",
        needs_whole_model="its decoder shares the encoder's own weights",
        needs_token_width=True,
        not_captured=_OWN_WEIGHTS,
    ),
    "contrastive_tension": Loss(
        ("texts",),
        InBatch.INDEPENDENT,
        {"pos_neg_ratio": Annotated[int, Bounds(at_least=2)]},
        library("ContrastiveTensionLoss"),
        dataset=datasets.tension_pairs,
        dataset_parameters=("pos_neg_ratio",),
        average="nothing",
        not_inside={**_CT_CUT, **_EMBEDS_ITSELF},
        not_captured=_OWN_WEIGHTS,
    ),
    "contrastive_tension_in_batch": Loss(
        ("texts",),
        InBatch.COMPARED,
        _SCALE,
        library("ContrastiveTensionLossInBatchNegatives"),
        not_inside={**_CT_CUT, **_EMBEDS_ITSELF},
        not_captured=_OWN_WEIGHTS,
    ),
    "matryoshka": Loss(
        (),
        InBatch.INDEPENDENT,
        _MATRYOSHKA,
        library("MatryoshkaLoss"),
        wraps=True,
        wraps_cached=True,
        not_inside={**_no_cut("its dims are cut already"), **_no_regularizer("it has no single embedding")},
        across=Across.EMBEDDINGS,
        not_captured_with={"n_dims_per_step": _DRAWS_DIMS},
    ),
    "adaptive_layer": _skips_layers(
        _LAYERS,
        library("AdaptiveLayerLoss"),
        not_inside={
            **_no_cut("its layers would not be run for every dim: put it outside, or take loss=matryoshka2d"),
            **_NOT_AROUND_LAYERS,
        },
    ),
    "matryoshka2d": _skips_layers(
        {**_MATRYOSHKA, **_LAYERS},
        library("Matryoshka2dLoss"),
        not_inside={**_no_cut("its dims are cut already"), **_NOT_AROUND_LAYERS},
    ),
    "global_orthogonal_regularization": Loss(
        (),
        InBatch.COMPARED,
        {
            "mean_weight": NotNegative,
            "second_moment_weight": NotNegative,
            "aggregation": Literal["mean", "sum"],
        },
        builders.global_orthogonal_regularization,
        wraps=True,
        not_inside=_no_regularizer("its embeddings are regularised already"),
    ),
}
