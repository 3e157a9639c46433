"""The table of losses: complete against ``conf/loss``, true to the library, and each row builds what it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses as library

from embedsweep.config.compose import open_composer
from embedsweep.config.reader import Reader
from embedsweep.config.trial import LossConfig, ParameterValue, Shape
from embedsweep.errors import Problem
from embedsweep.losses.modules import AcrossProcesses, embed_together
from embedsweep.losses.nesting import dims, in_batch, merges_columns, wants
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.data import Part
from embedsweep.training.train import build_task
from embedsweep.validation.sections import read_loss
from embedsweep.validation.single import pass_single
from tests.loss_cases import (
    EXAMPLES,
    LEAVES,
    OPTIONS,
    WRAPPERS,
    batch,
    built,
    fresh_model,
    loss_config,
    option,
    value_of,
    write_other_model,
)

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

WANTS: dict[Shape, set[str]] = {
    # The best shape of each, as the library's own table of losses has it.
    "triplets": {"mnrl", "gist", "triplet", "margin_mse", "distill_kl_div"},
    "positive_pairs": {"mnrl_symmetric", "megabatch_margin"},
    "scored_pairs": {"cosent", "cosine", "angle"},
    "binary_pairs": {"contrastive", "online_contrastive"},
    "class_pairs": {"softmax"},
    "class_texts": {
        "batch_all_triplet",
        "batch_hard_triplet",
        "batch_semi_hard_triplet",
        "batch_hard_soft_margin_triplet",
    },
    "texts": {"mse", "embed_distill", "denoising_autoencoder", "contrastive_tension", "contrastive_tension_in_batch"},
}
ALSO_WANTS = {
    "mnrl": "positive_pairs",
    "gist": "positive_pairs",
    "mse": "positive_pairs",
    "embed_distill": "positive_pairs",
}

OURS = {
    # The library leaves these to whoever prepares the data.
    "mse": {"teacher", "teacher_batch_size"},
    "embed_distill": {"teacher", "teacher_batch_size"},
    "margin_mse": {"teacher", "teacher_batch_size"},
    "distill_kl_div": {"teacher", "teacher_batch_size"},
    "denoising_autoencoder": {"del_ratio"},
    "contrastive_tension": {"pos_neg_ratio"},
}
NO_DEFAULT = {("gist", "guide"), ("matryoshka", "matryoshka_dims"), ("matryoshka2d", "matryoshka_dims")}
"""What the library has no default for."""

NOWHERE = Path("/nowhere")


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return fresh_model()


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("other"))


def test_the_table_and_the_options_are_the_same_losses() -> None:
    assert sorted(LOSSES) == [path.stem for path in OPTIONS] == sorted(LIBRARY)
    assert (len(LEAVES), len(WRAPPERS)) == (22, 4)


def test_every_loss_of_the_library_is_there() -> None:
    others = {"SiameseDistanceMetric", "TripletDistanceMetric", "BatchHardTripletLossDistanceFunction"}
    others |= {"ContrastiveTensionDataLoader"}
    assert set(library.__all__) - others == {*LIBRARY.values(), *CACHED.values()}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_an_option_gives_every_parameter_a_value_that_the_gate_takes(path: Path) -> None:
    given = option(path.stem)
    assert given.keys() == LOSSES[path.stem].parameters.keys()
    with open_composer() as composer:
        tree = composer.compose({"loss": path.stem})["loss"]
    problems: list[Problem] = []
    config = read_loss(Reader(tree, "loss", problems))
    missing = [f"loss.{key}: must be given: loss.{key}=VALUE" for key, value in given.items() if value == "???"]
    assert [str(problem) for problem in problems] == missing
    assert config.name == path.stem
    assert (config.inner is not None) is LOSSES[path.stem].wraps


@pytest.mark.parametrize("name", LIBRARY)
def test_an_options_values_are_the_librarys_defaults(name: str) -> None:
    signature = inspect.signature(getattr(library, LIBRARY[name]).__init__)
    looked_at = 0
    for key, value in option(name).items():
        if key in OURS.get(name, set()) or (name, key) in NO_DEFAULT:
            continue
        default = signature.parameters[key].default
        assert _word_of(default, value) == value, key
        looked_at += 1
    assert looked_at + len(OURS.get(name, ())) + sum(known == name for known, _ in NO_DEFAULT) == len(option(name))


def _word_of(default: Any, value: Any) -> Any:
    """The library's default as an option says it: functions by their names."""
    for metric in (library.SiameseDistanceMetric, library.TripletDistanceMetric):
        for member, function in vars(metric).items():
            if callable(default) and function is default:
                return member.lower()
    return default.__name__ if callable(default) else default


def test_what_is_ours_is_as_in_the_librarys_data_loaders() -> None:
    from sentence_transformers.sentence_transformer.datasets import DenoisingAutoEncoderDataset

    tension = inspect.signature(library.ContrastiveTensionDataLoader.__init__)
    assert option("contrastive_tension") == {"pos_neg_ratio": tension.parameters["pos_neg_ratio"].default}
    delete = inspect.signature(DenoisingAutoEncoderDataset.delete)
    assert option("denoising_autoencoder") == {"del_ratio": delete.parameters["del_ratio"].default}


def test_each_loss_wants_what_the_librarys_table_says() -> None:
    assert {name: LOSSES[name].wants[0] for name in LEAVES} == {
        name: shape for shape, names in WANTS.items() for name in names
    }
    assert {name: LOSSES[name].wants[1] for name in LEAVES if len(LOSSES[name].wants) > 1} == ALSO_WANTS
    assert all(LOSSES[name].wants == () for name in WRAPPERS)


@pytest.mark.parametrize("name", LIBRARY)
def test_each_loss_is_sentence_transformers_own(model: SentenceTransformer, name: str) -> None:
    built_loss = built(loss_config(name, tiny_model_path()), model)
    loss = built_loss.regularizer if name == "global_orthogonal_regularization" else built_loss
    expected = "MultipleNegativesRankingLoss" if name == "mnrl_symmetric" else LIBRARY[name]
    assert type(loss) is getattr(library, expected)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
def test_the_symmetric_loss_is_the_librarys_deprecated_one(
    model: SentenceTransformer, micro_batch_size: int | None
) -> None:
    config = loss_config("mnrl_symmetric", NOWHERE)
    with pytest.warns(DeprecationWarning, match="deprecated"):
        theirs = (
            library.MultipleNegativesSymmetricRankingLoss(model)
            if micro_batch_size is None
            else library.CachedMultipleNegativesSymmetricRankingLoss(model, mini_batch_size=micro_batch_size)
        )
    features, labels = batch(config, model)
    assert built(config, model, micro_batch_size)(features, labels).item() == theirs(features, labels).item()


@pytest.mark.parametrize("name", ["mnrl", "cosent", "angle", "triplet", "contrastive", "matryoshka"])
def test_a_parameter_reaches_the_loss(model: SentenceTransformer, name: str) -> None:
    others: dict[str, tuple[str, ParameterValue, ParameterValue]] = {
        "triplet": ("triplet_margin", 1.0, 9.0),
        "contrastive": ("distance_metric", "cosine_distance", "manhattan"),
        "matryoshka": ("matryoshka_weights", (1.0, 1.0, 1.0), (9.0, 1.0, 1.0)),
    }
    key, *values = others.get(name, ("scale", 1.0, 50.0))
    first, second = (value_of(loss_config(name, NOWHERE, None, **{key: value}), model).item() for value in values)
    assert abs(first - second) > 0.01


def gradient(loss: torch.Tensor, model: SentenceTransformer) -> torch.Tensor:
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    return torch.cat([weights.grad.flatten() for weights in model.parameters() if weights.grad is not None])


@pytest.mark.parametrize("name", CACHED)
@pytest.mark.parametrize("micro_batch_size", [1, 4])
def test_the_cached_form_has_the_gradient_of_the_whole_batch(
    model: SentenceTransformer, name: str, micro_batch_size: int
) -> None:
    config = loss_config(name, tiny_model_path())
    cached = built(config, model, micro_batch_size)
    assert isinstance(cached, getattr(library, CACHED[name]) if name != "mnrl_symmetric" else torch.nn.Module)
    assert cached.uses_gradient_cache
    assert cached.mini_batch_size == micro_batch_size
    features, labels = batch(config, model)
    plain = gradient(built(config, model)(features, labels), model)
    assert torch.allclose(gradient(cached(features, labels), model), plain, rtol=1e-3, atol=1e-5)


def test_every_loss_says_it_is_cached_where_its_cached_form_differs(model: SentenceTransformer) -> None:
    for name in LEAVES:
        config = loss_config(name, tiny_model_path())
        assert getattr(built(config, model, 2), "uses_gradient_cache", False) is (in_batch(config) is InBatch.CACHED)


MERGING = {
    *("mnrl", "mnrl_symmetric", "cosent", "angle", "cosine", "contrastive", "online_contrastive", "triplet"),
    *("margin_mse", "distill_kl_div", "matryoshka"),
}
"""What is computed from the embeddings of several columns."""


@pytest.mark.parametrize("name", LOSSES)
def test_what_is_computed_from_several_columns_can_have_them_merged(name: str) -> None:
    config = loss_config(name, NOWHERE)
    assert merges_columns(config, cached=False) is (name in MERGING)
    assert not merges_columns(config, cached=True)


def passes_of(model: SentenceTransformer, embed: Callable[[], object]) -> int:
    """How many forward passes of the model it takes."""
    seen: list[int] = []
    counting = model[0].register_forward_hook(lambda *_: seen.append(1))
    embed()
    counting.remove()
    return len(seen)


@pytest.mark.parametrize("name", sorted(MERGING))
def test_merged_columns_have_the_loss_and_gradient_of_columns_apart_in_one_pass(
    model: SentenceTransformer, other_model: Path, name: str
) -> None:
    config = loss_config(name, other_model)
    features, labels = batch(config, model)
    apart, merged = built(config, model), built(config, model, merge_columns=True)
    values: dict[torch.nn.Module, torch.Tensor] = {}

    def compute(loss: torch.nn.Module) -> None:
        values[loss] = loss([dict(column) for column in features], labels)

    # The library has two: of the first column, and of all others.
    assert [passes_of(model, partial(compute, loss)) for loss in (apart, merged)] == [2, 1]
    assert type(merged) is type(apart)
    assert values[merged].item() == pytest.approx(values[apart].item(), rel=1e-5)
    expected = gradient(values[apart], model)
    assert torch.allclose(gradient(values[merged], model), expected, rtol=1e-3, atol=1e-5)
    assert expected.abs().max() > 1e-3


@pytest.mark.parametrize(
    ("name", "micro_batch_size"), [("mnrl", 2), ("gist", None), ("batch_all_triplet", None), ("adaptive_layer", None)]
)
def test_what_embeds_in_a_way_of_its_own_stays_as_it_is(name: str, micro_batch_size: int | None) -> None:
    loss = built(loss_config(name, tiny_model_path()), fresh_model(), micro_batch_size, merge_columns=True)
    assert [part for part in loss.modules() if "forward" in vars(part)] == []


@pytest.mark.parametrize(
    ("prompts", "passes"),
    [
        (("", "", ""), 1),
        (("query: ", "", ""), 2),
        (("query: ", "a rather long document: ", "a rather long document: "), 2),
    ],
)
def test_columns_that_one_pass_cannot_hold_are_embedded_as_the_library_does_it(
    prompts: tuple[str, ...], passes: int
) -> None:
    model = fresh_model()
    model.set_pooling_include_prompt(include_prompt=False)  # so that pooling has to know a prompt's length
    texts = zip(EXAMPLES["triplets"].texts, prompts, strict=True)
    features = [model.preprocess(list(column), prompt=prompt or None) for column, prompt in texts]
    assert passes_of(model, lambda: embed_together(model, [dict(column) for column in features])) == passes
    found = embed_together(model, [dict(column) for column in features])
    expected = [model(dict(column))["sentence_embedding"] for column in features]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(("word", "passes"), [("true", 1), ("false", 2)])
def test_a_process_of_a_group_merges_columns_if_configured(
    word: str, passes: int, model: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The other process's share is not needed to count passes.
    monkeypatch.setattr("embedsweep.losses.modules._sizes", lambda own: [len(own)])
    monkeypatch.setattr("embedsweep.losses.modules._gathered", lambda own, _: own)
    config = pass_single(["data.limit=96", "loss=cosent", f"trainer.merge_columns={word}"]).config
    task = build_task(config, Part(EXAMPLES["scored_pairs"], config.loss, 1), model, processes=2)
    assert isinstance(task.loss, AcrossProcesses)
    assert not task.merges_columns  # the loss does it
    features, labels = batch(config.loss, model)
    assert passes_of(model, lambda: task.loss(features, labels)) == passes


# Their means are over tokens, or they are sums: accumulated gradients point nearly, or exactly, the same way.
NOT_MEANS = {"denoising_autoencoder", "contrastive_tension"}


@pytest.mark.parametrize("name", [name for name in LEAVES if LOSSES[name].in_batch is not InBatch.CACHED])
def test_micro_batches_change_the_loss_where_examples_are_compared_and_only_there(
    model: SentenceTransformer, other_model: Path, name: str
) -> None:
    if name in NOT_MEANS:
        return
    config = loss_config(name, other_model)
    features, labels = batch(config, model)
    loss = built(config, model)
    halves = [
        loss(
            [
                {key: value[half] if isinstance(value, torch.Tensor) else value for key, value in column.items()}
                for column in features
            ],
            None if labels is None else labels[half],
        ).item()
        for half in (slice(0, 4), slice(4, 8))
    ]
    whole = loss(features, labels).item()
    same = whole == pytest.approx(sum(halves) / 2, rel=1e-3)
    assert same is (LOSSES[name].in_batch is InBatch.INDEPENDENT)


def test_dims_and_wants_are_found_anywhere_in_a_nest() -> None:
    inner = loss_config("matryoshka", NOWHERE, loss_config("mnrl", NOWHERE), matryoshka_dims=(16, 128))
    config = loss_config("adaptive_layer", NOWHERE, inner)
    assert (dims(config), wants(config), in_batch(config)) == (
        (128, 16),
        ("triplets", "positive_pairs"),
        InBatch.CACHED,
    )
    regularized = loss_config("global_orthogonal_regularization", NOWHERE, loss_config("cosine", NOWHERE))
    assert (dims(regularized), in_batch(regularized)) == ((), InBatch.COMPARED)


@pytest.mark.parametrize(
    ("choices", "names"),
    [
        ({"loss": "matryoshka"}, ["matryoshka", "cosent"]),
        ({"loss": "matryoshka", "loss@loss.inner": "mnrl"}, ["matryoshka", "mnrl"]),
        (
            {"loss": "adaptive_layer", "loss@loss.inner": "matryoshka", "loss@loss.inner.inner": "angle"},
            ["adaptive_layer", "matryoshka", "angle"],
        ),
    ],
    ids=["default", "chosen", "nested"],
)
def test_a_wrappers_inner_loss_is_chosen_by_hydra(choices: dict[str, str], names: list[str]) -> None:
    with open_composer() as composer:
        tree = composer.compose(choices)["loss"]
    problems: list[Problem] = []
    config: LossConfig | None = read_loss(Reader(tree, "loss", problems))
    found = []
    while config is not None:
        found.append(config.name)
        config = config.inner
    assert (found, problems) == (names, [])


WRONG = [
    ("cosent", {"scal": 1}, "loss.scal: loss=cosent has no such parameter (did you mean scale?); it has: scale"),
    ("cosine", {"scale": 1}, "loss.scale: loss=cosine has no such parameter; it has: none"),
    ("cosine", {"inner": {"name": "mnrl"}}, "loss.inner: loss=cosine has no such parameter; it has: none"),
    ("angle", {"scale": 0}, "loss.scale: must be a number above 0, but got 0"),
    (
        "contrastive",
        {"distance_metric": "cosine"},
        "loss.distance_metric: must be one of cosine_distance, euclidean, manhattan, but got 'cosine' "
        "(did you mean cosine_distance?)",
    ),
    ("softmax", {"concatenation_sent_rep": 1}, "loss.concatenation_sent_rep: must be true or false, but got 1"),
    (
        "mse",
        {"teacher": "x", "projection_dim": 0},
        "loss.projection_dim: must be a whole number of at least 1, but got 0",
    ),
    ("matryoshka", {"matryoshka_dims": []}, "loss.matryoshka_dims: must have at least one number in it, as [128,64]"),
    (
        "matryoshka",
        {"matryoshka_dims": [64, "x"]},
        "loss.matryoshka_dims: must be a list of whole numbers of at least 1, as [64,32], but got [64,x]",
    ),
    (
        "matryoshka",
        {"matryoshka_weights": [1, 0, 1]},
        "loss.matryoshka_weights: must be a list of numbers above 0, as [0.25,0.5], or null, but got [1,0,1]",
    ),
    (
        "matryoshka",
        {"inner": {"name": "cosent", "scale": -1}},
        "loss.inner.scale: must be a number above 0, but got -1",
    ),
    ("matryoshka", {"inner": 3}, "loss.inner: must be a section with keys of its own, but got 3"),
]


@pytest.mark.parametrize(
    ("name", "values", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_wrong_parameter_is_told_with_what_is_right(name: str, values: dict[str, Any], message: str) -> None:
    with open_composer() as composer:
        tree = {**composer.compose({"loss": name})["loss"], **values}
    problems: list[Problem] = []
    read_loss(Reader(tree, "loss", problems))
    assert [str(problem) for problem in problems] == [message]


def test_every_shape_has_examples_to_test_with() -> None:
    assert set(EXAMPLES) == set(WANTS)
    assert all(yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == path.stem for path in OPTIONS)
