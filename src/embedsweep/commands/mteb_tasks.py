"""MTEB's STS tasks, by the ``mteb`` package, which is an extra.

Owns the only use of that package. A task's figures are MTEB's own; it tells no p-values.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from embedsweep.comparison import Comparison
from embedsweep.config import nearest
from embedsweep.errors import Problem

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
