"""A model whose result depends on random numbers during training: resuming continues their sequence."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer

from embedsweep.models.tiny import tiny_model_path
from tests.faults import studies
from tests.faults.studies import WORDS, Study

pytestmark = pytest.mark.slow


def test_a_model_with_dropout_resumes_after_a_kill_with_equal_results(tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    model[0].auto_model.config.hidden_dropout_prob = 0.2
    model.save_pretrained(str(tmp_path / "with_dropout"))
    words = [word for word in WORDS if not word.startswith(("model=", "loss="))]
    words += ["loss=cosent", "model=pretrained", f"model.path={tmp_path / 'with_dropout'}", "trainer.seed=1,2"]

    assert studies.run(tmp_path / "undisturbed", words).code == 0
    undisturbed = Study(tmp_path / "undisturbed")
    assert undisturbed.trials[0].value != undisturbed.trials[1].value
    killed = studies.run(tmp_path / "killed", words, ("kill", "step:8"))
    assert killed.code == -9, killed.output
    again = studies.run(tmp_path / "killed", words)
    assert again.code == 0, again.output
    studies.check_equal(Study(tmp_path / "killed"), undisturbed)
