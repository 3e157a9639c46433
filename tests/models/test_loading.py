"""Loading models: no code of theirs runs, nothing is asked, weights are float32, texts can be padded."""

from __future__ import annotations

import ast
import builtins
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

import embedsweep
from embedsweep.commands.models import ResolvedModel
from embedsweep.commands.models import load_model as load_for_command
from embedsweep.config.trial import SaveDtype
from embedsweep.errors import TrialError
from embedsweep.losses.builders import denoising_autoencoder, load_encoder
from embedsweep.losses.rows import LossArguments
from embedsweep.models.build import build_model, load_trained, load_weights
from embedsweep.models.loading import as_float32, load_model, save_model
from embedsweep.models.tiny import tiny_model_path
from tests.configs import PLAIN

TINY = replace(PLAIN, name="tiny", pooling="mean")
TEXTS = ["The doctor followed the teacher in the park.", "A cat slept."]

# --- code that comes with a model


HOSTILE = """
from pathlib import Path
Path({marker!r}).touch()
from transformers import BertConfig, BertModel, BertTokenizer
class Own(BertConfig): model_type = "hostile"
class OwnModel(BertModel): config_class = Own
class OwnTokenizer(BertTokenizer): pass
class OwnModule(BertModel): pass
"""
AUTO_MAP = {
    "AutoConfig": "hostile.Own",
    "AutoModel": "hostile.OwnModel",
    "AutoModelForCausalLM": "hostile.OwnModel",
    "AutoTokenizer": ["hostile.OwnTokenizer", "hostile.OwnTokenizer"],
}


def _edit(file: Path, **values: object) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**content, **values}), encoding="utf-8")


def _unknown_type(folder: Path) -> None:
    _edit(folder / "config.json", model_type="hostile", auto_map=AUTO_MAP)
    _edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=AUTO_MAP)


def _known_type(folder: Path) -> None:
    _edit(folder / "config.json", auto_map=AUTO_MAP)
    _edit(folder / "tokenizer_config.json", auto_map=AUTO_MAP)


def _tokenizer_only(folder: Path) -> None:
    (folder / "config.json").unlink()
    _edit(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=AUTO_MAP)


def _own_module(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[0]["type"] = "hostile.OwnModule"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


def _word_embeddings(folder: Path) -> None:
    _unknown_type(folder)  # of the tokenizer, which this module loads without saying whose code may run
    package = "sentence_transformers.sentence_transformer.modules"
    modules = [{"idx": 0, "name": "0", "path": "", "type": f"{package}.WordEmbeddings"}]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    own = {"tokenizer_class": f"{package}.tokenizer.TransformersTokenizerWrapper", "update_embeddings": False}
    (folder / "wordembedding_config.json").write_text(json.dumps(own), encoding="utf-8")


def _activation(folder: Path) -> None:
    (folder / "1_Dense").mkdir()
    config = {"in_features": 128, "out_features": 8, "activation_function": "hostile.OwnModule"}
    (folder / "1_Dense" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules.append({"idx": 2, "name": "2", "path": "1_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")


FOLDERS = (_unknown_type, _known_type, _tokenizer_only, _own_module, _word_embeddings, _activation)


def _denoise(folder: Path) -> object:
    model = build_model(TINY, "cpu")
    model.transformers_model.config._name_or_path = str(folder)  # where the loss takes its decoder from
    return denoising_autoencoder(LossArguments(model, {}, None, None, None, 1))


LOADERS: dict[str, Callable[[Path], object]] = {
    "model": lambda folder: build_model(replace(PLAIN, path=str(folder)), "cpu"),
    "transformer": lambda folder: build_model(replace(PLAIN, path=str(folder), parts="transformer"), "cpu"),
    "static embedding": lambda folder: build_model(replace(PLAIN, path=str(folder), static_dim=8), "cpu"),
    "trained model": lambda folder: load_trained(folder, PLAIN, "cpu"),
    "checkpoint": lambda folder: load_weights(build_model(TINY, "cpu"), folder, trust_remote_code=False),
    "guide or teacher": lambda folder: load_encoder(str(folder), torch.device("cpu")),
    "decoder": _denoise,
    "command": lambda folder: load_for_command(ResolvedModel("m", str(folder), "m", is_folder=True), "cpu"),
}


def _yes(asked: Path, _prompt: str = "") -> str:
    asked.touch()
    return "y"


@pytest.mark.parametrize("change", FOLDERS, ids=lambda change: change.__name__)
@pytest.mark.parametrize("loader", LOADERS)
def test_no_loader_runs_code_of_a_model_or_asks_whether_it_may(
    loader: str, change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, marker, asked = tmp_path / "model", tmp_path / "ran", tmp_path / "asked"
    shutil.copytree(tiny_model_path(), folder)
    change(folder)
    (folder / "hostile.py").write_text(HOSTILE.format(marker=str(marker)), encoding="utf-8")
    monkeypatch.setattr(builtins, "input", partial(_yes, asked))
    monkeypatch.chdir(folder)  # a module of the working directory is not the model's either
    with suppress(Exception):  # each library refuses in its own way, and what it can load without the code is fine
        LOADERS[loader](folder)
    assert not marker.exists()
    assert not asked.exists()


def _calls(name: str) -> Iterator[tuple[str, ast.Call]]:
    for file in Path(embedsweep.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and name in ast.unparse(node.func).split("."):
                yield f"{file.name}:{node.lineno}", node


@pytest.mark.parametrize("name", ["from_pretrained", "SentenceTransformer"])
def test_every_call_that_loads_a_model_says_whether_code_may_run(name: str) -> None:
    calls = dict(_calls(name))
    assert calls
    says = {place: {keyword.arg for keyword in call.keywords} for place, call in calls.items()}
    assert [place for place, keywords in says.items() if not {"trust_remote_code", "modules"} & keywords] == []


# --- precision


def _stored(folder: Path, dtype: torch.dtype, *, static: bool = False) -> Path:
    """Write the tiny model with a dense layer, or a static embedding, in a precision."""
    if static:
        model = build_model(replace(TINY, pooling=None, static_dim=24), "cpu")
    else:
        modules = [Transformer(str(tiny_model_path())), Pooling(128, "mean"), Dense(128, 16)]
        model = SentenceTransformer(modules=modules, device="cpu")
    model.to(dtype).save_pretrained(str(folder), create_model_card=False)
    return folder


def _dtypes(model: torch.nn.Module) -> set[torch.dtype]:
    return {value.dtype for value in model.state_dict().values() if value.is_floating_point()}


PRECISE: dict[str, Callable[[Path], SentenceTransformer]] = {
    name: loader
    for name, loader in LOADERS.items()
    if name in ("model", "transformer", "trained model", "command", "static embedding")
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("loader", PRECISE)
def test_weights_are_float32_however_they_are_stored(loader: str, dtype: torch.dtype, tmp_path: Path) -> None:
    model = PRECISE[loader](_stored(tmp_path, dtype))
    assert _dtypes(model) == {torch.float32}
    assert {value.dtype for value in model.buffers() if value.is_floating_point()} <= {torch.float32}
    assert model.encode(TEXTS).dtype == np.float32


def test_a_stored_static_embedding_is_float32_too(tmp_path: Path) -> None:
    folder = _stored(tmp_path, torch.float16, static=True)
    assert _dtypes(build_model(replace(PLAIN, path=str(folder)), "cpu")) == {torch.float32}


def test_a_checkpoint_in_another_precision_leaves_the_model_in_float32(tmp_path: Path) -> None:
    model = build_model(replace(TINY, dense=16), "cpu")
    load_weights(model, _stored(tmp_path, torch.bfloat16), trust_remote_code=False)
    assert _dtypes(model) == {torch.float32}


def test_a_decoder_that_shares_the_weights_is_float32(tmp_path: Path) -> None:
    model = build_model(replace(PLAIN, path=str(_stored(tmp_path, torch.bfloat16)), parts="transformer"), "cpu")
    loss = denoising_autoencoder(LossArguments(model, {}, None, None, None, 1))
    assert _dtypes(loss) == {torch.float32} == _dtypes(model)


def test_a_guide_or_teacher_stays_as_it_is_stored_which_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _stored(tmp_path / "guide", torch.bfloat16)
    with caplog.at_level(logging.INFO, "embedsweep"):
        encoder = load_encoder(str(folder), torch.device("cpu"))
        build_model(replace(PLAIN, path=str(folder)), "cpu")
    assert _dtypes(encoder[0]) == {torch.bfloat16}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("embedsweep")] == [
        "guide is stored in bfloat16 and is used so",
        "guide is stored in bfloat16 and is loaded in float32",
    ]


def test_weights_that_are_no_floats_are_refused() -> None:
    module = torch.nn.Linear(2, 2)
    module.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.int8), requires_grad=False)
    with pytest.raises(TrialError, match=r"a model: weight is torch.int8, which cannot be converted to torch.float32"):
        as_float32(module, "a model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_model_is_saved_in_the_precision_asked_for_and_stays_as_it_is(dtype: SaveDtype, tmp_path: Path) -> None:
    model = build_model(replace(TINY, dense=16), "cpu")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    save_model(model, tmp_path, dtype)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    plain = SentenceTransformer(str(tmp_path), device="cpu")
    assert _dtypes(plain[0]) == {getattr(torch, dtype)}
    # 8 bits of bfloat16's mantissa, 11 of float16's
    tolerance = {"float32": 0.0, "bfloat16": 2**-8, "float16": 2**-11}[dtype]
    for name, value in load_trained(tmp_path, TINY, "cpu").state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=tolerance, atol=1e-7)
    loaded = load_trained(tmp_path, TINY, "cpu").encode(TEXTS)
    np.testing.assert_allclose(loaded, model.encode(TEXTS), atol=0.05 if tolerance else 0.0)


# --- padding


def _decoder(folder: Path, **special: str) -> Path:
    """Write a small GPT-2 whose tokenizer has no padding token; ``special`` are the tokens that it has."""
    tiny = PreTrainedTokenizerFast.from_pretrained(str(tiny_model_path()))
    GPT2Model(GPT2Config(vocab_size=len(tiny), n_embd=32, n_layer=1, n_head=2, n_positions=64)).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tiny.backend_tokenizer, **special).save_pretrained(folder)
    return folder


def test_a_tokenizer_without_a_padding_token_pads_with_the_end_of_sequence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _decoder(tmp_path / "gpt", eos_token="[SEP]")
    with caplog.at_level(logging.INFO, "embedsweep"):
        model = build_model(replace(PLAIN, path=str(folder), pooling="mean"), "cpu")
    assert model.tokenizer.pad_token == "[SEP]"
    assert "gpt has no padding token: [SEP] pads texts" in caplog.text
    np.testing.assert_allclose(model.encode(TEXTS)[1], model.encode(TEXTS[1]), atol=1e-5)
    save_model(model, tmp_path / "saved", "float32")
    assert SentenceTransformer(str(tmp_path / "saved"), device="cpu").tokenizer.pad_token == "[SEP]"


def test_a_tokenizer_that_cannot_pad_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="has neither a padding nor an end-of-sequence token to pad texts with"):
        load_model(str(_decoder(tmp_path)), device="cpu", trust_remote_code=False)
