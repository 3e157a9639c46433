"""Losses on two texts with a score, a 0 or 1, or a class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedsweep.losses.rows import Ingredients
from embedsweep.losses.teachers import load_encoder

if TYPE_CHECKING:
    from torch import nn

SIAMESE_DISTANCES = ("cosine_distance", "euclidean", "manhattan")
"""The members of sentence-transformers' ``SiameseDistanceMetric``, in small letters."""


def cosent(given: Ingredients) -> nn.Module:
    """CoSENTLoss."""
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    return CoSENTLoss(given.model, **given.parameters)


def angle(given: Ingredients) -> nn.Module:
    """AnglELoss, https://aclanthology.org/2024.acl-long.101."""
    from sentence_transformers.sentence_transformer.losses import AnglELoss

    return AnglELoss(given.model, **given.parameters)


def cosine(given: Ingredients) -> nn.Module:
    """CosineSimilarityLoss."""
    from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss

    return CosineSimilarityLoss(given.model, **given.parameters)


def contrastive(given: Ingredients) -> nn.Module:
    """ContrastiveLoss (Hadsell et al., 2006)."""
    from sentence_transformers.sentence_transformer.losses import ContrastiveLoss

    return ContrastiveLoss(given.model, **_with_pair_distance(given))


def online_contrastive(given: Ingredients) -> nn.Module:
    """OnlineContrastiveLoss: ContrastiveLoss over the batch's hard pairs."""
    from sentence_transformers.sentence_transformer.losses import OnlineContrastiveLoss

    return OnlineContrastiveLoss(given.model, **_with_pair_distance(given))


def _with_pair_distance(given: Ingredients) -> dict[str, Any]:
    from sentence_transformers.sentence_transformer.losses import SiameseDistanceMetric

    word: str = given.parameters["distance_metric"]
    return {**given.parameters, "distance_metric": getattr(SiameseDistanceMetric, word.upper())}


def softmax(given: Ingredients) -> nn.Module:
    """SoftmaxLoss (https://arxiv.org/abs/1908.10084): a classifier of its own over both embeddings."""
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

    width = given.model.get_embedding_dimension()
    return SoftmaxLoss(given.model, embedding_dimension=width, num_labels=given.n_classes, **given.parameters)


MARGIN_STRATEGIES = ("absolute", "relative")


def mnrl(given: Ingredients) -> nn.Module:
    """MultipleNegativesRankingLoss (https://arxiv.org/abs/1705.00652), or its cached form."""
    return _mnrl(given)


def mnrl_symmetric(given: Ingredients) -> nn.Module:
    """MultipleNegativesSymmetricRankingLoss: the library's own class of that name is these arguments, deprecated."""
    return _mnrl(given, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")


def _mnrl(given: Ingredients, **fixed: Any) -> nn.Module:
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    if given.micro_batch_size is None:
        return MultipleNegativesRankingLoss(given.model, **given.parameters, **fixed)
    return CachedMultipleNegativesRankingLoss(
        given.model,
        mini_batch_size=given.micro_batch_size,
        gather_across_devices=given.processes > 1,
        **given.parameters,
        **fixed,
    )


def gist(given: Ingredients) -> nn.Module:
    """GISTEmbedLoss (https://arxiv.org/abs/2402.16829), or its cached form; the guide is frozen."""
    from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, GISTEmbedLoss

    guide = load_encoder(given.parameters["guide"], given.model.device)
    parameters = {**given.parameters, "guide": guide, "gather_across_devices": given.processes > 1}
    if given.micro_batch_size is None:
        return GISTEmbedLoss(given.model, **parameters)
    return CachedGISTEmbedLoss(given.model, mini_batch_size=given.micro_batch_size, **parameters)


def megabatch_margin(given: Ingredients) -> nn.Module:
    """MegaBatchMarginLoss (https://aclanthology.org/P18-1042): each anchor against its hardest negative."""
    from sentence_transformers.sentence_transformer.losses import MegaBatchMarginLoss

    if given.micro_batch_size is None:
        return MegaBatchMarginLoss(given.model, use_mini_batched_version=False, **given.parameters)
    return MegaBatchMarginLoss(given.model, mini_batch_size=given.micro_batch_size, **given.parameters)


TRIPLET_DISTANCES = ("cosine", "euclidean", "manhattan")
"""The members of sentence-transformers' ``TripletDistanceMetric``, in small letters."""
BATCH_DISTANCES = ("cosine_distance", "euclidean_distance")
"""The functions of sentence-transformers' ``BatchHardTripletLossDistanceFunction``."""


def triplet(given: Ingredients) -> nn.Module:
    """TripletLoss."""
    from sentence_transformers.sentence_transformer.losses import TripletDistanceMetric, TripletLoss

    distance = getattr(TripletDistanceMetric, given.parameters["distance_metric"].upper())
    return TripletLoss(given.model, **{**given.parameters, "distance_metric": distance})


def batch_all_triplet(given: Ingredients) -> nn.Module:
    """BatchAllTripletLoss (https://arxiv.org/abs/1703.07737): every triplet of the batch that is still wrong."""
    from sentence_transformers.sentence_transformer.losses import BatchAllTripletLoss

    return BatchAllTripletLoss(given.model, **_with_triplet_distance(given))


def batch_hard_triplet(given: Ingredients) -> nn.Module:
    """BatchHardTripletLoss: for each text its hardest positive and negative."""
    from sentence_transformers.sentence_transformer.losses import BatchHardTripletLoss

    return BatchHardTripletLoss(given.model, **_with_triplet_distance(given))


def batch_semi_hard_triplet(given: Ingredients) -> nn.Module:
    """BatchSemiHardTripletLoss: for each pair of a class the nearest negative that is farther than the positive."""
    from sentence_transformers.sentence_transformer.losses import BatchSemiHardTripletLoss

    return BatchSemiHardTripletLoss(given.model, **_with_triplet_distance(given))


def batch_hard_soft_margin_triplet(given: Ingredients) -> nn.Module:
    """BatchHardSoftMarginTripletLoss: BatchHardTripletLoss with softplus in place of a margin."""
    from sentence_transformers.sentence_transformer.losses import BatchHardSoftMarginTripletLoss

    return BatchHardSoftMarginTripletLoss(given.model, **_with_triplet_distance(given))


def _with_triplet_distance(given: Ingredients) -> dict[str, Any]:
    from sentence_transformers.sentence_transformer.losses import BatchHardTripletLossDistanceFunction

    word: str = given.parameters["distance_metric"]
    return {**given.parameters, "distance_metric": getattr(BatchHardTripletLossDistanceFunction, word)}


LAYER_WEIGHTINGS = ("uniform", "log", "linear")
AGGREGATIONS = ("mean", "sum")


def matryoshka(given: Ingredients) -> nn.Module:
    """MatryoshkaLoss (https://arxiv.org/abs/2205.13147)."""
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    return MatryoshkaLoss(given.model, given.inner, **given.parameters)


def adaptive_layer(given: Ingredients) -> nn.Module:
    """AdaptiveLayerLoss (https://arxiv.org/abs/2402.14776)."""
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss

    return AdaptiveLayerLoss(given.model, given.inner, **given.parameters)


def matryoshka2d(given: Ingredients) -> nn.Module:
    """Matryoshka2dLoss (https://arxiv.org/abs/2402.14776): AdaptiveLayerLoss around MatryoshkaLoss."""
    from sentence_transformers.sentence_transformer.losses import Matryoshka2dLoss

    return Matryoshka2dLoss(given.model, given.inner, **given.parameters)


def global_orthogonal_regularization(given: Ingredients) -> nn.Module:
    """A loss and GlobalOrthogonalRegularizationLoss (https://arxiv.org/abs/1708.06320) on the same embeddings."""
    from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

    from embedsweep.losses.modules import RegularizedLoss

    assert given.inner is not None, "the gate lets no wrapper pass without a loss inside"
    regularizer = GlobalOrthogonalRegularizationLoss(given.model, **given.parameters)
    return RegularizedLoss(given.model, given.inner, regularizer)
