"""``embedsweep evaluate``: models side by side on benchmarks, as a table and as JSON.

Owns the story and the form of both. Everything typed is checked before a model is loaded; a model that fails does not
lose the others' figures.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from embedsweep.commands.arguments import Argument, Place, Takes, Typed, Verb, asks_for_help, parse, print_help
from embedsweep.commands.encode import read_device, read_target, shown_progress, written_whole
from embedsweep.commands.models import ChosenModel, choose_model, load_model
from embedsweep.commands.similarity import COMPARISONS, Comparison, compared, correlations, normalized_text
from embedsweep.config.compose import Composer, open_composer
from embedsweep.config.trial import BenchmarkConfig
from embedsweep.config.values import nearest, resolve
from embedsweep.console import say
from embedsweep.data import load_benchmark
from embedsweep.data.examples import Pairs
from embedsweep.errors import ConfigError, EmbedsweepError, Problem
from embedsweep.machine import prepare_process
from embedsweep.secrets import redact
from embedsweep.validation.sections import read_section

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

INSTALL = "pip install 'embedsweep[mteb]'"


@dataclass(frozen=True)
class TaskScore:
    """What a model reaches on one subset of a task.

    Attributes:
        name: ``STS22/es``, or the task's name alone where it has one subset.
        pearson: of the similarity asked for, in [-1, 1].
        spearman: likewise.
    """

    name: str
    pearson: float
    spearman: float


def find_tasks(names: Sequence[str], problems: list[Problem]) -> list[Any]:
    """MTEB's tasks of these names; what is wrong goes to ``problems``. Imports the package, but no torch."""
    if not names:
        return []
    if find_spec("mteb") is None:
        problems.append(Problem("mteb", f"needs the Python package mteb: {INSTALL}"))
        return []
    import mteb

    # Those that MTEB has since superseded are the ones that papers report: STSBenchmark, STS22.
    known = {task.metadata.name for task in mteb.get_tasks(task_types=["STS"], exclude_superseded=False)}
    for name in names:
        if name not in known:
            message = f"MTEB has no STS task {name}{nearest(name, known)}; there are: {', '.join(sorted(known))}"
            problems.append(Problem("mteb", message))
    return [mteb.get_task(name) for name in names if name in known]


def task_scores(model: SentenceTransformer, task: Any, similarity: Comparison, batch_size: int) -> Iterator[TaskScore]:
    """Scores a model on a task, each of its subsets and splits.

    Args:
        model: what is scored.
        task: one of MTEB's; its data comes from the hub.
        similarity: the cosine, or the Euclidean distance itself, as MTEB has it.
        batch_size: sentences encoded at once.
    """
    import mteb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own code, in its own code
        result = mteb.evaluate(
            model,
            task,
            cache=None,  # else a figure of another day may be told for this model
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": batch_size, "show_progress_bar": False},
        )
    (found,) = result.task_results
    scores = [(split, each) for split, subsets in found.scores.items() for each in subsets]
    for split, each in scores:
        parts = [found.task_name]
        parts += [each["hf_subset"]] if len({other["hf_subset"] for _, other in scores}) > 1 else []
        parts += [split] if len(found.scores) > 1 else []
        yield TaskScore("/".join(parts), float(each[f"{similarity}_pearson"]), float(each[f"{similarity}_spearman"]))


VERB = Verb(
    name="evaluate",
    about="Compares models on benchmarks: Spearman and Pearson of each pair's similarity with its gold score.",
    places=(Place("MODEL...", "folders, studies' names (their best), runs' ids or their first 6 digits, hub ids"),),
    arguments=(
        Argument("benchmark", Takes.WORDS, "NAME...", "options of conf/benchmark"),
        Argument("data", Takes.WORD, "FOLDER", "has the benchmarks' folders in it; without it the hub is read"),
        Argument("mteb", Takes.WORDS, "TASK...", "STS tasks of the mteb package"),
        Argument("similarity", Takes.WORD, "NAME", "cosine, or euclidean: 1 / (1 + distance)"),
        Argument("normalize-text", Takes.NOTHING, "", "lower case; tab, newline and comma become a space"),
        Argument("json", Takes.WORD, "FILE", "writes all figures, p-values among them"),
        Argument("tag", Takes.WORD, "TEXT", "a word of yours, written into the file"),
        Argument("batch-size", Takes.NUMBER, "N", "sentences encoded at once"),
        Argument("device", Takes.WORD, "D", "auto, cpu, cuda, cuda:N or mps"),
        Argument("overwrite", Takes.NOTHING, "", "writes over a file that is there"),
    ),
)
TELLING_P = 0.01
"""P-values from here on are shown in the table."""


@dataclass(frozen=True)
class _Asked:
    """The arguments, checked."""

    models: list[ChosenModel]
    benchmarks: Mapping[str, Pairs]
    tasks: list[Any]
    similarity: Comparison
    normalize_text: bool
    json: Path | None
    tag: str | None
    batch_size: int
    device: str


@dataclass(frozen=True)
class Figure:
    """One model on one benchmark, as the JSON file has it.

    Attributes:
        model: as it was called.
        benchmark: its name; of an MTEB task with its subset.
        metric: ``cosine`` or ``euclidean``; of an MTEB task with ``mteb`` before it.
        pearson: in [-1, 1].
        pearson_p: two-sided; None where MTEB tells none.
        spearman: in [-1, 1].
        spearman_p: likewise.
        n: pairs; None where MTEB tells none.
        normalized: whether texts were normalised.
        timestamp: when, in UTC.
        tag: the word that was given.
    """

    model: str
    benchmark: str
    metric: str
    pearson: float
    pearson_p: float | None
    spearman: float
    spearman_p: float | None
    n: int | None
    normalized: bool
    timestamp: str
    tag: str | None


def run(words: Sequence[str], console: Console) -> int:
    """Runs ``embedsweep evaluate`` with the words after it.

    Returns:
        0, or 1 where a model failed; the others' figures are printed and written all the same.

    Raises:
        ConfigError: all that is wrong with what was typed; no model was loaded.
        EmbedsweepError: the file cannot be written.
    """
    if asks_for_help(words):
        print_help(VERB, console)
        return 0
    asked = _read(parse(VERB, words))
    prepare_process(asked.device)
    figures: list[Figure] = []
    failures: list[str] = []
    total = len(asked.models) * (len(asked.benchmarks) + len(asked.tasks))
    with shown_progress(console, total, "scored") as progress:
        for chosen in asked.models:
            try:
                for figure in _figures(chosen, asked):
                    figures.append(figure)
                    progress(1)
            except Exception as error:  # whatever a model's own code raises must not lose what others reached
                logging.getLogger(__name__).debug("%s failed", chosen.word, exc_info=True)
                reason = str(error) if isinstance(error, EmbedsweepError) else f"{type(error).__name__}: {error}"
                failures.append(f"{chosen.word} failed: {redact(reason)}")
    if figures:
        _print_table(console, figures)
    if asked.json is not None and not figures:
        say(console, f"{asked.json}: not written, there are no figures")
    elif asked.json is not None:
        with written_whole(asked.json) as temporary:
            tree = [asdict(figure) for figure in figures]
            temporary.write_text(json.dumps(tree, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        say(console, f"{asked.json}: {len(figures)} figures")
    for failure in failures:
        say(console, failure)
    return 1 if failures else 0


def _read(typed: Typed) -> _Asked:
    reader = typed.reader
    names, folder = reader.texts("benchmark"), reader.optional_text("data")
    task_names = reader.texts("mteb")
    similarity = reader.one_of("similarity", COMPARISONS)
    normalize_text, tag = reader.boolean("normalize_text"), reader.optional_text("tag")
    batch_size, device = reader.integer("batch_size", at_least=1), read_device(typed)
    target = read_target(typed, "json", ())
    reader.finish()
    if normalize_text and task_names:
        typed.problem("normalize_text", "MTEB's tasks are scored as MTEB has them: ask for them by themselves")
    with open_composer() as composer:
        if not names and not task_names and not typed.is_told("benchmark"):
            there = ", ".join(composer.options("benchmark"))
            typed.problem("benchmark", f"must be given: --benchmark NAME...; there are: {there}")
        configs = _benchmarks(names, composer, typed)
        models = _models(typed, composer)
    tasks = find_tasks(task_names, typed.problems)
    benchmarks: dict[str, Pairs] = {}
    for config in configs:
        try:
            benchmarks[config.name] = load_benchmark(config, folder)
        except ConfigError as error:
            typed.problems.extend(map(_by_argument, error.problems))
    typed.check()
    return _Asked(models, benchmarks, tasks, similarity, normalize_text, target, tag, batch_size, device)


def _by_argument(problem: Problem) -> Problem:
    """A problem of a benchmark's data, told by this verb's argument and not by the option of ``train``."""
    message = problem.message.replace("evaluation.path=", "--data ").replace("evaluation.path", "--data")
    return Problem("--data" if problem.where == "evaluation.path" else problem.where, message)


def _benchmarks(names: Sequence[str], composer: Composer, typed: Typed) -> list[BenchmarkConfig]:
    found: list[BenchmarkConfig] = []
    for name in names:
        if names.count(name) > 1:
            typed.problem("benchmark", f"names {name} twice")
            continue
        try:
            tree = resolve({"benchmark": composer.benchmark(name)}, {}, ("benchmark",))
            found.append(read_section(BenchmarkConfig, f"benchmark {name}", tree["benchmark"], typed.problems))
        except ConfigError as error:
            for problem in error.problems:
                typed.problem("benchmark", str(problem))
    return found


def _models(typed: Typed, composer: Composer) -> list[ChosenModel]:
    words = typed.places[0]
    for word in dict.fromkeys(word for word in words if words.count(word) > 1):
        typed.problem("MODEL", f"{word} is given twice")
    models: list[ChosenModel] = []
    for word in dict.fromkeys(words):
        try:
            models.append(choose_model(word, composer))
        except ConfigError as error:
            typed.problems.extend(error.problems)
    return models


def _figures(chosen: ChosenModel, asked: _Asked) -> Iterator[Figure]:
    """One model on all benchmarks and tasks."""
    from embedsweep.models import torch_device

    model = load_model(chosen, torch_device(asked.device))
    for name, pairs in asked.benchmarks.items():
        yield _figure(chosen, model, name, pairs, asked)
    for task in asked.tasks:
        for score in task_scores(model, task, asked.similarity, asked.batch_size):
            yield Figure(
                model=chosen.word,
                benchmark=score.name,
                metric=f"mteb {asked.similarity}",
                pearson=score.pearson,
                pearson_p=None,
                spearman=score.spearman,
                spearman_p=None,
                n=None,
                normalized=False,
                timestamp=_now(),
                tag=asked.tag,
            )


def _figure(chosen: ChosenModel, model: SentenceTransformer, name: str, pairs: Pairs, asked: _Asked) -> Figure:
    sides = []
    for texts in (pairs.sentences1, pairs.sentences2):
        given = [normalized_text(text) for text in texts] if asked.normalize_text else list(texts)
        sides.append(model.encode(given, batch_size=asked.batch_size, show_progress_bar=False))
    reached = correlations(pairs.scores, compared(sides[0], sides[1], asked.similarity))
    return Figure(
        model=chosen.word,
        benchmark=name,
        metric=asked.similarity,
        **asdict(reached),
        n=len(pairs),
        normalized=asked.normalize_text,
        timestamp=_now(),
        tag=asked.tag,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _print_table(console: Console, figures: Sequence[Figure]) -> None:
    """A row a model, a column a benchmark."""
    columns = list(dict.fromkeys(figure.benchmark for figure in figures))
    metrics = ", ".join(dict.fromkeys(figure.metric for figure in figures))
    normalized = "; texts normalised" if any(figure.normalized for figure in figures) else ""
    title = f"Spearman / Pearson, {metrics}{normalized}"
    table = Table(title=title, box=None, padding=(0, 2, 0, 0), title_justify="left", header_style="bold")
    table.add_column("model", overflow="fold")
    for column in columns:
        table.add_column(Text(column), no_wrap=True)
    cells = {(figure.model, figure.benchmark): _cell(figure) for figure in figures}
    for model in dict.fromkeys(figure.model for figure in figures):
        table.add_row(*(Text(text) for text in (model, *(cells.get((model, column), "") for column in columns))))
    if not console.is_terminal:
        console.width = 10_000  # a file or a pipe has no width that a row would have to be broken for
    console.print(table)


def _cell(figure: Figure) -> str:
    text = f"{figure.spearman:.4f} / {figure.pearson:.4f}"
    ps = [p for p in (figure.spearman_p, figure.pearson_p) if p is not None]
    return text + (f" (p {' / '.join(f'{p:.2f}' for p in ps)})" if ps and max(ps) >= TELLING_P else "")
