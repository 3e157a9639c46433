"""Builders of losses. They import sentence-transformers when they are called: the table of losses needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from embedsweep.errors import TrialError
from embedsweep.files import user_path
from embedsweep.hub import local_model
from embedsweep.losses.rows import Build, LossArguments

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer
    from torch import nn


def library(class_name: str, **converted: Callable[[str], Any]) -> Build:
    """Return a builder that calls one of sentence-transformers' losses with the loss's parameters.

    Args:
        class_name: a class of ``sentence_transformers.sentence_transformer.losses``.
        converted: parameter -> what turns its value, a name, into the library's function of that name.
    """

    def build(args: LossArguments) -> nn.Module:
        from sentence_transformers.sentence_transformer import losses

        parameters = {**args.parameters, **{key: by(args.parameters[key]) for key, by in converted.items()}}
        inner = [] if args.inner is None else [args.inner]
        loss: nn.Module = getattr(losses, class_name)(args.model, *inner, **parameters)
        return loss

    return build


def distance_of(class_name: str) -> Callable[[str], Any]:
    """Return a function that looks up a distance by its name, in lower case, in a class of the library's losses."""

    def look_up(name: str) -> Any:
        from sentence_transformers.sentence_transformer import losses

        members = getattr(losses, class_name)
        return getattr(members, name) if hasattr(members, name) else getattr(members, name.upper())

    return look_up


def similarity_function(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return a function of ``sentence_transformers.util``: two batches ``(batch, dim)`` -> scores ``(batch,)``."""
    from sentence_transformers import util

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = getattr(util, name)
    return function


def mnrl(args: LossArguments, **fixed: Any) -> nn.Module:
    """Build MultipleNegativesRankingLoss (https://arxiv.org/abs/1705.00652), or its cached form."""
    from sentence_transformers.sentence_transformer.losses import (
        CachedMultipleNegativesRankingLoss,
        MultipleNegativesRankingLoss,
    )

    if args.micro_batch_size is None:
        return MultipleNegativesRankingLoss(args.model, **args.parameters, **fixed)
    return CachedMultipleNegativesRankingLoss(
        args.model,
        mini_batch_size=args.micro_batch_size,
        gather_across_devices=args.processes > 1,
        **args.parameters,
        **fixed,
    )


def mnrl_symmetric(args: LossArguments) -> nn.Module:
    """Build MultipleNegativesSymmetricRankingLoss: the library deprecates that class in favour of these arguments."""
    return mnrl(args, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction")


def gist(args: LossArguments) -> nn.Module:
    """Build GISTEmbedLoss (https://arxiv.org/abs/2402.16829), or its cached form, with a frozen guide."""
    from sentence_transformers.sentence_transformer.losses import CachedGISTEmbedLoss, GISTEmbedLoss

    guide = load_encoder(args.parameters["guide"], args.model.device)
    parameters = {**args.parameters, "guide": guide, "gather_across_devices": args.processes > 1}
    if args.micro_batch_size is None:
        return GISTEmbedLoss(args.model, **parameters)
    return CachedGISTEmbedLoss(args.model, mini_batch_size=args.micro_batch_size, **parameters)


def megabatch_margin(args: LossArguments) -> nn.Module:
    """Build MegaBatchMarginLoss (https://aclanthology.org/P18-1042): each anchor against its hardest negative."""
    from sentence_transformers.sentence_transformer.losses import MegaBatchMarginLoss

    if args.micro_batch_size is None:
        return MegaBatchMarginLoss(args.model, use_mini_batched_version=False, **args.parameters)
    return MegaBatchMarginLoss(args.model, mini_batch_size=args.micro_batch_size, **args.parameters)


def softmax(args: LossArguments) -> nn.Module:
    """Build SoftmaxLoss (https://arxiv.org/abs/1908.10084), which trains a classifier over both embeddings."""
    from sentence_transformers.sentence_transformer.losses import SoftmaxLoss

    width = args.model.get_embedding_dimension()
    return SoftmaxLoss(args.model, embedding_dimension=width, num_labels=args.n_classes, **args.parameters)


def denoising_autoencoder(args: LossArguments) -> nn.Module:
    """Build DenoisingAutoEncoderLoss (TSDAE, https://arxiv.org/abs/2104.06979), its decoder tied to the encoder.

    Raises:
        TrialError: transformers has no decoder of the model's architecture.
    """
    from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

    from embedsweep.models.loading import as_float32

    device = args.model.device
    try:
        loss = DenoisingAutoEncoderLoss(args.model)
    except ValueError as error:
        kind = args.model.transformers_model.config.model_type
        raise TrialError(
            f"loss=denoising_autoencoder needs a decoder like the encoder, and transformers has none of type {kind}: "
            "use a BERT, RoBERTa or XLM-RoBERTa"
        ) from error
    # The decoder is loaded on the CPU as it is stored, and its weights have replaced the encoder's.
    decoder: nn.Module = as_float32(loss, "the decoder").to(device)
    return decoder


def global_orthogonal_regularization(args: LossArguments) -> nn.Module:
    """Build a loss plus GlobalOrthogonalRegularizationLoss (https://arxiv.org/abs/1708.06320), same embeddings."""
    from sentence_transformers.sentence_transformer.losses import GlobalOrthogonalRegularizationLoss

    from embedsweep.losses.modules import RegularizedLoss

    assert args.inner is not None, "validation refuses a wrapper without a loss inside"
    regularizer = GlobalOrthogonalRegularizationLoss(args.model, **args.parameters)
    return RegularizedLoss(args.model, args.inner, regularizer)


def load_encoder(path: str, device: torch.device) -> SentenceTransformer:
    """Load a model that is used and never trained, in the precision it is stored in; its own code never runs.

    Args:
        path: a folder or an id on the Hub; a copy in the local cache is loaded without asking the Hub.
        device: where it is placed.
    """
    from embedsweep.models.loading import load_model

    folder = user_path(path)
    source = str(local_model(path, None) or path)
    encoder = load_model(source, device=str(device), trust_remote_code=False, as_stored=True)
    # What a loss says of its guide in the model card.
    encoder.model_card_data.base_model = folder.resolve().name if folder.is_dir() else path
    # The trainer passes every weight inside the loss that requires a gradient to its optimizer.
    return encoder.requires_grad_(False).eval()
