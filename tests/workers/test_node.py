"""The check of a node: what keeps it from running a study's trials, each with what to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from embedsweep.study.frozen_data import agree_on_data
from embedsweep.study.opening import open_study
from embedsweep.validation.sweep import pass_sweep
from embedsweep.workers.job import Job
from embedsweep.workers.node import NodeOrder, check_node, files_of, running_kernel
from embedsweep.workers.sources import identifier


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forget_data: Callable[[], None]) -> NodeOrder:
    """An order of a study whose storage and tracking store are files, as a command makes it."""
    monkeypatch.chdir(tmp_path)
    forget_data()
    source = Path(__file__).parents[1] / "faults" / "pairs"
    shutil.copytree(source, tmp_path / "pairs")
    words = ["loss=mnrl,cosent", "data=csv", "data.path=pairs", "model=tiny", "study.name=checked"]
    request = pass_sweep(words)
    study = open_study(request)
    agree_on_data(study)
    marker = study.folder / ".marker"
    marker.touch()
    return NodeOrder(str(tmp_path), Job.of(study, request, "").sweep, running_kernel(), str(marker), files_of(study))


class Case(NamedTuple):
    """What is wrong with a node, and what is reported."""

    damage: Callable[[NodeOrder, Path], NodeOrder]
    problems: tuple[str, ...]


def _elsewhere(order: NodeOrder, _: Path) -> NodeOrder:
    return replace(order, boot="another kernel")


def _not_shared(order: NodeOrder, _: Path) -> NodeOrder:
    Path(order.marker).unlink()
    return order


def _other_data(order: NodeOrder, folder: Path) -> NodeOrder:
    with next((folder / "pairs").glob("train*")).open("a", encoding="utf-8") as file:
        file.write("one more,line,0.5\n")
    return order


def _no_data(order: NodeOrder, folder: Path) -> NodeOrder:
    shutil.rmtree(folder / "pairs")
    return order


def _a_file(order: NodeOrder, folder: Path) -> NodeOrder:
    (folder / "file").touch()
    return replace(order, folder=str(folder / "file" / "below"))


FILES = (
    "study.storage is a file of the command's machine, and this is another: set it to postgresql://host/database",
    "tracking.uri is a file of the command's machine, and this is another: set it to http://host:5000",
)
CASES = {
    "another machine": Case(_elsewhere, FILES),
    "a folder of its own": Case(_not_shared, FILES),
    "other data": Case(_other_data, ("study checked: train (",)),
    "no data": Case(_no_data, ("data.path: ",)),
    "no folder": Case(_a_file, ("the working directory ",)),
}


def test_a_node_that_has_all_has_no_problem(order: NodeOrder) -> None:
    assert order.files == ("study.storage", "tracking.uri")
    assert check_node(order) == []


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_a_node_that_lacks_something_says_what(
    case: Case, order: NodeOrder, tmp_path: Path, forget_data: Callable[[], None]
) -> None:
    forget_data()  # the check runs in a process of its own
    problems = check_node(case.damage(order, tmp_path))
    assert len(problems) == len(case.problems), problems
    assert all(found.startswith(expected) for found, expected in zip(problems, case.problems, strict=True)), problems


def test_servers_that_do_not_answer_are_all_named(order: NodeOrder) -> None:
    sweep = order.sweep
    study = replace(sweep.study, storage="postgresql://me:canary4711@127.0.0.1:9/none")
    tracking = replace(sweep.tracking, uri="http://127.0.0.1:9")
    away = replace(order, boot="another kernel", files=(), sweep=replace(sweep, study=study, tracking=tracking))
    shutil.rmtree(Path(order.marker).parent)
    first, second = check_node(away)
    assert first.startswith("tracking.uri: ")
    assert "127.0.0.1:9" in first
    assert second.startswith("study.storage: ")
    assert "canary4711" not in second


def test_copies_of_the_package_are_told_apart_by_their_sources() -> None:
    version, digest = identifier()()
    assert version
    assert len(digest) == 64
    assert identifier()() == (version, digest)
