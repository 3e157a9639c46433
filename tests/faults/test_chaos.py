"""A study whose processes are killed at random, again and again, is whole in the end."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

import psutil
import pytest

from tests.faults import studies
from tests.faults.studies import Study

N_TRIALS = 30
SEED = int(os.environ.get("CHAOS_SEED", "9"))
WORDS = (
    "data=demo",
    "data.limit=64",
    "model=tiny",
    "loss=cosent,mnrl,cosine",
    "optimizer.lr=1e-2",
    "trainer.seed=" + ",".join(str(number) for number in range(1, N_TRIALS // 3 + 1)),
    "trainer.device=cpu",
    "trainer.max_steps=10",
    "trainer.eval_every=0.2",
    "evaluation.before=false",
    "workers=local",
    "workers.count=2",
    "workers.max_restarts=1000",
    "study.max_retries=1000",
)
DEEDS = ("worker", "worker", "supervisor", "interrupt")
CODES = {None: (0, 1), "supervisor": (-9, 0), "interrupt": (130, 0, 1)}
"""By the last deed. Where two workers were killed before either began a trial, the command says that they cannot."""
PAUSE_S = (3.0, 30.0)
"""Between two deeds: from amid the imports of who was just started to some trials later."""
WITHIN_S = 5400.0


@pytest.mark.chaos
@pytest.mark.timeout(2 * WITHIN_S)
def test_a_study_whose_processes_are_killed_at_random_is_whole_in_the_end(tmp_path: Path) -> None:
    chance, finished, deeds = random.Random(SEED), dict[int, float | None](), list[str]()
    deadline = time.monotonic() + WITHIN_S
    while True:
        log = tmp_path / f"{len(deeds):03d}.log"
        command = studies.start(tmp_path, WORDS, output=log, fresh=True)
        deed = disturb(command, chance, deeds, deadline)
        code = command.wait(studies.WITHIN_S)
        output = log.read_text()
        assert "Traceback" not in output, output
        assert code in CODES[deed], output
        assert code != 1 or "embedsweep: workers cannot start" in output, output
        check_kept(tmp_path, finished)
        if code == 0:
            break
        deeds.append("|")  # the same command is started again

    study = Study(tmp_path)
    print(f"seed {SEED}: {len(deeds)} deeds: {' '.join(deeds)}")
    assert len(deeds) - deeds.count("|") >= 3
    studies.check_whole(study, N_TRIALS)
    assert finished == {trial.number: trial.value for trial in study.trials}
    for trial in study.trials:
        assert study.run_of(trial.number).data.params["trainer.seed"] == str(trial.params["trainer.seed"])
    told = "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))
    for number in range(N_TRIALS):
        assert told.count(f"trial {number} COMPLETE") <= 1, f"trial {number} was trained twice"


def disturb(command: studies.Command, chance: random.Random, deeds: list[str], deadline: float) -> str | None:
    """Kills workers at random moments until it is the supervisor's turn or the command ends; what ended it."""
    while True:
        assert time.monotonic() < deadline, "too slow a machine"
        with suppress(TimeoutExpired):
            command.wait(chance.uniform(*PAUSE_S))
        if command.poll() is not None:
            return None
        deed = chance.choice(DEEDS)
        deeds.append(deed)
        if deed == "supervisor":
            command.kill()
            return deed
        if deed == "interrupt":
            command.send_signal(signal.SIGINT)
            return deed
        workers = [one for one in psutil.Process(command.pid).children() if is_worker(one)]
        if workers:
            chance.choice(workers).kill()


def is_worker(process: psutil.Process) -> bool:
    try:
        return "embedsweep.workers.process" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def check_kept(folder: Path, finished: dict[int, float | None]) -> None:
    """What was finished stays as it was; notes what has been finished since."""
    if not list(folder.glob("sweeps/*/study.yaml")):
        return
    for trial in Study(folder).trials:
        if trial.state.is_finished():
            assert trial.state.name == "COMPLETE"
            assert trial.value is not None
            assert finished.setdefault(trial.number, trial.value) == trial.value
    assert set(finished) <= {trial.number for trial in Study(folder).trials if trial.state.is_finished()}
