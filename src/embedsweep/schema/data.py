"""Where examples and evaluation pairs come from, as frozen types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from embedsweep.schema.loss import LossConfig
from embedsweep.schema.words import DataFormat, Shape, Split

Column = str | int


@dataclass(frozen=True)
class ConvertConfig:
    """How training examples take the shape a loss wants.

    Attributes:
        to: the shape to convert to; None takes the first that the loss wants and the data can become.
        positive_threshold: in [0, 1], on the normalised score; a scored pair at or above it is positive.
        both_directions: whether a positive pair (a, b) is also given as (b, a).
        seed: of what is drawn at random: the triplets from NLI, noise, negatives.
    """

    to: Shape | None
    positive_threshold: float
    both_directions: bool
    seed: int


@dataclass(frozen=True)
class DataConfig:
    """A source of examples.

    Attributes:
        name: the option's name (``demo``, ``stsb_multi_mt``, ``csv``).
        path: a folder of files, or a file where one file is all; None reads the hub (``hub``) or generates (``demo``).
        hub: dataset id on the hub; None where the option has none.
        revision: a branch, tag or commit on the hub; None for its default branch.
        language: a subset's code, where the option has languages; else None.
        format: what the files are, or that there are none and the data is made here; None where only the hub has it.
        files: file name inside ``path``, with ``{split}`` and ``{language}`` where names have them; of a SemEval folder
            the names of the input files as a pattern (``STS.input.*.txt``). None where there are no files.
        splits: what train, dev and test are called in file names or on the hub; several are joined, none is absent.
        shape: what one row is.
        columns: its columns in the order of the shape, by header name or by position from 0 in a file without header.
        where: column -> the value a row must have there to be kept.
        labels: the names of classes in the order of their numbers; None takes those there are, sorted.
        delimiter: one character between columns.
        encoding: of text files, as Python names it.
        score_range: the lowest and highest possible score in the files; scores are normalised to [0, 1] by it.
        max_tokens: for each text column the number of tokens of the model a text must stay below, else the example is
            left out of training; None keeps all.
        convert: how examples take the shape the loss wants.
        drop_leaked: whether training examples that share a sentence with dev or test are left out.
        limit: the first rows to train on; None takes all. Dev and test stay whole, so that scores can be compared.
        also: name -> a further dataset that is trained on in turn, with a loss of its own.
    """

    name: str
    path: str | None
    hub: str | None
    revision: str | None
    language: str | None
    format: DataFormat | None
    files: str | None
    splits: Mapping[Split, tuple[str, ...]]
    shape: Shape
    columns: tuple[Column, ...]
    where: Mapping[str, str]
    labels: tuple[str, ...] | None
    delimiter: str
    encoding: str
    score_range: tuple[float, float]
    max_tokens: tuple[int, ...] | None
    convert: ConvertConfig
    drop_leaked: bool
    limit: int | None
    also: Mapping[str, AlsoConfig]


@dataclass(frozen=True)
class AlsoConfig:
    """A further training dataset: where it comes from and what it is trained by."""

    data: DataConfig
    loss: LossConfig


@dataclass(frozen=True)
class BenchmarkConfig:
    """Pairs that a model is scored on, one split of some data.

    Attributes:
        name: the option's name (``sts2017-es``), prefix of its metrics.
        folder: where its files lie inside ``evaluation.path``.
        split: which split of ``data``.
        data: the source; scored pairs.
    """

    name: str
    folder: str
    split: Split
    data: DataConfig
