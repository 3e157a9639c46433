"""Load the examples to train on and the pairs to evaluate on, from files, the hub or the demo data.

``load_splits`` loads all splits; ``load_train``, ``load_also`` and ``load_benchmark`` load some alone.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from embedsweep.config.identity import canonical
from embedsweep.config.metrics import Family, RetrievalScoring
from embedsweep.config.trial import BenchmarkConfig, DataConfig, EvaluationConfig, Split
from embedsweep.data.beir import CORPUS, QUERIES, Judged, read_folder
from embedsweep.data.beir_hub import read_hub_judged
from embedsweep.data.checks import checked_examples, limited
from embedsweep.data.demo import demo_retrieval, demo_splits, is_generated
from embedsweep.data.examples import WORDS, Examples, Splits, as_scored
from embedsweep.data.families import SCORED_SHAPES, missing_split, unscored
from embedsweep.data.passages import SEARCHED, as_retrieval
from embedsweep.data.scored import Retrieval, Scored
from embedsweep.data.sources import file_names, missing_folder, read_hub, read_path, splits_there
from embedsweep.data.tables import Table
from embedsweep.errors import ConfigError, Problem, gather_problems, raise_problems
from embedsweep.files import user_path

_NOT_OF_SOURCE = ("convert", "negatives", "max_tokens", "drop_leaked", "limit", "also")
"""Keys of a data configuration that decide what is done with examples, not which there are."""

Outcomes = Mapping[Split, Examples | ConfigError]
"""The examples or the problems of each split."""

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """The arguments of a cached function, compared by their canonical form."""

    key: str
    arguments: tuple[Any, ...] = field(compare=False)


def _source_key(data: DataConfig) -> dict[str, object]:
    """Return all keys that decide which examples there are."""
    return {key: value for key, value in asdict(data).items() if key not in _NOT_OF_SOURCE}


def _load(data: DataConfig, splits: tuple[Split, ...], folder: str | None = None) -> Outcomes:
    """Return splits of some data in its own shape, each checked or with all its problems; cached in the process.

    Args:
        data: the source.
        splits: the splits to read.
        folder: the folder of a benchmark, for messages.
    """
    return _read(Request(canonical([_source_key(data), splits, folder]), (data, splits, folder)))


@functools.lru_cache(maxsize=8)
def _read(request: Request) -> Outcomes:
    data, splits, folder = request.arguments
    outcomes: dict[Split, Examples | ConfigError] = {}
    try:
        if is_generated(data):
            return demo_splits(data, splits)
        if data.format == "beir":
            return {split: each.pairs if isinstance(each, Judged) else each for split, each in _judged(request).items()}
        tables = _tables(data, splits, folder)
    except ConfigError as error:
        return dict.fromkeys(splits, error)
    for split, table in tables.items():
        try:
            outcomes[split] = checked_examples(table, data)
        except ConfigError as error:
            outcomes[split] = error
    return outcomes


@functools.lru_cache(maxsize=8)
def _judged(request: Request) -> Mapping[Split, Judged | ConfigError]:
    """Return splits of some data in the layout of BEIR, each with all its problems; cached in the process.

    Raises:
        ConfigError: there is no such source.
    """
    data, splits, folder = request.arguments
    if data.path is not None:
        return read_folder(data, splits)
    if data.hub is None:
        raise _no_source(data, splits, folder)
    return read_hub_judged(data.hub, data, splits, _without_hub(data, splits, folder))


def _tables(data: DataConfig, splits: Sequence[Split], folder: str | None) -> Mapping[Split, Table]:
    if data.path is not None:
        return read_path(data.path, data, splits)
    if data.hub is None:
        raise _no_source(data, splits, folder)
    return read_hub(data.hub, data, splits, _without_hub(data, splits, folder))


def _no_source(data: DataConfig, splits: Sequence[Split], folder: str | None) -> ConfigError:
    message = f"is not set, and {data.name} is not on the hub: {_without_hub(data, splits, folder)}"
    return ConfigError.single("data.path", message)


def _without_hub(data: DataConfig, splits: Sequence[Split], folder: str | None) -> str:
    """Return advice to read files instead of the hub, with the names that this option looks for."""
    in_files = data if data.files is not None else replace(data, files="{split}.csv")
    advice = "set data.path=FOLDER" + ("" if data.files is not None else " 'data.files=\"{split}.csv\"'")
    inside = f"{folder}/" if folder else ""
    try:
        names = [inside + name for split in splits for name in file_names(in_files, split, splits)]
        names = [*(inside + name for name in (CORPUS, QUERIES) if data.format == "beir"), *names]
    except ConfigError:  # data.files is wrong, but not needed if the hub is read
        return advice
    return f"{advice}, with {', '.join(names)} in that folder"


def load_splits(data: DataConfig, evaluation: EvaluationConfig) -> Splits:
    """Return the examples to train on, and what selects and reports; cached in the process.

    Dev and test are the benchmarks that ``evaluation`` names, else the data's own; other splits are not read.

    Raises:
        ConfigError: the problems of all three at once.
    """
    benchmarks = [
        benchmark and [benchmark.name, benchmark.folder, benchmark.split, benchmark.family, _source_key(benchmark.data)]
        for benchmark in (evaluation.dev, evaluation.test)
    ]
    sample = _sample_of(evaluation)
    key = canonical([_source_key(data), data.limit, benchmarks, evaluation.path, evaluation.family, sample])
    return _raised(_load_splits(Request(key, (data, evaluation))))


def load_own(data: DataConfig, splits: Sequence[Split]) -> None:
    """Read splits of some data in its own shape, to find what is wrong with them; cached in the process.

    Raises:
        ConfigError: the problems of all at once.
    """
    problems = [problem for split in splits for problem in missing_split(data, split)]
    there = tuple(split for split in splits if data.splits[split])
    for outcome in _load(data, there).values():
        problems += outcome.problems if isinstance(outcome, ConfigError) else ()
    raise_problems(problems)


def load_train(data: DataConfig) -> Examples:
    """Return the examples of some data to train on, in its own shape; cached in the process.

    Raises:
        ConfigError: all problems of these.
    """
    return limited(_raised(_load(data, ("train",))["train"]), data.limit)


def load_retrieval(data: DataConfig, split: Split, folder: str | None = None) -> Retrieval:
    """Return the queries of a split with their judged documents and all documents there are; cached in the process.

    Whatever ``data.limit`` is, everything that is relevant is in it. Positive pairs and triplets become queries and
    documents; the documents are those of all splits that the source has.

    Args:
        data: the source.
        split: one that it has.
        folder: the folder of a benchmark, for messages.

    Raises:
        ConfigError: all problems of these, or its examples are no queries with documents.
    """
    if data.shape not in SEARCHED:
        message = f"data={data.name} has {WORDS[data.shape]} ({data.shape}), so there are no documents to search: "
        raise ConfigError.single("data.shape", f"{message}take data of {' or '.join(SEARCHED)}, or data=beir")
    if is_generated(data) or data.format == "beir":
        splits: tuple[Split, ...] = (split,)
    else:
        splits = (split, *(other for other in splits_there(data) if other != split))
    key = canonical([_source_key(data), splits, folder])
    return _raised(_retrieval(Request(key, (data, splits, folder))))


def load_judged(data: DataConfig) -> tuple[Retrieval, ...]:
    """Return every split that there is as :func:`load_retrieval` does, train first: all that is judged.

    Raises:
        ConfigError: all problems of the first with any.
    """
    judged = [load_retrieval(data, "train")]
    for split in splits_there(data):
        if split != "train":
            try:
                judged.append(load_retrieval(data, split))
            except ConfigError as error:
                # Only reading shows which of the splits that are named by default the hub has.
                if data.path is not None or error.problems[0].where != f"data.splits.{split}":
                    raise
    return tuple(judged)


@functools.lru_cache(maxsize=8)
def _retrieval(request: Request) -> Retrieval | ConfigError:
    """Return the first of some splits as retrieval, the others' documents included."""
    data, splits, folder = request.arguments
    try:
        if is_generated(data):
            return demo_retrieval(data, splits[0])
        if data.format == "beir":
            return _raised(_judged(request)[splits[0]]).retrieval
        outcomes = _load(data, splits, folder)
        examples = [_raised(outcomes[split]) for split in splits]
    except ConfigError as error:
        return error
    return as_retrieval(examples[0], examples[1:])


def load_also(data: DataConfig) -> dict[str, Examples]:
    """Return the further datasets to train on, by name, each in its own shape.

    Raises:
        ConfigError: the problems of all at once, under their own keys (``data.also.nli.path``).
    """
    loaded: dict[str, Examples] = {}
    problems: list[Problem] = []
    for name, also in data.also.items():
        try:
            loaded[name] = load_train(also.data)
        except ConfigError as error:
            problems += _under(error.problems, f"data.also.{name}")
    raise_problems(problems)
    return loaded


def load_benchmark(benchmark: BenchmarkConfig, path: str | None) -> Scored:
    """Return what a benchmark scores models on; cached in the process.

    Args:
        benchmark: a split of some data.
        path: a folder that contains the benchmark's folder; None reads ``benchmark.data.path``, else the hub.

    Raises:
        ConfigError: all problems of these.
    """
    data, name = benchmark.data, benchmark.name
    if data.shape not in (shapes := SCORED_SHAPES[benchmark.family]):
        message = f"has {WORDS[data.shape]} (shape: {data.shape}), but family {benchmark.family} scores"
        raise ConfigError.single(f"benchmark {name}", f"{message} {' or '.join(shapes)}")
    if not data.splits[benchmark.split]:
        raise ConfigError.single(f"benchmark {name}", f"has no split {benchmark.split} (data.splits.{benchmark.split})")
    if path is not None and not is_generated(data) and not (root := user_path(path)).is_dir():
        raise ConfigError.single("evaluation.path", missing_folder(root))
    try:
        data = benchmark_data(benchmark, path)
        examples = _raised(_load(data, (benchmark.split,), benchmark.folder)[benchmark.split])
        return _scored(examples, benchmark.family, data, benchmark.split, benchmark.folder)
    except ConfigError as error:
        raise ConfigError(_of_benchmark(error.problems, name)) from None


def _scored(examples: Examples, family: Family, data: DataConfig, split: Split, folder: str | None = None) -> Scored:
    """Return a split's examples as a family of evaluations scores them; their shape is one of that family.

    Raises:
        ConfigError: there are documents, and all problems of these.
    """
    if family not in ("retrieval", "reranking"):
        return as_scored(examples)
    retrieval = load_retrieval(data, split, folder)
    if family == "retrieval":
        return retrieval
    reranked = retrieval.with_candidates()
    if not len(reranked):
        message = f"no query of {retrieval.origin} has both a relevant document and one that is judged not relevant (0)"
        raise ConfigError.single("data.path", f"{message}: add such judgements, or take evaluation=retrieval")
    return reranked


def benchmark_data(benchmark: BenchmarkConfig, path: str | None) -> DataConfig:
    """Return the data of a benchmark as it is read; for ``path`` see :func:`load_benchmark`."""
    if path is None or is_generated(benchmark.data):
        return benchmark.data
    return replace(benchmark.data, path=str(user_path(path) / benchmark.folder))


def scored_data(
    data: DataConfig, evaluation: EvaluationConfig, scored: Literal["dev", "test"]
) -> tuple[DataConfig, Split]:
    """Return the data that dev or test is read from, and which split of it: a benchmark's, else the data's own."""
    benchmark = evaluation.dev if scored == "dev" else evaluation.test
    if benchmark is None:
        return data, scored
    return benchmark_data(benchmark, evaluation.path), benchmark.split


@functools.lru_cache(maxsize=4)
def _load_splits(request: Request) -> Splits | ConfigError:
    data, evaluation = request.arguments
    benchmarks: dict[Split, BenchmarkConfig | None] = {"dev": evaluation.dev, "test": evaluation.test}
    problems: list[Problem] = []
    own: list[Split] = []
    scored_here: list[Split] = [split for split, benchmark in benchmarks.items() if benchmark is None]
    if wrong := list(unscored(data, scored_here, evaluation.family)):
        problems += wrong
        scored_here = []
    for split in ("train", *scored_here):
        missing = list(missing_split(data, split))
        problems += missing
        own += [] if missing else [split]
    train: Examples | None = None
    scored: dict[Split, Scored] = {}
    for split, outcome in (_load(data, tuple(own)) if own else {}).items():
        with gather_problems(problems):
            if split == "train":
                train = limited(_raised(outcome), data.limit)
            else:
                scored[split] = _scored(_raised(outcome), evaluation.family, data, split)
    for split, benchmark in benchmarks.items():
        with gather_problems(problems):
            if benchmark is not None:
                problems += _other_family(benchmark, split, evaluation)
                scored[split] = load_benchmark(benchmark, evaluation.path)
    if problems or train is None:
        return ConfigError(tuple(dict.fromkeys(problems)))
    if sample := _sample_of(evaluation):
        scored = {name: each.with_sample(*sample) for name, each in scored.items() if isinstance(each, Retrieval)}
    return Splits(train, scored["dev"], scored["test"])


def _sample_of(evaluation: EvaluationConfig) -> tuple[int, int] | None:
    """Return how many documents of dev and test are searched, and the seed of their sample; None for all."""
    if not isinstance(evaluation, RetrievalScoring) or evaluation.corpus_size is None:
        return None
    return evaluation.corpus_size, evaluation.corpus_seed


def _other_family(benchmark: BenchmarkConfig, split: Split, evaluation: EvaluationConfig) -> Iterator[Problem]:
    """Yield that dev or test is a benchmark of another family than the evaluation's."""
    if (family := benchmark.family) != evaluation.family:
        message = f"{benchmark.name} is of the family {family}, which evaluation={evaluation.name} cannot score"
        yield Problem(f"evaluation.{split}", f"{message}: choose another benchmark, or evaluation={family}")


def _raised(outcome: T | ConfigError) -> T:
    if isinstance(outcome, ConfigError):
        raise outcome
    return outcome


_KEY = re.compile(r"(?<![\w/.-])data\.(?=(?:" + "|".join(DataConfig.__dataclass_fields__) + r")\b)")
"""A key of a data configuration in a message; not a file name."""


def _under(problems: Sequence[Problem], section: str) -> Iterator[Problem]:
    """Yield problems of some data with the keys that it has in another section."""
    for problem in problems:
        yield Problem(_KEY.sub(f"{section}.", problem.where), _KEY.sub(f"{section}.", problem.message))


def _of_benchmark(problems: Sequence[Problem], name: str) -> Iterator[Problem]:
    """Yield problems of a benchmark: its path is ``evaluation.path``, its other keys are in its own file."""
    for problem in problems:
        where = problem.where
        if where in ("data.path", "data.hub"):
            where = "evaluation.path"
        elif where.startswith("data."):
            where = f"benchmark {name}, {where}"
        message = re.sub(r"\bdata\.path\b", "evaluation.path", problem.message)
        yield Problem(where, f"benchmark {name}: {message}" if where == "evaluation.path" else message)
