"""A study on a real Ray cluster of three nodes: nodes that die, join and differ, and commands that are killed."""

from __future__ import annotations

import re
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import studies
from tests.faults.studies import Command, Study
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.slow

WORDS = (
    "loss=cosent,mnrl",
    *studies.PAIRS,
    "data.limit=64",
    "model=tiny",
    "optimizer.lr=1e-2",
    "trainer.device=cpu",
    "trainer.max_steps=30",
    "trainer.eval_every=0.2",
    "evaluation.before=false",
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


def test_a_study_goes_on_while_nodes_die_and_join_and_after_its_command_is_killed(
    cluster: RayCluster, tmp_path: Path
) -> None:
    first = Running(tmp_path, TWELVE)
    first.wait_for("COMPLETE")
    first.wait_for(r"worker \d+ runs on node c")
    cluster.kill("c")
    first.wait_for(r"worker \d+ ended with its node c")
    cluster.add("d")
    first.wait_for(r"worker \d+ runs on node d")
    first.wait_for("COMPLETE", 5)
    first.command.send_signal(signal.SIGKILL)
    assert first.finish() == -signal.SIGKILL, first.text
    second = Running(tmp_path, TWELVE)
    assert second.finish() == 0, second.text
    for line in (*first.lines, *second.lines):
        print(line, end="")
    studies.check_whole(Study(tmp_path), 12)
    assert "is restarted" not in first.text + second.text
    assert "resumed" in first.text
