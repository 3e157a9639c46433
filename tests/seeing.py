"""The sweep of twenty trials that the tests of the terminal, of MLflow's pages and of the notebook share.

Where tmux is installed it runs in a real terminal of 80x24 characters, is interrupted there by Ctrl-C, and is resumed
in one of 140x40; what the screens showed is kept. Elsewhere it runs without a terminal.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.terminal.tmux import HAS_TMUX, opened

ROOT = Path(__file__).parents[1]
STUDY, N_TRIALS = "seen", 20
WORDS = (
    "loss=mnrl,cosent,cosine",
    "search=full",
    f"study.name={STUDY}",
    f"study.n_trials={N_TRIALS}",
    "study.pruner=successive_halving",
    "data.limit=512",
    "trainer.max_steps=32",
    "workers=local",
    "workers.count=2",
)
"""What follows ``train.py -m``: about two minutes on one core."""
COMMAND = (sys.executable, str(ROOT / "train.py"), "-m", *WORDS)
DONE = re.compile(rf"^(\d+)/{N_TRIALS}[:;]")
"""How many trials are finished, in the line about the study."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": ""}


@dataclass(frozen=True)
class Seen:
    """What a terminal showed of a command.

    Attributes:
        width: characters in a line.
        height: lines.
        looks: the screen, line by line, at every look.
        printed: all that was printed, folded lines as one.
        exit_code: the command's.
    """

    width: int
    height: int
    looks: list[list[str]]
    printed: str
    exit_code: int


def _root(factory: pytest.TempPathFactory) -> Path:
    """Return the folder that all of pytest's processes share."""
    base = factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "seeing"


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the finished sweep, with nothing but ``sweeps`` and ``mlruns``: to be read only.

    The first of pytest's processes that needs it runs the sweep, and the others wait for it.
    """
    root = _root(tmp_path_factory)
    folder, record = root / "work", root / "seen.json"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(root / "lock"):
        if not record.is_file():
            seen = _watched(folder) if HAS_TMUX else _unwatched(folder)
            record.write_text(json.dumps([asdict(each) for each in seen]), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def seen(swept: Path) -> tuple[Seen, Seen]:
    """What the terminals showed: the command that was interrupted, and the one that resumed the study."""
    if not HAS_TMUX:
        pytest.skip("needs tmux (Debian: tmux)")
    first, second = json.loads((swept.parent / "seen.json").read_text(encoding="utf-8"))
    return Seen(**first), Seen(**second)


def _watched(folder: Path) -> list[Seen]:
    """Run the sweep in a small terminal, interrupt it there, and resume it in a large one."""

    def is_well_under_way(screen: list[str]) -> bool:
        # The screen shows a moment late how many are finished, and the running ones may end before they notice.
        return any((found := DONE.match(line)) and int(found[1]) >= N_TRIALS // 3 for line in screen)

    interrupted = _watch(folder, 80, 24, is_well_under_way)
    resumed = _watch(folder, 140, 40, lambda _: False)
    assert resumed.exit_code == 0, resumed.printed
    return [interrupted, resumed]


def _watch(folder: Path, width: int, height: int, is_enough: Callable[[list[str]], bool]) -> Seen:
    """Run the command, look at its screen, and press Ctrl-C once it shows enough."""
    looks: list[list[str]] = []
    with opened(COMMAND, folder, ENVIRONMENT, width, height) as terminal:
        is_pressed = False
        for screen in terminal.looks():
            if not looks or screen != looks[-1]:
                looks.append(screen)
            if not is_pressed and is_enough(screen):
                terminal.press("C-c")
                is_pressed = True
        code = terminal.exit_code
        assert code is not None
        return Seen(width, height, looks, terminal.everything(), code)


def _unwatched(folder: Path) -> list[Seen]:
    environment = {**os.environ, **ENVIRONMENT}
    ended = subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return [Seen(0, 0, [], ended.stdout, ended.returncode)]
