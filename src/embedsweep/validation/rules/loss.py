"""Rules of the losses: what they wrap, and how they go with the model and the batches. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from embedsweep.config.trial import LossConfig, ModelConfig, ParameterValue, TrialConfig
from embedsweep.config.values import shown
from embedsweep.data.convert import trained_shape
from embedsweep.errors import ConfigError, Problem
from embedsweep.losses.nesting import in_batch, merges_columns, nest, shapes_of
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.training.micro_batches import cached_micro_batch, has_micro_batches
from embedsweep.validation.rules.model import TRUST, check_model, embedding_width, token_width


def check_nesting(config: TrialConfig) -> Iterator[Problem]:
    """Check that every loss can be inside the wrappers around it."""
    for where, loss in _losses(config):
        parts = list(_parts(where, loss))
        for depth, (key, inner) in enumerate(parts):
            reasons = LOSSES[inner.name].not_inside
            outer = next((outer.name for _, outer in parts[:depth] if outer.name in reasons), None)
            if outer is not None:
                message = f"loss={outer} cannot wrap {inner.name}: {reasons[outer]}; choose another loss: "
                yield Problem(key, f"{message}loss@{key}=cosent")


def check_cached(config: TrialConfig) -> Iterator[Problem]:
    """Check that the wrappers and the model support the cached form of a loss, which smaller micro-batches need."""
    loader, losses = config.dataloader, list(_losses(config))
    smaller = has_micro_batches(config)
    others = [loss.name for _, loss in losses if in_batch(loss) is not InBatch.CACHED]
    if smaller and others and len(others) < len(losses):
        message = (
            "must be null unless all losses have a cached form: each would be trained on micro-batches alone, and "
            f"{others[0]} has none"
        )
        yield Problem("dataloader.micro_batch_size", message)
    if not smaller or others:
        return
    for _, loss in losses:
        *wrappers, innermost = nest(loss)
        made = (
            f"{loader.micro_batch_size}, below dataloader.batch_size={loader.batch_size}, makes loss={innermost.name} "
            "its cached form, which "
        )
        names = [part.name for part in wrappers if not LOSSES[part.name].wraps_cached]
        if names:
            message = f"{made}loss={names[0]} cannot wrap; set it to null"
            yield Problem("dataloader.micro_batch_size", message)
        if config.model.static_dim is not None:
            message = f"{made}cannot train a static embedding (model.static_dim); set it to null"
            yield Problem("dataloader.micro_batch_size", message)


def check_matryoshka(config: TrialConfig) -> Iterator[Problem]:
    """Check that Matryoshka dims descend within the model's width, with a weight each, around a loss of any width."""
    width = embedding_width(config.model)
    for key, part in _all_parts(config):
        dims, weights = part.parameters.get("matryoshka_dims"), part.parameters.get("matryoshka_weights")
        if not isinstance(dims, tuple):
            continue
        if list(dims) != sorted(set(dims), reverse=True):
            yield Problem(f"{key}.matryoshka_dims", f"must descend, as [128,64,32], but got {shown(dims)}")
        if width is not None and (above := [dim for dim in dims if dim > width]):
            message = f"must be at most {width}, the width of model={config.model.name}, but got {shown(above)}"
            yield Problem(f"{key}.matryoshka_dims", message)
        if isinstance(weights, tuple) and len(weights) != len(dims):
            message = f"must be a weight for each of the {len(dims)} dims, but got {len(weights)}: {shown(weights)}"
            yield Problem(f"{key}.matryoshka_weights", message)
        inside, innermost = list(_parts(key, part))[-1]
        if innermost.parameters.get("projection_dim") is not None:
            message = f"its layer takes embeddings of one width: set it to null inside of loss={part.name}"
            yield Problem(f"{inside}.projection_dim", message)


def check_other_models(config: TrialConfig) -> Iterator[Problem]:
    """Check that guides and teachers exist."""
    for key, part in _all_parts(config):
        name = LOSSES[part.name].other_model
        if name is None:
            continue
        for problem in check_model(as_it_is(config.model, part.parameters[name])):
            # The advice there is for a model to train.
            yield Problem(f"{key}.{name}", problem.message.partition("; use model=")[0].removesuffix(TRUST))


def check_teacher_width(config: TrialConfig) -> Iterator[Problem]:
    """Check that embeddings are as wide as those of the teacher they follow."""
    for key, part in _all_parts(config):
        if "projection_dim" not in part.parameters:
            continue
        projected = part.parameters["projection_dim"]
        own = embedding_width(config.model) if projected is None else projected
        teacher = embedding_width(as_it_is(config.model, part.parameters["teacher"]))
        if own is not None and teacher is not None and own != teacher:
            message = (
                f"must be {teacher}, the teacher's dimensions, but got {shown(projected)}; "
                f"model={config.model.name} has {embedding_width(config.model)}"
            )
            yield Problem(f"{key}.projection_dim", message)


def check_sums(config: TrialConfig) -> Iterator[Problem]:
    """Check that not all parts of a loss are switched off."""
    for key, part in _all_parts(config):
        terms = [name for name in part.parameters if name in SWITCHES.get(part.name, ())]
        if terms and not any(part.parameters[name] for name in terms):
            yield Problem(key, f"nothing is left of loss={part.name}: set one of {', '.join(terms)}")


SWITCHES = {
    "softmax": (
        "concatenation_sent_rep",
        "concatenation_sent_difference",
        "concatenation_sent_multiplication",
    ),
    "global_orthogonal_regularization": ("mean_weight", "second_moment_weight"),
}
"""Loss -> parameters of which one must be true, or above 0."""


def check_grouping(config: TrialConfig) -> Iterator[Problem]:
    """Check that a loss that compares examples of one class finds several of them in a batch."""
    sampler = config.dataloader.batch_sampler
    for _, loss in _losses(config):
        name = nest(loss)[-1].name
        if LOSSES[name].groups_by_label and sampler != "group_by_label":
            message = (
                f"loss={name} compares examples of one class inside a batch and needs group_by_label, but got {sampler}"
            )
            yield Problem("dataloader.batch_sampler", message)
    if sampler == "group_by_label":
        for dataset in config.datasets.values():
            data, loss = dataset.data, dataset.loss
            try:
                shape = trained_shape(data, shapes_of(loss), loss.name)
            except ConfigError:
                continue  # reported by the rules of the data
            if shape not in CLASSES:
                message = f"group_by_label needs labels that are classes, and loss={loss.name} trains on {shape}"
                yield Problem("dataloader.batch_sampler", f"{message}; use batch_sampler or no_duplicates")


CLASSES = ("binary_pairs", "class_pairs", "class_texts")
"""Shapes whose labels are classes, which batches can be grouped by."""


def check_dims(config: TrialConfig) -> Iterator[Problem]:
    """Check that embeddings have at least as many dimensions as they are truncated to."""
    dims, width = config.evaluation.dims, embedding_width(config.model)
    if width is not None and (above := [dim for dim in dims if dim > width]):
        message = f"must be at most {width}, the width of model={config.model.name}, but got {shown(above)}"
        yield Problem("evaluation.dims", message)


def check_architecture(config: TrialConfig) -> Iterator[Problem]:
    """Check that a loss can train a model of this architecture."""
    model = config.model
    for key, part in _all_parts(config):
        row = LOSSES[part.name]
        if model.static_dim is not None and row.needs_transformer is not None:
            message = f"loss={part.name} cannot train a static embedding (model.static_dim): "
            yield Problem(key, message + row.needs_transformer)
        elif model.lora.rank is not None and row.needs_whole_model is not None:
            message = f"loss={part.name} cannot train adapters: {row.needs_whole_model}; set it to null"
            yield Problem("model.lora.rank", message)
        elif row.needs_token_width and embedding_width(model) != (width := token_width(model)):
            message = (
                f"loss={part.name} needs embeddings as wide as the transformer's tokens ({width}), but they have "
                f"{embedding_width(model)}: use no model.dense and a single mode of model.pooling"
            )
            yield Problem(key, message)


def check_merged_columns(config: TrialConfig) -> Iterator[Problem]:
    """Check that all columns of a batch can be embedded in one pass if ``merge_columns`` is set."""
    if not config.trainer.merge_columns:
        return
    key, cached = "trainer.merge_columns", cached_micro_batch(config)
    if config.model.static_dim is not None:
        yield Problem(key, "must be false for a static embedding (model.static_dim): it has no forward pass to share")
    elif cached is not None:
        message = f"must be false with dataloader.micro_batch_size={cached}: a loss then embeds its columns in parts"
        yield Problem(key, message)
    else:
        for where, loss in _losses(config):
            if not merges_columns(loss, cached=False):
                yield Problem(key, f"must be false for {where}={loss.name}, whose columns cannot be merged")


def _losses(config: TrialConfig) -> Iterator[tuple[str, LossConfig]]:
    """Return every loss of a trial with its key."""
    yield "loss", config.loss
    for name, also in config.data.also.items():
        yield f"data.also.{name}.loss", also.loss


def _all_parts(config: TrialConfig) -> Iterator[tuple[str, LossConfig]]:
    """Return every loss of a trial and the losses inside it, each with its key."""
    return (part for where, loss in _losses(config) for part in _parts(where, loss))


def _parts(where: str, loss: LossConfig) -> Iterator[tuple[str, LossConfig]]:
    """Return a loss and the losses inside it, each with its key."""
    for depth, part in enumerate(nest(loss)):
        yield where + ".inner" * depth, part


def as_it_is(model: ModelConfig, path: ParameterValue) -> ModelConfig:
    """Return a guide, teacher or miner: the model at ``path`` as it is, with nothing built onto it."""
    return replace(
        model,
        name="pretrained",
        path=str(path),
        revision=None,
        parts="all",
        static_dim=None,
        pooling=None,
        dense=None,
        max_seq_length=None,
        prompts={},
        default_prompt=None,
        save_dtype="float32",
        lora=replace(model.lora, rank=None, dropout=0.0),
        trust_remote_code=False,
    )
