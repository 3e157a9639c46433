"""Remembered tokens: batches equal the library's, and no text is tokenised twice."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest
import sentence_transformers
import torch

from embedsweep.models import tokenised
from embedsweep.models.tiny import tiny_model_path
from embedsweep.models.tokenised import SentenceTransformer

TEXTS = ["a man plays a guitar", "", "a", "a woman " * 80, "der Zug fährt ab", "a man plays a guitar."]


def library_model() -> sentence_transformers.SentenceTransformer:
    return sentence_transformers.SentenceTransformer(str(tiny_model_path()), device="cpu")


def new_model() -> SentenceTransformer:
    return SentenceTransformer(str(tiny_model_path()), device="cpu")


@pytest.fixture(autouse=True)
def empty_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenised, "_memory", tokenised._Memory())


@pytest.fixture(scope="module")
def library() -> sentence_transformers.SentenceTransformer:
    return library_model()


@pytest.fixture
def remembering() -> SentenceTransformer:
    model = new_model()
    model.remember_tokens()
    return model


def assert_same(features: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(features) == list(expected)
    for key, value in expected.items():
        if isinstance(value, torch.Tensor):
            assert features[key].dtype == value.dtype
            assert torch.equal(features[key], value), key
        else:
            assert features[key] == value


@pytest.mark.parametrize("seed", range(5))
def test_batches_equal_the_library(
    seed: int, library: sentence_transformers.SentenceTransformer, remembering: SentenceTransformer
) -> None:
    draw = random.Random(seed)
    for _ in range(20):
        texts = draw.choices(TEXTS, k=draw.randint(1, 8))
        for prompt in (None, "query: ", "a longer prompt: "):
            arguments = {"prompt": prompt, "task": draw.choice([None, "query"])}
            assert_same(remembering.preprocess(texts, **arguments), library.preprocess(texts, **arguments))


def test_no_text_is_tokenised_twice_in_a_process(
    library: sentence_transformers.SentenceTransformer,
    remembering: SentenceTransformer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = remembering.preprocess(TEXTS[:3])
    later = new_model()
    later.remember_tokens()

    def tokenise(inputs: list[str], **_: Any) -> None:
        raise AssertionError(f"tokenised again: {inputs}")

    monkeypatch.setattr(later[0], "preprocess", tokenise)
    assert_same(later.preprocess(TEXTS[:3]), expected)
    assert_same(later.preprocess([TEXTS[0], TEXTS[0]]), library.preprocess([TEXTS[0], TEXTS[0]]))
    with pytest.raises(AssertionError, match=r"tokenised again: \['der Zug fährt ab'\]"):
        later.preprocess([TEXTS[0], TEXTS[4]])


def test_a_model_remembers_only_after_remember_tokens(library: sentence_transformers.SentenceTransformer) -> None:
    model = new_model()
    assert_same(model.preprocess(TEXTS), library.preprocess(TEXTS))
    assert tokenised._memory.n_bytes == 0


def test_cards_and_saved_models_name_the_class_of_the_library(remembering: SentenceTransformer) -> None:
    assert type(remembering).__name__ == "SentenceTransformer"
    assert remembering.model_type == "SentenceTransformer"


def test_another_maximum_length_is_remembered_apart(remembering: SentenceTransformer) -> None:
    assert_same(remembering.preprocess(TEXTS), library_model().preprocess(TEXTS))
    shorter, library = new_model(), library_model()
    shorter.remember_tokens()
    shorter.max_seq_length = library.max_seq_length = 8
    assert_same(shorter.preprocess(TEXTS), library.preprocess(TEXTS))


def test_models_with_one_vocabulary_and_other_inputs_share_nothing(remembering: SentenceTransformer) -> None:
    remembering.preprocess(TEXTS)
    other, library = new_model(), library_model()
    for model in (other, library):  # as DistilBERT beside BERT
        model.tokenizer.model_input_names = ["input_ids", "attention_mask"]
    other.remember_tokens()
    assert_same(other.preprocess(TEXTS), library.preprocess(TEXTS))
    assert "token_type_ids" not in other.preprocess(TEXTS)


def test_texts_padded_to_a_fixed_width_are_not_remembered() -> None:
    model = new_model()
    model[0].processing_kwargs = {"text": {"pad_to_multiple_of": 8}}
    model.remember_tokens()
    assert model.preprocess(["a"])["input_ids"].shape == (1, 8)
    assert tokenised._memory.n_bytes == 0


def test_a_full_memory_remembers_no_more_and_changes_nothing(
    library: sentence_transformers.SentenceTransformer,
    remembering: SentenceTransformer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tokenised, "MAX_BYTES", 3)
    remembering.preprocess(TEXTS[:1])
    n_bytes = tokenised._memory.n_bytes
    assert n_bytes >= 3
    for texts in (TEXTS, TEXTS[1:], TEXTS[:1]):
        assert_same(remembering.preprocess(texts), library.preprocess(texts))
    assert tokenised._memory.n_bytes == n_bytes


@pytest.mark.parametrize(
    ("change", "inputs"),
    [
        ({"padding_side": "left"}, TEXTS),
        ({"model_input_names": ["input_ids"]}, TEXTS),
        ({}, [(TEXTS[0], TEXTS[4]), (TEXTS[2], TEXTS[0])]),
    ],
    ids=["left", "no mask", "pairs"],
)
def test_inputs_that_cannot_be_rebuilt_are_left_to_the_library(change: dict[str, Any], inputs: list[Any]) -> None:
    model, library = new_model(), library_model()
    for name, value in change.items():
        setattr(model.tokenizer, name, value)
        setattr(library.tokenizer, name, value)
    model.remember_tokens()
    for _ in range(2):
        assert_same(model.preprocess(inputs), library.preprocess(inputs))
    assert tokenised._memory.n_bytes == 0


def test_a_model_is_sent_to_another_process_without_the_remembered_texts(remembering: SentenceTransformer) -> None:
    before = len(pickle.dumps(remembering))
    remembering.preprocess([f"{text} {number}" for text in TEXTS for number in range(500)])
    assert len(pickle.dumps(remembering)) < before + 1000
    assert_same(pickle.loads(pickle.dumps(remembering)).preprocess(TEXTS), library_model().preprocess(TEXTS))


def test_a_batch_of_an_evaluation_stays_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, remembering: SentenceTransformer
) -> None:
    """There is no GPU here: torch's device without memory takes its place, so that moved tensors can be seen."""
    monkeypatch.setattr(tokenised, "_device_of", lambda _: torch.device("meta"))
    with torch.inference_mode():
        first = remembering.preprocess(TEXTS)
        first["token_embeddings"] = torch.zeros(1)
        again = remembering.preprocess(TEXTS)
        other = remembering.preprocess(TEXTS[:2])
    assert again["input_ids"] is first["input_ids"]
    assert again["input_ids"].device.type == "meta"
    assert "token_embeddings" not in again
    assert other["input_ids"].shape[0] == 2
    assert remembering.preprocess(TEXTS)["input_ids"].device.type == "cpu"  # training batches are not kept there


def test_a_gpu_keeps_batches_up_to_a_limit(monkeypatch: pytest.MonkeyPatch, remembering: SentenceTransformer) -> None:
    monkeypatch.setattr(tokenised, "_device_of", lambda _: torch.device("meta"))
    monkeypatch.setattr(tokenised, "MAX_BYTES_ON_DEVICE", 1)
    with torch.inference_mode():
        kept, not_kept = remembering.preprocess(TEXTS[:2]), remembering.preprocess(TEXTS)
        assert remembering.preprocess(TEXTS[:2])["input_ids"] is kept["input_ids"]
        assert remembering.preprocess(TEXTS)["input_ids"] is not not_kept["input_ids"]
