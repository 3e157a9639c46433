"""Power cuts: a search whose whole process tree is killed again and again, with default settings, ends whole."""

from __future__ import annotations

import os
import random
import re
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults import studies
from tests.faults.studies import Study

N_TRIALS = 12
KILLS, FEW_KILLS = 20, 3
SEED = int(os.environ.get("CHAOS_SEED", "9"))
WORDS = (
    "data=demo",
    "data.limit=64",
    "model=tiny",
    "loss=cosent,mnrl",
    f"study.n_trials={N_TRIALS}",
    "trainer.device=cpu",
    "evaluation.before=false",
    "workers=local",
    "workers.count=2",
)
"""Retries, deaths and restarts are left as they are by default."""
LONG = ("trainer.max_steps=200", "trainer.eval_every=0.025")
"""Trials long enough for twenty kills."""
SHORT = ("trainer.max_steps=30", "trainer.eval_every=0.1")
VARIANTS = {
    "plain": ("optimizer.lr=interval(1e-4,1e-2)",),
    "pruning": ("optimizer.lr=interval(1e-4,1e-2)", "study.pruner=successive_halving"),
    "replicates": ("dataloader.batch_size=int(interval(16,18))", "study.duplicates=replicate"),
}
EVALUATION = re.compile(r" trial \d+ \d+%")
MOST_EVALUATIONS = 12
"""Of all running trials together, between the start of a command and its kill."""
STARTUP_S = 12.0
"""About how long a command takes until its workers train."""
WITHIN_S = 5400.0


@pytest.mark.slow
@pytest.mark.parametrize(("url", "variant"), [("journal", "pruning"), ("postgresql", "replicates")], indirect=["url"])
def test_a_search_survives_a_few_power_cuts(url: str | None, variant: str, tmp_path: Path) -> None:
    check_survives((*SHORT, *VARIANTS[variant]), variant, url, FEW_KILLS, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(2 * WITHIN_S)
@studies.each_storage
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_search_survives_twenty_power_cuts(url: str | None, variant: str, tmp_path: Path) -> None:
    check_survives((*LONG, *VARIANTS[variant]), variant, url, KILLS, tmp_path)


def check_survives(words: tuple[str, ...], variant: str, url: str | None, n_kills: int, folder: Path) -> None:
    """Kill a command with all its processes at random moments, start it again each time, and check what is left."""
    command = (*WORDS, *words, *studies.storage_words(url))
    chance, finished = random.Random(f"{SEED} {variant}"), dict[int, tuple[str, float | None]]()
    deadline = time.monotonic() + WITHIN_S
    logs = [folder / f"{number:02d}.log" for number in range(n_kills + 1)]
    for log in logs[:-1]:
        running = studies.start(folder, command, output=log, fresh=True)
        wait_for_moment(running, log, chance, deadline)
        assert running.poll() is None, f"it ended before it was killed: {log.read_text()}"
        kill_tree(running.pid)
        assert running.wait(studies.WITHIN_S) == -9
        check_kept(folder, url, finished)
    last = studies.finish(studies.start(folder, command, fresh=True))
    logs[-1].write_text(last.output)
    printed = "".join(log.read_text() for log in logs)
    print(f"seed {SEED}: {n_kills} kills, {len(re.findall(' RUNNING .* resumed', printed))} trials resumed")

    assert last.code == 0, printed
    assert "Traceback" not in printed
    assert not re.search("FAIL|retrying", printed), printed
    study = Study(folder, url)
    studies.check_whole(study, N_TRIALS, is_pruned=variant == "pruning")
    assert {
        number: (trial.state.name, trial.value) for number, trial in enumerate(study.trials)
    }.items() >= finished.items()
    seeds = {study.run_of(number).data.params["trainer.seed"] for number in range(N_TRIALS)}
    assert (len(seeds) > 1) == (variant == "replicates")
    for number in range(N_TRIALS):
        assert len(re.findall(f" trial {number} (COMPLETE|PRUNED)", printed)) <= 1, printed


def wait_for_moment(command: studies.Command, log: Path, chance: random.Random, deadline: float) -> None:
    """Wait for a random moment: one of four while the command starts, else after a number of evaluations."""
    n_evaluations = chance.randint(1, MOST_EVALUATIONS) if chance.random() > 0.25 else 0
    rest_s = chance.uniform(0.0, 1.0 if n_evaluations else STARTUP_S)
    while len(EVALUATION.findall(log.read_text())) < n_evaluations and command.poll() is None:
        assert time.monotonic() < deadline, "the machine is too slow"
        time.sleep(0.05)
    time.sleep(rest_s)


def kill_tree(pid: int) -> None:
    """Kill a process and all that it has started, as a power cut does: none sees the end of another."""
    root = psutil.Process(pid)
    root.suspend()
    tree = [root, *root.children(recursive=True)]
    for action in (psutil.Process.suspend, psutil.Process.kill):
        for process in tree:
            with suppress(psutil.NoSuchProcess):
                action(process)


def check_kept(folder: Path, url: str | None, finished: dict[int, tuple[str, float | None]]) -> None:
    """Check that finished trials have not changed, and add those that have finished since."""
    trials = [trial for file in folder.glob("sweeps/*/study.yaml") for trial in studies.read_trials(file.parent, url)]
    now = {trial.number: (trial.state.name, trial.value) for trial in trials if trial.state.is_finished()}
    assert finished.items() <= now.items()
    assert "FAIL" not in {state for state, _ in now.values()}
    finished.update(now)
