"""Everything that decides the result of a trial, as frozen types with the bounds of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from embedsweep.config.metrics import (
    BinaryScoring,
    Family,
    RerankingScoring,
    RetrievalScoring,
    Scoring,
    StsScoring,
    TripletScoring,
)
from embedsweep.config.negatives import NegativesConfig
from embedsweep.config.training import DataloaderConfig, OptimizerConfig, TrainerConfig
from embedsweep.config.types import (
    AllowedWords,
    Bounds,
    Count,
    Described,
    MayBeEmpty,
    Positive,
    Ratio,
    TokenLimit,
    WholeNumber,
)

ParameterValue = str | bool | int | float | tuple[int, ...] | tuple[float, ...] | None


@dataclass(frozen=True)
class LossConfig:
    """The loss.

    Attributes:
        name: its option's name.
        parameters: its own parameters, under sentence-transformers' names.
        inner: the loss it is wrapped around; None where it wraps none.
    """

    name: str
    parameters: Mapping[str, ParameterValue]
    inner: LossConfig | None


Pooling = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
POOLING_WORDS = f"of {', '.join(get_args(Pooling))}, several joined by + (mean+cls)"
Activation = Literal["tanh", "gelu", "relu", "identity"]
Parts = Literal["all", "transformer"]
SaveDtype = Literal["float32", "bfloat16", "float16"]
PromptRule = Literal["roles", "columns"]
DataFormat = Literal["delimited", "json_lines", "parquet", "semeval", "beir", "generated"]
Quoting = Literal["auto", "double_quotes", "none"]
KeepModels = Literal["best", "all", "none"]
SamplerName = Literal["tpe", "random", "gp", "cmaes", "qmc", "nsga2", "nsga3", "exhaustive"]
PrunerName = Literal["none", "median", "successive_halving", "hyperband", "wilcoxon", "patience"]
Duplicates = Literal["reuse", "replicate"]
WorkersName = Literal["inline", "local", "ray", "slurm"]
Split = Literal["train", "dev", "test"]

Shape = Literal[
    "scored_pairs", "positive_pairs", "triplets", "tuples", "binary_pairs", "class_pairs", "class_texts", "texts"
]
"""What one example consists of; ``data.examples`` has its columns and describes it."""

SHAPES: tuple[Shape, ...] = get_args(Shape)
SPLITS: tuple[Split, ...] = get_args(Split)

AnyText = Annotated[str, MayBeEmpty()]
Column = str | int


@dataclass(frozen=True)
class ConvertConfig:
    """How training examples take the shape that a loss takes.

    Attributes:
        to: the shape to convert to; None takes the first that the loss takes and the data can become.
        positive_threshold: in [0, 1], on the normalised score; a scored pair at or above it is positive.
        both_directions: whether a positive pair (a, b) is also used as (b, a).
        seed: of what is drawn at random: the triplets from NLI, noise, negatives.
    """

    to: Shape | None
    positive_threshold: Ratio
    both_directions: bool
    seed: WholeNumber


@dataclass(frozen=True)
class DataConfig:
    """A source of examples.

    Attributes:
        name: the option's name (``demo``, ``stsb_multi_mt``, ``csv``).
        path: a folder of files, or a file where one file is all; None reads the hub (``hub``) or generates (``demo``).
        hub: dataset id on the hub; None where the option has none.
        revision: a branch, tag or commit on the hub; None for its default branch.
        language: a subset's code, where the option has languages; else None.
        languages: codes of the texts' languages (ISO 639-1), for the card; None takes ``language``. Decides no result.
        format: what the files are, or that there are none and the data is made here; None where only the hub has it.
        files: file name inside ``path``, with ``{split}`` and ``{language}`` where names have them; of a SemEval folder
            the names of the input files as a pattern (``STS.input.*.txt``). None where there are no files.
        splits: what train, dev and test are called in file names or on the hub; several are joined, none is absent.
        shape: what one row is.
        columns: its columns in the order of the shape, by header name or by position from 0 in a file without header.
        where: column -> the value a row must have there to be kept.
        titles: whether a document's text begins with its title, where documents have titles.
        labels: the names of classes in the order of their numbers; None takes those there are, sorted.
        delimiter: one character between columns.
        encoding: of text files, as Python names it.
        quoting: whether a text of a delimited file may be in double quotes, which are no part of it and are doubled
            inside; ``auto`` if the delimiter is not a tab.
        score_range: the lowest and highest possible score in the files; scores are normalised to [0, 1] by it.
        max_tokens: for each text column the number of tokens of the model a text must stay below, else the example is
            left out of training; None keeps all.
        convert: how examples take the shape that the loss takes.
        negatives: hard negatives that positive pairs get.
        drop_leaked: whether training examples that share a sentence with dev or test are left out.
        limit: the first rows to train on; None takes all. Dev and test stay whole, so that scores can be compared.
        also: name -> a further dataset that is trained on in turn, with a loss of its own.
    """

    name: str
    path: str | None
    hub: str | None
    revision: str | None
    language: str | None
    languages: tuple[str, ...] | None
    format: DataFormat | None
    files: str | None
    splits: Mapping[Split, tuple[str, ...]]
    shape: Shape
    columns: Annotated[tuple[Column, ...], Described("a list of names of the header, or of positions from 0")]
    where: Annotated[Mapping[str, AnyText], Described("a mapping of columns to values, as {language:es}")]
    titles: bool
    labels: Annotated[tuple[str, ...], Described("a list of at least two names")] | None
    delimiter: Annotated[AnyText, Described("one character, or tab")]
    encoding: Annotated[str, Described("an encoding that Python knows")]
    quoting: Quoting
    score_range: Annotated[tuple[float, float], Described("two numbers, the lower one first, as [0,5]")]
    max_tokens: tuple[TokenLimit, ...] | None
    convert: ConvertConfig
    negatives: NegativesConfig
    drop_leaked: bool
    limit: Annotated[int, Bounds(at_least=2)] | None
    also: Annotated[Mapping[str, AlsoConfig], Described("a mapping of names to data, each with a loss of its own")]


@dataclass(frozen=True)
class AlsoConfig:
    """A further training dataset: where it comes from and what it is trained by."""

    data: DataConfig
    loss: LossConfig


@dataclass(frozen=True)
class BenchmarkConfig:
    """What a model is scored on: one split of some data.

    Attributes:
        name: the option's name (``sts2017-es``), prefix of its metrics.
        folder: where its files lie inside ``evaluation.path``.
        split: which split of ``data``.
        data: the source.
        family: how models are scored on it.
        scoring: how, in a trial whose evaluation is of another family: what ``conf/evaluation`` has of this one. None
            takes the evaluation's own keys.
    """

    name: str
    folder: str
    split: Split
    data: DataConfig
    family: Family
    scoring: Scoring | None


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank adapters (PEFT); the model is saved with them merged in.

    Attributes:
        rank: of the update matrices; None trains all weights instead.
        alpha: the update is scaled by ``alpha / rank``.
        dropout: in [0, 1), applied to the adapters' input.
        target_modules: names of the layers that get adapters; None takes PEFT's choice for the architecture.
    """

    rank: Count | None
    alpha: Positive
    dropout: Annotated[float, Bounds(at_least=0, below=1)]
    target_modules: tuple[str, ...] | None


@dataclass(frozen=True)
class ModelConfig:
    """The base model.

    Attributes:
        name: the option's name (``tiny``, ``minilm``, ``pretrained``, ...).
        path: a hub id or a local folder; None for ``tiny``, which is built here.
        revision: a branch, tag or commit on the hub; None for its default branch.
        parts: ``transformer`` takes only the transformer out of a sentence-transformers model, without its pooling,
            dense and normalising modules.
        static_dim: dimensions of a static embedding that is trained from scratch over the tokenizer at ``path``; None
            loads a transformer.
        pooling: how token embeddings become one, modes joined by ``+`` are concatenated; None keeps what the model
            brings (mean, where it brings none).
        dense: dimensions of a dense layer behind the pooling; None adds none.
        dense_activation: its activation.
        max_seq_length: tokens beyond this are cut; None keeps the model's own.
        prompts: name -> text put before texts, beside the model's own, saved with them. ``query`` and ``document`` go
            before the first and the other texts of positive pairs and triplets.
        default_prompt: name of the prompt of all other texts, trained and scored; None keeps the model's own, or none.
        prompt_rule: ``roles`` is the rule above; ``columns`` that of studies begun before it: training knew only
            ``prompts``, took query and document where both were there, for pairs of any kind, else the default.
        save_dtype: the precision that the trained model's weights are saved in; training is in float32. None is a study
            begun when weights were trained and saved as they were stored.
        lora: low-rank adapters.
        lr: the learning rate that suits this model, centre of the relative search ranges.
        trust_remote_code: whether code that comes with the model may be executed.
    """

    name: str
    path: str | None
    revision: str | None
    parts: Parts
    static_dim: Count | None
    pooling: Annotated[str, AllowedWords(get_args(Pooling)), Described(POOLING_WORDS)] | None
    dense: Count | None
    dense_activation: Activation
    max_seq_length: Count | None
    prompts: Annotated[Mapping[str, AnyText], Described("a mapping of names to texts, as {query:'query: '}")]
    default_prompt: str | None
    prompt_rule: PromptRule
    save_dtype: SaveDtype | None
    lora: LoraConfig
    lr: Positive
    trust_remote_code: bool


@dataclass(frozen=True)
class EvaluationConfig(Scoring):
    """How a model is scored, and on what; each family has further keys.

    Attributes:
        batch_size: sentences encoded at once.
        dev: what selects; None is the data's own dev split.
        test: what reports; None is the data's own test split.
        benchmarks: what else is scored, together with test.
        watch: dev benchmarks that are scored beside dev, at each evaluation. They decide no result of a training.
        path: a folder that has the folders of benchmarks in it; None reads the hub.
        dims: embeddings are also scored when truncated to these first dimensions; a Matryoshka loss's own dims are
            scored anyway.
        before: whether the untrained model is scored too.
    """

    batch_size: Count
    dev: Annotated[BenchmarkConfig, Described("the name of a benchmark")] | None
    test: Annotated[BenchmarkConfig, Described("the name of a benchmark")] | None
    benchmarks: Annotated[tuple[BenchmarkConfig, ...], Described("a list of names of benchmarks")]
    watch: Annotated[tuple[BenchmarkConfig, ...], Described("a list of names of benchmarks")]
    path: str | None
    dims: tuple[Count, ...]
    before: bool

    @property
    def families(self) -> frozenset[Family]:
        """All families that models are scored by: its own, and those of its benchmarks."""
        benchmarks = (self.dev, self.test, *self.benchmarks, *self.watch)
        return frozenset({self.family, *(benchmark.family for benchmark in benchmarks if benchmark is not None)})

    @classmethod
    def variant(cls, name: object) -> type[EvaluationConfig]:
        """Return the class of a family's evaluations."""
        return EVALUATIONS[Scoring.variant(name).family]


@dataclass(frozen=True)
class StsConfig(StsScoring, EvaluationConfig):
    """The evaluation ``sts``."""


@dataclass(frozen=True)
class RetrievalConfig(RetrievalScoring, EvaluationConfig):
    """The evaluation ``retrieval``."""


@dataclass(frozen=True)
class TripletConfig(TripletScoring, EvaluationConfig):
    """The evaluation ``triplets``."""


@dataclass(frozen=True)
class BinaryConfig(BinaryScoring, EvaluationConfig):
    """The evaluation ``pairs``."""


@dataclass(frozen=True)
class RerankingConfig(RerankingScoring, EvaluationConfig):
    """The evaluation ``reranking``."""


EVALUATIONS: Mapping[Family, type[EvaluationConfig]] = {
    kind.family: kind for kind in (StsConfig, RetrievalConfig, TripletConfig, BinaryConfig, RerankingConfig)
}


@dataclass(frozen=True)
class TrialConfig:
    """All that decides the result of a trial, and nothing else.

    Attributes:
        objective: the dev metric that chooses the best checkpoint.
        rungs: fractions of the optimizer steps at which dev is scored, beside ``trainer.eval_every``; a study's pruner
            decides there.
    """

    objective: str
    rungs: tuple[float, ...]
    model: ModelConfig
    loss: LossConfig
    data: DataConfig
    dataloader: DataloaderConfig
    optimizer: OptimizerConfig
    trainer: TrainerConfig
    evaluation: EvaluationConfig

    @property
    def datasets(self) -> dict[str, AlsoConfig]:
        """All datasets to train on with their losses, by name; the main one comes first."""
        return {self.data.name: AlsoConfig(self.data, self.loss), **self.data.also}
