"""The ``model`` section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from embedsweep.config.reader import Reader
from embedsweep.config.trial import Activation, LoraConfig, ModelConfig, Parts, Pooling
from embedsweep.config.values import nearest, shown


def read_model(reader: Reader) -> ModelConfig:
    """The base model and what is built onto it."""
    config = ModelConfig(
        name=reader.text("name"),
        path=reader.optional_text("path"),
        revision=reader.optional_text("revision"),
        parts=reader.one_of("parts", get_args(Parts)),
        static_dim=reader.optional_integer("static_dim", at_least=1),
        pooling=_pooling(reader),
        dense=reader.optional_integer("dense", at_least=1),
        dense_activation=reader.one_of("dense_activation", get_args(Activation)),
        max_seq_length=reader.optional_integer("max_seq_length", at_least=1),
        prompts=_prompts(reader),
        default_prompt=reader.optional_text("default_prompt"),
        lora=_lora(reader.section("lora")),
        lr=reader.real("lr", above=0),
        trust_remote_code=reader.boolean("trust_remote_code"),
    )
    reader.finish()
    return config


def _pooling(reader: Reader) -> str | None:
    value = reader.optional_text("pooling")
    if value is None:
        return None
    known = get_args(Pooling)
    modes = value.split("+")
    for mode in modes:
        if mode not in known:
            allowed = f"{', '.join(known)}, several joined by + (mean+cls), or null"
            reader.problem("pooling", f"must be of {allowed}, but got {shown(value)}{nearest(mode, known)}")
            return None
    if len(set(modes)) < len(modes):
        reader.problem("pooling", f"names a mode twice: {value}")
        return None
    return value


def _prompts(reader: Reader) -> Mapping[str, str]:
    prompts = reader.mapping("prompts")
    for name, text in prompts.items():
        if not isinstance(text, str):
            reader.problem(f"prompts.{name}", f"must be a text put before every sentence, but got {shown(text)}")
    return {name: text for name, text in prompts.items() if isinstance(text, str)}


def _lora(reader: Reader) -> LoraConfig:
    config = LoraConfig(
        rank=reader.optional_integer("rank", at_least=1),
        alpha=reader.real("alpha", above=0),
        dropout=reader.real("dropout", at_least=0, at_most=1),
        target_modules=reader.optional_texts("target_modules"),
    )
    reader.finish()
    return config
