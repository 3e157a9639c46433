"""The table of losses: complete against ``conf/loss`` and the library, with the library's defaults and bounds."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import yaml
from sentence_transformers.sentence_transformer import losses as library

from embedsweep.config.compose import open_composer
from embedsweep.config.reader import Reader
from embedsweep.config.trial import Shape
from embedsweep.errors import Problem
from embedsweep.losses.table import LOSSES
from embedsweep.validation.sections import read_loss
from tests.loss_cases import (
    EXAMPLES,
    LEAVES,
    OPTIONS,
    WRAPPERS,
    option,
)
from tests.losses.cases import CACHED, LIBRARY

FIRST_SHAPE: dict[Shape, set[str]] = {
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
FURTHER_SHAPES: dict[str, tuple[Shape, ...]] = {
    "mnrl": ("positive_pairs", "tuples"),
    "gist": ("positive_pairs", "tuples"),
    "angle": ("triplets", "tuples"),
    "margin_mse": ("tuples",),
    "distill_kl_div": ("tuples",),
    "mse": ("positive_pairs",),
    "embed_distill": ("positive_pairs",),
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


def test_every_row_of_the_table_has_an_option_and_every_option_a_row() -> None:
    assert sorted(LOSSES) == [path.stem for path in OPTIONS] == sorted(LIBRARY)
    assert (len(LEAVES), len(WRAPPERS)) == (22, 4)


def test_the_table_has_every_loss_of_the_library() -> None:
    others = {"SiameseDistanceMetric", "TripletDistanceMetric", "BatchHardTripletLossDistanceFunction"}
    others |= {"ContrastiveTensionDataLoader"}
    assert set(library.__all__) - others == {*LIBRARY.values(), *CACHED.values()}


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: path.stem)
def test_an_option_sets_every_parameter_to_a_valid_value(path: Path) -> None:
    values = option(path.stem)
    assert values.keys() == LOSSES[path.stem].parameters.keys()
    with open_composer() as composer:
        tree = composer.compose({"loss": path.stem})["loss"]
    problems: list[Problem] = []
    config = read_loss(Reader(tree, "loss", problems))
    missing = [f"loss.{key}: must be given: loss.{key}=VALUE" for key, value in values.items() if value == "???"]
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
        assert _name_of(default, value) == value, key
        looked_at += 1
    assert looked_at + len(OURS.get(name, ())) + sum(known == name for known, _ in NO_DEFAULT) == len(option(name))


def _name_of(default: Any, value: Any) -> Any:
    """The library's default as an option says it: functions by their names."""
    for metric in (library.SiameseDistanceMetric, library.TripletDistanceMetric):
        for member, function in vars(metric).items():
            if callable(default) and function is default:
                return member.lower()
    return default.__name__ if callable(default) else default


def test_defaults_of_dataset_parameters_are_those_of_the_librarys_data_loaders() -> None:
    from sentence_transformers.sentence_transformer.datasets import DenoisingAutoEncoderDataset

    tension = inspect.signature(library.ContrastiveTensionDataLoader.__init__)
    assert option("contrastive_tension") == {"pos_neg_ratio": tension.parameters["pos_neg_ratio"].default}
    delete = inspect.signature(DenoisingAutoEncoderDataset.delete)
    assert option("denoising_autoencoder") == {"del_ratio": delete.parameters["del_ratio"].default}


def test_each_loss_takes_the_shapes_that_the_librarys_table_says() -> None:
    assert {name: LOSSES[name].shapes[0] for name in LEAVES} == {
        name: shape for shape, names in FIRST_SHAPE.items() for name in names
    }
    assert {name: LOSSES[name].shapes[1:] for name in LEAVES if len(LOSSES[name].shapes) > 1} == FURTHER_SHAPES
    assert all(LOSSES[name].shapes == () for name in WRAPPERS)


def test_every_shape_has_examples_to_test_with() -> None:
    assert set(EXAMPLES) == {*FIRST_SHAPE, "tuples"}
    assert all(yaml.safe_load(path.read_text(encoding="utf-8"))["name"] == path.stem for path in OPTIONS)


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
        "loss.projection_dim: must be a whole number of at least 1, or null, but got 0",
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
def test_a_wrong_parameter_is_reported_with_what_is_allowed(name: str, values: dict[str, Any], message: str) -> None:
    with open_composer() as composer:
        tree = {**composer.compose({"loss": name})["loss"], **values}
    problems: list[Problem] = []
    read_loss(Reader(tree, "loss", problems))
    assert [str(problem) for problem in problems] == [message]
