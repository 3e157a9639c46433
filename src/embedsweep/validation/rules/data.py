"""Rules of the data: it can be read, and gives each loss examples of a shape that the loss takes. No torch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from embedsweep.config.identity import canonical
from embedsweep.config.trial import AlsoConfig, BenchmarkConfig, DataConfig, EvaluationConfig, Split, TrialConfig
from embedsweep.data.convert import trained_shape
from embedsweep.data.demo import DEMOS, is_generated
from embedsweep.data.load import Request, benchmark_data, load_also, load_benchmark, load_own, load_splits, scored_data
from embedsweep.errors import ConfigError, Problem, gather_problems
from embedsweep.hub import local_model
from embedsweep.losses.nesting import in_batch, shapes_of
from embedsweep.losses.rows import InBatch
from embedsweep.losses.table import LOSSES
from embedsweep.training.data import UnpreparedPart, count_prepared, unprepared_parts, why_too_long
from embedsweep.training.micro_batches import losses_of
from embedsweep.validation.rules.training import smallest_batch


def check_data(config: TrialConfig) -> Sequence[Problem]:
    """Check that every split, every further dataset and every benchmark can be read."""
    evaluation = config.evaluation
    loads: list[Callable[[], object]] = [lambda: load_splits(config.data, evaluation), lambda: load_also(config.data)]
    further = (*evaluation.benchmarks, *evaluation.watch)
    loads += [functools.partial(load_benchmark, benchmark, evaluation.path) for benchmark in further]
    problems: list[Problem] = []
    for load in loads:
        with gather_problems(problems):
            load()
    return [*dict.fromkeys(problems), *_check_leaks(config)]


def check_own_data(config: TrialConfig, splits: Sequence[Split]) -> list[Problem]:
    """Check that the data can be read that is trained on or scored, where it is unknown how it is scored.

    Args:
        config: the trial, whose evaluation is invalid.
        splits: those of which it is known whether a benchmark takes their place.
    """
    benchmarks = {"dev": config.evaluation.dev, "test": config.evaluation.test}
    own = [split for split in splits if benchmarks.get(split) is None]
    problems: list[Problem] = []
    for load in (lambda: load_own(config.data, own), lambda: load_also(config.data)):
        with gather_problems(problems):
            load()
    return problems


def _check_leaks(config: TrialConfig) -> Iterator[Problem]:
    """Check that no split is both trained on and scored, since ``drop_leaked`` would leave out all of it."""
    data, evaluation = config.data, config.evaluation
    scored: tuple[tuple[Split, BenchmarkConfig | None, str], ...] = (
        ("dev", evaluation.dev, "selects"),
        ("test", evaluation.test, "reports"),
    )
    for split, benchmark, does in scored:
        own = () if is_generated(data) or benchmark is not None else data.splits[split]
        if data.drop_leaked and (both := [name for name in data.splits["train"] if name in own]):
            message = f"has {', '.join(both)}, which {does}: data.drop_leaked=true leaves all of it out of train; "
            yield Problem("data.splits.train", f"{message}remove it there, or set evaluation.{split}")


READ_FROM = ("path", "hub", "revision", "language", "format", "files", "where")
"""Keys of a data configuration by which two read the same rows, where they also name the same split."""


def check_test_is_not_dev(config: TrialConfig) -> Iterator[Problem]:
    """Check that test does not read the pairs of dev, by which the model is chosen, and is not watched beside it."""
    evaluation = config.evaluation
    dev, test = (scored_data(config.data, evaluation, name) for name in ("dev", "test"))
    if both := _read_twice(dev, test):
        key = f"data.splits.{test[1]}" if evaluation.test is None else "evaluation.test"
        message = (
            f"reads {both} of {test[0].name}, as dev does: a score on pairs that chose the model is no test; "
            "choose another benchmark"
        )
        yield Problem(key, f"{message} or split" if evaluation.test is None else message)
    reported = {"test": test}
    reported |= {each.name: _source_of(each, evaluation) for each in evaluation.benchmarks if each.split == "test"}
    for watched, (name, source) in itertools.product(evaluation.watch, reported.items()):
        if both := _read_twice(_source_of(watched, evaluation), source):
            message = f"{watched.name} reads {both} of {source[0].name}, as {name} does, and dev selects"
            yield Problem("evaluation.watch", f"{message}: watch a dev benchmark of other data")


def _source_of(benchmark: BenchmarkConfig, evaluation: EvaluationConfig) -> tuple[DataConfig, Split]:
    return benchmark_data(benchmark, evaluation.path), benchmark.split


def _read_twice(one: tuple[DataConfig, Split], other: tuple[DataConfig, Split]) -> str:
    """Return which splits, by their names in the files, are read by both; empty for none."""
    names = [name for name in other[0].splits[other[1]] if name in one[0].splits[one[1]]]
    is_same = all(getattr(one[0], key) == getattr(other[0], key) for key in READ_FROM)
    return ", ".join(names) if is_same else ""


def scored_on(config: TrialConfig) -> tuple[str, str]:
    """Return the digests of the pairs of dev and of test; for data that can be read."""
    data, evaluation = config.data, config.evaluation
    return _scored_on(Request(canonical([asdict(data), asdict(evaluation)]), (data, evaluation)))


@functools.lru_cache(maxsize=256)
def _scored_on(request: Request) -> tuple[str, str]:
    splits = load_splits(*request.arguments)
    return splits.dev.digest, splits.test.digest


def check_conversion(config: TrialConfig) -> list[Problem]:
    """Check that each dataset gives its loss examples of a shape that the loss takes."""
    problems: list[Problem] = []
    if unreadable := check_data(config):
        if not any(problem.where.endswith("data.shape") for problem in unreadable):
            problems += _check_shapes(config)
        return problems
    for dataset in unprepared_parts(config):
        if isinstance(outcome := count_prepared(dataset), ConfigError):
            problems += (_in_section(problem, dataset.section, dataset) for problem in outcome.problems)
    return problems


def check_max_tokens(config: TrialConfig) -> Iterator[Problem]:
    """Check that enough examples are below ``data.max_tokens``, by a tokenizer on this disk."""
    if check_data(config) or check_conversion(config):
        return
    folder = local_model(config.model.path, config.model.revision)
    for dataset in unprepared_parts(config):
        if (error := why_too_long(dataset, folder)) is not None:
            yield from (_in_section(problem, dataset.section, dataset) for problem in error.problems)


def _check_shapes(config: TrialConfig) -> Iterator[Problem]:
    """Check the shapes alone, where no examples can be read."""
    for name, dataset in config.datasets.items():
        section = "data" if name == config.data.name else f"data.also.{name}"
        try:
            trained_shape(dataset.data, shapes_of(dataset.loss), dataset.loss.name)
        except ConfigError as error:
            yield from (_in_section(problem, section, dataset) for problem in error.problems)


def check_smallest_batch(config: TrialConfig) -> Iterator[Problem]:
    """Check that losses that compare examples have several in a batch."""
    for loss in losses_of(config):
        kind = in_batch(loss)
        key, batch = smallest_batch(config.dataloader, in_parts=kind is InBatch.COMPARED)
        if kind is not InBatch.INDEPENDENT and batch < 2:
            message = f"loss={loss.name} compares examples inside a batch and needs at least 2, but got {batch}"
            yield Problem(f"dataloader.{key}", message)


def check_dropped_batch(config: TrialConfig) -> Iterator[Problem]:
    """Check that each dataset has a batch left if the last one is dropped."""
    if not config.dataloader.drop_last or check_data(config) or check_conversion(config):
        return
    batch = config.dataloader.batch_size
    for dataset in unprepared_parts(config):
        examples = count_prepared(dataset)
        if isinstance(examples, int) and examples < batch:
            of = "" if dataset.section == "data" else f" of {dataset.section}"
            message = f"with drop_last no batch is left: {examples} examples{of} for a batch of {batch}"
            yield Problem("dataloader.batch_size", message)


LOSSES_NAMED = 3
"""How many losses a message suggests."""


def _in_section(problem: Problem, section: str, dataset: UnpreparedPart | AlsoConfig) -> Problem:
    """Return a problem of one dataset under its own keys; of a loss without data, with losses and data that suit."""
    message = problem.message
    if problem.where == "data.negatives.count" and "with loss=" in message:
        taking = [name for name, row in LOSSES.items() if "tuples" in row.shapes]
        message += f"; any number: {', '.join(taking)}"
    if problem.where == "loss":
        taking = [name for name, row in LOSSES.items() if dataset.data.shape in row.shapes and not row.other_model]
        message += f": {', '.join(taking[:LOSSES_NAMED])}" if taking else ""
        demos = [f"data={name}" for name, shape in DEMOS.items() if shape in shapes_of(dataset.loss)]
        message += f" (to try loss={dataset.loss.name}: {demos[0]})" if demos else ""
        return Problem("loss" if section == "data" else f"{section}.loss", message)
    return Problem(problem.where.replace("data.", f"{section}.", 1), message.replace("data.", f"{section}."))
