"""The types that pass the gate: frozen, complete, without defaults.

Owns every type that a configuration or a result has. Knows no library and no default value: values stand in
``conf/`` and nowhere else. Everything here can be rebuilt from its own ``asdict`` form.
"""

from embedsweep.schema.data import AlsoConfig, BenchmarkConfig, Column, ConvertConfig, DataConfig
from embedsweep.schema.loss import LossConfig, ParameterValue
from embedsweep.schema.result import Decision, Emissions, TrialResult
from embedsweep.schema.study import (
    Axis,
    Choice,
    DiscreteAxis,
    EmissionsConfig,
    RangeAxis,
    StudyConfig,
    StudyPlan,
    StudyServices,
    TrackingConfig,
)
from embedsweep.schema.tree import trial_config_of
from embedsweep.schema.trial import (
    DataloaderConfig,
    EarlyStoppingConfig,
    EvaluationConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    TrainerConfig,
    TrialConfig,
)
from embedsweep.schema.words import (
    DEV_METRICS,
    SHAPES,
    SIMILARITIES,
    SPLITS,
    Activation,
    BatchSampler,
    DataFormat,
    KeepModels,
    MultiDatasetBatchSampler,
    Parts,
    Pooling,
    Precision,
    SamplerName,
    Schedule,
    Shape,
    Similarity,
    Split,
)

__all__ = [
    "DEV_METRICS",
    "SHAPES",
    "SIMILARITIES",
    "SPLITS",
    "Activation",
    "AlsoConfig",
    "Axis",
    "BatchSampler",
    "BenchmarkConfig",
    "Choice",
    "Column",
    "ConvertConfig",
    "DataConfig",
    "DataFormat",
    "DataloaderConfig",
    "Decision",
    "DiscreteAxis",
    "EarlyStoppingConfig",
    "Emissions",
    "EmissionsConfig",
    "EvaluationConfig",
    "KeepModels",
    "LoraConfig",
    "LossConfig",
    "ModelConfig",
    "MultiDatasetBatchSampler",
    "OptimizerConfig",
    "ParameterValue",
    "Parts",
    "Pooling",
    "Precision",
    "RangeAxis",
    "SamplerName",
    "Schedule",
    "Shape",
    "Similarity",
    "Split",
    "StudyConfig",
    "StudyPlan",
    "StudyServices",
    "TrackingConfig",
    "TrainerConfig",
    "TrialConfig",
    "TrialResult",
    "trial_config_of",
]
