"""Fixtures of the tests of losses."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from tests.loss_cases import (
    fresh_model,
    write_other_model,
)


@pytest.fixture(scope="module")
def model() -> SentenceTransformer:
    return fresh_model()


@pytest.fixture(scope="module")
def other_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_other_model(tmp_path_factory.mktemp("other"))
