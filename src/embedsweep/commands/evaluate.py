"""``embedsweep evaluate``: scores of models on benchmarks, side by side, as a table and as JSON."""

from __future__ import annotations

import logging
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from embedsweep.commands.arguments import Option, ParsedArguments, Positional, Verb, parse
from embedsweep.commands.figures import FamilyFigure, Figure, print_figures
from embedsweep.commands.models import ResolvedModel, load_model, read_model_arguments
from embedsweep.commands.output import BATCH_SIZE, DEVICE, OVERWRITE, read_target, shown_progress, write_json
from embedsweep.commands.similarity import (
    SIMILARITY,
    Comparison,
    Correlations,
    correlations,
    normalized_text,
)
from embedsweep.config.compose import Composer, open_composer
from embedsweep.config.metrics import Scoring
from embedsweep.config.trial import BenchmarkConfig
from embedsweep.config.values import listed, nearest, resolve
from embedsweep.console import say
from embedsweep.data.load import load_benchmark
from embedsweep.data.scored import Pairs, Scored
from embedsweep.errors import ConfigError, EmbedsweepError, Problem
from embedsweep.secrets import redact
from embedsweep.validation.cells import benchmark_option
from embedsweep.validation.sections import read_section

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer

INSTALL = "pip install 'embedsweep[mteb]'"


def find_tasks(names: Sequence[str], problems: list[Problem]) -> list[Any]:
    """Return MTEB's tasks of these names; what is wrong goes to ``problems``. Imports the package, but no torch."""
    if not names:
        return []
    if find_spec("mteb") is None:
        problems.append(Problem("--mteb", f"needs the Python package mteb: {INSTALL}"))
        return []
    import mteb

    # Papers report tasks that MTEB has since superseded: STSBenchmark, STS22.
    known = {task.metadata.name for task in mteb.get_tasks(task_types=["STS"], exclude_superseded=False)}
    for name in names:
        if name not in known:
            message = f"MTEB has no STS task {name}{nearest(name, known)}; there are: {', '.join(sorted(known))}"
            problems.append(Problem("--mteb", message))
    return [mteb.get_task(name) for name in names if name in known]


def task_scores(
    model: SentenceTransformer, task: Any, similarity: Comparison, batch_size: int
) -> Iterator[tuple[str, Correlations]]:
    """Score a model on a task; yield the name (``STS22/es``) and the score of each of its subsets and splits.

    Args:
        model: the model to score.
        task: one of MTEB's; its data comes from the hub.
        similarity: the cosine, or the Euclidean distance itself, as MTEB defines it.
        batch_size: sentences encoded at once.
    """
    import mteb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # MTEB uses what it has itself deprecated
        result = mteb.evaluate(
            model,
            task,
            cache=None,  # else it may return the figure of an earlier day
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
        )
    (task_result,) = result.task_results
    scores = [(split, each) for split, subsets in task_result.scores.items() for each in subsets]
    for split, each in scores:
        parts = [task_result.task_name]
        parts += [each["hf_subset"]] if len({other["hf_subset"] for _, other in scores}) > 1 else []
        parts += [split] if len(task_result.scores) > 1 else []
        pearson, spearman = (float(each[f"{similarity}_{kind}"]) for kind in ("pearson", "spearman"))
        yield "/".join(parts), Correlations(pearson, None, spearman, None)


def _benchmark_names() -> list[str]:
    with open_composer() as composer:
        return composer.options("benchmark")


@dataclass(frozen=True)
class _Items:
    """What models are scored on.

    Attributes:
        scored: the items.
        scoring: the family's keys.
    """

    scored: Scored
    scoring: Scoring


@dataclass(frozen=True)
class _Request:
    """The arguments, checked; those that need no more than that are in ``values``."""

    models: list[ResolvedModel]
    benchmarks: Mapping[str, _Items]
    tasks: list[Any]
    json: Path | None
    values: Namespace


def run(words: Sequence[str], console: Console) -> int:
    """Run ``embedsweep evaluate`` with the words after it.

    Returns:
        0, or 1 where a model failed; the other models' figures are still printed and written.

    Raises:
        ConfigError: all that is wrong with the arguments; no model was loaded.
        EmbedsweepError: the file cannot be written.
    """
    request = _read(parse(VERB, words))
    figures: list[Figure | FamilyFigure] = []
    failures: list[str] = []
    total = len(request.models) * (len(request.benchmarks) + len(request.tasks))
    with shown_progress(console, total, "scored") as progress:
        for model in request.models:
            if model.is_provisional:
                say(console, f"{model.argument} is {model.description}")
            try:
                for figure in _figures(model, request, console):
                    figures.append(figure)
                    progress(1)
            except Exception as error:  # a model's own code may raise anything, and must not lose the others' figures
                logging.getLogger(__name__).debug("%s failed", model.argument, exc_info=True)
                reason = str(error) if isinstance(error, EmbedsweepError) else f"{type(error).__name__}: {error}"
                failures.append(f"{model.argument} failed: {redact(reason)}")
    if figures:
        print_figures(console, figures)
    if request.json is not None and not figures:
        say(console, f"{request.json}: not written, there are no figures")
    elif request.json is not None:
        write_json(request.json, [asdict(figure) for figure in figures])
        say(console, f"{request.json}: {len(figures)} figures")
    for failure in failures:
        say(console, failure)
    return 1 if failures else 0


def _read(arguments: ParsedArguments) -> _Request:
    values = arguments.values
    names, task_names = values.benchmark or [], values.mteb or []
    target = read_target(arguments, "json")
    if values.normalize_text and task_names:
        arguments.add_problem("--normalize-text", "does not apply to MTEB's tasks: evaluate them by themselves")
    with open_composer() as composer:
        is_reported = any(problem.where == "--benchmark" for problem in arguments.problems)
        if not names and not task_names and not is_reported:
            known = listed(composer.options("benchmark"))
            arguments.add_problem("--benchmark", f"must be given: --benchmark NAME...; there are: {known}")
        configs = _benchmarks(names, composer, arguments)
    models = read_model_arguments(arguments)
    tasks = find_tasks(task_names, arguments.problems)
    given = {"--normalize-text": values.normalize_text, "--similarity": values.similarity != "cosine"}
    of_pairs = [option for option, is_given in given.items() if is_given]
    benchmarks: dict[str, _Items] = {}
    for config in configs:
        for option in of_pairs if config.family != "sts" else ():
            message = f"is for scored pairs, and {config.name} is of the family {config.family}"
            arguments.add_problem(option, message)
        try:
            assert config.scoring is not None, "it was filled in"
            benchmarks[config.name] = _Items(load_benchmark(config, values.data), config.scoring)
        except ConfigError as error:
            arguments.problems.extend(map(_in_terms_of_data, error.problems))
    arguments.check()
    return _Request(models, benchmarks, tasks, target, values)


def _in_terms_of_data(problem: Problem) -> Problem:
    """Return a problem with a benchmark's data that names ``--data`` in place of the option of ``train``."""
    message = problem.message.replace("evaluation.path=", "--data ").replace("evaluation.path", "--data")
    return Problem("--data" if problem.where == "evaluation.path" else problem.where, message)


def _benchmarks(names: Sequence[str], composer: Composer, arguments: ParsedArguments) -> list[BenchmarkConfig]:
    configs: list[BenchmarkConfig] = []
    for name in names:
        if names.count(name) > 1:
            arguments.add_problem("--benchmark", f"{name} is given more than once")
            continue
        try:
            tree = resolve({"benchmark": benchmark_option(name, None, composer)}, {}, ("benchmark",))
            configs.append(read_section(BenchmarkConfig, f"benchmark {name}", tree["benchmark"], arguments.problems))
        except ConfigError as error:
            for problem in error.problems:
                arguments.add_problem("--benchmark", str(problem))
    return configs


def _figures(resolved: ResolvedModel, request: _Request, console: Console) -> Iterator[Figure | FamilyFigure]:
    """Load a model and score it on all benchmarks and tasks."""
    values = request.values
    model = load_model(resolved, values.device)

    def figure(benchmark: str, metric: str, n: int | None, scores: Correlations) -> Figure:
        return Figure(
            resolved.argument,
            benchmark,
            metric,
            **asdict(scores),
            n=n,
            normalized=values.normalize_text,
            timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
            tag=values.tag,
        )

    for name, items in request.benchmarks.items():
        pairs = items.scored
        if not isinstance(pairs, Pairs):
            yield _family_figure(model, resolved.argument, name, items, values, console)
            continue
        scored = _normalized(pairs) if values.normalize_text else pairs
        predicted = predicted_scores(model, scored, name, values.batch_size, values.similarity)
        yield figure(name, values.similarity, len(pairs), correlations(pairs.scores, predicted))
    for task in request.tasks:
        for name, scores in task_scores(model, task, values.similarity, values.batch_size):
            yield figure(name, f"mteb {values.similarity}", None, scores)


def _family_figure(
    model: SentenceTransformer, argument: str, name: str, items: _Items, values: Namespace, console: Console
) -> FamilyFigure:
    """Score a model on a benchmark of another family than scored pairs, as training does; show how far a corpus is."""
    from embedsweep.evaluation.evaluator import evaluator_of, scores_of
    from embedsweep.evaluation.retrieval import RetrievalEvaluator

    evaluator = evaluator_of(items.scored, name, items.scoring, values.batch_size, ())
    if isinstance(evaluator, RetrievalEvaluator):
        total = len(evaluator.queries) + len(evaluator.corpus)
        with shown_progress(console, total, f"{name}: encoded") as evaluator.on_encoded:
            scores = scores_of(evaluator, model)
    else:
        scores = scores_of(evaluator, model)
    return FamilyFigure(
        model=argument,
        benchmark=name,
        family=items.scoring.family,
        metric=items.scoring.main_metric,
        scores={key.rpartition("/")[2]: value for key, value in scores.items()},
        n=len(items.scored),
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
        tag=values.tag,
    )


def predicted_scores(
    model: SentenceTransformer, pairs: Pairs, name: str, batch_size: int, by: Comparison
) -> np.ndarray:
    """Return the similarity of every pair as training computes it, so that figures are equal to its own: ``(pairs,)``.

    Args:
        model: encodes the sentences.
        pairs: what is scored.
        name: the benchmark's.
        batch_size: sentences encoded at once.
        by: ``cosine``, or ``euclidean``: ``1 / (1 + distance)``.

    Raises:
        TrialError: the embeddings are constant or not numbers, or one sentence does not fit into memory.
    """
    import numpy as np

    from embedsweep.evaluation.evaluator import scores_of
    from embedsweep.evaluation.pairs import PairEvaluator

    evaluator = PairEvaluator(pairs, name, batch_size, ())
    scores_of(evaluator, model)
    predicted = evaluator.predicted()[by]
    return predicted if by == "cosine" else 1 / (1 - predicted.astype(np.float64))  # there a distance is negated


def _normalized(pairs: Pairs) -> Pairs:
    sides = [tuple(map(normalized_text, texts)) for texts in (pairs.sentences1, pairs.sentences2)]
    return replace(pairs, sentences1=sides[0], sentences2=sides[1])


VERB = Verb(
    name="evaluate",
    summary="score models on benchmarks, side by side",
    run=run,
    description="Score models on benchmarks: scored pairs by Spearman and Pearson, others by the family's main metric.",
    positionals=(
        Positional("MODEL...", "folders, names of studies (their best), ids of runs or their first 6 digits, hub ids"),
    ),
    options=(
        Option("--benchmark", "NAME", "train --help benchmark lists them", nargs="+", choices=_benchmark_names),
        Option("--data", "FOLDER", "a folder that holds the benchmarks' folders; without it the hub is read"),
        Option("--mteb", "TASK", "STS tasks of the mteb package", nargs="+"),
        SIMILARITY,
        Option("--normalize-text", "", "lower case; tab, newline and comma become a space"),
        Option("--json", "FILE", "write all figures, p-values among them"),
        Option("--tag", "TEXT", "a label that is written into the JSON file"),
        BATCH_SIZE,
        DEVICE,
        OVERWRITE,
    ),
)
