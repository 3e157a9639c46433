"""The words of ``embedsweep audit`` past the gate: those of ``train``, of which the data counts, and ``json=FILE``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedsweep.config import open_composer, resolve
from embedsweep.errors import ConfigError, Problem
from embedsweep.gate.reader import Reader
from embedsweep.gate.sections.data import read_data
from embedsweep.gate.sections.evaluation import read_evaluation
from embedsweep.gate.sections.model import read_model
from embedsweep.gate.words import compose_cells, sort_words
from embedsweep.schema import DataConfig, EvaluationConfig, ModelConfig

SECTIONS = ("data", "evaluation", "model")


@dataclass(frozen=True)
class AuditRequest:
    """A command for an audit, past the gate.

    Attributes:
        data: what is trained on.
        evaluation: what selects and reports.
        model: whose tokens are counted.
        json: a file that the figures are written to; None writes none.
    """

    data: DataConfig
    evaluation: EvaluationConfig
    model: ModelConfig
    json: Path | None


def pass_audit(words: Sequence[str]) -> AuditRequest:
    """Passes the words of ``embedsweep audit``; every word of a single run is understood.

    The data itself is not read here.

    Raises:
        ConfigError: all that is wrong, at once.
    """
    problems: list[Problem] = []
    files = [word.removeprefix("json=") for word in words if word.startswith("json=")]
    json = Path(files[-1]).expanduser() if files and files[-1] else None
    if files:
        problems += _check_file(json)
    request: AuditRequest | None = None
    with open_composer() as composer:
        said = sort_words([word for word in words if not word.startswith("json=")], composer, problems)
        problems += [Problem(axis.key, "data is audited as one run has it: give one value") for axis in said.axes]
        said.axes.clear()
        (cell,) = compose_cells(said, composer, problems)
        try:
            tree = resolve(cell.composed, {}, SECTIONS)
            root = Reader({name: tree.get(name) for name in SECTIONS}, "", problems)
            request = AuditRequest(
                data=read_data(root.section("data")),
                evaluation=read_evaluation(root.section("evaluation")),
                model=read_model(root.section("model")),
                json=json,
            )
        except ConfigError as error:
            problems += error.problems
    if problems or request is None:
        raise ConfigError(problems)
    return request


def _check_file(file: Path | None) -> Iterator[Problem]:
    if file is None:
        yield Problem("json", "must be a file to write to: json=audit.json")
    elif file.is_dir():
        yield Problem("json", f"{file} is a folder: give a file in it, as json={file / 'audit.json'}")
    elif not file.parent.is_dir():
        yield Problem("json", f"there is no folder {file.parent.absolute()} to write {file.name} to")
