"""Fixtures of the tests of cards: a model as a trainer leaves it, and the card that is written for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from embedsweep.card.write import write_card
from embedsweep.config.result import TrialResult
from embedsweep.config.trial import TrialConfig
from embedsweep.data.examples import Examples, Splits
from embedsweep.emissions.rows import COLUMNS, write_rows
from embedsweep.models.tiny import tiny_model_path
from embedsweep.validation.single import pass_single
from tests.card.cases import (
    RESULT,
    SPLITS,
    TRAIN,
    Write,
    as_trained,
    text_of,
)


@pytest.fixture(scope="module")
def config() -> TrialConfig:
    return pass_single(["loss=mnrl", "optimizer.lr=3e-4", "trainer.device=cpu"]).config


@pytest.fixture(scope="module")
def tiny() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture
def model(tiny: SentenceTransformer) -> SentenceTransformer:
    """The tiny model with the card data that a training on TRAIN leaves."""
    return as_trained(tiny, {"demo": (TRAIN, losses.CoSENTLoss(tiny))})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    row = dict.fromkeys(COLUMNS, "") | {"attempt": "1", "cpu_model": "Some CPU", "gpu_model": "1 x Some GPU"}
    write_rows(tmp_path / "emissions.csv", [row])
    return model


@pytest.fixture
def write(config: TrialConfig, folder: Path, model: SentenceTransformer) -> Write:
    """Return a function that writes the card of ``folder`` and returns its text."""

    def written(
        result: TrialResult = RESULT,
        config: TrialConfig = config,
        splits: Splits = SPLITS,
        also: dict[str, Examples] | None = None,
        selection: str = "It was run once.",
        warnings: Sequence[str] = (),
    ) -> str:
        costs = folder.parent / "emissions.csv"
        write_card(model, folder, config, result, splits, also or {}, selection, costs, warnings)
        return text_of(folder)

    return written
