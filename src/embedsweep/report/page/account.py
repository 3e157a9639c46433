"""Sections on what is on record: failures, data warnings, costs beside the quote, and how to reproduce the study."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from embedsweep.config.study import axis_words
from embedsweep.console import short_params
from embedsweep.files import MODEL
from embedsweep.report.costs import costs, quote_and_actual
from embedsweep.report.page.content import DataTable, Section
from embedsweep.report.ranking import rerun_command
from embedsweep.report.results import StudyResults, final_rows
from embedsweep.report.status import study_status
from embedsweep.study.finals import expects_finals
from embedsweep.study.keep import keep_text
from embedsweep.study.record import RETRY_OF, StudyRecord

LIBRARIES = (
    "embedsweep",
    "sentence-transformers",
    "transformers",
    "torch",
    "optuna",
    "hydra-core",
    "mlflow",
    "codecarbon",
)


def failures(results: StudyResults) -> Section:
    """Return the section on trials that failed and why."""
    failed = [(str(row.number), row) for row in results.rows if row.state == "FAIL"]
    finals = final_rows(results.study)
    failed += [(f"final {row.number}", row) for row in finals if row.state == "FAIL"]
    if not failed:
        return Section("failed", "Failed trials", ["No trial failed."])
    retried = dict(_retries(results.study))
    rows = [
        (name, row.reason or "for an unknown reason", retried.get(name, ""), short_params(row.values))
        for name, row in failed
    ]
    header = ("trial", "reason", "retried as", "values")
    table = DataTable(
        "Failed trials; their logs are train.log in their folders", header, rows, frozenset({1, 3}), len(rows) > 10
    )
    return Section(
        "failed", "Failed trials", [f"{len(failed)} of {len(results.rows) + len(finals)} trials failed."], [], [table]
    )


def _retries(study: StudyRecord) -> Iterator[tuple[str, str]]:
    """Yield what each failed trial is called, also of the finals, and what the one is called that retries it."""
    for record, unit in ((study, ""), (study.finals, "final ")):
        for trial in record.trials if record is not None else ():
            if (failed := trial.user_attrs.get(RETRY_OF)) is not None:
                yield f"{unit}{failed}", f"{unit}{trial.number}"


def audit(results: StudyResults) -> Section:
    """Return the section with the warnings about data and training that commands on this study showed."""
    warnings = results.study.warnings
    none = "No command on this study warned of its data or its training."
    return Section("audit", "Audit of data and training", warnings or [none])


def cost(results: StudyResults) -> Section:
    """Return the section on what the study cost, beside what it was quoted."""
    said = [_sentence(text) for text in costs(results)]
    if results.study.quote is None:
        said.append("There is no quote to compare with: only a study that begins with study.budget_hours keeps one.")
    rows = [(each.name, _figure(each.quoted), _figure(each.actual), each.note) for each in quote_and_actual(results)]
    tables = [DataTable("Quote and truth", ("", "quoted", "so far", ""), rows, frozenset({0, 3}))] if rows else []
    return Section("cost", "Cost", said, [], tables)


def _figure(value: float | None) -> str:
    return "not known" if value is None else f"{value:.3g}"


def reproduce(results: StudyResults, program: str) -> Section:
    """Return the section with the search space, the data, the versions and the commands."""
    study, plan = results.study, results.study.plan
    chosen = results.chosen
    commands = {"Opens the study again, and goes on where trials are left": f"{program} -m study.name={study.name}"}
    if study.words:
        commands["Searches the same again, as another study"] = _anew(study, program)
    if chosen is not None:
        commands["Trains the best configuration again"] = rerun_command(program, study.fixed, chosen.values)
    if (study.chosen_folder / MODEL).is_dir():
        commands["Puts the best model with its card into a folder"] = f"embedsweep publish {study.name} --to ./model"
    commands["Lists every trial"] = f"embedsweep show {study.name} --all"
    commands["Opens MLflow's pages on it"] = f"embedsweep ui {study.name}"
    facts = [
        ("sampler", f"{plan.sampler}, seed {plan.seed}"),
        ("pruner", plan.pruner),
        ("objectives", ", ".join(plan.objectives)),
        ("the same for all trials", " ".join(study.fixed) or "the defaults"),
        *((f"constraint {number}", each) for number, each in enumerate(plan.constraints, start=1)),
        *([("not the best", f"what forgets {keep_text(plan.keep)}")] if plan.keep else []),
        ("folder", str(study.folder)),
    ]
    tables = [
        DataTable(
            "Search space", ("key", "values"), [(axis.name, axis_words(axis)) for axis in plan.axes], frozenset({0, 1})
        ),
        DataTable("Plan", ("", ""), facts, frozenset({0, 1})),
        _data(study.frozen_data),
        DataTable(
            "Versions where this page was written", ("", ""), list(_versions()), frozenset({0, 1}), is_folded=True
        ),
    ]
    return Section("reproduce", "How to reproduce it", [], [], tables, commands)


def _anew(study: StudyRecord, program: str) -> str:
    """Return the command that began a study, for a study of another name."""
    return f"{program} -m {shlex.join([*study.words, f'study.name={study.name}-again'])}"


def _data(frozen: Mapping[str, Mapping[str, Any]]) -> DataTable:
    rows = [(name, str(content.get("digest", "unknown"))) for name, content in frozen.items()]
    caption = "Data, as it was when the study was created"
    return DataTable(
        caption, ("source", "digest"), rows or [("unknown", "an earlier version created the study")], frozenset({0, 1})
    )


def _versions() -> Iterator[tuple[str, str]]:
    yield "Python", platform.python_version()
    for name in LIBRARIES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "unknown"


def progress(results: StudyResults) -> str:
    """Return how many trials of the study and of its finals are finished, how they ended, and whether any run now."""
    study, finals = results.study, results.study.finals
    if finals is not None:
        return f"{_progress(study)}; {_progress(finals)}"
    waiting = study.is_complete and expects_finals(study)
    return f"{_progress(study)}{'; its finals have not begun' if waiting else ''}"


def _progress(study: StudyRecord) -> str:
    status = study_status(study)
    words = {"complete": status.n_complete, "pruned": status.n_pruned, "failed": status.n_failed}
    ended = ", ".join(f"{count} {word}" for word, count in words.items() if count)
    state = {
        "complete": "complete",
        "running": "running now: this page shows the study as it was when it was written",
        "not running": "not running",
        "unknown": "another machine ran its trials, and may run them now",
    }[study.state]
    return f"{status.finished_text}{f' ({ended})' if ended else ''}, {state}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
