"""A study whose processes are repeatedly killed at random is complete in the end."""

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
FAULTS = ("worker", "worker", "supervisor", "interrupt")
CODES = {None: (0, 1), "supervisor": (-9, 0), "interrupt": (130, 0, 1)}
"""By the last fault. If two workers were killed before either started a trial, the command says that none can start."""
PAUSE_S = (3.0, 30.0)
"""Between two faults: long enough for part of the imports, or for some trials."""
WITHIN_S = 5400.0


@pytest.mark.chaos
@pytest.mark.timeout(2 * WITHIN_S)
def test_a_study_whose_processes_are_killed_at_random_is_complete_in_the_end(tmp_path: Path) -> None:
    chance, finished, faults = random.Random(SEED), dict[int, float | None](), list[str]()
    deadline = time.monotonic() + WITHIN_S
    while True:
        log = tmp_path / f"{len(faults):03d}.log"
        command = studies.start(tmp_path, WORDS, output=log, fresh=True)
        fault = disturb(command, chance, faults, deadline)
        code = command.wait(studies.WITHIN_S)
        output = log.read_text()
        assert "Traceback" not in output, output
        assert code in CODES[fault], output
        assert code != 1 or "embedsweep: workers cannot start" in output, output
        check_kept(tmp_path, finished)
        if code == 0:
            break
        faults.append("|")  # the same command is started again

    study = Study(tmp_path)
    print(f"seed {SEED}: {len(faults)} faults: {' '.join(faults)}")
    assert len(faults) - faults.count("|") >= 3
    studies.check_whole(study, N_TRIALS)
    assert finished == {trial.number: trial.value for trial in study.trials}
    for trial in study.trials:
        assert study.run_of(trial.number).data.params["trainer.seed"] == str(trial.params["trainer.seed"])
    printed = "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))
    for number in range(N_TRIALS):
        assert printed.count(f"trial {number} COMPLETE") <= 1, f"trial {number} was trained twice"


def disturb(command: studies.Command, chance: random.Random, faults: list[str], deadline: float) -> str | None:
    """Kill workers at random moments until the supervisor is chosen or the command ends; return what ended it."""
    while True:
        assert time.monotonic() < deadline, "the machine is too slow"
        with suppress(TimeoutExpired):
            command.wait(chance.uniform(*PAUSE_S))
        if command.poll() is not None:
            return None
        fault = chance.choice(FAULTS)
        faults.append(fault)
        if fault == "supervisor":
            command.kill()
            return fault
        if fault == "interrupt":
            command.send_signal(signal.SIGINT)
            return fault
        workers = [one for one in psutil.Process(command.pid).children() if is_worker(one)]
        if workers:
            chance.choice(workers).kill()


def is_worker(process: psutil.Process) -> bool:
    try:
        return "embedsweep.workers.process" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def check_kept(folder: Path, finished: dict[int, float | None]) -> None:
    """Check that finished trials have not changed, and add those that have finished since."""
    if not list(folder.glob("sweeps/*/study.yaml")):
        return
    for trial in Study(folder).trials:
        if trial.state.is_finished():
            assert trial.state.name == "COMPLETE"
            assert trial.value is not None
            assert finished.setdefault(trial.number, trial.value) == trial.value
    assert set(finished) <= {trial.number for trial in Study(folder).trials if trial.state.is_finished()}
