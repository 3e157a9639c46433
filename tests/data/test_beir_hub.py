"""Reading datasets of the hub in the layout of BEIR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import datasets
import pytest

from embedsweep.config.compose import open_composer
from embedsweep.config.trial import DataConfig, Split
from embedsweep.data import load
from embedsweep.data.load import load_judged, load_retrieval, load_train
from embedsweep.errors import ConfigError
from tests.data.test_beir import BEIR

HUB = replace(BEIR, hub="someone/nano", revision="v1")
Rows = list[dict[str, Any]]
CORPUS: Rows = [{"_id": "d1", "text": "first"}, {"_id": "d2", "text": "second"}, {"_id": "d3", "text": ""}]
QUERIES: Rows = [{"_id": "q1", "text": "one?"}, {"_id": "q2", "text": "two?"}, {"_id": "q3", "text": "three?"}]
QRELS: Rows = [{"query-id": "q1", "corpus-id": "d1"}, {"query-id": "q2", "corpus-id": "d2"}]


@pytest.fixture(autouse=True)
def own_cache(unreachable_hub: None) -> None:
    """Keep the caches empty, those of this process too: every test's dataset has the same name."""
    for cached in (load._read, load._judged, load._retrieval):
        cached.cache_clear()


def _serve(monkeypatch: pytest.MonkeyPatch, subsets: Mapping[str, Mapping[str, Rows]]) -> list[tuple[str, str]]:
    """Serve subsets in the place of the hub; return the list of what is asked for."""
    asked: list[tuple[str, str]] = []

    def download(path: str, *, name: str, revision: str) -> datasets.DatasetDict:
        asked.append((name, revision))
        if name not in subsets:
            raise ValueError(f"BuilderConfig '{name}' not found. Available: {sorted(subsets)}")
        return datasets.DatasetDict({key: datasets.Dataset.from_list(rows) for key, rows in subsets[name].items()})

    monkeypatch.setattr("embedsweep.data.sources.hub_reachable", lambda: True)
    monkeypatch.setattr(datasets, "load_dataset", download)
    return asked


def _refusal(config: DataConfig, split: Split = "test") -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_retrieval(config, split)
    return [str(problem) for problem in error.value.problems]


def test_a_split_of_nanobeir_is_a_set_with_its_own_documents(monkeypatch: pytest.MonkeyPatch) -> None:
    other: Rows = [{"_id": "x", "text": "of another set"}]
    _serve(
        monkeypatch,
        {
            "corpus": {"NanoOther": other, "NanoOne": CORPUS},
            "queries": {"NanoOther": other, "NanoOne": QUERIES},
            "qrels": {"NanoOne": QRELS},
        },
    )
    retrieval = load_retrieval(replace(HUB, splits={**BEIR.splits, "test": ("NanoOne",)}), "test")
    assert retrieval.documents == ("first", "second")
    assert retrieval.relevant == {"q1": {"d1": 1.0}, "q2": {"d2": 1.0}}
    assert retrieval.origin == "someone/nano@v1[qrels] NanoOne (1 text without a character left out)"


def test_a_set_of_mteb_has_one_corpus_for_all_splits_and_scored_judgements(monkeypatch: pytest.MonkeyPatch) -> None:
    titled = [{"title": "Title", **row} for row in CORPUS[:2]]
    scored = [*({**row, "score": 2} for row in QRELS), {"query-id": "q1", "corpus-id": "d2", "score": 0}]
    splits = {"train": scored, "test": scored}
    asked = _serve(monkeypatch, {"corpus": {"corpus": titled}, "queries": {"queries": QUERIES}, "default": splits})
    retrieval = load_retrieval(replace(HUB, titles=True), "test")
    assert retrieval.documents == ("Title first", "Title second")
    assert retrieval.relevant == {"q1": {"d1": 2.0, "d2": 0.0}, "q2": {"d2": 2.0}}
    assert retrieval.origin == "someone/nano@v1[default] test"
    assert load_train(replace(HUB, titles=True)).texts == (("one?", "two?"), ("Title first", "Title second"))
    assert ("corpus", "v1") in asked


def test_a_judgement_of_a_text_that_was_left_out_is_left_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = [*QRELS, {"query-id": "q1", "corpus-id": "d3"}]
    _serve(monkeypatch, {"corpus": {"c": CORPUS}, "queries": {"q": QUERIES}, "qrels": {"test": judged}})
    assert load_retrieval(HUB, "test").relevant == {"q1": {"d1": 1.0}, "q2": {"d2": 1.0}}


def test_splits_that_the_hub_does_not_have_judge_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(monkeypatch, {"corpus": {"c": CORPUS}, "queries": {"q": QUERIES}, "qrels": {"train": QRELS, "test": QRELS}})
    assert [each.origin.split("[qrels] ")[1].split()[0] for each in load_judged(HUB)] == ["train", "test"]
    _serve(monkeypatch, {"corpus": {"c": CORPUS}, "queries": {"q": QUERIES}, "qrels": {"train": QRELS, "dev": []}})
    with pytest.raises(ConfigError, match="it has nothing"):
        load_judged(replace(HUB, revision="v2"))


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        (
            {"corpus": {"c": CORPUS}, "queries": {"q": QUERIES}, "qrels": {"validation": QRELS}},
            "data.splits.test: someone/nano@v1[qrels] has no split 'test'; it has 'validation'",
        ),
        (
            {"corpus": {"a": CORPUS, "b": CORPUS}, "queries": {"q": QUERIES}, "qrels": {"test": QRELS}},
            "someone/nano@v1[corpus]: has the splits a, b, of which none is called test: there must be one, or a "
            "single one for all",
        ),
        (
            {"corpus": {"c": CORPUS}, "qrels": {"test": QRELS}},
            "data.hub: someone/nano cannot be loaded: ValueError: BuilderConfig 'queries' not found. Available: "
            "['corpus', 'qrels']",
        ),
        (
            {"corpus": {"c": [{"id": "d1", "text": "x"}]}, "queries": {"q": QUERIES}, "qrels": {"test": QRELS}},
            "someone/nano@v1[corpus] c: has no column '_id' (data.format=beir); it has 'id'",
        ),
    ],
)
def test_other_layouts_are_refused(
    monkeypatch: pytest.MonkeyPatch, subsets: Mapping[str, Mapping[str, Rows]], message: str
) -> None:
    _serve(monkeypatch, subsets)
    assert _refusal(HUB) == [message]


def test_without_the_hub_the_files_that_would_do_are_named() -> None:
    assert _refusal(replace(HUB, revision=None)) == [
        "data.hub: someone/nano is not in the local cache, and http://127.0.0.1:9 does not answer: set "
        "data.path=FOLDER, with corpus.jsonl, queries.jsonl, qrels/test.tsv in that folder"
    ]


def test_the_benchmarks_of_nanobeir_read_what_the_library_does() -> None:
    import inspect

    from sentence_transformers.sentence_transformer.evaluation import NanoBEIREvaluator
    from sentence_transformers.sentence_transformer.evaluation.nano_beir import DATASET_NAME_TO_HUMAN_READABLE

    with open_composer() as composer:
        benchmarks = {name: composer.benchmark(f"nano-{name}") for name in DATASET_NAME_TO_HUMAN_READABLE}
    hub = inspect.signature(NanoBEIREvaluator.__init__).parameters["dataset_id"].default
    for name, readable in DATASET_NAME_TO_HUMAN_READABLE.items():
        assert benchmarks[name]["family"] == "retrieval"
        assert benchmarks[name]["data"]["hub"] == hub
        assert benchmarks[name]["data"]["splits"]["test"] == [f"Nano{readable}"]
