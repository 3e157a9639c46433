"""Training in float32 whatever precision the base model is stored in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from embedsweep.models.tiny import tiny_model_path
from embedsweep.training.checkpoints import Checkpoints
from embedsweep.validation.single import pass_single
from tests.training.cases import RecordingListener, train_config

STEPS = 6


@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16])
def test_a_model_stored_in_half_precision_moves_as_one_in_float32(stored: torch.dtype, tmp_path: Path) -> None:
    shares, scores = [], []
    for dtype in (torch.float32, stored):
        folder = tmp_path / str(dtype)
        SentenceTransformer(str(tiny_model_path()), device="cpu").to(stored).to(dtype).save_pretrained(str(folder))
        words = [
            "model=pretrained",
            f"model.path={folder}",
            "trainer.device=cpu",
            "data.limit=192",
            "optimizer.lr=2e-5",
        ]
        config = pass_single([*words, f"trainer.max_steps={STEPS}", f"trainer.eval_every={STEPS}"]).config
        before = load_file(folder / "model.safetensors")
        outcome, model = train_config(config, folder / "checkpoints", RecordingListener())
        after = dict(model[0].auto_model.named_parameters())
        written = load_file(Checkpoints(folder / "checkpoints").path(STEPS) / "model.safetensors")
        assert {value.dtype for value in (*after.values(), *written.values())} == {torch.float32}
        moved = sum(int((before[name].float() != after[name]).sum()) for name in after)
        shares.append(moved / sum(value.numel() for value in after.values()))
        scores.append(outcome.dev["dev/spearman_cosine"])
    # In half precision a rate of 2e-5 moves less than a tenth of them.
    assert shares[0] == pytest.approx(shares[1], abs=1e-3)
    assert shares[1] > 0.5
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
