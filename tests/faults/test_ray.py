"""A study on a real Ray cluster of three nodes: nodes that die, join and differ, and commands that are killed."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import embedsweep
from tests.faults import studies
from tests.faults.studies import Command, Study
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.slow

WORDS = (
    *studies.SHORT,
    *studies.PAIRS,
    "workers=ray",
)
TWELVE = (*WORDS, "trainer.seed=1,2,3,4,5,6")
TWO = (*WORDS, "workers.count=1")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """Three nodes with a CPU each; commands of this file find the cluster by themselves."""
    with (
        tempfile.TemporaryDirectory(prefix="ray-") as folder,
        RayCluster(Path(folder)) as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in started.environment.items():
            patch.setenv(name, value)
        for name in ("a", "b", "c"):
            started.add(name)
        yield started


class Running:
    """A command that runs, and what it has printed."""

    def __init__(self, folder: Path, words: tuple[str, ...]) -> None:
        self.command: Command = studies.start(folder, words)
        self.lines: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def wait_for(self, pattern: str, times: int = 1) -> None:
        """Read the command's output until a pattern was found a number of times."""
        assert self.command.stdout is not None
        while len(re.findall(pattern, self.text)) < times:
            line = self.command.stdout.readline()
            assert line, f"the command ended: {self.text}"
            self.lines.append(line)

    def finish(self) -> int:
        ended = studies.finish(self.command)
        self.lines.append(ended.output)
        return ended.code


def copy_of_the_package(folder: Path) -> str:
    """Return a ``PYTHONPATH`` with this package, but for a line."""
    copy = folder / "other" / "embedsweep"
    shutil.copytree(Path(embedsweep.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "errors.py").open("a", encoding="utf-8") as file:
        file.write("# another version\n")
    return str(copy.parent)


def test_a_study_goes_on_while_nodes_die_and_join_and_after_its_command_is_killed(
    cluster: RayCluster, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    first = Running(folder, TWELVE)
    first.wait_for("RUNNING", 3)
    cluster.kill("c")
    first.wait_for(r"worker \d+ ended with its node c")
    first.wait_for(r"RUNNING.* resumed")
    cluster.add("d")
    cluster.add("other", {"PYTHONPATH": copy_of_the_package(tmp_path)})
    first.wait_for(r"worker \d+ runs on node d")
    first.wait_for("node other joined the cluster and is not used: node other: has embedsweep .* with other sources")
    first.wait_for("COMPLETE", 4)
    first.command.send_signal(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL, first.text
    assert "is restarted" not in first.text  # a node's death is none of a worker's

    refused = studies.run(folder, TWELVE)
    assert refused.code == 2, refused.output
    assert "  node other: has embedsweep" in refused.output
    assert refused.output.count("  node ") == 1, refused.output

    cluster.kill("other")
    second = Running(folder, TWELVE)
    assert second.finish() == 0, second.text
    assert "Ray" not in first.text + second.text, "Ray prints its own lines"
    studies.check_whole(Study(folder), 12)


def test_two_studies_share_a_cluster_and_one_is_interrupted(cluster: RayCluster, tmp_path: Path) -> None:
    interrupted, whole = tmp_path / "interrupted", tmp_path / "whole"
    first, other = Running(interrupted, TWO), Running(whole, (*TWO, f"workers.address={cluster.address}"))
    first.wait_for("RUNNING")
    first.command.send_signal(signal.SIGINT)
    assert first.finish() == 130, first.text
    assert "the same command" in first.text
    resumed = Running(interrupted, TWO)
    for running, folder in ((other, whole), (resumed, interrupted)):
        assert running.finish() == 0, running.text
        studies.check_whole(Study(folder), 2)
