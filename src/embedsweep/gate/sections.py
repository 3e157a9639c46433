"""Each section of a configuration as its frozen type.

Owns which keys a section has and the type and range of each. Knows nothing of how sections go together; that is
``rules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from embedsweep.config import nearest, shown
from embedsweep.errors import Problem
from embedsweep.gate.reader import Reader
from embedsweep.losses import LOSSES
from embedsweep.optimizers import OPTIMIZERS
from embedsweep.schema import (
    DEV_METRICS,
    BatchSampler,
    ConvertConfig,
    DataConfig,
    DataloaderConfig,
    EarlyStoppingConfig,
    EmissionsConfig,
    EvaluationConfig,
    KeepModels,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    Pooling,
    Precision,
    SamplerName,
    Schedule,
    StudyConfig,
    TrackingConfig,
    TrainerConfig,
    TrialConfig,
)

TRIAL_SECTIONS = ("model", "loss", "data", "dataloader", "optimizer", "trainer", "evaluation")


def read_trial(tree: Mapping[str, Any], objective: str, problems: list[Problem]) -> TrialConfig:
    """The part of a resolved configuration that decides a trial's result; what is wrong goes to ``problems``."""
    root = Reader({name: tree.get(name) for name in TRIAL_SECTIONS}, "", problems)
    return TrialConfig(
        objective=objective,
        model=_model(root.section("model")),
        loss=_loss(root.section("loss")),
        data=_data(root.section("data")),
        dataloader=_dataloader(root.section("dataloader")),
        optimizer=_optimizer(root.section("optimizer")),
        trainer=_trainer(root.section("trainer")),
        evaluation=_evaluation(root.section("evaluation")),
    )


def _model(reader: Reader) -> ModelConfig:
    config = ModelConfig(
        name=reader.text("name"),
        path=reader.optional_text("path"),
        revision=reader.optional_text("revision"),
        pooling=reader.optional_one_of("pooling", get_args(Pooling)),
        max_seq_length=reader.optional_integer("max_seq_length", at_least=1),
        lr=reader.real("lr", above=0),
        trust_remote_code=reader.boolean("trust_remote_code"),
    )
    reader.finish()
    return config


def _loss(reader: Reader) -> LossConfig:
    name = reader.text("name")
    parameters: dict[str, float] = {}
    if name in LOSSES:
        parameters = {key: reader.real(key, above=bound) for key, bound in LOSSES[name].parameters.items()}
        for key in reader.rest():
            takes = ", ".join(LOSSES[name].parameters) or "none"
            reader.problem(
                key, f"loss={name} has no such parameter{nearest(key, LOSSES[name].parameters)}; it has: {takes}"
            )
    elif name:
        reader.problem("name", f"no loss {name}{nearest(name, LOSSES)}; there are: {', '.join(LOSSES)}")
    return LossConfig(name, parameters)


def _data(reader: Reader) -> DataConfig:
    convert = reader.section("convert")
    config = DataConfig(
        name=reader.text("name"),
        path=reader.optional_text("path"),
        hub=reader.optional_text("hub"),
        revision=reader.optional_text("revision"),
        language=reader.optional_text("language"),
        files=reader.optional_text("files"),
        columns=_columns(reader),
        delimiter=_delimiter(reader),
        score_range=_score_range(reader),
        convert=ConvertConfig(
            positive_threshold=convert.real("positive_threshold", at_least=0, at_most=1),
            both_directions=convert.boolean("both_directions"),
        ),
        limit=reader.optional_integer("limit", at_least=2),
    )
    convert.finish()
    reader.finish()
    return config


def _columns(reader: Reader) -> tuple[str | int, str | int, str | int]:
    value = reader.raw("columns")
    if isinstance(value, list | tuple) and len(value) == 3:
        first, second, score = value
        named = all(isinstance(item, str) for item in value)
        counted = all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in value)
        if (named or counted) and len(set(value)) == 3:
            return (first, second, score)
    reader.problem(
        "columns",
        f"must be three names of a header, or three positions from 0 where there is none: [sentence1,sentence2,score], "
        f"but got {shown(value)}",
    )
    return (0, 1, 2)


def _delimiter(reader: Reader) -> str:
    value = reader.text("delimiter") if reader.raw("delimiter") != "\t" else "\t"
    value = "\t" if value in ("\\t", "tab") else value
    if len(value) > 1:
        reader.problem("delimiter", f'must be one character, such as "," or ";" or "\\t", but got {value!r}')
    return value or ","


def _score_range(reader: Reader) -> tuple[float, float]:
    value = reader.raw("score_range")
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(bound, int | float) for bound in value):
        low, high = float(value[0]), float(value[1])
        if low < high:
            return (low, high)
    reader.problem(
        "score_range", f"must be the lowest and the highest possible score, as [0,5], but got {shown(value)}"
    )
    return (0.0, 1.0)


def _dataloader(reader: Reader) -> DataloaderConfig:
    config = DataloaderConfig(
        name=reader.text("name"),
        batch_size=reader.integer("batch_size", at_least=1),
        micro_batch_size=reader.optional_integer("micro_batch_size", at_least=1),
        batch_sampler=reader.one_of("batch_sampler", get_args(BatchSampler)),
        drop_last=reader.boolean("drop_last"),
        num_workers=reader.integer("num_workers", at_least=0),
    )
    reader.finish()
    return config


def _optimizer(reader: Reader) -> OptimizerConfig:
    config = OptimizerConfig(
        name=reader.one_of("name", tuple(OPTIMIZERS)),
        lr=reader.real("lr", above=0),
        weight_decay=reader.real("weight_decay", at_least=0),
        warmup=reader.real("warmup", at_least=0),
        schedule=reader.one_of("schedule", get_args(Schedule)),
        max_grad_norm=reader.real("max_grad_norm", at_least=0),
    )
    reader.finish()
    return config


def _trainer(reader: Reader) -> TrainerConfig:
    stopping = reader.section("early_stopping")
    config = TrainerConfig(
        name=reader.text("name"),
        epochs=reader.real("epochs", above=0),
        max_steps=reader.optional_integer("max_steps", at_least=1),
        precision=reader.one_of("precision", get_args(Precision)),
        device=reader.text("device"),
        seed=reader.integer("seed", at_least=0),
        eval_every=reader.real("eval_every", above=0),
        early_stopping=EarlyStoppingConfig(
            patience=stopping.optional_integer("patience", at_least=1),
            min_delta=stopping.real("min_delta", at_least=0),
        ),
    )
    stopping.finish()
    reader.finish()
    return config


def _evaluation(reader: Reader) -> EvaluationConfig:
    config = EvaluationConfig(name=reader.text("name"), batch_size=reader.integer("batch_size", at_least=1))
    reader.finish()
    return config


def read_study(section: object, problems: list[Problem]) -> StudyConfig:
    """The ``study`` section."""
    reader = Reader(section, "study", problems)
    config = StudyConfig(
        name=reader.optional_text("name"),
        n_trials=reader.optional_integer("n_trials", at_least=1),
        timeout=reader.optional_real("timeout", above=0),
        objective=reader.one_of("objective", DEV_METRICS),
        sampler=reader.one_of("sampler", get_args(SamplerName)),
        seed=reader.integer("seed", at_least=0),
        storage=reader.optional_text("storage"),
        keep_models=reader.one_of("keep_models", get_args(KeepModels)),
    )
    reader.finish()
    return config


def read_tracking(section: object, problems: list[Problem]) -> TrackingConfig:
    """The ``tracking`` section."""
    reader = Reader(section, "tracking", problems)
    config = TrackingConfig(name=reader.text("name"), uri=reader.text("uri"))
    reader.finish()
    return config


def read_emissions(section: object, problems: list[Problem]) -> EmissionsConfig:
    """The ``emissions`` section."""
    reader = Reader(section, "emissions", problems)
    config = EmissionsConfig(name=reader.text("name"), country_iso_code=reader.optional_text("country_iso_code"))
    reader.finish()
    return config


def read_search(section: object, problems: list[Problem]) -> tuple[str, Mapping[str, Any]]:
    """The ``search`` section: its name and its space; ``n_trials`` is read through ``study.n_trials``."""
    reader = Reader(section, "search", problems)
    name, space = reader.text("name"), reader.raw("space")
    reader.optional_integer("n_trials", at_least=1)
    if not isinstance(space, Mapping):
        reader.problem("space", f"must map keys to what they are searched over, but got {shown(space)}")
        space = {}
    reader.finish()
    return name, space
