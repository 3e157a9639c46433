"""Names of the library's losses, and what several test modules of losses share."""

from __future__ import annotations

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

LIBRARY: dict[str, str] = {
    "mnrl": "MultipleNegativesRankingLoss",
    "mnrl_symmetric": "MultipleNegativesSymmetricRankingLoss",
    "gist": "GISTEmbedLoss",
    "megabatch_margin": "MegaBatchMarginLoss",
    "cosent": "CoSENTLoss",
    "angle": "AnglELoss",
    "cosine": "CosineSimilarityLoss",
    "contrastive": "ContrastiveLoss",
    "online_contrastive": "OnlineContrastiveLoss",
    "softmax": "SoftmaxLoss",
    "triplet": "TripletLoss",
    "batch_all_triplet": "BatchAllTripletLoss",
    "batch_hard_triplet": "BatchHardTripletLoss",
    "batch_semi_hard_triplet": "BatchSemiHardTripletLoss",
    "batch_hard_soft_margin_triplet": "BatchHardSoftMarginTripletLoss",
    "mse": "MSELoss",
    "embed_distill": "EmbedDistillLoss",
    "margin_mse": "MarginMSELoss",
    "distill_kl_div": "DistillKLDivLoss",
    "denoising_autoencoder": "DenoisingAutoEncoderLoss",
    "contrastive_tension": "ContrastiveTensionLoss",
    "contrastive_tension_in_batch": "ContrastiveTensionLossInBatchNegatives",
    "matryoshka": "MatryoshkaLoss",
    "adaptive_layer": "AdaptiveLayerLoss",
    "matryoshka2d": "Matryoshka2dLoss",
    "global_orthogonal_regularization": "GlobalOrthogonalRegularizationLoss",
}
"""Option -> the library's class."""
CACHED: dict[str, str] = {
    "mnrl": "CachedMultipleNegativesRankingLoss",
    "mnrl_symmetric": "CachedMultipleNegativesSymmetricRankingLoss",
    "gist": "CachedGISTEmbedLoss",
    "megabatch_margin": "MegaBatchMarginLoss",
}
"""Option -> the class of its cached form."""
NOWHERE = Path("/nowhere")


def gradient(loss: torch.Tensor, model: SentenceTransformer) -> torch.Tensor:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])
