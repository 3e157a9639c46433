from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from embedsweep.models import tiny

TEXTS = ["The doctor followed the teacher in the park.", "El médico siguió al profesor en el jardín."]

ENCODE = f"""
import sys
from sentence_transformers import SentenceTransformer
from embedsweep.models.tiny import tiny_model_path
import hashlib
model = SentenceTransformer(str(tiny_model_path()), device="cpu")
sys.stdout.write(hashlib.sha256(model.encode({TEXTS!r}).tobytes()).hexdigest())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return tiny.tiny_model_path()


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_model_is_cached_as_safetensors(built: Path) -> None:
    assert built.parent.name == "embedsweep"
    assert built.name.startswith("tiny-")
    assert (built / "model.safetensors").is_file()
    assert not [path for path in built.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


@pytest.mark.slow
def test_the_model_loads_and_encodes_offline(built: Path) -> None:
    from sentence_transformers import SentenceTransformer

    environment = {**os.environ, "XDG_CACHE_HOME": str(built.parents[1]), "HF_HUB_OFFLINE": "1"}
    there = subprocess.run([sys.executable, "-c", ENCODE], env=environment, capture_output=True, text=True, check=True)
    model = SentenceTransformer(str(built), device="cpu")
    vectors = model.encode(TEXTS)
    assert vectors.shape == (2, 128)
    assert np.isfinite(vectors).all()
    assert model.max_seq_length == tiny.MAX_SEQ_LENGTH
    assert there.stdout == hashlib.sha256(vectors.tobytes()).hexdigest()


def test_the_vocabulary_has_the_words_of_the_demo(built: Path) -> None:
    from sentence_transformers import SentenceTransformer

    tokenizer = SentenceTransformer(str(built), device="cpu").tokenizer
    assert tokenizer.tokenize("El jardín") == ["el", "jardín"]
    assert "[UNK]" not in tokenizer.tokenize(" ".join(TEXTS))


def test_a_second_build_is_identical(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    second = tiny.tiny_model_path()
    assert second != built
    assert second.name == built.name
    assert _digests(second) == _digests(built)


def test_building_keeps_random_states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()
    tiny.tiny_model_path()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == before[2]


def test_the_model_is_built_once(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(built.parents[1]))
    monkeypatch.setattr(tiny, "_build", pytest.fail)
    assert tiny.tiny_model_path() == built


def test_a_build_that_fails_leaves_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(folder: Path, texts: list[str]) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tiny, "_build", torn)
    with pytest.raises(KeyboardInterrupt):
        tiny.tiny_model_path()
    assert not [path for path in (tmp_path / "embedsweep").iterdir() if path.is_dir()]


def test_the_next_build_removes_the_folder_of_a_killed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(folder: Path, texts: list[str]) -> None:
        (folder / "model.safetensors").write_bytes(b"whole")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tiny, "_build", quick)
    path = tiny.tiny_model_path()
    left = path.parent / f".{path.name}.left"
    path.rename(left)
    assert tiny.tiny_model_path() == path
    assert not left.exists()
