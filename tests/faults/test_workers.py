"""Local workers share a study exactly, and nothing is lost when one of them or their supervisor is killed."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import psutil
import pytest

from tests.faults import studies
from tests.faults.studies import Ended, Study

WORDS = (
    *studies.SHORT,
    "data=demo",
    "workers=local",
    "workers.count=2",
)
FOUR, SIX = (*WORDS, "trainer.seed=1,2"), (*WORDS, "trainer.seed=1,2,3")
SEARCH = (
    "loss=mnrl,mnrl_symmetric",
    "data=demo_retrieval",
    "evaluation=retrieval",
    "trainer.seed=1,2",
    "optimizer.lr=2e-3",
    "dataloader.batch_size=8",
    "trainer.device=cpu",
    "trainer.max_steps=120",
    "trainer.eval_every=0.2",
    "study.pruner=median",
    "study.pruning.rungs=[0.5]",
    "study.pruning.n_startup_trials=1",
    "workers=local",
    "workers.count=2",
)
"""A study that retrieval steers, with a pruner."""

GONE_WITHIN_S = 30


class Running:
    """A command whose workers train."""

    def __init__(self, folder: Path, words: tuple[str, ...] = FOUR) -> None:
        self.command = studies.start(folder, words, fresh=True)
        self._lines: list[str] = []

    def wait_for(self, *texts: str) -> None:
        """Read the command's output until it contains each text."""
        assert self.command.stdout is not None
        while any(text not in "".join(self._lines) for text in texts):
            line = self.command.stdout.readline()
            assert line, f"the command ended: {''.join(self._lines)}"
            self._lines.append(line)

    @property
    def workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.command.pid).children()
        return [one for one in children if "embedsweep.workers.process" in one.cmdline()]

    def finish(self) -> Ended:
        ended = studies.finish(self.command)
        return Ended(ended.code, "".join(self._lines) + ended.output)


def count_resumed(output: str) -> int:
    """How often a trial was resumed; not how often one was about to be, as its worker had died."""
    return len(re.findall("(?<!will be )resumed", output))


def gone(workers: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(workers, timeout=GONE_WITHIN_S)
    return not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]


def check_shared(study: Study, ended: Ended, n_trials: int = 4, metric: str = "spearman_cosine") -> None:
    """Check that every trial ended once, each recorded with the number of its worker."""
    assert ended.code == 0, ended.output
    assert "Traceback" not in ended.output
    studies.check_whole(study, n_trials, is_pruned="PRUNED" in ended.output, metric=metric)
    tags = [study.run_of(number).data.tags for number in range(n_trials)]
    # A worker that was killed may be ready again only when the other has trained all.
    assert {each["embedsweep.worker"] for each in tags} <= {"0", "1"}
    assert all(each["embedsweep.host"] for each in tags)


@pytest.mark.faults
def test_two_workers_share_a_study(tmp_path: Path) -> None:
    ended = studies.run(tmp_path, SIX)
    study = Study(tmp_path)
    check_shared(study, ended, 6)
    assert {study.run_of(number).data.tags["embedsweep.worker"] for number in range(6)} == {"0", "1"}
    assert [ended.output.count(f"trial {number} RUNNING") for number in range(7)] == [1] * 6 + [0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "metric"), [(FOUR, "spearman_cosine"), (SEARCH, "ndcg_at_10_cosine")], ids=["sts", "retrieval"]
)
def test_a_killed_worker_is_restarted_and_its_trial_resumed(
    words: tuple[str, ...], metric: str, tmp_path: Path
) -> None:
    running = Running(tmp_path, words)
    running.wait_for("trial 0 20%", "trial 1 20%")
    victim, other = running.workers
    victim.kill()
    ended = running.finish()
    check_shared(Study(tmp_path), ended, metric=metric)
    assert "was killed by SIGKILL: perhaps out of memory" in ended.output
    assert "is restarted (1/10)" in ended.output
    assert count_resumed(ended.output) == 1, ended.output
    assert gone([victim, other])


@pytest.mark.faults
def test_a_hung_worker_is_killed_and_its_trial_resumed(tmp_path: Path) -> None:
    running = Running(tmp_path, (*FOUR, "workers.silence=45"))
    running.wait_for("trial 0 20%", "trial 1 20%")
    victim, other = running.workers
    victim.suspend()
    ended = running.finish()
    check_shared(Study(tmp_path), ended)
    assert "made no progress for 45 s (workers.silence) and was killed" in ended.output
    assert "is restarted (1/10)" in ended.output
    assert count_resumed(ended.output) == 1, ended.output
    assert gone([victim, other])


@pytest.mark.parametrize(
    ("signum", "code"),
    [
        pytest.param(signal.SIGKILL, -9, id="kill", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, id="int", marks=pytest.mark.faults),
        pytest.param(signal.SIGTERM, 143, id="term", marks=pytest.mark.faults),
    ],
)
def test_workers_end_with_their_supervisor_and_the_same_command_resumes(
    signum: signal.Signals, code: int, tmp_path: Path
) -> None:
    running = Running(tmp_path)
    running.wait_for("trial 0 20%", "trial 1 20%")
    workers = running.workers
    assert len(workers) == 2
    running.command.send_signal(signum)
    ended = running.finish()
    assert ended.code == code, ended.output
    assert "Traceback" not in ended.output
    assert gone(workers)
    left = Study(tmp_path)
    assert left.states.count("RUNNING") == 2
    assert {left.run_of(n).info.status for n, state in enumerate(left.states) if state == "RUNNING"} == {"KILLED"}
    if signum != signal.SIGKILL:
        assert f"the same command, or -m study.name={left.name} workers=local, resumes the study" in ended.output
        assert len(re.findall(r"trial [01] WAITING .* interrupted; will be resumed from", ended.output)) == 2
        assert "0 of 4 trials finished and kept; trials 0, 1 will be resumed;" in ended.output
        assert not re.search(r"\bworker \d", ended.output), ended.output

    again = studies.run(tmp_path, FOUR)
    check_shared(Study(tmp_path), again)
    assert count_resumed(again.output) == 2


@pytest.mark.faults
def test_a_study_in_a_database_resumes_after_its_supervisor_was_killed(tmp_path: Path, postgres_url: str) -> None:
    words = (*FOUR, *studies.storage_words(postgres_url))
    running = Running(tmp_path, words)
    running.wait_for("trial 0 20%", "trial 1 20%")
    workers = running.workers
    running.command.kill()
    assert running.finish().code == -9
    assert gone(workers)
    again = studies.run(tmp_path, words)
    check_shared(Study(tmp_path, postgres_url), again)
    assert count_resumed(again.output) == 2


@pytest.mark.faults
def test_without_a_restart_left_the_command_fails_and_can_be_resumed(tmp_path: Path) -> None:
    running = Running(tmp_path, (*FOUR, "workers.max_restarts=0"))
    running.wait_for("trial 0 20%", "trial 1 20%")
    for worker in running.workers:
        worker.kill()
    ended = running.finish()
    assert ended.code == 1, ended.output
    reason = "died and is not restarted, as workers.max_restarts=0 is reached; the same command"
    assert f"{reason} resumes the study with the trials that are left" in ended.output
    assert "Traceback" not in ended.output
    again = studies.run(tmp_path, FOUR)
    check_shared(Study(tmp_path), again)


@pytest.mark.slow
def test_a_worker_that_cannot_start_costs_no_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sentence_transformers.py").write_text('raise RuntimeError("broken by a test")')
    monkeypatch.setenv("PYTHONPATH", f"{broken}:{studies.ROOT / 'src'}")
    ended = studies.run(tmp_path, FOUR, fresh=True)
    assert ended.code == 1, ended.output
    assert "embedsweep: workers cannot start; worker" in ended.output
    assert "RuntimeError: broken by a test" in ended.output
    assert "Traceback" not in ended.output.partition("embedsweep: workers cannot start")[0]
    assert Study(tmp_path).states == []


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_the_winner_is_scored_by_a_worker_and_if_that_fails_by_the_command(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = tmp_path / "patches"
    patches.mkdir()
    (patches / "sitecustomize.py").write_text(
        "import os, sys\n"
        "from embedsweep.workers import winner\n"
        "score = winner.score_model\n"
        "def wrapped(*arguments):\n"
        "    role = 'worker' if 'embedsweep.workers.process' in sys.orig_argv else 'command'\n"
        "    open('scored', 'a').write(role + ' ')\n"
        f"    if {fails} and role == 'worker':\n"
        "        raise RuntimeError('broken by a test')\n"
        "    return score(*arguments)\n"
        "winner.score_model = wrapped\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{patches}:{studies.ROOT / 'src'}")
    ended = studies.run(tmp_path, (*WORDS, "trainer.max_steps=4"), fresh=True)
    check_shared(Study(tmp_path), ended, 2)
    assert "test/spearman_cosine" in ended.output
    roles = (tmp_path / "scored").read_text().split()
    assert set(roles[:-1]) <= {"worker"}
    assert roles[-1] == ("command" if fails else "worker")
    logs = "".join(path.read_text() for path in tmp_path.glob("sweeps/*/workers/*.log"))
    assert ("RuntimeError: broken by a test" in logs) == fails
