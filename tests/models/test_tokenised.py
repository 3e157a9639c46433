"""Texts that were tokenised before: a batch of them is what the library makes of it, and it is not asked again."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from embedsweep.models import tokenised
from embedsweep.models.tiny import tiny_model_path
from embedsweep.models.tokenised import keep_tokenised

TEXTS = ["a man plays a guitar", "", "a", "a woman " * 80, "der Zug fährt ab", "a man plays a guitar."]


def own() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenised, "_memory", tokenised._Memory())


@pytest.fixture(scope="module")
def library() -> SentenceTransformer:
    return own()


@pytest.fixture
def keeping() -> SentenceTransformer:
    model = own()
    keep_tokenised(model)
    return model


def same(features: dict[str, Any], expected: dict[str, Any]) -> bool:
    assert list(features) == list(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert features[key].dtype == value.dtype
            assert torch.equal(features[key], value), key
        else:
            assert features[key] == value
    return True


@pytest.mark.parametrize("seed", range(5))
def test_batches_are_those_of_the_library(
    seed: int, library: SentenceTransformer, keeping: SentenceTransformer
) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        texts = draw.choices(TEXTS, k=draw.randint(1, 8))
        for prompt in (None, "query: ", "a longer prompt: "):
            given = {"prompt": prompt, "task": draw.choice([None, "query"])}
            assert same(keeping.preprocess(texts, **given), library.preprocess(texts, **given))


def test_a_text_is_tokenised_once_in_a_process(keeping: SentenceTransformer, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = keeping.preprocess(TEXTS[:3])
    later = own()

    def asked(inputs: list[str], **_: Any) -> None:
        raise AssertionError(f"tokenised again: {inputs}")

    monkeypatch.setattr(later[0], "preprocess", asked)
    keep_tokenised(later)
    assert same(later.preprocess(TEXTS[:3]), expected)
    assert same(later.preprocess([TEXTS[0], TEXTS[0]]), own().preprocess([TEXTS[0], TEXTS[0]]))
    with pytest.raises(AssertionError, match=r"tokenised again: \['der Zug fährt ab'\]"):
        later.preprocess([TEXTS[0], TEXTS[4]])


def test_another_length_is_another_text(keeping: SentenceTransformer) -> None:
    assert same(keeping.preprocess(TEXTS), own().preprocess(TEXTS))
    shorter, library = own(), own()
    shorter.max_seq_length = library.max_seq_length = 8
    keep_tokenised(shorter)
    assert same(shorter.preprocess(TEXTS), library.preprocess(TEXTS))


def test_models_that_share_a_vocabulary_and_are_called_otherwise_share_nothing(keeping: SentenceTransformer) -> None:
    keeping.preprocess(TEXTS)
    other, library = own(), own()
    for model in (other, library):  # as DistilBERT beside BERT
        model.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    keep_tokenised(other)
    assert same(other.preprocess(TEXTS), library.preprocess(TEXTS))
    assert "token_type_ids" not in other.preprocess(TEXTS)


def test_what_pads_to_a_width_of_its_own_is_left_to_the_library() -> None:
    model = own()
    model[0].processing_kwargs = {"text": {"pad_to_multiple_of": 8}}
    keep_tokenised(model)
    assert model.preprocess(["a"])["input_ids"].shape == (1, 8)
    assert tokenised._memory.n_bytes == 0


def test_a_full_memory_keeps_no_more_and_changes_nothing(
    library: SentenceTransformer, keeping: SentenceTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenised, "MOST_BYTES", 3)
    keeping.preprocess(TEXTS[:1])
    kept = tokenised._memory.n_bytes
    assert kept >= 3
    for texts in (TEXTS, TEXTS[1:], TEXTS[:1]):
        assert same(keeping.preprocess(texts), library.preprocess(texts))
    assert tokenised._memory.n_bytes == kept


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        ({"padding_side": "left"}, TEXTS),
        ({"model_input_names": ["input_ids"]}, TEXTS),
        ({}, [(TEXTS[0], TEXTS[4]), (TEXTS[2], TEXTS[0])]),
    ],
    ids=["left", "no mask", "pairs"],
)
def test_what_cannot_be_put_together_is_left_to_the_library(change: dict[str, Any], inputs: list[Any]) -> None:
    model, library = own(), own()
    for name, value in change.items():
        setattr(model.tokenizer, name, value)
        setattr(library.tokenizer, name, value)
    keep_tokenised(model)
    for _ in range(2):
        assert same(model.preprocess(inputs), library.preprocess(inputs))
    assert tokenised._memory.n_bytes == 0


def test_a_model_that_keeps_goes_to_another_process_without_what_is_kept(keeping: SentenceTransformer) -> None:
    before = len(pickle.dumps(keeping[0]))
    keeping.preprocess([f"{text} {number}" for text in TEXTS for number in range(500)])
    assert len(pickle.dumps(keeping[0])) < before + 1000
    assert same(pickle.loads(pickle.dumps(keeping[0])).preprocess(TEXTS), own().preprocess(TEXTS))


def test_a_batch_of_an_evaluation_stays_on_a_gpu(monkeypatch: pytest.MonkeyPatch, keeping: SentenceTransformer) -> None:
    """No GPU here: the device that is told is torch's own without memory, so that what is moved there can be seen."""
    monkeypatch.setattr(tokenised, "_device_of", lambda _: torch.device("meta"))
    with torch.inference_mode():
        first = keeping.preprocess(TEXTS)
        first["token_embeddings"] = torch.zeros(1)
        again = keeping.preprocess(TEXTS)
        other = keeping.preprocess(TEXTS[:2])
    assert again["input_ids"] is first["input_ids"]
    assert again["input_ids"].device.type == "meta"
    assert "token_embeddings" not in again
    assert other["input_ids"].shape[0] == 2
    assert keeping.preprocess(TEXTS)["input_ids"].device.type == "cpu"  # batches of a training are not kept


def test_no_more_is_kept_on_a_gpu_than_fits(monkeypatch: pytest.MonkeyPatch, keeping: SentenceTransformer) -> None:
    monkeypatch.setattr(tokenised, "_device_of", lambda _: torch.device("meta"))
    monkeypatch.setattr(tokenised, "MOST_BYTES_ON_DEVICE", 1)
    with torch.inference_mode():
        kept, not_kept = keeping.preprocess(TEXTS[:2]), keeping.preprocess(TEXTS)
        assert keeping.preprocess(TEXTS[:2])["input_ids"] is kept["input_ids"]
        assert keeping.preprocess(TEXTS)["input_ids"] is not not_kept["input_ids"]
