"""Negatives in the gate: what goes together, which losses take how many, and by what a study drops questions."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedsweep.config.identity import config_hash
from embedsweep.config.study import study_name
from embedsweep.data.load import load_train
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single
from embedsweep.validation.sweep import pass_sweep
from tests.validation.commands import errors

PAIRS = ("data=demo_retrieval", "evaluation.dev=demo-dev", "evaluation.test=demo-test")
TAKING = "any number: mnrl, gist, angle, margin_mse, distill_kl_div"


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


REFUSED = [
    (
        ("loss=cosent", "data.negatives.count=2"),
        "data.negatives.count: must be 0 with loss=cosent, which takes scored_pairs, but got 2 (one negative makes "
        f"triplets, several tuples); {TAKING}",
    ),
    (
        ("loss=triplet", "data.negatives.count=3"),
        "data.negatives.count: must be at most 1 with loss=triplet, which takes triplets, but got 3 (one negative "
        f"makes triplets, several tuples); {TAKING}",
    ),
    (
        ("loss=mnrl_symmetric", *PAIRS, "data.negatives.count=1"),
        "data.negatives.count: must be 0 with loss=mnrl_symmetric, which takes positive_pairs, but got 1 (one negative "
        f"makes triplets, several tuples); {TAKING}",
    ),
    (
        ("loss=mnrl", "data=demo_topics", "data.negatives.count=1"),
        "data.negatives.count: negatives are mined for positive pairs, which class_texts (text, label: a text and its "
        "class) cannot become: set it to 0",
    ),
    (
        ("loss=mnrl", "data=demo_nli", "data.convert.to=triplets", "data.negatives.count=3"),
        "data.convert.to: must be null or positive_pairs where negatives are mined (data.negatives), but got triplets",
    ),
    (
        ("loss=mnrl", "data=demo_nli", "data.negatives.missing=drop", "data.negatives.strictest={count:3}"),
        "data.convert.to: data.negatives.missing=drop compares positive pairs, and null selects triplets: set "
        "positive_pairs",
    ),
    (
        ("loss=mnrl", *PAIRS, "data.negatives.count=3", "data.negatives.range_min=2", "data.negatives.range_max=4"),
        "data.negatives.range_max: must be at least 5, as range_min and count need so many ranks, but got 4",
    ),
    (
        ("loss=mnrl", *PAIRS, "data.negatives.missing=drop", "data.negatives.strictest={count:1,margn:2}"),
        "data.negatives.strictest.margn: no such key (did you mean margin?); there are: count, range_min, range_max, "
        "margin, relative_margin, max_score",
    ),
    (
        ("loss=mnrl", *PAIRS, "data.negatives.count=1", "data.negatives.miner=/nowhere"),
        "data.negatives.miner: there is no folder /nowhere, and it is not a hub id (ORG/NAME) either",
    ),
    (
        ("loss=mnrl", *PAIRS, "data.negatives.count=1", "model.static_dim=8", "model.pooling=null"),
        "data.negatives.miner: null is the base model, and a static embedding (model.static_dim) knows nothing yet: "
        "name a model",
    ),
    (
        ("loss=mnrl", *PAIRS, "data.negatives.relative_margin=1.5"),
        "data.negatives.relative_margin: must be a number of at least 0 and at most 1, or null, but got 1.5",
    ),
]


@pytest.mark.parametrize(("words", "message"), REFUSED, ids=lambda value: value[:60] if isinstance(value, str) else "")
def test_what_cannot_be_mined_is_refused(words: tuple[str, ...], message: str) -> None:
    assert errors(*words) == [message]


def test_a_loss_on_triplets_says_that_negatives_can_be_mined() -> None:
    (problem,) = errors("loss=triplet", *PAIRS)
    assert problem.endswith(
        "tuples, data.negatives.count=1, which mines negatives, or another loss: mnrl, mnrl_symmetric, megabatch_margin"
    )
    pass_single(["loss=triplet", *PAIRS, "data.negatives.count=1"])


def test_tuples_of_files_have_any_number_of_negatives_from_two_on(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("q,p,n1,n2,n3\na,b,c,d,e\nf,g,h,i,j\n", encoding="utf-8")
    words = ("loss=mnrl", "data=csv", f"data.path={tmp_path}", "data.shape=tuples", *PAIRS[1:])
    config = pass_single([*words, "data.columns=[q,p,n1,n2,n3]"]).config
    train = load_train(config.data)
    assert (train.shape, len(train), train.columns[-1]) == ("tuples", 2, "negative_3")
    assert train.texts[-1] == ("e", "j")
    assert load_train(pass_single([*words, "data.columns=[q,p,n1,n2]"]).config.data).texts[2:] == (
        ("c", "h"),
        ("d", "i"),
    )
    assert errors(*words, "data.columns=[q,p,n1]") == [
        "data.columns: must be at least 4 names of a header (anchor, positive, negative_1, negative_2 of "
        "data.shape=tuples, in that order), or as many positions from 0 where there is none: "
        "[anchor,positive,negative_1,negative_2], but got [q,p,n1]"
    ]
    assert errors(*words, "data.columns=[q,p,n1,n2,n3]", "data.max_tokens=[9,9,9]") == [
        "data.max_tokens: must be a number for each of anchor, positive, negative_1, negative_2, negative_3 "
        "(data.shape=tuples), but got [9,9,9]"
    ]


def test_the_search_space_of_data_is_no_part_of_a_benchmark_on_it(tmp_path: Path) -> None:
    path = tmp_path / "conf" / "benchmark" / "mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "defaults: [/data@data: demo_retrieval, _self_]\nname: mine\nfamily: retrieval\nfolder: mine\nsplit: test\n",
        encoding="utf-8",
    )
    (benchmark,) = pass_single(["evaluation.benchmarks=[mine]"]).config.evaluation.benchmarks
    assert benchmark.data.name == "demo_retrieval"


def test_faiss_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("loss=mnrl", *PAIRS, "data.negatives.count=1", "data.negatives.use_faiss=true")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert errors(*words) == [
        "data.negatives.use_faiss: needs the package faiss: pip install faiss-cpu, or set it to false"
    ]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert pass_single(words).config.data.negatives.use_faiss


def test_plain_gist_takes_one_negative_and_its_cached_form_any() -> None:
    words = ("loss=gist", f"loss.guide={tiny_model_path()}", *PAIRS)
    pass_single([*words, "data.negatives.count=1"])
    pass_single([*words, "data.negatives.count=2", "dataloader.micro_batch_size=8"])
    assert errors(*words, "data.negatives.count=2") == [
        "dataloader.micro_batch_size: loss=gist takes several negatives in its cached form only: set it below the "
        "batch size, or data.negatives.count=1"
    ]


def test_settings_without_negatives_are_no_part_of_an_identity_and_those_with_are() -> None:
    def identity(*words: str) -> str:
        return config_hash(pass_single(["loss=mnrl", *PAIRS, *words]).config)

    assert identity("data.negatives.margin=0.1", "data.negatives.missing=drop") == identity()
    with_one = identity("data.negatives.count=1")
    assert len({identity(), with_one, identity("data.negatives.count=1", "data.negatives.margin=0.1")}) == 3
    dropping = identity("data.negatives.missing=drop", "data.negatives.strictest={count:3}")
    assert dropping != identity(), "other questions are trained on"


def test_of_a_trial_without_negatives_that_drops_questions_only_what_drops_them_is_part_of_the_identity() -> None:
    def identity(*words: str) -> str:
        dropping = ("data.negatives.missing=drop", "data.negatives.strictest={count:3,relative_margin:0.1}")
        settings = [f"data.negatives.{word}" for word in words]
        return config_hash(pass_single(["loss=mnrl", *PAIRS, *dropping, *settings]).config)

    assert identity("relative_margin=0.05") == identity("relative_margin=0.0", "sampling=random") == identity()
    assert len({identity(), identity("max_score=0.9"), identity(f"miner={tiny_model_path()}")}) == 3
    assert identity("count=1", "relative_margin=0.05") != identity("count=1", "relative_margin=0.1")


def test_studies_that_differ_in_a_margin_have_different_names() -> None:
    plans = [
        pass_sweep(["loss=mnrl", *PAIRS, "data.negatives.count=0,1", f"data.negatives.margin={margin}"]).plan
        for margin in ("0.1", "0.2")
    ]
    assert len({study_name(plan) for plan in plans if plan is not None}) == 2


def test_a_study_that_drops_questions_does_so_by_the_strictest_of_what_it_searches() -> None:
    words = ("loss=mnrl", *PAIRS, "data.negatives.missing=drop", "data.negatives.range_min=2")
    swept = ("data.negatives.count=0,1,3", "data.negatives.max_score=0.9,0.8", "data.negatives.range_max=20,10")
    sweep = pass_sweep([*words, *swept, "data.negatives.relative_margin=interval(0,0.3)", "study.n_trials=4"])
    assert sweep.plan is not None
    (cell,) = sweep.plan.cells.values()
    strictest = {"count": 3, "range_min": 2, "range_max": 10, "relative_margin": 0.3, "max_score": 0.8}
    assert cell["data"]["negatives"]["strictest"] == strictest  # type: ignore[index]
    (fixed,) = [word for word in sweep.fixed if "strictest" in word]
    single = pass_single([*words, fixed, "data.negatives.count=1"]).config
    assert single.data.negatives.dropping is not None
    assert {key: getattr(single.data.negatives.dropping, key) for key in strictest} == strictest
    repeating = pass_sweep(["loss=mnrl", *PAIRS, *swept]).plan
    assert repeating is not None
    assert not any(cell["data"]["negatives"]["strictest"] for cell in repeating.cells.values())  # type: ignore[index]


def test_a_study_of_several_models_that_drops_questions_names_its_miner() -> None:
    words = ("loss=mnrl", *PAIRS, "data.negatives.missing=drop", "data.negatives.count=0,1")
    assert errors("-m", *words, "model.max_seq_length=16,32") == [
        "data.negatives.miner: null is the base model, and this study compares several: name one, as missing=drop "
        "leaves out the questions for which it finds too few negatives"
    ]


@pytest.mark.parametrize("count", ["3", "0,1"])
def test_a_study_that_drops_questions_does_so_by_one_miner(count: str) -> None:
    words = ("loss=mnrl", *PAIRS, f"data.negatives.count={count}", f"data.negatives.miner=null,{tiny_model_path()}")
    assert errors("-m", *words, "data.negatives.missing=drop") == [
        "data.negatives.miner: cannot be swept with missing=drop: each miner would leave out other questions; name "
        "one, or set missing=repeat"
    ]
    pass_sweep(words)


@pytest.mark.parametrize(
    ("losses", "searched"),
    [("mnrl", {"": True}), ("mnrl,mnrl_symmetric", {"mnrl": True}), ("mnrl_symmetric,megabatch_margin", {})],
)
def test_a_full_search_tries_negatives_with_the_losses_that_take_any_number(
    losses: str, searched: dict[str, bool]
) -> None:
    plan = pass_sweep([f"loss={losses}", *PAIRS, "search=full"]).plan
    assert plan is not None
    axes = [axis for axis in plan.axes if axis.key == "data.negatives.count"]
    assert {axis.when.get("loss", ""): True for axis in axes} == searched
    assert all(axis.choices == (0, 1, 3) for axis in axes)  # type: ignore[union-attr]


def test_a_full_search_tries_one_negative_or_more_with_losses_that_do_not_take_pairs() -> None:
    plan = pass_sweep(["loss=mnrl,angle", *PAIRS, "search=full"]).plan
    assert plan is not None
    axes = [axis for axis in plan.axes if axis.key == "data.negatives.count"]
    tried = {axis.when["loss"]: axis.choices for axis in axes}  # type: ignore[union-attr]
    assert tried == {"mnrl": (0, 1, 3), "angle": (1, 3)}
    teacher = f"loss.teacher={tiny_model_path()}"
    alone = pass_sweep(["loss=margin_mse", teacher, *PAIRS, "search=full"]).plan
    assert alone is not None
    (axis,) = (axis for axis in alone.axes if axis.key == "data.negatives.count")
    assert axis.choices == (1, 3)  # type: ignore[union-attr]
