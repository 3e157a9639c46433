from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

import embedsweep.models
from embedsweep.models import build_model, load_trained, torch_device
from embedsweep.models.tiny import tiny_model_path
from embedsweep.schema import ModelConfig

TINY = ModelConfig("tiny", None, None, "mean", None, 1e-3, trust_remote_code=False)
TEXTS = ["The doctor followed the teacher in the park.", "El médico siguió al profesor."]


def token_embeddings(text: str) -> np.ndarray:
    """Of one text, without padding; ``(tokens, dim)``."""
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    found: torch.Tensor = model.encode([text], output_value="token_embeddings", convert_to_tensor=True)[0]
    return found.numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_is_the_one_configured(pooling: str) -> None:
    model = build_model(replace(TINY, pooling=pooling), "cpu")  # type: ignore[arg-type]
    for text, embedding in zip(TEXTS, model.encode(TEXTS), strict=True):
        tokens = token_embeddings(text)
        expected = {"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.max(0)}[pooling]
        np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-5)


def test_a_model_without_pooling_cannot_have_it_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(SentenceTransformer):  # type: ignore[misc]  # the library is untyped
        def named_children(self) -> list[tuple[str, object]]:
            return [entry for entry in super().named_children() if not isinstance(entry[1], Pooling)]

    monkeypatch.setattr("sentence_transformers.SentenceTransformer", Bare)
    with pytest.raises(ValueError, match=r"no pooling to replace by cls; leave model.pooling at null"):
        build_model(replace(TINY, pooling="cls"), "cpu")


def test_length_is_cut_to_the_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    short = build_model(replace(TINY, max_seq_length=5), "cpu")
    assert short.max_seq_length == 5
    same, other = short.encode(["The doctor followed the teacher", "The doctor followed a cat"])
    np.testing.assert_allclose(same, other, atol=1e-6)  # three words and two special tokens


def test_the_card_names_a_hub_model_though_it_is_loaded_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def cached(hub_id: str, revision: str | None) -> Path:
        asked.append((hub_id, revision))
        return tiny_model_path()

    monkeypatch.setattr(embedsweep.models, "cached_model_path", cached)
    config = ModelConfig("minilm", "ORG/NAME", "v1", None, None, 2e-5, trust_remote_code=False)
    assert build_model(config, "cpu").model_card_data.base_model == "ORG/NAME"
    assert asked == [("ORG/NAME", "v1")]


def test_a_folder_is_no_hub_model(tmp_path: Path) -> None:
    config = ModelConfig("pretrained", str(tiny_model_path()), None, None, None, 2e-5, trust_remote_code=False)
    model = build_model(config, "cpu")
    assert model.model_card_data.base_model is None
    np.testing.assert_array_equal(model.encode(TEXTS), build_model(TINY, "cpu").encode(TEXTS))


def test_a_plain_transformer_folder_is_pooled_by_its_mean(tmp_path: Path) -> None:
    Transformer(str(tiny_model_path())).save(str(tmp_path))
    config = ModelConfig("pretrained", str(tmp_path), None, "mean", None, 2e-5, trust_remote_code=False)
    tokens = token_embeddings(TEXTS[0])
    np.testing.assert_allclose(build_model(config, "cpu").encode(TEXTS[:1])[0], tokens.mean(0), rtol=1e-4, atol=1e-5)


def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path) -> None:
    model = build_model(replace(TINY, pooling="max", max_seq_length=7), "cpu")
    model.save_pretrained(str(tmp_path / "model"))
    loaded = load_trained(tmp_path / "model", TINY, "cpu")
    assert loaded.max_seq_length == 7
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


@pytest.mark.parametrize(
    ("device", "expected"), [("auto", None), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:3", "cuda"), ("mps", "mps")]
)
def test_devices_are_torchs(device: str, expected: str | None) -> None:
    assert torch_device(device) == expected
