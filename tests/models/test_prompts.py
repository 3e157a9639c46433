"""One rule for prompts: a training with them equals one on texts that have them in front."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from embedsweep.config.trial import PromptRule, Shape, Split
from embedsweep.models.build import build_model
from embedsweep.models.prompts import prompts_in_words, training_prompts
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single
from tests.configs import PLAIN
from tests.demo_pairs import demo_pairs
from tests.training.cases import train_config

TINY = replace(PLAIN, name="tiny", pooling="mean")
ALL = {"query": "q: ", "document": "d: ", "other": "o: "}
QUERIES = {"query": "q: "}
COLUMNS = ("anchor", "positive", "negative")
ROLES = {"anchor": "q: ", "positive": "d: ", "negative": "d: "}
OTHER = dict.fromkeys(COLUMNS, "o: ")

CASES: list[tuple[dict[str, str], dict[str, str], str | None, Shape, PromptRule, dict[str, str]]] = [
    # own prompts, configured ones, default, shape of the data, rule, expected
    ({}, {}, None, "triplets", "roles", {}),
    ({}, ALL, None, "triplets", "roles", ROLES),
    (ALL, {}, None, "triplets", "roles", ROLES),
    (ALL, {"query": "Q "}, None, "triplets", "roles", {**ROLES, "anchor": "Q "}),
    (ALL, {}, "other", "triplets", "roles", ROLES),
    (QUERIES, {}, None, "triplets", "roles", {"anchor": "q: "}),
    ({"other": "o: "}, {}, "other", "triplets", "roles", OTHER),
    (ALL, {}, None, "scored_pairs", "roles", {}),
    (ALL, {}, "other", "scored_pairs", "roles", OTHER),
    (ALL, {}, "query", "class_pairs", "roles", dict.fromkeys(COLUMNS, "q: ")),
    # studies begun before: configured prompts alone, by column
    (ALL, {}, "other", "triplets", "columns", {}),
    ({}, ALL, None, "scored_pairs", "columns", ROLES),
    ({}, ALL, "other", "scored_pairs", "columns", ROLES),
    ({}, {"query": "q: ", "other": "o: "}, "other", "triplets", "columns", OTHER),
    ({}, QUERIES, None, "triplets", "columns", {}),
]


@pytest.mark.parametrize(("own", "configured", "default", "shape", "rule", "expected"), CASES)
def test_queries_documents_and_equals_get_their_prompts(
    own: dict[str, str],
    configured: dict[str, str],
    default: str | None,
    shape: Shape,
    rule: PromptRule,
    expected: dict[str, str],
    tmp_path: Path,
) -> None:
    saved = SentenceTransformer(str(tiny_model_path()), device="cpu", prompts=own)
    saved.default_prompt_name = default if default in own else None
    saved.save_pretrained(str(tmp_path))
    default_key = default if default in configured else None
    config = replace(PLAIN, path=str(tmp_path), prompts=configured, default_prompt=default_key, prompt_rule=rule)
    assert training_prompts(build_model(config, "cpu"), config, shape, COLUMNS) == expected


def _write(folder: Path, rows: Mapping[Split, list[tuple[str, ...]]], first: str, second: str) -> Path:
    folder.mkdir()
    for split, lines in rows.items():
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["sentence1", "sentence2", "score"][: len(lines[0])])
            writer.writerows([first + line[0], second + line[1], *line[2:]] for line in lines)
    return folder


def _scored() -> dict[Split, list[tuple[str, ...]]]:
    counts: dict[Split, int] = {"train": 96, "dev": 60, "test": 60}
    return {split: [(a, b, str(score)) for a, b, score in demo_pairs(split)[:n]] for split, n in counts.items()}


@pytest.mark.parametrize("is_own", [True, False])
def test_pairs_of_equals_are_trained_and_scored_with_the_default_prompt(is_own: bool, tmp_path: Path) -> None:
    prompts, rows = {"topic": "the topic is "}, _scored()
    model = SentenceTransformer(str(tiny_model_path()), device="cpu", prompts=prompts if is_own else {})
    model.default_prompt_name = "topic" if is_own else None
    model.save_pretrained(str(tmp_path / "with"))
    plain = _write(tmp_path / "plain", rows, "", "")
    prefixed = _write(tmp_path / "prefixed", rows, prompts["topic"], prompts["topic"])
    configured = [] if is_own else ["model.prompts={topic: 'the topic is '}", "model.default_prompt=topic"]
    scores: list[Mapping[str, float]] = []
    for path, data, words in ((tmp_path / "with", plain, configured), (tiny_model_path(), prefixed, [])):
        common = ["trainer.device=cpu", "data=csv", f"data.path={data}", "model=pretrained", f"model.path={path}"]
        config = pass_single([*common, *words, "trainer.epochs=2", "optimizer.lr=1e-3"]).config
        outcome, _ = train_config(config, tmp_path / f"checkpoints{len(scores)}")
        scores.append(outcome.dev)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_positive_pairs_are_trained_as_queries_and_documents(tmp_path: Path) -> None:
    rows: dict[Split, list[tuple[str, ...]]] = {"train": [line[:2] for line in _scored()["train"]]}
    plain, prefixed = _write(tmp_path / "plain", rows, "", ""), _write(tmp_path / "prefixed", rows, "q: ", "d: ")
    scores: list[Mapping[str, float]] = []
    for data, words in ((plain, ["model.prompts={query: 'q: ', document: 'd: '}"]), (prefixed, [])):
        shape = ["data.shape=positive_pairs", "data.columns=[sentence1,sentence2]"]
        splits = ["data.splits={train:train,dev:[],test:[]}", "evaluation.dev=demo-dev", "evaluation.test=demo-test"]
        last = ["trainer.epochs=2", "trainer.load_best_model_at_end=false"]
        common = ["trainer.device=cpu", "loss=mnrl", "data=csv", f"data.path={data}"]
        config = pass_single([*common, *shape, *splits, *last, *words]).config
        scores.append(train_config(config, tmp_path / f"checkpoints{len(scores)}")[0].dev)
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_what_gets_which_prompt_is_said_in_words() -> None:
    config = pass_single(["data=demo_mixed", "evaluation.dev=demo-dev", "evaluation.test=demo-test"]).config
    model = replace(TINY, prompts={**ALL, "other": 'o\n"'}, default_prompt="other")
    words = prompts_in_words(build_model(model, "cpu"), replace(config, model=model))
    assert words.endswith('; scored pairs: "o\\n\\""')
    assert words.startswith(f"{config.data.name}: ")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluation=retrieval"], '; scored queries: "q: "; scored documents: none'),
        (
            ["evaluation=retrieval", "evaluation.benchmarks=[demo-test]"],
            '; scored pairs: none; scored queries: "q: "; scored documents: none',
        ),
        (["evaluation.dev=demo-dev", "evaluation.test=demo-test"], "; scored pairs: none"),
    ],
)
def test_what_is_scored_with_which_prompt_depends_on_the_family(words: list[str], expected: str) -> None:
    config = pass_single(["data=demo_retrieval", "loss=mnrl", *words]).config
    model = replace(TINY, prompts={"query": "q: "}, default_prompt=None)
    said = prompts_in_words(build_model(model, "cpu"), replace(config, model=model))
    assert said == f'{config.data.name}: anchor "q: "{expected}'
