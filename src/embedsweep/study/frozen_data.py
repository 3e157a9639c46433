"""Freeze digests of a study's data with it, and refuse other data: trials on different data cannot be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Literal

from embedsweep.config.study import Choice, StudyPlan
from embedsweep.config.trial import TrialConfig
from embedsweep.config.values import shown
from embedsweep.data.beir import CORPUS, QUERIES
from embedsweep.data.examples import Examples
from embedsweep.data.load import load_also, load_benchmark, load_splits, scored_data
from embedsweep.data.scored import Scored
from embedsweep.errors import Problem, StudyError, gather_problems, raise_problems
from embedsweep.files import user_path
from embedsweep.losses.nesting import nest
from embedsweep.losses.table import LOSSES
from embedsweep.models.digest import Content, folder_content
from embedsweep.study.record import StudyRecord
from embedsweep.training.data import corpora
from embedsweep.validation.cells import cell_name, section_of
from embedsweep.validation.plan_cells import cell_config
from embedsweep.validation.search import probe_cells


def agree_on_data(study: StudyRecord) -> None:
    """Compare the data of all trials with what was frozen with the study; freeze what is not frozen yet.

    A study of an earlier version has nothing frozen: its data is what this command reads.

    Raises:
        ConfigError: some data is not what the study was created with, or cannot be read; names each source.
    """
    contents = _contents_of(study.plan)
    raise_problems([Problem(f"study {study.name}", line) for line in _differences(study.frozen_data, contents)])
    if contents.keys() - study.frozen_data.keys():
        with study.lock():  # another machine may have frozen its own in the meantime
            frozen = study.frozen_data
            study.freeze_data({**{name: asdict(content) for name, content in contents.items()}, **frozen})
        raise_problems([Problem(f"study {study.name}", line) for line in _differences(frozen, contents)])


def check_data(study: StudyRecord) -> None:
    """As :func:`agree_on_data`, but freeze nothing."""
    lines = _differences(study.frozen_data, _contents_of(study.plan))
    raise_problems([Problem(f"study {study.name}", line) for line in lines])


def require_same_data(study: StudyRecord, params: Mapping[str, Choice], config: TrialConfig) -> None:
    """Check the data of one trial just before it is trained, as files may change while a study runs.

    Raises:
        StudyError: it is not what was frozen with the study.
    """
    if lines := list(_differences(study.frozen_data, dict(_contents(config, _swept(study.plan, params))))):
        raise StudyError(f"study {study.name}: {'; '.join(lines)}")


def _differences(frozen: Mapping[str, Mapping[str, object]], contents: Mapping[str, Content]) -> Iterator[str]:
    """Yield what differs, a line for each source that is frozen with another content."""
    for name, content in contents.items():
        before = frozen.get(name)
        if before is None or before["digest"] == content.digest:
            continue
        what = {"model": "files", "corpus": "documents"}.get(name.split()[0], "examples")
        change = f"had {before['size']} {what} when the study was created and has {content.size} now"
        if before["size"] == content.size:
            change = f"has as many {what} as when the study was created ({content.size}), but not the same"
        yield (
            f"{name} ({content.origin}) has changed: it {change}, and scores on different data cannot be compared: "
            "restore it, or start a new study with another study.name"
        )


def _contents_of(plan: StudyPlan) -> dict[str, Content]:
    """Return what every source of a plan's trials holds, by name.

    Raises:
        ConfigError: all problems of what cannot be read.
    """
    contents: dict[str, Content] = {}
    problems: list[Problem] = []
    chosen = [axis.key for axis in plan.axes if section_of(axis.key) in ("data", "model", "loss")]
    cells = {cell_name({key: params[key] for key in chosen if key in params}): params for params in probe_cells(plan)}
    for params in cells.values():
        with gather_problems(problems):
            contents |= _contents(cell_config(plan, params), _swept(plan, params))
    raise_problems(problems)
    return contents


OTHERWISE = ("data.convert", "data.negatives", "data.max_tokens", "data.drop_leaked", "data.limit")
"""Keys that decide what is done with examples, not which there are: the whole source is compared."""


def _swept(plan: StudyPlan, params: Mapping[str, Choice]) -> dict[str, Choice]:
    """Return the values of a trial that decide which examples it reads, by key."""
    keys = [axis.key for axis in plan.axes if section_of(axis.key) == "data" and not axis.key.startswith(OTHERWISE)]
    return {key: params[key] for key in keys if key in params}


SCORED: tuple[Literal["dev", "test"], ...] = ("dev", "test")


def _contents(config: TrialConfig, swept: Mapping[str, Choice]) -> Iterator[tuple[str, Content]]:
    """Yield the name and the content of every source of a trial; of models those that are folders."""
    note = f" with {cell_name({key: shown(value) for key, value in swept.items()})}" if swept else ""
    splits = load_splits(replace(config.data, limit=None), config.evaluation)
    further = {name: replace(also, data=replace(also.data, limit=None)) for name, also in config.data.also.items()}
    also = {f"data.also.{name}": each for name, each in load_also(replace(config.data, also=further)).items()}
    watched = {f"watched {each.name}": load_benchmark(each, config.evaluation.path) for each in config.evaluation.watch}
    sources: dict[str, Examples | Scored] = {"train": splits.train, "dev": splits.dev, "test": splits.test}
    sources |= {**also, **watched}
    read = {"train": config.data}
    read |= {name: scored_data(config.data, config.evaluation, name)[0] for name in SCORED}
    read |= {f"data.also.{name}": each.data for name, each in config.data.also.items()}
    read |= {f"watched {each.name}": each.data for each in config.evaluation.watch}
    for name, source in sources.items():
        beside = f" with {CORPUS} and {QUERIES}" if read[name].format == "beir" else ""
        yield f"{name}{note}", Content(source.origin + beside, len(source), source.digest)
    for name, content in corpora(config.data):
        yield f"{name}{note}", content
    losses = [part for dataset in config.datasets.values() for part in nest(dataset.loss)]
    others = [part.parameters[key] for part in losses if (key := LOSSES[part.name].other_model) is not None]
    others += [dataset.data.negatives.miner for dataset in config.datasets.values()]
    for path in dict.fromkeys([config.model.path, *others]):
        if isinstance(path, str) and (folder := user_path(path)).is_dir():
            yield f"model {path}", folder_content(folder)
