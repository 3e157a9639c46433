"""The defaults in conf/: a sweep of the tiny model on the demo data shows differences worth searching."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedsweep.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def test_scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Test Spearman of three runs: the defaults, another loss, and a tenth of the learning rate."""
    runs = {"cosent": [], "mnrl": ["loss=mnrl"], "slow": ["optimizer.lr=1e-4"]}
    return {name: run(tmp_path_factory.mktemp(name), words) for name, words in runs.items()}


def run(folder: Path, words: list[str]) -> float:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", *words]) == 0
    (result,) = folder.glob("sweeps/single/*/result.json")
    return float(json.loads(result.read_text(encoding="utf-8"))["test"]["test/spearman_cosine"])


@pytest.mark.parametrize("loss", ["cosent", "mnrl"])
def test_the_defaults_leave_room_above_and_below(test_scores: dict[str, float], loss: str) -> None:
    assert 0.60 < test_scores[loss] < 0.95


def test_the_learning_rate_alone_matters(test_scores: dict[str, float]) -> None:
    assert abs(test_scores["cosent"] - test_scores["slow"]) > 0.05
